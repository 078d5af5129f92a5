//! Checkpoints: what is in memory alone goes to disk, in one transaction; and the way back at a start.
//!
//! A checkpoint holds everything that was applied before it: packed buckets, what is pending in open ones, the
//! state of series, marks, lists, and the producers' watermarks. What it holds may leave the journal.

use super::archive::Archive;
use super::block::{Parts, pack, unpack};
use super::known::{Block, Known};
use super::layout::{self, BLOCK_SERIES, FORMAT, Id};
use super::level::Level;
use super::{EmbeddedStore, Inner, Newborn, Rules};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::gauge::Order;
use crate::metric::malformed::Malformed;
use crate::metric::{Class, Kind, Series};
use crate::store::{Confirmed, StoreError};
use crate::wire::bytes::{Reader, push_text, push_varint, push_zigzag};
use crate::wire::decimal::{push_value, read_value};
use crate::wire::tally::{push_tally, read_tally};
use std::collections::BTreeSet;
use std::sync::PoisonError;

const LIVE: u8 = 1;
const LEVEL: u8 = 2;
const KEPT: u8 = 4;

impl EmbeddedStore {
    /// Writes everything out; returns what every producer may forget. Only one thread writes at a time, and nobody
    /// waits for the disk but the one who asked.
    pub(super) fn write_out(&self, now: WallMs) -> Result<Vec<Confirmed>, StoreError> {
        let Some(disk) = &self.disk else {
            return Ok(Vec::new());
        };
        let committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let (layer, confirmed) = {
            let mut inner = self.lock();
            inner.stage(&self.rules, now);
            // Only what is new since the last one: there may be a million producers. In an order of their own, so that
            // a history of the simulation repeats.
            let producers = std::mem::take(&mut inner.unconfirmed);
            let confirmed: Vec<Confirmed> = producers
                .into_iter()
                .filter_map(|producer| {
                    let (number, _) = *inner.watermarks.get(&producer)?;
                    Some(Confirmed { producer, number })
                })
                .collect();
            (inner.archive.freeze(), confirmed)
        };
        let Some(layer) = layer else {
            return Ok(confirmed);
        };
        let written = disk.commit(&layer);
        drop(layer);
        let mut inner = self.lock();
        match &written {
            Ok(()) => {
                inner.archive.written();
                inner.failing = None;
                inner.forget_producers();
            }
            Err(error) => {
                inner.archive.failed();
                inner.unconfirmed.extend(confirmed.iter().map(|one| one.producer));
                let since = inner.failing.take().map_or(now, |(_, since)| since);
                let cure = match error {
                    StoreError::Damaged(_) => "stop tallyd and put a backup in its place (`tallyd restore`)",
                    _ => "free some space on its disk, or make it writable",
                };
                inner.failing = Some((format!("{error}; {cure}"), since));
            }
        }
        drop(inner);
        drop(committing);
        written.map(|()| confirmed)
    }
}

impl Inner {
    /// Puts into the archive what stands beside it.
    fn stage(&mut self, rules: &Rules, now: WallMs) {
        self.stage_series(now);
        let mut open = Vec::new();
        for (start, pending) in self.open.all() {
            for (&number, slots) in pending {
                if let Some(block) = self.known.block(number) {
                    let parts: Parts = super::seal::counted(slots.clone());
                    open.push((layout::open(start, number), pack(block.kind, &parts)));
                }
            }
        }
        let before = std::mem::take(&mut self.staged_open);
        for (key, value) in open {
            self.staged_open.insert(key.clone());
            self.archive.put(key, value);
        }
        for key in before.difference(&self.staged_open) {
            self.archive.remove(key.clone());
        }
        for &producer in &self.unconfirmed {
            if let Some((number, at)) = self.watermarks.get(&producer) {
                let value = [number.to_be_bytes(), at.to_be_bytes()].concat();
                self.archive.put(layout::producer(producer), value);
            }
        }
        self.stage_settings(rules);
    }

    fn stage_settings(&mut self, rules: &Rules) {
        let settings = [
            ("format", FORMAT.to_string()),
            ("bucket", rules.ladder.bucket().ms().to_string()),
            ("zone", rules.ladder.calendar().zone().to_owned()),
            ("floor", self.floor.to_string()),
        ];
        for (word, value) in settings {
            let key = layout::setting(word);
            if self.archive.get(&key).ok().flatten().as_deref() != Some(value.as_bytes()) {
                self.archive.put(key, value.into_bytes());
            }
        }
    }

    fn stage_series(&mut self, now: WallMs) {
        // When a series was last active is written now and then: a restart may remember an idle one longer.
        let grain = self
            .known
            .rules
            .after_ms
            .map_or(limits::ACTIVE_GRAIN_MS, |after| (after / 4).min(limits::ACTIVE_GRAIN_MS));
        let Self { known, archive, .. } = self;
        for (number, block) in known.blocks_mut() {
            if std::mem::take(&mut block.names_changed) {
                archive.put(layout::names(number), names(block));
            }
            let stale = now.saturating_sub(block.state_written) >= grain;
            if std::mem::take(&mut block.state_changed) || stale {
                block.state_written = now;
                archive.put(layout::state(number), state(block));
            }
        }
    }

