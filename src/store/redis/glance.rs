//! What pages look at: the same buckets again and again, of which hardly any has changed.
//!
//! ```text
//!   one look    log of folds · todo · what is pending · sealed buckets that are not known yet
//!               in one transaction; until it is too old, whatever else is asked is answered from it
//!   log         10:1795435200 9f…   ◀─ the newest fold
//!               60:1795435200 41…      every bucket named above the fold that was the newest at the look before
//!               10:1795435190 c0…      has changed and is read again; all others are what they were
//!               …
//! ```
//!
//! A fold names its bucket and its random version in the log, in the same script that writes the bucket. Where the fold
//! that was the newest at our last look is not in the log any more, the slot has fallen back, or too much has been
//! folded since, and nothing that is known counts. A bucket that is not there is known as well: only a fold makes one.

use super::layout::{Bucket, Layout};
use super::link::{Failure, Link, Pipe, array, bytes, failure, text};
use super::read::{
    ATTEMPTS, Found, PENDING_AT_ONCE, Wanted, buckets_of, inside, merged, short, span_of, todo,
};
use super::shared::Shared;
use super::tenure::buckets;
use crate::clock;
use crate::clock::WallMs;
use crate::limits;
use redis::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A look counts as the present for so long.
const FRESH: Duration = Duration::from_millis(limits::REDIS_GLANCE_MS);
/// Buckets that nobody asked for in so long are forgotten. Pages look at the past once in a minute.
const UNUSED: Duration = Duration::from_secs(150);
/// What a bucket takes besides its bytes, about.
const OVERHEAD: usize = 128;

/// How often it is looked whether anything is to be forgotten. Of buckets of a second a hundred thousand may be known,
/// and pages ask ten times a second.
const SWEEP: Duration = Duration::from_secs(10);

/// What is known of partitions.
#[derive(Default)]
pub(super) struct Glances {
    partitions: HashMap<usize, Seen>,
    swept: Option<Instant>,
}

/// What is known of one.
#[derive(Default)]
struct Seen {
    /// The newest fold that what is known takes account of; without one nothing is known.
    head: Option<Vec<u8>>,
    sealed: Sealed,
    look: Option<Look>,
}

/// Sealed buckets, with the bytes that they take.
#[derive(Default)]
struct Sealed {
    buckets: BTreeMap<Bucket, Known>,
    bytes: usize,
}

/// A sealed bucket, as Redis gave it; an empty one is not there.
struct Known {
    answer: Value,
    bytes: usize,
    used: Instant,
}

/// What changes from moment to moment.
struct Look {
    at: Instant,
    todo: BTreeSet<Bucket>,
    /// Of what is pending, what was asked for.
    pending: BTreeMap<Bucket, Value>,
}

