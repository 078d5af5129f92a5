//! A pretended Graphite that listens for plain text and forgets nothing.
//!
//! Lines come in over any number of connections, one thread each; out go the lines with their time of
//! arrival and, as Graphite would have it, the last value for each path and timestamp. Like carbon, it
//! closes a connection when its peer has half-closed and everything is read. It can be away (the port
//! refuses), and it can read slowly.

use super::{free_port, time};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often an idle thread looks whether it shall stop.
const STOP_POLL: Duration = Duration::from_millis(10);
/// A slow reader takes so many bytes at a time.
const SLOW_READ_BYTES: u64 = 512;

/// The last value for each path and timestamp.
pub(crate) type Points = BTreeMap<(String, i64), f64>;

/// One line and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Without its end.
    pub(crate) text: String,
    /// When it was read.
    pub(crate) arrived: Instant,
    /// Which connection brought it, counted from 0.
    pub(crate) connection: usize,
}

/// The receiver; stops when dropped.
pub(crate) struct Sink {
    port: u16,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// Written by the connections' threads, read by the test.
#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    /// Pause before each read, in milliseconds. Relaxed: only its value matters, not its moment.
    read_pause_ms: AtomicU64,
}

#[derive(Default)]
struct Book {
    lines: Vec<Line>,
    connections: usize,
}

struct Running {
    /// Written by [`Sink::stop`], read by all threads. Relaxed: nothing else is published by it.
    stop: Arc<AtomicBool>,
    listener: JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port.
    pub(crate) fn start() -> Self {
        let mut sink = Self { port: free_port(), shared: Arc::default(), running: None };
        sink.start_again();
        sink
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port alone.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Listens again after [`Sink::stop`], on the same port; what it has received is kept.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "the sink already listens");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the sink's port is free");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, flag) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let listener = std::thread::spawn(move || accept_until(&listener, &shared, &flag));
        self.running = Some(Running { stop, listener });
    }

    /// Closes the port and every connection: from here on, peers are refused.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            running.listener.join().expect("the listener's thread ends well");
        }
    }

    /// Rests for `pause` before each small read; zero is full speed.
    pub(crate) fn read_slowly(&self, pause: Duration) {
        self.shared.read_pause_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Every line so far, in order of arrival.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.shared.book().lines.clone()
    }

    /// How many connections it has taken.
    pub(crate) fn connections(&self) -> usize {
        self.shared.book().connections
    }

    /// What Graphite would hold now. Panics on a line that carbon would not take.
    pub(crate) fn points(&self) -> Points {
        let book = self.shared.book();
        let parsed = book.lines.iter().map(|line| {
            parse(&line.text).unwrap_or_else(|| panic!("carbon would not take this line: {:?}", line.text))
        });
        parsed.collect()
    }

    /// Polls until `condition` holds for the points; returns them, or `None` when `deadline` passes first.
    pub(crate) fn wait_for(&self, deadline: Duration, condition: impl Fn(&Points) -> bool) -> Option<Points> {
        let mut found = None;
        time::wait_until(deadline, || {
            let points = self.points();
            found = condition(&points).then_some(points);
            found.is_some()
        });
        found
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// A test that failed while it held the lock has left the lines whole, so poison is no reason to stop.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sum over time of one path, 0 when it never came.
pub(crate) fn sum_of(points: &Points, path: &str) -> f64 {
    points.iter().filter(|((name, _), _)| name == path).map(|(_, value)| value).sum()
}

fn accept_until(listener: &TcpListener, shared: &Arc<Shared>, stop: &Arc<AtomicBool>) {
    let mut readers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (shared, stop) = (Arc::clone(shared), Arc::clone(stop));
                readers.push(std::thread::spawn(move || read_until(stream, &shared, &stop)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => time::sleep(STOP_POLL),
            Err(error) => panic!("the sink cannot accept: {error}"),
        }
    }
    for reader in readers {
        reader.join().expect("a reader's thread ends well");
    }
}

/// Reads lines until the peer is done, then closes; a line that the end cuts off counts for nothing, as with
/// carbon.
fn read_until(stream: TcpStream, shared: &Shared, stop: &AtomicBool) {
    let connection = {
        let mut book = shared.book();
        book.connections += 1;
        book.connections - 1
    };
    stream.set_nonblocking(false).expect("a stream can block");
    stream.set_read_timeout(Some(STOP_POLL)).expect("a time-out can be set");
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let pause_ms = shared.read_pause_ms.load(Ordering::Relaxed);
        time::sleep(Duration::from_millis(pause_ms));
        let bytes_max = if pause_ms == 0 { u64::MAX } else { SLOW_READ_BYTES };
        match reader.by_ref().take(bytes_max).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") => {
                let text = String::from_utf8(std::mem::take(&mut line)).expect("carbon takes UTF-8 only");
                let text = text.trim_end().to_owned();
                shared.book().lines.push(Line { text, arrived: time::now(), connection });
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// `path value timestamp`, as strictly as tallyd shall write it: single spaces, a finite value.
fn parse(line: &str) -> Option<((String, i64), f64)> {
    let mut fields = line.split(' ');
    let (path, value, timestamp) = (fields.next()?, fields.next()?, fields.next()?);
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    let complete = !path.is_empty() && fields.next().is_none();
    complete.then_some(((path.to_owned(), timestamp.parse().ok()?), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Shutdown;

    const DEADLINE: Duration = Duration::from_secs(5);

    fn send_and_read_end(sink: &Sink, text: &str) {
        let mut stream = TcpStream::connect(sink.address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the sink closes after the half-close");
    }

    #[test]
    fn the_last_value_for_a_timestamp_holds_over_connections_and_outages() {
        let mut sink = Sink::start();
        send_and_read_end(&sink, "a.count 1 10\na.count 2 20\ncut.off 1 1");
        sink.stop();
        TcpStream::connect(sink.address()).unwrap_err();
        sink.start_again();
        send_and_read_end(&sink, "a.count 5 10\n");
        let points = sink.wait_for(DEADLINE, |points| sum_of(points, "a.count") == 7.0).unwrap();
        assert_eq!(points.len(), 2);
        assert_eq!(sink.connections(), 2);
        assert!(sink.lines().iter().map(|line| line.connection).eq([0, 0, 1]));
        assert!(sink.lines().is_sorted_by_key(|line| line.arrived));
        assert!(sink.wait_for(Duration::ZERO, |points| points.len() > 2).is_none());
    }

    #[test]
    fn a_slow_sink_still_reads_everything() {
        let sink = Sink::start();
        sink.read_slowly(Duration::from_millis(50));
        let started = time::now();
        send_and_read_end(&sink, &"slow.count 1 10\n".repeat(4));
        assert!(started.elapsed() >= Duration::from_millis(200));
        assert_eq!(sink.lines().len(), 4);
    }

    #[test]
    fn lines_that_carbon_would_refuse_are_told() {
        assert_eq!(parse("a.b;k=v 1e-7 17"), Some((("a.b;k=v".to_owned(), 17), 1e-7)));
        for line in ["a 1", "a NaN 1", "a Infinity 1", "a 1 1.5", "a  1 1", " 1 1", "a 1 1 1"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
