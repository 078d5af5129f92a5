//! From raw names to slots: a hash table of 16-byte entries, and the bytes they are compared with.
//!
//! ```text
//!   hash(kind, name, tags) ─▶ Entry { hash, arena_at, slot, lengths and kind } ─▶ arena: the raw bytes
//! ```
//!
//! Of the hash an entry keeps 32 bits, from which its place in the table follows: growing the table reads no
//! name again, and of a million names a hundred pairs share all 32, which the comparison of bytes tells apart.

use super::make_room;
use super::registry::Registry;
use crate::limits;
use crate::metric::{Kind, Series};
use crate::wire::statsd::Sample;
use hashbrown::{HashMap, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Bits of [`Entry::tags_and_kind`] that are the kind.
const KIND_BITS: u32 = 2;

/// Where a raw name leads. Sixteen bytes: four to a cache line, and a million of them are looked through at
/// random.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    arena_at: u32,
    slot: u32,
    name_bytes: u16,
    /// Length of the tags, and below it the kind.
    tags_and_kind: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(Kind::ALL.len() <= 1 << KIND_BITS);
const _: () = assert!(limits::TAGS_BYTES_MAX < 1 << (16 - KIND_BITS), "the length of the tags fits its bits");

impl Entry {
    /// Where an entry stands in the table. Its 32 bits are spread over all that the table looks at.
    fn place(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Raw names and their slots.
#[derive(Debug)]
pub(super) struct Index {
    entries: HashTable<Entry>,
    arena: Vec<u8>,
    /// Seeded at random, so that nobody can choose names that collide.
    hasher: foldhash::fast::RandomState,
    /// Next free slot of each kind.
    next: [u32; Kind::ALL.len()],
    /// Slots by series. One series may be sent under several raw names (tags in another order). Their sums can
    /// be merged later, but changes of a gauge must meet in one cell to stay in order. Here are also series that
    /// are counted without their raw names being known, for want of room: figures' and overflow series.
    slots: HashMap<Series, u32, foldhash::fast::RandomState>,
    /// Slots of overflow series, by kind and the first component they count for.
    overflow: [HashMap<Box<str>, u32, foldhash::fast::RandomState>; Kind::ALL.len()],
    /// What the raw names here take.
    charge: Charge,
}

/// Bytes that the registry was told of, and is told when they are free.
#[derive(Debug)]
struct Charge {
    registry: Arc<Registry>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.registry.discharge(self.bytes);
    }
}

impl Index {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            entries: HashTable::new(),
            arena: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
            next: [0; Kind::ALL.len()],
            slots: HashMap::default(),
            overflow: std::array::from_fn(|_| HashMap::default()),
            charge: Charge { registry, bytes: 0 },
        }
    }

    /// How many raw names are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn hash(&self, kind: Kind, sample: &Sample<'_>) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(sample.name);
        if !sample.tags.is_empty() {
            hasher.write(sample.tags);
        }
        hasher.write_u8(kind as u8);
        hasher.finish() as u32
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, kind: Kind, sample: &Sample<'_>) -> Option<u32> {
        let tags_and_kind = tags_and_kind(kind, sample)?;
        let same = |entry: &Entry| {
            entry.hash == hash && entry.tags_and_kind == tags_and_kind && self.is_raw(entry, sample)
        };
        self.entries.find(Entry::place(hash), same).map(|entry| entry.slot)
    }

    /// Whether an entry is for these bytes; the length of the tags is known to be the same.
    #[inline]
    fn is_raw(&self, entry: &Entry, sample: &Sample<'_>) -> bool {
        let (at, name) = (entry.arena_at as usize, usize::from(entry.name_bytes));
        let end = at + name + sample.tags.len();
        name == sample.name.len()
            && self.arena.get(at..at + name).is_some_and(|known| is_same(known, sample.name))
            && self.arena.get(at + name..end).is_some_and(|known| is_same(known, sample.tags))
    }

    /// The slot of a gauge that is known under another raw name, or of a series that is counted without one.
    pub(super) fn slot(&self, series: &Series) -> Option<u32> {
        self.slots.get(series).copied()
    }

    /// Gives a series the next slot of its kind; `found` if it is to be found without a raw name.
    pub(super) fn next_slot(&mut self, series: &Series, found: bool) -> Option<u32> {
        let next = self.next.get_mut(series.kind() as usize)?;
        let slot = *next;
        *next = slot.checked_add(1)?;
        if found || series.kind() == Kind::Gauge {
            self.slots.insert(series.clone(), slot);
        }
        Some(slot)
    }

    /// The slot of the overflow series for a first component.
    pub(super) fn overflow(&self, kind: Kind, first: &str) -> Option<u32> {
        self.overflow.get(kind as usize)?.get(first).copied()
    }

    /// Remembers that slot.
    pub(super) fn learn_overflow(&mut self, kind: Kind, first: &str, slot: u32) {
        if let Some(slots) = self.overflow.get_mut(kind as usize) {
            slots.insert(first.into(), slot);
        }
    }

    /// Asks the registry for room for a raw name.
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let room = self.charge.registry.charge(bytes);
        self.charge.bytes += if room { bytes } else { 0 };
        room
    }

    /// Gives back what a raw name was charged that is not learned.
    pub(super) fn discharge(&mut self, bytes: usize) {
        self.charge.registry.discharge(bytes);
        self.charge.bytes -= bytes;
    }

    /// Room for a raw name; `None` when four gigabytes of names are reached. Lengths were checked when its
    /// key was made.
    pub(super) fn learn(&mut self, hash: u32, kind: Kind, sample: &Sample<'_>, slot: u32) -> Option<()> {
        let arena_at = u32::try_from(self.arena.len()).ok()?;
        let name_bytes = u16::try_from(sample.name.len()).ok()?;
        let tags_and_kind = tags_and_kind(kind, sample)?;
        make_room(&mut self.arena, sample.name.len() + sample.tags.len());
        self.arena.extend_from_slice(sample.name);
        self.arena.extend_from_slice(sample.tags);
        let entry = Entry { hash, arena_at, slot, name_bytes, tags_and_kind };
        self.entries.insert_unique(Entry::place(hash), entry, |entry| Entry::place(entry.hash));
        Some(())
    }
}

/// `None` for a tag list that is longer than any we take.
#[inline]
fn tags_and_kind(kind: Kind, sample: &Sample<'_>) -> Option<u16> {
    let tags =
        u16::try_from(sample.tags.len()).ok().filter(|&tags| usize::from(tags) <= limits::TAGS_BYTES_MAX)?;
    Some(tags << KIND_BITS | kind as u16)
}

/// Equality of two names of one length, eight bytes at a time and the last eight once more: the system's memcmp
/// took 38 of the 88 ns that a line of 1,000 series cost (perf, 2026-11-23).
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_end), Some(b_end)) => {
            let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            a_end == b_end && a.iter().zip(b).all(|(a, b)| a == b)
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}
