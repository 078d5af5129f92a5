//! Tallies that are in no packed bucket yet, by bucket and place.

use super::layout::Id;
use crate::clock::WallMs;
use crate::metric::{Bounds, Tally};
use std::collections::BTreeMap;

/// Tallies of a block, by slot.
pub(super) type Slots = Vec<Option<Tally>>;

/// What is pending in one bucket, by block.
pub(super) type Pending = BTreeMap<u32, Slots>;

/// What is pending: in buckets that are not sealed yet, and what came late to sealed ones.
#[derive(Debug, Default)]
pub(super) struct Open {
    buckets: BTreeMap<WallMs, Pending>,
}

impl Open {
    pub(super) fn merge(&mut self, start: WallMs, id: Id, tally: Tally, bounds: &Bounds) {
        let slots = self.buckets.entry(start).or_default().entry(id.block).or_default();
        let at = usize::from(id.slot);
        if slots.len() <= at {
            slots.resize_with(at + 1, || None);
        }
        match slots.get_mut(at) {
            Some(Some(mine)) => mine.merge(tally, bounds),
            Some(empty) => *empty = Some(tally),
            None => {}
        }
    }

    /// Puts back what was taken, under what came since.
    pub(super) fn put_back(&mut self, start: WallMs, pending: Pending, bounds: &Bounds) {
        for (block, slots) in pending {
            for (slot, tally) in (0..=u8::MAX).zip(slots) {
                if let Some(tally) = tally {
                    self.merge(start, Id { block, slot }, tally, bounds);
                }
            }
        }
    }

    pub(super) fn newest(&self) -> Option<WallMs> {
        self.buckets.last_key_value().map(|(start, _)| *start)
    }

    pub(super) fn get(&self, start: WallMs, id: Id) -> Option<&Tally> {
        self.buckets.get(&start)?.get(&id.block)?.get(usize::from(id.slot))?.as_ref()
    }

    /// Starts of the buckets up to `last` that something is pending in.
    pub(super) fn starts_to(&self, last: WallMs) -> Vec<WallMs> {
        self.buckets.range(..=last).map(|(start, _)| *start).collect()
    }

    pub(super) fn take(&mut self, start: WallMs) -> Pending {
        self.buckets.remove(&start).unwrap_or_default()
    }

    /// What is pending of a block, by bucket, in `[from, to)`.
    pub(super) fn of_block(
        &self,
        block: u32,
        from: WallMs,
        to: WallMs,
    ) -> impl Iterator<Item = (WallMs, &Slots)> {
        self.buckets
            .range(from..to.max(from))
            .filter_map(move |(start, pending)| Some((*start, pending.get(&block)?)))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (WallMs, &Pending)> {
        self.buckets.iter().map(|(start, pending)| (*start, pending))
    }

    pub(super) fn insert(&mut self, start: WallMs, block: u32, slots: Slots) {
        self.buckets.entry(start).or_default().insert(block, slots);
    }

    /// Removes what is pending of a series in some buckets.
    pub(super) fn remove(&mut self, id: Id, of: impl Fn(WallMs) -> bool) {
        for (start, pending) in &mut self.buckets {
            if of(*start)
                && let Some(slot) =
                    pending.get_mut(&id.block).and_then(|slots| slots.get_mut(usize::from(id.slot)))
            {
                *slot = None;
            }
        }
    }
}
