//! `memory:` and `file:DIR` — buckets in this process, and on its disk.
//!
//! ```text
//!   apply ─▶ open: bucket ─▶ block ─▶ tallies        known: series ─▶ place (block, slot), state
//!              │ fold (seal.rs): once due
//!              ▼
//!            archive: packed buckets of blocks ─▶ rolled up (roll.rs) ─▶ coarser buckets ─▶ let go
//!              │ checkpoint (persist.rs): one transaction
//!              ▼
//!            disk: one redb file; without one everything stays in memory
//! ```
//!
//! Open and sealed, early and late are the same thing: pending tallies beside a packed part. What was applied
//! since the last checkpoint is in the journal, whose batches are applied again after a crash; names (producer,
//! number) keep that from counting twice. A coarse bucket is a function of the finer ones it is made of: it is
//! *marked* when one of them changes, and made anew from all of them, so that nothing can be added to it twice.
//! Whoever reads a marked bucket gets it made on the spot.

mod archive;
mod block;
mod disk;
mod error;
mod evict;
mod file;
mod gather;
mod gathered;
mod known;
mod layout;
mod level;
mod open;
mod persist;
mod read;
mod retain;
mod roll;
mod rows;
mod seal;
mod versions;

pub use disk::Disk;
pub use error::DiskError;
pub use gather::{Gathered, Gathering};

use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Class, Kind, Ladder, Series, Tally};
use crate::store::{
    Applied, Batch, Cohort, Confirmed, Durability, Folded, IdleRules, Outstanding, Present, Reading, Sealed,
    Store, StoreError,
};
use archive::Archive;
use gather::Gather;
use known::KnownSeries;
use open::Open;
use roll::Marks;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use versions::Versions;

/// How a store works.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is kept how long.
    pub ladder: Ladder,
    /// Up to where tallies of the finest buckets are exact.
    pub bounds: Bounds,
    /// Bytes that buckets in memory may take.
    pub bytes_max: usize,
    /// Names of the destinations that need buckets.
    pub destinations: Vec<String>,
    /// Globs of series that keep the ladder (`rollup.history`).
    pub history: Vec<String>,
    /// Globs of series that figures show.
    pub figures: Vec<String>,
}

impl Rules {
    /// What a series' history is worth.
    fn class(&self, series: &Series) -> Class {
        Class::of(series, &self.figures, &self.history)
    }
}

/// What buckets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Buckets of blocks that stand in a row of their own.
    pub single: u64,
    /// Rows of many buckets.
    pub gathered: u64,
    /// Bytes of the pages that everything on disk is in; the file is longer, since room is made ahead.
    pub page_bytes: u64,
}

/// Buckets in memory, and on disk if there is one.
#[derive(Debug)]
pub struct EmbeddedStore {
    rules: Rules,
    disk: Option<Arc<Disk>>,
    inner: Mutex<Inner>,
    /// Held while a layer is on its way to disk: one at a time.
    committing: Mutex<()>,
}

/// What a destination needs.
#[derive(Clone, Debug, Default)]
struct Needs {
    name: String,
    /// In the archive also what was struck off and is not settled.
    out: BTreeMap<WallMs, u64>,
    /// New series, by the bucket they were born in.
    cohorts: BTreeMap<WallMs, Newborn>,
}

/// How far a cohort has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Newborn {
    stated: u32,
    points: u64,
    heard: Option<WallMs>,
}

