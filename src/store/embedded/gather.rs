//! Gathering: rows of single buckets become rows of many (layout.rs), some time after nothing came late to them.
//!
//! ```text
//!   look at a block at a width, from where it was gathered up to:
//!     rows to gather, no gathered row behind them   fill rows, each until it is full; what does not fill one waits
//!     a gathered row behind them: they came late    into that row, which may become two
//!   the next look: when another row will be full, as fast as this one filled
//! ```
//!
//! Every look puts the new row, and removes the old ones, in what the next checkpoint writes as one transaction: no
//! crash leaves a bucket twice or nowhere. Looks share [`Gathering::bytes_at_once`] of each fold, so that no tick waits
//! for them, and there are none while the disk fails, since rows would only wait in memory. A store in memory does not
//! gather: it may have to let go of any bucket at any time.
//!
//! Buckets of more than half a row stay as they are: they have no page to share.

use super::archive::OnDamage;
use super::block::Piece;
use super::gathered::{Row, SPAN, pieces};
use super::layout::{self, Cell};
use super::rows::{Found, damaged};
use super::{Inner, Rules};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::Width;
use crate::metric::malformed::Malformed;
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// When buckets are gathered, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// So long after its end a bucket is gathered, in milliseconds.
    pub after_ms: i64,
    /// The longest row, in bytes.
    pub row_bytes: usize,
    /// Bytes that are looked at in a fold.
    pub bytes_at_once: usize,
    /// Versions that are gathered at a time, and no fewer.
    pub versions_at_once: usize,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            after_ms: limits::GATHER_AFTER_MS,
            row_bytes: limits::GATHERED_BYTES_MAX,
            bytes_at_once: limits::GATHER_BYTES_AT_ONCE,
            versions_at_once: VERSIONS_AT_ONCE,
        }
    }
}

/// What was gathered since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Rows that were written.
    pub rows: u64,
    /// Buckets of blocks in them.
    pub buckets: u64,
    /// Bytes of them, and of their keys.
    pub bytes: u64,
    /// Rows that were written anew since something came late.
    pub again: u64,
}

/// A block at a width.
type Pair = (Width, u32);

/// What a row that is looked at costs beside its bytes.
const ROW_COST: usize = 256;
/// Rows of versions become bits by so many at a time.
const VERSIONS_AT_ONCE: usize = 64;
/// The longest pause between two looks, and that after one that found nothing, in widths.
const LOOK_MS_MAX: i64 = 6 * 3_600_000;
const LOOK_WIDTHS: i64 = 64;

/// How far a block is gathered at a width.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// No row that starts before this is to be gathered.
    upto: WallMs,
    look_at: WallMs,
    /// The newest row that may be gathered; `MAX` where that is not known.
    newest: WallMs,
}

/// How far everything is gathered.
#[derive(Debug)]
pub(super) struct Gather {
    on: bool,
    pub(super) pace: Gathering,
    pub(super) done: Gathered,
    /// When the last fold was.
    now: WallMs,
    tails: HashMap<Pair, Tail, foldhash::fast::RandomState>,
    due: BTreeSet<(WallMs, Pair)>,
}

