//! Question: what do two ingest threads count more than one, each into its own table or both into a shared one?
//!
//! Packets of 30 counter lines are split, parsed, found and added, in process, by one thread and by two at a time
//! that meet the same series in orders of their own. Ours is `Receiver` with a table for each thread. The rival has
//! the same parser and hash before one table for all: append-only open addressing in which a known name is found
//! by acquire loads alone, and a value is added by `fetch_add`. It is as lean as such a table can be: made in its
//! final size, it knows counters of whole numbers only, and nothing is ever drained from it.
//!
//! Expectation on paper: two tables share nothing but the memory's bandwidth, so 1.9 to 2 times. An addition to a
//! shared counter moves a cache line from the other core whenever that touched it last, as it nearly always did with
//! 1,000 series: 50 to 100 ns more a line. With 100,000 the line is rarely in the other core's hands for long, and
//! one table needs half the cache of two: about even.
//!
//! Five alternating runs; medians with their spread; sums are checked. It fails where two threads with tables of
//! their own do not reach [`SPEEDUP_MIN`]. `cargo bench --bench threads` measures; without `--bench` it runs at toy
//! size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::table::Cell;
use tallyd::aggregate::{Collector, Registry};
use tallyd::clock;
use tallyd::config::Config;
use tallyd::health::Refusal;
use tallyd::ingest::receive::Receiver;
use tallyd::metric::Number;
use tallyd::sys::Waker;
use tallyd::wire::statsd::{self, Grammar, Sample, Value, Visitor};

const RUNS: usize = 5;
const LINES_A_PACKET: usize = 30;
const NOW: i64 = 1_700_000_000_000;
/// How many times as much two threads count as one, at least.
const SPEEDUP_MIN: f64 = 1.8;

type Packets = Vec<Vec<u8>>;

/// Counts a packet.
type Count<'a> = Box<dyn FnMut(&[u8]) + Send + 'a>;

/// Counts so many lines of each of the packets, in a thread each, and of so many series; returns the time and the
/// sum of all counters.
type Design = fn(&[Packets], usize, usize) -> (Duration, i64);

const DESIGNS: [(&str, Design); 2] = [("a table for each thread", own), ("one shared table", shared)];

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("{:42} {:>24} {:>24} {:>9}", "million lines/s", "one thread", "two threads", "speed-up");
    let mut lowest = f64::INFINITY;
    for series in [1_000, 100_000] {
        let (series, lines) = if full { (series, 6_000_000) } else { (series / 100, 30_000) };
        let traffic = [packets(series, 7_919), packets(series, 104_729)];
        let mut rates = [const { [const { Vec::new() }; 2] }; DESIGNS.len()];
        for _ in 0..RUNS {
            for ((_, design), rates) in DESIGNS.iter().zip(&mut rates) {
                for (threads, rates) in (1..).zip(rates) {
                    let (time, sum) = design(&traffic[..threads], lines, series);
                    let counted = lines / LINES_A_PACKET * LINES_A_PACKET * threads;
                    assert_eq!(sum, counted as i64, "every line is in a counter");
                    rates.push(counted as f64 / time.as_secs_f64() / 1e6);
                }
            }
        }
        for ((name, _), rates) in DESIGNS.iter().zip(&mut rates) {
            let [one, two] = rates.each_mut().map(|rates| spread(rates));
            let name = format!("{series} series, {name}");
            let cell = |rates: [f64; 3]| format!("{:.1} ({:.1} to {:.1})", rates[0], rates[1], rates[2]);
            println!("{name:42} {:>24} {:>24} {:9.2}", cell(one), cell(two), two[0] / one[0]);
            if full && cores > 1 && name.ends_with(DESIGNS[0].0) {
                lowest = lowest.min(two[0] / one[0]);
            }
        }
    }
    assert!(lowest >= SPEEDUP_MIN, "two threads count {lowest} times as much as one");
}

/// Every series in turn in a scattered order; enough packets that they do not repeat too soon.
fn packets(series: usize, stride: usize) -> Packets {
    let line = |i: usize| format!("app.web.signups.{:06}:1|c\n", (i * stride + i / series) % series);
    let packet = |packet: usize| (0..LINES_A_PACKET).map(|i| line(packet * LINES_A_PACKET + i)).collect();
    (0..20_000.min(10 * series))
        .map(|number| {
            let text: String = packet(number);
            text.into_bytes()
        })
        .collect()
}

/// Median, least and greatest.
fn spread(rates: &mut [f64]) -> [f64; 3] {
    rates.sort_by(f64::total_cmp);
    [rates[rates.len() / 2], rates[0], rates[rates.len() - 1]]
}

/// Runs one counter a thread, each on a core of its own and all at once; the time is until the last has ended.
fn race(traffic: &[Packets], lines: usize, counts: Vec<Count<'_>>) -> Duration {
    let barrier = &Barrier::new(counts.len());
    let times = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (core, (packets, mut count)) in traffic.iter().zip(counts).enumerate() {
            threads.push(scope.spawn(move || {
                pin(core);
                barrier.wait();
                let started = clock::monotonic_now();
                for packet in packets.iter().cycle().take(lines / LINES_A_PACKET) {
                    count(packet);
                }
                clock::elapsed(started)
            }));
        }
        threads.into_iter().map(|thread| thread.join().expect("a thread")).max()
    });
    times.expect("one thread or more")
}

