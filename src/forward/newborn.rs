//! Series that are new to a destination, stated again until carbon must have made their files.
//!
//! carbon makes at most `MAX_CREATES_PER_MINUTE` files a minute and drops the points of series that it has no file
//! for, without a word (measured: of 2,000 new series 30 survived under Debian's 50 a minute). So the series born
//! in a bucket, a *cohort*, are stated again from their first bucket on: half a minute after it, and then each time
//! after twice as long, until even a carbon with that limit must have made the files of all that are new. That
//! doubles what these series send, or trebles it, and goes at the backlog's rate, when nothing else is to be sent.

use crate::clock::WallMs;
use crate::limits;
use crate::store::Cohort;

/// When a cohort is to be stated again.
pub(super) fn due(cohort: &Cohort, width_ms: i64) -> WallMs {
    let pause = limits::NEWBORN_MS.saturating_mul(1 << cohort.stated.min(20));
    cohort.born.saturating_add(width_ms).saturating_add(pause)
}

/// Whether a cohort that was stated again at its `due` time is done. `files` are those of all new series.
pub(super) fn done(cohort: &Cohort, files: u64) -> bool {
    let pause = limits::NEWBORN_MS.saturating_mul(1 << cohort.stated.min(20));
    let minutes = 2.0 + 2.0 * files as f64 / limits::CARBON_CREATES_PER_MINUTE as f64;
    pause as f64 >= minutes * 60_000.0
}

/// Whether a cohort has been stated again for as long as that is worth trying; or so many are new that the backlog's
/// rate did not state them within half the pause before the next time.
pub(super) fn given_up(cohort: &Cohort, took_ms: i64) -> bool {
    let pause = limits::NEWBORN_MS.saturating_mul(1 << cohort.stated.min(20));
    pause >= limits::NEWBORN_MS_MAX || took_ms > pause / 2
}

/// A cohort that is being stated again, bucket by bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restating {
    pub(super) cohort: Cohort,
    /// The next bucket.
    pub(super) next: WallMs,
    /// The last one.
    pub(super) last: WallMs,
    /// The most points that a bucket had.
    pub(super) points: u64,
    /// When it began.
    pub(super) began: WallMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_series_are_done_soon_and_many_when_carbon_must_have_made_them() {
        let ends = |files: u64| {
            let mut cohort = Cohort { born: 0, stated: 0, points: files };
            while !done(&cohort, files) {
                assert!(due(&cohort, 0) < due(&Cohort { stated: cohort.stated + 1, ..cohort }, 0));
                cohort.stated += 1;
            }
            due(&cohort, 0) / 60_000
        };
        assert_eq!(ends(1), 4);
        // 2,000 files take a carbon that makes 50 a minute 40 minutes.
        assert!((82..=200).contains(&ends(2_000)), "{}", ends(2_000));
        let cohort = |stated| Cohort { born: 0, stated, points: 0 };
        assert!(given_up(&cohort(20), 0));
        assert!(!given_up(&cohort(1), limits::NEWBORN_MS));
        assert!(given_up(&cohort(1), limits::NEWBORN_MS + 1));
    }
}
