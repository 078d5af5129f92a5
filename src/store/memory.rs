//! `memory:` — buckets in this process, for tests, trials and where nothing need survive a crash.
//!
//! ```text
//!   buckets: start ─▶ { pending: series ─▶ tally,  sealed: entries with a version }
//!   out:     destination ─▶ { bucket ─▶ version }          watermarks: producer ─▶ number
//! ```
//!
//! Open and sealed, early and late are the same thing: pending tallies beside a sealed part. Buckets are kept
//! for `amend_window`, so that late samples find the whole; when they grow beyond `memory_max` the oldest go
//! first, the stated before the others, and what goes unstated is counted.

use super::contract::{
    Applied, Batch, Entry, Folded, IdleRules, Outstanding, Present, Sealed, Store, StoreError,
};
use super::known::KnownSeries;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Kind, Series, Tally, Width};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of an entry beside its tally, roughly.
const ENTRY_BYTES: usize = size_of::<Entry>() - size_of::<Tally>();

type Tallies = HashMap<Series, Tally, foldhash::fast::RandomState>;

/// How a memory store works.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRules {
    /// Width of a bucket.
    pub width: Width,
    /// Up to where tallies are exact.
    pub bounds: Bounds,
    /// How long buckets are kept, in milliseconds.
    pub keep_ms: i64,
    /// How long idle entries are kept in stated buckets, in milliseconds: as long as they may be stated
    /// again.
    pub keep_idle_ms: i64,
    /// Bytes that buckets may take.
    pub bytes_max: usize,
    /// Destinations that need buckets.
    pub destinations: usize,
}

impl MemoryRules {
    /// A sample that was accepted at the very end of the window is still on its way when that ends.
    fn kept_ms(&self) -> i64 {
        self.keep_ms + limits::LATE_MARGIN_MS
    }
}

/// Buckets in memory.
#[derive(Debug)]
pub struct MemoryStore {
    rules: MemoryRules,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    watermarks: HashMap<u128, u64>,
    buckets: BTreeMap<WallMs, Bucket>,
    out: Vec<BTreeMap<WallMs, u64>>,
    known: KnownSeries,
    /// Buckets that start before this are not kept any more.
    floor: WallMs,
    versions: foldhash::quality::RandomState,
    folds: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    pending: Tallies,
    sealed: Option<Arc<Sealed>>,
    /// Bytes of the sealed part, roughly.
    bytes: usize,
    /// Whether the sealed part has idle entries that may go: looked at in every fold, so it is kept here.
    has_idle: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(rules: MemoryRules, idle: IdleRules) -> Self {
        let inner = Inner {
            watermarks: HashMap::new(),
            buckets: BTreeMap::new(),
            out: vec![BTreeMap::new(); rules.destinations],
            known: KnownSeries::new(idle),
            floor: WallMs::MIN,
            versions: foldhash::quality::RandomState::default(),
            folds: 0,
        };
        Self { rules, inner: Mutex::new(inner) }
    }

