//! Folding a bucket: sealing, rolling up and amending are this one thing.
//!
//! ```text
//!   read    ~version first, then what is pending, then what is sealed
//!   merge   in memory (seal.rs): pending ⊕ sealed, or pending and what idle series send
//!   fold    one script: the version and every batch consumed are still there ─▶ they go, the chunks that changed are
//!           written under a new version, the sum goes up a level, every destination needs the bucket
//! ```
//!
//! `changed`, or no answer: start again from reading. Beside the script stand writes that may be done twice: when
//! series were born, and the unions of a day's sets.

use super::beside::{beside, newborn};
use super::layout::{Bucket, Layout};
use super::link::{Failure, Link, Pipe, failure, pairs, text};
use super::packed::{self, CHUNK_SERIES, Part, pack, unpack};
use super::seal::{self, Tallies};
use super::shared::Shared;
use super::tenure::{Newest, Tenure};
use super::write::{Write, name, new_version, put};
use crate::clock::{self, WallMs};
use crate::metric::{Bounds, Series, Tally};
use crate::store::Cohort;
use crate::wire::batch::{is_later, push_batch, read_batch};
use redis::Value;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Attempts at a bucket before others get their turn.
const ATTEMPTS: usize = 4;

/// A bucket as it was read.
struct Read {
    /// Empty if it is not sealed.
    version: String,
    /// Fields of what is pending.
    fields: Vec<Vec<u8>>,
    pending: Tallies,
    chunks: Vec<Vec<Part>>,
    /// Series that the console deleted, and when.
    forgotten: Vec<(Series, WallMs)>,
}

/// Folds one bucket.
pub(super) fn fold(
    shared: &Shared,
    tenure: &mut Tenure,
    link: &mut Link,
    bucket: Bucket,
) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if attempt(shared, tenure, link, bucket)? {
            return Ok(());
        }
        tenure.newest = None;
    }
    Ok(())
}

/// Whether it is done.
fn attempt(shared: &Shared, tenure: &mut Tenure, link: &mut Link, bucket: Bucket) -> Result<bool, Failure> {
    let layout = &shared.layout;
    let Some(mut read) = read(shared, tenure, link, bucket)? else {
        return Ok(false);
    };
    let bounds = shared.bounds.at(bucket.level);
    let first = read.version.is_empty();
    let keep = shared.now() < layout.until(tenure.partition, bucket);
    forget(&mut read, bucket);
    let mut chunks = Vec::new();
    let is_newest = bucket.level == 0 && tenure.sealed.last().is_none_or(|newest| *newest < bucket.start);
    let parts: Vec<Part> = if !keep {
        Vec::new()
    } else if first {
        let parts = sealed_first(shared, tenure, link, bucket, &read, is_newest)?;
        if parts.is_empty() && read.fields.is_empty() {
            return Ok(true);
        }
        let count = parts.chunks(CHUNK_SERIES).map(pack).enumerate();
        chunks.extend(count);
        if chunks.is_empty() {
            chunks.push((0, pack(&[])));
        }
        parts
    } else {
        let dirty = amend(&mut read.chunks, read.pending.clone(), &bounds, bucket.level > 0);
        chunks.extend(dirty.into_iter().filter_map(|at| Some((at, pack(read.chunks.get(at)?)))));
        if read.fields.is_empty() {
            return Ok(true);
        }
        std::mem::take(&mut read.chunks).into_iter().flatten().collect()
    };
    let delta = up(shared, tenure.partition, bucket, &read.pending, &parts, first && keep);
    let born = newborn(tenure, bucket, &read.pending);
    beside(shared, tenure, link, bucket, &read.pending, &born)?;
    let version = new_version();
    let write = Write {
        bucket,
        expected: &read.version,
        version,
        fields: &read.fields,
        whole: first,
        chunks,
        delta,
        keep,
    };
    if !put(shared, tenure, link, write)? {
        return Ok(false);
    }
    count(shared, bucket, first);
    if !keep {
        return Ok(true);
    }
    tenure.amended.insert(bucket, clock::monotonic_now());
    if bucket.level > 0 {
        return Ok(true);
    }
    remember(tenure, bucket.start, version, &born);
    if is_newest || tenure.newest.as_ref().is_some_and(|newest| newest.start == bucket.start) {
        hint(shared, tenure, link, bucket.start)?;
        tenure.newest = Some(Newest { start: bucket.start, version: name(version), parts });
    } else {
        carry(shared, tenure, link, bucket, &read.pending, &parts)?;
    }
    Ok(true)
}

