//! Ladders of widths: how long buckets of which width are kept, and what is rolled up into what.
//!
//! ```text
//!   rollup.keep      10s 6h ─▶ 1m 7d ─▶ 15m 90d                  series with a history
//!   rollup.figures   10s 6h ─▶ 1m 40d ─▶ 15m 3y ─▶ 1d 10y        series that a figure shows
//!                    10s 6h                                      the others
//! ```
//!
//! A *level* is one width that anything is kept at. Series of a *class* use some of the levels, each rolled up
//! from the one before it: their *chain*. A day is the company's, which may have 23 or 25 hours; all other
//! widths are aligned to UTC. Physically a bucket is kept until the coarser bucket around it cannot change any
//! more: that is what makes a roll-up a function of what is stored and of nothing else.

use super::bucket::Width;
use super::glob;
use super::name::Series;
use crate::calendar::{Calendar, DAY_MS, Span};
use crate::clock::WallMs;
use crate::limits;

/// What a series' history is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// The finest level only.
    Plain,
    /// `rollup.keep`.
    History,
    /// `rollup.figures`: a figure shows it.
    Figure,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::Plain, Self::History, Self::Figure];

    /// What a series is to those who name some of them by globs.
    #[must_use]
    pub fn of(series: &Series, figures: &[String], history: &[String]) -> Self {
        let (name, _) = series.split();
        let matches = |globs: &[String]| globs.iter().any(|glob| glob::matches(glob, name));
        if matches(figures) {
            Self::Figure
        } else if matches(history) {
            Self::History
        } else {
            Self::Plain
        }
    }
}

/// One step of a ladder as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Width of its buckets; a whole day is the company's day.
    pub width: Width,
    /// How long they are kept, in milliseconds.
    pub keep_ms: i64,
}

/// A width of which buckets are kept, and for how long, by class; 0 is not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Width of its buckets.
    pub width: Width,
    keep_ms: [i64; Class::ALL.len()],
}

/// All levels, the finest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    levels: Vec<Level>,
    calendar: Calendar,
    amend_window_ms: i64,
}

impl Ladder {
    /// The ladder of buckets of width `bucket`. Steps are finest first, each a multiple of the one before it,
    /// and the first of each list that is wider than `bucket` a multiple of that.
    #[must_use]
    pub fn new(
        bucket: Width,
        keep: &[Step],
        figures: &[Step],
        amend_window_ms: i64,
        calendar: Calendar,
    ) -> Self {
        let finest = keep.iter().find(|step| step.width == bucket).map_or(0, |step| step.keep_ms);
        let finest = finest.max(amend_window_ms);
        let mut levels = vec![Level { width: bucket, keep_ms: [finest; Class::ALL.len()] }];
        for (class, steps) in [(Class::History, keep), (Class::Figure, figures)] {
            for step in steps.iter().filter(|step| step.width > bucket) {
                let at = levels.iter().position(|level| level.width >= step.width).unwrap_or(levels.len());
                if levels.get(at).is_none_or(|level| level.width != step.width) {
                    levels.insert(at, Level { width: step.width, keep_ms: [0; Class::ALL.len()] });
                }
                if let Some(keep) = levels.get_mut(at).and_then(|level| level.keep_ms.get_mut(class as usize))
                {
                    *keep = step.keep_ms;
                }
            }
        }
        Self { levels, calendar, amend_window_ms }
    }

    /// A ladder of one level.
    #[must_use]
    pub fn single(bucket: Width, keep_ms: i64) -> Self {
        Self::new(bucket, &[], &[], keep_ms, Calendar::default())
    }

    /// All levels, the finest first.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Whose days a day is.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// Width of the buckets that samples are counted into.
    #[must_use]
    pub fn bucket(&self) -> Width {
        self.width(0)
    }

    /// How long late samples amend their bucket, in milliseconds.
    #[must_use]
    pub fn amend_window_ms(&self) -> i64 {
        self.amend_window_ms
    }

