//! Question: what do the parts of the hot path cost, each by itself, as criterion measures it?
//!
//! The other benches set what we do beside a floor or a rival in alternating runs and hold it to its target; this one
//! is for work on a part: criterion keeps its last results in `target/criterion` and says whether a change is more
//! than noise.
//!
//! - *parse*: one line to one sample, without a table.
//! - *table*: lines into tables, by threads (one table each, one core each), series, and which of them come: `hot` is
//!   16 of them alone, `cold` each in turn in a scattered order, `zipf` the nth with a weight of 1/n.
//! - *sketch*, *unique*: adding, merging, asking.
//! - *tick*: hand-over and drain of a generation.
//!
//! Answers are checked outside the time. `cargo bench --bench parts` measures, and `-- table` a group; without
//! `--bench` each runs once.

#![expect(clippy::indexing_slicing, reason = "a bench indexes what it made")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::table::Cell;
use tallyd::aggregate::{Collector, Registry};
use tallyd::clock;
use tallyd::config::Config;
use tallyd::health::Refusal;
use tallyd::ingest::receive::Receiver;
use tallyd::limits::SET_EXACT_MAX;
use tallyd::metric::Unique;
use tallyd::metric::sketch::Sketch;
use tallyd::metric::unique::hash_member;
use tallyd::sys::Waker;
use tallyd::wire::statsd::{self, Sample, Visitor};

const NOW: i64 = 1_700_000_000_000;
const LINES_A_PACKET: usize = 30;
/// Series that are hot.
const HOT: usize = 16;
/// The 99th percentile.
const HIGH: f64 = 99.0;

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .without_plots();
    targets = parse, table, sketch, unique, tick
}
criterion_main!(parts);

/// Counts what the parser finds.
#[derive(Default)]
struct Found {
    samples: usize,
    refused: usize,
}

impl Visitor for Found {
    fn sample(&mut self, sample: &Sample<'_>) {
        black_box(sample);
        self.samples += 1;
    }

    fn refused(&mut self, _: Refusal) {
        self.refused += 1;
    }

    fn field_ignored(&mut self) {}

    fn event(&mut self) {}

    fn service_check(&mut self) {}
}

fn parse(criterion: &mut Criterion) {
    let grammar = Config::default().ingest.grammar;
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, line) in [
        ("counter", "app.web.signups.000123:1|c"),
        ("money", "app.web.revenue.000123:149.95|c"),
        ("timer, sampled", "app.web.latency.000123:320|ms|@0.1"),
        ("counter, tagged", "app.web.signups:1|c|#plan:pro,country:de"),
        ("refused", "app.web.signups.000123:one|c"),
    ] {
        let mut found = Found::default();
        statsd::line(grammar, line.as_bytes(), &mut found);
        assert_eq!((found.samples, found.refused), if name == "refused" { (0, 1) } else { (1, 0) }, "{line}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| statsd::line(grammar, black_box(line.as_bytes()), &mut found));
        });
    }
}

/// One ingest thread's end and the flusher's, and the packets that the thread gets.
struct Lane {
    receiver: Receiver,
    collector: Collector,
    packets: Vec<Vec<u8>>,
}

/// Lanes with names of their own order, all of which are known.
fn lanes(epoch: &Arc<Epoch>, threads: usize, series: usize, which: &str) -> Vec<Lane> {
    let config = Config::default();
    let registry = Arc::new(Registry::new(config.aggregate.series_max));
    let options = Arc::new(config.aggregate);
    let lane = |seed| {
        let waker = Arc::new(Waker::new().expect("a socket pair"));
        let (recorder, collector) =
            pair(Arc::clone(&options), Arc::clone(&registry), Arc::clone(epoch), waker);
        let receiver = Receiver::new(recorder, config.ingest.grammar, false);
        let mut lane = Lane { receiver, collector, packets: packets(series, which, seed) };
        for packet in packets(series, "cold", seed).iter().chain(&lane.packets) {
            lane.receiver.packet(packet, &"bench");
        }
        lane.tick(epoch);
        lane
    };
    (0..threads as u64).map(lane).collect()
}

impl Lane {
    fn count(&mut self, packets: usize) -> Duration {
        let started = clock::monotonic_now();
        for packet in self.packets.iter().cycle().take(packets) {
            self.receiver.packet(packet, &"bench");
        }
        clock::elapsed(started)
    }

    /// A tick; the sum of its counters and how many series it held.
    fn tick(&mut self, epoch: &Epoch) -> (f64, usize) {
        epoch.advance(NOW);
        self.receiver.recorder().hand_over();
        let (mut sum, mut series) = (0.0, 0);
        let tick = self.collector.take(|_, _, cell| {
            series += 1;
            if let Cell::Counter(counter) = cell {
                sum += counter.to_f64();
            }
        });
        tick.expect("the generation just handed over");
        (sum, series)
    }
}

