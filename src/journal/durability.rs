//! Whether the journal keeps what it is given, since when it does not and why, and when to try again.
//!
//! A failure begins a pause, which doubles with each failure that follows it. The journal is durable again
//! when records have reached the disk, not when a file could be made: on a full disk that still works.

use super::error::{JournalError, Reason};
use crate::clock::WallMs;
use crate::limits;

/// The journal is not durable: what is counted is in memory alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDurable {
    /// Since when.
    pub since: WallMs,
    /// The last failure's reason.
    pub reason: Reason,
    /// The last failure in words, with its cure.
    pub cause: String,
}

/// The state, and the pause.
#[derive(Debug, Default)]
pub(super) struct Durability {
    trouble: Option<NotDurable>,
    failed_at: WallMs,
    pause_ms: i64,
    /// Bytes that must be free before another attempt.
    bytes_wanted: u64,
}

impl Durability {
    pub(super) fn trouble(&self) -> Option<&NotDurable> {
        self.trouble.as_ref()
    }

    /// Takes note of a failure.
    pub(super) fn fail(&mut self, error: &JournalError, now: WallMs) {
        let reason = error.reason();
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(NotDurable { since, reason, cause: error.to_string() });
        self.failed_at = now;
        self.bytes_wanted = match error {
            JournalError::Full { record_bytes, .. } => *record_bytes,
            _ => 0,
        };
        self.pause_ms = match reason {
            // The disk is well; there is nothing to wait for but room.
            Reason::Full | Reason::TooLarge => 0,
            _ => (self.pause_ms * 2).clamp(limits::JOURNAL_RETRY_MS, limits::JOURNAL_RETRY_MS_MAX),
        };
    }

    /// Whether a segment may be begun.
    pub(super) fn may_try(&self, now: WallMs, bytes_free: u64) -> bool {
        // A clock that was set back must not make the pause longer.
        let over = !(self.failed_at..self.failed_at.saturating_add(self.pause_ms)).contains(&now);
        self.trouble.is_none() || (over && bytes_free >= self.bytes_wanted)
    }

    /// Records have reached the disk.
    pub(super) fn proved(&mut self) {
        *self = Self::default();
    }
}
