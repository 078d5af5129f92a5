//! The values of a generation by slot: one column for each kind, with a bit for each slot that has a value.
//!
//! A drained column keeps its memory, so that a known series allocates nothing. Most values are whole numbers
//! in a counter: there they take eight bytes, and what they cannot hold stands beside them. Values of a timer
//! gather until there are some hundreds of them, since a sketch takes many at once for a third of the price.

use super::make_room;
use crate::metric::{Digest, Number, Sum, Unique, gauge::Change};

/// Values of a cell whose buffers are larger than this are not kept for the next tick, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Timer values that gather before they are put into the digest: 4 KiB, which stay in the cache.
const GATHERED_MAX: usize = 512;

/// One bit for each slot: whether it has a value.
#[derive(Debug, Default)]
struct Touched(Vec<u64>);

impl Touched {
    #[inline]
    fn mark(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    fn grow(&mut self, slots: usize) {
        self.0.resize(slots.div_ceil(64), 0);
    }

    /// Visits the marked slots in their order, which is that of their memory, and clears them.
    fn drain(&mut self, mut visit: impl FnMut(u32)) {
        for (first, word) in (0..).step_by(64).zip(&mut self.0) {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                visit(first + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

/// The values of one kind.
#[derive(Debug, Default)]
pub(super) struct Column<T> {
    cells: Vec<T>,
    touched: Touched,
}

impl<T: Default> Column<T> {
    /// The cell of a slot, marked as touched. Slots are given out one after another by the index.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) -> &mut T {
        let at = slot as usize;
        if at >= self.cells.len() {
            self.grow(at);
        }
        self.touched.mark(at);
        self.cells.get_mut(at).unwrap_or_else(|| unreachable!("the column was grown to hold the slot"))
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        let more = at + 1 - self.cells.len();
        make_room(&mut self.cells, more);
        self.cells.resize_with(at + 1, T::default);
        self.touched.grow(at + 1);
    }

    /// Visits the cells with a value.
    fn drain_cells(&mut self, mut visit: impl FnMut(u32, &mut T)) {
        self.touched.drain(|slot| {
            if let Some(cell) = self.cells.get_mut(slot as usize) {
                visit(slot, cell);
            }
        });
    }
}

impl<T: Default + Drained> Column<T> {
    pub(super) fn drain(&mut self, mut visit: impl FnMut(u32, T::Out)) {
        self.drain_cells(|slot, cell| visit(slot, cell.drain()));
    }
}

/// Gives its content away and is empty again, with its memory kept where that is worth it.
pub(super) trait Drained {
    type Out;

    fn drain(&mut self) -> Self::Out;
}

impl Drained for (Change, u64) {
    type Out = Self;

    fn drain(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Drained for Unique {
    type Out = Self;

    fn drain(&mut self) -> Self {
        if self.bytes() > KEPT_BYTES_MAX { std::mem::take(self) } else { self.copy_out() }
    }
}

/// The running values of a timer.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The latest of those that weigh one.
    gathered: Vec<f64>,
    digest: Digest,
}

impl Times {
    /// Adds a value which stands for `events` events and weighs `weight`.
    #[inline]
    pub(super) fn record(&mut self, value: f64, events: f64, weight: f64, exact_max: usize) {
        let plain = events == 1.0 && weight == 1.0;
        if !plain || self.gathered.len() >= GATHERED_MAX {
            // Values stay in the order in which they came.
            self.settle(exact_max);
        }
        if plain {
            self.gathered.push(value);
        } else {
            self.digest.record(value, events, weight, exact_max);
        }
    }

    #[cold]
    fn settle(&mut self, exact_max: usize) {
        self.digest.record_all(&self.gathered, exact_max);
        self.gathered.clear();
    }

    /// Gives what there is, and is empty again.
    fn drain(&mut self, exact_max: usize) -> Digest {
        if self.digest.is_empty() {
            let mut digest = Digest::default();
            digest.record_all(&self.gathered, exact_max);
            self.gathered.clear();
            return digest;
        }
        self.settle(exact_max);
        if self.digest.bytes() > KEPT_BYTES_MAX { self.digest.take() } else { self.digest.copy_out() }
    }
}

impl Column<Times> {
    pub(super) fn drain_times(&mut self, exact_max: usize, mut visit: impl FnMut(u32, Digest)) {
        self.drain_cells(|slot, times| visit(slot, times.drain(exact_max)));
    }
}

/// A sum in a word: a whole number above its lowest bit, which is 0; or, where that is 1, the place of a sum
/// in [`Counters::wide`].
type Word = i64;

/// Counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    words: Column<Word>,
    wide: Vec<Sum>,
}

impl Counters {
    /// Adds `number × weight`.
    #[inline]
    pub(super) fn add(&mut self, slot: u32, number: Number, weight: f64) {
        let word = self.words.touch(slot);
        if let Number::Decimal { mantissa, places: 0 } = number
            && weight == 1.0
            && *word & 1 == 0
            // Mantissas have at most 54 bits.
            && let Some(sum) = word.checked_add(mantissa << 1)
        {
            *word = sum;
        } else {
            self.wide(slot).add_weighted(number, weight);
        }
    }

    /// The sum of a slot as one that holds anything.
    fn wide(&mut self, slot: u32) -> &mut Sum {
        let word = self.words.touch(slot);
        if *word & 1 == 0 {
            let place = self.wide.len() as Word;
            self.wide.push(Sum::from_whole(*word >> 1));
            *word = place << 1 | 1;
        }
        let place = (*word >> 1) as usize;
        self.wide.get_mut(place).unwrap_or_else(|| unreachable!("a word leads to a sum that was pushed"))
    }

    pub(super) fn drain(&mut self, mut visit: impl FnMut(u32, Sum)) {
        let Self { words, wide } = self;
        words.drain_cells(|slot, word| {
            let word = std::mem::take(word);
            let place = (word >> 1) as usize;
            let sum = if word & 1 == 0 { None } else { wide.get(place).copied() };
            visit(slot, sum.unwrap_or_else(|| Sum::from_whole(word >> 1)));
        });
        wide.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(counters: &mut Counters) -> Vec<(u32, f64)> {
        let mut all = Vec::new();
        counters.drain(|slot, sum| all.push((slot, sum.to_f64())));
        all
    }

    #[test]
    fn a_counter_widens_where_a_word_does_not_do() {
        let whole = |mantissa| Number::Decimal { mantissa, places: 0 };
        let mut counters = Counters::default();
        for _ in 0..2 {
            for (slot, number, weight) in [
                (70, whole(-3), 1.0),
                (3, whole(5), 1.0),
                (3, Number::Decimal { mantissa: 25, places: 2 }, 1.0),
                (3, whole(-7), 1.0),
                (64, whole(2), 10.0),
                (64, whole(1), 1.0),
                (0, Number::Float(0.5), 1.0),
                (9, whole(0), 1.0),
            ] {
                counters.add(slot, number, weight);
            }
            assert_eq!(drained(&mut counters), [(0, 0.5), (3, -1.75), (9, 0.0), (64, 21.0), (70, -3.0)]);
            assert!(drained(&mut counters).is_empty() && counters.wide.is_empty());
        }
    }

    #[test]
    fn a_counter_outgrows_its_word_and_stays_exact() {
        let large = 1 << 53;
        for mantissa in [large, -large] {
            let mut counters = Counters::default();
            for _ in 0..2_000 {
                counters.add(1, Number::Decimal { mantissa, places: 0 }, 1.0);
            }
            assert_eq!(drained(&mut counters), [(1, 2_000.0 * mantissa as f64)]);
        }
    }

    #[test]
    fn times_come_out_as_they_came_in_however_they_gathered() {
        for (count, exact_max) in
            [(3, 512), (512, 512), (513, 512), (5_000, 512), (5_000, 10_000), (40, 7), (5, 0)]
        {
            let mut column = Column::<Times>::default();
            for tick in 0..3_u32 {
                let mut expected = Digest::default();
                for i in 0..count {
                    let value = f64::from(i * 7_919 % 1_009) - 100.0 * f64::from(tick);
                    let weight = if tick == 2 && i % 100 == 50 { 10.0 } else { 1.0 };
                    expected.record(value, weight, weight, exact_max);
                    column.touch(5).record(value, weight, weight, exact_max);
                }
                let mut drained = Vec::new();
                column.drain_times(exact_max, |slot, digest| drained.push((slot, digest)));
                assert_eq!(drained, [(5, expected)], "{count} values, {exact_max} exact");
            }
        }
    }
}
