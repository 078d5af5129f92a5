//! What was counted of each series since the start, for readers that want sums which only grow.
//!
//! In come the entries of every batch, late ones too, from the flusher alone; out come totals, for whoever asks.
//! Kept only where somebody wants them, and for so many series at most: who comes later is left out and counted.
//!
//! ```text
//!   counter   its sum
//!   timer     how many and their sum · the distribution of the open bucket and of the one before
//!   set       the members of the open bucket and of the one before
//!   gauge     nothing: the store has its present value
//! ```

use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Series, Sum, Tally, Width};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Distributions are kept this exactly; beyond it they are sketches.
const BOUNDS: Bounds =
    Bounds { timer_exact_max: limits::EXPORTED_EXACT_MAX, set_exact_max: limits::EXPORTED_EXACT_MAX };

/// Totals by series. Written by the flusher, read by requests; the lock is held for one batch or one answer.
#[derive(Debug)]
pub struct Totals {
    width: Width,
    series_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they came, so that who has a name keeps it.
    known: Vec<(Series, Total)>,
    index: HashMap<Series, usize, foldhash::fast::RandomState>,
    left_out: u64,
}

/// What is known of one series.
#[derive(Clone, Debug)]
pub enum Total {
    /// The sum of a counter.
    Counter(Sum),
    /// A timer: how many, their sum, and what was measured lately.
    Timer {
        /// How many, sampled ones weighed.
        count: f64,
        /// Their sum.
        sum: f64,
        /// Its last buckets.
        recent: Recent,
    },
    /// The members of a set, lately.
    Set(Recent),
}

/// The two newest buckets that a series has samples in.
#[derive(Clone, Debug)]
pub struct Recent {
    newest: (WallMs, Tally),
    before: Option<(WallMs, Tally)>,
}

impl Recent {
    fn add(&mut self, bucket: WallMs, tally: &Tally) {
        if bucket > self.newest.0 {
            let before = std::mem::replace(&mut self.newest, (bucket, tally.clone()));
            self.before = Some(before);
        } else if bucket == self.newest.0 {
            self.newest.1.merge(tally.clone(), &BOUNDS);
        }
        // What comes later still counts in the totals alone.
    }

    /// Its tally in the bucket that begins then.
    #[must_use]
    pub fn in_bucket(&self, start: WallMs) -> Option<&Tally> {
        let buckets = std::iter::once(&self.newest).chain(&self.before);
        buckets.into_iter().find(|(bucket, _)| *bucket == start).map(|(_, tally)| tally)
    }
}

impl Total {
    fn new(bucket: WallMs, tally: &Tally) -> Option<Self> {
        let recent = || Recent { newest: (bucket, tally.clone()), before: None };
        match tally {
            Tally::Counter(sum) => Some(Self::Counter(*sum)),
            Tally::Timer(digest) => {
                let sum = digest.distribution().map_or(0.0, |all| all.sum);
                Some(Self::Timer { count: digest.events(), sum, recent: recent() })
            }
            Tally::Set(_) => Some(Self::Set(recent())),
            Tally::Gauge(_) => None,
        }
    }

    fn add(&mut self, bucket: WallMs, tally: &Tally) {
        match (self, tally) {
            (Self::Counter(total), Tally::Counter(sum)) => total.merge(sum),
            (Self::Timer { count, sum, recent }, Tally::Timer(digest)) => {
                *count += digest.events();
                *sum += digest.distribution().map_or(0.0, |all| all.sum);
                recent.add(bucket, tally);
            }
            (Self::Set(recent), Tally::Set(_)) => recent.add(bucket, tally),
            // A series has one kind.
            _ => {}
        }
    }
}

impl Totals {
    /// Totals of so many series at most.
    #[must_use]
    pub fn new(width: Width, series_max: usize) -> Self {
        Self { width, series_max, inner: Mutex::default() }
    }

    /// Adds the entries of a batch.
    pub fn add(&self, bucket: WallMs, entries: &[(Series, Tally)]) {
        let mut inner = self.lock();
        let Inner { known, index, left_out } = &mut *inner;
        for (series, tally) in entries {
            let place = index.get(series).copied();
            if let Some((_, total)) = place.and_then(|at| known.get_mut(at)) {
                total.add(bucket, tally);
            } else if let Some(total) = Total::new(bucket, tally) {
                if known.len() < self.series_max {
                    // A copy of its own: a handle would keep the registry from ever forgetting the series.
                    let series = Series::new(series.kind(), series.key());
                    index.insert(series.clone(), known.len());
                    known.push((series, total));
                } else {
                    *left_out += 1;
                }
            }
        }
    }

    /// Shows every total, with the start of the last bucket that is complete; returns how often something was
    /// left out for want of room.
    pub fn each(&self, now: WallMs, show: &mut dyn FnMut(&Series, &Total, WallMs)) -> u64 {
        let complete = self.width.start_of(now) - self.width.ms();
        let inner = self.lock();
        for (series, total) in &inner.known {
            show(series, total, complete);
        }
        inner.left_out
    }

    /// How many series there may be.
    #[must_use]
    pub fn series_max(&self) -> usize {
        self.series_max
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    fn timer(values: &[f64]) -> Tally {
        let mut tally = Tally::empty(Kind::Timer);
        if let Tally::Timer(digest) = &mut tally {
            for value in values {
                digest.record(*value, 1.0, 1.0, 512);
            }
        }
        tally
    }

    #[test]
    fn totals_grow_and_distributions_belong_to_their_bucket() {
        let totals = Totals::new(Width::from_ms(10_000), 2);
        let (hits, time) = (Series::new(Kind::Counter, "hits"), Series::new(Kind::Timer, "time"));
        let count = |n| Tally::Counter(Sum::from_count(n));
        totals.add(0, &[(hits.clone(), count(3)), (time.clone(), timer(&[1.0, 2.0]))]);
        totals.add(10_000, &[(hits.clone(), count(4)), (time.clone(), timer(&[5.0]))]);
        totals.add(0, &[(hits, count(2)), (time, timer(&[7.0]))]);
        totals.add(10_000, &[(Series::new(Kind::Counter, "too.many"), count(1))]);
        let mut seen = 0;
        let left_out = totals.each(12_000, &mut |_, total, complete| match total {
            Total::Counter(sum) => {
                seen += 1;
                assert_eq!(sum.to_f64(), 9.0);
            }
            Total::Timer { count, sum, recent } => {
                seen += 1;
                assert_eq!((*count, *sum, complete), (4.0, 15.0, 0));
                assert_eq!(recent.in_bucket(complete), Some(&timer(&[1.0, 2.0])));
                assert_eq!(recent.in_bucket(20_000), None);
            }
            Total::Set(_) => panic!("no set was added"),
        });
        assert_eq!((seen, left_out), (2, 1));
    }
}
