//! The series a store knows: where each has its place, and what it sends when it is idle.
//!
//! A series gets a place, block and slot, at its first sample and keeps it as long as anything is kept of it. It is
//! *live* from a sample until its idle rule forgets it: at the seal of a bucket each live series without samples
//! there gets an idle part, or stops being live. Gauges carry their value from bucket to bucket.

use super::layout::{BLOCK_SERIES, Id};
use super::level::Level;
use crate::clock::WallMs;
use crate::metric::{Class, Kind, Series, Tally};
use crate::store::{Idle, IdleRules};
use hashbrown::HashTable;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use super::block::{Part, Parts};

/// statsd's own counters are never deleted, whatever the rules (it looks for these words in the name).
const NEVER_DROPPED: [&str; 3] = ["packets_received", "metrics_received", "bad_lines_seen"];

/// What is known of one series. There may be a million, most of them counters: what only few need is boxed.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) series: Series,
    /// Start of the last bucket with samples; once it is forgotten, of the last with anything of it.
    pub(super) active: WallMs,
    /// Start of the first bucket with samples; what stands before it at this place was another's.
    pub(super) born: WallMs,
    /// Sealed buckets since the last samples.
    pub(super) idle_buckets: u32,
    /// It has not been forgotten.
    pub(super) live: bool,
    /// Of a gauge.
    pub(super) level: Option<Box<Level>>,
    /// What it sent last, where the rule is to keep that.
    pub(super) kept: Option<Box<Tally>>,
}

/// Series of one kind and class.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) class: Class,
    /// `None` where a series has gone for good.
    pub(super) slots: Vec<Option<Known>>,
    /// Series were added or taken away since it was last written.
    pub(super) names_changed: bool,
    /// State that must not be lost has changed since then.
    pub(super) state_changed: bool,
    /// The latest time of a sample that is written.
    pub(super) state_written: WallMs,
}

/// All series, by place and by identity.
#[derive(Debug)]
pub(super) struct KnownSeries {
    pub(super) rules: IdleRules,
    blocks: Vec<Block>,
    index: HashTable<Id>,
    hasher: foldhash::fast::RandomState,
    /// Places of series that moved to another class, which have their past.
    former: HashMap<Series, Vec<Id>, foldhash::fast::RandomState>,
    /// Places that are free, by kind and class.
    free: HashMap<(Kind, Class), Vec<Id>>,
    live: usize,
}

impl KnownSeries {
    pub(super) fn new(rules: IdleRules) -> Self {
        Self {
            rules,
            blocks: Vec::new(),
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            former: HashMap::default(),
            free: HashMap::new(),
            live: 0,
        }
    }

