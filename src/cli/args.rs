//! The command line: what may be typed, and the help that teaches it.

use super::graphite_rules::Part;
use crate::config;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Counts what your servers report, exactly, and tells Graphite.
///
/// tallyd takes statsd lines (`signups:1|c`) over UDP, TCP and Unix sockets, adds them up in time buckets and
/// forwards the buckets to Graphite. Your statsd clients and your statsd configuration work unchanged.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tallyd demo                           see it work, with made-up traffic
  tallyd run                            listen on UDP 8125, forward to Graphite on this machine
  tallyd run --config tallyd.toml       the same with your settings
  tallyd run --config statsd.js         in place of statsd, with its own file
  tallyd doctor                         what is wrong with this machine, and what to do
  echo 'signups:1|c' | nc -u -w1 127.0.0.1 8125

Every key of the configuration is also an environment variable: flush.bucket is TALLYD_FLUSH_BUCKET.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take lines in and forward them, until SIGTERM or Ctrl-C.
    Run(Configured),
    /// Show tallyd at work with made-up business traffic, until Ctrl-C.
    Demo(Demo),
    /// Read the configuration and say in plain words what it will do; exit code 1 if it cannot.
    Check(Configured),
    /// Look at the machine, the store and Graphite, and say what to do about what is wrong; exit code 1 if
    /// anything is.
    Doctor(Doctor),
    /// Print the TOML that means the same as a statsd configuration file.
    Migrate {
        /// statsd's configuration file, a JavaScript object.
        file: PathBuf,
    },
    /// Make a consistent copy of the store, while tallyd runs or not, and print where it is.
    Backup(Backup),
    /// Put a copy in the store's place; what was there is kept beside it. tallyd must not be running.
    Restore(Restore),
    /// Print storage-schemas.conf and storage-aggregation.conf for Graphite, for this configuration.
    GraphiteRules {
        /// Where the configuration comes from.
        #[command(flatten)]
        configured: Configured,
        /// Print one of the two files only.
        #[arg(long, value_enum, value_name = "FILE")]
        only: Option<Part>,
    },
    /// Print a new token and its hash: the one is shown to tallyd, the other stands in its configuration.
    Token,
    /// Make a share link: print it, and the [[link]] that goes into the configuration.
    Link(Link),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the man pages into a directory: tallyd(1) and one for each command.
    Man {
        /// Where to.
        directory: PathBuf,
    },
    /// A dry run of [[notify]]: send one sample to each webhook, and say what came of it.
    Notify(Notify),
    /// Show the figures of a running tallyd in the terminal, as its page does.
    Watch(Watch),
    /// Ask a running tallyd whether it takes lines in; exit code 0 if it does. For containers.
    Health(Configured),
}

/// Where the configuration comes from.
#[derive(Debug, Default, Args)]
pub struct Configured {
    /// Configuration: TOML, or statsd's own file if the name ends in .js or .json.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, over file and environment: `--set flush.bucket=1s`. May be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub settings: Vec<Setting>,
}

/// One key that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    section: String,
    key: String,
    value: String,
}

impl Setting {
    fn variable(&self) -> String {
        format!("TALLYD_{}_{}", self.section.to_uppercase(), self.key.to_uppercase())
    }
}

/// Where a copy goes.
#[derive(Debug, Args)]
pub struct Backup {
    /// The copy; without it, one in `backups` in the store's directory.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Whose store.
    #[command(flatten)]
    pub configured: Configured,
}

/// Where a copy comes from.
#[derive(Debug, Args)]
pub struct Restore {
    /// A copy that `tallyd backup` has made.
    pub backup: PathBuf,
    /// Whose store.
    #[command(flatten)]
    pub configured: Configured,
}

/// What the doctor looks at.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Whose machine.
    #[command(flatten)]
    pub configured: Configured,
    /// carbon's directory, with carbon.conf and its rules; found in /etc/carbon and /opt/graphite/conf.
    #[arg(long, value_name = "DIRECTORY")]
    pub carbon: Option<PathBuf>,
    /// graphite-web, to be asked what carbon says of itself: `--render http://graphite.example:8080`.
    #[arg(long, value_name = "URL")]
    pub render: Option<String>,
    /// Where the machine's root is, if the doctor is in a container and its host's is mounted.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    pub root: PathBuf,
}

