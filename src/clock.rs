//! The only file that asks for the time.
//!
//! Out comes wall time in milliseconds since 1970 (UTC), steadied by the monotonic clock: small corrections
//! of the system's clock (NTP slewing, a step of less than a second) are caught up gradually and never run
//! backward, so that no bucket is opened twice; a real step is followed at once and counted. Tests and the
//! simulation use a clock that is set by hand. This file knows nothing of buckets.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time: milliseconds since 1970-01-01 00:00 UTC.
pub type WallMs = i64;

/// A difference between system and steadied clock beyond this is a step, in milliseconds.
const STEP_MS: i64 = 1_000;
/// A difference below [`STEP_MS`] is caught up at one part in this many.
const SLEW_PARTS: i64 = 10;

/// A source of wall time, shared by all stages.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// `offset_ms` (wall minus monotonic) is written by whoever calls `now` and sees a drift; a lost race
    /// only postpones the correction to the next call, so relaxed order is enough.
    System { started: Instant, offset_ms: AtomicI64, adjusted_ms: AtomicI64, steps: AtomicU64 },
    /// Moved by hand; nothing is ordered by it.
    Manual { now_ms: AtomicI64, passed_ms: AtomicI64 },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Source::System {
            started: monotonic_now(),
            offset_ms: AtomicI64::new(system_wall_ms()),
            adjusted_ms: AtomicI64::new(0),
            steps: AtomicU64::new(0),
        }))
    }

    /// A clock that stands at `now` until [`Clock::set`] moves it.
    #[must_use]
    pub fn manual(now: WallMs) -> Self {
        Self(Arc::new(Source::Manual { now_ms: AtomicI64::new(now), passed_ms: AtomicI64::new(0) }))
    }

    /// Steps a manual clock, whose monotonic time stays as it is; the system's clock cannot be set.
    pub fn set(&self, now: WallMs) {
        if let Source::Manual { now_ms, .. } = &*self.0 {
            now_ms.store(now, Ordering::Relaxed);
        }
    }

    /// Lets time pass on a manual clock.
    pub fn pass(&self, ms: i64) {
        if let Source::Manual { now_ms, passed_ms } = &*self.0 {
            now_ms.fetch_add(ms, Ordering::Relaxed);
            passed_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Monotonic time since the clock was made: steps do not touch it.
    #[must_use]
    pub fn passed(&self) -> Duration {
        match &*self.0 {
            Source::Manual { passed_ms, .. } => {
                Duration::from_millis(passed_ms.load(Ordering::Relaxed).max(0) as u64)
            }
            Source::System { started, .. } => started.elapsed(),
        }
    }

    /// Steadied wall time.
    #[must_use]
    pub fn now(&self) -> WallMs {
        match &*self.0 {
            Source::Manual { now_ms, .. } => now_ms.load(Ordering::Relaxed),
            Source::System { started, offset_ms, adjusted_ms, steps } => {
                let elapsed = started.elapsed().as_millis() as i64;
                let offset = offset_ms.load(Ordering::Relaxed);
                let allowance = (elapsed - adjusted_ms.swap(elapsed, Ordering::Relaxed)).max(0) / SLEW_PARTS;
                let drift = system_wall_ms() - (offset + elapsed);
                let correction = correction(drift, allowance);
                if correction != 0 {
                    offset_ms.store(offset + correction, Ordering::Relaxed);
                    if drift.abs() >= STEP_MS {
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                }
                offset + correction + elapsed
            }
        }
    }

    /// How often the system's clock has been stepped by a second or more.
    #[must_use]
    pub fn steps(&self) -> u64 {
        match &*self.0 {
            Source::System { steps, .. } => steps.load(Ordering::Relaxed),
            Source::Manual { .. } => 0,
        }
    }
}

/// How much of `drift` is followed now: all of a step, at most `allowance` of anything smaller.
fn correction(drift: i64, allowance: i64) -> i64 {
    if drift.abs() >= STEP_MS { drift } else { drift.clamp(-allowance, allowance) }
}

/// Monotonic time, for time-outs and durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that asks for the time")]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// Monotonic nanoseconds since the first call: for the order of events within this process.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(monotonic_now).elapsed().as_nanos() as u64
}

/// Time since `since`, never negative.
#[must_use]
pub fn elapsed(since: Instant) -> Duration {
    since.elapsed()
}

/// A span in words: `200 ms`, `10 s`, `6 h`.
#[must_use]
pub fn words(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.iter().find(|(unit, _)| ms >= *unit && ms % unit == 0);
    unit.map_or_else(|| format!("{ms} ms"), |(unit, word)| format!("{} {word}", ms / unit))
}

#[expect(clippy::disallowed_methods, reason = "this is the file that asks for the time")]
fn system_wall_ms() -> WallMs {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_drift_is_slewed_and_a_step_is_followed() {
        assert_eq!(correction(40, 20), 20);
        assert_eq!(correction(-40, 20), -20);
        assert_eq!(correction(-15, 20), -15);
        assert_eq!(correction(3_600_000, 20), 3_600_000);
        assert_eq!(correction(-90_000, 0), -90_000);
    }

    #[test]
    fn system_time_runs_forward() {
        let clock = Clock::system();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert_eq!(clock.steps(), 0);
    }

    #[test]
    fn manual_time_stands_until_it_is_set() {
        let clock = Clock::manual(5);
        clock.set(9);
        assert_eq!((clock.now(), clock.passed()), (9, Duration::ZERO));
        clock.pass(2);
        assert_eq!((clock.now(), clock.passed()), (11, Duration::from_millis(2)));
    }
}
