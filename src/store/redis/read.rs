//! Reading: sealed and pending together, of all partitions, on any node.
//!
//! A value is what is sealed at its level, what is pending there, and what is pending at every finer level inside it.
//! `todo` says where anything is pending; where there is something, sealed and pending are read in one transaction,
//! and read again if a fold has moved something meanwhile to where we did not look. Where much is pending, since folds
//! are behind, a transaction is of a few buckets only: one that takes Redis longer than an answer may take is asked again
//! and again, and never answered.

use super::RedisStore;
use super::layout::{Bucket, Layout};
use super::link::{Failure, Link, Pipe, array, failure, pairs};
use super::packed::{self, Part, visit};
use super::seal::{self, Tallies};
use super::shared::Shared;
use super::tenure::buckets;
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Kind, Series, Tally};
use crate::store::{Present, Reading, Store, StoreError};
use crate::wire::batch::{self, read_batch};
use redis::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Buckets that are read at a time.
const AT_ONCE: usize = 64;
/// Buckets with something pending that are read at a time, as far as they can be told apart.
pub(super) const PENDING_AT_ONCE: usize = 16;
/// Attempts to read what a fold does not move meanwhile.
pub(super) const ATTEMPTS: usize = 16;

/// What a bucket holds of some series.
pub(super) type Found = HashMap<Series, Part>;

/// Which series of a partition are asked for, and at which level.
pub(super) struct Wanted<'a> {
    pub(super) partition: usize,
    pub(super) series: &'a HashSet<Series>,
    pub(super) level: usize,
}

/// What says what some buckets hold: Redis, or what is known of it.
pub(super) type Source<'a> = dyn Fn(&mut Link, &Wanted<'_>, &[WallMs]) -> Result<Vec<Found>, Failure> + 'a;

impl RedisStore {
    /// The buckets of some series, from what says what buckets hold.
    pub(super) fn readings(
        &self,
        series: &[Series],
        level: usize,
        span: Span,
        buckets_of: &Source<'_>,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        let mut by_partition: HashMap<usize, HashSet<Series>> = HashMap::new();
        for series in series.iter().filter(|_| span.start < span.end) {
            by_partition.entry(self.partition_of(series)).or_default().insert(series.clone());
        }
        let mut answers: HashMap<Series, Vec<Reading>> = HashMap::new();
        for (partition, series) in by_partition {
            let wanted = Wanted { partition, series: &series, level };
            answers.extend(self.ask(|link| {
                read(&self.shared, &wanted, span, |wanted, starts| buckets_of(link, wanted, starts))
            })?);
        }
        Ok(series.iter().map(|series| answers.remove(series).unwrap_or_default()).collect())
    }

    /// Notes that series were deleted now; returns them.
    pub(super) fn forget_all(
        &self,
        kind: Kind,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let mut gone: Vec<Series> = self.present(kind)?.into_iter().map(|present| present.series).collect();
        gone.retain(|series| matches(series.key()));
        let at = self.shared.now();
        for series in &gone {
            let partition = self.partition_of(series);
            let key = self.shared.layout.key(partition, "forget");
            let mut pipe = Pipe::default();
            pipe.cmd(redis::cmd("HSET").arg(&key).arg(Layout::field(series)).arg(at).clone());
            pipe.cmd(redis::cmd("PEXPIRE").arg(&key).arg(limits::REDIS_WATERMARK_MARGIN_MS).clone());
            self.ask(|link| link.call(partition, &pipe))?;
        }
        Ok(gone.into_iter().map(|series| series.key().to_owned()).collect())
    }
}

