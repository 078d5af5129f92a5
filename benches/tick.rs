//! Question: what does a tick of 100,000 changed series cost the thread that receives, and the processor?
//!
//! One thread counts lines of all the series, round and round, as an ingest thread does: once for each 64 packets it
//! looks whether a tick has begun, and hands over if so. That is its pause. The flusher on the other core takes the
//! generation, makes a batch of it and applies it to the memory store; its time on the processor is the tick's work.
//! Beside it, in one thread and without a store: hand-over and drain into a list alone.
//!
//! Expectation on paper: the swap moves a few hundred bytes and unparks a thread, 5 µs. Of each series the drain
//! reads 8 bytes in order and raises the count of its name's handles, 10 ns; the list takes 64 bytes, 10 ns; the
//! store's look-up misses the cache two or three times, 100 ns: 12 ms in all.
//!
//! It fails where a pause at the 99th percentile passes [`PAUSE_MAX`] or the median of the work [`WORK_MAX`].
//! `cargo bench --bench tick` measures; without `--bench` it runs at toy size and only checks its sums.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::{Collector, Recorder, Registry};
use tallyd::clock::{self, Clock};
use tallyd::config::Config;
use tallyd::flush::{Command, Flusher, Parts, Safe};
use tallyd::health::Books;
use tallyd::ingest::receive::Receiver;
use tallyd::limits::RECEIVE_BATCH;
use tallyd::metric::Ladder;
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::sys::Waker;

const NOW: i64 = 1_700_000_000_000;
const LINES_A_PACKET: usize = 30;
/// Longest pause of the ingest thread, at the 99th percentile.
const PAUSE_MAX: Duration = Duration::from_micros(200);
/// Most time on the processor that a tick takes, at the median.
const WORK_MAX: Duration = Duration::from_millis(25);

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let (series, ticks) = if full { (100_000, 300) } else { (900, 5) };
    let packets = packets(series);
    println!("{series} changed series, {ticks} ticks {:>14} {:>10} {:>10}", "median", "99 %", "longest");
    let mut drains = drains(&packets, series, ticks);
    row("hand-over and drain into a list, ms", 1e3, &mut drains);
    let (mut pauses, mut works) = run(&packets, series, ticks);
    let pause = row("pause of the ingest thread, µs", 1e6, &mut pauses);
    let work = row("flusher's work with the memory store, ms", 1e3, &mut works);
    assert!(!full || pause[1] <= PAUSE_MAX, "the thread paused for {:?}", pause[1]);
    assert!(!full || work[0] <= WORK_MAX, "a tick took {:?} of the processor", work[0]);
}

/// Each series once.
fn packets(series: usize) -> Vec<Vec<u8>> {
    let line = |i: usize| format!("app.web.checkout.signups.{:05x}:{}|c\n", i * 7_919 % series, i % 9);
    let lines: Vec<_> = (0..series).map(line).collect();
    lines.chunks(LINES_A_PACKET).map(|lines| lines.concat().into_bytes()).collect()
}

/// Median, 99th percentile and longest.
fn row(name: &str, units: f64, times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    let figures = [times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]];
    let [median, high, longest] = figures.map(|time| time.as_secs_f64() * units);
    println!("{name:42} {median:10.2} {high:10.2} {longest:10.2}");
    figures
}

fn ends(flusher: thread::Thread) -> (Recorder, Collector, Arc<Epoch>, Arc<Registry>) {
    let options = Arc::new(Config::default().aggregate);
    let epoch = Epoch::new(NOW, flusher);
    let registry = Arc::new(Registry::new(options.series_max));
    let waker = Arc::new(Waker::new().expect("a socket pair"));
    let (recorder, collector) = pair(options, Arc::clone(&registry), Arc::clone(&epoch), waker);
    (recorder, collector, epoch, registry)
}

/// Times of hand-overs and drains in one thread.
fn drains(packets: &[Vec<u8>], series: usize, ticks: usize) -> Vec<Duration> {
    let (recorder, mut collector, epoch, _registry) = ends(thread::current());
    let mut receiver = Receiver::new(recorder, Config::default().ingest.grammar, false);
    let drain = |_| {
        for packet in packets {
            receiver.packet(packet, &"bench");
        }
        let started = clock::monotonic_now();
        epoch.advance(NOW);
        receiver.recorder().hand_over();
        let mut cells = Vec::new();
        collector.take(|series, time, cell| cells.push((series.clone(), time, cell))).expect("a tick");
        let time = clock::elapsed(started);
        assert_eq!(cells.len(), series);
        time
    };
    (0..ticks).map(drain).collect()
}