    /// Takes over what is on disk.
    pub(super) fn load(&mut self, rules: &Rules, now: WallMs) -> Result<(), StoreError> {
        if let Some(found) = self.archive.get(&layout::setting("bucket"))? {
            let found: i64 = std::str::from_utf8(&found).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            if found != rules.ladder.bucket().ms() {
                return Err(StoreError::OtherBucket { found_ms: found });
            }
        }
        self.load_series(rules, now)?;
        self.load_gathered(rules)?;
        self.load_versions(rules)?;
        self.load_lists()?;
        self.load_open(rules)
    }

    fn load_series(&mut self, rules: &Rules, now: WallMs) -> Result<(), StoreError> {
        let mut blocks = Vec::new();
        each(&self.archive, b'n', &mut |key, value| {
            let number = layout::block_of(key).ok_or(Malformed("a key of names that is too short"))?;
            blocks.push((number, read_names(value)?));
            Ok(())
        })?;
        for (number, mut block) in blocks {
            if let Some(state) = self.archive.get(&layout::state(number))? {
                read_state(&state, &mut block).map_err(damaged)?;
            }
            block.state_written = now;
            self.known.load(number, block, |series| rules.class(series));
        }
        Ok(())
    }

    fn load_lists(&mut self) -> Result<(), StoreError> {
        let bad = || Malformed("a key that is too short");
        if let Some(floor) = self.archive.get(&layout::setting("floor"))? {
            let floor = std::str::from_utf8(&floor).ok().and_then(|text| text.parse().ok());
            self.floor =
                floor.ok_or_else(|| damaged(Malformed("the oldest time that is kept is not a number")))?;
        }
        let mut lists = Vec::new();
        each(&self.archive, b'o', &mut |key, value| {
            let (address, start) = layout::addressed(key).ok_or_else(bad)?;
            be64(&mut Reader::new(value))?;
            lists.push((key.to_vec(), address.to_owned(), start));
            Ok(())
        })?;
        for (key, address, start) in lists {
            let needs = self.needs.iter_mut().find(|needs| needs.name == address);
            match needs.zip(self.sealed.get(&start)) {
                // The version it has now: that of the row may be one of an earlier process.
                Some((needs, version)) => drop(needs.out.insert(start, *version)),
                // A destination that is not configured any more.
                None => self.archive.remove(key),
            }
        }
        let mut cohorts = Vec::new();
        each(&self.archive, b'c', &mut |key, value| {
            let (address, born) = layout::addressed(key).ok_or_else(bad)?;
            let mut value = Reader::new(value);
            let (stated, points) = (value.varint()? as u32, value.varint()?);
            let heard = if value.is_empty() { 0 } else { value.varint()? };
            let heard = (heard > 0).then_some(heard as WallMs);
            let newborn = Newborn { stated, points, heard };
            cohorts.push((key.to_vec(), address.to_owned(), born, newborn));
            Ok(())
        })?;
        for (key, address, born, newborn) in cohorts {
            match self.needs.iter_mut().find(|needs| needs.name == address) {
                Some(needs) => drop(needs.cohorts.insert(born, newborn)),
                None => self.archive.remove(key),
            }
        }
        let mut watermarks = Vec::new();
        each(&self.archive, b'w', &mut |key, value| {
            let mut value = Reader::new(value);
            let producer = layout::producer_of(key).ok_or_else(bad)?;
            watermarks.push((producer, (be64(&mut value)?, be64(&mut value)? as WallMs)));
            Ok(())
        })?;
        // The journal may hold batches of any of them.
        self.unconfirmed.extend(watermarks.iter().map(|(producer, _)| *producer));
        self.watermarks.extend(watermarks);
        Ok(())
    }

    fn load_open(&mut self, rules: &Rules) -> Result<(), StoreError> {
        let bad = || Malformed("a key that is too short");
        let mut marks = Vec::new();
        each(&self.archive, b's', &mut |key, _| {
            marks.push(layout::mark_of(key).ok_or_else(bad)?);
            Ok(())
        })?;
        for cell in marks {
            match rules.ladder.level_of(cell.width) {
                Some(level) => drop(self.marks.add(cell, rules.ladder.span_of(level, cell.start).end)),
                None => self.archive.remove(layout::mark(cell)),
            }
        }
        let mut open = Vec::new();
        let mut keys = BTreeSet::new();
        each(&self.archive, b'p', &mut |key, value| {
            let (start, block) = layout::open_of(key).ok_or_else(bad)?;
            open.push((start, block, unpack(value)?));
            keys.insert(key.to_vec());
            Ok(())
        })?;
        self.staged_open = keys;
        for (start, block, parts) in open {
            for (slot, _) in (0..=u8::MAX).zip(&parts).filter(|(_, part)| part.is_some()) {
                self.known.seen(Id { block, slot }, start);
            }
            let slots = parts.into_iter().map(|part| part.map(|part| part.tally)).collect();
            self.open.insert(start, block, slots);
        }
        Ok(())
    }
}