    /// How many series are live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = (u32, &Block)> {
        (0..).zip(&self.blocks)
    }

    pub(super) fn blocks_mut(&mut self) -> impl Iterator<Item = (u32, &mut Block)> {
        (0..).zip(&mut self.blocks)
    }

    pub(super) fn block(&self, block: u32) -> Option<&Block> {
        self.blocks.get(block as usize)
    }

    pub(super) fn at(&self, id: Id) -> Option<&Known> {
        self.block(id.block)?.slots.get(usize::from(id.slot))?.as_ref()
    }

    /// The place of a series.
    pub(super) fn place(&self, series: &Series) -> Option<Id> {
        let hash = self.hasher.hash_one(series);
        self.index.find(hash, |id| self.at(*id).is_some_and(|known| known.series == *series)).copied()
    }

    /// All places that a series has or had, the present one last.
    pub(super) fn places(&self, series: &Series) -> Vec<Id> {
        let mut places = self.former.get(series).cloned().unwrap_or_default();
        places.extend(self.place(series));
        places
    }

    /// A batch has samples of a series, which gets a place if it has none. Says whether it was born by that: it is
    /// new, or older than was known.
    pub(super) fn note(
        &mut self,
        series: &Series,
        bucket: WallMs,
        tally: &Tally,
        class: impl FnOnce(&Series) -> Class,
    ) -> (Id, bool) {
        let (id, mut born) = match self.place(series) {
            Some(id) => (id, false),
            None => (self.add(series, bucket, class(series)), true),
        };
        let Some(block) = self.blocks.get_mut(id.block as usize) else {
            return (id, born);
        };
        if let Some(Some(known)) = block.slots.get_mut(usize::from(id.slot)) {
            known.active = known.active.max(bucket);
            if bucket < known.born {
                known.born = bucket;
                block.names_changed = true;
                born = true;
            }
            if !known.live {
                known.live = true;
                known.idle_buckets = 0;
                self.live += 1;
                block.state_changed = true;
            }
            if let Tally::Gauge(gauge) = tally {
                known.level.get_or_insert_default().change(gauge);
                block.state_changed = true;
            }
        }
        (id, born)
    }

    fn add(&mut self, series: &Series, born: WallMs, class: Class) -> Id {
        let kind = series.kind();
        let id =
            self.free.get_mut(&(kind, class)).and_then(Vec::pop).unwrap_or_else(|| self.room(kind, class));
        let known = Known {
            series: series.clone(),
            active: born,
            born,
            idle_buckets: 0,
            live: false,
            level: None,
            kept: None,
        };
        self.put(id, known);
        id
    }

    /// A place at the end of the last block of its sort.
    fn room(&mut self, kind: Kind, class: Class) -> Id {
        let fits = |block: &Block| block.kind == kind && block.class == class;
        let at = match self.blocks.iter().rposition(fits) {
            Some(at) if self.blocks.get(at).is_some_and(|block| block.slots.len() < BLOCK_SERIES) => at,
            _ => {
                self.blocks.push(Block::new(kind, class));
                self.blocks.len() - 1
            }
        };
        let block = self.blocks.get_mut(at).map(|block| {
            block.slots.push(None);
            block.slots.len() - 1
        });
        Id { block: at as u32, slot: block.unwrap_or_default() as u8 }
    }

    /// Puts a series into an empty place and makes it found there.
    fn put(&mut self, id: Id, known: Known) {
        let hash = self.hasher.hash_one(&known.series);
        self.live += usize::from(known.live);
        if let Some(block) = self.blocks.get_mut(id.block as usize) {
            block.names_changed = true;
            block.state_changed = true;
            if let Some(slot) = block.slots.get_mut(usize::from(id.slot)) {
                *slot = Some(known);
            }
        }
        let Self { index, blocks, hasher, .. } = self;
        let rehash = |id: &Id| {
            let known = blocks.get(id.block as usize).and_then(|block| block.slots.get(usize::from(id.slot)));
            known.and_then(Option::as_ref).map_or(0, |known| hasher.hash_one(&known.series))
        };
        index.insert_unique(hash, id, rehash);
    }

    /// Takes over a block as it was written. A series that stands at two places is found where its class is now.
    pub(super) fn load(&mut self, number: u32, mut block: Block, class: impl Fn(&Series) -> Class) {
        while self.blocks.len() <= number as usize {
            self.blocks.push(Block::new(block.kind, block.class));
        }
        let (kind, of) = (block.kind, block.class);
        let slots = std::mem::take(&mut block.slots);
        if let Some(place) = self.blocks.get_mut(number as usize) {
            *place = block;
            place.slots.resize(slots.len(), None);
        }
        for (slot, known) in slots.into_iter().enumerate() {
            let id = Id { block: number, slot: slot as u8 };
            match known {
                None => self.free.entry((kind, of)).or_default().push(id),
                Some(known) if class(&known.series) == of => self.put(id, known),
                Some(mut known) => {
                    known.live = false;
                    self.former.entry(known.series.clone()).or_default().push(id);
                    if let Some(slot) =
                        self.blocks.get_mut(number as usize).and_then(|block| block.slots.get_mut(slot))
                    {
                        *slot = Some(known);
                    }
                }
            }
        }
        if let Some(block) = self.blocks.get_mut(number as usize) {
            block.names_changed = false;
            block.state_changed = false;
        }
    }

    /// Something is pending of a series in a bucket, which its state may have been written without.
    pub(super) fn seen(&mut self, id: Id, bucket: WallMs) {
        let block = self.blocks.get_mut(id.block as usize);
        if let Some(Some(known)) = block.and_then(|block| block.slots.get_mut(usize::from(id.slot))) {
            known.active = known.active.max(bucket);
        }
    }

    /// All live series of a kind with their places.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (Id, &Known)> {
        self.places_and_series().filter(move |(_, known)| known.live && known.series.kind() == kind)
    }

    /// All series with their places, former ones too.
    pub(super) fn places_and_series(&self) -> impl Iterator<Item = (Id, &Known)> {
        self.blocks().flat_map(|(number, block)| {
            (0..=u8::MAX)
                .zip(&block.slots)
                .filter_map(move |(slot, known)| Some((Id { block: number, slot }, known.as_ref()?)))
        })
    }

    /// Forgets that a series is live; its past stays, in buckets up to the one that starts at `last`.
    pub(super) fn forget(&mut self, id: Id, last: WallMs) {
        let Some(block) = self.blocks.get_mut(id.block as usize) else {
            return;
        };
        if let Some(Some(known)) = block.slots.get_mut(usize::from(id.slot)) {
            self.live -= usize::from(known.live);
            known.active = known.active.max(last);
            known.forget();
            block.state_changed = true;
        }
    }

    /// Frees the places of series that are not live and of which nothing is kept any more.
    pub(super) fn release(&mut self, gone: impl Fn(Class, &Known) -> bool) {
        self.release_where(|_, class, known| !known.live && gone(class, known));
    }

    /// Frees the places of all series of some blocks, live or not; returns how many that were.
    pub(super) fn clear(&mut self, blocks: &BTreeSet<u32>) -> usize {
        self.release_where(|number, _, _| blocks.contains(&number))
    }

    fn release_where(&mut self, gone: impl Fn(u32, Class, &Known) -> bool) -> usize {
        let mut released = Vec::new();
        for (number, block) in (0..).zip(&mut self.blocks) {
            for (slot, place) in (0..=u8::MAX).zip(&mut block.slots) {
                if place.as_ref().is_some_and(|known| gone(number, block.class, known)) {
                    self.live -= usize::from(place.as_ref().is_some_and(|known| known.live));
                    let series = place.take().map(|known| known.series);
                    released.push((Id { block: number, slot }, series, (block.kind, block.class)));
                    block.names_changed = true;
                    // Names and state are read back side by side.
                    block.state_changed = true;
                }
            }
        }
        let count = released.len();
        for (id, series, sort) in released {
            self.free.entry(sort).or_default().push(id);
            let Some(series) = series else {
                continue;
            };
            if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(&series), |found| *found == id) {
                entry.remove();
            }
            if let Some(former) = self.former.get_mut(&series) {
                former.retain(|place| *place != id);
                if former.is_empty() {
                    self.former.remove(&series);
                }
            }
        }
        count
    }

    /// Bucket `start..end` of a block, the newest so far, is being sealed with `parts`: remembers what active series
    /// sent, adds idle parts, and forgets.
    pub(super) fn seal(&mut self, number: u32, start: WallMs, end: WallMs, parts: &mut Parts) {
        let rules = &self.rules;
        let Some(block) = self.blocks.get_mut(number as usize) else {
            return;
        };
        parts.resize_with(block.slots.len().max(parts.len()), || None);
        for (known, part) in block.slots.iter_mut().zip(parts.iter_mut()) {
            let Some(known) = known.as_mut().filter(|known| known.live) else {
                continue;
            };
            if let Some(part) = part {
                known.idle_buckets = 0;
                if let Tally::Gauge(gauge) = &part.tally {
                    let level = known.level.get_or_insert_default();
                    part.before = level.carried;
                    level.carried = gauge.value(part.before);
                    block.state_changed = true;
                } else if rules.of(block.kind) == Idle::Keep {
                    known.kept = Some(Box::new(part.tally.clone()));
                    block.state_changed = true;
                }
            } else if known.born < start {
                // Samples of a later bucket may have come before this one was due: it was idle in this one all the
                // same, but nothing to be forgotten.
                let later = known.active > start;
                known.idle_buckets += u32::from(!later);
                // Only where they are counted down is it worth writing.
                block.state_changed |= block.kind == Kind::Gauge && rules.gauges == Idle::Drop;
                *part = known.idle_part(rules, end);
                if part.is_none() && !later {
                    known.active = start;
                    known.forget();
                    self.live -= 1;
                    block.state_changed = true;
                }
            }
        }
    }
}