impl Gather {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            pace: Gathering::default(),
            done: Gathered::default(),
            now: WallMs::MIN,
            tails: HashMap::default(),
            due: BTreeSet::new(),
        }
    }

    /// Takes over how far a pair is gathered, or that it never was.
    fn load(&mut self, pair: Pair, upto: WallMs) {
        let tail = Tail { upto, look_at: WallMs::MIN, newest: WallMs::MAX };
        if let Some(old) = self.tails.insert(pair, tail) {
            self.due.remove(&(old.look_at, pair));
        }
        self.due.insert((tail.look_at, pair));
    }

    /// A bucket is written in a row of its own. Says whether how far its block is gathered has to be written anew.
    pub(super) fn note(&mut self, cell: Cell, bytes: usize) -> bool {
        if !self.on {
            return false;
        }
        let pair = (cell.width, cell.block);
        let soon = self.now.saturating_add(self.pace.after_ms).saturating_add(cell.width.ms());
        let (due, large) = (&mut self.due, bytes > self.pace.row_bytes / 2);
        let tail = self.tails.entry(pair).or_insert_with(|| {
            due.insert((soon, pair));
            Tail { upto: WallMs::MIN, look_at: soon, newest: WallMs::MIN }
        });
        if !large {
            tail.newest = tail.newest.max(cell.start);
        }
        let late = cell.start < tail.upto;
        if late {
            tail.upto = cell.start;
            tail.newest = tail.newest.max(cell.start);
            if soon < tail.look_at {
                self.due.remove(&(tail.look_at, pair));
                tail.look_at = soon;
                self.due.insert((soon, pair));
            }
        }
        late
    }

    /// The pair to look at next, if it is time.
    fn next(&self) -> Option<(Pair, Tail)> {
        let (_, pair) = self.due.first().filter(|(at, _)| *at <= self.now)?;
        Some((*pair, *self.tails.get(pair)?))
    }

    fn look_at(&mut self, pair: Pair, at: WallMs) {
        if let Some(tail) = self.tails.get_mut(&pair) {
            self.due.remove(&(tail.look_at, pair));
            tail.look_at = at;
            self.due.insert((at, pair));
        }
    }

    fn forget(&mut self, pair: Pair) {
        if let Some(tail) = self.tails.remove(&pair) {
            self.due.remove(&(tail.look_at, pair));
        }
    }
}

/// Rows that are to be gathered, oldest first.
struct Singles {
    rows: Vec<(WallMs, Box<[u8]>)>,
    /// There are no more of them.
    complete: bool,
    bytes: usize,
}

impl Inner {
    /// Takes over how far blocks are gathered, and looks at all of them.
    pub(super) fn load_gathered(&mut self, rules: &Rules) -> Result<(), StoreError> {
        for (number, block) in self.known.blocks() {
            for level in rules.ladder.chain(block.class) {
                self.gather.load((rules.ladder.width(level), number), WallMs::MIN);
            }
        }
        let bad = || Malformed("how far a block is gathered does not read back");
        let gather = &mut self.gather;
        super::persist::each(&self.archive, b'u', &mut |key, value| {
            let upto = i64::from_be_bytes(value.try_into().map_err(|_| bad())?);
            gather.load(layout::gathered_upto_of(key).ok_or_else(bad)?, upto);
            Ok(())
        })
    }

    /// Writes how far a cell's block is gathered at its width.
    pub(super) fn put_gathered_upto(&mut self, of: Cell) {
        if let Some(tail) = self.gather.tails.get(&(of.width, of.block)) {
            let key = layout::gathered_upto(of.width, of.block);
            self.archive.put(key, tail.upto.to_be_bytes().to_vec());
        }
    }

    /// It is `now`: what is written from here on is not gathered before some time after.
    pub(super) fn gather_from(&mut self, now: WallMs) {
        self.gather.now = now;
    }

    /// Gathers what is due, as much as may be done at a time.
    pub(super) fn gather_due(&mut self, rules: &Rules) {
        if !self.gather.on || self.failing.is_some() {
            return;
        }
        let mut cost = 0;
        while cost < self.gather.pace.bytes_at_once {
            let Some((pair, tail)) = self.gather.next() else {
                break;
            };
            match self.look(rules, pair, tail) {
                Ok(more) => cost += ROW_COST + more,
                Err(error) => {
                    // Damage of pages is said where it is met, and a disk that is away is said by the checkpoint.
                    tracing::debug!(%error, block = pair.1, width = pair.0.ms(), "not gathered");
                    self.gather.look_at(pair, self.gather.now.saturating_add(LOOK_MS_MAX));
                    break;
                }
            }
        }
        let width = rules.ladder.bucket();
        self.gather_versions(width, self.quiet_before(width));
    }

    /// Nothing has come late for a while to buckets that start before this.
    fn quiet_before(&self, width: Width) -> WallMs {
        let Gather { now, pace, .. } = &self.gather;
        now.saturating_sub(pace.after_ms).saturating_sub(width.ms()).saturating_add(1)
    }