impl Sealed {
    fn insert(&mut self, bucket: Bucket, known: Known) {
        self.bytes += known.bytes;
        let before = self.buckets.insert(bucket, known);
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    fn remove(&mut self, bucket: Bucket) {
        self.bytes -= self.buckets.remove(&bucket).map_or(0, |known| known.bytes);
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Glances {
    /// What some buckets of a level held a moment ago.
    pub(super) fn buckets_of(
        &mut self,
        shared: &Shared,
        link: &mut Link,
        wanted: &Wanted<'_>,
        starts: &[WallMs],
    ) -> Result<Vec<Found>, Failure> {
        let (partition, level) = (wanted.partition, wanted.level);
        let span = span_of(&shared.layout, level, starts);
        let began = clock::monotonic_now();
        for _ in 0..ATTEMPTS {
            let seen = self.partitions.entry(partition).or_default();
            let all = starts.iter().map(|&start| Bucket { level, start });
            let missing: Vec<Bucket> =
                all.filter(|bucket| !seen.sealed.buckets.contains_key(bucket)).collect();
            if let Some(look) = seen.fresh(began) {
                let pending: BTreeSet<Bucket> = inside(&look.todo, level, span).collect();
                if seen.head.is_none() || pending.len() > PENDING_AT_ONCE {
                    return buckets_of(shared, link, wanted, starts);
                }
                if missing.is_empty() && pending.iter().all(|bucket| look.pending.contains_key(bucket)) {
                    return seen.found(shared, wanted, starts, &pending, began);
                }
            }
            let asked = seen.likely(began, |todo| inside(todo, level, span).collect());
            seen.look(shared, link, partition, &missing, asked)?;
            let shed = self.bound(limits::REDIS_GLANCE_BYTES_MAX, began);
            // Relaxed, as all that is only counted.
            shared.reread.fetch_add(shed, Ordering::Relaxed);
        }
        Err(Failure::away("buckets are moved faster than they can be looked at"))
    }

    /// Forgets what nobody asks for, and beyond a bound what nobody asked for longest; how many buckets were beyond it.
    /// What was asked for just now stays until it was answered.
    fn bound(&mut self, most: usize, began: Instant) -> u64 {
        let recently = self.swept.is_some_and(|swept| began.saturating_duration_since(swept) < SWEEP);
        if recently && self.bytes() <= most {
            return 0;
        }
        self.swept = Some(began);
        for seen in self.partitions.values_mut() {
            seen.forget(|known| began.saturating_duration_since(known.used) >= UNUSED);
        }
        if self.bytes() <= most {
            return 0;
        }
        // Somewhat further than to the bound, so that not every bucket more takes another sweep.
        self.shed(most - most / 8, began)
    }

    fn bytes(&self) -> usize {
        self.partitions.values().map(|seen| seen.sealed.bytes).sum()
    }

    fn shed(&mut self, most: usize, began: Instant) -> u64 {
        let known = self.partitions.iter().flat_map(|(&partition, seen)| {
            seen.sealed
                .buckets
                .iter()
                .map(move |(&bucket, known)| (known.used, partition, bucket, known.bytes))
        });
        let mut by_use: Vec<_> = known.collect();
        by_use.sort_unstable();
        let (mut all, mut shed) = (self.bytes(), 0);
        for (used, partition, bucket, bytes) in by_use {
            if all <= most || used >= began {
                break;
            }
            if let Some(seen) = self.partitions.get_mut(&partition) {
                seen.sealed.remove(bucket);
            }
            all -= bytes;
            shed += 1;
        }
        shed
    }
}

impl Seen {
    fn forget(&mut self, which: impl Fn(&Known) -> bool) {
        let mut freed = 0;
        self.sealed.buckets.retain(|_, known| {
            let goes = which(known);
            freed += usize::from(goes) * known.bytes;
            !goes
        });
        self.sealed.bytes -= freed;
    }

    /// The last look, if it counts as the present for a question of then.
    fn fresh(&self, began: Instant) -> Option<&Look> {
        self.look.as_ref().filter(|look| look.at >= began || began.duration_since(look.at) < FRESH)
    }

    /// What will be pending where we look, as far as is known; and what others have asked for at this moment, so that
    /// they find it in the next look as well.
    fn likely(
        &self,
        began: Instant,
        ours: impl Fn(&BTreeSet<Bucket>) -> BTreeSet<Bucket>,
    ) -> BTreeSet<Bucket> {
        let mut asked = self.look.as_ref().map(|look| ours(&look.todo)).unwrap_or_default();
        let theirs = self.fresh(began).into_iter().flat_map(|look| look.pending.keys());
        let room = PENDING_AT_ONCE.saturating_sub(asked.len());
        let theirs: Vec<Bucket> = theirs.filter(|bucket| !asked.contains(bucket)).copied().collect();
        asked.extend(theirs.into_iter().take(room));
        asked.into_iter().take(PENDING_AT_ONCE).collect()
    }

    /// Looks at Redis.
    fn look(
        &mut self,
        shared: &Shared,
        link: &mut Link,
        partition: usize,
        missing: &[Bucket],
        asked: BTreeSet<Bucket>,
    ) -> Result<(), Failure> {
        let layout = &shared.layout;
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("MULTI"));
        pipe.cmd(redis::cmd("LRANGE").arg(layout.key(partition, "log")).arg(0).arg(-1).clone());
        pipe.cmd(todo(layout, partition));
        for bucket in missing {
            pipe.cmd(redis::cmd("HGETALL").arg(layout.sealed(partition, *bucket)).clone());
        }
        for bucket in &asked {
            pipe.cmd(redis::cmd("HGETALL").arg(layout.pending(partition, *bucket)).clone());
        }
        pipe.cmd(redis::cmd("EXEC"));
        let at = clock::monotonic_now();
        let mut answers = link.call(partition, &pipe)?;
        if let Some(failure) = answers.iter().find_map(failure) {
            return Err(failure);
        }
        let Some(Value::Array(values)) = answers.pop() else {
            return Err(short());
        };
        if let Some(failure) = values.iter().find_map(failure) {
            return Err(failure);
        }
        let mut values = values.into_iter();
        let (log, todo) = (values.next().ok_or_else(short)?, values.next().ok_or_else(short)?);
        self.moved(layout, array(&log));
        for (&bucket, answer) in missing.iter().zip(values.by_ref()).filter(|_| self.head.is_some()) {
            let bytes = OVERHEAD + array(&answer).iter().filter_map(bytes).map(<[u8]>::len).sum::<usize>();
            self.sealed.insert(bucket, Known { answer, bytes, used: at });
        }
        let pending = asked.into_iter().zip(values).collect();
        self.look = Some(Look { at, todo: buckets(layout, &todo).into_iter().collect(), pending });
        Ok(())
    }

    /// Forgets what was folded since the last look; all of it, where the log does not go back so far.
    fn moved(&mut self, layout: &Layout, log: &[Value]) {
        let since = self.head.as_deref().and_then(|head| log.iter().position(|one| bytes(one) == Some(head)));
        let folded = since.and_then(|since| log.get(..since));
        let named = |fold: &Value| layout.bucket(text(fold)?.split_once(' ')?.0);
        match folded.map(|folded| folded.iter().map(named).collect::<Option<Vec<Bucket>>>()) {
            Some(Some(folded)) => folded.into_iter().for_each(|bucket| self.sealed.remove(bucket)),
            _ => self.sealed.clear(),
        }
        self.head = log.first().and_then(bytes).map(<[u8]>::to_vec);
    }

    /// The answer, when all of it is known.
    fn found(
        &mut self,
        shared: &Shared,
        wanted: &Wanted<'_>,
        starts: &[WallMs],
        pending: &BTreeSet<Bucket>,
        began: Instant,
    ) -> Result<Vec<Found>, Failure> {
        let all = starts.iter().map(|&start| Bucket { level: wanted.level, start });
        for bucket in all.clone() {
            if let Some(known) = self.sealed.buckets.get_mut(&bucket) {
                known.used = known.used.max(began);
            }
        }
        let sealed: Vec<&Value> =
            all.filter_map(|bucket| self.sealed.buckets.get(&bucket)).map(|known| &known.answer).collect();
        let look = self.look.as_ref();
        let batches: Vec<&Value> = pending.iter().filter_map(|bucket| look?.pending.get(bucket)).collect();
        merged(shared, wanted, starts, &sealed, pending, &batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_what_nobody_asked_for_longest_goes_first() {
        let began = clock::monotonic_now();
        let mut glances = Glances::default();
        for (start, ago_ms) in [(1, 30), (2, 50), (3, 10), (4, 0), (5, 200_000)] {
            let used = began.checked_sub(Duration::from_millis(ago_ms)).unwrap();
            let known = Known { answer: Value::Nil, bytes: 100, used };
            let seen = glances.partitions.entry(start as usize % 2).or_default();
            seen.sealed.insert(Bucket { level: 0, start }, known);
        }
        let left = |glances: &Glances| {
            let all = glances.partitions.values().flat_map(|seen| seen.sealed.buckets.keys());
            all.map(|bucket| bucket.start).collect::<BTreeSet<_>>()
        };
        assert_eq!(glances.bound(400, began), 0);
        assert_eq!(left(&glances), BTreeSet::from([1, 2, 3, 4]), "too long ago is no want of room");
        assert_eq!(glances.bound(250, began), 2);
        assert_eq!(left(&glances), BTreeSet::from([3, 4]));
        assert_eq!(glances.bound(0, began), 1);
        assert_eq!(left(&glances), BTreeSet::from([4]), "it is being answered");
        assert_eq!(glances.bytes(), 100);
    }

    #[test]
    fn what_nobody_asks_for_is_looked_for_now_and_then() {
        let now = clock::monotonic_now();
        let mut glances = Glances::default();
        let known = |bytes| Known { answer: Value::Nil, bytes, used: now };
        let sealed = &mut glances.partitions.entry(0).or_default().sealed;
        for (start, bytes) in [(1, 100), (2, 100), (2, 300), (3, 50)] {
            sealed.insert(Bucket { level: 0, start }, known(bytes));
        }
        sealed.remove(Bucket { level: 0, start: 3 });
        sealed.remove(Bucket { level: 0, start: 9 });
        let mut bytes_after = |passed| {
            assert_eq!(glances.bound(1_000, now + passed), 0);
            glances.bytes()
        };
        assert_eq!(bytes_after(UNUSED * 19 / 20), 400);
        assert_eq!(bytes_after(UNUSED), 400, "it was looked just before");
        assert_eq!(bytes_after(UNUSED + SWEEP), 0);
    }
}