    /// The level of a width, if there is one.
    #[must_use]
    pub fn level_of(&self, width: Width) -> Option<usize> {
        self.levels.iter().position(|level| level.width == width)
    }

    /// Width of a level's buckets.
    #[must_use]
    pub fn width(&self, level: usize) -> Width {
        self.levels.get(level).map_or(Width::from_ms(DAY_MS as u64), |level| level.width)
    }

    /// The bucket of a level that holds a moment.
    #[must_use]
    pub fn span_of(&self, level: usize, time: WallMs) -> Span {
        let width = self.width(level);
        if width.ms() == DAY_MS {
            return self.calendar.day_of(time);
        }
        let start = width.start_of(time);
        Span { start, end: start + width.ms() }
    }

    /// How long a class's buckets are kept at a level, as configured; 0 is not at all.
    #[must_use]
    pub fn keep_ms(&self, class: Class, level: usize) -> i64 {
        self.levels.get(level).and_then(|level| level.keep_ms.get(class as usize)).copied().unwrap_or(0)
    }

    /// The levels a class is kept at, finest first.
    #[must_use]
    pub fn chain(&self, class: Class) -> impl DoubleEndedIterator<Item = usize> + Clone {
        (0..self.levels.len()).filter(move |&level| self.keep_ms(class, level) > 0 || level == 0)
    }

    /// The level that a class's buckets are rolled up into next.
    #[must_use]
    pub fn coarser(&self, class: Class, level: usize) -> Option<usize> {
        self.chain(class).find(|&coarser| coarser > level)
    }

    /// The level that a class's buckets of a level are rolled up from.
    #[must_use]
    pub fn finer(&self, class: Class, level: usize) -> Option<usize> {
        self.chain(class).rev().find(|&finer| finer < level)
    }

    /// Start of the oldest bucket of a class and level that must be there at `now`. It is aligned to the next
    /// coarser level: what one coarse bucket is made of comes and goes together.
    #[must_use]
    pub fn oldest(&self, class: Class, level: usize, now: WallMs) -> WallMs {
        let keep = self.keep_ms(class, level);
        let keep = if level == 0 { keep.max(self.amend_window_ms) } else { keep };
        let oldest = now.saturating_sub(keep).saturating_sub(limits::LATE_MARGIN_MS);
        let start = self.span_of(level, oldest).start;
        self.coarser(class, level).map_or(start, |coarser| self.span_of(coarser, start).start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(secs: u64, keep_secs: i64) -> Step {
        Step { width: Width::from_ms(secs * 1_000), keep_ms: keep_secs * 1_000 }
    }

    fn ladder() -> Ladder {
        let keep = [step(10, 21_600), step(60, 604_800), step(900, 7_776_000)];
        let figures = [step(60, 3_456_000), step(900, 94_608_000), step(86_400, 315_360_000)];
        Ladder::new(Width::from_ms(10_000), &keep, &figures, 21_600_000, Calendar::default())
    }

    #[test]
    fn classes_have_chains_of_their_own() {
        let ladder = ladder();
        assert_eq!(ladder.levels().len(), 4);
        assert_eq!(ladder.chain(Class::Plain).collect::<Vec<_>>(), [0]);
        assert_eq!(ladder.chain(Class::History).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(ladder.chain(Class::Figure).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((ladder.coarser(Class::History, 2), ladder.coarser(Class::Figure, 2)), (None, Some(3)));
        assert_eq!(ladder.finer(Class::Figure, 3), Some(2));
        assert_eq!(ladder.keep_ms(Class::Figure, 1), 3_456_000_000);
    }

    #[test]
    fn what_a_coarse_bucket_is_made_of_goes_together() {
        let ladder = ladder();
        let now = 1_795_000_123_456;
        let oldest = ladder.oldest(Class::History, 0, now);
        assert_eq!(oldest % 60_000, 0);
        assert!(now - oldest >= 21_600_000 && now - oldest < 21_600_000 + 60_000 + 10_000 + 5_000);
        assert_eq!(ladder.oldest(Class::Figure, 2, now) % 86_400_000, 0);
    }
}
