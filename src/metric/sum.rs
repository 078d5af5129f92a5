//! Exact sums of decimals.
//!
//! A sum is a 128-bit integer in units of 10⁻¹⁸, so a million times `0.10` is 100000 exactly, in any order
//! and on any number of nodes: integer addition is associative, which doubles are not. What does not fit
//! (beyond about ±10²⁰, or so small that the unit would round it) is kept beside it as a double; such sums
//! are as good as statsd's and no better. Adding is one 64×64-bit multiplication and one 128-bit addition.
//!
//! The rivals lost (benches/sum.rs; benches/record): a plain double, 1.9 ns, is wrong by cents after a million
//! dimes; an error-free sum of two doubles, 2.6 ns, is exact for a while but not associative, so that nodes could
//! disagree; this takes 2.4 ns.

/// Decimal places of the unit.
const PLACES: u32 = 18;
/// Units in one.
const ONE: i128 = 1_000_000_000_000_000_000;
/// Doubles of at least this magnitude go to the side sum: 1.7·10²⁰ would overflow.
const FIXED_MAX: f64 = 1e20;
/// Doubles below this magnitude have a whole part that fits an `i64`.
const WORD_MAX: f64 = 9e18;
/// Doubles below this magnitude go to the side sum: the unit would cost them digits.
const FIXED_MIN: f64 = 1e-3;
/// Largest mantissa of a [`Number::Decimal`]: every integer up to here is a double.
pub const MANTISSA_MAX: u64 = 1 << 53;
/// Powers of ten that fit a double exactly and a `u64`, for the places of a decimal.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop at a bad index")]
const POWERS: [u64; PLACES as usize + 1] = {
    let mut powers = [1; PLACES as usize + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A number as it stood in a line: a short decimal exactly, anything else as the nearest double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `mantissa / 10^places`, with `|mantissa| ≤` [`MANTISSA_MAX`] and at most 18 places.
    Decimal {
        /// All digits, signed.
        mantissa: i64,
        /// How many of them stand behind the point.
        places: u8,
    },
    /// A finite double.
    Float(f64),
}

impl Number {
    /// The nearest double: one division of two exact doubles is correctly rounded.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Decimal { mantissa, places: 0 } => mantissa as f64,
            Self::Decimal { mantissa, places } => mantissa as f64 / power(places) as f64,
            Self::Float(value) => value,
        }
    }
}

/// The inverses of the powers of five modulo 2⁶⁴: dividing a multiple of one by it is a multiplication.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop at a bad index")]
const FIFTHS: [u64; PLACES as usize + 1] = {
    let mut inverses = [1_u64; PLACES as usize + 1];
    let mut i = 1;
    while i < inverses.len() {
        // 5 · 0xcccccccccccccccd = 4 · 2⁶⁴ + 1
        inverses[i] = inverses[i - 1].wrapping_mul(0xcccc_cccc_cccc_cccd);
        i += 1;
    }
    inverses
};

/// The inverse of the power of five in [`ONE`].
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop at a bad index")]
const FIFTH_OF_ONE: u64 = FIFTHS[PLACES as usize];

fn power(places: u8) -> u64 {
    POWERS.get(usize::from(places)).copied().unwrap_or(1)
}