/// The buckets of some series of one partition at a level, oldest first, from what says what buckets hold.
pub(super) fn read(
    shared: &Shared,
    wanted: &Wanted<'_>,
    span: Span,
    mut buckets_of: impl FnMut(&Wanted<'_>, &[WallMs]) -> Result<Vec<Found>, Failure>,
) -> Result<HashMap<Series, Vec<Reading>>, Failure> {
    let layout = &shared.layout;
    let chain = layout.ladder.chain(layout.chain_class(wanted.partition));
    let level = chain.rev().find(|&of| of <= wanted.level).unwrap_or(0);
    let wanted = Wanted { level, ..*wanted };
    let mut starts = Vec::new();
    // The bucket before says where gauges stood.
    let mut at = layout.ladder.span_of(level, span.start - i64::from(level == 0)).start;
    while at < span.end {
        starts.push(at);
        at = layout.ladder.span_of(level, at).end;
    }
    let mut stood: HashMap<Series, f64> = HashMap::new();
    let mut answers: HashMap<Series, Vec<Reading>> = HashMap::new();
    for starts in starts.chunks(AT_ONCE) {
        let found = buckets_of(&wanted, starts)?;
        for (&start, found) in starts.iter().zip(found) {
            let at = layout.ladder.span_of(level, start);
            for (series, mut part) in found {
                let gauge = matches!(part.tally, Tally::Gauge(_));
                if gauge && part.before.is_none() {
                    part.before = stood.get(&series).copied();
                }
                if let (true, Some(value)) = (gauge, part.stands()) {
                    stood.insert(series.clone(), value);
                }
                if at.end > span.start && (part.idle == 0 || gauge) {
                    let reading =
                        Reading { start: at.start, end: at.end, tally: part.tally, before: part.before };
                    answers.entry(series).or_default().push(reading);
                }
            }
        }
    }
    Ok(answers)
}

/// From the first of some buckets to the last.
pub(super) fn span_of(layout: &Layout, level: usize, starts: &[WallMs]) -> Span {
    Span {
        start: starts.first().copied().unwrap_or(0),
        end: starts.last().map_or(0, |last| layout.ladder.span_of(level, *last).end),
    }
}

/// What some buckets of a level hold.
pub(super) fn buckets_of(
    shared: &Shared,
    link: &mut Link,
    wanted: &Wanted<'_>,
    starts: &[WallMs],
) -> Result<Vec<Found>, Failure> {
    let (layout, partition, level) = (&shared.layout, wanted.partition, wanted.level);
    let span = span_of(layout, level, starts);
    let mut pending = pending_in(layout, &one(link, partition, &todo(layout, partition))?, level, span);
    if pending.len() > PENDING_AT_ONCE && starts.len() > 1 {
        let (first, second) = starts.split_at(starts.len() / 2);
        let mut found = buckets_of(shared, link, wanted, first)?;
        found.extend(buckets_of(shared, link, wanted, second)?);
        return Ok(found);
    }
    for _ in 0..ATTEMPTS {
        let mut pipe = Pipe::default();
        let whole = !pending.is_empty();
        if whole {
            pipe.cmd(redis::cmd("MULTI"));
        }
        for &start in starts {
            pipe.cmd(redis::cmd("HGETALL").arg(layout.sealed(partition, Bucket { level, start })).clone());
        }
        for bucket in &pending {
            pipe.cmd(redis::cmd("HGETALL").arg(layout.pending(partition, *bucket)).clone());
        }
        if whole {
            pipe.cmd(todo(layout, partition));
            pipe.cmd(redis::cmd("EXEC"));
        }
        let answers = link.call(partition, &pipe)?;
        if let Some(failure) = answers.iter().find_map(failure) {
            return Err(failure);
        }
        let values: &[Value] =
            if whole { answers.last().map(array).unwrap_or_default() } else { answers.as_slice() };
        let (sealed, rest) = values.split_at_checked(starts.len()).ok_or_else(short)?;
        if whole {
            let (now, _) = rest.split_last().ok_or_else(short)?;
            let now = pending_in(layout, now, level, span);
            if !now.is_subset(&pending) {
                pending = now;
                continue;
            }
        }
        let [sealed, rest] = [sealed, rest].map(|values| values.iter().collect::<Vec<_>>());
        return merged(shared, wanted, starts, &sealed, &pending, &rest);
    }
    Err(Failure::away("buckets are moved faster than they can be read"))
}

pub(super) fn short() -> Failure {
    Failure::away("an answer that is too short")
}

pub(super) fn todo(layout: &Layout, partition: usize) -> redis::Cmd {
    redis::cmd("ZRANGE").arg(layout.key(partition, "todo")).arg(0).arg(-1).clone()
}

fn one(link: &mut Link, partition: usize, cmd: &redis::Cmd) -> Result<Value, Failure> {
    let mut pipe = Pipe::default();
    pipe.cmd(cmd.clone());
    let mut answers = link.call(partition, &pipe)?;
    let answer = answers.pop().ok_or_else(short)?;
    failure(&answer).map_or(Ok(answer), Err)
}

/// Buckets with something pending up to a level, inside a span.
fn pending_in(layout: &Layout, todo: &Value, level: usize, span: Span) -> BTreeSet<Bucket> {
    inside(&buckets(layout, todo).into_iter().collect(), level, span).collect()
}

/// Those of some buckets that are of a level or finer, and inside a span.
pub(super) fn inside(
    buckets: &BTreeSet<Bucket>,
    level: usize,
    span: Span,
) -> impl Iterator<Item = Bucket> + '_ {
    let inside = move |bucket: &&Bucket| {
        bucket.level <= level && bucket.start >= span.start && bucket.start < span.end
    };
    buckets.iter().filter(inside).copied()
}

