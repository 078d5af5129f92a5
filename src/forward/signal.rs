//! What destination threads are told, and what they tell of themselves.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells the destination threads that something was sealed, or that they shall stop.
#[derive(Debug, Default)]
pub struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SignalState {
    pub(super) news: u64,
    pub(super) stop_at: Option<Instant>,
}

impl Signal {
    /// Something was sealed.
    pub fn news(&self) {
        self.lock().news += 1;
        self.changed.notify_all();
    }

    /// State what is left and end, by `deadline` at the latest.
    pub fn stop(&self, deadline: Instant) {
        self.lock().stop_at = Some(deadline);
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> SignalState {
        *self.lock()
    }

    /// Waits until there is news beyond `seen`, a stop, or the time is up.
    pub(super) fn wait(&self, seen: SignalState, limit: Option<Duration>) {
        let unchanged = |state: &mut SignalState| state.news == seen.news && state.stop_at == seen.stop_at;
        let guard = self.lock();
        match limit {
            Some(limit) => drop(self.changed.wait_timeout_while(guard, limit, unchanged)),
            None => drop(self.changed.wait_while(guard, unchanged)),
        }
    }
}

/// What others may know of a destination. Written by its thread; every number stands for itself.
#[derive(Debug, Default)]
pub struct DestinationStatus {
    /// `host:port`.
    pub address: String,
    /// When it last confirmed, in seconds since 1970; the start of the program before that.
    pub last_flush: AtomicI64,
    /// When it last failed, in seconds since 1970; 0 is never.
    pub last_exception: AtomicI64,
    /// How long the last delivery took, in milliseconds.
    pub flush_ms: AtomicU64,
    /// Bytes of the last delivery.
    pub flush_bytes: AtomicU64,
    /// Points confirmed.
    pub points: AtomicU64,
    /// Buckets confirmed, restated ones included.
    pub buckets: AtomicU64,
    /// Deliveries that failed.
    pub failures: AtomicU64,
    /// Points left out because carbon would choke on them.
    pub unsendable: AtomicU64,
    /// Buckets on its list now.
    pub outstanding: AtomicU64,
    /// Start of the oldest of them, in milliseconds; meaningless if there are none.
    pub oldest_ms: AtomicI64,
    /// The last delivery failed.
    pub failing: AtomicBool,
}

impl DestinationStatus {
    /// statsd's figures of the flush before this one.
    pub(super) fn figures(&self) -> [(&'static str, f64); 4] {
        let status = self;
        [
            ("graphiteStats.last_exception", status.last_exception.load(Ordering::Relaxed) as f64),
            ("graphiteStats.last_flush", status.last_flush.load(Ordering::Relaxed) as f64),
            ("graphiteStats.flush_time", status.flush_ms.load(Ordering::Relaxed) as f64),
            ("graphiteStats.flush_length", status.flush_bytes.load(Ordering::Relaxed) as f64),
        ]
    }
}