#[derive(Debug)]
struct Inner {
    /// Highest number applied, and the time of that, by producer.
    watermarks: HashMap<u128, (u64, WallMs)>,
    /// Producers whose watermark no checkpoint has yet, or whose batches the journal offered again.
    unconfirmed: BTreeSet<u128>,
    /// When the store was opened.
    opened_ms: WallMs,
    /// Those whose last batch is older may be forgotten.
    producers_before: WallMs,
    open: Open,
    /// Keys of open buckets in the archive: each is rewritten or removed by the next checkpoint, and one that stayed
    /// would count twice after a restart.
    staged_open: BTreeSet<Vec<u8>>,
    /// Versions of the sealed buckets of the finest width.
    sealed: Versions,
    gather: Gather,
    needs: Vec<Needs>,
    marks: Marks,
    known: KnownSeries,
    archive: Archive,
    /// Buckets that start before this are not kept any more.
    floor: WallMs,
    /// Up to where each class and level was let go of.
    let_go: HashMap<(Class, usize), WallMs>,
    /// What did not work when it was last tried, and since when.
    failing: Option<(String, WallMs)>,
    /// Packed buckets that did not read back.
    damaged: u64,
    /// Buckets let go before every destination had them that no fold has told of yet, and such as all had.
    shed_unsaid: (u64, u64),
    /// Bytes that buckets in memory may take while every destination has the oldest of them, and in any case.
    history_max: (usize, usize),
}

impl EmbeddedStore {
    /// An empty store in memory.
    #[must_use]
    pub fn in_memory(rules: Rules, idle: IdleRules) -> Self {
        let inner = Inner::new(&rules, idle, Archive::new(None));
        Self { rules, disk: None, inner: Mutex::new(inner), committing: Mutex::new(()) }
    }

    /// The store that `disk` holds.
    pub fn on_disk(rules: Rules, idle: IdleRules, disk: Disk, now: WallMs) -> Result<Self, StoreError> {
        let disk = Arc::new(disk);
        let mut inner = Inner::new(&rules, idle, Archive::new(Some(Arc::clone(&disk))));
        inner.opened_ms = now;
        inner.load(&rules, now)?;
        inner.failing = disk.unmade().map(|cause| (cause, now));
        Ok(Self { rules, disk: Some(disk), inner: Mutex::new(inner), committing: Mutex::new(()) })
    }

    /// From now on it gathers like this.
    #[must_use]
    pub fn gathering(self, pace: Gathering) -> Self {
        self.lock().gather.pace = pace;
        self
    }

    /// What it has gathered since the start.
    #[must_use]
    pub fn gathered(&self) -> Gathered {
        self.lock().gather.done
    }

    /// What its buckets take.
    pub fn rows(&self) -> Result<Rows, StoreError> {
        let inner = self.lock();
        let (single, gathered) = (inner.count(b'b')?, inner.count(b'g')?);
        let page_bytes = self.disk.as_ref().map_or(Ok(0), |disk| disk.used())?;
        Ok(Rows { single, gathered, page_bytes })
    }

