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
use super::overflow;
use super::registry::{Placed, Registry};
use super::senders::Senders;
use crate::clock::{self, WallMs};
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::gauge::Change;
use crate::metric::unique::hash_member;
use crate::metric::{Bounds, Digest, Kind, Series, Sum, Unique};
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

    fn record(&mut self, sample: &Sample<'_>, options: &Options, bounds: Bounds) {
        match (self, sample.value) {
            (Self::Counter(sum), Value::Count(number)) => sum.add_weighted(number, sample.weight),
            (Self::Timer(digest), Value::Time(value)) => {
                let inside = weight_inside(sample.weight, options);
                digest.record(value, sample.weight, inside, bounds.timer_exact_max);
            }
            (Self::Gauge(change, _), Value::Set(value)) => change.set(value),
            (Self::Gauge(change, _), Value::Add(delta)) => change.add(delta),
            (Self::Set(set), Value::Member(member)) => record_member(set, member, options, bounds),
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
fn record_member(set: &mut Unique, member: &[u8], options: &Options, bounds: Bounds) {
    let hash = match options.dialect {
        Dialect::Statsd => hash_member(&options.set_salt, String::from_utf8_lossy(member).as_bytes()),
        Dialect::Native => hash_member(&options.set_salt, member),
    };
    set.insert(hash, bounds.set_exact_max);
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
    pub(super) senders: Senders,
    /// The index was dropped after this generation: slots start from zero again.
    pub(super) renewed: bool,
}

impl Generation {
    /// Series with samples under timestamps of their own, each bucket of one for itself.
    pub(super) fn timed_len(&self) -> usize {
        self.timed.len()
    }

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
    pub(super) registry: Arc<Registry>,
    pub(super) index: Index,
    pub(super) generation: Generation,
    /// Up to where timers and sets are exact in this tick.
    pub(super) bounds: Bounds,
}

impl Table {
    pub(super) fn new(options: Arc<Options>, registry: Arc<Registry>) -> Self {
        let (bounds, index) = (options.bounds, Index::new(Arc::clone(&registry)));
        Self { options, registry, index, generation: Generation::default(), bounds }
    }

    /// How many samples were counted in overflow series since the last hand-over.
    pub(super) fn overflowed(&self) -> u64 {
        self.generation.intake.overflow
    }

    /// Up to where timers and sets are exact from now on.
    pub(super) fn look_at_bounds(&mut self) {
        self.bounds = self.registry.bounds(self.options.bounds);
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
        match self.index.find(hash, kind, sample) {
            Some(slot) => self.record_at(slot, kind, sample, now),
            None => self.record_new(hash, kind, sample, now),
        }
    }

    #[inline]
    fn record_at(&mut self, slot: u32, kind: Kind, sample: &Sample<'_>, now: WallMs) -> Result<(), Refusal> {
        if let Some(seconds) = sample.timestamp {
            return self.record_timed(sample, kind, slot, seconds, now);
        }
        let generation = &mut self.generation;
        match sample.value {
            Value::Count(number) => generation.counters.add(slot, number, sample.weight),
            Value::Time(value) => {
                let inside = weight_inside(sample.weight, &self.options);
                let exact_max = self.bounds.timer_exact_max;
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
                record_member(generation.sets.touch(slot), member, &self.options, self.bounds);
            }
        }
        Ok(())
    }

    /// Counts a sample whose raw name is not known: for its series, which becomes known, or for an overflow series.
    #[cold]
    #[inline(never)]
    fn record_new(&mut self, hash: u32, kind: Kind, sample: &Sample<'_>, now: WallMs) -> Result<(), Refusal> {
        let key = self.options.names.key(sample.name, sample.tags)?;
        if !self.options.is_declared(&key) {
            return Err(Refusal::NotDeclared);
        }
        let bytes = limits::RAW_NAME_BYTES + sample.name.len() + sample.tags.len();
        let names_max = self.options.series_max.saturating_mul(limits::RAW_NAMES_PER_SERIES);
        let room = self.index.len() < names_max && self.index.charge(bytes);
        let placed = self.registry.intern(kind, &key, room);
        if room && placed.is_none() {
            self.index.discharge(bytes);
        }
        if let Some(slot) = placed.and_then(|placed| self.learn(hash, kind, sample, placed, room)) {
            return self.record_at(slot, kind, sample, now);
        }
        let slot = self.overflow(kind, &key)?;
        self.record_at(slot, kind, sample, now)?;
        self.generation.intake.overflow += 1;
        self.registry.shed(&key);
        Ok(())
    }

    /// The slot of a series that has a place. `None` where there is no room for its raw name; what figures name
    /// is then counted without one.
    fn learn(
        &mut self,
        hash: u32,
        kind: Kind,
        sample: &Sample<'_>,
        placed: Placed,
        room: bool,
    ) -> Option<u32> {
        let Placed { series, declared, made } = placed;
        self.generation.intake.series_made += u64::from(made);
        let slot = match self.index.slot(&series) {
            Some(slot) => slot,
            None if room || declared => self.new_slot(series, !room)?,
            None => return None,
        };
        if room {
            // Where four gigabytes of names are reached it is found by its series the next time.
            self.index.learn(hash, kind, sample, slot)?;
        }
        Some(slot)
    }

    fn new_slot(&mut self, series: Series, found: bool) -> Option<u32> {
        let kind = series.kind();
        let slot = self.index.next_slot(&series, found)?;
        if let Some(fresh) = self.generation.fresh.get_mut(kind as usize) {
            fresh.push(series);
        }
        Some(slot)
    }

    /// The slot of the overflow series that counts for a key.
    fn overflow(&mut self, kind: Kind, key: &str) -> Result<u32, Refusal> {
        let first = overflow::first_component(key);
        if let Some(slot) = self.index.overflow(kind, first.unwrap_or_default()) {
            return Ok(slot);
        }
        let (series, for_it_alone) = self.registry.overflow(kind, first);
        let slot = match self.index.slot(&series) {
            Some(slot) => slot,
            None => self.new_slot(series, true).ok_or(Refusal::SeriesLimit)?,
        };
        if for_it_alone {
            self.index.learn_overflow(kind, first.unwrap_or_default(), slot);
        }
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
        timed.entry(key).or_insert_with(empty).record(sample, &self.options, self.bounds);
        Ok(())
    }
}