/// Ours.
fn own(traffic: &[Packets], lines: usize, _: usize) -> (Duration, i64) {
    let config = Config::default();
    let epoch = Epoch::new(NOW, thread::current());
    let registry = Arc::new(Registry::new(config.aggregate.series_max));
    let options = Arc::new(config.aggregate);
    let mut sides: Vec<(Receiver, Collector)> = traffic
        .iter()
        .map(|_| {
            let waker = Arc::new(Waker::new().expect("a socket pair"));
            let (recorder, collector) =
                pair(Arc::clone(&options), Arc::clone(&registry), Arc::clone(&epoch), waker);
            (Receiver::new(recorder, config.ingest.grammar, false), collector)
        })
        .collect();
    // Every series is known and every list grown before the clock starts.
    for (packets, (receiver, collector)) in traffic.iter().zip(&mut sides) {
        for packet in packets {
            receiver.packet(packet, &"bench");
        }
        total(&epoch, receiver, collector);
    }
    let counts = sides
        .iter_mut()
        .map(|(receiver, _)| -> Count<'_> { Box::new(|packet| receiver.packet(packet, &"bench")) });
    let time = race(traffic, lines, counts.collect());
    let sum = sides.iter_mut().map(|(receiver, collector)| total(&epoch, receiver, collector)).sum();
    (time, sum)
}

/// A tick; the sum of what it held.
fn total(epoch: &Epoch, receiver: &mut Receiver, collector: &mut Collector) -> i64 {
    epoch.advance(NOW);
    receiver.recorder().hand_over();
    let mut sum = 0.0;
    let tick = collector.take(|_, _, cell| {
        if let Cell::Counter(counter) = cell {
            sum += counter.to_f64();
        }
    });
    tick.expect("the generation just handed over");
    sum as i64
}

/// The rival.
struct Shared {
    slots: Box<[OnceLock<Entry>]>,
    hasher: foldhash::fast::RandomState,
}

struct Entry {
    hash: u64,
    value: AtomicI64,
    name: Box<[u8]>,
}

/// One thread's way into it.
struct Adder<'a>(&'a Shared);

impl Shared {
    /// A table that is at most half full.
    fn new(series: usize) -> Self {
        let slots = (0..(series * 2).next_power_of_two()).map(|_| OnceLock::new()).collect();
        Self { slots, hasher: foldhash::fast::RandomState::default() }
    }

    fn total(&self) -> i64 {
        self.slots.iter().filter_map(OnceLock::get).map(|entry| entry.value.load(Ordering::Relaxed)).sum()
    }

    #[inline]
    fn add(&self, name: &[u8], n: i64) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        let hash = hasher.finish();
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let entry = match self.slots[at].get() {
                Some(entry) => entry,
                None => {
                    self.slots[at].get_or_init(|| Entry { hash, value: AtomicI64::new(0), name: name.into() })
                }
            };
            if entry.hash == hash && is_same(&entry.name, name) {
                entry.value.fetch_add(n, Ordering::Relaxed);
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

/// As our own table compares names: the system's memcmp would cost the rival more.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_end), Some(b_end)) if a.len() == b.len() => {
            let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            a_end == b_end && a.iter().zip(b).all(|(a, b)| a == b)
        }
        _ => a == b,
    }
}

impl Visitor for Adder<'_> {
    #[inline]
    fn sample(&mut self, sample: &Sample<'_>) {
        let Value::Count(Number::Decimal { mantissa, places: 0 }) = sample.value else {
            panic!("the traffic is whole counts");
        };
        self.0.add(sample.name, mantissa);
    }

    fn refused(&mut self, reason: Refusal) {
        panic!("refused: {reason:?}");
    }

    fn field_ignored(&mut self) {}

    fn event(&mut self) {}

    fn service_check(&mut self) {}
}

fn count_shared(table: &Shared, grammar: Grammar, mut rest: &[u8]) {
    while let Some(end) = memchr::memchr(b'\n', rest) {
        statsd::line(grammar, &rest[..end], &mut Adder(table));
        rest = &rest[end + 1..];
    }
}

fn shared(traffic: &[Packets], lines: usize, series: usize) -> (Duration, i64) {
    let grammar = Config::default().ingest.grammar;
    let table = Shared::new(series);
    for packet in traffic.iter().flatten() {
        count_shared(&table, grammar, packet);
    }
    let before = table.total();
    let count = |_| -> Count<'_> { Box::new(|packet| count_shared(&table, grammar, packet)) };
    let time = race(traffic, lines, traffic.iter().map(count).collect());
    (time, table.total() - before)
}

/// Keeps this thread on one core; where there is no such core nothing changes.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        sched_setaffinity(Pid::from_raw(0), &cores).ok();
    }
}
