//! One ingest thread's own table: raw name to slot, and the values of the running tick.
//!
//! Two parts with two lives. The *index* stays with its thread: it maps the bytes of a name and its tags, as
//! sent, to a slot, so that cleaning and sorting happen once for each distinct raw name and not for each
//! line. The *generation* holds the values by slot and is handed over whole at the tick; the next one comes
//! back drained, its memory kept, so a known series allocates nothing.
//!
//! ```text
//!   index                                    generation (one column for each kind)
//!   hash(kind, name, tags) ─▶ Entry ─ slot ─▶ cells [ 0 | 17 | 3 | … ]   touched 0b110
//!                              └─▶ arena: the raw bytes, compared on every hit
//! ```

use super::Options;
use super::columns::{Column, Counters, Times};
use super::index::Index;
use super::registry::Registry;
use crate::clock::{self, WallMs};
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::gauge::Change;
use crate::metric::unique::hash_member;
use crate::metric::{Digest, Kind, Series, Sum, Unique};
use crate::wire::Dialect;
use crate::wire::statsd::{Sample, Value};
use hashbrown::HashMap;
use std::sync::Arc;

/// One value of a tick; the larger kinds are boxed, as in a tally.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Of a counter.
    Counter(Sum),
    /// Of a timer.
    Timer(Box<Digest>),
    /// Of a gauge, with the moment of its last change (monotonic nanoseconds), by which the changes of
    /// several threads are put in order.
    Gauge(Change, u64),
    /// Of a set.
    Set(Box<Unique>),
}

impl Cell {
    fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Sum::ZERO),
            Kind::Timer => Self::Timer(Box::default()),
            Kind::Gauge => Self::Gauge(Change::NONE, 0),
            Kind::Set => Self::Set(Box::default()),
        }
    }

    fn record(&mut self, sample: &Sample<'_>, options: &Options) {
        match (self, sample.value) {
            (Self::Counter(sum), Value::Count(number)) => sum.add_weighted(number, sample.weight),
            (Self::Timer(digest), Value::Time(value)) => {
                let inside = weight_inside(sample.weight, options);
                digest.record(value, sample.weight, inside, options.bounds.timer_exact_max);
            }
            (Self::Gauge(change, _), Value::Set(value)) => change.set(value),
            (Self::Gauge(change, _), Value::Add(delta)) => change.add(delta),
            (Self::Set(set), Value::Member(member)) => record_member(set, member, options),
            (cell, value) => panic!("a {:?} was looked up for a {:?}", cell, value.kind()),
        }
    }
}

/// What a timer's value weighs in the distribution.
#[inline]
fn weight_inside(weight: f64, options: &Options) -> f64 {
    if options.dialect == Dialect::Statsd { 1.0 } else { weight }
}

/// The original reads lines as text, so that bytes which are not UTF-8 are all the same to it.
fn record_member(set: &mut Unique, member: &[u8], options: &Options) {
    let hash = match options.dialect {
        Dialect::Statsd => hash_member(&options.set_salt, String::from_utf8_lossy(member).as_bytes()),
        Dialect::Native => hash_member(&options.set_salt, member),
    };
    set.insert(hash, options.bounds.set_exact_max);
}

/// A refused line, kept to be shown: the first of its reason in a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Why.
    pub reason: Refusal,
    /// Who sent it, as text.
    pub sender: String,
    /// How it began.
    pub excerpt: Vec<u8>,
}

/// The values of one tick of one thread.
#[derive(Debug, Default)]
pub(super) struct Generation {
    counters: Counters,
    timers: Column<Times>,
    gauges: Column<(Change, u64)>,
    sets: Column<Unique>,
    /// Samples with a timestamp of their own, by kind, slot and time: the start of their bucket, and for
    /// gauges, whose changes have an order, the timestamp itself.
    timed: HashMap<(Kind, u32, WallMs), Cell>,
    /// Its keys as they came: what is drained must have an order of its own, not the hash's.
    timed_keys: Vec<(Kind, u32, WallMs)>,
    /// Series that got a slot in this tick, in the order of their slots.
    pub(super) fresh: [Vec<Series>; Kind::ALL.len()],
    pub(super) intake: Intake,
    pub(super) examples: Vec<Example>,
    /// The index was dropped after this generation: slots start from zero again.
    pub(super) renewed: bool,
}

