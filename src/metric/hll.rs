//! The HyperLogLog: how many distinct members there were, within 0.81 %, in Redis's own bytes.
//!
//! Register `i` of 16,384 counts hashes whose low 14 bits are `i`, and holds the highest (trailing zeros of the
//! other 50 bits) + 1 seen: its rank. The registers are those that PFADD makes, so that PFCOUNT and PFMERGE read
//! ours and we read Redis's. Redis has two forms behind one header, of which small sets take the sparse one:
//!
//! ```text
//!   "HYLL" | 0 dense, 1 sparse | 0 0 0 | cached count, 8 bytes, last byte 80: not valid | registers
//!
//!   dense    6 bits each, the lowest first, across bytes: 12,288 bytes
//!   sparse   00nnnnnn            n+1 registers of rank 0, up to 64
//!            01nnnnnn nnnnnnnn   n+1 registers of rank 0, up to 16,384
//!            1rrrrrnn            n+1 registers of rank r+1, up to 4 of a rank of up to 32
//! ```
//!
//! One member whose hash ends in 14 bits that say 5, and in `100` before them, has rank 3 in register 5:
//! `04` (five zeros), `88` (one of rank 3), `7f f9` (16,378 zeros).
//!
//! In memory the registers above zero stand in a sorted list while they are few, 4 bytes each, and as in the dense
//! form beyond that: a set of 300 visitors takes 2 KB and not 12. How many are few, [`FEW_MAX`], weighs memory
//! against moving half the list at each new register.
//!
//! The estimator is Ertl's (*New cardinality estimation algorithms for HyperLogLog sketches*, 2017), as in Redis.

use super::Malformed;

/// Registers.
const REGISTERS: usize = 1 << 14;
/// Bits of the hash that choose the rank.
const RANK_BITS: u32 = 50;
/// The highest rank.
const RANK_MAX: u8 = RANK_BITS as u8 + 1;
/// Bytes before the registers.
const HEADER_BYTES: usize = 16;
/// Bytes of a dense HyperLogLog.
pub const HLL_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
/// Most bytes of a sparse HyperLogLog, its header included: Redis's own default (`hll-sparse-max-bytes`).
pub const SPARSE_BYTES_MAX: usize = 3_000;
/// The highest rank that the sparse form can say.
const SPARSE_RANK_MAX: u8 = 32;
/// Most registers above zero in the sorted list.
const FEW_MAX: usize = 1_024;

/// A HyperLogLog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll(Registers);

/// The form follows from how many registers are above zero, so that equal registers are equal here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Registers {
    /// Those above zero, at most [`FEW_MAX`], ascending: register · 64 + rank.
    Few(Vec<u32>),
    /// Redis's dense form, header and all.
    All(Box<[u8]>),
}

impl Default for Hll {
    fn default() -> Self {
        Self(Registers::Few(Vec::new()))
    }
}

