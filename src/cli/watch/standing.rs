//! How live what is shown is, by the viewer's own clock.

use super::feed::{LATE, STALE, View};
use crate::clock::{self, WallMs};
use chrono::DateTime;
use chrono_tz::Tz;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing has come yet.
    Connecting {
        /// In how many seconds it is tried again.
        retry: Option<u64>,
        /// What went wrong.
        trouble: Option<String>,
    },
    /// A sign of life within three seconds.
    Live,
    /// Behind, and perhaps only for a moment.
    Late {
        /// By how much.
        seconds: u64,
    },
    /// Not to be relied on.
    Stale {
        /// When the last sign of life came.
        since: WallMs,
        /// In how many seconds it is tried again.
        retry: Option<u64>,
    },
}

impl Standing {
    pub(super) fn of(view: &View, now: WallMs) -> Self {
        let seconds = |left: Duration| left.as_millis().div_ceil(1_000) as u64;
        let retry = view.retry.map(|at| seconds(at.saturating_duration_since(clock::monotonic_now())));
        let age = view.age(now);
        if !view.met {
            return Self::Connecting { retry, trouble: view.trouble.clone() };
        }
        match age {
            age if age <= LATE => Self::Live,
            age if age <= STALE => Self::Late { seconds: age.as_secs() },
            _ => Self::Stale { since: view.heard_at(), retry },
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }

    /// In words; times in the company's zone, where it is known.
    pub(super) fn words(&self, zone: Option<&str>) -> String {
        let again = |retry: &Option<u64>| match retry {
            None => "trying again".to_owned(),
            Some(seconds) => format!("trying again in {seconds} s"),
        };
        match self {
            Self::Connecting { trouble: None, .. } => "connecting".to_owned(),
            Self::Connecting { retry, trouble: Some(trouble) } => {
                format!("not connected: {trouble}; {}", again(retry))
            }
            Self::Live => "● live".to_owned(),
            Self::Late { seconds } => format!("● {seconds} s behind"),
            Self::Stale { since, retry } => {
                let zone: Tz = zone.and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
                let since = DateTime::from_timestamp_millis(*since).unwrap_or_default().with_timezone(&zone);
                format!("○ not live since {}, {}", since.format("%H:%M:%S"), again(retry))
            }
        }
    }
}
