//! Reading: packed and pending together, at any level.
//!
//! At the finest level a bucket is its packed part and what is pending. At a coarser level a bucket that nothing
//! finer has changed since is read as it was rolled up; one that is marked, or that something pending belongs to,
//! is made of the finer level on the spot, by the same merge as a roll-up.

use super::block::{Each, Part};
use super::known::Known;
use super::layout::{BLOCK_SERIES, Cell, Id};
use super::roll::Rolled;
use super::rows::damaged;
use super::{EmbeddedStore, Inner, Rules};
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Class, Kind, Series, Tally};
use crate::store::{Reading, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// A block with the class of its series.
type Of = (Class, u32);

/// All slots of a block.
const ALL: [u8; BLOCK_SERIES] = {
    let mut all = [0; BLOCK_SERIES];
    let mut slot = 0;
    while slot < BLOCK_SERIES {
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated by the compiler, which would stop at a bad index"
        )]
        {
            all[slot] = slot as u8;
        }
        slot += 1;
    }
    all
};

impl Inner {
    /// Visits the packed parts of a block at a level whose buckets start in a span. What is pending is not
    /// visited: it is in no packed bucket, so it marks those around it when it comes into one.
    pub(super) fn visit_packed(
        &self,
        rules: &Rules,
        of: Of,
        level: usize,
        span: Span,
        slots: Option<&[u8]>,
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let like = Cell { width: rules.ladder.width(level), block: of.1, start: 0 };
        let marked: BTreeSet<WallMs> = if level == 0 {
            BTreeSet::new()
        } else {
            self.marks.starts(like, span.start, span.end).collect()
        };
        self.visit_level(
            rules,
            of,
            level,
            span,
            &marked,
            slots,
            &mut |inner, inside, each| {
                let finer = rules.ladder.finer(of.0, level).unwrap_or(0);
                inner.visit_packed(rules, of, finer, inside, slots, each)
            },
            each,
        )
    }

    /// The same with what is pending.
    fn visit_all(
        &self,
        rules: &Rules,
        of: Of,
        level: usize,
        span: Span,
        slots: &[u8],
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        if level == 0 {
            return self.visit_finest(rules, of, span, slots, each);
        }
        let like = Cell { width: rules.ladder.width(level), block: of.1, start: 0 };
        let mut marked: BTreeSet<WallMs> = self.marks.starts(like, span.start, span.end).collect();
        // A finer level's mark is a change that has not come up here yet.
        for finer in rules.ladder.chain(of.0).filter(|finer| (1..level).contains(finer)) {
            let like = Cell { width: rules.ladder.width(finer), ..like };
            let starts = self.marks.starts(like, span.start, span.end);
            marked.extend(starts.map(|start| rules.ladder.span_of(level, start).start));
        }
        let pending = self.open.of_block(of.1, span.start, span.end);
        marked.extend(pending.map(|(start, _)| rules.ladder.span_of(level, start).start));
        self.visit_level(
            rules,
            of,
            level,
            span,
            &marked,
            Some(slots),
            &mut |inner, inside, each| {
                let finer = rules.ladder.finer(of.0, level).unwrap_or(0);
                inner.visit_all(rules, of, finer, inside, slots, each)
            },
            each,
        )
    }

