//! What the file says (TOML, environment, statsd's own JavaScript dialect) becomes what it means.
//!
//! In come the text of a file, the environment and arguments; out comes a [`Config`] of the stages' own
//! options, or every mistake at once, each with key, value and cure. Nothing here touches the machine
//! beyond reading that file: no socket, no directory.
//!
//! A file of statsd's is translated into keys of ours (`statsd`), and then read like any other (`native`):
//! there is one list of keys, one set of defaults, and `tallyd migrate` prints that translation.

mod address;
mod figures;
mod js;
mod link;
mod literal;
mod native;
mod notify;
mod problem;
mod raw;
mod reader;
mod sections;
mod servers;
mod statsd;
mod store;
mod timers;
mod translation;
mod translator;
mod units;

pub use problem::{ConfigError, Mistake};
pub(crate) use statsd::translate;
pub use store::Journal;
pub(crate) use translation::{Entry, Translation};
pub(crate) use units::{show_duration, show_size};

use crate::wire::Dialect;
use crate::{aggregate, console, flush, forward, ingest, limits, serve, tls};
use native::Switches;
use problem::Reason;
use reader::Source;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What the configuration means.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whose rules hold.
    pub dialect: Dialect,
    /// Where lines come in.
    pub ingest: ingest::Options,
    /// How samples become tallies.
    pub aggregate: aggregate::Options,
    /// When things happen.
    pub flush: flush::Options,
    /// Where buckets stand.
    pub store: crate::store::Options,
    /// What stands in front of the store; none in front of memory.
    pub journal: Option<Journal>,
    /// What idle series send.
    pub idle: crate::store::IdleRules,
    /// Where buckets leave.
    pub graphite: forward::Options,
    /// What the points are called.
    pub expand: forward::Rules,
    /// What the pages show.
    pub figures: crate::figures::Options,
    /// Whom to tell what happens.
    pub notify: crate::notify::Options,
    /// What is shown to whoever connects by TLS; none where nobody may.
    pub tls: Option<tls::Files>,
    /// HTTP.
    pub http: serve::Options,
    /// The console.
    pub console: console::Options,
    /// Whether a change of the file reloads what can be reloaded (statsd's `automaticConfigReload`).
    pub reload_on_change: bool,
    /// Whether debug messages are logged (statsd's `debug`).
    pub debug: bool,
}

impl Default for Config {
    /// What holds without a file and without environment.
    fn default() -> Self {
        match native("", std::iter::empty()) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("the defaults are refused: {error}"),
        }
    }
}

/// A configuration, and what its user should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What was ignored, and why.
    pub warnings: Vec<String>,
    /// The first token that is written as it is, for a command that asks a running tallyd.
    pub token: Option<Secret>,
}

/// Text that shows itself to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Reads the file at `path`, if there is one, under the environment `env`. A name that ends in `.js` or
/// `.json` is statsd's own file and brings statsd's dialect.
pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let Some(path) = path else {
        return native("", env);
    };
    let text = read_file(path)
        .map_err(|reason| ConfigError::from(Mistake::new(path.display().to_string(), "", reason)))?;
    if is_statsd_file(path) { statsd(&text, env) } else { native(&text, env) }
}

/// Reads the text of a file of ours.
pub fn native(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let text = text.trim_start_matches('\u{feff}');
    let table = toml::from_str(text).map_err(|error| syntax_mistake(text, &error))?;
    native::read(&Source { table, ..Source::default() }, env, Switches::NATIVE)
}

/// Reads the text of a file of statsd's.
pub fn statsd(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let Translation { entries, switches, mistakes, mut warnings } = translate(text)?;
    let env: Vec<_> = env.collect();
    let http_is_wanted = env.iter().any(|(name, _)| name == "TALLYD_HTTP_LISTEN");
    match native::read(&translation::source(&entries), env.into_iter(), switches) {
        Ok(mut loaded) if mistakes.is_empty() => {
            warnings.append(&mut loaded.warnings);
            loaded.config.http.required = http_is_wanted;
            Ok(Loaded { warnings, ..loaded })
        }
        Ok(_) => Err(ConfigError { mistakes }),
        Err(error) => Err(ConfigError { mistakes: [mistakes, error.mistakes].concat() }),
    }
}

/// Every key of a file of ours, as section and name, in the order in which they are read.
#[must_use]
pub fn keys() -> Vec<(&'static str, &'static str)> {
    native::keys()
}

/// Whether the file is statsd's own, by its name.
#[must_use]
pub fn is_statsd_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("js") || ending.eq_ignore_ascii_case("json"))
}

fn read_file(path: &Path) -> Result<String, Reason> {
    let unreadable = |error: std::io::Error| {
        Reason::new(format!("cannot be read ({error})"), "check the path and its permissions")
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
        let problem = format!("the file is larger than {}", show_size(limits::CONFIG_BYTES_MAX));
        return Err(Reason::new(problem, "check that it is the configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let problem = format!("the file is not UTF-8 from byte {} on", error.utf8_error().valid_up_to());
        Reason::new(problem, "save it as UTF-8")
    })
}

/// The parser's message with its place; the line itself may hold a secret and is not shown.
fn syntax_mistake(text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = format!("this is not TOML: {}", error.message().replace('\n', ", "));
    let cure = "text stands in quotes, sections as [name] on lines of their own; statsd's own file must end in .js or .json";
    let reason = Reason::new(problem, cure);
    Mistake::new(format!("line {line}, column {column}"), "", reason).into()
}