/// `None` if it was written meanwhile. The script could not tell: were the slot to fall back to the version that was
/// read first, what was sealed after it would be merged with the same batches again.
fn read(shared: &Shared, tenure: &Tenure, link: &mut Link, bucket: Bucket) -> Result<Option<Read>, Failure> {
    let (layout, partition) = (&shared.layout, tenure.partition);
    let sealed = layout.sealed(partition, bucket);
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("HGET").arg(&sealed).arg("~version").clone());
    pipe.cmd(redis::cmd("HGETALL").arg(layout.pending(partition, bucket)).clone());
    pipe.cmd(redis::cmd("HGETALL").arg(&sealed).clone());
    pipe.cmd(redis::cmd("HGETALL").arg(layout.key(partition, "forget")).clone());
    let answers = link.call_on(tenure.connection, partition, &pipe)?;
    if let Some(failure) = answers.iter().find_map(failure) {
        return Err(failure);
    }
    let [version, pending, sealed, forgotten] = answers.as_slice() else {
        return Err(Failure::away("an answer that is too short"));
    };
    let version = text(version).unwrap_or_default().to_owned();
    let of_sealed = pairs(sealed).find(|(field, _)| *field == b"~version").map_or(&[][..], |(_, of)| of);
    if of_sealed != version.as_bytes() {
        return Ok(None);
    }
    let bounds = shared.bounds.at(bucket.level);
    let (mut fields, mut tallies) = (Vec::new(), Tallies::new());
    for (field, blob) in pairs(pending) {
        if is_later(blob) {
            shared.met_later(&layout.name(bucket));
            continue;
        }
        fields.push(field.to_vec());
        match read_batch(blob) {
            Ok(batch) => seal::add(&mut tallies, batch.entries, &bounds),
            Err(error) => {
                shared.damaged.fetch_add(1, Ordering::Relaxed);
                let field = String::from_utf8_lossy(field);
                tracing::error!(%error, %field, "a batch in Redis does not read back and is lost");
            }
        }
    }
    // A batch that came late for the finest level may name series that are not kept at this one.
    tallies.retain(|series, _| layout.is_kept(series, bucket.level));
    let chunks = if version.is_empty() { Vec::new() } else { chunks(shared, sealed)? };
    let forgotten = pairs(forgotten).filter_map(|(field, at)| {
        let series = Layout::series(std::str::from_utf8(field).ok()?)?;
        Some((series, std::str::from_utf8(at).ok()?.parse().ok()?))
    });
    Ok(Some(Read { version, fields, pending: tallies, chunks, forgotten: forgotten.collect() }))
}

/// The chunks of a sealed bucket, in their order; nothing where a later version wrote one of them.
pub(super) fn chunks(shared: &Shared, sealed: &Value) -> Result<Vec<Vec<Part>>, Failure> {
    let mut packed: Vec<(usize, &[u8])> = pairs(sealed)
        .filter_map(|(field, chunk)| Some((std::str::from_utf8(field).ok()?.parse().ok()?, chunk)))
        .collect();
    packed.sort_by_key(|(at, _)| *at);
    if packed.iter().any(|(_, chunk)| packed::is_later(chunk)) {
        shared.met_later("");
        return Err(Failure::away("a sealed bucket is of a later version of tallyd"));
    }
    let unpacked = packed.into_iter().map(|(_, chunk)| {
        unpack(chunk).unwrap_or_else(|error| {
            shared.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a chunk of a sealed bucket does not read back");
            Vec::new()
        })
    });
    Ok(unpacked.collect())
}

