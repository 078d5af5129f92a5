//! Where a gauge stands, from bucket to bucket.

use crate::metric::Gauge;
use crate::metric::gauge::Order;

/// A gauge's value, and as much of its past as decides what a late change does to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// At the end of the last sealed bucket.
    pub(super) carried: Option<f64>,
    /// Now.
    pub(super) present: Option<f64>,
    /// Its last set, and its last change of any sort.
    pub(super) last_set: Option<Order>,
    pub(super) last_change: Option<Order>,
}

impl Level {
    /// A change to the present value: a late one counts only as far as nothing came after it.
    pub(super) fn change(&mut self, gauge: &Gauge) {
        let Some(order) = gauge.last() else {
            return;
        };
        if self.last_change.is_none_or(|last| last < order) {
            self.present = gauge.value(self.present);
            self.last_change = Some(order);
        } else if let Some(set) = gauge.last_set() {
            // Late: a set counts if no set came after it; then what was added after it is lost to us here,
            // but not in the buckets, which compose in order.
            if self.last_set.is_none_or(|last| last < set) {
                self.present = gauge.value(None);
            }
        } else if self.last_set.is_none_or(|last| last < order) {
            self.present = gauge.value(self.present);
        }
        self.last_set = self.last_set.max(gauge.last_set());
    }
}
