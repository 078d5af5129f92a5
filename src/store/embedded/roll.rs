//! Roll-ups: coarse buckets made of finer ones.
//!
//! When a bucket is sealed or amended, the coarser bucket around it is *marked*; a mark is due when the coarse
//! bucket is over. To roll it up is to merge all finer buckets inside it and write the result, whatever was there
//! before: done twice it is the same, and nothing is counted twice. It marks the next coarser one in turn.
//! A bounded number of parts is merged at a time, so that no tick waits for a day of a hundred thousand series.

use super::block::{Part, Parts, pack};
use super::layout::{self, Cell};
use super::seal::rolls_up;
use super::{Inner, Rules};
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::gauge::Change;
use crate::metric::{Bounds, Class, Gauge, Kind, Ladder, Tally};
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet};

/// Coarse buckets that are to be made anew, by place and by the time they are due.
#[derive(Debug, Default)]
pub(super) struct Marks {
    due: BTreeSet<(WallMs, Cell)>,
    of: BTreeMap<Cell, WallMs>,
}

impl Marks {
    /// Whether the mark is new.
    pub(super) fn add(&mut self, cell: Cell, due: WallMs) -> bool {
        let new = self.of.insert(cell, due).is_none();
        self.due.insert((due, cell));
        new
    }

    pub(super) fn remove(&mut self, cell: Cell) {
        if let Some(due) = self.of.remove(&cell) {
            self.due.remove(&(due, cell));
        }
    }

    /// The mark that is due first, if it is due.
    fn next(&self, due: WallMs) -> Option<Cell> {
        self.due.first().filter(|(at, _)| *at <= due).map(|(_, cell)| *cell)
    }

    /// Starts of the marked buckets of a block at a width in `[from, to)`.
    pub(super) fn starts(&self, like: Cell, from: WallMs, to: WallMs) -> impl Iterator<Item = WallMs> {
        let at = move |start| Cell { start, ..like };
        self.of.range(at(from)..at(to.max(from))).map(|(cell, _)| cell.start)
    }

    /// All marked buckets.
    pub(super) fn all(&self) -> impl Iterator<Item = Cell> {
        self.of.keys().copied()
    }
}

impl Inner {
    /// A bucket of a block has changed: the one around it at the next level is to be made anew.
    pub(super) fn mark_coarser(
        &mut self,
        ladder: &Ladder,
        class: Class,
        block: u32,
        level: usize,
        start: WallMs,
    ) {
        if let Some(coarser) = ladder.coarser(class, level) {
            let span = ladder.span_of(coarser, start);
            let cell = Cell { width: ladder.width(coarser), block, start: span.start };
            if self.marks.add(cell, span.end) {
                self.archive.put(layout::mark(cell), Vec::new());
            }
        }
    }

    pub(super) fn unmark(&mut self, cell: Cell) {
        self.marks.remove(cell);
        self.archive.remove(layout::mark(cell));
    }

    /// Rolls up what is due, as much as may be done at a time; returns how many buckets of blocks.
    pub(super) fn roll_due(&mut self, rules: &Rules, due: WallMs) -> Result<u64, StoreError> {
        let mut rolled = 0;
        let mut merged = 0;
        while let Some(cell) = self.marks.next(due) {
            merged += self.roll(rules, cell)?;
            rolled += 1;
            if merged >= limits::ROLL_UP_PARTS_MAX {
                break;
            }
        }
        Ok(rolled)
    }

    /// Makes a coarse bucket of a block anew; returns how many parts were merged.
    pub(super) fn roll(&mut self, rules: &Rules, cell: Cell) -> Result<usize, StoreError> {
        let block = self.known.block(cell.block).map(|block| (block.kind, block.class));
        let level = rules.ladder.level_of(cell.width);
        let finer = block.zip(level).and_then(|((_, class), level)| rules.ladder.finer(class, level));
        let (Some((kind, class)), Some(level), Some(finer)) = (block, level, finer) else {
            // The ladder has changed since: nothing is kept at this width any more.
            self.unmark(cell);
            return Ok(0);
        };
        let span = rules.ladder.span_of(level, cell.start);
        let mut rolled = Rolled::new(rules.bounds.at(level));
        let mut merged = 0;
        let mut born: Vec<WallMs> = Vec::new();
        if let Some(block) = self.known.block(cell.block) {
            born.extend(
                block.slots.iter().map(|known| known.as_ref().map_or(WallMs::MAX, |known| known.born)),
            );
        }
        let visited =
            self.visit_packed(rules, (class, cell.block), finer, span, None, &mut |at, slot, part| {
                merged += 1;
                if born.get(usize::from(slot)).is_some_and(|born| *born < at.end) {
                    rolled.add(at, slot, part);
                }
            });
        match visited {
            // A part would pass for the whole. What was made of it before it was damaged stays.
            Err(StoreError::Damaged(error)) => {
                tracing::error!(
                    error,
                    bucket = cell.start,
                    width = cell.width.ms(),
                    "not rolled up: damaged"
                );
                self.unmark(cell);
                return Ok(merged);
            }
            visited => visited?,
        }
        let parts = rolled.finish();
        if parts.iter().any(Option::is_some) {
            self.put_bucket(cell, pack(kind, &parts));
        } else {
            self.remove_bucket(kind, cell);
        }
        self.unmark(cell);
        self.mark_coarser(&rules.ladder, class, cell.block, level, cell.start);
        Ok(merged)
    }
}

/// Parts of finer buckets, oldest first, on their way into a coarse one.
pub(super) struct Rolled {
    parts: Parts,
    bounds: Bounds,
}

impl Rolled {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { parts: Vec::new(), bounds }
    }

    pub(super) fn add(&mut self, at: Span, slot: u8, part: Part) {
        let slot = usize::from(slot);
        if !rolls_up(part.tally.kind(), &part) {
            return;
        }
        if self.parts.len() <= slot {
            self.parts.resize_with(slot + 1, || None);
        }
        let Some(mine) = self.parts.get_mut(slot) else {
            return;
        };
        let part = if part.tally.kind() == Kind::Gauge { standing(at, part) } else { part };
        if let Some(mine) = mine {
            mine.tally.merge(part.tally, &self.bounds);
        } else {
            let mut tally = Tally::empty(part.tally.kind());
            // Not moved as it is: what is exact in a fine bucket may be too much in a coarse one.
            tally.merge(part.tally, &self.bounds);
            *mine = Some(Part { tally, before: part.before, idle: false });
        }
    }

    /// The parts of the coarse bucket.
    pub(super) fn finish(mut self) -> Parts {
        for part in self.parts.iter_mut().flatten() {
            if let Tally::Gauge(gauge) = &mut part.tally {
                *gauge = gauge.extremes();
            }
        }
        self.parts
    }
}

/// Where a gauge stood in a bucket: its values there as sets, with the last at the end; of an idle one the value
/// it had all the time.
fn standing(at: Span, part: Part) -> Part {
    let Tally::Gauge(gauge) = &part.tally else {
        return part;
    };
    let mut values = gauge.values(part.before);
    if let (true, Some(value)) = (gauge.is_empty(), part.before) {
        let order = crate::metric::gauge::Order { time: at.start, producer: 0, number: 0 };
        values = Gauge::once(order, Change { set: Some(value), delta: 0.0 });
    }
    Part { tally: Tally::Gauge(values), before: None, idle: false }
}