/// Pauses of an ingest thread, and the flusher's time on the processor in each tick.
fn run(packets: &[Vec<u8>], series: usize, ticks: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (give, parts) = sync_channel::<Parts>(1);
    let (commands, inbox) = sync_channel(1);
    let (tell, told) = sync_channel(1);
    let flusher = thread::spawn(move || {
        pin(0);
        tell.send(gettid()).expect("the bench waits");
        Flusher::new(parts.recv().expect("the parts")).run(&inbox);
    });
    let (recorder, collector, epoch, registry) = ends(flusher.thread().clone());
    let books = Arc::new(Books::default());
    give.send(flusher_parts(collector, epoch, registry, Arc::clone(&books))).expect("the flusher waits");
    let flusher_id = told.recv().expect("its number");
    let stop = AtomicBool::new(false);
    let (pauses, works) = thread::scope(|scope| {
        let ingest = scope.spawn(|| ingest(recorder, packets, &stop));
        // Two ticks in which names are learned and generations grow.
        let works = (0..ticks + 2).map(|_| work(flusher_id, &commands)).skip(2).collect();
        stop.store(true, Ordering::Relaxed);
        (ingest.join().expect("the ingest thread"), works)
    });
    tell_flusher(&commands, Command::Drain);
    flusher.join().expect("the flusher");
    let counted = books.samples.load(Ordering::Relaxed);
    assert!(counted >= (series * ticks) as u64 / 2, "most series change in most ticks: {counted} samples");
    assert_eq!(books.hand_overs_late.load(Ordering::Relaxed), 0, "every tick had its hand-over");
    (pauses, works)
}

fn flusher_parts(
    collector: Collector,
    epoch: Arc<Epoch>,
    registry: Arc<Registry>,
    books: Arc<Books>,
) -> Parts {
    let config = Config::default();
    let rules = Rules {
        ladder: Ladder::single(config.flush.bucket, config.flush.amend_window_ms),
        bounds: config.aggregate.bounds,
        bytes_max: usize::MAX,
        destinations: Vec::new(),
        history: Vec::new(),
        figures: Vec::new(),
    };
    Parts {
        options: config.flush,
        clock: Clock::manual(NOW),
        epoch,
        collectors: vec![collector],
        registry,
        store: Arc::new(EmbeddedStore::in_memory(rules, config.idle)),
        totals: None,
        safe: Safe::default(),
        books,
        own_prefix: "own".to_owned(),
        dialect: config.aggregate.dialect,
        on_sealed: Box::new(|| {}),
        producer: 1,
    }
}

/// Counts until it is stopped; returns how long each hand-over took.
fn ingest(recorder: Recorder, packets: &[Vec<u8>], stop: &AtomicBool) -> Vec<Duration> {
    pin(1);
    let mut receiver = Receiver::new(recorder, Config::default().ingest.grammar, false);
    let mut pauses = Vec::new();
    let mut batches = packets.chunks(RECEIVE_BATCH).cycle();
    while !stop.load(Ordering::Relaxed) {
        let started = clock::monotonic_now();
        if receiver.recorder().tick_begun() {
            receiver.recorder().hand_over();
            pauses.push(clock::elapsed(started));
        }
        for packet in batches.next().into_iter().flatten() {
            receiver.packet(packet, &"bench");
        }
    }
    receiver.finish();
    pauses
}

/// One tick after a pause in which all series change; returns what it took of the processor.
fn work(flusher: Pid, commands: &SyncSender<Command>) -> Duration {
    thread::sleep(Duration::from_millis(20));
    let before = on_processor(flusher);
    tell_flusher(commands, Command::Tick);
    on_processor(flusher).saturating_sub(before)
}

fn tell_flusher(commands: &SyncSender<Command>, command: impl Fn(SyncSender<()>) -> Command) {
    let (done, answer) = sync_channel(1);
    commands.send(command(done)).expect("the flusher lives");
    answer.recv().expect("the flusher answers");
}

/// What the kernel charged to a thread that now sleeps.
fn on_processor(thread: Pid) -> Duration {
    let charged = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("a thread");
    let nanos = charged.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

/// Keeps this thread on one core; where there is no such core nothing changes.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        sched_setaffinity(Pid::from_raw(0), &cores).ok();
    }
}
