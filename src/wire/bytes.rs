//! What our encodings are made of: a reader that trusts nothing, and the writers of the same few forms.
//!
//! ```text
//!   varint   7 bits a byte, the lowest first; the top bit says that more follow.   300 = ac 02
//!   zigzag   a varint of 0, -1, 1, -2, 2, … as 0, 1, 2, 3, 4, …                    -2  = 03
//!   f64      8 bytes, the lowest first                                             1.0 = 00 00 00 00 00 00 f0 3f
//!   text     a varint of its length in bytes, then itself                          "a" = 01 61
//! ```
//!
//! Each number has one form: a varint whose last byte is zero is refused. Nothing here panics, and nothing takes
//! memory: what is read is a part of what was given.

pub use crate::metric::Malformed;

const SHORT: Malformed = Malformed("it ends too early");
const OVERLONG: Malformed = Malformed("a number with more bytes than it needs");
const OVERFLOW: Malformed = Malformed("a number that is too large");

/// Bytes that are read from their front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first byte on.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Refuses whatever is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.bytes.split_first().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*byte)
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// The next `n` bytes as text.
    pub fn text(&mut self, n: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.take(n)?).map_err(|_| Malformed("text that is not UTF-8"))
    }

    /// A varint of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let first = self.u8()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.varint_from(first) }
    }

    fn varint_from(&mut self, first: u8) -> Result<u64, Malformed> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            match byte {
                0 => return Err(OVERLONG),
                2.. if shift == 63 => return Err(OVERFLOW),
                1..0x80 => return Ok(value),
                0x80.. => {}
            }
        }
        Err(OVERFLOW)
    }

    /// A varint of at most 128 bits.
    pub fn varint128(&mut self) -> Result<u128, Malformed> {
        let mut value = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.u8()?;
            value |= u128::from(byte & 0x7f) << shift;
            match byte {
                0 if shift > 0 => return Err(OVERLONG),
                4.. if shift == 126 => return Err(OVERFLOW),
                0..0x80 => return Ok(value),
                0x80.. => {}
            }
        }
        Err(OVERFLOW)
    }

    /// A varint that counts things or bytes, each of which takes at least `each` bytes of what is left.
    pub fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| OVERFLOW)?;
        if count > self.len() / each.max(1) { Err(SHORT) } else { Ok(count) }
    }

    /// A signed number.
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    /// A double, bit for bit.
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.array().map(f64::from_le_bytes)
    }
}

/// Appends a varint.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint of up to 128 bits.
pub fn push_varint128(out: &mut Vec<u8>, mut value: u128) {
    while value > u128::from(u64::MAX) {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    push_varint(out, value as u64);
}

/// Appends a signed number.
pub fn push_zigzag(out: &mut Vec<u8>, value: i64) {
    push_varint(out, zigzag(value));
}

/// Appends a double, bit for bit.
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes behind their length.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends text behind its length.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes());
}

/// Appends what `write` writes, behind its length.
pub fn push_framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    match out.get_mut(at) {
        Some(first) if len < 0x80 => *first = len as u8,
        // A longer length needs room; what was written moves by a byte or a few.
        _ => {
            let mut prefix = Vec::with_capacity(10);
            push_varint(&mut prefix, len as u64);
            out.splice(at..=at, prefix);
        }
    }
}

/// 0, -1, 1, -2, 2, … as 0, 1, 2, 3, 4, …
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// 0, 1, 2, 3, 4, … as 0, -1, 1, -2, 2, …
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
