//! statsd's management console: a line of text in, an answer in statsd's own shape out.
//!
//! ```text
//!   help stats counters timers gauges delcounters deltimers delgauges health config quit
//! ```
//!
//! Dumps are JavaScript object literals with one metric on each line, which is what existing checks count.
//! A command ends at its newline; what comes without one counts after a moment's silence, since the original
//! takes each packet for a command. A browser that was led here says `GET …`, or shakes hands for TLS in bytes that are
//! no text: we hang up.

use crate::clock::Clock;
use crate::health::Books;
use crate::limits;
use crate::metric::{Kind, Tally};
use crate::store::{Present, Store};
use crate::wire::graphite::push_number;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Silence after which a command without a newline is taken as complete.
const SILENCE: Duration = Duration::from_millis(100);
/// Timer values shown before a dump is abbreviated, as the original does it.
const VALUES_SHOWN: usize = 100;
const VERBS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
const HELP: &str =
    "Commands: stats, counters, timers, gauges, delcounters, deltimers, delgauges, health, config, quit\n\n";

/// Where the console listens and what it says of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `console.listen`; `None` is off.
    pub listen: Option<SocketAddr>,
    /// The lines of the `config` command, `key: value`.
    pub config_lines: Vec<String>,
    /// What `health` says at first (statsd's `healthStatus`): up or down.
    pub healthy: bool,
}

