//! How a stretch of time is read: in as few buckets as there are, every sample once.
//!
//! ```text
//!   [day begins, 14:05)    15m 15m 15m … 15m | 1m 1m 1m 1m 1m
//! ```
//!
//! Coarse buckets where they fit, finer ones towards the ends. A stretch whose ends no kept bucket fits has no
//! cover: then the figure is not known, rather than a little wrong. A bucket of the finest level counts where it
//! begins.

use crate::calendar::Span;
use crate::clock::WallMs;
use crate::metric::{Ladder, Series, Tally};
use crate::store::{Reading, Store, StoreError};

/// A level with the start of its oldest bucket that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) level: usize,
    pub(super) from: WallMs,
}

/// The levels at which a series is kept, finest first.
pub(super) fn kept(store: &dyn Store, series: &Series, now: WallMs) -> Vec<Kept> {
    let ladder = store.ladder();
    let from = |level: usize, keep_ms: i64| {
        let keep_ms = if level == 0 { keep_ms.max(ladder.amend_window_ms()) } else { keep_ms };
        now - keep_ms
    };
    store.levels_of(series).into_iter().map(|(level, keep)| Kept { level, from: from(level, keep) }).collect()
}

/// Stretches of one level each that make up a span; `None` if what is kept does not.
pub(super) fn pieces(ladder: &Ladder, kept: &[Kept], span: Span) -> Option<Vec<(usize, Span)>> {
    let mut pieces: Vec<(usize, Span)> = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let fits = kept.iter().rev().find_map(|kept| {
            let bucket = ladder.span_of(kept.level, at);
            let whole = bucket.start == at && bucket.end <= span.end && at >= kept.from;
            whole.then_some((kept.level, bucket.end))
        });
        let (level, end) = if let Some(fits) = fits {
            fits
        } else {
            // Days need not begin at the border of a finest bucket: it counts where it begins.
            let finest = kept.first().filter(|finest| finest.level == 0 && at >= finest.from)?;
            (finest.level, ladder.span_of(0, at).end.min(span.end))
        };
        match pieces.last_mut() {
            Some((last, piece)) if *last == level => piece.end = end,
            _ => pieces.push((level, Span { start: at, end })),
        }
        at = end;
    }
    Some(pieces)
}

/// Visits the readings of some series in a piece: those whose buckets begin in it.
pub(super) fn read(
    store: &dyn Store,
    series: &[Series],
    (level, span): (usize, Span),
    each: &mut dyn FnMut(usize, Reading),
) -> Result<(), StoreError> {
    for (at, readings) in store.glance(series, level, span.start, span.end)?.into_iter().enumerate() {
        for reading in readings {
            if reading.start >= span.start && reading.start < span.end {
                each(at, reading);
            }
        }
    }
    Ok(())
}

/// Adds a tally to one that there may be.
pub(super) fn merge(into: &mut Option<Tally>, tally: Tally, bounds: &crate::metric::Bounds) {
    match into {
        Some(mine) => mine.merge(tally, bounds),
        none => *none = Some(tally),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Calendar, DAY_MS};
    use crate::metric::Width;
    use crate::metric::ladder::Step;
    use chrono::NaiveTime;

    const MINUTE: i64 = 60_000;
    const NOW: i64 = 1_795_433_521_250;

    fn ladder(zone: &str) -> Ladder {
        let step = |ms: i64, keep_ms| Step { width: Width::from_ms(ms as u64), keep_ms };
        let figures =
            [step(MINUTE, 40 * DAY_MS), step(15 * MINUTE, 1_000 * DAY_MS), step(DAY_MS, 3_650 * DAY_MS)];
        let calendar = Calendar::new(zone, NaiveTime::MIN).unwrap();
        Ladder::new(Width::from_ms(10_000), &[], &figures, 6 * 3_600_000, calendar)
    }

    fn all(ladder: &Ladder) -> Vec<Kept> {
        let keep = [6 * 3_600_000, 40 * DAY_MS, 1_000 * DAY_MS, 3_650 * DAY_MS];
        (0..ladder.levels().len()).map(|level| Kept { level, from: NOW - keep[level] }).collect()
    }

    #[test]
    fn a_cover_is_gapless_and_of_whole_buckets() {
        for zone in ["UTC", "Europe/Paris", "Asia/Kathmandu", "Australia/Lord_Howe"] {
            let ladder = ladder(zone);
            let kept = all(&ladder);
            let mut random = fastrand::Rng::with_seed(5);
            for _ in 0..2_000 {
                let day = ladder.calendar().day_of(NOW - random.i64(0..38 * DAY_MS));
                let end = day.start + random.i64(0..3 * 1_440) * MINUTE;
                let pieces = pieces(&ladder, &kept, Span { start: day.start, end }).unwrap();
                let mut at = day.start;
                for (level, piece) in pieces {
                    assert_eq!(piece.start, at);
                    assert_eq!(ladder.span_of(level, at).start, at, "{zone}");
                    assert_eq!(ladder.span_of(level, piece.end - 1).end, piece.end);
                    at = piece.end;
                }
                assert_eq!(at, end);
            }
        }
    }

    #[test]
    fn what_is_kept_too_coarsely_is_not_known() {
        let ladder = ladder("UTC");
        let mut kept = all(&ladder);
        let day = ladder.calendar().day_of(NOW - 30 * DAY_MS);
        let until = |minutes: i64| Span { start: day.start, end: day.start + minutes * MINUTE };
        assert_eq!(pieces(&ladder, &kept, until(845)).unwrap().len(), 2);
        kept[1].from = NOW - 7 * DAY_MS;
        assert_eq!(pieces(&ladder, &kept, until(845)), None);
        assert_eq!(pieces(&ladder, &kept, until(840)).unwrap(), [(2, until(840))]);
        assert_eq!(pieces(&ladder, &kept, day).unwrap(), [(3, day)]);
        assert_eq!(pieces(&ladder, &kept, Span { start: day.start, end: day.start }).unwrap(), []);
    }
}