/// How the demo runs.
#[derive(Debug, Args)]
pub struct Demo {
    /// Only send the made-up traffic, to a tallyd that runs elsewhere.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "graphite")]
    pub to: Option<String>,
    /// Send to this Graphite (plaintext port); without it the lines are shown instead.
    #[arg(long, value_name = "HOST:PORT")]
    pub graphite: Option<String>,
    /// End after so many seconds; without it, at Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// Who gets a sample.
#[derive(Debug, Args)]
pub struct Notify {
    /// Send nothing; print what would be sent.
    #[arg(long)]
    pub print: bool,
    /// Whose webhooks.
    #[command(flatten)]
    pub configured: Configured,
}

/// What is shared with whom.
#[derive(Debug, Args)]
pub struct Link {
    /// What it is called, such as "kitchen TV".
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Which page: its path.
    #[arg(long, value_name = "PAGE", default_value = "/")]
    pub page: String,
    /// Until when: a date, or "never"; left out, for 90 days.
    #[arg(long, value_name = "DATE")]
    pub expires: Option<String>,
    /// Ids of figures that are hidden, with commas between them.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub hide: Vec<String>,
    /// Where whoever gets it reaches tallyd.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8127")]
    pub url: String,
}

/// What is watched.
#[derive(Debug, Args)]
pub struct Watch {
    /// Where tallyd serves HTTP.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8127")]
    pub url: String,
    /// Which page: its path, or the NAME of /live/NAME.
    #[arg(long, value_name = "PAGE", default_value = "/")]
    pub page: String,
    /// Print the figures once, as text, and end.
    #[arg(long)]
    pub once: bool,
    /// Print JSON: a line for each new state; with --once, one.
    #[arg(long)]
    pub json: bool,
    /// A file with the token that tallyd asks strangers for.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Configured {
    /// The environment with the settings of the command line over it.
    pub fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let words = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        let settings = self.settings.iter().map(|setting| (setting.variable(), setting.value.clone()));
        // A later entry replaces an earlier one of the same name.
        std::env::vars_os().filter_map(words).chain(settings)
    }

    /// Typed keys exist: what is typed is meant, so that a slip is no warning but an error.
    pub fn check_settings(&self) -> anyhow::Result<()> {
        let keys = config::keys();
        for Setting { section, key, .. } in &self.settings {
            if !keys.contains(&(section.as_str(), key.as_str())) {
                let known: Vec<String> = keys
                    .iter()
                    .filter(|(of, _)| *of == section.as_str())
                    .map(|(section, key)| format!("{section}.{key}"))
                    .collect();
                let cure = if known.is_empty() {
                    "config.example.toml lists all keys".to_owned()
                } else {
                    format!("there are {}", known.join(", "))
                };
                anyhow::bail!("--set {section}.{key}: there is no such key; {cure}");
            }
        }
        Ok(())
    }

    /// The key that was typed, if this is its environment variable.
    #[must_use]
    pub fn typed(&self, variable: &str) -> Option<String> {
        let setting = self.settings.iter().find(|setting| setting.variable() == variable)?;
        Some(format!("{}.{}", setting.section, setting.key))
    }
}

fn setting(text: &str) -> Result<Setting, String> {
    let example = "write SECTION.KEY=VALUE, for example flush.bucket=1s";
    let (name, value) = text.split_once('=').ok_or(example)?;
    let (section, key) = name.trim().split_once('.').ok_or(example)?;
    Ok(Setting { section: section.to_lowercase(), key: key.to_lowercase(), value: value.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let bucket = setting("flush.bucket=1s").unwrap();
        assert_eq!((bucket.variable().as_str(), bucket.value.as_str()), ("TALLYD_FLUSH_BUCKET", "1s"));
        let typed = Configured { config: None, settings: vec![bucket, setting("flush.buckit=1s").unwrap()] };
        assert_eq!(typed.typed("TALLYD_FLUSH_BUCKET"), Some("flush.bucket".to_owned()));
        assert!(typed.check_settings().unwrap_err().to_string().contains("flush.bucket"));
        assert!(setting("bucket=1s").is_err());
        assert!(setting("flush.bucket").is_err());
    }
}
