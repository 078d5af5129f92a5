//! The hand-over at the tick, without a lock.
//!
//! ```text
//!   flusher                                         ingest thread
//!   epoch.number += 1  ──── wake (socket pair) ────▶ once per receive batch: one load of epoch.number
//!                                                   changed: take a spare, swap, push the full one
//!   Collector::take  ◀──── ring of generations ──── (it goes on counting into the spare at once)
//!   drain into batches
//!   give back        ───── ring of spares ────────▶
//! ```
//!
//! There are two generations for each thread: one it counts into, one that is being drained or waits as a
//! spare. If the spare is not back yet the thread goes on counting into the old one and tries again with its
//! next batch: nothing is lost, it is in the next tick. Nobody ever waits for the other.

use super::table::{Cell, Example, Generation, Index, Table};
use super::{Options, Registry};
use crate::clock::WallMs;
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::{Kind, Series};
use crate::sys::Waker;
use crate::wire::statsd::Sample;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::Thread;

/// Generations of one thread.
const GENERATIONS: usize = 2;

/// The number of the tick, shared by the flusher and all ingest threads.
#[derive(Debug)]
pub struct Epoch {
    /// Written by the flusher only. Release there, acquire here: who sees the number sees `now_ms` too.
    number: AtomicU64,
    /// Wall time of the tick; written before `number`, so it may be newer than the number, never older.
    now_ms: AtomicI64,
    /// The flusher, to be unparked when a generation was pushed.
    flusher: Thread,
}

impl Epoch {
    /// An epoch whose ticks are collected by `flusher`.
    #[must_use]
    pub fn new(now: WallMs, flusher: Thread) -> Arc<Self> {
        Arc::new(Self { number: AtomicU64::new(0), now_ms: AtomicI64::new(now), flusher })
    }

    /// Begins a tick.
    pub fn advance(&self, now: WallMs) {
        self.now_ms.store(now, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Release);
    }
}

/// What both ends of one hand-over share.
#[derive(Debug)]
struct Shared {
    /// Set by the flusher when the thread shall learn its names anew; read and cleared at a hand-over. It
    /// orders nothing: a tick sooner or later does not matter.
    renew: AtomicBool,
}

/// An ingest thread's end: counts samples, hands over when asked.
#[derive(Debug)]
pub struct Recorder {
    table: Table,
    epoch: Arc<Epoch>,
    seen: u64,
    now: WallMs,
    full: Producer<Generation>,
    spares: Consumer<Generation>,
    shared: Arc<Shared>,
}

/// The flusher's end.
#[derive(Debug)]
pub struct Collector {
    full: Consumer<Generation>,
    spares: Producer<Generation>,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    /// Series by slot, for each kind: what `fresh` has told so far.
    series: [Vec<Series>; Kind::ALL.len()],
    renewed_at: WallMs,
}

/// What one thread has counted since its last hand-over.
#[derive(Debug)]
pub struct Tick {
    /// Each touched series with its value, and the time of the sample if it had one of its own.
    pub cells: Vec<(Series, Option<WallMs>, Cell)>,
    /// What the thread has seen.
    pub intake: Intake,
    /// The first refused line of each reason.
    pub examples: Vec<Example>,
}

/// Both ends of a hand-over; `waker` wakes the ingest thread.
#[must_use]
pub fn pair(
    options: Arc<Options>,
    registry: Arc<Registry>,
    epoch: Arc<Epoch>,
    waker: Arc<Waker>,
) -> (Recorder, Collector) {
    let (full_in, full_out) = RingBuffer::new(GENERATIONS);
    let (mut spares_in, spares_out) = RingBuffer::new(GENERATIONS);
    // The ring is new and holds two: there is room for one.
    let pushed = spares_in.push(Generation::default()).is_ok();
    debug_assert!(pushed, "a new ring has room");
    let shared = Arc::new(Shared { renew: AtomicBool::new(false) });
    let now = epoch.now_ms.load(Ordering::Relaxed);
    let seen = epoch.number.load(Ordering::Acquire);
    let table = Table::new(options, registry);
    let recorder =
        Recorder { table, epoch, seen, now, full: full_in, spares: spares_out, shared: Arc::clone(&shared) };
    let series = std::array::from_fn(|_| Vec::new());
    (recorder, Collector { full: full_out, spares: spares_in, shared, waker, series, renewed_at: now })
}

