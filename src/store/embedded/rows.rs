//! Buckets of a block wherever they stand: each in a row of its own, or gathered (gathered.rs). Whoever reads, writes
//! or removes buckets does it here, but for gathering itself (gather.rs).
//!
//! A bucket that stands in both is the one in its own row. A gathered row goes as a whole when all of it is over, so
//! whoever reads says from when on buckets are kept (`Inner::kept_from`).

use super::Inner;
use super::archive::OnDamage;
use super::block::{Piece, pack};
use super::gathered::{Row, SPAN, pieces};
use super::layout::{self, Cell};
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::metric::malformed::Malformed;
use crate::metric::{Class, Kind, Ladder};
use crate::store::StoreError;
use std::sync::Arc;

/// Gathered rows that are held in memory at a time while a range is read.
const ROWS_AT_ONCE: usize = 16;

/// The bytes of a bucket, as it stands there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes<'a> {
    /// In a row of its own.
    Single(&'a [u8]),
    /// In a gathered row.
    Gathered(Piece<'a>),
}

impl<'a> Bytes<'a> {
    pub(super) fn piece(self) -> Result<Piece<'a>, Malformed> {
        match self {
            Self::Single(bytes) => Piece::open(bytes),
            Self::Gathered(piece) => Ok(piece),
        }
    }
}

/// A bucket that was looked up.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Single(Arc<[u8]>),
    Gathered(Kind, Arc<[u8]>),
}

impl Stored {
    pub(super) fn piece(&self) -> Result<Piece<'_>, Malformed> {
        match self {
            Self::Single(bytes) => Piece::open(bytes),
            Self::Gathered(kind, body) => Ok(Piece { kind: *kind, body }),
        }
    }
}