    /// Looks at one block at one width; returns what that cost.
    fn look(&mut self, rules: &Rules, pair: Pair, tail: Tail) -> Result<usize, StoreError> {
        let (width, block) = pair;
        if rules.ladder.level_of(width).is_none() || self.known.block(block).is_none() {
            // Of another ladder.
            self.gather.forget(pair);
            return Ok(0);
        }
        let like = Cell { width, block, start: 0 };
        let kept = self.kept_from_in(&rules.ladder, like);
        let (from, before) = (tail.upto.max(kept), self.quiet_before(width));
        if tail.newest < from {
            // All that came since is too large.
            self.go_on(like, from.max(before), width.ms().saturating_mul(SPAN), false);
            return Ok(0);
        }
        let singles = self.singles(like, from, before)?;
        let cost = singles.bytes + ROW_COST * singles.rows.len();
        let Some((first, _)) = singles.rows.first() else {
            self.go_on(like, from, width.ms().saturating_mul(LOOK_WIDTHS), false);
            return Ok(cost);
        };
        let behind = self.gathered_from(Cell { start: *first, ..like }, WallMs::MAX);
        let gathered = match behind {
            Ok(Some(row)) => self.gather_late(like, kept, &row, &singles),
            Ok(None) => {
                self.gather_tail(like, before, &singles);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match gathered {
            // What came late to it stays beside it.
            Err(StoreError::Damaged(_)) => self.go_on(like, first + 1, 0, true),
            gathered => gathered?,
        }
        Ok(cost)
    }

    /// Rows to gather that start in `[from, before)`: as many as may fill two rows.
    fn singles(&self, like: Cell, from: WallMs, before: WallMs) -> Result<Singles, StoreError> {
        let key = |start| layout::bucket(Cell { start, ..like });
        let bytes_max = 2 * self.gather.pace.row_bytes;
        let mut found = Singles { rows: Vec::new(), complete: true, bytes: 0 };
        self.archive.visit_while(&key(from), &key(before), OnDamage::Pass, &mut |key, bytes| {
            if found.bytes >= bytes_max || found.rows.len() > SPAN as usize {
                found.complete = false;
                return Ok(false);
            }
            found.bytes += bytes.len();
            if let Some(Cell { start, .. }) = layout::bucket_of(key) {
                found.rows.push((start, bytes.into()));
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Everything before `upto` is gathered; the next look comes in `ms`.
    fn go_on(&mut self, like: Cell, upto: WallMs, ms: i64, write: bool) {
        let pair = (like.width, like.block);
        if let Some(tail) = self.gather.tails.get_mut(&pair) {
            tail.upto = upto.max(tail.upto);
        }
        if write {
            self.put_gathered_upto(like);
        }
        self.gather.look_at(pair, self.gather.now.saturating_add(ms.min(LOOK_MS_MAX)));
    }

    /// Rows with no gathered row behind them: they become one, if they fill it.
    fn gather_tail(&mut self, like: Cell, before: WallMs, singles: &Singles) {
        let row_bytes = self.gather.pace.row_bytes;
        let mut row: Option<Row> = None;
        let mut taken = Vec::new();
        let mut upto = before;
        for (start, bytes) in &singles.rows {
            let piece = Piece::open(bytes).ok().filter(|_| bytes.len() <= row_bytes / 2);
            let fits = |row: &Row| piece.is_some_and(|piece| row.fits(*start, piece, row_bytes));
            if row.as_ref().is_some_and(|row| !fits(row)) {
                if taken.len() > 1 {
                    break;
                }
                row = None;
            }
            upto = *start;
            if let Some(piece) = piece {
                if row.is_none() {
                    taken.clear();
                }
                row.get_or_insert_with(|| Row::new(piece.kind, like.width.ms())).push(*start, piece.body);
                taken.push(*start);
            }
        }
        let last = singles.rows.last().map_or(before, |(start, _)| *start);
        let Some((row, (first, end))) = row.and_then(|row| row.ends().map(|ends| (row, ends))) else {
            // All are too large, or alone.
            let ms = if singles.complete { like.width.ms().saturating_mul(LOOK_WIDTHS) } else { 0 };
            return self.go_on(like, upto.saturating_add(1), ms, !singles.complete);
        };
        let more = end < last || !singles.complete;
        // Nothing that comes will be near enough.
        let is_over = before.saturating_sub(first) > like.width.ms().saturating_mul(SPAN);
        if taken.len() > 1 && (more || is_over) {
            let ms = if more { 0 } else { (end - first).clamp(like.width.ms(), LOOK_MS_MAX) };
            self.replace(like, &[], &taken, vec![row]);
            self.go_on(like, end + 1, ms, true);
        } else if more || is_over {
            self.go_on(like, end + 1, 0, false);
        } else {
            let ms = self.until_full(like, before, first, singles);
            self.go_on(like, first, ms, false);
        }
    }

    /// How long until a row that begins at `first` is full, if it fills as it did.
    fn until_full(&self, like: Cell, before: WallMs, first: WallMs, singles: &Singles) -> i64 {
        let width = like.width.ms();
        let had: usize = singles.rows.iter().filter(|(at, _)| *at >= first).map(|(_, it)| it.len()).sum();
        let took = before.saturating_sub(first).max(width);
        let all = took as f64 * self.gather.pace.row_bytes as f64 / had.max(1) as f64;
        (all as i64).min(width.saturating_mul(SPAN)).saturating_sub(took).clamp(width, LOOK_MS_MAX.max(width))
    }

    /// Rows that came late to a gathered one, or before it.
    fn gather_late(
        &mut self,
        like: Cell,
        kept: WallMs,
        (last, bytes): &Found,
        singles: &Singles,
    ) -> Result<(), StoreError> {
        let row_bytes = self.gather.pace.row_bytes;
        let old = pieces(like.width.ms(), *last, bytes).map_err(damaged)?;
        let kind = old.first().map(|(_, piece)| piece.kind);
        let mut all: BTreeMap<WallMs, Piece<'_>> = old.into_iter().filter(|(at, _)| *at >= kept).collect();
        let mut taken = Vec::new();
        for (start, single) in singles.rows.iter().filter(|(start, _)| start <= last) {
            let piece = Piece::open(single).ok().filter(|_| single.len() <= row_bytes / 2);
            let Some(piece) = piece.filter(|piece| Some(piece.kind) == kind) else {
                continue;
            };
            if piece.is_empty() {
                all.remove(start);
            } else {
                all.insert(*start, piece);
            }
            taken.push(*start);
        }
        if !taken.is_empty() {
            let rows = spread(like, &all, row_bytes);
            self.gather.done.again += 1;
            self.replace(like, &[*last], &taken, rows);
        }
        let newest = singles.rows.last().map_or(*last, |(start, _)| *start);
        let upto = if singles.complete || newest > *last { *last } else { newest };
        self.go_on(like, upto.saturating_add(1), 0, true);
        Ok(())
    }

    /// Puts gathered rows in the place of others, and of single ones.
    fn replace(&mut self, like: Cell, old: &[WallMs], singles: &[WallMs], rows: Vec<Row>) {
        let at = |start| Cell { start, ..like };
        for last in old {
            self.archive.remove(layout::gathered(at(*last)));
        }
        for start in singles {
            self.archive.remove(layout::bucket(at(*start)));
        }
        for row in rows {
            if let Some((_, last)) = row.ends() {
                let (key, buckets) = (layout::gathered(at(last)), row.buckets());
                let value = row.finish();
                let done = &mut self.gather.done;
                done.rows += 1;
                done.buckets += buckets as u64;
                done.bytes += (key.len() + value.len()) as u64;
                self.archive.put(key, value);
            }
        }
    }
}

/// Buckets in as few rows as they need, each about as long as the others.
fn spread(like: Cell, all: &BTreeMap<WallMs, Piece<'_>>, row_bytes: usize) -> Vec<Row> {
    let fill = |enough: usize| {
        let mut rows: Vec<Row> = Vec::new();
        for (&start, &piece) in all {
            let fits = |row: &&mut Row| row.len() < enough && row.fits(start, piece, row_bytes);
            if let Some(row) = rows.last_mut().filter(fits) {
                row.push(start, piece.body);
            } else {
                let mut row = Row::new(piece.kind, like.width.ms());
                row.push(start, piece.body);
                rows.push(row);
            }
        }
        rows
    };
    let rows = fill(row_bytes);
    if rows.len() < 2 { rows } else { fill(rows.iter().map(Row::len).sum::<usize>() / rows.len()) }
}