/// A sum of numbers, exact for decimals of up to 18 places.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    fixed: i128,
    float: f64,
}

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self { fixed: 0, float: 0.0 };

    /// The sum that is `n`.
    #[must_use]
    pub fn from_count(n: u64) -> Self {
        // At most 2⁶⁴ · 10¹⁸, which is below 2¹²⁴.
        Self { fixed: i128::from(n) * ONE, float: 0.0 }
    }

    /// The sum that is `mantissa / 10^places` and `float` beside it; `None` if it is too large or has too many
    /// places.
    #[must_use]
    pub fn from_parts(mantissa: i128, places: u8, float: f64) -> Option<Self> {
        let unit = i128::from(*POWERS.get((PLACES as usize).checked_sub(usize::from(places))?)?);
        let fixed = match i64::try_from(mantissa) {
            Ok(mantissa) => i128::from(mantissa) * unit,
            Err(_) => mantissa.checked_mul(unit)?,
        };
        Some(Self { fixed, float })
    }

    /// The exact part as `mantissa / 10^places` with as few places as there can be.
    #[inline]
    #[must_use]
    pub fn decimal(&self) -> (i128, u8) {
        for places in 0..=PLACES as u8 {
            // If the unit, 2^z · 5^z, divides the sum and the quotient fits a word, then the quotient is the
            // shifted sum times the inverse of 5^z; else multiplying back shows that it was not.
            let zeros = PLACES - u32::from(places);
            let inverse = FIFTHS.get(zeros as usize).copied().unwrap_or(1);
            let quotient = ((self.fixed >> zeros) as u64).wrapping_mul(inverse) as i64;
            if i128::from(quotient) * i128::from(power(zeros as u8)) == self.fixed {
                return (i128::from(quotient), places);
            }
        }
        self.long_decimal()
    }

    /// The same for a mantissa that does not fit a word.
    #[cold]
    fn long_decimal(&self) -> (i128, u8) {
        let (mut mantissa, mut places) = (self.fixed, PLACES as u8);
        while places > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            places -= 1;
        }
        (mantissa, places)
    }

    /// What stands beside the exact part as a double.
    #[must_use]
    pub fn float(&self) -> f64 {
        self.float
    }

    /// The sum that is `n`, below zero too.
    #[must_use]
    pub fn from_whole(n: i64) -> Self {
        Self { fixed: i128::from(n) * ONE, float: 0.0 }
    }

    /// Adds one number.
    #[inline]
    pub fn add(&mut self, number: Number) {
        match number {
            Number::Decimal { mantissa, places } => {
                let unit = POWERS.get(PLACES as usize - usize::from(places)).copied().unwrap_or(0);
                self.add_fixed(i128::from(mantissa) * i128::from(unit));
            }
            Number::Float(value) => self.add_f64(value),
        }
    }

    /// Adds `number × weight`: exactly where the weight is a whole number (a rate of 0.1 weighs 10), else as
    /// the product of two doubles, as statsd computes it.
    pub fn add_weighted(&mut self, number: Number, weight: f64) {
        match number {
            _ if weight == 1.0 => self.add(number),
            Number::Decimal { mantissa, places } if weight.fract() == 0.0 && weight.abs() < 1e9 => {
                let unit = POWERS.get(PLACES as usize - usize::from(places)).copied().unwrap_or(0);
                let units = i128::from(mantissa) * i128::from(unit);
                match units.checked_mul(weight as i128) {
                    Some(weighted) => self.add_fixed(weighted),
                    None => self.add_f64(number.to_f64() * weight),
                }
            }
            _ => self.add_f64(number.to_f64() * weight),
        }
    }

    /// Adds a double, rounded to the unit where that keeps all its digits.
    pub fn add_f64(&mut self, value: f64) {
        let magnitude = value.abs();
        if magnitude < WORD_MAX && (magnitude >= FIXED_MIN || value == 0.0) {
            // Conversions to 64 bits are one instruction; rounding half up is close enough for a unit of 10⁻¹⁸.
            let whole = value as i64;
            let part = (value - whole as f64) * ONE as f64;
            self.add_fixed(i128::from(whole) * ONE + i128::from((part + 0.5_f64.copysign(part)) as i64));
        } else if (WORD_MAX..FIXED_MAX).contains(&magnitude) {
            // Doubles of this size are whole.
            self.add_fixed(value as i128 * ONE);
        } else {
            self.float += value;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.float += other.float;
        self.add_fixed(other.fixed);
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // Of most sums, whole numbers of 63 bits, the quotient is one multiplication, and another proves it.
        let quotient = ((self.fixed >> PLACES) as u64).wrapping_mul(FIFTH_OF_ONE) as i64;
        if self.float == 0.0 && i128::from(quotient) * ONE == self.fixed {
            return quotient as f64;
        }
        let (whole, rest) = (self.fixed / ONE, self.fixed % ONE);
        let fixed = if rest == 0 { whole as f64 } else { decimal_to_f64(self.fixed, whole, rest) };
        // A sum of nothing but decimals must not pick up a rounding of `+ 0.0`, nor lose its sign to it.
        if self.float == 0.0 { fixed } else { fixed + self.float }
    }

    /// Whether the sum is exact, not partly a double.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.float == 0.0
    }

    #[inline]
    fn add_fixed(&mut self, units: i128) {
        if let Some(sum) = self.fixed.checked_add(units) {
            self.fixed = sum;
        } else {
            self.float += self.fixed as f64 / ONE as f64;
            self.fixed = units;
        }
    }
}

/// Digits and a point, read back by a correctly rounded parser: two roundings in a row could be off by one.
fn decimal_to_f64(fixed: i128, whole: i128, rest: i128) -> f64 {
    let sign = if fixed < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:018}", whole.unsigned_abs(), rest.unsigned_abs());
    fast_float2::parse(&text).unwrap_or(fixed as f64 / ONE as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(mantissa: i64, places: u8) -> Number {
        Number::Decimal { mantissa, places }
    }

    #[test]
    fn a_million_dimes_are_a_hundred_thousand() {
        let mut sum = Sum::ZERO;
        for _ in 0..1_000_000 {
            sum.add(decimal(10, 2));
        }
        assert_eq!(sum.to_f64(), 100_000.0);
        assert!(sum.is_exact());
    }

    #[test]
    fn whole_and_fractional_weights() {
        let mut sum = Sum::ZERO;
        sum.add_weighted(decimal(3, 0), 10.0);
        sum.add_weighted(decimal(1, 1), 2.0);
        assert_eq!(sum.to_f64(), 30.2);
        sum.add_weighted(decimal(1, 0), 1.0 / 0.3);
        assert!((sum.to_f64() - (30.2 + 1.0 / 0.3)).abs() < 1e-12);
    }

    #[test]
    fn what_the_unit_cannot_hold_stays_a_double() {
        let mut sum = Sum::ZERO;
        sum.add_f64(1e300);
        sum.add_f64(1e-30);
        assert_eq!(sum.to_f64(), 1e300);
        assert!(!sum.is_exact());
        let mut tiny = Sum::ZERO;
        tiny.add(decimal(1, 7));
        assert_eq!(tiny.to_f64(), 1e-7);
        let mut big = Sum::ZERO;
        for _ in 0..4 {
            big.add_f64(9.9e19);
        }
        assert!((big.to_f64() - 3.96e20).abs() < 1e6);
    }

    #[test]
    fn doubles_come_out_as_they_went_in() {
        for value in [0.0, 1.0, -1.0, 0.1, 1e15, 123_456_789.123, 9_007_199_254_740_993.0, -0.001, 5e-7, 1e19]
        {
            let mut sum = Sum::ZERO;
            sum.add_f64(value);
            assert_eq!(sum.to_f64(), value, "{value}");
        }
    }
}
