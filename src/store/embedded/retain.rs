//! What is let go: buckets past their keep, and under memory's limit whatever is least missed.
//!
//! Whole buckets of blocks go, and together those that one coarser bucket is made of, once that is made: a roll-up
//! never finds a part of what it needs. The finest buckets stay as long as a destination needs them, up to a limit.

use super::layout::{self, Cell};
use super::{Inner, Rules};
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::Class;
use crate::store::StoreError;
use std::collections::BTreeMap;

impl Inner {
    /// Lets go of what is past its keep.
    pub(super) fn let_go(&mut self, rules: &Rules, now: WallMs) -> Result<(), StoreError> {
        let ladder = &rules.ladder;
        // Nothing that is still to be rolled up goes: what a mark is made of, and what will be made with that.
        let mut marks: BTreeMap<usize, WallMs> = BTreeMap::new();
        for cell in self.marks.all() {
            if let Some(level) = ladder.level_of(cell.width) {
                let first = marks.entry(level).or_insert(WallMs::MAX);
                *first = cell.start.min(*first);
            }
        }
        let marked = |class: Class, level: usize| {
            let upto = ladder.coarser(class, level).unwrap_or(level);
            marks.range(..=upto).map(|(_, first)| *first).min().unwrap_or(WallMs::MAX)
        };
        let needed = self.needs.iter().filter_map(|needs| needs.out.keys().next()).min();
        let needed = needed.map_or(WallMs::MAX, |&oldest| oldest.max(now - limits::OUTSTANDING_MS_MAX));
        let finest = Class::ALL.map(|class| ladder.oldest(class, 0, now).min(marked(class, 0)));
        let finest = finest.into_iter().min().unwrap_or(WallMs::MIN).min(needed);
        self.let_go_of_versions(rules, finest);
        for class in Class::ALL {
            for level in ladder.chain(class).collect::<Vec<_>>() {
                let oldest = if level == 0 {
                    finest
                } else {
                    ladder.oldest(class, level, now).min(marked(class, level))
                };
                self.let_go_of(rules, class, level, oldest)?;
            }
        }
        let expired = |class: Class, active: WallMs| {
            active < finest && ladder.chain(class).all(|level| active < ladder.oldest(class, level, now))
        };
        // A place is given to another series only when no bucket of any width can hold both.
        let apart = now - limits::PLACE_REUSE_MS.max(ladder.amend_window_ms() + limits::PLACE_REUSE_MS / 2);
        if now >= self.let_go.get(&(Class::Plain, usize::MAX)).copied().unwrap_or(WallMs::MIN) {
            self.let_go.insert((Class::Plain, usize::MAX), now + limits::RELEASE_MS);
            self.known.release(|class, known| known.active < apart && expired(class, known.active));
            self.producers_before = now - ladder.amend_window_ms() - limits::PLACE_REUSE_MS / 2;
            if !self.archive.is_on_disk() {
                self.forget_producers();
            }
        }
        Ok(())
    }

