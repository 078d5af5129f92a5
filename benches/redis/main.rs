//! Question: what does it cost Redis to take packed batches, and what does a stored point take?
//!
//! A store of one partition sends batches of 1,000 and of 10,000 counters to a redis-server of its own, without an
//! append-only file, as a node does: encoded, pipelined, applied by the script. Rival: the same additions as
//! pipelined HINCRBYFLOAT, one for each series, in the same run. Time is the wall's, with the sender on the same two
//! cores; what Redis itself used is its own account of its processor. Expectation on paper: the script takes 86 to
//! 137 ns a series (the protocol's table), HINCRBYFLOAT 2 to 4 µs.
//!
//! Then buckets of 10,000 counters are sealed, and Redis is asked how much memory a stored point takes. What arrived
//! is read back and compared. At last the road of a bucket (road.rs): from a node's tick to another node's answer, and
//! from the end of a bucket of 100,000 series to Graphite. `cargo bench --bench redis` measures; without `--bench` it
//! runs at toy size. It needs redis-server (tests/setup).

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, indexes what it made, and ends where its server does not answer"
)]

mod road;
mod server;

use redis::Value;
use server::{BUCKET_MS, PATIENCE, Server, entries, name, open};
use std::time::Duration;
use tallyd::clock::{self, Clock};
use tallyd::metric::{Kind, Series, Tally};
use tallyd::store::{Batch, Store};

/// Whether this is a measurement and not a trial run at toy size.
fn is_full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn main() {
    let updates = if is_full() { 6_000_000 } else { 20_000 };
    let server = Server::start(false);
    println!("{:44} {:>12} {:>12} {:>14}", "", "M updates/s", "Redis µs", "of HINCRBYFLOAT");
    let rival = hincrbyfloat(&server, updates / 10);
    for series in [1_000, 10_000] {
        packed(&server, series, updates / series, rival);
    }
    memory(&server);
    road::readable();
    road::forwarded();
}

/// Redis' own time for an update, in microseconds.
fn hincrbyfloat(server: &Server, updates: usize) -> f64 {
    let mut connection = server.connection();
    let (before, started) = (server.used(), clock::monotonic_now());
    for from in (0..updates).step_by(1_000) {
        let mut pipe = redis::pipe();
        for n in from..from + 1_000 {
            pipe.cmd("HINCRBYFLOAT").arg("rival").arg(name(n % 10_000)).arg(n % 100).ignore();
        }
        pipe.exec(&mut connection).unwrap();
    }
    report("HINCRBYFLOAT, 1,000 a pipeline", updates, clock::elapsed(started), server.used() - before, None)
}

fn report(what: &str, updates: usize, took: Duration, used: f64, rival: Option<f64>) -> f64 {
    let micros = used * 1e6 / updates as f64;
    let rate = updates as f64 / took.as_secs_f64() / 1e6;
    let ratio = rival.map_or_else(String::new, |rival| format!("1/{:.0}", rival / micros));
    println!("{what:44} {rate:12.2} {micros:12.3} {ratio:>14}");
    micros
}

/// Batches into a bucket that lies ahead, so that nothing is folded meanwhile.
fn packed(server: &Server, series: usize, batches: usize, rival: f64) {
    let store = open(server, &format!("b{series}"), 1);
    let bucket = Clock::system().now() / BUCKET_MS * BUCKET_MS + 600_000;
    let entries = entries(series, 1);
    let (before, started) = (server.used(), clock::monotonic_now());
    for number in 1..=batches as u64 {
        // What waits in memory is bounded, and there is no journal here.
        while store.durability().waiting_bytes > 32 << 20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        store.apply(Batch { producer: 1 << 16, number, bucket, entries: entries.clone() }, 0).unwrap();
    }
    assert!(store.drained(PATIENCE), "Redis took not everything");
    let (took, used) = (clock::elapsed(started), server.used() - before);
    report(&format!("packed, {series} series a batch"), series * batches, took, used, Some(rival));
    let read = store.read(&[Series::new(Kind::Counter, &name(7))], 0, bucket, bucket + BUCKET_MS).unwrap();
    let sum = |tally: &Tally| if let Tally::Counter(sum) = tally { sum.to_f64() } else { 0.0 };
    let total: f64 = read.iter().flatten().map(|reading| sum(&reading.tally)).sum();
    assert!((total - 8.0 * batches as f64).abs() < 0.5, "{total}");
    store.close();
}

/// What Redis says that sealed buckets take.
fn memory(server: &Server) {
    let store = open(server, "m", 1);
    let series = if is_full() { 10_000 } else { 1_000 };
    let buckets = 3;
    let now = Clock::system().now() / BUCKET_MS * BUCKET_MS;
    for number in 1..=buckets {
        let bucket = now - (60 - number as i64) * BUCKET_MS;
        let entries = entries(series, number as i64 * 37);
        store.apply(Batch { producer: 1 << 16, number, bucket, entries }, 0).unwrap();
    }
    assert!(store.drained(PATIENCE));
    let mut connection = server.connection();
    let started = clock::monotonic_now();
    loop {
        let todo: i64 = redis::cmd("ZCARD").arg("m:{0}:todo").query(&mut connection).unwrap();
        if todo == 0 {
            break;
        }
        assert!(clock::elapsed(started) < PATIENCE, "buckets are not sealed");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut bytes = 0;
    for number in 1..=buckets {
        let start = (now - (60 - number as i64) * BUCKET_MS) / 1_000;
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg(format!("m:{{0}}:1:{start}")).arg("SAMPLES").arg(0);
        match usage.query(&mut connection).unwrap() {
            Value::Int(of) => bytes += of,
            other => panic!("{other:?}"),
        }
    }
    let point = bytes as f64 / (buckets as usize * series) as f64;
    println!("a stored point of {series} counters: {point:.1} bytes");
    assert!(point <= 16.0, "{point} bytes a point");
    store.close();
}
