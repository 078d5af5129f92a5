//! Holding partitions: a thread that takes leases, renews them, and folds what is due.
//!
//! ```text
//!   every tenth of a second, for each partition of the lane
//!     ours: renew ─▶ fold what is due (fold.rs) ─▶ refresh the destinations' lists from time to time
//!     free: take it, if we have less than our share of the partitions, or nobody else wants it
//!     more than our share, since another node has come: give some up
//! ```
//!
//! What can be asked of all partitions of a lane at once is: leases are renewed together, and whether another's is free
//! or anything is due at all is one question. Each partition is asked for what is due there at the end of a bucket, and
//! when that question says so.
//!
//! The lock of a lane is let go of between buckets, so that destinations can read and strike meanwhile.

use super::fold;
use super::layout::Bucket;
use super::link::{Failure, Link, Pipe, array, int, text};
use super::scripts::Script;
use super::shared::Shared;
use super::tenure::{Tenure, buckets, renew_all};
use crate::clock::{self, WallMs};
use crate::limits;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(limits::REDIS_LOOK_MS);
/// Between the ends of buckets it is asked this often whether anything is due.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// A sealed bucket is amended at most so often.
const AMEND_EVERY: Duration = Duration::from_secs(1);
/// The lists are read anew so often, in case another holder wrote to them.
const REFRESH_EVERY: Duration = Duration::from_secs(15);
/// What was passed over is looked for so often.
const DAMAGED_EVERY: Duration = Duration::from_secs(5);
const NODES_EVERY: Duration = Duration::from_secs(2);
const COUNT_EVERY: Duration = Duration::from_secs(2);
const FREE_FOR: Duration = Duration::from_millis(limits::REDIS_FREE_MS);
/// The number of nodes has to stand for so long before leases are given up.
const SETTLED: Duration = Duration::from_secs(2);
/// Idle series of so many of the last buckets are filled in where nothing came at all.
const IDLE_BUCKETS: i64 = 6;
/// Buckets that are folded at a time.
const DUE_MAX: usize = 256;

/// Who else is there, for all lanes.
#[derive(Debug)]
pub(super) struct Crowd {
    node: String,
    /// Nodes that live, this one too. Relaxed, as the others here: a late look costs a round.
    live: AtomicU64,
    changed: Mutex<Instant>,
    held: AtomicUsize,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self {
            node: format!("{:016x}", fastrand::u64(..)),
            live: AtomicU64::new(1),
            changed: Mutex::new(clock::monotonic_now()),
            held: AtomicUsize::new(0),
        }
    }

    pub(super) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn share(&self, partitions: usize) -> usize {
        partitions.div_ceil(self.live().max(1) as usize)
    }

    fn is_settled(&self) -> bool {
        clock::elapsed(*self.changed.lock().unwrap_or_else(PoisonError::into_inner)) >= SETTLED
    }

    fn set_live(&self, live: u64) {
        if self.live.swap(live.max(1), Ordering::Relaxed) != live.max(1) {
            *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic_now();
        }
    }
}

/// Some partitions that share a connection.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: Vec<usize>,
    crowd: Arc<Crowd>,
    held: Mutex<Held>,
}