    /// Removes a class's buckets at a level that start before `oldest`.
    fn let_go_of(
        &mut self,
        rules: &Rules,
        class: Class,
        level: usize,
        oldest: WallMs,
    ) -> Result<(), StoreError> {
        let before = self.let_go.get(&(class, level)).copied().unwrap_or(WallMs::MIN);
        if oldest <= before {
            return Ok(());
        }
        let width = rules.ladder.width(level);
        let blocks: Vec<u32> =
            self.known.blocks().filter(|(_, block)| block.class == class).map(|(number, _)| number).collect();
        for block in blocks {
            match self.remove_rows(Cell { width, block, start: 0 }, Span { start: before, end: oldest }) {
                // What does not read back stays, and is only room that is not used.
                Ok(()) | Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.let_go.insert((class, level), oldest);
        Ok(())
    }

    fn let_go_of_versions(&mut self, rules: &Rules, oldest: WallMs) {
        let starts: Vec<WallMs> = self.sealed.range(..oldest).map(|(start, _)| *start).collect();
        if let Some(last) = starts.last() {
            self.floor = self.floor.max(last + 1);
            self.unseal(rules, &starts);
        }
    }

    /// Producers of long ago, whose batches a checkpoint has confirmed: a journal may hold them until it hears of
    /// that, and without a watermark they would count twice. So the disk forgets them one checkpoint later.
    pub(super) fn forget_producers(&mut self) {
        let before = self.producers_before;
        let gone = self.watermarks.extract_if(|_, (_, at)| *at < before).map(|(producer, _)| producer);
        for producer in gone {
            self.archive.remove(layout::producer(producer));
        }
    }

    /// Keeps within the bytes that memory may take, and counts the buckets that a destination still needed.
    pub(super) fn shed(&mut self, rules: &Rules) -> Result<(), StoreError> {
        let (had, all) = self.history_max;
        while self.archive.bytes() > had.min(all) {
            let before = self.archive.bytes();
            match self.least_missed(rules) {
                Some((span, needed)) => {
                    if needed && before <= all {
                        break;
                    }
                    let buckets = self.sealed.range(span.start..span.end).count() as u64;
                    let unstated = self.shed_finest(rules, span);
                    self.shed_unsaid.0 += unstated;
                    self.shed_unsaid.1 += buckets - unstated;
                }
                None if before <= all => break,
                None => self.shed_coarse(rules)?,
            }
            if self.archive.bytes() >= before {
                break;
            }
        }
        Ok(())
    }

    /// The finest buckets that go first: the oldest that every destination has, else the oldest of all but the
    /// newest. Says whether a destination needs them.
    fn least_missed(&self, rules: &Rules) -> Option<(Span, bool)> {
        let ladder = &rules.ladder;
        let level = 1.min(ladder.levels().len() - 1);
        let (&newest, _) = self.sealed.last_key_value()?;
        let span = |&start: &WallMs| ladder.span_of(level, start);
        let needed = |span: &Span| {
            self.needs.iter().any(|needs| needs.out.range(span.start..span.end).next().is_some())
        };
        let old = || self.sealed.keys().map(span).filter(|span| span.end <= newest);
        // The oldest are looked at first, and of many buckets few are needed: this ends soon.
        let last = || {
            let (&oldest, _) = self.sealed.first_key_value()?;
            (oldest < newest).then(|| ladder.span_of(0, oldest))
        };
        let found = old().find(|span| !needed(span)).or_else(|| old().next()).or_else(last)?;
        Some((found, needed(&found)))
    }

    /// Rolls up what is made of the finest buckets of a span, and lets those go.
    fn shed_finest(&mut self, rules: &Rules, span: Span) -> u64 {
        let around: Vec<Cell> = self
            .marks
            .all()
            .filter(|cell| cell.width > rules.ladder.bucket() && (span.start..span.end).contains(&cell.start))
            .collect();
        for cell in around {
            if let Err(error) = self.roll(rules, cell) {
                tracing::error!(%error, bucket = cell.start, width = cell.width.ms(), "let go without its roll-up");
                self.unmark(cell);
            }
        }
        let blocks: Vec<u32> = self.known.blocks().map(|(number, _)| number).collect();
        for block in blocks {
            let like = Cell { width: rules.ladder.bucket(), block, start: 0 };
            // Memory is what is short: where the disk cannot be read, what is in memory goes all the same.
            self.cut(like, span).ok();
        }
        let starts: Vec<WallMs> = self.sealed.range(span.start..span.end).map(|(start, _)| *start).collect();
        let unstated = self.unseal(rules, &starts);
        // What comes late now would pass for the whole.
        self.floor = self.floor.max(span.end);
        unstated
    }

    /// Lets go of the oldest day of the finest rolled-up buckets there are.
    fn shed_coarse(&mut self, rules: &Rules) -> Result<(), StoreError> {
        for level in 1..rules.ladder.levels().len() {
            let width = rules.ladder.width(level);
            let mut oldest: Option<WallMs> = None;
            let blocks: Vec<u32> = self.known.blocks().map(|(number, _)| number).collect();
            let like = |block| Cell { width, block, start: 0 };
            for &block in &blocks {
                let found = self.oldest_bucket(like(block))?;
                oldest = [oldest, found].into_iter().flatten().min();
            }
            if let Some(oldest) = oldest {
                let until = oldest + width.ms().max(crate::calendar::DAY_MS);
                for &block in &blocks {
                    self.cut(like(block), Span { start: oldest, end: until })?;
                }
                return Ok(());
            }
        }
        Ok(())
    }
}
