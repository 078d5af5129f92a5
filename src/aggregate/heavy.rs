//! Who comes most often, in little memory: the Space-Saving sketch of Metwally, Agrawal and El Abbadi ("Efficient
//! computation of frequent and top-k elements in data streams", ICDT 2005).
//!
//! In come keys with weights; out come the heaviest of them, each with its count and how much too high that may be.
//! With room for k keys no count is more than a k-th of the total too high, and every key that has more than a k-th
//! of the total is there. Nothing is ever forgotten, so two spans of time take turns: what is shown is of the last
//! one or two.

use crate::clock::WallMs;
use crate::limits;
use hashbrown::{Equivalent, HashMap};
use std::hash::Hash;

/// A key and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heavy<K> {
    /// Which.
    pub key: K,
    /// Its weight, or more.
    pub count: u64,
    /// Its weight, or less.
    pub at_least: u64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    count: u64,
    /// What it may have taken over from another.
    error: u64,
}

/// The heaviest keys of a stream.
#[derive(Debug)]
pub struct HeavyKeys<K> {
    counts: HashMap<K, Count, foldhash::fast::RandomState>,
    room: usize,
}

impl<K: Clone + Eq + Hash> HeavyKeys<K> {
    /// Room for so many keys.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { counts: HashMap::default(), room }
    }

    /// Adds weight to a key. One that is not there yet takes the place of the lightest, and its weight on top.
    pub fn add<Q>(&mut self, key: &Q, weight: u64)
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        if weight == 0 {
            return;
        }
        if let Some(known) = self.counts.get_mut(key) {
            known.count += weight;
            return;
        }
        let mut error = 0;
        if self.counts.len() >= self.room {
            let lightest = self.counts.iter().min_by_key(|(_, known)| known.count);
            let Some((lightest, count)) = lightest.map(|(key, known)| (key.clone(), known.count)) else {
                return;
            };
            self.counts.remove(&lightest);
            error = count;
        }
        self.counts.insert(key.to_owned(), Count { count: error + weight, error });
    }
}

/// The heaviest keys of the last one or two spans of time.
#[derive(Debug)]
pub struct RecentlyHeavy<K> {
    now: HeavyKeys<K>,
    before: HeavyKeys<K>,
    /// When the span began.
    began: WallMs,
}

impl<K: Clone + Eq + Hash + Ord> RecentlyHeavy<K> {
    /// Nothing yet.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { now: HeavyKeys::new(room), before: HeavyKeys::new(room), began: WallMs::MIN }
    }

    /// Adds weight to a key.
    pub fn add<Q>(&mut self, key: &Q, weight: u64)
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        self.now.add(key, weight);
    }

    /// Begins another span when this one is over, or when the clock was set back.
    pub fn turn(&mut self, now: WallMs) {
        if self.began == WallMs::MIN {
            self.began = now;
        } else if !(self.began..self.began + limits::OFFENDERS_SPAN_MS).contains(&now) {
            self.began = now;
            self.before = std::mem::replace(&mut self.now, HeavyKeys::new(self.before.room));
        }
    }

    /// The heaviest, first the one that has most.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<Heavy<K>> {
        let mut sums: HashMap<&K, (u64, u64)> = HashMap::new();
        for (key, known) in self.now.counts.iter().chain(&self.before.counts) {
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + known.count, sum.1 + known.count - known.error);
        }
        let mut all: Vec<_> = sums
            .into_iter()
            .map(|(key, (count, at_least))| Heavy { key: key.clone(), count, at_least })
            .collect();
        all.sort_by(|a, b| b.at_least.cmp(&a.at_least).then(b.count.cmp(&a.count)).then(a.key.cmp(&b.key)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a plain map: bounds hold for every key, and every heavy one is there.
        #[test]
        fn bounds_hold_and_nobody_heavy_is_missed(
            room in 1_usize..12,
            stream in prop::collection::vec((0_u32..40, 1_u64..20), 0..400),
        ) {
            let mut heavy = RecentlyHeavy::new(room);
            let mut plain: BTreeMap<String, u64> = BTreeMap::new();
            for (key, weight) in stream {
                // Some keys come far more often than others.
                let key = (key * key / 40).to_string();
                heavy.add(key.as_str(), weight);
                *plain.entry(key).or_default() += weight;
            }
            let total: u64 = plain.values().sum();
            let top = heavy.top(usize::MAX);
            prop_assert!(top.len() <= room);
            prop_assert_eq!(top.iter().map(|one| one.count).sum::<u64>(), total, "nothing is lost");
            for one in &top {
                let truth = plain[&one.key];
                prop_assert!(one.at_least <= truth && truth <= one.count, "{:?}, {}", one, truth);
                prop_assert!(one.count - one.at_least <= total / room as u64);
            }
            for (key, truth) in plain {
                prop_assert!(truth <= total / room as u64 || top.iter().any(|one| one.key == key));
            }
        }
    }

    #[test]
    fn what_is_shown_is_of_the_last_two_spans() {
        let mut heavy: RecentlyHeavy<String> = RecentlyHeavy::new(4);
        let shown = |heavy: &RecentlyHeavy<String>| {
            heavy.top(9).into_iter().map(|one| (one.key, one.count)).collect::<Vec<_>>()
        };
        heavy.turn(5);
        heavy.add("a", 3);
        heavy.turn(4 + limits::OFFENDERS_SPAN_MS);
        heavy.add("a", 1);
        assert_eq!(shown(&heavy), [("a".to_owned(), 4)]);
        heavy.turn(5 + limits::OFFENDERS_SPAN_MS);
        heavy.add("b", 9);
        assert_eq!(shown(&heavy), [("b".to_owned(), 9), ("a".to_owned(), 4)]);
        heavy.turn(5 + 2 * limits::OFFENDERS_SPAN_MS);
        assert_eq!(shown(&heavy), [("b".to_owned(), 9)]);
        heavy.turn(0);
        assert_eq!(shown(&heavy), []);
    }
}
