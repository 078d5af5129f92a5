//! The command line: what may be typed, and the help that teaches it.

use clap::{Args, Parser, Subcommand};
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
  echo 'signups:1|c' | nc -u -w0 127.0.0.1 8125

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
    /// Print the TOML that means the same as a statsd configuration file.
    Migrate {
        /// statsd's configuration file, a JavaScript object.
        file: PathBuf,
    },
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
    pub settings: Vec<(String, String)>,
}

/// How the demo runs.
#[derive(Debug, Args)]
pub struct Demo {
    /// Send to this Graphite (plaintext port); without it the lines are shown instead.
    #[arg(long, value_name = "HOST:PORT")]
    pub graphite: Option<String>,
    /// End after so many seconds; without it, at Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

impl Configured {
    /// The environment with the settings of the command line over it.
    pub fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let words = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        // A later entry replaces an earlier one of the same name.
        std::env::vars_os().filter_map(words).chain(self.settings.iter().cloned())
    }
}

/// `flush.bucket=1s` as the environment variable that means the same.
fn setting(text: &str) -> Result<(String, String), String> {
    let example = "write SECTION.KEY=VALUE, for example flush.bucket=1s";
    let (key, value) = text.split_once('=').ok_or(example)?;
    let (section, key) = key.trim().split_once('.').ok_or(example)?;
    let name = format!("TALLYD_{}_{}", section.to_uppercase(), key.to_uppercase());
    Ok((name, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert_eq!(setting("flush.bucket=1s"), Ok(("TALLYD_FLUSH_BUCKET".into(), "1s".into())));
        assert!(setting("bucket=1s").is_err());
        assert!(setting("flush.bucket").is_err());
    }
}