    /// Visits a level's packed buckets; what is in `marked` is made of what `finer` visits.
    #[expect(clippy::too_many_arguments, reason = "it is the common part of two visits")]
    fn visit_level(
        &self,
        rules: &Rules,
        of: Of,
        level: usize,
        span: Span,
        marked: &BTreeSet<WallMs>,
        slots: Option<&[u8]>,
        finer: &mut dyn FnMut(&Self, Span, Each<'_>) -> Result<(), StoreError>,
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let slots = slots.unwrap_or(&ALL);
        let like = Cell { width: rules.ladder.width(level), block: of.1, start: 0 };
        let kept = Span { start: span.start.max(self.kept_from(of.0, level)), ..span };
        let mut marked = marked.iter().copied().peekable();
        let mut made = |start: WallMs, each: Each<'_>| {
            let inside = rules.ladder.span_of(level, start);
            let mut rolled = Rolled::new(rules.bounds.at(level));
            finer(self, inside, &mut |at, slot, part| rolled.add(at, slot, part))?;
            for (slot, part) in (0..=u8::MAX).zip(rolled.finish()) {
                if let Some(part) = part {
                    each(inside, slot, part);
                }
            }
            Ok(())
        };
        self.visit_buckets(like, kept, &mut |start, bytes| {
            while let Some(before) = marked.next_if(|marked| *marked <= start) {
                made(before, each)?;
                if before == start {
                    return Ok(());
                }
            }
            let at = rules.ladder.span_of(level, start);
            let piece = bytes.piece().map_err(damaged)?;
            piece.visit(at, slots, each).map_err(damaged)
        })?;
        for start in marked {
            made(start, each)?;
        }
        Ok(())
    }

    /// Visits the finest buckets, packed and pending as one.
    fn visit_finest(
        &self,
        rules: &Rules,
        of: Of,
        span: Span,
        slots: &[u8],
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let width = rules.ladder.bucket();
        let at = |start| Span { start, end: start + width.ms() };
        let mut pending: BTreeMap<WallMs, _> = self.open.of_block(of.1, span.start, span.end).collect();
        let mut before = self.before_pending(rules, of.1, slots, span)?;
        let like = Cell { width, block: of.1, start: 0 };
        let kept = Span { start: span.start.max(self.kept_from(of.0, 0)), ..span };
        self.visit_buckets(like, kept, &mut |start, bytes| {
            let piece = bytes.piece().map_err(damaged)?;
            let Some(late) = pending.remove(&start) else {
                return piece.visit(at(start), slots, each).map_err(damaged);
            };
            let mut parts = vec![None; BLOCK_SERIES];
            let mut keep = |_, slot: u8, part| {
                if let Some(place) = parts.get_mut(usize::from(slot)) {
                    *place = Some(part);
                }
            };
            piece.visit(at(start), slots, &mut keep).map_err(damaged)?;
            let late = slots.iter().fold(vec![None; BLOCK_SERIES], |mut late_of, &slot| {
                if let Some(place) = late_of.get_mut(usize::from(slot)) {
                    *place = late.get(usize::from(slot)).cloned().flatten();
                }
                late_of
            });
            super::seal::add(&mut parts, late, &rules.bounds);
            for (slot, part) in (0..=u8::MAX).zip(parts) {
                if let Some(part) = part {
                    each(at(start), slot, part);
                }
            }
            Ok(())
        })?;
        for (start, tallies) in pending {
            for &slot in slots {
                let Some(Some(tally)) = tallies.get(usize::from(slot)) else {
                    continue;
                };
                let mut part = Part::counted(tally.clone());
                part.before = before.remove(&(start, slot));
                each(at(start), slot, part);
            }
        }
        Ok(())
    }

    /// What gauges of a block stood at before the buckets of a span that are not sealed yet: the same that the seal
    /// will find.
    fn before_pending(
        &self,
        rules: &Rules,
        number: u32,
        slots: &[u8],
        span: Span,
    ) -> Result<BTreeMap<(WallMs, u8), f64>, StoreError> {
        let mut found = BTreeMap::new();
        let Some(block) = self.known.block(number).filter(|block| block.kind == Kind::Gauge) else {
            return Ok(found);
        };
        let newest = self.sealed.last_key_value().map_or(WallMs::MIN, |(newest, _)| *newest);
        let carried = |slot: u8| -> Option<f64> {
            block.slots.get(usize::from(slot))?.as_ref()?.level.as_ref()?.carried
        };
        let mut carried: BTreeMap<u8, f64> =
            slots.iter().filter_map(|&slot| Some((slot, carried(slot)?))).collect();
        for (start, tallies) in self.open.of_block(number, WallMs::MIN, span.end) {
            if self.sealed.contains_key(&start) || (start < newest && start < span.start) {
                continue;
            }
            let between = if start < newest { Some(self.stood(rules, number, start)?) } else { None };
            let stood = between.as_ref().unwrap_or(&carried);
            found.extend(slots.iter().filter_map(|slot| Some(((start, *slot), *stood.get(slot)?))));
            if between.is_none() {
                for &slot in slots {
                    if let Some(Some(Tally::Gauge(gauge))) = tallies.get(usize::from(slot))
                        && let Some(value) = gauge.value(carried.get(&slot).copied())
                    {
                        carried.insert(slot, value);
                    }
                }
            }
        }
        Ok(found)
    }
}

