//! Question: what does a line cost from its bytes to its tally, in one thread, without the kernel?
//!
//! Packets of 30 lines go through `Receiver::packet`: split, parse, find the series, add. Names are streamed in a
//! fixed random order. Expectation on paper for a counter of 1,000 series: 19 ns to find the delimiters, 8 for the
//! number, 5 to hash the name, 10 to find and add: 42 ns; with 100,000 series two cache misses more, about 100.
//!
//! Five alternating runs of each case; the median is printed with its spread, beside a floor that only counts
//! newlines in the same bytes. The tallies are collected and checked. `cargo bench --bench ingest` measures;
//! without `--bench` it runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::table::Cell;
use tallyd::aggregate::{Collector, Registry};
use tallyd::clock;
use tallyd::config::Config;
use tallyd::ingest::receive::Receiver;
use tallyd::sys::Waker;

const RUNS: usize = 5;
const LINES_A_PACKET: usize = 30;

/// One kind of traffic.
struct Case {
    name: &'static str,
    series: usize,
    /// The line of a series, given a number that changes with every line.
    line: fn(usize, usize) -> String,
    /// Lines between two hand-overs.
    lines_a_tick: usize,
}

const CASES: [Case; 7] = [
    Case { name: "counter, 1,000 series", series: 1_000, line: counter, lines_a_tick: 1_000_000 },
    Case { name: "counter, 100,000 series", series: 100_000, line: counter, lines_a_tick: 1_000_000 },
    Case { name: "money, 1,000 series", series: 1_000, line: money, lines_a_tick: 1_000_000 },
    Case { name: "timer, exact", series: 1_000, line: timer, lines_a_tick: 200_000 },
    Case { name: "timer, sketch", series: 1_000, line: timer, lines_a_tick: 4_000_000 },
    Case { name: "set, estimate", series: 100, line: member, lines_a_tick: 4_000_000 },
    Case { name: "gauge, 1,000 series", series: 1_000, line: gauge, lines_a_tick: 1_000_000 },
];

fn counter(series: usize, _: usize) -> String {
    format!("app.web.signups.{series:06}:1|c")
}

fn money(series: usize, number: usize) -> String {
    format!("app.web.revenue.{series:06}:{}.{:02}|c", number % 300, number % 100)
}

fn timer(series: usize, number: usize) -> String {
    format!("app.web.latency.{series:06}:{}|ms", number * 7_919 % 10_007)
}

fn member(series: usize, number: usize) -> String {
    format!("app.web.visits.{series:06}:user-{}|s", number * 7_919 % 1_000_003)
}

fn gauge(series: usize, number: usize) -> String {
    format!("app.web.level.{series:06}:{}|g", number % 1_000)
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    println!("{:26} {:>24} {:>24} {:>8}", "case", "ns a line (spread)", "newlines only", "ratio");
    // `cargo bench --bench ingest -- timer` runs the cases with that word in their names.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for case in CASES.into_iter().filter(|case| wanted.as_ref().is_none_or(|word| case.name.contains(word))) {
        let (lines, series) = if full { (4_000_000, case.series) } else { (20_000, case.series.min(500)) };
        let packets = packets(&case, series, lines.min(1_200_000));
        let (mut times, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            floors.push(floor(&packets, lines));
            times.push(run(&case, &packets, lines));
        }
        let (ns, low, high) = spread(&mut times, lines);
        let (floor, ..) = spread(&mut floors, lines);
        println!("{:26} {ns:8.1} ({low:.1} to {high:.1}) {floor:20.1} {:11.1}", case.name, ns / floor);
    }
}

/// Whole packets, every series in turn in a scattered order.
fn packets(case: &Case, series: usize, lines: usize) -> Vec<Vec<u8>> {
    let scattered = |i: usize| (i * 7_919 + i / series) % series;
    let line = |i: usize| (case.line)(scattered(i), i) + "\n";
    (0..lines / LINES_A_PACKET)
        .map(|packet| {
            (0..LINES_A_PACKET).map(|i| line(packet * LINES_A_PACKET + i)).collect::<String>().into_bytes()
        })
        .collect()
}

fn spread(times: &mut [Duration], lines: usize) -> (f64, f64, f64) {
    times.sort_unstable();
    let ns = |time: Duration| time.as_secs_f64() * 1e9 / lines as f64;
    (ns(times[times.len() / 2]), ns(times[0]), ns(times[times.len() - 1]))
}

fn floor(packets: &[Vec<u8>], lines: usize) -> Duration {
    let started = clock::monotonic_now();
    let mut count = 0;
    for packet in packets.iter().cycle().take(lines / LINES_A_PACKET) {
        count += memchr::memchr_iter(b'\n', std::hint::black_box(packet)).count();
    }
    assert_eq!(count, lines / LINES_A_PACKET * LINES_A_PACKET);
    clock::elapsed(started)
}

fn run(case: &Case, packets: &[Vec<u8>], lines: usize) -> Duration {
    let config = Config::default();
    let waker = Arc::new(Waker::new().expect("a socket pair"));
    let epoch = Epoch::new(1_700_000_000_000, thread::current());
    let registry = Arc::new(Registry::new(config.aggregate.series_max));
    let (recorder, mut collector) =
        pair(Arc::new(config.aggregate.clone()), registry, Arc::clone(&epoch), waker);
    let mut receiver = Receiver::new(recorder, config.ingest.grammar, false);
    // Every series is known and every buffer grown before the clock starts.
    for packet in packets {
        receiver.packet(packet, &"bench");
    }
    hand_over(&epoch, &mut receiver, &mut collector);
    let (mut time, mut samples, mut done) = (Duration::ZERO, 0, 0);
    let mut source = packets.iter().cycle();
    while done < lines / LINES_A_PACKET {
        let part = (case.lines_a_tick / LINES_A_PACKET).min(lines / LINES_A_PACKET - done);
        let started = clock::monotonic_now();
        for packet in source.by_ref().take(part) {
            receiver.packet(packet, &"bench");
        }
        time += clock::elapsed(started);
        done += part;
        samples += hand_over(&epoch, &mut receiver, &mut collector);
    }
    assert_eq!(samples, (done * LINES_A_PACKET) as u64, "every line is in a tally");
    time
}

/// A tick; returns how many samples it held, by its tallies where they say so.
fn hand_over(epoch: &Epoch, receiver: &mut Receiver, collector: &mut Collector) -> u64 {
    epoch.advance(1_700_000_000_000);
    receiver.recorder().hand_over();
    let mut timed = 0.0;
    let tick = collector.take(|_, _, cell| {
        if let Cell::Timer(digest) = cell {
            timed += digest.events();
        }
    });
    let tick = tick.expect("the generation that was just handed over");
    assert!(timed == 0.0 || timed == tick.intake.samples as f64);
    tick.intake.samples
}
