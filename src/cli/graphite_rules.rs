//! `tallyd graphite-rules`: storage-schemas.conf and storage-aggregation.conf for the configuration at hand.
//!
//! In comes a configuration; out go the rules by which carbon creates the files of just the names that
//! [`expand`](crate::forward::expand) makes: the finest retention is as wide as a bucket, sums stay sums when
//! they are thinned out, and the largest stays the largest. Graphite averages otherwise.
//!
//! ```text
//!   10s:1d , 1m:30d , 15m:5y        each step a multiple of the one before it, as whisper demands
//!   bucket   LADDER
//! ```
//!
//! Whisper writes a late value into the finest archive that still reaches back to it. In a coarser one it would
//! replace a sum by one part of it, so the finest reaches back twice as far as late samples amend buckets.

use crate::config::Config;
use crate::forward::{Naming, Scheme};
use clap::ValueEnum;
use std::fmt::Write as _;

/// What follows the finest retention: width and keep in seconds.
const LADDER: [(u64, u64); 2] = [(60, 30 * DAY), (900, 5 * YEAR)];
/// The finest values are kept for so long at least, in seconds.
const FINEST: u64 = DAY;
const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;
/// Units that whisper knows, largest first, in seconds.
const UNITS: [(u64, char); 5] = [(YEAR, 'y'), (DAY, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
/// What a percentile adds to the name of a figure: `_90`, `_99_9`, `_top10`.
const PERCENT: &str = r"(_(top)?\d+(_\d+)?)?";

/// One of carbon's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// storage-schemas.conf
    Schemas,
    /// storage-aggregation.conf
    Aggregation,
}

/// The text of one file, or of both, one after the other.
#[must_use]
pub fn rules(config: &Config, only: Option<Part>) -> String {
    match only {
        Some(Part::Schemas) => schemas(config),
        Some(Part::Aggregation) => aggregation(config),
        None => format!("{}\n{}", schemas(config), aggregation(config)),
    }
}

fn schemas(config: &Config) -> String {
    let mut text = "# storage-schemas.conf: how finely and for how long. The first rule that matches a name holds, so these\n\
                    # stand before wider ones. Files that exist keep what they were made with (whisper-resize.py).\n"
        .to_owned();
    if config.flush.bucket.ms() % 1_000 != 0 {
        text.push_str("# Buckets are not of whole seconds, and Graphite knows no less: of those that begin in one second\n# the last stays.\n");
    }
    let pattern = everything(&config.expand.naming);
    let retentions: Vec<String> = retentions(config)
        .into_iter()
        .map(|(width, keep)| format!("{}:{}", span(width), span(keep)))
        .collect();
    section(&mut text, "tallyd", &pattern, &[("retentions", &retentions.join(","))]);
    text
}

/// Widths and keeps in seconds: the bucket, then the steps of the ladder that are wider.
fn retentions(config: &Config) -> Vec<(u64, u64)> {
    let bucket = (config.flush.bucket.ms() as u64).div_ceil(1_000);
    let mut list = vec![(bucket, FINEST.max(2 * config.flush.amend_window_ms as u64 / 1_000))];
    for (step, keep) in LADDER {
        let (width, kept) = list.last().copied().unwrap_or((bucket, 0));
        let wider = step.next_multiple_of(width);
        if wider > width && step > width {
            list.push((wider, keep));
        } else if let Some(last) = list.last_mut() {
            // The bucket is as wide as this step, and takes its place.
            last.1 = kept.max(keep);
        }
    }
    list
}

/// `90` is `90s`, `3600` is `1h`.
fn span(seconds: u64) -> String {
    let (unit, letter) =
        UNITS.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

fn aggregation(config: &Config) -> String {
    let naming = &config.expand.naming;
    let mut text = "# storage-aggregation.conf: what becomes of values that are thinned out. The first rule that matches a\n\
                    # name holds, so these stand before wider ones.\n"
        .to_owned();
    let rules = match naming.scheme {
        Scheme::Statsd => by_kind(naming),
        Scheme::Legacy => legacy(naming),
        Scheme::Plain => by_ending(naming),
    };
    for (name, pattern, method) in rules {
        let settings = [("xFilesFactor", "0"), ("aggregationMethod", method)];
        section(&mut text, &format!("tallyd_{name}"), &pattern, &settings);
    }
    text
}

type Rule = (&'static str, String, &'static str);

/// A prefix of its own for each kind. The gauges' rule has no ending and comes last, should prefixes be equal.
fn by_kind(naming: &Naming) -> Vec<Rule> {
    let under = |kind: &str| beginning(&[&naming.prefix, kind]);
    let (counters, timers) = (under(&naming.prefix_counter), under(&naming.prefix_timer));
    let mut rules = vec![
        ("counts", ends(naming, &counters, "count"), "sum"),
        ("rates", ends(naming, &counters, "rate"), "average"),
    ];
    rules.extend(timer_rules(naming, &timers, "count", "count_ps"));
    rules.push(("sets", ends(naming, &under(&naming.prefix_set), "count"), "max"));
    rules.push(("gauges", under(&naming.prefix_gauge), "last"));
    rules.push(("own", beginning(&[&naming.prefix, &naming.own_prefix]), "average"));
    rules
}

/// statsd's old names: counters stand beside the other kinds, and their rates have no ending.
fn legacy(naming: &Naming) -> Vec<Rule> {
    let mut rules = vec![("counts", beginning(&["stats_counts"]), "sum")];
    rules.extend(timer_rules(naming, &beginning(&["stats", "timers"]), "count", "count_ps"));
    rules.push(("sets", beginning(&["stats", "sets"]), "max"));
    rules.push(("gauges", beginning(&["stats", "gauges"]), "last"));
    rules.push(("rates", everything(naming), "average"));
    rules
}

/// All kinds under one prefix: endings tell them apart, and what has none is a gauge.
fn by_ending(naming: &Naming) -> Vec<Rule> {
    let all = beginning(&[&naming.prefix]);
    let mut rules = vec![
        ("counts", ends(naming, &all, "count"), "sum"),
        ("rates", ends(naming, &all, "rate"), "average"),
    ];
    rules.extend(timer_rules(naming, &all, "timings", "timings_ps"));
    rules.push(("sets", ends(naming, &all, "uniques"), "max"));
    rules.push(("gauges", all, "last"));
    rules
}

fn timer_rules(naming: &Naming, under: &str, count: &str, rate: &str) -> [Rule; 5] {
    let sums = format!("{count}|(count|sum|sum_squares){PERCENT}");
    let bins = format!(r"{under}(.*\.)?histogram\.bin_");
    let averages = format!("{rate}|std|median|mean{PERCENT}");
    [
        ("timer_upper", ends(naming, under, &format!("upper{PERCENT}")), "max"),
        ("timer_lower", ends(naming, under, &format!("lower{PERCENT}")), "min"),
        ("timer_sums", ends(naming, under, &sums), "sum"),
        ("timer_bins", bins, "sum"),
        ("timer_averages", ends(naming, under, &averages), "average"),
    ]
}

/// Every name that may be made.
fn everything(naming: &Naming) -> String {
    match naming.scheme {
        Scheme::Legacy => {
            format!(r"^(stats|stats_counts)\.|^{}\.numStats", escaped(&naming.own_prefix))
        }
        Scheme::Plain => beginning(&[&naming.prefix]),
        Scheme::Statsd if !naming.prefix.is_empty() => beginning(&[&naming.prefix]),
        Scheme::Statsd => {
            let Naming { prefix_counter, prefix_timer, prefix_gauge, prefix_set, own_prefix, .. } = naming;
            let first = [prefix_counter, prefix_timer, prefix_gauge, prefix_set, own_prefix];
            if first.iter().any(|part| part.is_empty()) {
                return "^".to_owned();
            }
            let parts: Vec<String> = first.iter().map(|part| escaped(part)).collect();
            format!(r"^({})\.", parts.join("|"))
        }
    }
}

/// The pattern of what begins with these parts; empty ones leave no dot.
fn beginning(parts: &[&str]) -> String {
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts.fold("^".to_owned(), |pattern, part| pattern + &escaped(part) + r"\.")
}

/// The pattern of what begins and ends so; tags stand behind the ending.
fn ends(naming: &Naming, under: &str, ending: &str) -> String {
    let suffix =
        naming.suffix.as_deref().map_or_else(String::new, |suffix| format!(r"\.{}", escaped(suffix)));
    format!(r"{under}(.*\.)?({ending}){suffix}(;|$)")
}

/// Text as a regular expression that means just that text.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if !(c.is_alphanumeric() || c == '_' || c == '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn section(text: &mut String, name: &str, pattern: &str, settings: &[(&str, &str)]) {
    // Writing to a string cannot fail.
    write!(text, "\n[{name}]\npattern = {pattern}\n").ok();
    for (key, value) in settings {
        writeln!(text, "{key} = {value}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn with(toml: &str) -> Config {
        config::native(toml, std::iter::empty()).unwrap().config
    }

    fn written(toml: &str) -> String {
        let text = schemas(&with(toml));
        text.lines().find_map(|line| line.strip_prefix("retentions = ")).unwrap().to_owned()
    }

    #[test]
    fn the_ladder_begins_with_the_bucket_and_each_step_divides_the_next() {
        assert_eq!(written(""), "10s:1d,1m:30d,15m:5y");
        assert_eq!(written("[flush]\nbucket = \"1s\"\namend_window = \"20h\""), "1s:40h,1m:30d,15m:5y");
        assert_eq!(written("[flush]\nbucket = \"7s\""), "7s:1d,63s:30d,945s:5y");
        assert_eq!(written("[flush]\nbucket = \"1m\""), "1m:30d,15m:5y");
        assert_eq!(written("[flush]\nbucket = \"5m\""), "5m:30d,15m:5y");
        assert_eq!(written("[flush]\nbucket = \"1h\""), "1h:5y");
        assert_eq!(written("[flush]\nbucket = \"1d\""), "1d:5y");
        assert_eq!(written("[flush]\nbucket = \"200ms\""), "1s:1d,1m:30d,15m:5y");
        for seconds in 1..=3_600 {
            let list = retentions(&with(&format!("[flush]\nbucket = \"{seconds}s\"")));
            assert_eq!(list[0].0, seconds);
            for pair in list.windows(2) {
                let ((fine, fine_keep), (coarse, coarse_keep)) = (pair[0], pair[1]);
                assert!(
                    coarse > fine && coarse % fine == 0 && coarse_keep > fine_keep,
                    "{seconds}: {list:?}"
                );
                assert!(fine_keep / fine >= coarse / fine, "{seconds}: too few points to fill a coarser one");
            }
        }
    }
}
