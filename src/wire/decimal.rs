//! Numbers in few bytes: exact sums, and doubles that are short decimals.
//!
//! ```text
//!   0vvvvvvv                                0 to 127
//!   10vvvvvv vvvvvvvv                       128 to 16,511, less 128, the high bits first
//!   11sppppp varint                         mantissa / 10^p with 0 to 18 places p; s: below zero
//!   11011111 8 bytes                        a double: of a value, itself; of a sum, what stands beside its exact
//!                                           part, which follows in one of the forms above
//! ```
//!
//! 63 is `3f`, 10,000 is `a6 90` and 49.90 is `c1 f3 03` (499 with one place). Other values of `sppppp` are left
//! for forms to come, and are refused. A sum always takes its shortest form, so that equal sums are equal bytes.
//! A double is written as a decimal only where that decimal reads back as the same bits in fewer bytes.

use super::bytes::{Malformed, Reader, push_f64, push_varint, push_varint128};
use crate::metric::Sum;
use crate::metric::sum::{MANTISSA_MAX, Number};

/// First value of the two-byte form.
const TWO: u8 = 0x80;
/// First byte of a decimal with a varint of its own, without sign and places.
const DECIMAL: u8 = 0xc0;
/// The sign in it.
const BELOW_ZERO: u8 = 0x20;
/// Its places.
const PLACES: u8 = 0x1f;
/// First byte before a double.
const DOUBLE: u8 = 0xdf;
/// Values below this take one byte, and values below the other two.
const ONE_BYTE: u64 = 0x80;
const TWO_BYTES: u64 = ONE_BYTE + 0x4000;
/// A double is written as a decimal up to this mantissa: eight bytes in all, one less than the double itself.
const SHORT_MAX: f64 = (1_u64 << 49) as f64;
/// The places that are tried for a double; with more it is hardly a decimal.
const TENS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Appends a sum.
#[inline]
pub(super) fn push_sum(out: &mut Vec<u8>, sum: &Sum) {
    if sum.float().to_bits() != 0 {
        out.push(DOUBLE);
        push_f64(out, sum.float());
    }
    let (mantissa, places) = sum.decimal();
    match u64::try_from(mantissa) {
        Ok(whole) if places == 0 && whole < TWO_BYTES => push_whole(out, whole),
        _ => {
            let sign = if mantissa < 0 { BELOW_ZERO } else { 0 };
            out.push(DECIMAL | sign | places);
            push_varint128(out, mantissa.unsigned_abs());
        }
    }
}

/// Reads a sum.
#[inline]
pub(super) fn read_sum(from: &mut Reader<'_>) -> Result<Sum, Malformed> {
    let head = from.u8()?;
    if head < TWO {
        Ok(Sum::from_count(u64::from(head)))
    } else if head < DECIMAL {
        read_two(head, from).map(Sum::from_count)
    } else {
        read_long_sum(head, from)
    }
}

fn read_long_sum(mut head: u8, from: &mut Reader<'_>) -> Result<Sum, Malformed> {
    let mut float = 0.0;
    if head == DOUBLE {
        float = from.f64()?;
        head = from.u8()?;
    }
    let (mantissa, places) = match head {
        0..TWO => (i128::from(head), 0),
        TWO..DECIMAL => (i128::from(read_two(head, from)?), 0),
        DECIMAL.. => {
            let magnitude = from.varint128()?;
            let mantissa = if head & BELOW_ZERO != 0 {
                0_i128.checked_sub_unsigned(magnitude)
            } else {
                i128::try_from(magnitude).ok()
            };
            (mantissa.ok_or(TOO_LARGE)?, head & PLACES)
        }
    };
    Sum::from_parts(mantissa, places, float).ok_or(TOO_LARGE)
}

const TOO_LARGE: Malformed = Malformed("a sum that is too large or of an unknown form");

/// Appends a double: one to eight bytes if it is a short decimal, else nine.
#[inline]
pub fn push_value(out: &mut Vec<u8>, value: f64) {
    match short_decimal(value) {
        Some((mantissa @ 0.., 0)) if (mantissa as u64) < TWO_BYTES => push_whole(out, mantissa as u64),
        Some((mantissa, places)) => {
            let sign = if mantissa < 0 { BELOW_ZERO } else { 0 };
            out.push(DECIMAL | sign | places);
            push_varint(out, mantissa.unsigned_abs());
        }
        None => {
            out.push(DOUBLE);
            push_f64(out, value);
        }
    }
}

/// Reads a double.
#[inline]
pub fn read_value(from: &mut Reader<'_>) -> Result<f64, Malformed> {
    let head = from.u8()?;
    match head {
        0..TWO => Ok(f64::from(head)),
        TWO..DECIMAL => Ok(read_two(head, from)? as f64),
        DOUBLE => from.f64(),
        DECIMAL.. => {
            let magnitude = from.varint()?;
            let places = head & PLACES;
            if magnitude > MANTISSA_MAX || places > 18 {
                return Err(Malformed("a value that is too large or of an unknown form"));
            }
            let mantissa = if head & BELOW_ZERO == 0 { magnitude as i64 } else { -(magnitude as i64) };
            Ok(Number::Decimal { mantissa, places }.to_f64())
        }
    }
}

/// The decimal of fewest places that reads back as these very bits.
#[inline]
fn short_decimal(value: f64) -> Option<(i64, u8)> {
    for (places, power) in (0..).zip(TENS) {
        let scaled = value * power;
        if scaled.is_nan() || scaled.abs() >= SHORT_MAX {
            return None;
        }
        let mantissa = (scaled + 0.5_f64.copysign(scaled)) as i64;
        // The division is slow and settles it; the subtraction is fast and rules most out.
        let near = (scaled - mantissa as f64).abs() <= scaled.abs() * (4.0 * f64::EPSILON);
        if near && (mantissa as f64 / power).to_bits() == value.to_bits() {
            return Some((mantissa, places));
        }
    }
    None
}

#[inline]
fn push_whole(out: &mut Vec<u8>, whole: u64) {
    if whole < ONE_BYTE {
        out.push(whole as u8);
    } else {
        let rest = whole - ONE_BYTE;
        out.extend_from_slice(&[TWO | (rest >> 8) as u8, rest as u8]);
    }
}

#[inline]
fn read_two(head: u8, from: &mut Reader<'_>) -> Result<u64, Malformed> {
    Ok(ONE_BYTE + (u64::from(head - TWO) << 8 | u64::from(from.u8()?)))
}
