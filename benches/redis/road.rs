//! The road of a bucket: from a node's tick to another node's answer, and from its end to Graphite.

use crate::is_full;
use crate::server::{BUCKET_MS, PATIENCE, Server, entries, name, open};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tallyd::clock::{self, Clock};
use tallyd::metric::{Kind, Series, Tally};
use tallyd::store::{Batch, Reading, Store};

/// As many as by default.
const PARTITIONS: usize = 16;

fn sum(readings: &[Vec<Reading>]) -> f64 {
    let of = |reading: &Reading| if let Tally::Counter(sum) = &reading.tally { sum.to_f64() } else { 0.0 };
    readings.iter().flatten().map(of).sum()
}

/// A tick's batch is handed over by one node, until another node's query sees all of it: 100 of its series, which
/// stand in all partitions. Ticks of 200 ms. (Without the journal, whose fdatasync has a bench of its own.)
pub(crate) fn readable() {
    let server = Server::start(true);
    let (series, ticks) = if is_full() { (10_000, 300) } else { (500, 5) };
    let [ours, theirs] = ["road"; 2].map(|prefix| open(&server, prefix, PARTITIONS));
    let probes: Vec<Series> = (0..100).map(|n| Series::new(Kind::Counter, &name(n * series / 100))).collect();
    let (mut took, mut number) = (Vec::new(), 0);
    while took.len() < ticks {
        let now = Clock::system().now();
        let bucket = now / BUCKET_MS * BUCKET_MS;
        let seen = || sum(&theirs.read(&probes, 0, bucket, bucket + BUCKET_MS).unwrap());
        let before = seen();
        let entries = entries(series, 1);
        let more: f64 = (0..100).map(|n| 1.0 + (n * series / 100 % 100) as f64).sum();
        number += 1;
        let started = clock::monotonic_now();
        let mut parts = vec![Vec::new(); ours.partitions()];
        for entry in entries {
            parts[ours.partition_of(&entry.0)].push(entry);
        }
        // As the flusher has it: each partition has a producer of its own.
        for (partition, entries) in parts.into_iter().enumerate() {
            let producer = 1 << 16 | partition as u128;
            ours.apply(Batch { producer, number, bucket, entries }, 0).unwrap();
        }
        while (seen() - before - more).abs() > 0.5 {
            assert!(clock::elapsed(started) < PATIENCE, "it is not readable");
        }
        took.push(clock::elapsed(started));
        std::thread::sleep(Duration::from_millis(200).saturating_sub(clock::elapsed(started)));
    }
    took.sort_unstable();
    let ms = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!("a tick of {series} series, from one node's hand-over to another's answer, {ticks} times:");
    println!("{:44} {:.1} ms, 99 % {:.1} ms, longest {:.1} ms", "  median", ms(50), ms(99), ms(100));
    ours.close();
    theirs.close();
}

/// A tallyd on a Redis, ended when it is dropped.
struct Node {
    child: Child,
    udp: UdpSocket,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(server: &Server, graphite: u16, bucket: &str) -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let statsd = UdpSocket::bind(any).and_then(|socket| socket.local_addr()).unwrap().port();
        let http = TcpListener::bind(any).and_then(|socket| socket.local_addr()).unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tallyd.toml");
        fs::write(&config, format!("[flush]\nbucket = \"{bucket}\"\n[graphite]\nbackfill_rate = 10000000\n"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .args(["run", "--config"])
            .arg(&config)
            .current_dir(folder.path())
            .env("TALLYD_INGEST_UDP", format!("127.0.0.1:{statsd}"))
            .env("TALLYD_HTTP_LISTEN", format!("127.0.0.1:{http}"))
            .env("TALLYD_CONSOLE_LISTEN", "off")
            .env("TALLYD_STORE_URL", server.url())
            .env("TALLYD_STORE_JOURNAL", folder.path().join("journal"))
            .env("TALLYD_GRAPHITE_ADDRESS", format!("127.0.0.1:{graphite}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let udp = UdpSocket::bind(any).unwrap();
        udp.connect((Ipv4Addr::LOCALHOST, statsd)).unwrap();
        let started = clock::monotonic_now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, http)).is_err() {
            assert!(clock::elapsed(started) < PATIENCE, "tallyd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, udp, _folder: folder }
    }

    /// Seconds of a processor that it has used.
    fn used(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let ticks: f64 = stat.split(' ').skip(13).take(2).map(|text| text.parse::<f64>().unwrap()).sum();
        ticks / 100.0
    }

    /// Each series once.
    fn send(&self, series: usize) {
        let lines: Vec<String> = (0..series).map(|n| format!("{}:1|c\n", name(n))).collect();
        for lines in lines.chunks(30) {
            self.udp.send(lines.concat().as_bytes()).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Tells of every delivery when it was read, and how many counts it had, by their time stamp.
fn graphite() -> (u16, Receiver<(Instant, i64, usize)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = sync_channel(10_000);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || delivery(stream, &tell));
        }
    });
    (port, told)
}

fn delivery(mut stream: TcpStream, tell: &SyncSender<(Instant, i64, usize)>) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    drop(stream);
    let at = clock::monotonic_now();
    let text = String::from_utf8(bytes).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for line in
        text.lines().filter(|line| line.starts_with("stats.counters.app.") && line.contains(".count 1 "))
    {
        let stamp: i64 = line.rsplit(' ').next().and_then(|text| text.parse().ok()).unwrap();
        *counts.entry(stamp).or_insert(0) += 1;
    }
    for (stamp, count) in counts {
        tell.send((at, stamp, count)).ok();
    }
}

/// Buckets in which every series has a sample: how long after its end, and the grace, Graphite has read the last one,
/// and what of the processors tallyd and Redis took in that bucket, its ticks included.
pub(crate) fn forwarded() {
    let server = Server::start(true);
    let (series, width, buckets) = if is_full() { (100_000, 10, 6) } else { (1_000, 1, 3) };
    let (port, told) = graphite();
    let node = Node::start(&server, port, &format!("{width}s"));
    let now = || Clock::system().now();
    println!(
        "buckets of {width} s with {series} series in {PARTITIONS} partitions, one node; the first makes them:"
    );
    for bucket in 0..=buckets {
        let start = (now() / 1_000 / width + 1) * width;
        std::thread::sleep(Duration::from_millis((start * 1_000 + 50 - now()) as u64));
        let used = (node.used(), server.used());
        node.send(series);
        let over = start + width + 1;
        let until = clock::monotonic_now() + Duration::from_millis((over * 1_000 - now()).max(0) as u64);
        let (mut seen, mut last) = (0, until);
        while seen < series {
            let (at, stamp, count) = told.recv_timeout(PATIENCE).expect("Graphite gets all of it");
            if stamp == start {
                (seen, last) = (seen + count, at);
            }
        }
        assert_eq!(seen, series);
        let used = (node.used() - used.0, server.used() - used.1);
        println!(
            "{:44} {:.2} s after the grace; CPU of tallyd {:.2} s, of Redis {:.2} s",
            format!("  bucket {bucket}"),
            last.saturating_duration_since(until).as_secs_f64(),
            used.0,
            used.1
        );
    }
}
