//! What gauges stand at: now, and at the same time of an earlier day.

use super::compare::Total;
use super::watched::Watched;
use crate::calendar::{DAY_MS, Span};
use crate::clock::WallMs;
use crate::metric::Tally;
use crate::query::Stat;
use crate::store::{Reading, Store, StoreError};

/// Buckets before a moment in which a gauge must be found, so that it is known to stand.
const BUCKETS_BACK: i64 = 3;

/// How far back each level is searched for what stands now.
const SEARCH_MS: [i64; 3] = [60_000, DAY_MS, 28 * DAY_MS];

/// What gauges come to, and when the last of them changed.
pub(super) type Stood = (Total, Option<WallMs>);

/// What a gauge stands at when a bucket ends.
fn value(reading: &Reading) -> Option<f64> {
    match &reading.tally {
        Tally::Gauge(gauge) => gauge.value(reading.before),
        _ => None,
    }
}

impl Watched {
    /// What all gauges of the figure come to, each by its own value.
    fn together(&self, values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
        let count = values.clone().count();
        if count == 0 {
            return None;
        }
        Some(match self.rules.stat {
            Some(Stat::Min) => values.fold(f64::INFINITY, f64::min),
            Some(Stat::Max) => values.fold(f64::NEG_INFINITY, f64::max),
            Some(Stat::Mean) => values.sum::<f64>() / count as f64,
            _ => values.sum(),
        })
    }

    /// What stood at a moment, and when it last changed before that; `None` if nothing is known to have stood.
    pub(super) fn standing(&self, store: &dyn Store, at: WallMs) -> Result<Option<Stood>, StoreError> {
        for kept in &self.kept {
            let back = BUCKETS_BACK * store.ladder().width(kept.level).ms();
            if kept.from <= at - 2 * back {
                // What a finer level does not say, a coarser one may.
                let found = self.stood_at(store, kept.level, at, back)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// What stands now, looked for further and further back: a gauge stands until it is changed.
    pub(super) fn standing_now(&self, store: &dyn Store, now: WallMs) -> Result<Option<Stood>, StoreError> {
        for (kept, back) in self.kept.iter().zip(SEARCH_MS) {
            let found = self.stood_at(store, kept.level, now + 1, back)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn stood_at(
        &self,
        store: &dyn Store,
        level: usize,
        at: WallMs,
        back: i64,
    ) -> Result<Option<Stood>, StoreError> {
        let from = store.ladder().span_of(level, at - 1).start - back;
        let (mut values, mut changed) = (Vec::new(), None);
        for readings in store.glance(&self.series(), level, from, at)? {
            // A coarse bucket that is not over at that moment says what stood after it.
            let over = |reading: &&Reading| level == 0 || reading.end <= at || back >= DAY_MS;
            values.extend(readings.iter().rfind(over).and_then(value));
            let last = readings.iter().filter_map(|reading| match &reading.tally {
                Tally::Gauge(gauge) => gauge.last().map(|order| order.time),
                _ => None,
            });
            changed = changed.max(last.max());
        }
        let number = self.together(values.iter().copied());
        Ok(number.map(|number| (Total { number, events: 0.0 }, changed)))
    }

    /// What stood at the end of each stretch of a day, by the start of a bucket.
    pub(super) fn stood(
        &self,
        store: &dyn Store,
        level: usize,
        span: Span,
        slots: usize,
        slot: impl Fn(WallMs) -> usize,
    ) -> Result<Vec<Option<f64>>, StoreError> {
        let mut standing: Vec<Vec<f64>> = vec![Vec::new(); slots];
        for readings in store.glance(&self.series(), level, span.start, span.end)? {
            let mut own: Vec<Option<f64>> = vec![None; slots];
            for reading in readings.iter().filter(|reading| reading.start >= span.start) {
                if let Some(place) = own.get_mut(slot(reading.start)) {
                    *place = value(reading).or(*place);
                }
            }
            for (all, own) in standing.iter_mut().zip(own) {
                all.extend(own);
            }
        }
        Ok(standing.iter().map(|values| self.together(values.iter().copied())).collect())
    }
}
