//! Series that are new to a destination, stated again until carbon must have made their files.
//!
//! carbon makes at most `MAX_CREATES_PER_MINUTE` files a minute and drops the points of series that it has no file
//! for, without a word (measured: of 2,000 new series 30 survived under Debian's 50 a minute). So the series born
//! in a bucket, a *cohort*, are stated again from their first bucket on: half a minute after carbon was told of them,
//! and then each time after twice as long, until even a carbon with that limit must have made the files of all that
//! are new; what it was away for does not count. That doubles what these series send, or trebles it, and goes at the
//! backlog's rate, when nothing else is to be sent.

use crate::clock::WallMs;
use crate::limits;
use crate::store::Cohort;

fn pause(cohort: &Cohort) -> i64 {
    limits::NEWBORN_MS.saturating_mul(1 << cohort.stated.min(20))
}

/// When a cohort is to be stated again, if the destination has been told of it once.
pub(super) fn due(cohort: &Cohort) -> Option<WallMs> {
    cohort.heard.map(|heard| heard.saturating_add(pause(cohort)))
}

/// Whether a cohort is done that was stated again so long after the destination was told of it. `files` are those of
/// all new series.
pub(super) fn done(age_ms: i64, files: u64) -> bool {
    let minutes = 2.0 + 2.0 * files as f64 / limits::CARBON_CREATES_PER_MINUTE as f64;
    age_ms as f64 >= minutes * 60_000.0
}

/// Whether a cohort has been stated again for as long as that is worth trying; or so many are new that the backlog's
/// rate takes most of the time until the next time.
pub(super) fn given_up(cohort: &Cohort, took_ms: i64) -> bool {
    let pause = pause(cohort);
    pause >= limits::NEWBORN_MS_MAX || took_ms > (pause / 2).max(limits::NEWBORN_TOOK_MS)
}

/// The cohort when it has been stated again: its next time is to come.
pub(super) fn again(mut cohort: Cohort, now: WallMs) -> Cohort {
    cohort.stated += 1;
    while pause(&cohort) < limits::NEWBORN_MS_MAX && due(&cohort).is_some_and(|due| due <= now) {
        cohort.stated += 1;
    }
    cohort
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
        let told = |stated| Cohort { born: 0, partition: 0, stated, points: 0, heard: Some(1_000) };
        let ends = |files: u64| {
            let mut cohort = told(0);
            loop {
                let now = due(&cohort).unwrap();
                if done(now - 1_000, files) {
                    return now / 60_000;
                }
                let next = again(cohort, now);
                assert!(due(&next).unwrap() > now);
                cohort = next;
            }
        };
        assert_eq!(ends(1), 4);
        // 2,000 files take a carbon that makes 50 a minute 40 minutes.
        assert!((82..=200).contains(&ends(2_000)), "{}", ends(2_000));
        assert!(given_up(&told(20), 0));
        assert!(!given_up(&told(1), limits::NEWBORN_TOOK_MS));
        assert!(given_up(&told(1), limits::NEWBORN_TOOK_MS + 1));
    }

    #[test]
    fn nothing_is_due_before_it_was_told_nor_twice_when_much_time_has_passed() {
        let cohort = Cohort { born: 0, partition: 0, stated: 0, points: 1, heard: None };
        assert_eq!(due(&cohort), None);
        let next = again(Cohort { heard: Some(0), ..cohort }, 400_000);
        assert_eq!((next.stated, due(&next)), (4, Some(480_000)));
    }
}
