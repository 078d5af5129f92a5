//! Keys and bytes of the embedded store, drawn. Whoever changes them raises [`FORMAT`].
//!
//! One table of byte keys and byte values, in a file `tallyd.redb`. Numbers in keys are big-endian, signed ones
//! with their first bit turned over, so that keys sort as what they mean.
//!
//! ```text
//!   key                                        value
//!   m <word>                                   settings: `format`, `bucket`, `zone`, `floor`
//!   n <block:4>                                names of a block: kind, class, its series with the time of birth
//!   l <block:4>                                state of a block's series: last bucket, gauge's level, …
//!   b <width ms:8> <block:4> <start ms:8>      a bucket of a block: packed tallies (block.rs)
//!   g <width ms:8> <block:4> <start ms:8>      buckets of a block up to that one, gathered (gathered.rs)
//!   u <width ms:8> <block:4>                   ms:8 up to where the rows `b` of that block were gathered
//!   s <width ms:8> <block:4> <start ms:8>      empty: that bucket is to be rolled up anew
//!   p <start ms:8> <block:4>                   the open bucket of a block: packed tallies
//!   v <start ms:8>                             version:8 of a sealed bucket of the finest width
//!   y <start ms:8>                             1 bit for each of 1,024 buckets from there: it is sealed
//!   o <address> 00 <start ms:8>                version:8 of a bucket that a destination still needs
//!   c <address> 00 <born ms:8>                 varints: times stated, points, ms when it was told (0: not yet)
//!   w <producer:16>                            number:8, time of its last batch:8
//! ```
//!
//! Behind each value stand 4 bytes more, the crc32 of its key and itself, little-endian; disk.rs sees to them.
//!
//! A *block* is up to 256 series of one kind and class. The bucket of 1970-01-01 00:00:10 of block 3 at 10 s is
//! `62 0000000000002710 00000003 8000000000002710`.
//!
//! **Gathering.** A bucket is written as a row `b`, and amended there. A row costs 25 bytes and half a page goes empty
//! beside it, since rows of many blocks come side by side; so when nothing has come late for a while (gather.rs), the
//! rows `b` of a block become one row `g` that just fills a page. What comes late then is written as a row `b` again,
//! whole: a bucket that stands in both is the one in `b`, until it is gathered in, too.
//!
//! ```text
//!   before   b 10:00:00   b 10:00:10   b 10:00:20   …   b 10:30:50    b 10:31:00   b 10:31:10
//!   after                     g 10:30:50 ( 10:00:00 … 10:30:50 )      b 10:31:00   b 10:31:10
//! ```
//!
//! A row `g` has the start of its *last* bucket in its key: the rows that a range from some moment on needs begin at
//! that moment in the keys, and rows that are over are a range of keys, too. It spans 512 widths at most, so that the
//! last one a range needs is near its end.
//!
//! A version has to be told from an earlier one as long as somebody holds that, which is no longer than a process. So
//! of buckets that nothing came late to for a while only that they are sealed is kept (versions.rs), 1 bit each, and a
//! start gives them new versions.
//!
//! **Formats.** 1: as 2, without `g`, `u` and `y`; such a file is read as it is, and gathered in time.

use crate::clock::WallMs;
use crate::metric::Width;

/// Version of keys and bytes.
pub(super) const FORMAT: u64 = 2;
/// Series of a block.
pub(super) const BLOCK_SERIES: usize = 256;

/// A series by its place: block and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) block: u32,
    pub(super) slot: u8,
}

/// A bucket of a block at some width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) width: Width,
    pub(super) block: u32,
    pub(super) start: WallMs,
}

fn time(ms: WallMs) -> [u8; 8] {
    ((ms as u64) ^ (1 << 63)).to_be_bytes()
}

fn time_of(bytes: &[u8]) -> Option<WallMs> {
    Some((u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63)) as WallMs)
}

fn cell(tag: u8, cell: Cell) -> Vec<u8> {
    let mut key = Vec::with_capacity(21);
    key.push(tag);
    key.extend(cell.width.ms().to_be_bytes());
    key.extend(cell.block.to_be_bytes());
    key.extend(time(cell.start));
    key
}

fn cell_of(key: &[u8]) -> Option<Cell> {
    let width = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    let block = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
    Some(Cell { width: Width::from_ms(width), block, start: time_of(key.get(13..21)?)? })
}

pub(super) fn setting(word: &str) -> Vec<u8> {
    [b"m", word.as_bytes()].concat()
}

pub(super) fn names(block: u32) -> Vec<u8> {
    [b"n", &block.to_be_bytes()[..]].concat()
}

pub(super) fn state(block: u32) -> Vec<u8> {
    [b"l", &block.to_be_bytes()[..]].concat()
}

/// The block of a key of names or state.
pub(super) fn block_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?))
}

pub(super) fn bucket(of: Cell) -> Vec<u8> {
    cell(b'b', of)
}

pub(super) fn bucket_of(key: &[u8]) -> Option<Cell> {
    cell_of(key)
}

