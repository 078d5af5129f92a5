//! Time for the tests: the one file among them that asks for it.
//!
//! The product itself asks for the time in `clock.rs` alone, and the lint that enforces this holds for the
//! tests too. Out come instants for deadlines, wall-clock time for buckets, and a wait that polls.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at while it is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Monotonic time.
#[expect(clippy::disallowed_methods, reason = "the tests' only source of monotonic time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time since 1970, UTC.
#[expect(clippy::disallowed_methods, reason = "the tests' only source of wall-clock time")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

/// Whole wall-clock seconds since 1970, as Graphite stamps its points.
pub(crate) fn unix_secs() -> i64 {
    since_epoch().as_secs() as i64
}

/// Sleeps.
pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Sleeps until the wall clock stands `offset` into the second `unix_secs`; returns at once when that is past.
pub(crate) fn sleep_until(unix_secs: i64, offset: Duration) {
    let target = Duration::from_secs(unix_secs as u64) + offset;
    sleep(target.saturating_sub(since_epoch()));
}

/// Polls `condition` until it holds; `false` when `deadline` has passed first.
pub(crate) fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = now();
    loop {
        if condition() {
            return true;
        }
        if started.elapsed() >= deadline {
            return false;
        }
        sleep(POLL_INTERVAL);
    }
}