/// Sealed and pending together.
pub(super) fn merged(
    shared: &Shared,
    wanted: &Wanted<'_>,
    starts: &[WallMs],
    sealed: &[&Value],
    pending: &BTreeSet<Bucket>,
    batches: &[&Value],
) -> Result<Vec<Found>, Failure> {
    // Behind what is pending the list of it may stand.
    let blobs = || pending.iter().zip(batches).flat_map(|(_, batches)| pairs(batches));
    let chunks = || sealed.iter().flat_map(|sealed| pairs(sealed));
    // Less than there is would be a wrong number.
    if blobs().any(|(_, blob)| batch::is_later(blob)) || chunks().any(|(_, chunk)| packed::is_later(chunk)) {
        shared.met_later("");
        return Err(Failure::away("a later version of tallyd wrote some of it: ask a node of that version"));
    }
    let (layout, level, wanted) = (&shared.layout, wanted.level, wanted.series);
    let bounds = shared.bounds.at(level);
    let mut open: BTreeMap<WallMs, Tallies> = BTreeMap::new();
    for (bucket, batches) in pending.iter().zip(batches) {
        let into = open.entry(layout.ladder.span_of(level, bucket.start).start).or_default();
        for (_, blob) in pairs(batches) {
            // What does not read back is counted by whoever folds it.
            if let Ok(mut batch) = read_batch(blob) {
                batch.entries.retain(|(series, _)| wanted.contains(series));
                seal::add(into, batch.entries, &bounds);
            }
        }
    }
    let parts = starts.iter().zip(sealed).map(|(start, sealed)| {
        let mut parts = Vec::new();
        for (field, chunk) in pairs(sealed) {
            let is_chunk = field.first().is_some_and(u8::is_ascii_digit);
            let read = |parts: &mut Vec<Part>| {
                visit(chunk, &mut |series| wanted.contains(series), &mut |part| parts.push(part))
            };
            if is_chunk && read(&mut parts).is_err() {
                shared.damaged.fetch_add(1, Ordering::Relaxed);
            }
        }
        parts.sort_by(|a, b| a.series.cmp(&b.series));
        if let Some(late) = open.remove(start) {
            seal::amend(&mut parts, late, &bounds);
        }
        parts.into_iter().map(|part| (part.series.clone(), part)).collect()
    });
    Ok(parts.collect())
}

/// All series of a partition that anything is kept of.
pub(super) fn series(
    shared: &Shared,
    link: &mut Link,
    partition: usize,
) -> Result<BTreeSet<Series>, Failure> {
    let layout = &shared.layout;
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("HKEYS").arg(layout.key(partition, "known")).clone());
    pipe.cmd(todo(layout, partition));
    let answers = link.call(partition, &pipe)?;
    let [known, todo] = answers.as_slice() else {
        return Err(short());
    };
    let mut series: BTreeSet<Series> =
        array(known).iter().filter_map(|field| Layout::series(super::link::text(field)?)).collect();
    let open: Vec<Bucket> = buckets(layout, todo).into_iter().filter(|bucket| bucket.level == 0).collect();
    for open in open.chunks(PENDING_AT_ONCE) {
        let mut pipe = Pipe::default();
        for bucket in open {
            pipe.cmd(redis::cmd("HVALS").arg(layout.pending(partition, *bucket)).clone());
        }
        for blobs in &link.call(partition, &pipe)? {
            for blob in array(blobs).iter().filter_map(super::link::bytes) {
                let batches = read_batch(blob).into_iter().flat_map(|batch| batch.entries);
                series.extend(batches.map(|(series, _)| series));
            }
        }
    }
    Ok(series)
}

/// The series of a partition and kind as they are now: in the newest bucket with samples, and where gauges stand.
pub(super) fn present(
    shared: &Shared,
    link: &mut Link,
    partition: usize,
    kind: Kind,
) -> Result<Vec<Present>, Failure> {
    let layout = &shared.layout;
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("GET").arg(layout.key(partition, "newest")).clone());
    pipe.cmd(redis::cmd("HGETALL").arg(layout.key(partition, "forget")).clone());
    let answers = link.call(partition, &pipe)?;
    let newest = answers.first().and_then(super::link::int);
    let known = series(shared, link, partition)?;
    let wanted: HashSet<Series> = known.into_iter().filter(|series| series.kind() == kind).collect();
    let width = layout.ladder.bucket();
    let now = shared.now();
    let from = newest.unwrap_or_else(|| width.start_of(now) - width.ms());
    let mut starts: Vec<WallMs> = vec![from];
    starts.extend(
        (1..).map(|n| from + n * width.ms()).take_while(|start| *start <= now + width.ms()).take(AT_ONCE),
    );
    let wanted = Wanted { partition, series: &wanted, level: 0 };
    let found = buckets_of(shared, link, &wanted, &starts)?;
    let forgotten: HashMap<Series, WallMs> = answers
        .get(1)
        .into_iter()
        .flat_map(pairs)
        .filter_map(|(field, at)| {
            let series = Layout::series(std::str::from_utf8(field).ok()?)?;
            Some((series, std::str::from_utf8(at).ok()?.parse().ok()?))
        })
        .collect();
    let mut present: BTreeMap<Series, Present> = BTreeMap::new();
    for (start, found) in starts.iter().zip(found) {
        for (series, mut part) in found {
            if forgotten.get(&series).is_some_and(|at| *at >= *start) {
                present.remove(&series);
                continue;
            }
            let before = present.get(&series).and_then(|one| one.gauge);
            part.before = part.before.or(before);
            let gauge = part.stands();
            let sealed = newest == Some(*start);
            let tally = if sealed { Tally::empty(kind) } else { part.tally };
            present.insert(series.clone(), Present { series, tally, gauge });
        }
    }
    Ok(present.into_values().collect())
}
