//! What stands beside the scripts, since it may be written twice: when series were born, the unions of a day's sets,
//! and what is let go of.

use super::layout::{Bucket, Layout};
use super::link::{Failure, Link, Pipe, failure, pairs};
use super::seal::Tallies;
use super::shared::Shared;
use super::tenure::{Tenure, known};
use super::write::new_version;
use crate::clock;
use crate::metric::unique::Hll;
use crate::metric::{Class, Series, Tally, Unique};
use std::time::Duration;

const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Series that have samples in a bucket for the first time, or earlier than was known.
pub(super) fn newborn(tenure: &Tenure, bucket: Bucket, pending: &Tallies) -> Vec<Series> {
    if bucket.level > 0 {
        return Vec::new();
    }
    let new = |series: &&Series| tenure.born.get(*series).is_none_or(|born| bucket.start < *born);
    pending.keys().filter(new).cloned().collect()
}

/// What may be written twice, and must be there before the batches are gone.
pub(super) fn beside(
    shared: &Shared,
    tenure: &Tenure,
    link: &mut Link,
    bucket: Bucket,
    pending: &Tallies,
    born: &[Series],
) -> Result<(), Failure> {
    let (layout, partition) = (&shared.layout, tenure.partition);
    let mut pipe = Pipe::default();
    if !born.is_empty() {
        let mut set = redis::cmd("HSET");
        set.arg(layout.key(partition, "known"));
        for series in born {
            set.arg(Layout::field(series)).arg(format!("{},0", bucket.start.div_euclid(1_000)));
        }
        pipe.cmd(set);
        for name in &shared.destinations {
            let key = layout.key(partition, &format!("born:{name}"));
            pipe.cmd(redis::cmd("HSETNX").arg(key).arg(bucket.start).arg("0,0,").clone());
        }
    }
    if bucket.level == 0 && partition == layout.figures() {
        let day = layout.day(bucket.start);
        let keep =
            (0..layout.ladder.levels().len()).map(|level| layout.ladder.keep_ms(Class::Figure, level)).max();
        let expires = layout.ladder.calendar().day_of(bucket.start).end + keep.unwrap_or(0);
        pipe.cmd(redis::cmd("PEXPIREAT").arg(&day).arg(expires).clone());
        for (series, tally) in pending {
            let Tally::Set(unique) = tally else {
                continue;
            };
            let (key, part) = (format!("{day}:{}", series.key()), format!("{day}:~{:016x}", new_version()));
            pipe.cmd(redis::cmd("SET").arg(&part).arg(hyperloglog(unique)).arg("PX").arg(60_000).clone());
            pipe.cmd(redis::cmd("PFMERGE").arg(&key).arg(&part).clone());
            pipe.cmd(redis::cmd("DEL").arg(&part).clone());
            pipe.cmd(redis::cmd("PEXPIREAT").arg(&key).arg(expires).clone());
        }
    }
    let answers = link.call_on(tenure.connection, partition, &pipe)?;
    answers.iter().find_map(failure).map_or(Ok(()), Err)
}

/// A set in Redis' own form.
fn hyperloglog(unique: &Unique) -> Vec<u8> {
    let mut estimate = Hll::default();
    match unique {
        Unique::Exact(hashes) => hashes.iter().for_each(|hash| estimate.insert(*hash)),
        Unique::Estimate(hll) => estimate.merge(hll),
    }
    estimate.to_redis()
}

/// Lets go of series that nothing is kept of any more, and of deletions that are done with.
pub(super) fn prune(shared: &Shared, tenure: &mut Tenure, link: &mut Link) -> Result<(), Failure> {
    if clock::elapsed(tenure.pruned) < PRUNE_EVERY {
        return Ok(());
    }
    tenure.pruned = clock::monotonic_now();
    let (layout, partition) = (&shared.layout, tenure.partition);
    let Some(newest) = tenure.newest.as_ref() else {
        return Ok(());
    };
    let levels = 0..layout.ladder.levels().len();
    let keep = levels.map(|level| layout.keep_ms(partition, level)).max().unwrap_or(0);
    let key = layout.key(partition, "known");
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("HGETALL").arg(&key).clone());
    let answers = link.call_on(tenure.connection, partition, &pipe)?;
    let (now, mut pipe) = (shared.now(), Pipe::default());
    for (series, born, last) in answers.iter().flat_map(pairs).filter_map(known) {
        let live = newest.parts.binary_search_by(|part| part.series.cmp(&series)).is_ok();
        let field = Layout::field(&series);
        if !live && last == 0 {
            let value = format!("{},{}", born.div_euclid(1_000), now.div_euclid(1_000));
            pipe.cmd(redis::cmd("HSET").arg(&key).arg(field).arg(value).clone());
        } else if !live && now - last > keep {
            pipe.cmd(redis::cmd("HDEL").arg(&key).arg(field).clone());
            tenure.born.remove(&series);
        }
    }
    link.call_on(tenure.connection, partition, &pipe)?;
    Ok(())
}
