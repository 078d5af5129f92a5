//! What Graphite confirmed lately, and may lose yet.
//!
//! Carbon keeps what it has read in a cache before it writes it to its files, and a carbon that is killed loses that.
//! So what was confirmed in the last `resend` is stated again after every failure, and a process that starts finds it
//! on its list. Only after that time is it *safe*. Times are monotonic: a step of the clock touches nothing here.
//!
//! What was sent before Graphite was back is stated again too, even if it is confirmed in the end: deliveries that
//! stood still may be read in any order, and an older version of a bucket must not be the last.

use crate::clock::WallMs;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a confirmation tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    /// What is to be stated again.
    pub(super) buckets: Vec<WallMs>,
    /// How long Graphite was away, if it is back with this.
    pub(super) away: Duration,
}

#[derive(Debug)]
pub(super) struct Lately {
    /// How long what was confirmed may yet be lost (`graphite.resend`); zero is not at all.
    span: Duration,
    /// Buckets that are not safe, with the time of their last confirmation, and each confirmation in order.
    confirmed: BTreeMap<WallMs, Duration>,
    order: VecDeque<(Duration, WallMs)>,
    /// The last failure, if nothing that was sent after it is confirmed.
    failed_at: Option<Duration>,
    /// The first one of those.
    away_since: Option<Duration>,
    /// When something was first confirmed after a failure.
    back_at: Duration,
    /// An idle connection has ended, and nothing was done about it yet.
    is_suspect: bool,
    suspected_at: Option<Duration>,
}

impl Lately {
    /// `before` is when the process before this one was gone, if there was one: what that had sent and nobody waits
    /// for any more is as what failed.
    pub(super) fn new(span: Duration, before: Option<Duration>) -> Self {
        Self {
            span,
            confirmed: BTreeMap::new(),
            order: VecDeque::new(),
            failed_at: before,
            away_since: None,
            back_at: Duration::ZERO,
            is_suspect: false,
            suspected_at: None,
        }
    }

    /// A delivery failed.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failed_at = Some(now);
        self.away_since.get_or_insert(now);
    }

    /// A carbon that was killed and is back before the next flush fails no delivery: an idle connection has `ended`
    /// then. What closes idle connections looks the same, so that this is acted upon once in a `span` at most.
    pub(super) fn suspect(&mut self, ended: bool, now: Duration) {
        self.is_suspect |= ended;
        let is_due = self.suspected_at.is_none_or(|at| now.saturating_sub(at) >= self.span);
        if is_due && std::mem::take(&mut self.is_suspect) {
            self.suspected_at = Some(now);
            self.failed(now);
        }
    }

    /// Buckets that were sent at `sent` are confirmed.
    pub(super) fn confirmed(
        &mut self,
        buckets: impl Iterator<Item = WallMs>,
        sent: Duration,
        now: Duration,
    ) -> Again {
        let from = self.order.len();
        for bucket in buckets {
            self.confirmed.insert(bucket, now);
            self.order.push_back((now, bucket));
        }
        let is_back = self.failed_at.take_if(|failed_at| sent > *failed_at).is_some();
        let away_since = if is_back { self.away_since.take() } else { None };
        let away = away_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let was_away = sent < self.back_at;
        if is_back {
            self.back_at = now;
        }
        let mut buckets = Vec::new();
        if self.span.is_zero() {
            return Again { buckets, away };
        }
        if is_back {
            self.order.clear();
            buckets.extend(std::mem::take(&mut self.confirmed).into_keys());
        } else if was_away {
            buckets.extend(self.order.drain(from..).map(|(_, bucket)| bucket));
            self.confirmed.retain(|bucket, _| !buckets.contains(bucket));
        }
        Again { buckets, away }
    }

    /// Buckets that nothing can take away any more. While it is not known what was lost there are none.
    pub(super) fn safe(&mut self, now: Duration) -> Vec<WallMs> {
        let mut safe = Vec::new();
        if self.failed_at.is_some() || self.is_suspect {
            return safe;
        }
        while let Some(&(at, bucket)) = self.order.front()
            && now.saturating_sub(at) >= self.span
        {
            self.order.pop_front();
            // It was confirmed again since.
            if self.confirmed.get(&bucket) == Some(&at) {
                self.confirmed.remove(&bucket);
                safe.push(bucket);
            }
        }
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(120);
    const NONE: [WallMs; 0] = [];

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn confirm(lately: &mut Lately, bucket: WallMs, sent: u64, now: u64) -> Vec<WallMs> {
        lately.confirmed([bucket].into_iter(), secs(sent), secs(now)).buckets
    }

    #[test]
    fn what_was_confirmed_lately_goes_again_after_a_failure_however_old_its_bucket() {
        let mut lately = Lately::new(SPAN, None);
        assert_eq!(confirm(&mut lately, 900, 1, 2), NONE);
        assert_eq!(lately.safe(secs(121)), NONE);
        assert_eq!(lately.safe(secs(122)), [900]);
        confirm(&mut lately, 5, 130, 131);
        confirm(&mut lately, 1_000, 132, 133);
        lately.failed(secs(140));
        assert_eq!(lately.safe(secs(900)), NONE, "not known yet");
        assert_eq!(confirm(&mut lately, 1_010, 901, 902), [5, 1_000, 1_010]);
        assert_eq!(confirm(&mut lately, 1_010, 903, 904), NONE, "once is enough");
    }

    #[test]
    fn what_was_sent_before_graphite_was_back_goes_once_more() {
        let mut lately = Lately::new(SPAN, Some(secs(10)));
        assert_eq!(confirm(&mut lately, 1, 9, 11), NONE, "it may be the old carbon that confirms");
        assert_eq!(confirm(&mut lately, 2, 12, 20), [1, 2]);
        assert_eq!(confirm(&mut lately, 3, 13, 21), [3]);
        assert_eq!(confirm(&mut lately, 3, 22, 23), NONE);
        assert_eq!(lately.safe(secs(143)), [3]);
    }

    #[test]
    fn an_idle_connection_that_ends_is_a_failure_once_in_a_while() {
        let mut lately = Lately::new(SPAN, None);
        confirm(&mut lately, 1, 1, 2);
        lately.suspect(true, secs(3));
        assert_eq!(confirm(&mut lately, 2, 4, 5), [1, 2]);
        confirm(&mut lately, 2, 6, 7);
        lately.suspect(true, secs(8));
        assert_eq!(confirm(&mut lately, 3, 9, 10), NONE, "too soon");
        lately.suspect(false, secs(123));
        assert_eq!(confirm(&mut lately, 4, 124, 125), [2, 3, 4]);
    }

    #[test]
    fn confirmed_twice_is_safe_when_the_last_is() {
        let mut lately = Lately::new(SPAN, None);
        confirm(&mut lately, 1, 1, 2);
        confirm(&mut lately, 1, 50, 52);
        assert_eq!(lately.safe(secs(130)), NONE);
        assert_eq!(lately.safe(secs(172)), [1]);
        let mut none = Lately::new(Duration::ZERO, Some(secs(1)));
        none.failed(secs(2));
        let back = none.confirmed([1].into_iter(), secs(3), secs(5));
        assert_eq!(back, Again { buckets: Vec::new(), away: secs(3) });
        assert_eq!(none.safe(secs(5)), [1]);
    }
}
