//! A known series allocates nothing in its ingest thread: neither its lines nor the hand-over.
//!
//! Counted are this thread's own calls of the allocator. Left out, because they are new things that must be
//! kept somewhere: a name or timestamp never seen, more members of a set or values of a timer in one tick than
//! it ever had, a sketch or HyperLogLog, which a drained series gives away whole, and the first refused line of
//! each reason in a tick. In statsd's dialect a member that is not UTF-8 is copied.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what fails here shall panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::{Collector, Options, Registry};
use tallyd::config::Config;
use tallyd::ingest::receive::Receiver;
use tallyd::sys::Waker;
use tallyd::wire::Dialect;
use tallyd::wire::statsd::Grammar;

const TICKS: i64 = 20;
/// Two generations, each of which has to have grown.
const WARM_UP_TICKS: i64 = 4;
const STARTED: i64 = 1_700_000_000_000;

struct Side {
    epoch: Arc<Epoch>,
    receiver: Receiver,
    collector: Collector,
    now: i64,
}

impl Side {
    fn new(dialect: Dialect, salt: &[u8]) -> Self {
        let mut config = Config::default();
        config.aggregate.dialect = dialect;
        config.aggregate.set_salt = salt.to_vec();
        let grammar = Grammar { dialect, ..config.ingest.grammar };
        let options: Options = config.aggregate;
        let epoch = Epoch::new(STARTED, thread::current());
        let waker = Arc::new(Waker::new().unwrap());
        let registry = Arc::new(Registry::new(options.series_max));
        let (recorder, collector) = pair(Arc::new(options), registry, Arc::clone(&epoch), waker);
        Self { epoch, receiver: Receiver::new(recorder, grammar, false), collector, now: STARTED }
    }

    /// One tick of packets; returns how often the ingest side asked the allocator for memory, and its samples
    /// and refusals.
    fn tick(&mut self, packets: &[Vec<u8>]) -> (u64, u64, u64) {
        self.now += 1_000;
        self.epoch.advance(self.now);
        let sender = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let receiver = &mut self.receiver;
        let used = allocation_counter::measure(|| {
            for packet in packets {
                receiver.packet(packet, &sender);
            }
            assert!(receiver.recorder().tick_begun());
            receiver.recorder().hand_over();
        });
        let tick = self.collector.take(|_, _, _| {}).expect("the spare was back");
        (used.count_total, tick.intake.samples, tick.intake.refused.iter().sum())
    }
}

/// Lines of 200 series of every kind, 25 lines a packet, the same series in another order every time.
fn packets(seed: usize, line: impl Fn(usize, usize) -> String) -> Vec<Vec<u8>> {
    let lines: Vec<_> = (0..2_000).map(|i| line((i * 7 + seed) % 200, i + seed)).collect();
    lines.chunks(25).map(|lines| lines.join("\n").into_bytes()).collect()
}

fn allocations(dialect: Dialect, line: impl Fn(usize, usize) -> String) -> Vec<u64> {
    allocations_of(Side::new(dialect, b""), line)
}

fn allocations_of(mut side: Side, line: impl Fn(usize, usize) -> String) -> Vec<u64> {
    for tick in 0..WARM_UP_TICKS {
        let (_, samples, refused) = side.tick(&packets(tick as usize, &line));
        assert!(samples + refused >= 2_000, "{samples} samples, {refused} refused");
    }
    (0..TICKS).map(|tick| side.tick(&packets(tick as usize, &line)).0).collect()
}

type Line = fn(usize, usize) -> String;

