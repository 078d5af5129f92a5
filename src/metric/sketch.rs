//! A sketch of a distribution: any quantile within 1 % of its value, in a few kilobytes, merged in any order.
//!
//! DDSketch (Masson, Rim, Lee: *DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
//! Guarantees*, VLDB 2019) with a fixed layout of bins, so that merging is adding. A value `v` falls into
//!
//! ```text
//!   bin(v) = floor( m · (e + ((6/35·s − 3/5)·s + 10/7)·s) )      v = (1+s)·2^e, 0 ≤ s < 1
//! ```
//!
//! The cubic approximates log₂ and needs no logarithm; its slope is nowhere less than 10/7 per doubling of
//! the argument's natural logarithm, so that with `m = 7 / (10 · ln γ)`, `γ = 1.01/0.99`, no bin is wider
//! than γ and its middle is within 1 % of all it holds. Weights are counted in units of 2⁻²⁰, sums exactly
//! (see [`super::sum`]), so that merging is associative to the last bit.

use super::Malformed;
use super::sum::{Number, Sum};

/// Relative error of a quantile.
pub const ERROR: f64 = 0.01;
/// Units of weight in one sample.
const WEIGHT_UNIT: f64 = (1 << 20) as f64;
/// Magnitudes below this are zero: Graphite would draw them there.
const TINY: f64 = 1e-12;
/// `7 / (10 · ln(1.01/0.99))`.
const BINS_PER_LOG: f64 = 34.998_833_302_220_75;

/// The bin of a positive value.
#[inline]
fn bin_of(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let s = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000) - 1.0;
    let log = exponent as f64 + ((6.0 / 35.0 * s - 3.0 / 5.0) * s + 10.0 / 7.0) * s;
    floor(log * BINS_PER_LOG)
}

/// The floor of a number that fits an `i32`: a conversion and a comparison, where `f64::floor` is a call on
/// processors without SSE 4.1, for which we build.
#[inline]
fn floor(value: f64) -> i32 {
    let whole = value as i32;
    whole - i32::from(f64::from(whole) > value)
}

/// The smallest value of a bin. The cubic is solved by Newton's method, which from here is there to the last
/// bits after four steps: its slope is never far from one.
fn lower_bound(bin: i32) -> f64 {
    let log = f64::from(bin) / BINS_PER_LOG;
    let exponent = floor(log);
    let rest = log - f64::from(exponent);
    let mut s = rest;
    for _ in 0..5 {
        let value = ((6.0 / 35.0 * s - 3.0 / 5.0) * s + 10.0 / 7.0) * s;
        let slope = (18.0 / 35.0 * s - 6.0 / 5.0) * s + 10.0 / 7.0;
        s -= (value - rest) / slope;
    }
    (1.0 + s) * f64::from(exponent).exp2()
}

/// The value that stands for a bin: within 1 % of all that the bin holds.
fn middle(bin: i32) -> f64 {
    let (low, high) = (lower_bound(bin), lower_bound(bin + 1));
    2.0 * low * high / (low + high)
}

/// Weights by bin, dense between the lowest and the highest bin in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bins {
    first: i32,
    weights: Vec<u64>,
}

impl Bins {
    /// The bins from `first` on; none of them lies beyond what a double may fall into, and the outermost two are
    /// in use.
    pub fn new(first: i32, weights: Vec<u64>) -> Result<Self, Malformed> {
        let Some((lowest, highest)) = weights.first().zip(weights.last()) else {
            return Ok(Self::default());
        };
        let end = usize::try_from(i64::from(bin_of(f64::MAX)) + 1 - i64::from(first)).unwrap_or(0);
        if first < bin_of(TINY) || weights.len() > end {
            return Err(Malformed("a bin that no value falls into"));
        }
        if *lowest == 0 || *highest == 0 {
            return Err(Malformed("the outermost bin is empty"));
        }
        Ok(Self { first, weights })
    }

    /// The lowest bin in use.
    #[must_use]
    pub fn first(&self) -> i32 {
        self.first
    }

    /// The weights from the lowest bin in use to the highest, in units of 2⁻²⁰.
    #[must_use]
    pub fn weights(&self) -> &[u64] {
        &self.weights
    }

    #[inline]
    fn add(&mut self, bin: i32, weight: u64) {
        if self.weights.is_empty() {
            self.first = bin;
        }
        if bin < self.first {
            let more = (self.first - bin) as usize;
            self.weights.splice(0..0, std::iter::repeat_n(0, more));
            self.first = bin;
        }
        let at = (bin - self.first) as usize;
        if at >= self.weights.len() {
            self.weights.resize(at + 1, 0);
        }
        if let Some(slot) = self.weights.get_mut(at) {
            *slot = slot.saturating_add(weight);
        }
    }