/// Told of each bucket, oldest first.
pub(super) type EachBucket<'a> = &'a mut dyn FnMut(WallMs, Bytes<'_>) -> Result<(), StoreError>;

/// A gathered row: the start of its last bucket, and its value.
pub(super) type Found = (WallMs, Arc<[u8]>);

pub(super) fn damaged(error: Malformed) -> StoreError {
    StoreError::Damaged(format!("a packed bucket does not read back: {error}"))
}

impl Inner {
    /// Buckets of a class and level that start earlier are not kept any more, whatever stands there still.
    pub(super) fn kept_from(&self, class: Class, level: usize) -> WallMs {
        self.let_go.get(&(class, level)).copied().unwrap_or(WallMs::MIN)
    }

    /// The same for a block's buckets of the width of a cell.
    pub(super) fn kept_from_in(&self, ladder: &Ladder, like: Cell) -> WallMs {
        let class = self.known.block(like.block).map(|block| block.class);
        let level = ladder.level_of(like.width);
        class.zip(level).map_or(WallMs::MIN, |(class, level)| self.kept_from(class, level))
    }

    /// Visits the buckets of a cell's block and width that start within a span.
    pub(super) fn visit_buckets(
        &self,
        like: Cell,
        span: Span,
        each: EachBucket<'_>,
    ) -> Result<(), StoreError> {
        let mut at = span.start;
        while at < span.end {
            let (rows, upto) = self.gathered_rows(like, Span { start: at, end: span.end })?;
            self.visit_beside(like, Span { start: at, end: upto }, &rows, each)?;
            at = upto;
        }
        Ok(())
    }

    /// Some of the gathered rows that a span needs, and up to where they are all.
    fn gathered_rows(&self, like: Cell, span: Span) -> Result<(Vec<Found>, WallMs), StoreError> {
        let key = |start| layout::gathered(Cell { start, ..like });
        let reach = like.width.ms().saturating_mul(SPAN).saturating_add(1);
        let to = key(span.end.saturating_add(reach));
        let (mut rows, mut upto) = (Vec::new(), span.end);
        self.archive.visit_while(&key(span.start), &to, OnDamage::Fail, &mut |key, value| {
            if let Some(Cell { start: last, .. }) = layout::gathered_of(key) {
                rows.push((last, value.into()));
                // No other bucket starts before that one ends.
                if last.saturating_add(like.width.ms()) >= span.end {
                    return Ok(false);
                }
                if rows.len() == ROWS_AT_ONCE {
                    upto = last + 1;
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok((rows, upto))
    }

    /// Visits the buckets of a span, of which the gathered ones are in `rows`.
    fn visit_beside(
        &self,
        like: Cell,
        span: Span,
        rows: &[Found],
        each: EachBucket<'_>,
    ) -> Result<(), StoreError> {
        let mut gathered = Vec::new();
        for (last, bytes) in rows {
            let pieces = pieces(like.width.ms(), *last, bytes).map_err(damaged)?;
            gathered.extend(pieces.into_iter().filter(|(at, _)| (span.start..span.end).contains(at)));
        }
        let mut gathered = gathered.into_iter().peekable();
        let key = |start| layout::bucket(Cell { start, ..like });
        self.archive.visit(&key(span.start), &key(span.end), &mut |key, bytes| {
            let Some(Cell { start, .. }) = layout::bucket_of(key) else {
                return Ok(());
            };
            while let Some((at, piece)) = gathered.next_if(|(at, _)| *at <= start) {
                if at < start {
                    each(at, Bytes::Gathered(piece))?;
                }
            }
            each(start, Bytes::Single(bytes))
        })?;
        gathered.try_for_each(|(at, piece)| each(at, Bytes::Gathered(piece)))
    }

    /// The first gathered row whose last bucket starts at a cell or later, before `end`.
    pub(super) fn gathered_from(&self, from: Cell, end: WallMs) -> Result<Option<Found>, StoreError> {
        let mut found = None;
        let to = layout::gathered(Cell { start: end, ..from });
        self.archive.visit_while(&layout::gathered(from), &to, OnDamage::Fail, &mut |key, value| {
            found = layout::gathered_of(key).map(|cell| (cell.start, value.into()));
            Ok(false)
        })?;
        Ok(found)
    }

    /// One bucket of a block.
    pub(super) fn bucket(&self, cell: Cell) -> Result<Option<Stored>, StoreError> {
        if let Some(bytes) = self.archive.get(&layout::bucket(cell))? {
            return Ok(Some(Stored::Single(bytes)));
        }
        let reach = cell.width.ms().saturating_mul(SPAN).saturating_add(1);
        let Some((last, bytes)) = self.gathered_from(cell, cell.start.saturating_add(reach))? else {
            return Ok(None);
        };
        let pieces = pieces(cell.width.ms(), last, &bytes).map_err(damaged)?;
        let found = pieces.into_iter().find(|(at, _)| *at == cell.start);
        Ok(found.map(|(_, piece)| Stored::Gathered(piece.kind, piece.body.into())))
    }

    /// Writes a bucket of a block.
    pub(super) fn put_bucket(&mut self, cell: Cell, bytes: Vec<u8>) {
        if self.gather.note(cell, bytes.len()) {
            self.put_gathered_upto(cell);
        }
        self.archive.put(layout::bucket(cell), bytes);
    }

    /// Removes a bucket of a block.
    pub(super) fn remove_bucket(&mut self, kind: Kind, cell: Cell) {
        self.archive.remove(layout::bucket(cell));
        if !matches!(self.bucket(cell), Ok(None)) {
            // It is gathered. A row of its own says that there is nothing, until it is gathered in.
            self.put_bucket(cell, pack(kind, &[]));
        }
    }

    /// Removes a block's buckets of a width that start within a span, but for those whose gathered row goes on
    /// behind it. Where the disk cannot be read, those in memory are removed, and the error says that others stay.
    pub(super) fn remove_rows(&mut self, like: Cell, span: Span) -> Result<(), StoreError> {
        let at = |start| Cell { start, ..like };
        let singles = self.archive.remove_all(&layout::bucket(at(span.start)), &layout::bucket(at(span.end)));
        let (from, to) = (layout::gathered(at(span.start)), layout::gathered(at(span.end)));
        let gathered = self.archive.remove_all(&from, &to);
        singles.and(gathered).map(drop)
    }

    /// Removes a block's buckets of a width that start within a span: these and no others.
    pub(super) fn cut(&mut self, like: Cell, span: Span) -> Result<(), StoreError> {
        let at = |start| Cell { start, ..like };
        let singles = self.archive.remove_all(&layout::bucket(at(span.start)), &layout::bucket(at(span.end)));
        let mut from = span.start;
        while from < span.end {
            let (rows, upto) = self.gathered_rows(like, Span { start: from, end: span.end })?;
            for (last, bytes) in rows {
                let all = pieces(like.width.ms(), last, &bytes).map_err(damaged)?;
                let kept: Vec<_> =
                    all.iter().filter(|(at, _)| !(span.start..span.end).contains(at)).collect();
                if kept.len() == all.len() {
                    continue;
                }
                self.archive.remove(layout::gathered(at(last)));
                let Some((_, Piece { kind, .. })) = all.first() else {
                    continue;
                };
                let mut row = Row::new(*kind, like.width.ms());
                for (at, piece) in kept {
                    row.push(*at, piece.body);
                }
                if let Some((_, last)) = row.ends() {
                    self.archive.put(layout::gathered(at(last)), row.finish());
                }
            }
            from = upto;
        }
        singles.map(drop)
    }

    /// The start of a block's oldest bucket of a width.
    pub(super) fn oldest_bucket(&self, like: Cell) -> Result<Option<WallMs>, StoreError> {
        let at = |start| Cell { start, ..like };
        let mut oldest = None;
        let (from, to) = (layout::bucket(at(WallMs::MIN)), layout::bucket(at(WallMs::MAX)));
        self.archive.visit_while(&from, &to, OnDamage::Fail, &mut |key, _| {
            oldest = layout::bucket_of(key).map(|cell| cell.start);
            Ok(false)
        })?;
        if let Some((last, bytes)) = self.gathered_from(at(WallMs::MIN), WallMs::MAX)? {
            let pieces = pieces(like.width.ms(), last, &bytes).map_err(damaged)?;
            let first = pieces.first().map_or(last, |(at, _)| *at);
            oldest = Some(oldest.map_or(first, |oldest: WallMs| oldest.min(first)));
        }
        Ok(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, EmbeddedStore, Gathering, Rules};
    use super::*;
    use crate::calendar::Calendar;
    use crate::metric::{Bounds, Series, Sum, Tally, Width};
    use crate::store::{Batch, Idle, IdleRules, Store};

    const WIDTH: i64 = 10_000;

    /// Thirty buckets of one counter, most of which are gathered.
    fn gathered(folder: &std::path::Path) -> EmbeddedStore {
        let rules = Rules {
            ladder: Ladder::new(Width::from_ms(10_000), &[], &[], 3_600_000, Calendar::default()),
            bounds: Bounds { timer_exact_max: 8, set_exact_max: 8 },
            bytes_max: usize::MAX,
            destinations: Vec::new(),
            history: Vec::new(),
            figures: Vec::new(),
        };
        let [counters, timers, sets, gauges] = [Idle::Drop; 4];
        let idle = IdleRules { counters, timers, sets, gauges, gauges_ttl: 1, after_ms: None };
        let disk = Disk::open(&folder.join("tallyd.redb")).unwrap();
        let pace = Gathering { after_ms: 0, row_bytes: 60, ..Gathering::default() };
        let store = EmbeddedStore::on_disk(rules, idle, disk, 0).unwrap().gathering(pace);
        for n in 0..30 {
            let entries =
                vec![(Series::new(Kind::Counter, "a"), Tally::Counter(Sum::from_count(1 + n as u64)))];
            let batch = Batch { producer: 1, number: n as u64 + 1, bucket: n * WIDTH, entries };
            store.apply(batch, n * WIDTH).unwrap();
            store.fold((n + 1) * WIDTH, (n + 1) * WIDTH).unwrap();
        }
        store
    }

    fn starts(store: &EmbeddedStore) -> Vec<i64> {
        let found = store.read(&[Series::new(Kind::Counter, "a")], 0, 0, 30 * WIDTH).unwrap().remove(0);
        found.iter().map(|reading| reading.start / WIDTH).collect()
    }

    #[test]
    fn what_is_removed_from_a_gathered_row_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = gathered(folder.path());
        let like = Cell { width: Width::from_ms(10_000), block: 0, start: 0 };
        let at = |n: i64| Cell { start: n * WIDTH, ..like };
        let in_row = |n| matches!(store.lock().bucket(at(n)), Ok(Some(Stored::Gathered(..))));
        assert!((0..20).all(in_row));
        store.lock().remove_bucket(Kind::Counter, at(3));
        let left = |gone: &[i64]| (0..30).filter(|n| !gone.contains(n)).collect::<Vec<_>>();
        assert_eq!(starts(&store), left(&[3]));
        store.fold(40 * WIDTH, 40 * WIDTH).unwrap();
        assert!(store.lock().bucket(at(3)).unwrap().is_none(), "gathered in, it is nowhere");
        assert_eq!(starts(&store), left(&[3]));
        assert_eq!(store.lock().oldest_bucket(like).unwrap(), Some(0));
        // From the middle of a row to the middle of another, and then what is behind that.
        store.lock().cut(like, Span { start: 5 * WIDTH, end: 14 * WIDTH }).unwrap();
        assert_eq!(starts(&store), left(&[3, 5, 6, 7, 8, 9, 10, 11, 12, 13]));
        store.lock().cut(like, Span { start: 0, end: 12 * WIDTH }).unwrap();
        assert_eq!(starts(&store), (14..30).collect::<Vec<_>>());
        assert_eq!(store.lock().oldest_bucket(like).unwrap(), Some(14 * WIDTH));
    }
}