/// What one value of a known series may look like.
const LINES: [(&str, Line); 11] = [
    ("counter", |series, i| format!("shop.orders.{series}:{}|c", i % 9)),
    ("money", |series, i| format!("shop.revenue.{series}:{}.{:02}|c", i % 300, i % 100)),
    ("gauge", |series, i| format!("shop.queue.{series}:{}|g", i % 50)),
    ("gauge, moved", |series, i| format!("shop.level.{series}:{}{}|g", ["+", "-"][i % 2], i % 50)),
    ("timer", |series, i| format!("shop.latency.{series}:{}.5|ms", i % 700)),
    ("set", |series, i| format!("shop.visitors.{series}:user-{}|s", i % 8)),
    ("tagged", |series, i| format!("shop.paid:{}|c|#till:{series},lang:de", i % 9)),
    ("packed", |series, i| format!("shop.steps.{series}:{}:2:3.25|h", i % 9)),
    ("sampled", |series, i| format!("shop.hits.{series}:{}|c|@0.1", i % 9)),
    ("timer, sampled", |series, i| format!("shop.slow.{series}:{}|ms|@0.5|#a:b", i % 9)),
    ("long number", |series, i| format!("shop.long.{series}:0.1234567890123456789{}e3|c", i % 9)),
];

#[test]
fn a_known_series_allocates_nothing() {
    for dialect in [Dialect::Native, Dialect::Statsd] {
        for (name, line) in LINES {
            // statsd reads packed values its own way: what follows the first colon has no type.
            if (dialect, name) != (Dialect::Statsd, "packed") {
                assert_eq!(allocations(dialect, line), [0; TICKS as usize], "{name}, {dialect:?}");
            }
        }
    }
}

#[test]
fn all_kinds_at_once_allocate_nothing() {
    let mixed = |series: usize, i: usize| LINES[series % LINES.len()].1(series, i);
    assert_eq!(allocations(Dialect::Native, mixed), [0; TICKS as usize]);
}

/// The first refusal of each reason in a tick is kept to be shown, with its sender and how it began; every
/// other costs nothing.
#[test]
fn refused_lines_allocate_for_their_first_of_a_tick_alone() {
    let bad = |_: usize, i: usize| {
        ["nothing", ":1|c", "a:x|c", "a:1|ms|@0", "a:-1|ms", "a:1|ms|T1"][i % 6].to_owned()
    };
    let counts = allocations(Dialect::Native, bad);
    // Sender, excerpt and the list of examples itself, for each of six reasons.
    assert!(counts.iter().all(|count| (1..=6 * 4).contains(count)), "{counts:?}");
    let mut side = Side::new(Dialect::Native, b"");
    let (first, _, refused) = side.tick(&packets(0, bad));
    assert_eq!(refused, 2_000);
    side.tick(&packets(0, bad));
    let (again, ..) = side.tick(&[packets(0, bad), packets(1, bad), packets(2, bad)].concat());
    assert!(again <= first, "three times the lines: {again} allocations, not {first}");
}

#[test]
fn a_salted_member_allocates_nothing() {
    let side = Side::new(Dialect::Native, b"pepper");
    assert_eq!(allocations_of(side, LINES[5].1), [0; TICKS as usize]);
}

/// Samples with their own time go to a table by time: known times of known series cost nothing either.
#[test]
fn a_timestamp_allocates_nothing_once_known() {
    let counter = |series: usize, i: usize| format!("shop.late.{series}:{}|c|T{}", i % 9, STARTED / 1_000);
    assert_eq!(allocations(Dialect::Native, counter), [0; TICKS as usize]);
}

/// New members of a set and a longer run of values are new: the test can see an allocation where there is one.
#[test]
fn what_is_new_is_counted() {
    let mut side = Side::new(Dialect::Native, b"");
    for tick in 0..WARM_UP_TICKS {
        side.tick(&packets(tick as usize, LINES[4].1));
    }
    assert!(side.tick(&[b"shop.unheard.of:1|c".to_vec()]).0 > 0);
    let more: Vec<u8> = "shop.latency.7:1|ms\n".repeat(200).into_bytes();
    assert!(side.tick(std::slice::from_ref(&more)).0 > 0);
    side.tick(std::slice::from_ref(&more));
    assert_eq!(side.tick(std::slice::from_ref(&more)).0, 0);
}
