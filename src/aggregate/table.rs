//! One ingest thread's own table: raw name to slot, and the values of the running tick.
//!
//! Two parts with two lives. The *index* stays with its thread: it maps the bytes of a name and its tags, as
//! sent, to a slot, so that cleaning and sorting happen once for each distinct raw name and not for each
//! line. The *generation* holds the values by slot and is handed over whole at the tick; the next one comes
//! back drained, its memory kept, so a known series allocates nothing.
//!
//! ```text
//!   index                                    generation (one column for each kind)
//!   hash(kind, name, tags) ─▶ Entry ─ slot ─▶ cells [ 0 | 17 | 3 | … ]   touched [ 1, 2 ]   bits 0b110
//!                              └─▶ arena: the raw bytes, compared on every hit
//! ```
//!
//! Shared tables were measured and lost at usual sizes (1,000 series, two threads: 13 ns an operation
//! against 29 ns and more, shared/atomic; see benches).

use super::Options;
use super::registry::Registry;
use crate::clock::{self, WallMs};
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::gauge::Change;
use crate::metric::unique::hash_member;
use crate::metric::{Digest, Kind, Series, Sum, Unique};
use crate::wire::Dialect;
use crate::wire::statsd::{Sample, Value};
use hashbrown::{HashMap, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Values of a cell whose buffers are larger than this are not kept for the next tick, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Where a raw name leads.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    arena_at: u32,
    name_bytes: u16,
    tags_bytes: u16,
    slot: u32,
    kind: Kind,
}

/// Raw names and their slots.
#[derive(Debug)]
pub(super) struct Index {
    entries: HashTable<Entry>,
    arena: Vec<u8>,
    /// Seeded at random, so that nobody can choose names that collide.
    hasher: foldhash::fast::RandomState,
    /// Next free slot of each kind.
    next: [u32; Kind::ALL.len()],
    /// Slots of gauges by series. One series may be sent under several raw names (tags in another order).
    /// Their sums can be merged later, but changes of a gauge must meet in one cell to stay in order.
    gauges: HashMap<Series, u32, foldhash::fast::RandomState>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            entries: HashTable::new(),
            arena: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
            next: [0; Kind::ALL.len()],
            gauges: HashMap::default(),
        }
    }

    fn hash(&self, kind: Kind, sample: &Sample<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(sample.name);
        if !sample.tags.is_empty() {
            hasher.write(sample.tags);
        }
        hasher.write_u8(kind as u8);
        hasher.finish()
    }

    #[inline]
    fn find(&self, hash: u64, kind: Kind, sample: &Sample<'_>) -> Option<u32> {
        let same = |entry: &Entry| entry.hash == hash && entry.kind == kind && self.is_raw(entry, sample);
        self.entries.find(hash, same).map(|entry| entry.slot)
    }

    #[inline]
    fn is_raw(&self, entry: &Entry, sample: &Sample<'_>) -> bool {
        let (name, tags) = (usize::from(entry.name_bytes), usize::from(entry.tags_bytes));
        let at = entry.arena_at as usize;
        name == sample.name.len()
            && tags == sample.tags.len()
            && self.arena.get(at..at + name).is_some_and(|known| is_same(known, sample.name))
            && self.arena.get(at + name..at + name + tags).is_some_and(|known| is_same(known, sample.tags))
    }

    /// The slot of a gauge that is known under another raw name.
    fn gauge(&self, series: &Series) -> Option<u32> {
        if series.kind() == Kind::Gauge { self.gauges.get(series).copied() } else { None }
    }

    /// Gives a series the next slot of its kind.
    fn next_slot(&mut self, series: &Series) -> Option<u32> {
        let next = self.next.get_mut(series.kind() as usize)?;
        let slot = *next;
        *next = slot.checked_add(1)?;
        if series.kind() == Kind::Gauge {
            self.gauges.insert(series.clone(), slot);
        }
        Some(slot)
    }

    /// Room for a raw name; `None` when four gigabytes of names are reached. Lengths were checked when its
    /// key was made.
    fn learn(&mut self, hash: u64, sample: &Sample<'_>, slot: u32) -> Option<()> {
        let arena_at = u32::try_from(self.arena.len()).ok()?;
        let name_bytes = u16::try_from(sample.name.len()).ok()?;
        let tags_bytes = u16::try_from(sample.tags.len()).ok()?;
        self.arena.extend_from_slice(sample.name);
        self.arena.extend_from_slice(sample.tags);
        let entry = Entry { hash, arena_at, name_bytes, tags_bytes, slot, kind: sample.value.kind() };
        self.entries.insert_unique(hash, entry, |entry| entry.hash);
        Some(())
    }
}

/// Equality of two names of one length, eight bytes at a time and the last eight once more: the system's memcmp
/// took 38 of the 88 ns that a line of 1,000 series cost (perf, 2026-11-23).
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_end), Some(b_end)) => {
            let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            a_end == b_end && a.iter().zip(b).all(|(a, b)| a == b)
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}

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
            (Self::Timer(digest), Value::Time(value)) => record_time(digest, value, sample.weight, options),
            (Self::Gauge(change, _), Value::Set(value)) => change.set(value),
            (Self::Gauge(change, _), Value::Add(delta)) => change.add(delta),
            (Self::Set(set), Value::Member(member)) => record_member(set, member, options),
            (cell, value) => panic!("a {:?} was looked up for a {:?}", cell, value.kind()),
        }
    }
}