impl Generation {
    /// Hands every value out and is empty again. The time is that of the sample, if it had one.
    pub(super) fn drain(
        &mut self,
        timer_exact_max: usize,
        mut visit: impl FnMut(Kind, u32, Option<WallMs>, Cell),
    ) {
        self.counters.drain(|slot, sum| visit(Kind::Counter, slot, None, Cell::Counter(sum)));
        self.timers.drain_times(timer_exact_max, |slot, digest| {
            visit(Kind::Timer, slot, None, Cell::Timer(Box::new(digest)));
        });
        self.gauges.drain(|slot, (change, at)| visit(Kind::Gauge, slot, None, Cell::Gauge(change, at)));
        self.sets.drain(|slot, set| visit(Kind::Set, slot, None, Cell::Set(Box::new(set))));
        for key in self.timed_keys.drain(..) {
            if let Some(cell) = self.timed.remove(&key) {
                let (kind, slot, time) = key;
                visit(kind, slot, Some(time), cell);
            }
        }
        self.timed.clear();
        self.renewed = false;
    }
}

/// Index and running generation of one thread.
#[derive(Debug)]
pub(super) struct Table {
    options: Arc<Options>,
    registry: Arc<Registry>,
    pub(super) index: Index,
    pub(super) generation: Generation,
}

impl Table {
    pub(super) fn new(options: Arc<Options>, registry: Arc<Registry>) -> Self {
        Self { options, registry, index: Index::new(), generation: Generation::default() }
    }

    /// Every value of a table that was used once, with its series.
    pub(super) fn into_cells(mut self, timer_exact_max: usize) -> Vec<(Series, Option<WallMs>, Cell)> {
        let series = std::mem::take(&mut self.generation.fresh);
        let mut cells = Vec::new();
        self.generation.drain(timer_exact_max, |kind, slot, time, cell| {
            if let Some(series) = series.get(kind as usize).and_then(|series| series.get(slot as usize)) {
                cells.push((series.clone(), time, cell));
            }
        });
        cells
    }

    /// Counts one sample; `now` is the time of the tick.
    #[inline]
    pub(super) fn record(&mut self, sample: &Sample<'_>, now: WallMs) -> Result<(), Refusal> {
        let kind = sample.value.kind();
        let hash = self.index.hash(kind, sample);
        let slot = match self.index.find(hash, kind, sample) {
            Some(slot) => slot,
            None => self.learn(hash, kind, sample)?,
        };
        if let Some(seconds) = sample.timestamp {
            return self.record_timed(sample, kind, slot, seconds, now);
        }
        let generation = &mut self.generation;
        match sample.value {
            Value::Count(number) => generation.counters.add(slot, number, sample.weight),
            Value::Time(value) => {
                let inside = weight_inside(sample.weight, &self.options);
                let exact_max = self.options.bounds.timer_exact_max;
                generation.timers.touch(slot).record(value, sample.weight, inside, exact_max);
            }
            Value::Set(value) => {
                let (change, at) = generation.gauges.touch(slot);
                change.set(value);
                *at = clock::monotonic_nanos();
            }
            Value::Add(delta) => {
                let (change, at) = generation.gauges.touch(slot);
                change.add(delta);
                *at = clock::monotonic_nanos();
            }
            Value::Member(member) => {
                record_member(generation.sets.touch(slot), member, &self.options);
            }
        }
        Ok(())
    }

    #[cold]
    fn learn(&mut self, hash: u32, kind: Kind, sample: &Sample<'_>) -> Result<u32, Refusal> {
        if self.index.len() >= self.options.series_max.saturating_mul(limits::RAW_NAMES_PER_SERIES) {
            return Err(Refusal::SeriesLimit);
        }
        let key = self.options.names.key(sample.name, sample.tags)?;
        let series = self.registry.intern(kind, &key)?;
        let slot = if let Some(slot) = self.index.gauge(&series) {
            slot
        } else {
            let slot = self.index.next_slot(&series).ok_or(Refusal::SeriesLimit)?;
            if let Some(fresh) = self.generation.fresh.get_mut(kind as usize) {
                fresh.push(series);
            }
            slot
        };
        self.index.learn(hash, kind, sample, slot).ok_or(Refusal::SeriesLimit)?;
        Ok(slot)
    }

    #[cold]
    fn record_timed(
        &mut self,
        sample: &Sample<'_>,
        kind: Kind,
        slot: u32,
        seconds: i64,
        now: WallMs,
    ) -> Result<(), Refusal> {
        let time = seconds * 1_000;
        if time > now + limits::TIMESTAMP_AHEAD_MS_MAX {
            return Err(Refusal::TooEarly);
        }
        if self.options.bucket.start_of(time) + self.options.bucket.ms() + self.options.amend_window_ms <= now
        {
            return Err(Refusal::TooLate);
        }
        let key = (kind, slot, if kind == Kind::Gauge { time } else { self.options.bucket.start_of(time) });
        let timed = &mut self.generation.timed;
        if timed.len() >= limits::TIMED_TALLIES_MAX && !timed.contains_key(&key) {
            return Err(Refusal::TimedLimit);
        }
        let keys = &mut self.generation.timed_keys;
        let empty = || {
            keys.push(key);
            Cell::empty(kind)
        };
        timed.entry(key).or_insert_with(empty).record(sample, &self.options);
        Ok(())
    }
}
