//! A pretended Graphite that keeps no lines: it counts those that carbon would not take, and adds up a few paths.

use crate::support::time;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest line in bytes that carbon takes.
const LINE_BYTES_MAX: usize = 16_384;

/// What has come.
#[derive(Default)]
struct Seen {
    lines: AtomicU64,
    refused: AtomicU64,
    example: Mutex<Option<Vec<u8>>>,
    /// The newest value of each watched path by its timestamp.
    watched: Mutex<std::collections::BTreeMap<(String, i64), f64>>,
    stop: AtomicBool,
}

/// See the module.
pub(crate) struct Judge {
    port: u16,
    seen: Arc<Seen>,
}

impl Judge {
    /// Keeps the values of these paths.
    pub(crate) fn watching(paths: fn(&str) -> bool) -> Self {
        Self::at(0, paths)
    }

    /// The same at a port that was free until now.
    pub(crate) fn at(port: u16, paths: fn(&str) -> bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Seen::default());
        let ours = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ours.stop.load(Ordering::Relaxed) {
                    return;
                }
                let seen = Arc::clone(&ours);
                std::thread::spawn(move || read(stream, &seen, paths));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn lines(&self) -> u64 {
        self.seen.lines.load(Ordering::Relaxed)
    }

    /// Lines that carbon would not take, and the first of them.
    pub(crate) fn refused(&self) -> (u64, String) {
        let example = self.seen.example.lock().expect("a reader that failed is told of").clone();
        let example = String::from_utf8_lossy(&example.unwrap_or_default()).into_owned();
        (self.seen.refused.load(Ordering::Relaxed), example)
    }

    /// What the paths that are watched and end so add up to over all timestamps.
    pub(crate) fn sum(&self, end: &str) -> f64 {
        let watched = self.seen.watched.lock().expect("a reader that failed is told of");
        watched.iter().filter(|((path, _), _)| path.ends_with(end)).map(|(_, value)| value).sum()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

fn read(stream: TcpStream, seen: &Seen, paths: fn(&str) -> bool) {
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out can be set");
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = Vec::new();
    while !seen.stop.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") => {
                judge(&line[..line.len() - 1], seen, paths);
                line.clear();
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn judge(line: &[u8], seen: &Seen, paths: fn(&str) -> bool) {
    seen.lines.fetch_add(1, Ordering::Relaxed);
    let Some((path, value, at)) = taken(line) else {
        seen.refused.fetch_add(1, Ordering::Relaxed);
        seen.example.lock().expect("nobody fails with it").get_or_insert_with(|| line.to_vec());
        return;
    };
    if paths(path) {
        seen.watched.lock().expect("nobody fails with it").insert((path.to_owned(), at), value);
    }
}

/// `path value timestamp` as carbon takes it: UTF-8, single blanks, nothing unprintable, a finite value.
fn taken(line: &[u8]) -> Option<(&str, f64, i64)> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() < LINE_BYTES_MAX)?;
    let mut fields = text.split(' ');
    let (path, value, at) = (fields.next()?, fields.next()?, fields.next()?);
    let plain = !path.is_empty() && !path.chars().any(|c| c.is_control() || c.is_whitespace());
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    let at: i64 = at.parse().ok()?;
    let near = (at - time::unix_secs()).abs() < 7 * 86_400;
    (plain && near && fields.next().is_none()).then_some((path, value, at))
}