fn record_time(digest: &mut Digest, value: f64, weight: f64, options: &Options) {
    let inside = if options.dialect == Dialect::Statsd { 1.0 } else { weight };
    digest.record(value, weight, inside, options.bounds.timer_exact_max);
}

/// The original reads lines as text, so that bytes which are not UTF-8 are all the same to it.
fn record_member(set: &mut Unique, member: &[u8], options: &Options) {
    let hash = match options.dialect {
        Dialect::Statsd => hash_member(&options.set_salt, String::from_utf8_lossy(member).as_bytes()),
        Dialect::Native => hash_member(&options.set_salt, member),
    };
    set.insert(hash, options.bounds.set_exact_max);
}

/// The values of one kind, by slot.
#[derive(Debug, Default)]
struct Column<T> {
    cells: Vec<T>,
    /// Slots with a value, in the order they got it.
    touched: Vec<u32>,
    /// One bit for each slot: whether it is in `touched`.
    bits: Vec<u64>,
}

impl<T: Default + Drained> Column<T> {
    /// The cell of a slot, marked as touched. Slots are given out one after another by the index.
    #[inline]
    fn touch(&mut self, slot: u32) -> &mut T {
        let at = slot as usize;
        if at >= self.cells.len() {
            self.grow(at);
        }
        let (word, bit) = (at / 64, 1_u64 << (at % 64));
        if let Some(word) = self.bits.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.touched.push(slot);
        }
        self.cells.get_mut(at).unwrap_or_else(|| unreachable!("the column was grown to hold the slot"))
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        self.cells.resize_with(at + 1, T::default);
        self.bits.resize(at / 64 + 1, 0);
        // Room for all of them now, so that touching a known series never allocates.
        self.touched.reserve((at + 1).saturating_sub(self.touched.len()));
    }

    fn drain(&mut self, mut visit: impl FnMut(u32, T)) {
        for slot in self.touched.drain(..) {
            if let Some(cell) = self.cells.get_mut(slot as usize) {
                visit(slot, cell.drain());
            }
        }
        self.bits.fill(0);
    }
}

/// Gives its content away and is empty again, with its memory kept where that is worth it.
trait Drained: Sized {
    fn drain(&mut self) -> Self;
}

impl Drained for Sum {
    fn drain(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Drained for (Change, u64) {
    fn drain(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Drained for Digest {
    fn drain(&mut self) -> Self {
        if self.bytes() > KEPT_BYTES_MAX { self.take() } else { self.copy_out() }
    }
}

impl Drained for Unique {
    fn drain(&mut self) -> Self {
        if self.bytes() > KEPT_BYTES_MAX { std::mem::take(self) } else { self.copy_out() }
    }
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
    counters: Column<Sum>,
    timers: Column<Digest>,
    gauges: Column<(Change, u64)>,
    sets: Column<Unique>,
    /// Samples with a timestamp of their own, by kind, slot and time: the start of their bucket, and for
    /// gauges, whose changes have an order, the timestamp itself.
    timed: HashMap<(Kind, u32, WallMs), Cell>,
    /// Series that got a slot in this tick, in the order of their slots.
    pub(super) fresh: [Vec<Series>; Kind::ALL.len()],
    pub(super) intake: Intake,
    pub(super) examples: Vec<Example>,
    /// The index was dropped after this generation: slots start from zero again.
    pub(super) renewed: bool,
}

impl Generation {
    /// Hands every value out and is empty again. The time is that of the sample, if it had one.
    pub(super) fn drain(&mut self, mut visit: impl FnMut(Kind, u32, Option<WallMs>, Cell)) {
        self.counters.drain(|slot, sum| visit(Kind::Counter, slot, None, Cell::Counter(sum)));
        self.timers.drain(|slot, digest| visit(Kind::Timer, slot, None, Cell::Timer(Box::new(digest))));
        self.gauges.drain(|slot, (change, at)| visit(Kind::Gauge, slot, None, Cell::Gauge(change, at)));
        self.sets.drain(|slot, set| visit(Kind::Set, slot, None, Cell::Set(Box::new(set))));
        for ((kind, slot, time), cell) in self.timed.drain() {
            visit(kind, slot, Some(time), cell);
        }
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
            Value::Count(number) => generation.counters.touch(slot).add_weighted(number, sample.weight),
            Value::Time(value) => {
                record_time(generation.timers.touch(slot), value, sample.weight, &self.options);
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
    fn learn(&mut self, hash: u64, kind: Kind, sample: &Sample<'_>) -> Result<u32, Refusal> {
        if self.index.entries.len() >= self.options.series_max.saturating_mul(limits::RAW_NAMES_PER_SERIES) {
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
        self.index.learn(hash, sample, slot).ok_or(Refusal::SeriesLimit)?;
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
        timed.entry(key).or_insert_with(|| Cell::empty(kind)).record(sample, &self.options);
        Ok(())
    }
}
