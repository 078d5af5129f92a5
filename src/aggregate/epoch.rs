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
//! The protocol itself, whatever is handed over, is in `handover.rs`.

use super::handover::{self, Giver, Taker};
use super::index::Index;
use super::table::{Cell, Example, Generation, Table};
use super::{Options, Registry, Sent, make_room};
use crate::clock::WallMs;
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::{Bounds, Kind, Series};
use crate::sys::Waker;
use crate::wire::statsd::Sample;
use std::net::IpAddr;
use std::sync::Arc;

pub use super::handover::Epoch;

/// An ingest thread's end: counts samples, hands over when asked.
#[derive(Debug)]
pub struct Recorder {
    table: Table,
    giver: Giver<Generation>,
}

/// The flusher's end.
#[derive(Debug)]
pub struct Collector {
    taker: Taker<Generation>,
    waker: Arc<Waker>,
    /// Series by slot, for each kind: what `fresh` has told so far.
    series: [Vec<Series>; Kind::ALL.len()],
    registry: Arc<Registry>,
    bounds: Bounds,
    /// Generations whose memory is for slots that were given up, and is let go when they are back.
    outgrown: u8,
    renewed_at: WallMs,
}

/// What one thread has counted since its last hand-over, beside the values themselves.
#[derive(Debug)]
pub struct Tick {
    /// The number of the tick in which it was handed over ([`Epoch::advance`]).
    pub number: u64,
    /// What the thread has seen.
    pub intake: Intake,
    /// The first refused line of each reason.
    pub examples: Vec<Example>,
    /// Who sent what.
    pub senders: Vec<(IpAddr, Sent)>,
}

/// Both ends of a hand-over; `waker` wakes the ingest thread.
#[must_use]
pub fn pair(
    options: Arc<Options>,
    registry: Arc<Registry>,
    epoch: Arc<Epoch>,
    waker: Arc<Waker>,
) -> (Recorder, Collector) {
    let (giver, taker) = handover::ends(epoch, Generation::default());
    let renewed_at = giver.now();
    let bounds = options.bounds;
    let recorder = Recorder { table: Table::new(options, Arc::clone(&registry)), giver };
    let series = std::array::from_fn(|_| Vec::new());
    (recorder, Collector { taker, waker, series, registry, bounds, outgrown: 0, renewed_at })
}

impl Recorder {
    /// Whether a tick has begun: to be asked once for each receive batch. One atomic load.
    #[inline]
    #[must_use]
    pub fn tick_begun(&self) -> bool {
        self.giver.tick_begun()
    }

    /// Counts one sample.
    #[inline]
    pub fn record(&mut self, sample: &Sample<'_>) -> Result<(), Refusal> {
        self.table.record(sample, self.giver.now())
    }

    /// What this thread has seen since its last hand-over.
    #[inline]
    pub fn intake(&mut self) -> &mut Intake {
        &mut self.table.generation.intake
    }

    /// Whether there is room in this generation for so many more series under timestamps of their own.
    #[must_use]
    pub fn has_timed_room(&self, more: usize) -> bool {
        self.table.generation.timed_len() + more <= limits::TIMED_TALLIES_MAX
    }

    /// What was counted and refused since the last hand-over, to be compared with after a datagram.
    #[inline]
    #[must_use]
    pub fn sent(&self) -> Sent {
        let Intake { samples, refused_total, series_made, .. } = self.table.generation.intake;
        Sent { samples, refused: refused_total, series_made }
    }

    /// Notes whose datagram it was that made the difference to `before`.
    #[inline]
    pub fn sent_by(&mut self, from: IpAddr, before: Sent) {
        let after = self.sent();
        self.table.generation.senders.add(from, before, after);
    }

    /// Counts a refusal and keeps the first of each reason to be shown.
    #[cold]
    pub fn refuse(&mut self, reason: Refusal, sender: &dyn std::fmt::Display, line: &[u8]) {
        self.refuse_many(reason, 1, sender, line);
    }

    /// Counts so many refusals and keeps the first of each reason to be shown.
    #[cold]
    pub fn refuse_many(&mut self, reason: Refusal, count: u64, sender: &dyn std::fmt::Display, line: &[u8]) {
        let generation = &mut self.table.generation;
        generation.intake.refuse_many(reason, count);
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
        self.giver.hand_over_last(std::mem::take(&mut self.table.generation));
    }

    /// Hands over what was counted since the last time, if the generation before that is back.
    #[cold]
    pub fn hand_over(&mut self) {
        let Table { generation, index, registry, .. } = &mut self.table;
        self.giver.hand_over(generation, |full, renew| {
            if renew {
                *index = Index::new(Arc::clone(registry));
                full.renewed = true;
            }
        });
        self.table.look_at_bounds();
    }
}

impl Collector {
    /// Wakes the thread, which may be waiting for its socket.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// What the thread has handed over, if it has. `visit` gets each touched series with its value, and the
    /// time of the sample if it had one of its own: one after another, so that a million of them are not held
    /// twice.
    pub fn take(&mut self, mut visit: impl FnMut(&Series, Option<WallMs>, Cell)) -> Option<Tick> {
        let (number, mut generation) = self.taker.take()?;
        for (series, fresh) in self.series.iter_mut().zip(&mut generation.fresh) {
            let mut fresh = std::mem::take(fresh);
            make_room(series, fresh.len());
            series.append(&mut fresh);
        }
        let renewed = generation.renewed;
        generation.drain(self.registry.bounds(self.bounds).timer_exact_max, |kind, slot, time, cell| {
            let series = self.series.get(kind as usize).and_then(|series| series.get(slot as usize));
            visit(
                series.unwrap_or_else(|| unreachable!("a slot is announced before it is used")),
                time,
                cell,
            );
        });
        let tick = Tick {
            number,
            intake: std::mem::take(&mut generation.intake),
            examples: std::mem::take(&mut generation.examples),
            senders: generation.senders.drain(),
        };
        if renewed {
            self.series.iter_mut().for_each(|series| *series = Vec::new());
            self.outgrown = handover::GENERATIONS as u8;
        }
        if self.outgrown > 0 {
            self.outgrown -= 1;
            generation = Generation::default();
        }
        self.taker.give_back(generation);
        Some(tick)
    }

    /// Tells the thread to learn its names anew, if it has had its index for longer than `age_ms`.
    pub fn renew_after(&mut self, now: WallMs, age_ms: i64) -> bool {
        let due = now - self.renewed_at >= age_ms;
        if due {
            self.renewed_at = now;
            self.taker.renew();
        }
        due
    }
}
