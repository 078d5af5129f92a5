//! Sealing, amending, and what destinations need of sealed buckets.

use super::block::{Part, Parts, Piece, pack};
use super::layout::{self, Cell};
use super::open::{Pending, Slots};
use super::rows::Stored;
use super::{EmbeddedStore, Inner, Newborn, Rules};
use crate::clock::WallMs;
use crate::metric::{Bounds, Kind, Series, Tally};
use crate::store::{Cohort, Entry, Folded, Outstanding, Sealed, StoreError};
use crate::wire::bytes::push_varint;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Inner {
    /// Seals what ended before `due`, and amends what got more.
    pub(super) fn seal_due(&mut self, rules: &Rules, due: WallMs) -> Result<Folded, StoreError> {
        let mut folded = Folded::default();
        for start in self.open.starts_to(due.saturating_sub(rules.ladder.bucket().ms())) {
            let pending = self.open.take(start);
            if self.sealed.contains_key(&start) {
                self.amend(rules, start, pending)?;
                folded.amended += 1;
            } else {
                if let Err(error) = self.seal(rules, start, &pending) {
                    self.open.put_back(start, pending, &rules.bounds);
                    return Err(error);
                }
                folded.sealed += 1;
            }
            self.new_version(start);
        }
        Ok(folded)
    }

    /// Packs a bucket for the first time, with what idle series send. One between buckets that are sealed already
    /// holds what came and no more: who was idle is known for the newest only.
    fn seal(&mut self, rules: &Rules, start: WallMs, pending: &Pending) -> Result<(), StoreError> {
        let width = rules.ladder.bucket();
        let is_newest = self.sealed.last_key_value().is_none_or(|(newest, _)| *newest < start);
        let numbers: Vec<u32> = self.known.blocks().map(|(number, _)| number).collect();
        // All that can fail comes before anything is changed.
        let mut stood = BTreeMap::new();
        if !is_newest {
            for &number in pending.keys() {
                stood.insert(number, self.stood(rules, number, start)?);
            }
        }
        for number in numbers {
            let mut parts: Parts = pending.get(&number).cloned().map(counted).unwrap_or_default();
            match stood.get(&number) {
                _ if is_newest => self.known.seal(number, start, start + width.ms(), &mut parts),
                Some(stood) => {
                    for (slot, part) in (0..=u8::MAX).zip(&mut parts) {
                        if let Some(part) = part {
                            part.before = stood.get(&slot).copied();
                        }
                    }
                }
                None => {}
            }
            let Some(block) = self.known.block(number) else {
                continue;
            };
            if parts.iter().any(Option::is_some) {
                let (kind, class) = (block.kind, block.class);
                self.put_bucket(Cell { width, block: number, start }, pack(kind, &parts));
                if parts.iter().flatten().any(|part| rolls_up(kind, part)) {
                    self.mark_coarser(&rules.ladder, class, number, 0, start);
                }
            }
        }
        Ok(())
    }

    /// Where gauges of a block stood at the end of the last sealed bucket before `start`, by slot.
    pub(super) fn stood(
        &self,
        rules: &Rules,
        number: u32,
        start: WallMs,
    ) -> Result<BTreeMap<u8, f64>, StoreError> {
        let mut stood = BTreeMap::new();
        let earlier = self.sealed.range(..start).next_back();
        let is_gauge = self.known.block(number).is_some_and(|block| block.kind == Kind::Gauge);
        let (true, Some((&start, _))) = (is_gauge, earlier) else {
            return Ok(stood);
        };
        let cell = Cell { width: rules.ladder.bucket(), block: number, start };
        let found = match self.bucket(cell) {
            // What is damaged there is said when that bucket is read.
            Err(StoreError::Damaged(_)) => None,
            found => found?,
        };
        let parts = found.and_then(|found| found.piece().ok()?.parts().ok()).unwrap_or_default();
        for (slot, part) in (0..=u8::MAX).zip(parts) {
            if let Some(Part { tally: Tally::Gauge(gauge), before, .. }) = part
                && let Some(value) = gauge.value(before)
            {
                stood.insert(slot, value);
            }
        }
        Ok(stood)
    }

    /// Adds what came late to a sealed bucket. What an idle part kept from before is not a sample.
    fn amend(&mut self, rules: &Rules, start: WallMs, mut pending: Pending) -> Result<(), StoreError> {
        let width = rules.ladder.bucket();
        while let Some((number, slots)) = pending.pop_first() {
            let Some((kind, class)) = self.known.block(number).map(|block| (block.kind, block.class)) else {
                continue;
            };
            let cell = Cell { width, block: number, start };
            let found = match self.bucket(cell) {
                Ok(found) => found,
                Err(StoreError::Damaged(error)) => {
                    tracing::error!(error, bucket = start, "late samples are lost: their bucket is damaged");
                    continue;
                }
                Err(error) => {
                    pending.insert(number, slots);
                    self.open.put_back(start, pending, &rules.bounds);
                    return Err(error);
                }
            };
            let mut parts = match found.map(|found| found.piece()?.parts()).transpose() {
                Ok(parts) => parts.unwrap_or_default(),
                Err(error) => {
                    self.damaged += 1;
                    tracing::error!(%error, bucket = start, "late samples are lost: their bucket is damaged");
                    continue;
                }
            };
            add(&mut parts, slots, &rules.bounds);
            self.put_bucket(cell, pack(kind, &parts));
            self.mark_coarser(&rules.ladder, class, number, 0, start);
        }
        Ok(())
    }

    /// A bucket has a new version, which every destination needs.
    fn new_version(&mut self, start: WallMs) {
        let version = self.fresh_version(start);
        for needs in &mut self.needs {
            needs.out.insert(start, version);
            self.archive.put(layout::outstanding(&needs.name, start), version.to_be_bytes().to_vec());
        }
    }

    pub(super) fn strike(&mut self, destination: usize, stated: Outstanding) -> bool {
        let Some(needs) = self.needs.get_mut(destination) else {
            return false;
        };
        let same = needs.out.get(&stated.bucket) == Some(&stated.version);
        if same {
            needs.out.remove(&stated.bucket);
        }
        same
    }

    pub(super) fn settle(&mut self, destination: usize, buckets: &[WallMs]) {
        let Some(needs) = self.needs.get(destination) else {
            return;
        };
        for &bucket in buckets {
            // It is needed again if it was amended since.
            if !needs.out.contains_key(&bucket) {
                self.archive.remove(layout::outstanding(&needs.name, bucket));
            }
        }
    }

    pub(super) fn state_again(&mut self, destination: usize, buckets: &[WallMs]) -> usize {
        let Some(needs) = self.needs.get_mut(destination) else {
            return 0;
        };
        let before = needs.out.len();
        for &bucket in buckets {
            if let Some(&version) = self.sealed.get(&bucket) {
                needs.out.insert(bucket, version);
                self.archive.put(layout::outstanding(&needs.name, bucket), version.to_be_bytes().to_vec());
            }
        }
        needs.out.len() - before
    }

    /// Series were born in a bucket: destinations may need their first points more than once.
    pub(super) fn new_cohort(&mut self, born: WallMs) {
        for destination in 0..self.needs.len() {
            let fresh = self.needs.get(destination).is_some_and(|needs| !needs.cohorts.contains_key(&born));
            if fresh {
                self.put_cohort(destination, born, Newborn::default());
            }
        }
    }

    fn put_cohort(&mut self, destination: usize, born: WallMs, newborn: Newborn) {
        if let Some(needs) = self.needs.get_mut(destination) {
            needs.cohorts.insert(born, newborn);
            let mut value = Vec::new();
            push_varint(&mut value, u64::from(newborn.stated));
            push_varint(&mut value, newborn.points);
            push_varint(&mut value, newborn.heard.map_or(0, i64::unsigned_abs));
            self.archive.put(layout::cohort(&needs.name, born), value);
        }
    }

    pub(super) fn restated(&mut self, destination: usize, cohort: Cohort, done: bool) {
        if !done {
            let newborn = Newborn { stated: cohort.stated, points: cohort.points, heard: cohort.heard };
            return self.put_cohort(destination, cohort.born, newborn);
        }
        if let Some(needs) = self.needs.get_mut(destination) {
            needs.cohorts.remove(&cohort.born);
            self.archive.remove(layout::cohort(&needs.name, cohort.born));
        }
    }

    /// Packed blocks of a bucket with the series that stand in them, of those born in `born` if that is given.
    fn packed(&self, rules: &Rules, start: WallMs, born: Option<WallMs>) -> Result<Vec<Block>, StoreError> {
        let mut blocks = Vec::new();
        for (number, block) in self.known.blocks() {
            let wanted = |known: &super::known::Known| {
                born.is_none_or(|born| known.born == born) && known.born <= start
            };
            let series: Vec<Option<Series>> = block
                .slots
                .iter()
                .map(|known| known.as_ref().filter(|known| wanted(known)).map(|known| known.series.clone()))
                .collect();
            if series.iter().all(Option::is_none) {
                continue;
            }
            match self.bucket(Cell { width: rules.ladder.bucket(), block: number, start }) {
                Ok(Some(stored)) => blocks.push(Block { stored, series }),
                Ok(None) => {}
                Err(StoreError::Damaged(error)) => {
                    tracing::error!(
                        error,
                        bucket = start,
                        "a part of a bucket is damaged and cannot be stated"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(blocks)
    }
}

/// A packed block and whose parts it holds.
struct Block {
    stored: Stored,
    series: Vec<Option<Series>>,
}

impl EmbeddedStore {
    pub(super) fn sealed_whole(&self, start: WallMs) -> Result<Option<Arc<Sealed>>, StoreError> {
        Ok(self.sealed_part(start, None)?.map(Arc::new))
    }

    pub(super) fn sealed_part(
        &self,
        start: WallMs,
        born: Option<WallMs>,
    ) -> Result<Option<Sealed>, StoreError> {
        let inner = self.lock();
        let Some(&version) = inner.sealed.get(&start) else {
            return Ok(None);
        };
        let blocks = inner.packed(&self.rules, start, born)?;
        drop(inner);
        let mut entries = Vec::new();
        for block in blocks {
            match block.stored.piece().and_then(Piece::parts) {
                Ok(parts) => {
                    let parts = block.series.into_iter().zip(parts);
                    entries.extend(parts.filter_map(|(series, part)| {
                        let Part { tally, before, idle } = part?;
                        Some(Entry { series: series?, tally, before, idle })
                    }));
                }
                Err(error) => {
                    self.lock().damaged += 1;
                    tracing::error!(%error, bucket = start, "a part of a bucket is damaged and cannot be stated");
                }
            }
        }
        Ok(Some(Sealed { start, width: self.rules.ladder.bucket(), version, entries }))
    }
}

pub(super) fn counted(slots: Slots) -> Parts {
    slots.into_iter().map(|tally| tally.map(Part::counted)).collect()
}

/// Adds tallies to parts of the same block.
pub(super) fn add(parts: &mut Parts, slots: Slots, bounds: &Bounds) {
    if parts.len() < slots.len() {
        parts.resize_with(slots.len(), || None);
    }
    for (part, tally) in parts.iter_mut().zip(slots) {
        match (part, tally) {
            (_, None) => {}
            (Some(part), Some(tally)) if !part.idle => part.tally.merge(tally, bounds),
            (Some(part), Some(tally)) => {
                *part = Part { tally, before: part.before, idle: false };
            }
            (empty, Some(tally)) => *empty = Some(Part::counted(tally)),
        }
    }
}

/// Idle sums are nothing, but where a gauge stood is worth keeping.
pub(super) fn rolls_up(kind: Kind, part: &Part) -> bool {
    !part.idle || (kind == Kind::Gauge && part.before.is_some())
}
