//! Parts that are made to lose or repeat something, to see that it is noticed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tallyd::clock::WallMs;
use tallyd::metric::{Bounds, Kind, Ladder, Series};
use tallyd::store::{
    Applied, Batch, Cohort, Confirmed, Durability, Folded, IdleRules, Outstanding, Present, Reading, Sealed,
    Store, StoreError,
};

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// The store says that it has a batch and has not.
    StoreLosesOne,
    /// One batch counts twice.
    StoreRepeatsOne,
    /// The journal's disk says that it has synced and has not.
    JournalLies,
    /// Buckets are struck off when they are sent, not when carbon has read them.
    StrikesEarly,
}

/// Which batch it is: late enough that series are known, early enough for every history.
const BATCH: u64 = 30;

/// A store that mistreats one batch.
pub(super) struct Mistreating {
    pub(super) store: Arc<dyn Store>,
    pub(super) sabotage: Sabotage,
    /// Batches so far, over restarts.
    pub(super) batches: Arc<AtomicU64>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store for Mistreating {
    fn apply(&self, mut batch: Batch, now: WallMs) -> Result<Applied> {
        let is_it = self.batches.fetch_add(1, Ordering::Relaxed) == BATCH;
        match self.sabotage {
            Sabotage::StoreLosesOne if is_it => batch.entries.clear(),
            Sabotage::StoreRepeatsOne if is_it => batch.entries.extend(batch.entries.clone()),
            _ => {}
        }
        self.store.apply(batch, now)
    }

    fn pass(&self, producer: u128, first: u64, last: u64) -> Result<Applied> {
        self.store.pass(producer, first, last)
    }

    fn fold(&self, due: WallMs, now: WallMs) -> Result<Folded> {
        self.store.fold(due, now)
    }

    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>> {
        self.store.outstanding(destination)
    }

    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>> {
        let sealed = self.store.sealed(bucket)?;
        if let Some(sealed) = sealed.as_ref().filter(|_| self.sabotage == Sabotage::StrikesEarly) {
            self.store.strike(0, Outstanding { bucket, partition: 0, version: sealed.version })?;
            self.store.settle(0, &[bucket]);
        }
        Ok(sealed)
    }

    fn sealed_of(&self, bucket: WallMs, cohort: Cohort) -> Result<Option<Sealed>> {
        self.store.sealed_of(bucket, cohort)
    }

    fn cohorts(&self, destination: usize) -> Vec<Cohort> {
        self.store.cohorts(destination)
    }

    fn restated(&self, destination: usize, cohort: Cohort, done: bool) {
        self.store.restated(destination, cohort, done);
    }

    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool> {
        self.store.strike(destination, stated)
    }

    fn settle(&self, destination: usize, buckets: &[WallMs]) {
        self.store.settle(destination, buckets);
    }

    fn state_again(&self, destination: usize, buckets: &[WallMs]) -> usize {
        self.store.state_again(destination, buckets)
    }

    fn read(&self, series: &[Series], level: usize, from: WallMs, to: WallMs) -> Result<Vec<Vec<Reading>>> {
        self.store.read(series, level, from, to)
    }

    fn series(&self, matches: &dyn Fn(&Series) -> bool) -> Result<Vec<Series>> {
        self.store.series(matches)
    }

    fn levels_of(&self, series: &Series) -> Vec<(usize, i64)> {
        self.store.levels_of(series)
    }

    fn ladder(&self) -> &Ladder {
        self.store.ladder()
    }

    fn bounds(&self) -> Bounds {
        self.store.bounds()
    }

    fn present(&self, kind: Kind) -> Result<Vec<Present>> {
        self.store.present(kind)
    }

    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        self.store.forget(kind, matches)
    }

    fn series_count(&self) -> usize {
        self.store.series_count()
    }

    fn set_idle_rules(&self, rules: IdleRules) {
        self.store.set_idle_rules(rules);
    }

    fn checkpoint(&self, now: WallMs) -> Result<Vec<Confirmed>> {
        self.store.checkpoint(now)
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn backup(&self, to: &Path, now: WallMs) -> Result<u64> {
        self.store.backup(to, now)
    }

    fn promise(&self) -> String {
        self.store.promise()
    }
}
