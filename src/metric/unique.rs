//! Sets: distinct members, exactly up to a bound and as a HyperLogLog beyond it (see [`super::hll`]).
//!
//! Members are kept as the 64-bit hash that Redis's PFADD uses, never as they came: they may be personal
//! data.

pub use super::hll::{HLL_BYTES, Hll};
use hashbrown::HashSet;

/// Redis's seed.
const SEED: u64 = 0xadc8_3b19;
/// `MurmurHash64A`'s multiplier.
const MURMUR: u64 = 0xc6a4_a793_5bd1_e995;

/// The hash of a member: `MurmurHash64A` with Redis's seed, over `salt` and the member as if they were one text.
#[must_use]
pub fn hash_member(salt: &[u8], member: &[u8]) -> u64 {
    let mut hash = SEED ^ ((salt.len() + member.len()) as u64).wrapping_mul(MURMUR);
    let (words, salt_tail) = salt.as_chunks::<8>();
    hash = words.iter().fold(hash, |hash, word| murmur_word(hash, *word));
    let mut tail = salt_tail;
    // The word in which the salt ends and the member begins.
    let mut across = [0; 8];
    let mut member = member;
    if !salt_tail.is_empty() {
        let (begin, rest) = member.split_at(member.len().min(8 - salt_tail.len()));
        for (to, from) in across.iter_mut().zip(salt_tail.iter().chain(begin)) {
            *to = *from;
        }
        member = rest;
        tail = across.get(..salt_tail.len() + begin.len()).unwrap_or(&[]);
        if tail.len() == across.len() {
            hash = murmur_word(hash, across);
            tail = &[];
        }
    }
    let (words, member_tail) = member.as_chunks::<8>();
    hash = words.iter().fold(hash, |hash, word| murmur_word(hash, *word));
    if tail.is_empty() {
        tail = member_tail;
    }
    if !tail.is_empty() {
        let last = tail.iter().rev().fold(0, |last: u64, &byte| (last << 8) | u64::from(byte));
        hash = (hash ^ last).wrapping_mul(MURMUR);
    }
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(MURMUR);
    hash ^ (hash >> 47)
}

#[inline]
fn murmur_word(hash: u64, word: [u8; 8]) -> u64 {
    let mut k = u64::from_le_bytes(word).wrapping_mul(MURMUR);
    k ^= k >> 47;
    (hash ^ k.wrapping_mul(MURMUR)).wrapping_mul(MURMUR)
}

/// Distinct members, by their hashes.
#[derive(Clone, Debug, PartialEq)]
pub enum Unique {
    /// Every hash.
    Exact(HashSet<u64, foldhash::fast::RandomState>),
    /// Registers.
    Estimate(Hll),
}

impl Default for Unique {
    fn default() -> Self {
        Self::Exact(HashSet::default())
    }
}

impl Unique {
    /// Adds a member by its hash; beyond `exact_max` members a HyperLogLog takes over.
    pub fn insert(&mut self, hash: u64, exact_max: usize) {
        match self {
            Self::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > exact_max {
                    self.estimate();
                }
            }
            Self::Estimate(hll) => hll.insert(hash),
        }
    }

    /// Adds all members of another set.
    pub fn merge(&mut self, other: Self, exact_max: usize) {
        match (&mut *self, other) {
            (Self::Exact(mine), Self::Exact(theirs)) if mine.is_empty() => *mine = theirs,
            (_, Self::Exact(hashes)) => {
                for hash in hashes {
                    self.insert(hash, exact_max);
                }
            }
            (_, Self::Estimate(hll)) => self.estimate().merge(&hll),
        }
    }

    /// The registers, which it keeps from now on.
    fn estimate(&mut self) -> &mut Hll {
        if let Self::Exact(hashes) = self {
            let mut hll = Hll::default();
            for &hash in hashes.iter() {
                hll.insert(hash);
            }
            *self = Self::Estimate(hll);
        }
        match self {
            Self::Estimate(hll) => hll,
            Self::Exact(_) => unreachable!("it was made an estimate above"),
        }
    }

    /// Takes a copy of what is there and leaves an empty set that keeps its memory.
    #[must_use]
    pub fn copy_out(&mut self) -> Self {
        match self {
            Self::Exact(hashes) => {
                let copy = Self::Exact(hashes.clone());
                hashes.clear();
                copy
            }
            Self::Estimate(_) => std::mem::take(self),
        }
    }

    /// How many members there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Estimate(hll) => hll.count(),
        }
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Exact(hashes) if hashes.is_empty())
    }

    /// Bytes it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Exact(hashes) => hashes.allocation_size(),
                Self::Estimate(hll) => hll.bytes(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_up_to_the_bound_and_close_beyond_it() {
        let mut set = Unique::default();
        for visitor in 0..256_u32 {
            for _ in 0..3 {
                set.insert(hash_member(b"", visitor.to_string().as_bytes()), 256);
            }
        }
        assert_eq!(set.count(), 256);
        for members in [1_000_u32, 20_000, 100_000] {
            for visitor in 0..members {
                set.insert(hash_member(b"", visitor.to_string().as_bytes()), 256);
            }
            let error = set.count() as f64 / f64::from(members) - 1.0;
            assert!(error.abs() < 0.03, "{members}: {}", set.count());
        }
    }

    #[test]
    fn a_salt_changes_every_hash() {
        assert_ne!(hash_member(b"", b"ada"), hash_member(b"pepper", b"ada"));
        // Wherever the cut is, it is the hash of one text.
        let text = b"pepper-and-salt:ada-lovelace@example.org";
        for end in 0..text.len() {
            for cut in 0..=end {
                let (salt, member) = text[..end].split_at(cut);
                assert_eq!(hash_member(salt, member), hash_member(b"", &text[..end]), "{cut} of {end}");
            }
        }
    }
}
