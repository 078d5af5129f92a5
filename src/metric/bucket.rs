//! Spans of time, aligned to the wall clock in UTC milliseconds: `[start, start + width)`.

use crate::clock::WallMs;
use std::time::Duration;

/// Width of a bucket in whole milliseconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width(i64);

impl Width {
    /// A width of so many milliseconds; nothing is narrower than one.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4))
    }

    /// Milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Seconds, with their fraction: what rates are divided by.
    #[must_use]
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }

    /// Start of the bucket that holds `time`.
    #[must_use]
    pub fn start_of(self, time: WallMs) -> WallMs {
        time.div_euclid(self.0).saturating_mul(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_aligned_and_half_open() {
        let width = Width::from_ms(10_000);
        assert_eq!(width.start_of(19_999), 10_000);
        assert_eq!(width.start_of(20_000), 20_000);
        assert_eq!(width.start_of(-1), -10_000);
        assert_eq!(Width::from_ms(0).ms(), 1);
        assert_eq!(Width::from_ms(200).secs(), 0.2);
    }
}
