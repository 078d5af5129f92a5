//! The tallies of a tick, gathered by bucket and partition.

use crate::aggregate::table::Cell;
use crate::clock::WallMs;
use crate::metric::gauge::{Change, Order};
use crate::metric::{Gauge, Series, Tally, Width};
use crate::store::Store;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The tallies of a tick, by bucket.
pub(super) struct Batches {
    width: Width,
    /// The bucket of samples without a timestamp, and the moment their changes carry.
    pub(super) bucket: WallMs,
    pub(super) at: WallMs,
    /// Says which partition a series belongs to; `None` where there is only one.
    store: Option<Arc<dyn Store>>,
    buckets: BTreeMap<(WallMs, usize), Tallies>,
}

/// The tallies of one bucket. Gauges wait until all threads' changes can be put in order.
#[derive(Default)]
pub(super) struct Tallies {
    entries: Vec<(Series, Tally)>,
    gauges: HashMap<(Series, WallMs), Vec<(u64, Change)>, foldhash::fast::RandomState>,
}

impl Batches {
    pub(super) fn new(width: Width, bucket: WallMs, at: WallMs, store: &Arc<dyn Store>) -> Self {
        let store = (store.partitions() > 1).then(|| Arc::clone(store));
        Self { width, bucket, at, store, buckets: BTreeMap::new() }
    }

    fn tallies(&mut self, bucket: WallMs, series: &Series) -> &mut Tallies {
        let partition = self.store.as_ref().map_or(0, |store| store.partition_of(series));
        self.buckets.entry((bucket, partition)).or_default()
    }

    pub(super) fn add(&mut self, series: &Series, time: Option<WallMs>, cell: Cell) {
        let bucket = time.map_or(self.bucket, |time| self.width.start_of(time));
        let at = self.at;
        let tallies = self.tallies(bucket, series);
        let tally = match cell {
            Cell::Counter(sum) => Tally::Counter(sum),
            Cell::Timer(digest) => Tally::Timer(digest),
            Cell::Set(set) => Tally::Set(set),
            Cell::Gauge(change, changed) => {
                let key = (series.clone(), time.unwrap_or(at));
                return tallies.gauges.entry(key).or_default().push((changed, change));
            }
        };
        tallies.entries.push((series.clone(), tally));
    }

    pub(super) fn own(&mut self, entries: Vec<(Series, Tally)>) {
        for (series, tally) in entries {
            self.tallies(self.bucket, &series).entries.push((series, tally));
        }
    }

    pub(super) fn finish(self) -> impl Iterator<Item = ((WallMs, usize), Tallies)> {
        self.buckets.into_iter()
    }
}

impl Tallies {
    pub(super) fn into_entries(mut self, producer: u128, number: u64) -> Vec<(Series, Tally)> {
        for ((series, time), mut changes) in self.gauges {
            changes.sort_by_key(|(changed, _)| *changed);
            let mut all = Change::NONE;
            for (_, change) in changes {
                all.then(change);
            }
            let order = Order { time, producer, number };
            self.entries.push((series, Tally::Gauge(Gauge::once(order, all))));
        }
        self.entries
    }
}