    /// A panic while the lock is held is a broken invariant and ends the process, so a poisoned lock is only
    /// met on the way down.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn apply(&self, batch: Batch, now: WallMs) -> Result<Applied, StoreError> {
        let mut inner = self.lock();
        let watermark = inner.watermarks.get(&batch.producer).copied().unwrap_or(0);
        if batch.number <= watermark {
            return Ok(Applied::Duplicate);
        }
        if batch.number > watermark + 1 {
            return Ok(Applied::Gap { watermark });
        }
        inner.watermarks.insert(batch.producer, batch.number);
        if batch.bucket < inner.floor || batch.bucket + self.rules.width.ms() + self.rules.kept_ms() <= now {
            return Ok(Applied::Late);
        }
        let Inner { buckets, known, .. } = &mut *inner;
        let pending = &mut buckets.entry(batch.bucket).or_default().pending;
        for (series, tally) in batch.entries {
            known.note(&series, batch.bucket, &tally);
            merge(pending, series, tally, &self.rules.bounds);
        }
        Ok(Applied::Done)
    }

    fn fold(&self, due: WallMs, now: WallMs) -> Result<Folded, StoreError> {
        let mut inner = self.lock();
        let width = self.rules.width.ms();
        let starts: Vec<WallMs> = inner
            .buckets
            .range(..=due.saturating_sub(width))
            .filter(|(_, bucket)| bucket.sealed.is_none() || !bucket.pending.is_empty())
            .map(|(start, _)| *start)
            .collect();
        let mut folded = Folded::default();
        for start in starts {
            match inner.fold_bucket(start, &self.rules) {
                First::Yes => folded.sealed += 1,
                First::No => folded.amended += 1,
            }
        }
        inner.let_go(&self.rules, now);
        folded.shed = inner.shed(&self.rules);
        Ok(folded)
    }

    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>, StoreError> {
        let inner = self.lock();
        let out = inner.out.get(destination).into_iter().flatten().rev();
        Ok(out.map(|(&bucket, &version)| Outstanding { bucket, version }).collect())
    }

    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>, StoreError> {
        Ok(self.lock().buckets.get(&bucket).and_then(|bucket| bucket.sealed.clone()))
    }

    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let Some(out) = inner.out.get_mut(destination) else {
            return Ok(false);
        };
        let same = out.get(&stated.bucket) == Some(&stated.version);
        if same {
            out.remove(&stated.bucket);
        }
        Ok(same)
    }

    fn state_again(&self, destination: usize, since: WallMs) -> Result<usize, StoreError> {
        let mut inner = self.lock();
        let from = since.saturating_sub(self.rules.width.ms());
        let Inner { buckets, out, .. } = &mut *inner;
        let Some(out) = out.get_mut(destination) else {
            return Ok(0);
        };
        let again = buckets
            .range(from..)
            .filter_map(|(start, bucket)| Some((*start, bucket.sealed.as_ref()?.version)));
        let before = out.len();
        out.extend(again);
        Ok(out.len() - before)
    }

    fn read(&self, series: &Series, from: WallMs, to: WallMs) -> Result<Vec<(WallMs, Tally)>, StoreError> {
        let inner = self.lock();
        let mut tallies = Vec::new();
        for (start, bucket) in inner.buckets.range(from..to.max(from)) {
            let sealed = bucket.sealed.as_ref().and_then(|sealed| {
                sealed
                    .entries
                    .iter()
                    .find(|entry| entry.series == *series && !entry.idle)
                    .map(|entry| entry.tally.clone())
            });
            let pending = bucket.pending.get(series).cloned();
            let tally = match (sealed, pending) {
                (Some(mut sealed), Some(pending)) => {
                    sealed.merge(pending, &self.rules.bounds);
                    sealed
                }
                (Some(tally), None) | (None, Some(tally)) => tally,
                (None, None) => continue,
            };
            tallies.push((*start, tally));
        }
        Ok(tallies)
    }

    fn present(&self, kind: Kind) -> Result<Vec<Present>, StoreError> {
        let inner = self.lock();
        let open = inner.buckets.last_key_value().filter(|(_, bucket)| bucket.sealed.is_none());
        let present = inner.known.of_kind(kind).map(|series| Present {
            tally: open
                .and_then(|(_, bucket)| bucket.pending.get(series).cloned())
                .unwrap_or_else(|| Tally::empty(kind)),
            gauge: inner.known.present(series),
            series: series.clone(),
        });
        Ok(present.collect())
    }

    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
        let mut inner = self.lock();
        let gone: Vec<Series> =
            inner.known.of_kind(kind).filter(|series| matches(series.key())).cloned().collect();
        for series in &gone {
            inner.known.remove(series);
            for bucket in inner.buckets.values_mut().filter(|bucket| bucket.sealed.is_none()) {
                bucket.pending.remove(series);
            }
        }
        Ok(gone.iter().map(|series| series.key().to_owned()).collect())
    }

    fn series_count(&self) -> usize {
        self.lock().known.len()
    }

    fn set_idle_rules(&self, rules: IdleRules) {
        self.lock().known.rules = rules;
    }

    fn promise(&self) -> String {
        format!(
            "kept in memory only: a crash or a restart loses what Graphite does not have yet; late samples amend \
             their bucket for {}",
            crate::clock::words(self.rules.keep_ms)
        )
    }
}

fn merge(tallies: &mut Tallies, series: Series, tally: Tally, bounds: &Bounds) {
    match tallies.entry(series) {
        std::collections::hash_map::Entry::Occupied(mut mine) => mine.get_mut().merge(tally, bounds),
        std::collections::hash_map::Entry::Vacant(empty) => {
            empty.insert(tally);
        }
    }
}

/// Whether a bucket was sealed for the first time.
enum First {
    Yes,
    No,
}

