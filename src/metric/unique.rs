//! Sets: distinct members, exactly up to a bound and as a HyperLogLog beyond it.
//!
//! Members are kept as the 64-bit hash that Redis's PFADD uses, never as they came: they may be personal
//! data. Beyond the bound the registers stand in Redis's own dense format, so that PFCOUNT and PFMERGE read
//! them:
//!
//! ```text
//!   "HYLL" | 0 (dense) | 0 0 0 | cached count, 8 bytes, last byte 0x80: not valid | 16384 registers of 6 bits
//! ```
//!
//! Register `i` counts hashes whose low 14 bits are `i`, and holds the highest (trailing zeros of the other
//! 50 bits) + 1 seen. The estimator is Ertl's (*New cardinality estimation algorithms for HyperLogLog
//! sketches*, 2017), as in Redis; its standard error is 0.81 %.

use super::Malformed;
use hashbrown::HashSet;

/// Registers.
const REGISTERS: usize = 1 << 14;
/// Bits of the hash that choose the rank.
const RANK_BITS: u32 = 50;
/// Bytes before the registers.
const HEADER: usize = 16;
/// Bytes of a dense HyperLogLog.
pub const HLL_BYTES: usize = HEADER + REGISTERS * 6 / 8;
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
                Self::Estimate(_) => HLL_BYTES,
            }
    }
}

/// A HyperLogLog in Redis's dense format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll(Box<[u8]>);

impl Default for Hll {
    fn default() -> Self {
        let mut bytes = vec![0; HLL_BYTES];
        for (byte, header) in bytes.iter_mut().zip(*b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80") {
            *byte = header;
        }
        Self(bytes.into_boxed_slice())
    }
}

impl Hll {
    /// Adds a member by its hash.
    pub fn insert(&mut self, hash: u64) {
        let register = hash as usize & (REGISTERS - 1);
        // The sentinel bit ends the count of zeros at 50.
        let rank = ((hash >> 14) | (1 << RANK_BITS)).trailing_zeros() as u8 + 1;
        if self.get(register) < rank {
            self.set(register, rank);
        }
    }

    /// Keeps the higher of each pair of registers.
    pub fn merge(&mut self, other: &Self) {
        for register in 0..REGISTERS {
            let rank = other.get(register);
            if self.get(register) < rank {
                self.set(register, rank);
            }
        }
    }

    /// The bytes that Redis reads.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that Redis reads.
    #[must_use]
    pub fn to_redis(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads what Redis writes.
    pub fn from_redis(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != HLL_BYTES || !bytes.starts_with(b"HYLL\0") {
            return Err(Malformed("not a HyperLogLog"));
        }
        let hll = Self(bytes.into());
        if (0..REGISTERS).any(|register| u32::from(hll.get(register)) > RANK_BITS + 1) {
            return Err(Malformed("a register that is too high"));
        }
        Ok(hll)
    }

    /// How many distinct members were added, within about 0.81 %.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut histogram = [0_u32; 64];
        for register in 0..REGISTERS {
            if let Some(count) = histogram.get_mut(usize::from(self.get(register))) {
                *count += 1;
            }
        }
        let m = REGISTERS as f64;
        let top = RANK_BITS as usize + 1;
        let share = |rank: usize| f64::from(histogram.get(rank).copied().unwrap_or(0));
        let mut z = m * tau((m - share(top)) / m);
        for rank in (1..top).rev() {
            z = (z + share(rank)) * 0.5;
        }
        z += m * sigma(share(0) / m);
        (0.5 / std::f64::consts::LN_2 * m * m / z).round() as u64
    }

    /// Six bits, least significant first, across a byte border if need be.
    fn get(&self, register: usize) -> u8 {
        let bit = register * 6;
        let (at, shift) = (HEADER + bit / 8, bit % 8);
        let low = u16::from(self.0.get(at).copied().unwrap_or(0));
        let high = u16::from(self.0.get(at + 1).copied().unwrap_or(0));
        (((high << 8 | low) >> shift) & 0x3f) as u8
    }

    fn set(&mut self, register: usize, rank: u8) {
        let bit = register * 6;
        let (at, shift) = (HEADER + bit / 8, bit % 8);
        let mask = 0x3f_u16 << shift;
        let value = u16::from(rank) << shift;
        if let Some(low) = self.0.get_mut(at) {
            *low = (*low & !(mask as u8)) | value as u8;
        }
        if let Some(high) = self.0.get_mut(at + 1) {
            *high = (*high & !((mask >> 8) as u8)) | (value >> 8) as u8;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_hold_what_is_put_into_them() {
        let mut hll = Hll::default();
        for register in 0..REGISTERS {
            hll.set(register, (register % 51) as u8);
        }
        for register in 0..REGISTERS {
            assert_eq!(hll.get(register), (register % 51) as u8);
        }
    }

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
