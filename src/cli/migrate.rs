//! `tallyd migrate`: statsd's file as a file of ours.
//!
//! In comes the text of statsd's file; out come TOML that means the same, with statsd's key beside each of
//! ours, and warnings for what has no equivalent. Does not know any key: it prints the translation that also
//! runs when tallyd is started with statsd's file.

use crate::config::{self, ConfigError, Entry};
use std::fmt::Write;

const HEADER: &str = "\
# Written by `tallyd migrate` from statsd's configuration file. What is not here has the same default in both.
#
# Read as tallyd's own file, a few details are tallyd's: tags are sorted, `h` and `d` are timers, and a sampled
# timer value weighs 1/rate in percentiles. For statsd's rules to the letter, start tallyd with statsd's file.
# tallyd reads this file again on SIGHUP; it does not watch it.
";

/// The equivalent file, and what it cannot say.
pub fn migrate(statsd_text: &str) -> Result<(String, Vec<String>), ConfigError> {
    // Reading the whole of it finds the mistakes that lie in our keys.
    let loaded = config::statsd(statsd_text, std::iter::empty())?;
    let entries = config::translate(statsd_text)?.entries;
    let config = &loaded.config;
    let mut warnings = loaded.warnings;
    let trailing_dot = config.expand.naming.suffix.as_deref() == Some("");
    for (is_set, warning) in [
        (
            trailing_dot,
            "graphite.globalSuffix \"\": statsd ends every name in a dot then; tallyd's own file leaves it out",
        ),
        (config.debug, "debug: tallyd's own file has no such key"),
        (config.ingest.dump_lines, "dumpMessages: tallyd's own file has no such key"),
        (
            !config.console.healthy,
            "healthStatus \"down\": tallyd's own file has no such key; it starts as up",
        ),
    ] {
        if is_set {
            warnings.push(warning.to_owned());
        }
    }
    Ok((toml_text(&entries), warnings))
}

/// The entries in the order in which tallyd's keys are documented.
fn toml_text(entries: &[Entry]) -> String {
    let mut text = HEADER.to_owned();
    let mut open = "";
    for (section, key) in config::keys() {
        let Some(entry) = entries.iter().find(|entry| (entry.section, entry.key) == (section, key)) else {
            continue;
        };
        if section != open {
            push_line(&mut text, format_args!("\n[{section}]"));
            open = section;
        }
        let whose = if entry.origin.is_some() { "statsd's " } else { "" };
        push_line(&mut text, format_args!("{key} = {} # {whose}{}", entry.value, entry.comment));
    }
    text
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes every text");
}