    fn merge(&mut self, other: &Self) {
        let Some(last) = other.weights.len().checked_sub(1) else {
            return;
        };
        // Room for all of them at once.
        self.add(other.first, 0);
        self.add(other.first + last as i32, 0);
        let from = (other.first - self.first) as usize;
        for (mine, theirs) in self.weights.iter_mut().skip(from).zip(&other.weights) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    fn used(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> {
        (self.first..)
            .zip(&self.weights)
            .map(|(bin, &weight)| (bin, weight))
            .filter(|(_, weight)| *weight > 0)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// The sketch of a distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    positive: Bins,
    negative: Bins,
    zero: u64,
    min: f64,
    max: f64,
    sum: Sum,
    sum_squares: Sum,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            positive: Bins::default(),
            negative: Bins::default(),
            zero: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: Sum::ZERO,
            sum_squares: Sum::ZERO,
        }
    }
}

impl Sketch {
    /// A sketch of these parts: bins of the positive values and of the negative ones, weight of the zeros in units
    /// of 2⁻²⁰, least and largest value, sum and sum of squares.
    pub fn from_parts(
        [positive, negative]: [Bins; 2],
        zero: u64,
        [min, max]: [f64; 2],
        [sum, sum_squares]: [Sum; 2],
    ) -> Result<Self, Malformed> {
        if positive.weights.is_empty() && negative.weights.is_empty() && zero == 0 {
            return Err(Malformed("a sketch of no values"));
        }
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return Err(Malformed("a sketch whose extremes are none"));
        }
        Ok(Self { positive, negative, zero, min, max, sum, sum_squares })
    }

    /// The bins of the positive values, and of the negative ones by their magnitude.
    #[must_use]
    pub fn bins(&self) -> [&Bins; 2] {
        [&self.positive, &self.negative]
    }

    /// The weight of what is as good as zero, in units of 2⁻²⁰.
    #[must_use]
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// Sum and sum of squares as they are kept.
    #[must_use]
    pub fn sums(&self) -> [&Sum; 2] {
        [&self.sum, &self.sum_squares]
    }

    /// Adds a finite value of a positive weight.
    pub fn add(&mut self, value: f64, weight: f64) {
        let units = ((weight * WEIGHT_UNIT + 0.5) as u64).max(1);
        if value > TINY {
            self.positive.add(bin_of(value), units);
        } else if value < -TINY {
            self.negative.add(bin_of(-value), units);
        } else {
            self.zero = self.zero.saturating_add(units);
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum.add_weighted(Number::Float(value), weight);
        let square = value * value * weight;
        if square.is_finite() {
            self.sum_squares.add_f64(square);
        }
    }

    /// Adds finite values of weight one: as [`Sketch::add`] one by one, but sums stay in registers, and the
    /// loop over the bins has nothing to wait for.
    pub fn add_all(&mut self, values: &[f64]) {
        let unit = WEIGHT_UNIT as u64;
        for &value in values {
            if value > TINY {
                self.positive.add(bin_of(value), unit);
            } else if value < -TINY {
                self.negative.add(bin_of(-value), unit);
            } else {
                self.zero = self.zero.saturating_add(unit);
            }
        }
        let (mut sum, mut sum_squares) = (self.sum, self.sum_squares);
        for &value in values {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            sum.add_f64(value);
            let square = value * value;
            if square.is_finite() {
                sum_squares.add_f64(square);
            }
        }
        (self.sum, self.sum_squares) = (sum, sum_squares);
    }

    /// Adds all that another sketch holds.
    pub fn merge(&mut self, other: &Self) {
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
        self.zero = self.zero.saturating_add(other.zero);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum.merge(&other.sum);
        self.sum_squares.merge(&other.sum_squares);
    }

    /// What it holds as (value, weight), ascending: the middle of each bin, kept inside the true extremes.
    #[must_use]
    pub fn points(&self) -> Vec<(f64, f64)> {
        let weight = |units: u64| units as f64 / WEIGHT_UNIT;
        let negative = self.negative.used().rev().map(|(bin, units)| (-middle(bin), weight(units)));
        let zero = (self.zero > 0).then_some((0.0, weight(self.zero)));
        let positive = self.positive.used().map(|(bin, units)| (middle(bin), weight(units)));
        negative
            .chain(zero)
            .chain(positive)
            .map(|(value, weight)| (value.clamp(self.min, self.max), weight))
            .collect()
    }

    /// Smallest value, or infinity if there is none.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.min
    }

    /// Largest value, or minus infinity if there is none.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Sum of all values, weighted.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum.to_f64()
    }

    /// Sum of all squares, weighted.
    #[must_use]
    pub fn sum_squares(&self) -> f64 {
        self.sum_squares.to_f64()
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 8 * (self.positive.weights.capacity() + self.negative.weights.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bin_is_wider_than_the_error_allows() {
        assert!((BINS_PER_LOG - 7.0 / (10.0 * (1.01_f64 / 0.99).ln())).abs() < 1e-9);
        let mut value = 1e-9;
        while value < 1e12 {
            let middle = middle(bin_of(value));
            assert!((middle / value - 1.0).abs() <= ERROR * 1.000_001, "{value} is shown as {middle}");
            value *= 1.000_37;
        }
    }

    #[test]
    fn bins_start_where_they_say() {
        for bin in -2_000..2_000 {
            let low = lower_bound(bin);
            assert_eq!(bin_of(low * (1.0 + 1e-12)), bin);
            assert_eq!(bin_of(low * (1.0 - 1e-12)), bin - 1);
        }
    }
}
