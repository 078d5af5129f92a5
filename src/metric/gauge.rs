//! Gauges: the last write wins, whatever order the writes arrive in.
//!
//! Within one producer and tick, sets and `+n`/`-n` collapse to a [`Change`] (set or none, then a delta).
//! Changes are ordered by (time, producer, number) and composed when somebody asks for the value, so that
//! merging is associative and commutative although applying is not.

use super::Malformed;
use crate::clock::WallMs;

/// What happened to a gauge in one tick: perhaps a set, then perhaps an addition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// The last value it was set to, if it was.
    pub set: Option<f64>,
    /// The sum of what was added after that.
    pub delta: f64,
}

impl Change {
    /// Nothing happened.
    pub const NONE: Self = Self { set: None, delta: 0.0 };

    /// The gauge was set; what was added before is forgotten.
    pub fn set(&mut self, value: f64) {
        *self = Self { set: Some(value), delta: 0.0 };
    }

    /// Something was added.
    pub fn add(&mut self, delta: f64) {
        match &mut self.set {
            Some(value) => *value += delta,
            None => self.delta += delta,
        }
    }

    /// `later` happened after this.
    pub fn then(&mut self, later: Self) {
        match later.set {
            Some(value) => self.set(value + later.delta),
            None => self.add(later.delta),
        }
    }

    /// The value after this change, from the value before it; a gauge that never was counts from zero.
    #[must_use]
    pub fn apply(&self, before: Option<f64>) -> f64 {
        self.set.unwrap_or(before.unwrap_or(0.0)) + self.delta
    }
}

/// Where a change stands among all changes: time of its tick, producer, number of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Wall time of the tick.
    pub time: WallMs,
    /// Who counted it.
    pub producer: u128,
    /// Which of its batches carried it.
    pub number: u64,
}

/// The changes of one gauge over a span of time, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauge {
    changes: Vec<(Order, Change)>,
}

impl Gauge {
    /// One change.
    #[must_use]
    pub fn once(order: Order, change: Change) -> Self {
        Self { changes: vec![(order, change)] }
    }

    /// A gauge that was set once, as at the seal of its bucket.
    #[must_use]
    pub fn held(order: Order, value: f64) -> Self {
        Self::once(order, Change { set: Some(value), delta: 0.0 })
    }

    /// The gauge of these changes, which stand in their order, none twice.
    pub fn from_changes(changes: Vec<(Order, Change)>) -> Result<Self, Malformed> {
        if changes.is_sorted_by(|a, b| a.0 < b.0) {
            Ok(Self { changes })
        } else {
            Err(Malformed("a gauge's changes are out of order"))
        }
    }

    /// The changes, in their order.
    #[must_use]
    pub fn changes(&self) -> &[(Order, Change)] {
        &self.changes
    }

    /// Adds the changes of another part. A change that both parts hold counts once.
    pub fn merge(&mut self, other: Self) {
        for (order, change) in other.changes {
            match self.changes.last() {
                Some((last, _)) if *last >= order => {
                    if let Err(at) = self.changes.binary_search_by_key(&order, |(order, _)| *order) {
                        self.changes.insert(at, (order, change));
                    }
                }
                _ => self.changes.push((order, change)),
            }
        }
    }

    /// The value at the end of the span, from the value before it; `None` if there never was one.
    #[must_use]
    pub fn value(&self, before: Option<f64>) -> Option<f64> {
        self.changes.iter().fold(before, |value, (_, change)| Some(change.apply(value)))
    }

    /// The values it took, as sets at the times of its changes.
    #[must_use]
    pub fn values(&self, before: Option<f64>) -> Self {
        let mut value = before;
        let sets = self.changes.iter().map(|(order, change)| {
            let now = change.apply(value);
            value = Some(now);
            (*order, Change { set: Some(now), delta: 0.0 })
        });
        Self { changes: sets.collect() }
    }

    /// Of values ([`Gauge::values`]) the least, the greatest and the last: what is kept of a gauge in a bucket that
    /// was rolled up.
    #[must_use]
    pub fn extremes(&self) -> Self {
        let set = |change: &Change| change.set.unwrap_or_default();
        let by = |a: &&(Order, Change), b: &&(Order, Change)| set(&a.1).total_cmp(&set(&b.1));
        let (least, greatest) = (self.changes.iter().min_by(by), self.changes.iter().max_by(by));
        let mut changes: Vec<_> =
            [least, greatest, self.changes.last()].into_iter().flatten().copied().collect();
        changes.sort_by_key(|(order, _)| *order);
        changes.dedup();
        Self { changes }
    }

    /// When the last change happened.
    #[must_use]
    pub fn last(&self) -> Option<Order> {
        self.changes.last().map(|(order, _)| *order)
    }

    /// When it was last set.
    #[must_use]
    pub fn last_set(&self) -> Option<Order> {
        self.changes.iter().rev().find(|(_, change)| change.set.is_some()).map(|(order, _)| *order)
    }

    /// How many changes are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: WallMs) -> Order {
        Order { time, producer: 1, number: time as u64 }
    }

    #[test]
    fn changes_collapse_as_statsd_applies_them() {
        let mut change = Change::NONE;
        change.add(5.0);
        assert_eq!(change.apply(None), 5.0);
        assert_eq!(change.apply(Some(10.0)), 15.0);
        change.set(3.0);
        change.add(-1.0);
        assert_eq!(change.apply(Some(10.0)), 2.0);
        change.then(Change { set: None, delta: 4.0 });
        assert_eq!(change.apply(None), 6.0);
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let parts = [
            Gauge::held(at(1), 10.0),
            Gauge::once(at(2), Change { set: None, delta: 5.0 }),
            Gauge::held(at(3), 1.0),
            Gauge::once(at(4), Change { set: None, delta: -4.0 }),
        ];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut gauge = Gauge::default();
            for part in order {
                gauge.merge(parts[part].clone());
            }
            assert_eq!(gauge.value(None), Some(-3.0));
            assert_eq!(gauge.last(), Some(at(4)));
        }
    }
}