/// Packets in which series come in the order of their kind of traffic.
fn packets(series: usize, which: &str, seed: u64) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let weights: Vec<f64> = (1..=series)
        .scan(0.0, |sum, nth| {
            *sum += 1.0 / nth as f64;
            Some(*sum)
        })
        .collect();
    let lines = series.max(60_000);
    let mut pick = |i: usize| match which {
        "hot" => i % HOT,
        "zipf" => {
            let at = random.random::<f64>() * weights[series - 1];
            weights.partition_point(|sum| *sum < at).min(series - 1)
        }
        _ => (i * 7_919 + i / series) % series,
    };
    let lines: Vec<String> = (0..lines).map(|i| format!("app.web.signups.{:06}:1|c\n", pick(i))).collect();
    lines.chunks_exact(LINES_A_PACKET).map(|lines| lines.concat().into_bytes()).collect()
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    for threads in [1, 2] {
        for series in [1_000, 100_000] {
            for which in ["hot", "cold", "zipf"] {
                let epoch = Epoch::new(NOW, thread::current());
                let mut lanes = lanes(&epoch, threads, series, which);
                group.throughput(Throughput::Elements((threads * LINES_A_PACKET) as u64));
                let id = BenchmarkId::new(format!("{threads} threads, {series} series"), which);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|packets| race(&epoch, &mut lanes, packets as usize));
                });
            }
        }
    }
}

/// So many packets in each lane, all at once; the time of the slowest.
fn race(epoch: &Epoch, lanes: &mut [Lane], packets: usize) -> Duration {
    let start = &Barrier::new(lanes.len());
    let slowest = thread::scope(|scope| {
        let lanes = lanes.iter_mut().map(|lane| {
            scope.spawn(move || {
                start.wait();
                lane.count(packets)
            })
        });
        let threads: Vec<_> = lanes.collect();
        threads.into_iter().map(|thread| thread.join().expect("a lane")).max()
    });
    for lane in lanes {
        let (sum, _) = lane.tick(epoch);
        assert_eq!(sum as usize, packets * LINES_A_PACKET, "every line is in a counter");
    }
    slowest.expect("one lane or more")
}

fn sketch(criterion: &mut Criterion) {
    let mut random = SmallRng::seed_from_u64(7);
    let values: Vec<f64> = (0..10_000).map(|_| 10_f64.powf(random.random_range(0.0..4.0))).collect();
    let whole = values.iter().fold(Sketch::default(), |mut sketch, value| {
        sketch.add(*value, 1.0);
        sketch
    });
    let exact = {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[9_899]
    };
    let high = quantile(&whole);
    assert!((high / exact - 1.0).abs() <= 0.02, "{high} is not {exact}");
    let mut group = criterion.benchmark_group("sketch");
    let (mut into, mut next) = (whole.clone(), values.iter().cycle());
    group.bench_function("add", |bencher| {
        bencher.iter(|| into.add(*next.next().expect("without end"), 1.0));
    });
    let mut into = whole.clone();
    group.bench_function("merge", |bencher| bencher.iter(|| into.merge(black_box(&whole))));
    group.bench_function("quantile", |bencher| bencher.iter(|| quantile(black_box(&whole))));
}

/// The value with a hundredth of the weight above it.
fn quantile(sketch: &Sketch) -> f64 {
    let points = sketch.points();
    let all: f64 = points.iter().map(|(_, weight)| weight).sum();
    let mut left = HIGH / 100.0 * all;
    let reached = points.iter().find(|(_, weight)| {
        left -= weight;
        left <= 0.0
    });
    reached.expect("values").0
}

fn unique(criterion: &mut Criterion) {
    let members: Vec<String> = (0..100_000).map(|i| format!("user-{}", i * 7_919 % 1_000_003)).collect();
    let of = |members: &[String]| {
        members.iter().fold(Unique::default(), |mut set, member| {
            set.insert(hash_member(b"", member.as_bytes()), SET_EXACT_MAX);
            set
        })
    };
    let (few, many) = (of(&members[..200]), of(&members));
    assert_eq!(few.count(), 200);
    assert!((many.count() as f64 / 100_000.0 - 1.0).abs() <= 0.03);
    let mut group = criterion.benchmark_group("unique");
    for (name, set) in [("insert, 200 members", &few), ("insert, 100,000 members", &many)] {
        let (mut into, known) = (set.clone(), if set.count() == 200 { 200 } else { members.len() });
        let mut next = members[..known].iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let member = next.next().expect("without end");
                into.insert(hash_member(b"", member.as_bytes()), SET_EXACT_MAX);
            });
        });
    }
    group.bench_function("merge", |bencher| {
        let mut into = many.clone();
        bencher.iter(|| into.merge(black_box(&many).clone(), SET_EXACT_MAX));
    });
    group.bench_function("count", |bencher| bencher.iter(|| black_box(&many).count()));
}

fn tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tick");
    for series in [1_000, 100_000] {
        let epoch = Epoch::new(NOW, thread::current());
        let mut lane = lanes(&epoch, 1, series, "cold").remove(0);
        // Each series once: what is left over of the last packet is none's.
        let whole = series / LINES_A_PACKET;
        group.throughput(Throughput::Elements((whole * LINES_A_PACKET) as u64));
        group.bench_function(BenchmarkId::from_parameter(series), |bencher| {
            bencher.iter_custom(|ticks| {
                let mut time = Duration::ZERO;
                for _ in 0..ticks {
                    lane.count(whole);
                    let started = clock::monotonic_now();
                    let (_, changed) = lane.tick(&epoch);
                    time += clock::elapsed(started);
                    assert_eq!(changed, whole * LINES_A_PACKET);
                }
                time
            });
        });
    }
}