    /// A panic while the lock is held is a broken invariant and ends the process, so a poisoned lock is only
    /// met on the way down.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new(rules: &Rules, idle: IdleRules, archive: Archive) -> Self {
        let needs = rules.destinations.iter().map(|name| Needs { name: name.clone(), ..Needs::default() });
        Self {
            watermarks: HashMap::new(),
            unconfirmed: BTreeSet::new(),
            opened_ms: WallMs::MIN,
            producers_before: WallMs::MIN,
            open: Open::default(),
            staged_open: BTreeSet::new(),
            sealed: Versions::default(),
            gather: Gather::new(archive.is_on_disk()),
            needs: needs.collect(),
            marks: Marks::default(),
            known: KnownSeries::new(idle),
            archive,
            floor: WallMs::MIN,
            let_go: HashMap::new(),
            failing: None,
            damaged: 0,
            shed_unsaid: (0, 0),
            history_max: (rules.bytes_max, rules.bytes_max),
        }
    }

    /// How many rows of a sort there are.
    fn count(&self, tag: u8) -> Result<u64, StoreError> {
        let mut count = 0;
        let (from, to) = layout::all(tag);
        self.archive.visit(&from, &to, &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    fn apply(&mut self, rules: &Rules, batch: Batch, now: WallMs) -> Applied {
        let watermark = self.watermarks.get(&batch.producer).map_or(0, |(number, _)| *number);
        self.unconfirmed.insert(batch.producer);
        if batch.number <= watermark {
            return Applied::Duplicate;
        }
        if batch.number > watermark + 1 {
            return Applied::Gap { watermark };
        }
        // What the journal had is remembered from now on: when it came is not known any more.
        self.watermarks.insert(batch.producer, (batch.number, now.max(self.opened_ms)));
        let end = batch.bucket.saturating_add(rules.ladder.bucket().ms());
        let window = rules.ladder.amend_window_ms() + limits::LATE_MARGIN_MS;
        if batch.bucket < self.floor || end.saturating_add(window) <= now {
            return Applied::Late;
        }
        let mut born = false;
        for (series, tally) in batch.entries {
            let (id, new) = self.known.note(&series, batch.bucket, &tally, |series| rules.class(series));
            born |= new;
            self.open.merge(batch.bucket, id, tally, &rules.bounds);
        }
        if born {
            self.new_cohort(batch.bucket);
        }
        Applied::Done
    }
}

impl Store for EmbeddedStore {
    fn apply(&self, batch: Batch, now: WallMs) -> Result<Applied, StoreError> {
        Ok(self.lock().apply(&self.rules, batch, now))
    }

    fn pass(&self, producer: u128, first: u64, last: u64) -> Result<Applied, StoreError> {
        let mut inner = self.lock();
        let (watermark, at) = inner.watermarks.get(&producer).copied().unwrap_or((0, WallMs::MIN));
        if watermark >= last {
            return Ok(Applied::Duplicate);
        }
        if watermark + 1 < first {
            return Ok(Applied::Gap { watermark });
        }
        let at = at.max(inner.opened_ms);
        inner.watermarks.insert(producer, (last, at));
        inner.unconfirmed.insert(producer);
        Ok(Applied::Done)
    }

    fn fold(&self, due: WallMs, now: WallMs) -> Result<Folded, StoreError> {
        let mut inner = self.lock();
        inner.gather_from(now);
        // One that cannot be done is no reason to leave out the others, and memory has its limit in any case.
        let sealed = inner.seal_due(&self.rules, due);
        let rolled = inner.roll_due(&self.rules, due);
        let let_go = inner.let_go(&self.rules, now);
        let shed = inner.shed(&self.rules);
        inner.gather_due(&self.rules);
        let mut folded = sealed?;
        folded.rolled = rolled?;
        let_go.and(shed)?;
        (folded.shed, folded.let_go) = std::mem::take(&mut inner.shed_unsaid);
        Ok(folded)
    }

    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>, StoreError> {
        let inner = self.lock();
        let out = inner.needs.get(destination).into_iter().flat_map(|needs| needs.out.iter().rev());
        Ok(out.map(|(&bucket, &version)| Outstanding { bucket, partition: 0, version }).collect())
    }

    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>, StoreError> {
        self.sealed_whole(bucket)
    }

    fn sealed_of(&self, bucket: WallMs, cohort: Cohort) -> Result<Option<Sealed>, StoreError> {
        self.sealed_part(bucket, Some(cohort.born))
    }

    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool, StoreError> {
        Ok(self.lock().strike(destination, stated))
    }

    fn settle(&self, destination: usize, buckets: &[WallMs]) {
        if !buckets.is_empty() {
            self.lock().settle(destination, buckets);
        }
    }

    fn state_again(&self, destination: usize, buckets: &[WallMs]) -> usize {
        self.lock().state_again(destination, buckets)
    }

    fn cohorts(&self, destination: usize) -> Vec<Cohort> {
        let inner = self.lock();
        let cohorts = inner.needs.get(destination).into_iter().flat_map(|needs| &needs.cohorts);
        let cohort = |(&born, &Newborn { stated, points, heard }): (&WallMs, &Newborn)| Cohort {
            born,
            partition: 0,
            stated,
            points,
            heard,
        };
        cohorts.map(cohort).collect()
    }

    fn restated(&self, destination: usize, cohort: Cohort, done: bool) {
        self.lock().restated(destination, cohort, done);
    }

    fn read(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        self.read_all(series, level, from, to)
    }

    fn series(&self, matches: &dyn Fn(&Series) -> bool) -> Result<Vec<Series>, StoreError> {
        let inner = self.lock();
        let all = inner.known.places_and_series().map(|(_, known)| &known.series);
        let mut found: Vec<Series> = all.filter(|series| matches(series)).cloned().collect();
        found.sort_by(|a, b| a.key().cmp(b.key()).then(a.kind().cmp(&b.kind())));
        found.dedup();
        Ok(found)
    }

    fn levels_of(&self, series: &Series) -> Vec<(usize, i64)> {
        let inner = self.lock();
        let block = inner.known.place(series).and_then(|id| inner.known.block(id.block));
        let class = block.map_or_else(|| self.rules.class(series), |block| block.class);
        let ladder = &self.rules.ladder;
        ladder.chain(class).map(|level| (level, ladder.keep_ms(class, level))).collect()
    }

    fn ladder(&self) -> &Ladder {
        &self.rules.ladder
    }

    fn bounds(&self) -> Bounds {
        self.rules.bounds.at(1)
    }

    fn present(&self, kind: Kind) -> Result<Vec<Present>, StoreError> {
        let inner = self.lock();
        let newest = inner.open.newest().filter(|start| !inner.sealed.contains_key(start));
        let present = inner.known.of_kind(kind).map(|(id, known)| Present {
            tally: newest
                .and_then(|start| inner.open.get(start, id).cloned())
                .unwrap_or_else(|| Tally::empty(kind)),
            gauge: known.level.as_ref().and_then(|level| level.present),
            series: known.series.clone(),
        });
        Ok(present.collect())
    }

    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
        let mut inner = self.lock();
        let gone: Vec<_> = inner
            .known
            .of_kind(kind)
            .filter(|(_, known)| matches(known.series.key()))
            .map(|(id, known)| (id, known.series.key().to_owned()))
            .collect();
        let Inner { open, sealed, known, .. } = &mut *inner;
        let last = sealed.last_key_value().map_or(WallMs::MIN, |(last, _)| *last);
        for (id, _) in &gone {
            known.forget(*id, last);
            open.remove(*id, |start| !sealed.contains_key(&start));
        }
        Ok(gone.into_iter().map(|(_, key)| key).collect())
    }

    fn series_count(&self) -> usize {
        self.lock().known.live()
    }

    fn set_idle_rules(&self, rules: IdleRules) {
        self.lock().known.rules = rules;
    }

    fn history_bytes(&self) -> Option<usize> {
        let inner = self.lock();
        // What only waits for the next checkpoint is no history.
        (self.disk.is_none() || inner.failing.is_some()).then(|| inner.archive.bytes())
    }

    fn hold_history(&self, had: usize, all: usize) {
        let most = self.rules.bytes_max;
        self.lock().history_max = (had.min(most), all.min(most));
    }

    fn make_room(&self, series: usize) -> Result<usize, StoreError> {
        self.lock().make_room(&self.rules, series)
    }

    fn checkpoint(&self, now: WallMs) -> Result<Vec<Confirmed>, StoreError> {
        self.write_out(now)
    }

    fn durability(&self) -> Durability {
        let inner = self.lock();
        Durability {
            on_disk: self.disk.is_some(),
            failing: inner.failing.clone(),
            waiting_bytes: if self.disk.is_some() { inner.archive.bytes() as u64 } else { 0 },
            disk_bytes: self.disk.as_ref().map_or(0, |disk| disk.bytes()),
            written_bytes: self.disk.as_ref().map_or(0, |disk| disk.written()),
            damaged: inner.damaged + self.disk.as_ref().map_or(0, |disk| disk.times_damaged()),
        }
    }

    fn backup(&self, to: &Path, now: WallMs) -> Result<u64, StoreError> {
        let Some(disk) = &self.disk else {
            return Err(StoreError::Away("a store in memory has no file to copy".to_owned()));
        };
        self.write_out(now)?;
        disk.copy_to(to)
    }

    fn promise(&self) -> String {
        let words = crate::clock::words(self.rules.ladder.amend_window_ms());
        match &self.disk {
            None => format!(
                "kept in memory only: a crash or a restart loses what Graphite does not have yet; late samples \
                 amend their bucket for {words}"
            ),
            Some(disk) => format!(
                "kept in {}, over restarts and crashes; late samples amend their bucket for {words}",
                disk.path().display()
            ),
        }
    }
}