/// Takes over a key and its value.
type ReadKey<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Malformed>;

/// Visits all keys of a sort.
pub(super) fn each(archive: &Archive, tag: u8, read: ReadKey<'_>) -> Result<(), StoreError> {
    let (from, to) = layout::all(tag);
    archive.visit(&from, &to, &mut |key, value| read(key, value).map_err(damaged))
}

fn be64(from: &mut Reader<'_>) -> Result<u64, Malformed> {
    from.array().map(u64::from_be_bytes)
}

fn text<'a>(from: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let length = from.count(1)?;
    from.text(length)
}

fn damaged(error: Malformed) -> StoreError {
    StoreError::Damaged(format!("the store does not read back: {error}"))
}

/// `kind:1 class:1 slots:varint`, then for each slot 0, or 1 with `born:zigzag key:text`.
fn names(block: &Block) -> Vec<u8> {
    let mut out = vec![block.kind as u8, block.class as u8];
    push_varint(&mut out, block.slots.len() as u64);
    for known in &block.slots {
        out.push(u8::from(known.is_some()));
        if let Some(known) = known {
            push_zigzag(&mut out, known.born);
            push_text(&mut out, known.series.key());
        }
    }
    out
}

fn read_names(bytes: &[u8]) -> Result<Block, Malformed> {
    let mut from = Reader::new(bytes);
    let (kind, class) = (from.u8()?, from.u8()?);
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let class = Class::ALL.into_iter().find(|known| *known as u8 == class);
    let (Some(kind), Some(class)) = (kind, class) else {
        return Err(Malformed("names of an unknown kind or class"));
    };
    let mut block = Block::new(kind, class);
    let slots = from.varint()? as usize;
    if slots > BLOCK_SERIES {
        return Err(Malformed("names of too many series"));
    }
    for _ in 0..slots {
        if from.u8()? == 0 {
            block.slots.push(None);
            continue;
        }
        let born = from.zigzag()?;
        let series = Series::new(kind, text(&mut from)?);
        block.slots.push(Some(Known {
            series,
            active: born,
            born,
            idle_buckets: 0,
            live: false,
            level: None,
            kept: None,
        }));
    }
    Ok(block)
}

/// For each series `flags:1 active:zigzag idle buckets:varint`, then its level and what it keeps, if it does.
fn state(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    for known in block.slots.iter().flatten() {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.push(
            flag(known.live, LIVE) | flag(known.level.is_some(), LEVEL) | flag(known.kept.is_some(), KEPT),
        );
        push_zigzag(&mut out, known.active);
        push_varint(&mut out, u64::from(known.idle_buckets));
        if let Some(level) = &known.level {
            for value in [level.carried, level.present] {
                out.push(u8::from(value.is_some()));
                if let Some(value) = value {
                    push_value(&mut out, value);
                }
            }
            for order in [level.last_set, level.last_change] {
                out.push(u8::from(order.is_some()));
                if let Some(Order { time, producer, number }) = order {
                    push_zigzag(&mut out, time);
                    out.extend(producer.to_be_bytes());
                    push_varint(&mut out, number);
                }
            }
        }
        if let Some(kept) = &known.kept {
            push_tally(&mut out, kept);
        }
    }
    out
}

fn read_state(bytes: &[u8], block: &mut Block) -> Result<(), Malformed> {
    let mut from = Reader::new(bytes);
    for known in block.slots.iter_mut().flatten() {
        // The state was written with fewer names: the others have none yet.
        if from.is_empty() {
            break;
        }
        let flags = from.u8()?;
        known.live = flags & LIVE != 0;
        known.active = from.zigzag()?;
        known.idle_buckets = from.varint()? as u32;
        if flags & LEVEL != 0 {
            let mut value = || -> Result<_, Malformed> {
                Ok(if from.u8()? == 0 { None } else { Some(read_value(&mut from)?) })
            };
            let (carried, present) = (value()?, value()?);
            let mut order = || -> Result<_, Malformed> {
                if from.u8()? == 0 {
                    return Ok(None);
                }
                let time = from.zigzag()?;
                let producer = u128::from(be64(&mut from)?) << 64 | u128::from(be64(&mut from)?);
                Ok(Some(Order { time, producer, number: from.varint()? }))
            };
            let (last_set, last_change) = (order()?, order()?);
            known.level = Some(Box::new(Level { carried, present, last_set, last_change }));
        }
        if flags & KEPT != 0 {
            known.kept = Some(Box::new(read_tally(block.kind, &mut from)?));
        }
    }
    Ok(())
}