impl Hll {
    /// Adds a member by its hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let register = hash as usize & (REGISTERS - 1);
        // The sentinel bit ends the count of zeros at 50.
        let rank = ((hash >> 14) | (1 << RANK_BITS)).trailing_zeros() as u8 + 1;
        self.raise(register, rank);
    }

    /// Keeps the higher of each pair of registers.
    pub fn merge(&mut self, other: &Self) {
        if let (Registers::Few(_), Registers::All(_)) = (&self.0, &other.0) {
            let few = std::mem::replace(self, other.clone());
            few.above_zero().for_each(|(register, rank)| self.raise(register, rank));
        } else {
            other.above_zero().for_each(|(register, rank)| self.raise(register, rank));
        }
    }

    /// The bytes that Redis reads: sparse where that takes at most [`SPARSE_BYTES_MAX`] and no rank is above 32,
    /// else dense.
    #[must_use]
    pub fn to_redis(&self) -> Vec<u8> {
        self.to_sparse().unwrap_or_else(|| self.to_dense())
    }

    /// The bytes that Redis reads in their dense form.
    #[must_use]
    pub fn to_dense(&self) -> Vec<u8> {
        match &self.0 {
            Registers::All(dense) => dense.to_vec(),
            Registers::Few(_) => {
                let mut dense = header(0);
                dense.resize(HLL_BYTES, 0);
                self.above_zero().for_each(|(register, rank)| set(&mut dense, register, rank));
                dense
            }
        }
    }

    fn to_sparse(&self) -> Option<Vec<u8>> {
        let mut out = header(1);
        // The run of equal ranks that is not written yet ends before `next`.
        let (mut next, mut run, mut run_rank) = (0, 0, 0);
        for (register, rank) in self.above_zero() {
            if register > next || rank != run_rank || run == 4 {
                push_run(&mut out, run, run_rank);
                push_zeros(&mut out, register - next);
                run = 0;
            }
            (next, run, run_rank) = (register + 1, run + 1, rank);
            if rank > SPARSE_RANK_MAX || out.len() > SPARSE_BYTES_MAX {
                return None;
            }
        }
        push_run(&mut out, run, run_rank);
        push_zeros(&mut out, REGISTERS - next);
        (out.len() <= SPARSE_BYTES_MAX).then_some(out)
    }

    /// Reads what Redis writes, in either form.
    pub fn from_redis(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, registers) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed("no HyperLogLog"))?;
        match header {
            [b'H', b'Y', b'L', b'L', 0, ..] => Self::from_dense(registers),
            [b'H', b'Y', b'L', b'L', 1, ..] => Self::from_sparse(registers),
            _ => Err(Malformed("no HyperLogLog")),
        }
    }

    fn from_dense(registers: &[u8]) -> Result<Self, Malformed> {
        let dense = [&header(0), registers].concat();
        if dense.len() != HLL_BYTES {
            return Err(Malformed("a dense HyperLogLog of another length"));
        }
        let all = Self(Registers::All(dense.into_boxed_slice()));
        let few: Vec<u32> =
            all.above_zero().map(|(register, rank)| entry(register, rank)).take(FEW_MAX + 1).collect();
        if all.above_zero().any(|(_, rank)| rank > RANK_MAX) {
            return Err(Malformed("a register that is too high"));
        }
        Ok(if few.len() > FEW_MAX { all } else { Self(Registers::Few(few)) })
    }

    fn from_sparse(registers: &[u8]) -> Result<Self, Malformed> {
        let mut hll = Self::default();
        let (mut next, mut codes) = (0, registers.iter());
        while let Some(&code) = codes.next() {
            let run = match code {
                0..0x40 => usize::from(code) + 1,
                0x40..0x80 => {
                    let low = codes.next().ok_or(Malformed("a sparse HyperLogLog is cut short"))?;
                    (usize::from(code & 0x3f) << 8 | usize::from(*low)) + 1
                }
                0x80.. => {
                    let run = usize::from(code & 3) + 1;
                    let rank = (code >> 2 & 0x1f) + 1;
                    (next..(next + run).min(REGISTERS)).for_each(|register| hll.raise(register, rank));
                    run
                }
            };
            next += run;
            if next > REGISTERS {
                break;
            }
        }
        if next == REGISTERS { Ok(hll) } else { Err(Malformed("a sparse HyperLogLog of another length")) }
    }

    /// How many distinct members were added, within about 0.81 %.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut histogram = [0_u32; 64];
        let mut zeros = REGISTERS as u32;
        for (_, rank) in self.above_zero() {
            zeros -= 1;
            if let Some(count) = histogram.get_mut(usize::from(rank)) {
                *count += 1;
            }
        }
        let m = REGISTERS as f64;
        let top = usize::from(RANK_MAX);
        let share = |rank: usize| f64::from(histogram.get(rank).copied().unwrap_or(0));
        let mut z = m * tau((m - share(top)) / m);
        for rank in (1..top).rev() {
            z = (z + share(rank)) * 0.5;
        }
        z += m * sigma(f64::from(zeros) / m);
        (0.5 / std::f64::consts::LN_2 * m * m / z).round() as u64
    }

    /// Bytes it takes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Registers::Few(few) => few.capacity() * size_of::<u32>(),
            Registers::All(dense) => dense.len(),
        }
    }

    /// Raises a register to a rank, if it is lower.
    #[inline]
    fn raise(&mut self, register: usize, rank: u8) {
        match &mut self.0 {
            Registers::All(dense) => {
                if get(dense, register) < rank {
                    set(dense, register, rank);
                }
            }
            Registers::Few(_) => self.raise_few(register, rank),
        }
    }

    fn raise_few(&mut self, register: usize, rank: u8) {
        let Registers::Few(few) = &mut self.0 else { return };
        let new = entry(register, rank);
        match few.binary_search_by_key(&(new >> 6), |entry| entry >> 6) {
            Ok(at) => {
                if let Some(entry) = few.get_mut(at) {
                    *entry = (*entry).max(new);
                }
            }
            Err(at) if few.len() < FEW_MAX => few.insert(at, new),
            Err(_) => {
                let mut dense = self.to_dense();
                set(&mut dense, register, rank);
                self.0 = Registers::All(dense.into_boxed_slice());
            }
        }
    }

    /// The registers above zero with their ranks, ascending.
    fn above_zero(&self) -> impl Iterator<Item = (usize, u8)> {
        let (few, all) = match &self.0 {
            Registers::Few(few) => (few.as_slice(), &[][..]),
            Registers::All(dense) => (&[][..], dense.get(HEADER_BYTES..).unwrap_or(&[])),
        };
        let few = few.iter().map(|entry| ((entry >> 6) as usize, (entry & 0x3f) as u8));
        // Three bytes hold four registers.
        let (threes, _) = all.as_chunks::<3>();
        let all = threes.iter().zip((0..).step_by(4)).flat_map(|(&[a, b, c], first)| {
            let ranks = [a & 0x3f, a >> 6 | b << 2 & 0x3f, b >> 4 | c << 4 & 0x3f, c >> 2];
            (first..).zip(ranks)
        });
        few.chain(all.filter(|(_, rank)| *rank > 0))
    }
}