impl Inner {
    /// Seals a bucket, or amends a sealed one, and puts it on every destination's list.
    fn fold_bucket(&mut self, start: WallMs, rules: &MemoryRules) -> First {
        self.folds += 1;
        // Random, never counted: see redis-protocol rule 8; here any new number would do.
        let version = self.versions.hash_one(self.folds);
        let Some(bucket) = self.buckets.get_mut(&start) else {
            return First::No;
        };
        let pending = mem::take(&mut bucket.pending);
        let (entries, first) = match bucket.sealed.take() {
            None => {
                let mut entries: Vec<Entry> = pending
                    .into_iter()
                    .map(|(series, tally)| {
                        let before = self.known.carried(&series);
                        Entry { series, tally, before, idle: false }
                    })
                    .collect();
                self.known.seal(start, start + rules.width.ms(), &mut entries);
                (entries, First::Yes)
            }
            Some(sealed) => {
                let sealed = Arc::unwrap_or_clone(sealed);
                (amended(sealed.entries, pending, &rules.bounds), First::No)
            }
        };
        bucket.bytes = bytes_of(&entries);
        bucket.has_idle = entries.iter().any(may_go);
        bucket.sealed = Some(Arc::new(Sealed { start, width: rules.width, version, entries }));
        for out in &mut self.out {
            out.insert(start, version);
        }
        first
    }

    /// Buckets past their time go, unless a destination still needs them; stated ones lose their idle
    /// entries once they cannot be stated again.
    fn let_go(&mut self, rules: &MemoryRules, now: WallMs) {
        let out = &self.out;
        let needed = |start: &WallMs| out.iter().any(|out| out.contains_key(start));
        let width = rules.width.ms();
        while let Some((&start, _)) = self.buckets.first_key_value() {
            if start + width + rules.kept_ms() > now || needed(&start) {
                break;
            }
            self.buckets.remove(&start);
            self.floor = self.floor.max(start + 1);
        }
        let idle_until = now - rules.keep_idle_ms - width;
        for (start, bucket) in self.buckets.range_mut(..idle_until) {
            if let Some(sealed) = &mut bucket.sealed
                && bucket.has_idle
                && !needed(start)
            {
                let sealed = Arc::make_mut(sealed);
                sealed.entries.retain(|entry| !may_go(entry));
                sealed.entries.shrink_to_fit();
                bucket.bytes = bytes_of(&sealed.entries);
                bucket.has_idle = false;
            }
        }
    }

    /// Keeps within the bytes allowed: the oldest stated buckets go first, then the oldest of all.
    fn shed(&mut self, rules: &MemoryRules) -> u64 {
        let mut bytes: usize = self.buckets.values().map(|bucket| bucket.bytes).sum();
        let mut shed = 0;
        for only_stated in [true, false] {
            let starts: Vec<WallMs> = self.buckets.keys().copied().collect();
            for start in starts {
                if bytes <= rules.bytes_max {
                    return shed;
                }
                let needed = self.out.iter().any(|out| out.contains_key(&start));
                let sealed = self.buckets.get(&start).is_some_and(|bucket| bucket.sealed.is_some());
                if !sealed || (only_stated && needed) {
                    continue;
                }
                bytes -= self.buckets.remove(&start).map_or(0, |bucket| bucket.bytes);
                self.floor = self.floor.max(start + 1);
                shed += u64::from(needed);
                for out in &mut self.out {
                    out.remove(&start);
                }
            }
        }
        shed
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| ENTRY_BYTES + entry.tally.bytes()).sum()
}

/// Idle entries of sums are nothing: without them a late sample still finds the whole. A gauge's is the value
/// it had, which a late addition needs.
fn may_go(entry: &Entry) -> bool {
    entry.idle && entry.series.kind() != Kind::Gauge
}

/// Late tallies merged into a sealed bucket. What an idle entry kept from before is not a sample.
fn amended(mut entries: Vec<Entry>, mut pending: Tallies, bounds: &Bounds) -> Vec<Entry> {
    for entry in &mut entries {
        if let Some(tally) = pending.remove(&entry.series) {
            if mem::take(&mut entry.idle) {
                entry.tally = Tally::empty(entry.series.kind());
            }
            entry.tally.merge(tally, bounds);
        }
    }
    entries.extend(pending.into_iter().map(|(series, tally)| Entry {
        series,
        tally,
        before: None,
        idle: false,
    }));
    entries
}