/// A figure of the sender, with the name it has after `graphite.`.
pub type Figure = (&'static str, i64);

/// What the console works with.
pub struct Console {
    /// The time.
    pub clock: Clock,
    /// When the program started, in seconds since 1970.
    pub started: i64,
    /// Our own counters.
    pub books: Arc<Books>,
    /// Where the present state stands.
    pub store: Arc<dyn Store>,
    /// Makes the store hold everything received so far; may take a moment, so it is called off the tasks.
    pub tick_now: Arc<dyn Fn() + Send + Sync>,
    /// The sender's figures.
    pub sender: Arc<dyn Fn() -> Vec<Figure> + Send + Sync>,
    /// The lines of `config`.
    pub config_lines: Vec<String>,
    /// What `health` says.
    pub healthy: AtomicBool,
}

/// What to do after an answer.
enum Next {
    Answer(String),
    HangUp,
}

impl Console {
    /// Serves connections for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(limits::CONSOLE_CONNECTIONS_MAX));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Beyond the limit a connection is closed at once, by dropping it.
                    let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                        continue;
                    };
                    let console = Arc::clone(&self);
                    tokio::spawn(async move {
                        // A client that went away is its own affair.
                        console.converse(stream).await.ok();
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a console connection could not be accepted");
                    tokio::time::sleep(SILENCE).await;
                }
            }
        }
    }

    async fn converse(self: Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        let mut pending = Vec::new();
        let mut chunk = [0; 4_096];
        loop {
            let patience =
                if pending.is_empty() { Duration::from_secs(limits::CONSOLE_IDLE_SECS) } else { SILENCE };
            let (bytes, silent) = match timeout(patience, stream.read(&mut chunk)).await {
                Ok(bytes) => (bytes?, false),
                Err(_) if pending.is_empty() => return Ok(()),
                Err(_) => (0, true),
            };
            let ended = bytes == 0 && !silent;
            pending.extend_from_slice(chunk.get(..bytes).unwrap_or(b""));
            if pending.len() > limits::CONSOLE_LINE_BYTES_MAX {
                return stream.write_all(b"ERROR\n").await;
            }
            for command in complete_commands(&mut pending, silent || ended) {
                match Arc::clone(&self).answer(command).await {
                    Next::Answer(answer) => stream.write_all(answer.as_bytes()).await?,
                    Next::HangUp => return Ok(()),
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    async fn answer(self: Arc<Self>, command: String) -> Next {
        let mut words = command.trim().split(' ');
        let verb = words.next().unwrap_or("").to_owned();
        let names: Vec<String> = words.map(str::to_owned).collect();
        let is_text = !command.contains(|c: char| c.is_control() && !c.is_whitespace());
        if verb == "quit" || VERBS.contains(&verb.as_str()) || !is_text {
            return Next::HangUp;
        }
        let kind = match verb.as_str() {
            "counters" | "delcounters" => Some(Kind::Counter),
            "timers" | "deltimers" => Some(Kind::Timer),
            "gauges" | "delgauges" => Some(Kind::Gauge),
            _ => None,
        };
        let Some(kind) = kind else {
            return Next::Answer(self.plain_answer(&verb, &names));
        };
        // Waits for the ingest threads, and walks all series: not work for the task that serves everybody.
        let work = tokio::task::spawn_blocking(move || {
            (self.tick_now)();
            if verb.starts_with("del") { self.delete(kind, &names) } else { self.dump(kind) }
        });
        Next::Answer(work.await.unwrap_or_else(|_| "ERROR\n".to_owned()))
    }

    fn plain_answer(&self, verb: &str, names: &[String]) -> String {
        match verb {
            "help" => HELP.to_owned(),
            "stats" => self.stats(),
            "health" => {
                match names.first().map(|word| word.to_lowercase()).as_deref() {
                    Some("up") => self.healthy.store(true, Ordering::Relaxed),
                    Some("down") => self.healthy.store(false, Ordering::Relaxed),
                    _ => {}
                }
                let word = if self.healthy.load(Ordering::Relaxed) { "up" } else { "down" };
                format!("health: {word}\n")
            }
            "config" => self.config_lines.iter().fold("\n".to_owned(), |text, line| text + line + "\n"),
            _ => "ERROR\n".to_owned(),
        }
    }

    fn stats(&self) -> String {
        let now = self.clock.now().div_euclid(1_000);
        let last = self.books.last_packet_ms.load(Ordering::Relaxed).div_euclid(1_000).max(self.started);
        let mut text = format!(
            "uptime: {}\nmessages.last_msg_seen: {}\nmessages.bad_lines_seen: {}\n",
            now - self.started,
            now - last,
            self.books.bad_lines()
        );
        for (name, value) in (self.sender)() {
            let value = if name.starts_with("last_") { now - value } else { value };
            writeln!(text, "graphite.{name}: {value}").ok();
        }
        text + "END\n\n"
    }

    fn delete(&self, kind: Kind, names: &[String]) -> String {
        let mut text = String::new();
        for name in names.iter().filter(|name| !name.is_empty()) {
            let folder = name.strip_suffix('*').filter(|folder| folder.ends_with('.'));
            let matches = |key: &str| key == name || folder.is_some_and(|folder| key.starts_with(folder));
            let mut deleted = self.store.forget(kind, &matches).unwrap_or_default();
            deleted.sort();
            if deleted.is_empty() {
                writeln!(text, "metric {name} not found").ok();
            }
            for key in deleted {
                writeln!(text, "deleted: {key}").ok();
            }
        }
        text + "END\n\n"
    }

    fn dump(&self, kind: Kind) -> String {
        let mut present = self.store.present(kind).unwrap_or_default();
        present.sort_by(|a, b| a.series.cmp(&b.series));
        let entries: Vec<String> =
            present.iter().map(|one| format!("{}: {}", js_key(one.series.key()), js_value(one))).collect();
        let text =
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(",\n  ")) };
        text + "\nEND\n\n"
    }
}

/// Takes complete lines off `pending`; with `all`, what is left counts as one. Blank lines count only when
/// nothing else came.
fn complete_commands(pending: &mut Vec<u8>, all: bool) -> Vec<String> {
    let end = if all { pending.len() } else { memchr::memrchr(b'\n', pending).map_or(0, |at| at + 1) };
    let text: Vec<u8> = pending.drain(..end).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    let commands: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if commands.is_empty() && !text.is_empty() { vec![String::new()] } else { commands }
}

/// A key as JavaScript prints it: bare where it is an identifier, else in single quotes.
fn js_key(key: &str) -> String {
    let bare = key
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    if bare && !key.is_empty() {
        return key.to_owned();
    }
    format!("'{}'", key.escape_debug().to_string().replace("\\\"", "\""))
}

fn js_value(present: &Present) -> String {
    match &present.tally {
        Tally::Counter(sum) => js_number(sum.to_f64()),
        Tally::Gauge(_) => js_number(present.gauge.unwrap_or(0.0)),
        Tally::Set(set) => js_number(set.count() as f64),
        Tally::Timer(digest) if digest.is_empty() => "[]".to_owned(),
        Tally::Timer(digest) => {
            let values = digest.values().unwrap_or(&[]);
            let mut shown: Vec<String> =
                values.iter().take(VALUES_SHOWN).map(|&value| js_number(value)).collect();
            // Beyond its bound a timer is a sketch; its count is still known.
            let count = if values.is_empty() { digest.events() as usize } else { values.len() };
            if count > shown.len() {
                let more = count - shown.len();
                shown.push(format!("... {more} more item{}", if more == 1 { "" } else { "s" }));
            }
            format!("[ {} ]", shown.join(", "))
        }
    }
}

fn js_number(value: f64) -> String {
    let mut out = Vec::new();
    push_number(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_where_javascript_quotes_them() {
        assert_eq!(js_key("gaugor"), "gaugor");
        assert_eq!(js_key("a.b"), "'a.b'");
        assert_eq!(js_key("1a"), "'1a'");
        assert_eq!(js_key(""), "''");
        assert_eq!(js_key("it's"), "'it\\'s'");
        assert_eq!(js_key("a\nb"), "'a\\nb'");
    }

    #[test]
    fn commands_end_at_newlines_or_in_silence() {
        let mut pending = b"counters\r\ntimers\ngau".to_vec();
        assert_eq!(complete_commands(&mut pending, false), ["counters", "timers"]);
        assert!(complete_commands(&mut pending, false).is_empty());
        assert_eq!(complete_commands(&mut pending, true), ["gau"]);
        assert!(pending.is_empty());
        let mut blank = b"\r\n".to_vec();
        assert_eq!(complete_commands(&mut blank, false), [""]);
        let mut twice = b"stats\n\n".to_vec();
        assert_eq!(complete_commands(&mut twice, false), ["stats"]);
    }
}