fn header(form: u8) -> Vec<u8> {
    [&b"HYLL"[..], &[form], b"\0\0\0\0\0\0\0\0\0\0\x80"].concat()
}

fn entry(register: usize, rank: u8) -> u32 {
    (register as u32) << 6 | u32::from(rank)
}

/// Appends a run of one to four equal ranks, or nothing.
fn push_run(out: &mut Vec<u8>, run: u8, rank: u8) {
    if run > 0 {
        out.push(0x80 | (rank - 1) << 2 | (run - 1));
    }
}

/// Appends a run of zeros, or nothing.
fn push_zeros(out: &mut Vec<u8>, run: usize) {
    match run {
        0 => {}
        1..=64 => out.push((run - 1) as u8),
        _ => out.extend_from_slice(&[0x40 | ((run - 1) >> 8) as u8, (run - 1) as u8]),
    }
}

/// Six bits, least significant first, across a byte border if need be.
#[inline]
fn get(dense: &[u8], register: usize) -> u8 {
    let bit = register * 6;
    let (at, shift) = (HEADER_BYTES + bit / 8, bit % 8);
    let low = u16::from(dense.get(at).copied().unwrap_or(0));
    let high = u16::from(dense.get(at + 1).copied().unwrap_or(0));
    (((high << 8 | low) >> shift) & 0x3f) as u8
}