impl EmbeddedStore {
    /// The buckets of some series at a level. The lock is let go of between blocks: a tick that waits for a large
    /// question waits for one block of it.
    pub(super) fn read_all(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        let mut answers: Vec<Vec<Reading>> = series.iter().map(|_| Vec::new()).collect();
        if from >= to {
            return Ok(answers);
        }
        let wanted = {
            let inner = self.lock();
            let places = |series| inner.known.places(series).into_iter();
            let mut wanted: BTreeMap<u32, BTreeMap<u8, usize>> = BTreeMap::new();
            for (at, series) in series.iter().enumerate() {
                for Id { block, slot } in places(series) {
                    wanted.entry(block).or_default().insert(slot, at);
                }
            }
            wanted
        };
        for (number, slots) in wanted {
            let inner = self.lock();
            let Some(block) = inner.known.block(number) else {
                continue;
            };
            let class = block.class;
            let level = self.rules.ladder.chain(class).rfind(|&of| of <= level).unwrap_or(0);
            // Whole buckets, also the last: what is pending behind `to` may belong to it.
            let whole = Span {
                start: self.rules.ladder.span_of(level, from).start,
                end: self.rules.ladder.span_of(level, to.saturating_sub(1)).end,
            };
            let ascending: Vec<u8> = slots.keys().copied().collect();
            let owners = owners(&block.slots, &slots);
            let width = self.rules.ladder.width(level).ms();
            let most = usize::try_from((whole.end - whole.start) / width).unwrap_or(usize::MAX);
            for &at in slots.values() {
                if let Some(answer) = answers.get_mut(at) {
                    answer.reserve(most.min(limits::READINGS_RESERVED));
                }
            }
            inner.visit_all(
                &self.rules,
                (class, number),
                level,
                whole,
                &ascending,
                &mut |at, slot, part| {
                    // What ends before its birth was another's, whose place it has now.
                    let owner = owners.get(usize::from(slot)).copied().flatten();
                    let own = owner.filter(|(_, born)| *born < at.end);
                    let counts = !part.idle || matches!(part.tally, Tally::Gauge(_));
                    if counts && let Some(answer) = own.and_then(|(owner, _)| answers.get_mut(owner)) {
                        let Part { tally, before, .. } = part;
                        answer.push(Reading { start: at.start, end: at.end, tally, before });
                    }
                },
            )?;
        }
        for answer in &mut answers {
            join(answer, &self.rules.bounds.at(level));
        }
        Ok(answers)
    }
}

/// Whose a slot is, by its answer, and since when. By slot, since it is asked of every point.
fn owners(known: &[Option<Known>], slots: &BTreeMap<u8, usize>) -> [Option<(usize, WallMs)>; BLOCK_SERIES] {
    let mut owners = [None; BLOCK_SERIES];
    for (&slot, &at) in slots {
        let known = known.get(usize::from(slot)).and_then(Option::as_ref);
        if let (Some(known), Some(owner)) = (known, owners.get_mut(usize::from(slot))) {
            *owner = Some((at, known.born));
        }
    }
    owners
}

/// Puts the readings of a series from several places in order, one for each bucket.
fn join(readings: &mut Vec<Reading>, bounds: &crate::metric::Bounds) {
    if readings.is_sorted_by(|a, b| a.start < b.start) {
        return;
    }
    readings.sort_by_key(|reading| reading.start);
    readings.dedup_by(|later, first| {
        let same = later.start == first.start;
        if same {
            first.tally.merge(later.tally.clone(), bounds);
        }
        same
    });
}