/// The key of a gathered row whose last bucket is this.
pub(super) fn gathered(last: Cell) -> Vec<u8> {
    cell(b'g', last)
}

pub(super) fn gathered_of(key: &[u8]) -> Option<Cell> {
    cell_of(key)
}

pub(super) fn gathered_upto(width: Width, block: u32) -> Vec<u8> {
    [b"u", &width.ms().to_be_bytes()[..], &block.to_be_bytes()[..]].concat()
}

pub(super) fn gathered_upto_of(key: &[u8]) -> Option<(Width, u32)> {
    let width = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    Some((Width::from_ms(width), u32::from_be_bytes(key.get(9..13)?.try_into().ok()?)))
}

pub(super) fn mark(of: Cell) -> Vec<u8> {
    cell(b's', of)
}

pub(super) fn mark_of(key: &[u8]) -> Option<Cell> {
    cell_of(key)
}

pub(super) fn open(start: WallMs, block: u32) -> Vec<u8> {
    [b"p", &time(start)[..], &block.to_be_bytes()[..]].concat()
}

pub(super) fn open_of(key: &[u8]) -> Option<(WallMs, u32)> {
    Some((time_of(key.get(1..9)?)?, u32::from_be_bytes(key.get(9..13)?.try_into().ok()?)))
}

pub(super) fn version(start: WallMs) -> Vec<u8> {
    [b"v", &time(start)[..]].concat()
}

pub(super) fn version_of(key: &[u8]) -> Option<WallMs> {
    time_of(key.get(1..9)?)
}

/// Which buckets are sealed of those that start from `span` on.
pub(super) fn sealed(span: WallMs) -> Vec<u8> {
    [b"y", &time(span)[..]].concat()
}

pub(super) fn sealed_of(key: &[u8]) -> Option<WallMs> {
    time_of(key.get(1..9)?)
}

pub(super) fn outstanding(address: &str, start: WallMs) -> Vec<u8> {
    [b"o", address.as_bytes(), b"\0", &time(start)[..]].concat()
}

pub(super) fn cohort(address: &str, born: WallMs) -> Vec<u8> {
    [b"c", address.as_bytes(), b"\0", &time(born)[..]].concat()
}

/// Address and time of a key that has both.
pub(super) fn addressed(key: &[u8]) -> Option<(&str, WallMs)> {
    let (address, at) = key.get(1..)?.split_at_checked(key.len().checked_sub(9)?)?;
    Some((std::str::from_utf8(address.strip_suffix(b"\0")?).ok()?, time_of(at)?))
}

pub(super) fn producer(producer: u128) -> Vec<u8> {
    [b"w", &producer.to_be_bytes()[..]].concat()
}

pub(super) fn producer_of(key: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(key.get(1..17)?.try_into().ok()?))
}

/// All keys of a sort: `[tag, tag + 1)`.
pub(super) fn all(tag: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![tag], vec![tag + 1])
}

/// What is said of an entry whose checksum is wrong.
pub(super) const WRONG_SUM: &str = "the checksum of an entry is wrong";

/// The checksum of an entry.
fn sum(key: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// A value with the checksum of its entry.
pub(super) fn summed(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &sum(key, value)[..]].concat()
}

/// The value of an entry, if its checksum is right.
pub(super) fn opened<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stored) = stored.split_last_chunk::<4>()?;
    (sum(key, value) == *stored).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_sort_by_time() {
        let at = |start| Cell { width: Width::from_ms(10_000), block: 3, start };
        let drawn = 0x62_0000_0000_0000_2710_0000_0003_u128.to_be_bytes();
        assert_eq!(bucket(at(10_000))[..13], drawn[3..]);
        assert_eq!(bucket(at(10_000))[13..], 0x8000_0000_0000_2710_u64.to_be_bytes());
        let starts = [i64::MIN, -10_000, -1, 0, 1, 10_000, i64::MAX];
        assert!(starts.windows(2).all(|pair| bucket(at(pair[0])) < bucket(at(pair[1]))));
        for start in starts {
            assert_eq!(bucket_of(&bucket(at(start))), Some(at(start)));
            assert_eq!(mark_of(&mark(at(start))), Some(at(start)));
            assert_eq!(gathered_of(&gathered(at(start))), Some(at(start)));
            assert_eq!(sealed_of(&sealed(start)), Some(start));
            assert_eq!(open_of(&open(start, 7)), Some((start, 7)));
            assert_eq!(version_of(&version(start)), Some(start));
            assert_eq!(addressed(&outstanding("a.example:2003", start)), Some(("a.example:2003", start)));
            assert_eq!(addressed(&cohort("[::1]:2003", start)), Some(("[::1]:2003", start)));
        }
        assert_eq!(producer_of(&producer(u128::MAX - 1)), Some(u128::MAX - 1));
        assert_eq!(block_of(&names(9)), Some(9));
        let width = Width::from_ms(60_000);
        assert_eq!(gathered_upto_of(&gathered_upto(width, 9)), Some((width, 9)));
        assert_eq!((addressed(b"o"), bucket_of(b"b123"), version_of(b"v")), (None, None, None));
    }
}
