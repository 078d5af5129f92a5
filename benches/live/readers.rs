//! Those who look at the page: one task each, which reads its stream and notes when it sees a number.

use crate::subject::{SIGNUPS, Subject};
use memchr::memmem;
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tallyd::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// A round that takes longer is one that somebody missed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are opened at a time.
const AT_ONCE: usize = 500;

/// What the readers share.
struct Watched {
    started: Instant,
    /// The number that is waited for.
    wanted: AtomicU64,
    /// Who has seen it, when: microseconds since `started`.
    seen: Vec<AtomicU64>,
    count: AtomicUsize,
    connected: AtomicUsize,
}

/// See the module; they leave when this is dropped.
pub(crate) struct Readers {
    watched: Arc<Watched>,
    _tasks: JoinSet<()>,
}

/// Milliseconds over all readers and rounds.
pub(crate) struct Latencies(Vec<f64>);

fn request(port: u16) -> String {
    format!("GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n")
}

impl Readers {
    pub(crate) fn connect(runtime: &Runtime, subject: &Subject, count: usize) -> Self {
        let watched = Arc::new(Watched {
            started: clock::monotonic_now(),
            wanted: AtomicU64::new(SIGNUPS),
            seen: (0..count).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for index in 0..count {
            let (ours, port) = (Arc::clone(&watched), subject.http);
            tasks.spawn_on(async move { ours.read(index, port).await }, runtime.handle());
            if index % AT_ONCE == AT_ONCE - 1 || index == count - 1 {
                wait(|| watched.connected.load(Ordering::Relaxed) == index + 1, "connected");
            }
        }
        Self { watched, _tasks: tasks }
    }

    /// One event, until all have seen it; how long each took.
    pub(crate) fn round(&self, subject: &Subject) -> Vec<f64> {
        let watched = &self.watched;
        // Not in step with ticks.
        std::thread::sleep(Duration::from_millis(300 + fastrand::u64(..250)));
        watched.count.store(0, Ordering::Relaxed);
        watched.wanted.fetch_add(1, Ordering::Relaxed);
        let sent = clock::elapsed(watched.started).as_micros() as u64;
        subject.send("signups:1|c");
        wait(|| watched.count.load(Ordering::Relaxed) == watched.seen.len(), "saw the number");
        let took = |seen: &AtomicU64| seen.load(Ordering::Relaxed).saturating_sub(sent) as f64 / 1_000.0;
        watched.seen.iter().map(took).collect()
    }

    pub(crate) fn rounds(&self, subject: &Subject, rounds: usize) -> Latencies {
        Latencies::of((0..rounds).flat_map(|_| self.round(subject)).collect())
    }
}

impl Latencies {
    pub(crate) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// The one that such a part of all lies below.
    pub(crate) fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }
}

fn wait(done: impl Fn() -> bool, what: &str) {
    let started = clock::monotonic_now();
    while !done() {
        assert!(clock::elapsed(started) < PATIENCE, "not everybody {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Watched {
    async fn read(&self, index: usize, port: u16) {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(request(port).as_bytes()).await.unwrap();
        let mut buffer = vec![0; 2_048];
        let mut last = SIGNUPS;
        let mut known = false;
        while let Ok(read) = stream.read(&mut buffer).await {
            if read == 0 {
                return;
            }
            if !known {
                known = true;
                self.connected.fetch_add(1, Ordering::Relaxed);
            }
            let wanted = self.wanted.load(Ordering::Relaxed);
            // The figure's number is near the beginning of a change.
            let sign = format!("\"number\":{wanted}.0}}");
            if wanted > last && memmem::find(&buffer[..read], sign.as_bytes()).is_some() {
                last = wanted;
                let now = clock::elapsed(self.started).as_micros() as u64;
                self.seen[index].store(now, Ordering::Relaxed);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Connections that ask for the stream and never read; their kernel takes little for them.
pub(crate) fn stuck(subject: &Subject, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(2_048).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, subject.http)).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(request(subject.http).as_bytes()).unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5.0} {:>5.0} {:>5.0}", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}
