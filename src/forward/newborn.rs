//! Series that are new to a destination, stated again until carbon must have made their files.
//!
//! carbon makes at most `MAX_CREATES_PER_MINUTE` files a minute and drops the points of series that it has no file
//! for, without a word (measured: of 2,000 new series 30 survived under Debian's 50 a minute). So the series born
//! in a bucket, a *cohort*, are stated again from their first bucket on: half a minute after carbon was told of them,
//! and then each time after twice as long; when a carbon with that limit has made the files of all that are new if it
//! made no others; and when it must have made them, which is the last time. What it was away for does not count. That
//! doubles what these series send, or trebles it, and goes at the backlog's rate, when nothing else is to be sent.

use crate::clock::WallMs;
use crate::limits;
use crate::store::Cohort;

/// How long a carbon with Debian's limit takes for so many files, if it makes no others.
fn made(files: u64) -> i64 {
    (files as f64 * 60_000.0 / limits::CARBON_CREATES_PER_MINUTE as f64) as i64 + 60_000
}

/// How long it takes at most, others beside them.
fn surely(files: u64) -> i64 {
    2 * made(files)
}

/// How long after it was told a cohort is stated again, each time. `files` are those of all new series.
fn times(files: u64) -> Vec<i64> {
    // Within a minute the doubling finds it out.
    let likely = Some(made(files)).filter(|_| files > limits::CARBON_CREATES_PER_MINUTE);
    let steps = [likely, Some(surely(files))].into_iter().flatten();
    // What is a little earlier than one of these is left to it.
    let apart = |time: &i64| steps.clone().all(|step| *time > step || time + time / 4 < step);
    let doubled = (0..=20).map(|power| limits::NEWBORN_MS.saturating_mul(1 << power));
    let mut times: Vec<i64> = doubled.filter(apart).chain(steps.clone()).collect();
    times.sort_unstable();
    times
}

/// Which of these times is next for a cohort.
fn after(cohort: &Cohort, times: &[i64]) -> i64 {
    times.get(cohort.stated as usize).or(times.last()).copied().unwrap_or(i64::MAX)
}

/// The first of all cohorts whose time has come.
pub(super) fn come(cohorts: &[Cohort], now: WallMs) -> Option<Cohort> {
    let times = times(cohorts.iter().map(|cohort| cohort.points).sum());
    cohorts.iter().copied().find(|cohort| due(cohort, &times).is_some_and(|due| due <= now))
}

/// When a cohort is to be stated again, if the destination has been told of it once.
fn due(cohort: &Cohort, times: &[i64]) -> Option<WallMs> {
    cohort.heard.map(|heard| heard.saturating_add(after(cohort, times)))
}

/// Whether a cohort is done that was stated again so long after the destination was told of it.
pub(super) fn done(age_ms: i64, files: u64) -> bool {
    age_ms >= surely(files)
}

/// Whether a cohort has been stated again for as long as that is worth trying; or so many are new that the backlog's
/// rate takes most of the time until the next time.
pub(super) fn given_up(cohort: &Cohort, files: u64, took_ms: i64) -> bool {
    let pause = after(cohort, &times(files));
    pause >= limits::NEWBORN_MS_MAX || took_ms > (pause / 2).max(limits::NEWBORN_TOOK_MS)
}

/// The cohort when it has been stated again: its next time is to come.
pub(super) fn again(mut cohort: Cohort, files: u64, now: WallMs) -> Cohort {
    let times = times(files);
    let passed = |cohort: &Cohort| due(cohort, &times).is_some_and(|due| due <= now);
    cohort.stated += 1;
    while after(&cohort, &times) < limits::NEWBORN_MS_MAX && passed(&cohort) {
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

    /// Minutes at which a cohort of so many files is stated again, to the last time.
    fn minutes(files: u64) -> Vec<f64> {
        let mut cohort = Cohort { born: 0, partition: 0, stated: 0, points: 0, heard: Some(1_000) };
        let (all, mut found) = (times(files), Vec::new());
        loop {
            let now = due(&cohort, &all).unwrap();
            found.push((now - 1_000) as f64 / 60_000.0);
            if done(now - 1_000, files) {
                return found;
            }
            let next = again(cohort, files, now);
            assert!(due(&next, &all).unwrap() > now);
            cohort = next;
        }
    }

    #[test]
    fn a_few_series_are_done_soon_and_many_when_carbon_must_have_made_them() {
        assert_eq!(minutes(0), [0.5, 1.0, 2.0]);
        assert_eq!(minutes(1), [0.5, 1.0, 2.04]);
        assert_eq!(minutes(100), [0.5, 1.0, 2.0, 3.0, 4.0, 6.0]);
        // 2,000 files take a carbon that makes 50 a minute 40 minutes.
        assert_eq!(minutes(2_000), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 41.0, 64.0, 82.0]);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let told = |stated| Cohort { born: 0, partition: 0, stated, points: 0, heard: Some(1_000) };
        assert!(given_up(&told(20), 1, 0));
        assert!(!given_up(&told(1), 1, limits::NEWBORN_TOOK_MS));
        assert!(given_up(&told(1), 1, limits::NEWBORN_TOOK_MS + 1));
    }

    #[test]
    fn nothing_is_due_before_it_was_told_nor_twice_when_much_time_has_passed() {
        let cohort = Cohort { born: 0, partition: 0, stated: 0, points: 1, heard: None };
        assert_eq!(due(&cohort, &times(1)), None);
        let next = again(Cohort { heard: Some(0), ..cohort }, 1, 400_000);
        assert_eq!((next.stated, due(&next, &times(1))), (4, Some(480_000)));
    }
}