/// What a lane has.
pub(super) struct Held {
    pub(super) link: Link,
    pub(super) tenures: BTreeMap<usize, Tenure>,
    free_since: HashMap<usize, Instant>,
    nodes_at: Option<Instant>,
    counted_at: Option<Instant>,
    /// The end of the last bucket that was looked for.
    border: WallMs,
    /// When it was asked last whether anything is due.
    asked_at: Option<Instant>,
    damaged_at: Option<Instant>,
    /// Partitions that are to be asked what is due there: something was a moment ago, or they are new to us.
    busy: BTreeSet<usize>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, crowd: Arc<Crowd>, partitions: Vec<usize>, link: Link) -> Self {
        let held = Held {
            link,
            tenures: BTreeMap::new(),
            free_since: HashMap::new(),
            nodes_at: None,
            counted_at: None,
            border: 0,
            asked_at: None,
            damaged_at: None,
            busy: BTreeSet::new(),
        };
        Self { shared, partitions, crowd, held: Mutex::new(held) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds until the store is closed, then gives everything up.
    pub(super) fn run(&self) {
        while !self.shared.is_closed() {
            if let Err(failure) = self.round() {
                tracing::debug!(text = failure.text, "a round of the holder failed");
            }
            std::thread::sleep(PAUSE);
        }
        let held = &mut *self.lock();
        for (_, tenure) in std::mem::take(&mut held.tenures) {
            tenure.end(&self.shared, &mut held.link);
        }
        self.nodes(held, true).ok();
    }

    fn round(&self) -> Result<(), Failure> {
        self.shared.agree(&mut self.lock().link)?;
        self.nodes(&mut self.lock(), false)?;
        self.count(&mut self.lock())?;
        let (taken, due) = {
            let held = &mut *self.lock();
            renew_all(&self.shared, &mut held.link, &mut held.tenures);
            self.damaged(held)?;
            (self.all_are_taken(held)?, self.due_in(held)?)
        };
        let mut outcome = Ok(());
        for &partition in &self.partitions {
            if self.shared.is_closed() {
                return Ok(());
            }
            if let Err(failure) = self.work_on(partition, taken, due.contains(&partition)) {
                self.drop_tenure(partition);
                outcome = Err(failure);
            }
        }
        outcome
    }

    fn work_on(&self, partition: usize, taken: bool, due: bool) -> Result<(), Failure> {
        if !taken || self.lock().tenures.contains_key(&partition) {
            self.lease(partition)?;
        }
        if due { self.fold(partition) } else { Ok(()) }
    }

    /// Whether every partition that is not ours is somebody's.
    fn all_are_taken(&self, held: &mut Held) -> Result<bool, Failure> {
        let others = self.partitions.iter().filter(|partition| !held.tenures.contains_key(partition));
        let leases: Vec<String> =
            others.map(|&partition| self.shared.layout.key(partition, "lease")).collect();
        let (Some(&any), 1..) = (self.partitions.first(), leases.len()) else {
            return Ok(true);
        };
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("EXISTS").arg(&leases).clone());
        let answers = held.link.call(any, &pipe)?;
        let all = answers.first().and_then(int) == Some(leases.len() as i64);
        if all {
            held.free_since.clear();
        }
        Ok(all)
    }

    /// Looks from time to time whether anything was passed over.
    fn damaged(&self, held: &mut Held) -> Result<(), Failure> {
        let is_early = held.damaged_at.is_some_and(|at| clock::elapsed(at) < DAMAGED_EVERY);
        let Some(&any) = held.tenures.keys().next().filter(|_| !is_early) else {
            return Ok(());
        };
        held.damaged_at = Some(clock::monotonic_now());
        let keys = held.tenures.keys().map(|&partition| self.shared.layout.key(partition, "damaged"));
        let mut get = redis::cmd("MGET");
        get.arg(keys.collect::<Vec<_>>());
        let mut pipe = Pipe::default();
        pipe.cmd(get);
        let answers = held.link.call(any, &pipe)?;
        for (tenure, damaged) in held.tenures.values_mut().zip(answers.first().map(array).unwrap_or_default())
        {
            if int(damaged).unwrap_or(WallMs::MIN) != tenure.damaged {
                tenure.refresh(&self.shared, &mut held.link)?;
            }
        }
        Ok(())
    }

    /// Partitions that are to be asked what is due there.
    fn due_in(&self, held: &mut Held) -> Result<BTreeSet<usize>, Failure> {
        let (layout, now) = (&self.shared.layout, self.shared.now());
        let border = layout.ladder.bucket().start_of(now - self.shared.grace_ms);
        let is_new = std::mem::replace(&mut held.border, border) != border;
        let all: BTreeSet<usize> = held.tenures.keys().copied().collect();
        if is_new {
            held.busy.clear();
            return Ok(all);
        }
        let is_early = held.asked_at.is_some_and(|at| clock::elapsed(at) < ASK_EVERY);
        let Some(&any) = all.first().filter(|_| held.busy.is_empty() && !is_early) else {
            return Ok(std::mem::take(&mut held.busy));
        };
        held.asked_at = Some(clock::monotonic_now());
        let lists: Vec<String> = all.iter().map(|&partition| layout.key(partition, "todo")).collect();
        let mut union = redis::cmd("ZUNION");
        union.arg(lists.len()).arg(&lists).arg("AGGREGATE").arg("MIN").arg("WITHSCORES");
        let mut pipe = Pipe::default();
        pipe.cmd(union);
        let answers = held.link.call(any, &pipe)?;
        let Some(answer) = answers.first().filter(|answer| super::link::failure(answer).is_none()) else {
            // Whatever that is, each partition will say it for itself.
            return Ok(all);
        };
        let is_over = |score: &redis::Value| {
            text(score).and_then(|score| score.parse::<f64>().ok()).is_none_or(|score| score <= now as f64)
        };
        let any = array(answer).as_chunks::<2>().0.iter().any(|[_, score]| is_over(score));
        Ok(if any { all } else { BTreeSet::new() })
    }

    fn drop_tenure(&self, partition: usize) {
        if self.lock().tenures.remove(&partition).is_some() {
            self.crowd.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Says that we are there, and learns who else is; the lane of the figures does it for all.
    fn nodes(&self, held: &mut Held, leave: bool) -> Result<(), Failure> {
        let figures = self.shared.layout.figures();
        let due = leave || held.nodes_at.is_none_or(|at| clock::elapsed(at) >= NODES_EVERY);
        if !self.partitions.contains(&figures) || !due {
            return Ok(());
        }
        held.nodes_at = Some(clock::monotonic_now());
        let key = [self.shared.layout.key(figures, "nodes")];
        let leaves: &[u8] = if leave { b"1" } else { b"0" };
        let mut pipe = Pipe::default();
        pipe.script(Script::Nodes, &key, &[self.crowd.node.as_bytes(), leaves]);
        let answers = held.link.call(figures, &pipe)?;
        if let Some(live) = answers.first().and_then(|answer| array(answer).get(1)).and_then(int) {
            self.crowd.set_live(live as u64);
        }
        Ok(())
    }

    /// How many series there are, and how many buckets are due, from time to time.
    fn count(&self, held: &mut Held) -> Result<(), Failure> {
        let Some(&any) = self.partitions.first() else {
            return Ok(());
        };
        if held.counted_at.is_some_and(|at| clock::elapsed(at) < COUNT_EVERY) {
            return Ok(());
        }
        held.counted_at = Some(clock::monotonic_now());
        let (layout, now) = (&self.shared.layout, self.shared.now());
        let mut pipe = Pipe::default();
        let (mut known, mut asked) = (Vec::new(), Vec::new());
        for &partition in &self.partitions {
            // Of what is ours we know the series, and that nothing is due while nothing is being folded.
            let series = held.tenures.get(&partition).map(|tenure| tenure.born.len() as u64);
            known.extend(series.map(|series| (&self.shared.series, partition, series)));
            if series.is_some() && !held.busy.contains(&partition) {
                known.push((&self.shared.due, partition, 0));
                continue;
            }
            let todo = layout.key(partition, "todo");
            pipe.cmd(redis::cmd("ZCOUNT").arg(todo).arg("-inf").arg(now).clone());
            asked.push((&self.shared.due, partition));
            if series.is_none() {
                pipe.cmd(redis::cmd("HLEN").arg(layout.key(partition, "known")).clone());
                asked.push((&self.shared.series, partition));
            }
        }
        let answers = held.link.call(any, &pipe)?;
        let answers = asked.into_iter().zip(answers.iter().map(int));
        known.extend(
            answers.filter_map(|((counts, partition), found)| Some((counts, partition, found? as u64))),
        );
        for (counts, partition, found) in known {
            if let Some(count) = counts.get(partition) {
                count.store(found, Ordering::Relaxed);
            }
        }
        self.shared.look_at_due();
        Ok(())
    }

    /// Renews, takes or gives up the lease of a partition.
    fn lease(&self, partition: usize) -> Result<(), Failure> {
        let held = &mut *self.lock();
        let share = self.crowd.share(self.shared.layout.partitions());
        if let Some(mut tenure) = held.tenures.remove(&partition) {
            self.crowd.held.fetch_sub(1, Ordering::Relaxed);
            if self.crowd.held() >= share && self.crowd.is_settled() {
                tenure.end(&self.shared, &mut held.link);
                held.free_since.remove(&partition);
                return Ok(());
            }
            if tenure.renew(&self.shared, &mut held.link)? {
                if clock::elapsed(tenure.refreshed) >= REFRESH_EVERY {
                    tenure.refresh(&self.shared, &mut held.link)?;
                }
                held.tenures.insert(partition, tenure);
                self.crowd.held.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        if self.crowd.held() >= share {
            // Not ours to take, unless nobody does.
            let mut pipe = Pipe::default();
            pipe.cmd(redis::cmd("EXISTS").arg(self.shared.layout.key(partition, "lease")).clone());
            let answers = held.link.call(partition, &pipe)?;
            if answers.first().and_then(int) != Some(0) {
                held.free_since.remove(&partition);
                return Ok(());
            }
            let since = *held.free_since.entry(partition).or_insert_with(clock::monotonic_now);
            if clock::elapsed(since) < FREE_FOR {
                return Ok(());
            }
        }
        if let Some(tenure) = Tenure::begin(&self.shared, &mut held.link, partition)? {
            tracing::debug!(partition = self.shared.layout.tag(partition), "this partition is ours");
            held.tenures.insert(partition, tenure);
            held.free_since.remove(&partition);
            held.busy.insert(partition);
            self.crowd.held.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Folds what is due in a partition.
    fn fold(&self, partition: usize) -> Result<(), Failure> {
        for bucket in self.due(partition)? {
            let held = &mut *self.lock();
            let Some(tenure) = held.tenures.get_mut(&partition) else {
                return Ok(());
            };
            if !tenure.renew(&self.shared, &mut held.link)? {
                return Err(Failure::away("the lease has run out"));
            }
            fold::fold(&self.shared, tenure, &mut held.link, bucket)?;
        }
        Ok(())
    }

    /// Buckets of a partition that are due, the finest and oldest first.
    fn due(&self, partition: usize) -> Result<Vec<Bucket>, Failure> {
        let held = &mut *self.lock();
        let Some(tenure) = held.tenures.get_mut(&partition) else {
            return Ok(Vec::new());
        };
        let layout = &self.shared.layout;
        let now = self.shared.now();
        let mut pipe = Pipe::default();
        let mut todo = redis::cmd("ZRANGEBYSCORE");
        todo.arg(layout.key(partition, "todo")).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(DUE_MAX);
        pipe.cmd(todo);
        let answers = held.link.call_on(tenure.connection, partition, &pipe)?;
        let Some(answer) = answers.first() else {
            return Ok(Vec::new());
        };
        if let Some(failure) = super::link::failure(answer) {
            return Err(failure);
        }
        let mut due: BTreeSet<Bucket> = buckets(layout, answer).into_iter().collect();
        due.extend(idle(&self.shared, tenure, now));
        tenure.amended.retain(|_, at| clock::elapsed(*at) < AMEND_EVERY);
        due.retain(|bucket| !tenure.amended.contains_key(bucket));
        super::beside::prune(&self.shared, tenure, &mut held.link)?;
        if !due.is_empty() {
            held.busy.insert(partition);
        }
        Ok(due.into_iter().collect())
    }
}

/// The last buckets that are over and hold nothing, where there are idle series to be told of.
fn idle(shared: &Shared, tenure: &Tenure, now: WallMs) -> impl Iterator<Item = Bucket> {
    let width = shared.layout.ladder.bucket().ms();
    let last = shared.layout.ladder.bucket().start_of(now - shared.grace_ms) - width;
    // Whether there are any is known once the newest was read.
    let none = tenure.newest.as_ref().is_some_and(|newest| newest.parts.is_empty());
    let newest = tenure.sealed.last().copied().filter(|_| !none);
    let first = newest.map_or(last + 1, |newest| (newest + width).max(last - (IDLE_BUCKETS - 1) * width));
    (0..IDLE_BUCKETS)
        .map(move |n| first + n * width)
        .take_while(move |start| *start <= last)
        .map(|start| Bucket { level: 0, start })
}

/// How long a stop may take to send what is left.
pub(super) const STOP_PATIENCE: Duration = Duration::from_millis(limits::DRAIN_MS / 2);
