//! Batches as bytes: what the journal appends, what its replay reads, and what goes to another node.
//!
//! ```text
//!   10 | producer, 16 bytes | number | bucket (zigzag) | entries
//!      | for each entry: length·4 + kind | key | tally
//!
//!   11 | producer, 16 bytes | number | bucket (zigzag) | entries
//!      | for each entry: (id, less the one before and 1, zigzag)·2 + 1 if it is new
//!                        | [new] length·4 + kind | key
//!                        | tally
//! ```
//!
//! The first byte is the format: the version above, the form below. Kinds are 0 counter, 1 timer, 2 gauge, 3 set;
//! tallies are those of `tally.rs`, gauges told from this batch. `10` is whole by itself. `11` is one of many
//! records with one [`Dictionary`]: a name stands in the record that uses it first, with its id, and later only
//! the id does; ids that follow each other cost a byte. With producer 7, number 1 and bucket 0, the counters `a` 63
//! and `b` 128, and after them the same in the next batch:
//!
//! ```text
//!   11 07000000000000000000000000000000 01 00 02 | 01 04 61 | 3f   | 01 04 62 | 8000
//!   11 07000000000000000000000000000000 02 00 02 | 00       | 3f   | 00       | 8000
//! ```
//!
//! A record says nothing of its own length and carries no checksum: that is for whoever frames it. One that is
//! refused defines nothing, and what later ones define keeps its meaning, since ids are written out; only entries
//! under the ids that were lost with it are refused too.

use super::bytes::{Malformed, Reader, push_varint, push_zigzag, unzigzag, zigzag};
use super::tally::{push_tally_in, read_tally_in};
use crate::clock::WallMs;
use crate::metric::gauge::Order;
use crate::metric::{Kind, Series, Tally};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// The first byte of a batch with all its names.
const IN_FULL: u8 = 0x10;
/// The first byte of a batch whose names may stand in batches before it.
const BY_ID: u8 = 0x11;

/// Whether a later version of tallyd wrote a batch, as its first byte says: it is not damaged, and not for us to read.
#[must_use]
pub fn is_later(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|format| format >> 4 > IN_FULL >> 4)
}

/// What a batch holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Who counted.
    pub producer: u128,
    /// Which of its batches.
    pub number: u64,
    /// Start of the bucket.
    pub bucket: WallMs,
    /// In the order they were written.
    pub entries: Vec<(Series, Tally)>,
}

/// The names that a writer's records hold so far. It grows with each new name; a new file begins with a new one.
#[derive(Debug, Default)]
pub struct Dictionary {
    ids: HashMap<Series, u64, RandomState>,
    next: u64,
}

impl Dictionary {
    /// How many names it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Where it stands: what [`Self::forget_since`] takes, should the record that comes next not reach its file.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.next
    }

    /// Forgets the names that came after `mark`, so that they are written again. Their ids are not used again: the
    /// record may have got there after all.
    pub fn forget_since(&mut self, mark: u64) {
        self.ids.retain(|_, id| *id < mark);
    }

    /// The id of a series, and whether it is new.
    #[inline]
    fn id(&mut self, series: &Series) -> (u64, bool) {
        if let Some(id) = self.ids.get(series) {
            return (*id, false);
        }
        let id = self.next;
        self.next += 1;
        self.ids.insert(series.clone(), id);
        (id, true)
    }
}

/// The names that a reader has met so far.
#[derive(Debug, Default)]
pub struct Names {
    series: HashMap<u64, Series, RandomState>,
}

/// Appends a batch with all its names.
pub fn push_batch<'a>(
    out: &mut Vec<u8>,
    producer: u128,
    number: u64,
    bucket: WallMs,
    entries: impl ExactSizeIterator<Item = (&'a Series, &'a Tally)>,
) {
    push(out, IN_FULL, &Order { time: bucket, producer, number }, entries, push_name);
}