impl Recorder {
    /// Whether a tick has begun: to be asked once for each receive batch. One atomic load.
    #[inline]
    #[must_use]
    pub fn tick_begun(&self) -> bool {
        self.epoch.number.load(Ordering::Acquire) != self.seen
    }

    /// Counts one sample.
    #[inline]
    pub fn record(&mut self, sample: &Sample<'_>) -> Result<(), Refusal> {
        self.table.record(sample, self.now)
    }

    /// What this thread has seen since its last hand-over.
    #[inline]
    pub fn intake(&mut self) -> &mut Intake {
        &mut self.table.generation.intake
    }

    /// Counts a refusal and keeps the first of each reason to be shown.
    #[cold]
    pub fn refuse(&mut self, reason: Refusal, sender: &dyn std::fmt::Display, line: &[u8]) {
        let generation = &mut self.table.generation;
        generation.intake.refuse(reason);
        if generation.examples.iter().all(|example| example.reason != reason) {
            let excerpt = line.iter().take(limits::REFUSED_EXCERPT_BYTES).copied().collect();
            generation.examples.push(Example { reason, sender: sender.to_string(), excerpt });
        }
    }

    /// Hands over for the last time.
    pub fn finish(mut self) {
        self.hand_over_last();
    }

    /// Hands over what there is, spare or not; whatever is counted after this is lost.
    pub fn hand_over_last(&mut self) {
        let last = std::mem::take(&mut self.table.generation);
        // Two generations, a ring of two: there is room.
        let pushed = self.full.push(last).is_ok();
        debug_assert!(pushed, "a thread has no more generations than its ring holds");
        self.epoch.flusher.unpark();
    }

    /// Hands over what was counted since the last time, if the generation before that is back.
    #[cold]
    pub fn hand_over(&mut self) {
        let Ok(spare) = self.spares.pop() else {
            return;
        };
        // The number is read again before the time: who sees the newer number sees its time.
        self.seen = self.epoch.number.load(Ordering::Acquire);
        self.now = self.epoch.now_ms.load(Ordering::Relaxed);
        let mut full = std::mem::replace(&mut self.table.generation, spare);
        if self.shared.renew.swap(false, Ordering::Relaxed) {
            self.table.index = Index::new();
            full.renewed = true;
        }
        let pushed = self.full.push(full).is_ok();
        debug_assert!(pushed, "a thread has no more generations than its ring holds");
        self.epoch.flusher.unpark();
    }
}

impl Collector {
    /// Wakes the thread, which may be waiting for its socket.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// What the thread has handed over, if it has.
    pub fn take(&mut self) -> Option<Tick> {
        let mut generation = self.full.pop().ok()?;
        for (series, fresh) in self.series.iter_mut().zip(&mut generation.fresh) {
            series.append(fresh);
        }
        let renewed = generation.renewed;
        let mut cells = Vec::new();
        generation.drain(|kind, slot, time, cell| {
            let series = self.series.get(kind as usize).and_then(|series| series.get(slot as usize));
            let series = series.unwrap_or_else(|| unreachable!("a slot is announced before it is used"));
            cells.push((series.clone(), time, cell));
        });
        let tick = Tick {
            cells,
            intake: std::mem::take(&mut generation.intake),
            examples: std::mem::take(&mut generation.examples),
        };
        if renewed {
            self.series.iter_mut().for_each(Vec::clear);
        }
        // The thread is gone if it takes no more spares; its last generation needs none.
        drop(self.spares.push(generation));
        Some(tick)
    }

    /// Tells the thread to learn its names anew, if it has had its index for longer than `age_ms`.
    pub fn renew_after(&mut self, now: WallMs, age_ms: i64) -> bool {
        let due = now - self.renewed_at >= age_ms;
        if due {
            self.renewed_at = now;
            self.shared.renew.store(true, Ordering::Relaxed);
        }
        due
    }
}
