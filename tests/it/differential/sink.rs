//! What Graphite would receive: a small TCP server that keeps each connection's points as one flush.
//!
//! Both programs open a connection for a flush and close it, so the border between flushes is known
//! without looking at timestamps. Lines and the pickles of carbon's second port are understood; names and
//! values stay the text that was sent, since how a number is written is compared too.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// One point as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) stamp: String,
}

/// All points of one connection.
pub(super) type Flush = Vec<Point>;

/// The server; its thread ends with the first connection after this is dropped.
pub(super) struct Sink {
    pub(super) port: u16,
    flushes: Receiver<Result<Flush, String>>,
}

/// More flushes than any test leaves unread.
const FLUSHES_MAX: usize = 4_096;

impl Sink {
    pub(super) fn start(pickle: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind the sink");
        let port = listener.local_addr().expect("the sink's address").port();
        let (sender, flushes) = sync_channel(FLUSHES_MAX);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(read(stream, pickle)).is_err() {
                    return;
                }
            }
        });
        Self { port, flushes }
    }

    /// The next flush; `None` if there is none in time. A connection that cannot be read is an error of
    /// the program under test.
    pub(super) fn next(&self, timeout: Duration) -> Option<Flush> {
        match self.flushes.recv_timeout(timeout) {
            Ok(flush) => Some(flush.expect("Graphite could read what was sent")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Forgets the flushes that nobody asked for.
    pub(super) fn skip_old(&self) {
        while self.next(Duration::ZERO).is_some() {}
    }
}

fn read(mut stream: TcpStream, pickle: bool) -> Result<Flush, String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|error| format!("reading: {error}"))?;
    if pickle { unpickle(&bytes) } else { split_lines(&bytes) }
}

fn split_lines(bytes: &[u8]) -> Result<Flush, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("text: {error}"))?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line is cut".to_owned());
    }
    text.lines()
        .map(|line| point(line).ok_or_else(|| format!("not a line of Graphite's: {line:?}")))
        .collect()
}

fn point(line: &str) -> Option<Point> {
    let mut words = line.split(' ');
    let point =
        Point { name: words.next()?.into(), value: words.next()?.into(), stamp: words.next()?.into() };
    words.next().is_none().then_some(point)
}

/// Frames of a four-byte length and a list of `(name, (stamp, value))`, in the few opcodes of protocol 0
/// that both programs write: marks, strings, longs, tuples and appends.
fn unpickle(mut bytes: &[u8]) -> Result<Flush, String> {
    let mut flush = Flush::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (frame, rest) = rest.split_at_checked(length).ok_or("a frame is shorter than its length")?;
        let text = std::str::from_utf8(frame).map_err(|error| format!("pickle: {error}"))?;
        let body =
            text.strip_prefix("(l").and_then(|text| text.strip_suffix('.')).ok_or("not a pickled list")?;
        let mut entries = body;
        while !entries.is_empty() {
            let (point, rest) =
                unpickle_point(entries).ok_or_else(|| format!("not a pickled point: {entries:.80}"))?;
            flush.push(point);
            entries = rest;
        }
        bytes = rest;
    }
    if bytes.is_empty() { Ok(flush) } else { Err("bytes behind the last frame".to_owned()) }
}

/// `(S'name'\n(L1700000000L\nS'value'\ntta`
fn unpickle_point(text: &str) -> Option<(Point, &str)> {
    let (name, rest) = text.strip_prefix("(S'")?.split_once("'\n")?;
    let (stamp, rest) = rest.strip_prefix("(L")?.split_once("L\n")?;
    let (value, rest) = rest.strip_prefix("S'")?.split_once("'\n")?;
    let point = Point { name: name.into(), value: value.into(), stamp: stamp.into() };
    Some((point, rest.strip_prefix("tta")?))
}

#[test]
fn both_protocols_are_read() {
    let point = |name: &str| Point { name: name.into(), value: "0.5".into(), stamp: "17".into() };
    assert_eq!(split_lines(b"a.b 0.5 17\nc;t=v 0.5 17\n").unwrap(), [point("a.b"), point("c;t=v")]);
    let body = b"(l(S'a.b'\n(L17L\nS'0.5'\ntta(S'c;t=v'\n(L17L\nS'0.5'\ntta.";
    let frame = [&(body.len() as u32).to_be_bytes()[..], body].concat();
    assert_eq!(unpickle(&frame).unwrap(), [point("a.b"), point("c;t=v")]);
    assert_eq!(unpickle(&frame.repeat(2)).unwrap().len(), 4);
}

#[test]
fn what_graphite_could_not_read_is_an_error() {
    for bad in [&b"a.b 0.5"[..], b"a.b 0.5 17", b"a b 0.5 17\n", b"a.b 0.5 17\n\n", b"\xff 1 17\n"] {
        assert!(split_lines(bad).is_err(), "{}", bad.escape_ascii());
    }
    for bad in [&b"\0\0\0\x09(l."[..], b"\0\0\0\x03(l", b"\0\0\0\x04(lx.", b"\0"] {
        assert!(unpickle(bad).is_err(), "{}", bad.escape_ascii());
    }
}