/// Appends a batch; names that are in the dictionary are not written, and those that are not go there.
pub fn push_batch_with<'a>(
    dictionary: &mut Dictionary,
    out: &mut Vec<u8>,
    producer: u128,
    number: u64,
    bucket: WallMs,
    entries: impl ExactSizeIterator<Item = (&'a Series, &'a Tally)>,
) {
    let mut expected = 0_u64;
    push(out, BY_ID, &Order { time: bucket, producer, number }, entries, |out, series| {
        let (id, new) = dictionary.id(series);
        push_varint(out, zigzag(id.wrapping_sub(expected) as i64) << 1 | u64::from(new));
        expected = id + 1;
        if new {
            push_name(out, series);
        }
    });
}

fn push<'a>(
    out: &mut Vec<u8>,
    format: u8,
    batch: &Order,
    entries: impl ExactSizeIterator<Item = (&'a Series, &'a Tally)>,
    mut push_series: impl FnMut(&mut Vec<u8>, &Series),
) {
    out.push(format);
    out.extend_from_slice(&batch.producer.to_le_bytes());
    push_varint(out, batch.number);
    push_zigzag(out, batch.time);
    push_varint(out, entries.len() as u64);
    for (series, tally) in entries {
        push_series(out, series);
        push_tally_in(out, tally, Some(batch));
    }
}

fn push_name(out: &mut Vec<u8>, series: &Series) {
    let kind = match series.kind() {
        Kind::Counter => 0,
        Kind::Timer => 1,
        Kind::Gauge => 2,
        Kind::Set => 3,
    };
    push_varint(out, (series.key().len() as u64) << 2 | kind);
    out.extend_from_slice(series.key().as_bytes());
}

/// Reads a batch with all its names; nothing may stand behind it.
pub fn read_batch(bytes: &[u8]) -> Result<Decoded, Malformed> {
    read(bytes, IN_FULL, read_name)
}

/// Reads a batch after those before it; nothing may stand behind it.
pub fn read_batch_with(names: &mut Names, bytes: &[u8]) -> Result<Decoded, Malformed> {
    let mut expected = 0_u64;
    let mut defined = Vec::new();
    let decoded = read(bytes, BY_ID, |from| {
        let head = from.varint()?;
        let id = expected.wrapping_add(unzigzag(head >> 1) as u64);
        expected = id.wrapping_add(1);
        let entry = names.series.entry(id);
        if head & 1 == 0 {
            return match entry {
                Entry::Occupied(known) => Ok(known.get().clone()),
                Entry::Vacant(_) => Err(Malformed("an id that no record defines")),
            };
        }
        let series = read_name(from)?;
        match entry {
            Entry::Occupied(known) if *known.get() != series => Err(Malformed("an id that means two names")),
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(place) => {
                defined.push(id);
                Ok(place.insert(series).clone())
            }
        }
    });
    if decoded.is_err() {
        for id in defined {
            names.series.remove(&id);
        }
    }
    decoded
}

fn read(
    bytes: &[u8],
    format: u8,
    mut read_series: impl FnMut(&mut Reader<'_>) -> Result<Series, Malformed>,
) -> Result<Decoded, Malformed> {
    let mut from = Reader::new(bytes);
    if from.u8()? != format {
        return Err(Malformed("a batch of another format"));
    }
    let producer = u128::from_le_bytes(from.array()?);
    let number = from.varint()?;
    let bucket = from.zigzag()?;
    let batch = Order { time: bucket, producer, number };
    // The least entry is one byte for its name and one for its tally.
    let count = from.count(2)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let series = read_series(&mut from)?;
        let tally = read_tally_in(series.kind(), &mut from, Some(&batch))?;
        entries.push((series, tally));
    }
    from.end()?;
    Ok(Decoded { producer, number, bucket, entries })
}

fn read_name(from: &mut Reader<'_>) -> Result<Series, Malformed> {
    let head = from.varint()?;
    let kind = match head & 3 {
        0 => Kind::Counter,
        1 => Kind::Timer,
        2 => Kind::Gauge,
        _ => Kind::Set,
    };
    let len = usize::try_from(head >> 2).map_err(|_| Malformed("a name that is too long"))?;
    Ok(Series::new(kind, from.text(len)?))
}
