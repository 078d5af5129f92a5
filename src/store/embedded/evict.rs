//! Room for new series where places have run out: those that came once are given up, with all that is kept of them.
//!
//! A flood of names leaves series that had samples in one bucket and never again. Their places would be theirs until
//! nothing of them is kept any more, which is days. Whole blocks go, since series that are born together stand in one:
//! a block of which every series had samples in one bucket only, with a bucket without any behind that, and which no
//! destination needs that bucket of. What was counted has been stated; what goes is its history here. Gauges stay,
//! since they stand at something, and so do figures.

use super::known::Known;
use super::layout::{BLOCK_SERIES, Cell};
use super::{Inner, Rules};
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::metric::{Class, Kind};
use crate::store::StoreError;
use std::collections::BTreeSet;

impl Inner {
    /// Gives up series that came once, the oldest first, about as many as are asked for; returns how many it was.
    pub(super) fn make_room(&mut self, rules: &Rules, series: usize) -> Result<usize, StoreError> {
        let Some((&newest, _)) = self.sealed.last_key_value() else {
            return Ok(0);
        };
        let blocks: BTreeSet<u32> = self
            .known
            .blocks()
            .map(|(number, _)| number)
            .filter(|number| self.came_once(rules, *number, newest))
            .take(series.div_ceil(BLOCK_SERIES))
            .collect();
        for &block in &blocks {
            for level in rules.ladder.levels() {
                let like = Cell { width: level.width, block, start: 0 };
                self.remove_rows(like, Span { start: WallMs::MIN, end: WallMs::MAX })?;
            }
        }
        let marked: Vec<Cell> = self.marks.all().filter(|cell| blocks.contains(&cell.block)).collect();
        for cell in marked {
            self.unmark(cell);
        }
        Ok(self.known.clear(&blocks))
    }

    /// Whether all series of a full block came in one bucket each, which is over and stated.
    fn came_once(&self, rules: &Rules, number: u32, newest: WallMs) -> bool {
        let Some(block) = self.known.block(number) else {
            return false;
        };
        let sort = block.kind != Kind::Gauge && block.class != Class::Figure;
        // One that is forgotten was last active when that was found.
        let spare = |known: &Known| if known.live { 0 } else { 2 * rules.ladder.bucket().ms() };
        let once = |known: &Known| {
            known.active - known.born <= spare(known)
                && known.active < newest
                && !known.is_never_dropped()
                && self.needs.iter().all(|needs| !needs.out.contains_key(&known.born))
        };
        sort && block.slots.len() == BLOCK_SERIES
            && block.slots.iter().any(Option::is_some)
            && block.slots.iter().flatten().all(once)
            && self.open.of_block(number, WallMs::MIN, WallMs::MAX).next().is_none()
    }
}