impl Block {
    pub(super) fn new(kind: Kind, class: Class) -> Self {
        Self {
            kind,
            class,
            slots: Vec::new(),
            names_changed: false,
            state_changed: false,
            state_written: WallMs::MIN,
        }
    }
}

impl Known {
    /// If it comes again, it is as if it never was, but for its past.
    fn forget(&mut self) {
        self.live = false;
        self.level = None;
        self.kept = None;
    }

    /// Whether it is one of our own counters, which stay.
    pub(super) fn is_never_dropped(&self) -> bool {
        let key = self.series.key();
        self.series.kind() == Kind::Counter && NEVER_DROPPED.iter().any(|word| key.contains(word))
    }

    /// What the series sends in a bucket without samples; `None` if it is forgotten.
    fn idle_part(&self, rules: &IdleRules, end: WallMs) -> Option<Part> {
        let kind = self.series.kind();
        let own = self.is_never_dropped();
        if !own && rules.after_ms.is_some_and(|after| end - self.active > after) {
            return None;
        }
        let (tally, before) = match (kind, rules.of(kind)) {
            (Kind::Gauge, Idle::Drop) if self.idle_buckets >= rules.gauges_ttl => return None,
            (Kind::Gauge, Idle::Zero) => (Tally::empty(kind), Some(0.0)),
            (Kind::Gauge, Idle::Keep | Idle::Drop) => {
                (Tally::empty(kind), self.level.as_ref().and_then(|level| level.carried))
            }
            (_, Idle::Drop) if !own => return None,
            (_, Idle::Keep) => (self.kept.as_deref().cloned().unwrap_or(Tally::empty(kind)), None),
            (_, Idle::Zero | Idle::Drop) => (Tally::empty(kind), None),
        };
        Some(Part { tally, before, idle: true })
    }
}
