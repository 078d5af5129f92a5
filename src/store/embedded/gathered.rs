//! Buckets of a block in one row: what a row costs is paid once, and it just fills a page.
//!
//! ```text
//!   form 2:1 | kind:1 | before:varint | for each bucket, oldest first: after:varint | length:varint | body (block.rs)
//!
//!   before   ms from the start of the first bucket to that of the last, which stands in the key (layout.rs)
//!   after    0: it begins where the one before it ends, or is the first; else ms from that one's start to its own
//! ```
//!
//! Two buckets of 10 s of a block of one counter, which was 5 and then 6, are
//! `02 00 | 90 4e | 00 04 01 01 00 05 | 00 04 01 01 00 06`. The row has no checksum but that of its entry.

use super::block::{Piece, read_kind};
use crate::clock::WallMs;
use crate::metric::Kind;
use crate::metric::malformed::Malformed;
use crate::wire::bytes::{Reader, push_bytes, push_varint};

/// What stands first; packed by itself, a bucket begins with its checksum, and stands under another sort of key.
const FORM: u8 = 2;
/// Form, kind and the longest `before` there is within [`SPAN`].
const HEAD_BYTES: usize = 8;
/// A row's first and last bucket start at most so many widths apart.
pub(super) const SPAN: i64 = 512;

/// A row that buckets of one block are added to, oldest first.
#[derive(Debug)]
pub(super) struct Row {
    kind: Kind,
    width_ms: i64,
    /// Starts of the first and the last.
    ends: Option<(WallMs, WallMs)>,
    buckets: usize,
    bytes: Vec<u8>,
}

impl Row {
    pub(super) fn new(kind: Kind, width_ms: i64) -> Self {
        Self { kind, width_ms, ends: None, buckets: 0, bytes: Vec::new() }
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets
    }

    /// Starts of its first and last bucket.
    pub(super) fn ends(&self) -> Option<(WallMs, WallMs)> {
        self.ends
    }

    /// Its length in bytes, or a few less.
    pub(super) fn len(&self) -> usize {
        HEAD_BYTES + self.bytes.len()
    }

    /// Whether a bucket fits into it, which has to be of its kind and later than the last one.
    pub(super) fn fits(&self, start: WallMs, piece: Piece<'_>, bytes_max: usize) -> bool {
        // Both numbers before a body of less than 16 KiB take at most 6 + 2 bytes within the span of a day's width.
        let room = self.len() + piece.body.len() + 8 <= bytes_max;
        let later = self.ends.is_none_or(|(first, last)| {
            last < start && start.saturating_sub(first) <= self.width_ms.saturating_mul(SPAN)
        });
        piece.kind == self.kind && later && room
    }

    pub(super) fn push(&mut self, start: WallMs, body: &[u8]) {
        let after = match self.ends {
            Some((_, last)) if start - last != self.width_ms => (start - last).unsigned_abs(),
            _ => 0,
        };
        self.ends = Some((self.ends.map_or(start, |(first, _)| first), start));
        self.buckets += 1;
        push_varint(&mut self.bytes, after);
        push_bytes(&mut self.bytes, body);
    }

    /// The value of its entry.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() + 4);
        out.extend([FORM, self.kind as u8]);
        push_varint(&mut out, self.ends.map_or(0, |(first, last)| (last - first).unsigned_abs()));
        out.append(&mut self.bytes);
        out
    }
}