/// What the console deleted while a bucket was open is not in it, nor in those after it.
fn forget(read: &mut Read, bucket: Bucket) {
    if bucket.level == 0 && read.version.is_empty() {
        for (series, at) in &read.forgotten {
            if *at >= bucket.start {
                read.pending.remove(series);
            }
        }
    }
}

/// The parts of a bucket that was not sealed yet.
fn sealed_first(
    shared: &Shared,
    tenure: &mut Tenure,
    link: &mut Link,
    bucket: Bucket,
    read: &Read,
    is_newest: bool,
) -> Result<Vec<Part>, Failure> {
    if bucket.level > 0 {
        let mut parts = seal::between(&read.pending, &[]);
        parts.iter_mut().for_each(shorten);
        return Ok(parts);
    }
    let Some(before) = tenure.sealed_before(shared, link, bucket.start)? else {
        return Ok(seal::between(&read.pending, &[]));
    };
    let mut parts = sealed_parts(shared, tenure, link, before)?;
    if !is_newest {
        return Ok(seal::between(&read.pending, &parts));
    }
    let partition = tenure.partition;
    let gone =
        |series: &Series| read.forgotten.iter().any(|(gone, at)| gone == series && *at >= bucket.start);
    parts.retain(|part| !gone(&part.series) && shared.layout.partition_of(&part.series) == partition);
    let width = shared.layout.ladder.bucket().ms();
    let since = u32::try_from((bucket.start - before) / width).unwrap_or(u32::MAX);
    let rules = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(seal::newest(&read.pending, parts, since, width, &rules))
}

/// A sealed bucket's parts: from memory if it is the newest and nobody has changed it.
fn sealed_parts(
    shared: &Shared,
    tenure: &mut Tenure,
    link: &mut Link,
    start: WallMs,
) -> Result<Vec<Part>, Failure> {
    let key = shared.layout.sealed(tenure.partition, Bucket { level: 0, start });
    if let Some(newest) = tenure.newest.as_ref().filter(|newest| newest.start == start) {
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("HGET").arg(&key).arg("~version").clone());
        let answers = link.call_on(tenure.connection, tenure.partition, &pipe)?;
        if answers.first().and_then(text) == Some(newest.version.as_str()) {
            return Ok(newest.parts.clone());
        }
    }
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("HGETALL").arg(&key).clone());
    let answers = link.call_on(tenure.connection, tenure.partition, &pipe)?;
    let answer = answers.first().ok_or_else(|| Failure::away("an empty answer"))?;
    if let Some(failure) = failure(answer) {
        return Err(failure);
    }
    let parts: Vec<Part> = chunks(shared, answer)?.into_iter().flatten().collect();
    let version = pairs(answer).find(|(field, _)| *field == b"~version");
    if let (Some((_, version)), true) = (version, tenure.sealed.last() == Some(&start)) {
        let version = String::from_utf8_lossy(version).into_owned();
        tenure.newest = Some(Newest { start, version, parts: parts.clone() });
    }
    Ok(parts)
}

/// Adds late tallies to the chunks they belong to; which ones changed.
fn amend(chunks: &mut Vec<Vec<Part>>, late: Tallies, bounds: &Bounds, coarse: bool) -> BTreeSet<usize> {
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let firsts: Vec<Option<Series>> =
        chunks.iter().map(|chunk| chunk.first().map(|part| part.series.clone())).collect();
    let mut by_chunk: std::collections::BTreeMap<usize, Tallies> = std::collections::BTreeMap::new();
    for (series, tally) in late {
        let at = firsts.iter().rposition(|first| first.as_ref().is_some_and(|first| *first <= series));
        by_chunk.entry(at.unwrap_or(0)).or_default().insert(series, tally);
    }
    let dirty = by_chunk.keys().copied().collect();
    for (at, late) in by_chunk {
        if let Some(chunk) = chunks.get_mut(at) {
            seal::amend(chunk, late, bounds);
            if coarse {
                chunk.iter_mut().for_each(shorten);
            }
        }
    }
    dirty
}