#[inline]
fn set(dense: &mut [u8], register: usize, rank: u8) {
    let bit = register * 6;
    let (at, shift) = (HEADER_BYTES + bit / 8, bit % 8);
    let mask = 0x3f_u16 << shift;
    let value = u16::from(rank) << shift;
    if let Some(low) = dense.get_mut(at) {
        *low = (*low & !(mask as u8)) | value as u8;
    }
    if let Some(high) = dense.get_mut(at + 1) {
        *high = (*high & !((mask >> 8) as u8)) | (value >> 8) as u8;
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
        let mut dense = Hll::default().to_dense();
        for register in 0..REGISTERS {
            set(&mut dense, register, (register % 52) as u8);
        }
        for register in 0..REGISTERS {
            assert_eq!(get(&dense, register), (register % 52) as u8);
        }
        let hll = Hll::from_redis(&dense).unwrap();
        assert!(hll.above_zero().eq(
            (0..REGISTERS).map(|register| (register, (register % 52) as u8)).filter(|(_, rank)| *rank > 0)
        ));
        assert_eq!(hll.to_redis(), dense, "ranks above 32 are not sparse");
    }

    #[test]
    fn the_worked_example() {
        let mut hll = Hll::default();
        hll.insert(0b100 << 14 | 5);
        assert_eq!(hll.to_redis()[HEADER_BYTES..], [0x04, 0x88, 0x7f, 0xf9]);
        assert_eq!(Hll::from_redis(&hll.to_redis()), Ok(hll));
    }

    #[test]
    fn the_form_follows_from_the_registers_whatever_way_they_came() {
        let of = |count: usize| {
            let mut hll = Hll::default();
            (0..count).for_each(|register| hll.raise(register * 7 % REGISTERS, (register % 9 + 1) as u8));
            hll
        };
        for count in [0, 1, 63, FEW_MAX - 1, FEW_MAX, FEW_MAX + 1, 1_400, 3_000] {
            let hll = of(count);
            assert_eq!(matches!(hll.0, Registers::Few(_)), count <= FEW_MAX, "{count}");
            assert_eq!(Hll::from_redis(&hll.to_redis()).as_ref(), Ok(&hll), "{count} sparse");
            assert_eq!(Hll::from_redis(&hll.to_dense()).as_ref(), Ok(&hll), "{count} dense");
            assert_eq!(hll.to_redis().len() <= SPARSE_BYTES_MAX, count <= 1_400, "{count}");
            for other in [of(100), of(2_000)] {
                let (mut there, mut back) = (hll.clone(), other.clone());
                there.merge(&other);
                back.merge(&hll);
                assert_eq!(there, back, "{count}");
                assert_eq!(there, of(count.max(other.above_zero().count())), "{count}");
            }
        }
    }

    #[test]
    fn runs_of_equal_ranks_are_cut_at_four() {
        for run in 1..=13 {
            let mut hll = Hll::default();
            (70..70 + run).for_each(|register| hll.raise(register, 32));
            let bytes = hll.to_redis();
            // A run of zeros in two bytes before and behind it.
            assert_eq!(bytes.len(), HEADER_BYTES + 2 + run.div_ceil(4) + 2, "{run}");
            assert_eq!(Hll::from_redis(&bytes), Ok(hll), "{run}");
        }
    }

    #[test]
    fn what_redis_would_not_write_is_refused() {
        let sparse = |codes: &[u8]| [&header(1), codes].concat();
        assert_eq!(Hll::from_redis(&sparse(&[0x7f, 0xff])), Ok(Hll::default()));
        for codes in
            [&[][..], &[0x7f], &[0x7f, 0xfe], &[0x7f, 0xff, 0x00], &[0x7f, 0xff, 0x80], &[0x80; 5_000]]
        {
            assert!(Hll::from_redis(&sparse(codes)).is_err(), "{codes:x?}");
        }
        let mut dense = Hll::default().to_dense();
        assert_eq!(Hll::from_redis(&dense), Ok(Hll::default()));
        assert!(Hll::from_redis(&dense[..HLL_BYTES - 1]).is_err());
        dense[HEADER_BYTES] = RANK_MAX + 1;
        assert!(Hll::from_redis(&dense).is_err());
        for bytes in [&b"HYLL"[..], b"HYLK\0\0\0\0\0\0\0\0\0\0\0\x80", b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\x80"] {
            assert!(Hll::from_redis(bytes).is_err());
        }
    }
}