/// All buckets of a row whose last one is known, by start, oldest first.
pub(super) fn pieces(
    width_ms: i64,
    last: WallMs,
    bytes: &[u8],
) -> Result<Vec<(WallMs, Piece<'_>)>, Malformed> {
    let disorder = || Malformed("gathered buckets out of order");
    let mut from = Reader::new(bytes);
    if from.u8()? != FORM {
        return Err(Malformed("gathered buckets of an unknown form"));
    }
    let kind = read_kind(&mut from)?;
    let before = i64::try_from(from.varint()?).map_err(|_| disorder())?;
    let mut at = last.checked_sub(before).ok_or_else(disorder)?;
    let mut pieces: Vec<(WallMs, Piece<'_>)> = Vec::new();
    while !from.is_empty() {
        let after = i64::try_from(from.varint()?).map_err(|_| disorder())?;
        let after = match (pieces.is_empty(), after) {
            (true, 0) => 0,
            (true, _) => return Err(disorder()),
            (false, 0) => width_ms,
            (false, after) => after,
        };
        at = at.checked_add(after).ok_or_else(disorder)?;
        let length = from.count(1)?;
        pieces.push((at, Piece { kind, body: from.take(length)? }));
    }
    if at == last && !pieces.is_empty() { Ok(pieces) } else { Err(disorder()) }
}

#[cfg(test)]
mod tests {
    use super::super::block::{Part, Parts, pack};
    use super::super::layout;
    use super::*;
    use crate::metric::{Sum, Tally};

    const WIDTH: i64 = 10_000;

    fn packed(slots: u64, value: u64) -> Vec<u8> {
        let part = |slot| Some(Part::counted(Tally::Counter(Sum::from_count(value + slot))));
        pack(Kind::Counter, &(0..slots).map(part).collect::<Parts>())
    }

    #[test]
    fn the_example_is_written_as_it_is_drawn() {
        let mut row = Row::new(Kind::Counter, WIDTH);
        for (n, value) in [(0, 5), (1, 6)] {
            row.push(n * WIDTH, Piece::open(&packed(1, value)).unwrap().body);
        }
        assert_eq!(row.ends(), Some((0, WIDTH)));
        let drawn = [2, 0, 0x90, 0x4e, 0, 4, 1, 1, 0, 5, 0, 4, 1, 1, 0, 6];
        assert_eq!(row.finish(), drawn);
    }

    #[test]
    fn what_is_gathered_reads_back() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..300 {
            let width = [20, 1_000, WIDTH, 86_400_000][round % 4];
            let kind = Kind::ALL[random.usize(0..4)];
            let mut row = Row::new(kind, width);
            let mut at = random.i64(-1_000_000_000_000..2_000_000_000_000);
            let mut all = Vec::new();
            let bytes_max = random.usize(100..5_000);
            loop {
                // Some days have 23 or 25 hours, and some buckets nothing.
                at += if random.u8(0..4) > 0 { width } else { random.i64(1..4 * width) };
                let body = vec![random.u8(..); random.usize(1..200)];
                if !row.fits(at, Piece { kind, body: &body }, bytes_max) {
                    break;
                }
                row.push(at, &body);
                all.push((at, body));
            }
            let Some((first, last)) = row.ends() else { continue };
            assert_eq!((first, last, row.buckets()), (all[0].0, all.last().unwrap().0, all.len()));
            let bytes = row.finish();
            assert!(bytes.len() <= bytes_max, "{} of {bytes_max}", bytes.len());
            let found = pieces(width, last, &bytes).unwrap();
            assert!(found.iter().all(|(_, piece)| piece.kind == kind));
            let found: Vec<_> = found.into_iter().map(|(at, piece)| (at, piece.body.to_vec())).collect();
            assert_eq!(found, all, "round {round}");
        }
    }

    #[test]
    fn a_row_takes_what_is_later_near_and_of_its_kind() {
        let mut row = Row::new(Kind::Counter, WIDTH);
        let piece = |kind| Piece { kind, body: &[1, 1, 0, 5] };
        let counter = piece(Kind::Counter);
        row.push(0, counter.body);
        let fits = |start, piece| row.fits(start, piece, 1_000);
        assert!(fits(WIDTH, counter) && fits(SPAN * WIDTH, counter));
        assert!(!fits(0, counter) && !fits(-WIDTH, counter) && !fits((SPAN + 1) * WIDTH, counter));
        assert!(!fits(WIDTH, piece(Kind::Gauge)) && !row.fits(WIDTH, counter, 20));
    }

    #[test]
    fn damage_is_found_wherever_it_is_and_garbage_never_panics() {
        let mut row = Row::new(Kind::Counter, WIDTH);
        for n in 0..20 {
            row.push(n * WIDTH, Piece::open(&packed(8, n as u64)).unwrap().body);
        }
        let (_, last) = row.ends().unwrap();
        let cell = layout::Cell { width: crate::metric::Width::from_ms(10_000), block: 1, start: last };
        let (key, value) = (layout::gathered(cell), row.finish());
        let stored = layout::summed(&key, &value);
        assert_eq!(layout::opened(&key, &stored), Some(&value[..]));
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(layout::opened(&key, &damaged), None, "bit {bit}");
            // Without its checksum it may read as something else, and must not do worse.
            if let Ok(found) = pieces(WIDTH, last, &damaged[..value.len()]) {
                assert!(found.is_sorted_by(|a, b| a.0 < b.0), "bit {bit}");
                for (_, piece) in found {
                    piece.parts().ok();
                }
            }
        }
        for length in 0..value.len() {
            assert!(pieces(WIDTH, last, &value[..length]).is_err(), "{length} bytes");
        }
        assert!(pieces(WIDTH, 10, &[FORM, 0, 10, 10, 1, 0]).is_err(), "the first follows nothing");
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
            if random.bool() && bytes.len() > 1 {
                (bytes[0], bytes[1]) = (FORM, 0);
            }
            pieces(WIDTH, random.i64(..), &bytes).ok();
        }
    }
}