/// Of a gauge in a coarse bucket the least, the greatest and the last value are kept.
fn shorten(part: &mut Part) {
    if let Tally::Gauge(gauge) = &mut part.tally {
        *gauge = gauge.extremes();
    }
}

/// What a fold hands to the level above.
fn up(
    shared: &Shared,
    partition: usize,
    bucket: Bucket,
    consumed: &Tallies,
    parts: &[Part],
    first: bool,
) -> Option<(Bucket, Vec<u8>)> {
    let layout = &shared.layout;
    let level = layout.coarser(partition, bucket.level)?;
    let delta = seal::delta(layout, bucket.start, consumed, Some(parts), level, first);
    if delta.is_empty() {
        return None;
    }
    let coarser = Bucket { level, start: layout.ladder.span_of(level, bucket.start).start };
    let mut packed = Vec::new();
    push_batch(&mut packed, 0, 0, coarser.start, delta.iter().map(|(series, tally)| (series, tally)));
    Some((coarser, packed))
}

fn count(shared: &Shared, bucket: Bucket, first: bool) {
    let counter = match (bucket.level, first) {
        (0, true) => &shared.sealed,
        (0, false) => &shared.amended,
        _ => &shared.rolled,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn remember(tenure: &mut Tenure, start: WallMs, version: u64, born: &[Series]) {
    tenure.sealed.insert(start);
    for series in born {
        tenure.born.insert(series.clone(), start);
    }
    for needs in &mut tenure.needs {
        needs.out.insert(start, version);
        if !born.is_empty() {
            let fresh = Cohort { born: start, partition: 0, stated: 0, points: 0, heard: None };
            needs.cohorts.entry(start).or_insert(fresh);
        }
    }
}

/// Tells readers where the newest sealed bucket is.
fn hint(shared: &Shared, tenure: &Tenure, link: &mut Link, start: WallMs) -> Result<(), Failure> {
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("SET").arg(shared.layout.key(tenure.partition, "newest")).arg(start).clone());
    link.call_on(tenure.connection, tenure.partition, &pipe).map(|_| ())
}

/// Late changes of gauges move where these stand now.
fn carry(
    shared: &Shared,
    tenure: &mut Tenure,
    link: &mut Link,
    late: Bucket,
    pending: &Tallies,
    amended: &[Part],
) -> Result<(), Failure> {
    let Some(&start) = tenure.sealed.last() else {
        return Ok(());
    };
    if !pending.values().any(|tally| matches!(tally, Tally::Gauge(_))) {
        return Ok(());
    }
    let mut parts = sealed_parts(shared, tenure, link, start)?;
    let width = shared.layout.ladder.bucket().ms();
    let buckets = u32::try_from((start - late.start) / width).unwrap_or(u32::MAX);
    if !seal::carry_on(&mut parts, pending, amended, buckets) {
        return Ok(());
    }
    let Some(expected) = tenure.newest.as_ref().map(|newest| newest.version.clone()) else {
        return Ok(());
    };
    let bucket = Bucket { level: 0, start };
    // Chunks begin where they began: those of the same number of series are not, so all are written anew.
    let Some(read) = read(shared, tenure, link, bucket)?.filter(|read| read.version == expected) else {
        return Ok(());
    };
    let mut chunks = read.chunks;
    for part in chunks.iter_mut().flatten() {
        if let Ok(at) = parts.binary_search_by(|moved| moved.series.cmp(&part.series)) {
            part.carry = parts.get(at).and_then(|moved| moved.carry);
        }
    }
    let version = new_version();
    let write = Write {
        bucket,
        expected: &expected,
        version,
        fields: &[],
        chunks: chunks.iter().map(|chunk| pack(chunk)).enumerate().collect(),
        whole: false,
        delta: None,
        keep: shared.now() < shared.layout.until(tenure.partition, bucket),
    };
    if put(shared, tenure, link, write)? {
        remember(tenure, start, version, &[]);
        tenure.newest = Some(Newest { start, version: name(version), parts });
    }
    Ok(())
}
