//! Holding a partition: the lease, and what its holder remembers of the partition meanwhile.
//!
//! A tenure ends when a renewal fails, when [`limits::REDIS_TENURE_MS`] have passed since the last good one was sent,
//! and with the connection it was taken on. What is in Redis never depends on it, since every fold checks what it
//! read; it decides who states buckets to Graphite. For a while after it began, its *probation*, nothing is struck off
//! any list: a holder before us may still be stating older values. Then everything is stated once more.

use super::layout::{Bucket, Layout};
use super::link::{Failure, Link, Pipe, array, bytes, failure, int, pairs, text};
use super::packed::Part;
use super::scripts::Script;
use super::shared::Shared;
use crate::clock::{self, WallMs};
use crate::limits;
use crate::metric::Series;
use crate::store::Cohort;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Buckets looked for at a takeover, and then at a time where older ones matter.
const RECENT: i64 = 256;
const LOOKED_FOR: i64 = 4_000;
const RENEW_EVERY: Duration = Duration::from_millis(limits::REDIS_RENEW_MS);

/// What one destination still needs of a partition.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) out: BTreeMap<WallMs, u64>,
    /// Confirmed in these versions, and not settled.
    pub(super) stated: BTreeMap<WallMs, u64>,
    /// Until then nothing is settled; when it is over everything is stated once more.
    pub(super) probation: Option<Instant>,
    /// New series, by the start of their birth.
    pub(super) cohorts: BTreeMap<WallMs, Cohort>,
}

/// The newest sealed bucket, as it was read or written last.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) start: WallMs,
    pub(super) version: String,
    pub(super) parts: Vec<Part>,
}

/// A partition that is ours for now.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) partition: usize,
    pub(super) connection: u64,
    token: String,
    /// When the last good renewal was sent.
    renewed: Instant,
    /// Starts of the finest sealed buckets: all from `looked_from` on, and some of before.
    pub(super) sealed: BTreeSet<WallMs>,
    looked_from: WallMs,
    pub(super) newest: Option<Newest>,
    /// When series were born.
    pub(super) born: HashMap<Series, WallMs>,
    pub(super) needs: Vec<Needs>,
    /// Buckets that start up to here may lack batches that were passed over.
    pub(super) damaged: WallMs,
    /// When sealed buckets were last amended.
    pub(super) amended: HashMap<Bucket, Instant>,
    pub(super) refreshed: Instant,
    pub(super) pruned: Instant,
}

impl Tenure {
    /// Takes a partition if nobody has it.
    pub(super) fn begin(shared: &Shared, link: &mut Link, partition: usize) -> Result<Option<Self>, Failure> {
        let layout = &shared.layout;
        let token = format!("{:016x}", fastrand::u64(..));
        let began = clock::monotonic_now();
        let mut pipe = Pipe::default();
        let mut set = redis::cmd("SET");
        set.arg(layout.key(partition, "lease")).arg(&token).arg("NX").arg("PX").arg(limits::REDIS_LEASE_MS);
        pipe.cmd(set);
        let answers = link.call(partition, &pipe)?;
        let Some(answer) = answers.first() else {
            return Ok(None);
        };
        if let Some(failure) = failure(answer) {
            return Err(failure);
        }
        let (Some(_), Some(connection)) = (bytes(answer), link.id(partition)) else {
            return Ok(None);
        };
        let probation = began + Duration::from_millis(shared.resend_ms.max(0) as u64);
        let needs = shared.destinations.iter().map(|_| Needs {
            out: BTreeMap::new(),
            stated: BTreeMap::new(),
            probation: Some(probation),
            cohorts: BTreeMap::new(),
        });
        let mut tenure = Self {
            partition,
            connection,
            token,
            renewed: began,
            sealed: BTreeSet::new(),
            looked_from: WallMs::MAX,
            newest: None,
            born: HashMap::new(),
            needs: needs.collect(),
            damaged: WallMs::MIN,
            amended: HashMap::new(),
            refreshed: began,
            pruned: began,
        };
        tenure.load(shared, link)?;
        Ok(Some(tenure))
    }

    /// Reads what is remembered of a partition, and of its buckets only the newest: a takeover must not wait for what
    /// hardly ever matters.
    fn load(&mut self, shared: &Shared, link: &mut Link) -> Result<(), Failure> {
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("HGETALL").arg(shared.layout.key(self.partition, "known")).clone());
        let answers = link.call_on(self.connection, self.partition, &pipe)?;
        self.born = answers
            .iter()
            .flat_map(pairs)
            .filter_map(known)
            .map(|(series, born, _)| (series, born))
            .collect();
        if self.born.is_empty() {
            // Series are known before they stand in a bucket.
            self.looked_from = WallMs::MIN;
        } else {
            self.sealed_before(shared, link, WallMs::MAX)?;
        }
        self.refresh(shared, link)
    }

    /// The newest sealed bucket that starts before a time.
    pub(super) fn sealed_before(
        &mut self,
        shared: &Shared,
        link: &mut Link,
        start: WallMs,
    ) -> Result<Option<WallMs>, Failure> {
        let (width, keep) = (shared.layout.ladder.bucket().ms(), shared.layout.keep_ms(self.partition, 0));
        let start_of = |time: WallMs| shared.layout.ladder.bucket().start_of(time);
        let oldest = start_of(shared.now() - keep) - width;
        loop {
            let found = self.sealed.range(..start).next_back().copied();
            if self.looked_from <= oldest || found.is_some_and(|found| found >= self.looked_from) {
                return Ok(found);
            }
            let (count, end) = if self.looked_from == WallMs::MAX {
                (RECENT, start_of(shared.now()) + 2 * width)
            } else {
                (LOOKED_FOR, self.looked_from)
            };
            let from = (end - count * width).max(oldest);
            let starts: Vec<WallMs> = (0..(end - from) / width).map(|n| from + n * width).collect();
            self.look(shared, link, &starts)?;
            self.looked_from = from;
        }
    }

    /// Looks which of these buckets are sealed.
    fn look(&mut self, shared: &Shared, link: &mut Link, starts: &[WallMs]) -> Result<(), Failure> {
        let mut pipe = Pipe::default();
        for &start in starts {
            let key = shared.layout.sealed(self.partition, Bucket { level: 0, start });
            pipe.cmd(redis::cmd("EXISTS").arg(key).clone());
        }
        let answers = link.call_on(self.connection, self.partition, &pipe)?;
        let found = starts.iter().zip(&answers).filter(|(_, answer)| int(answer) == Some(1));
        self.sealed.extend(found.map(|(start, _)| *start));
        Ok(())
    }

    /// Reads the destinations' lists anew.
    pub(super) fn refresh(&mut self, shared: &Shared, link: &mut Link) -> Result<(), Failure> {
        let layout = &shared.layout;
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("GET").arg(layout.key(self.partition, "damaged")).clone());
        for name in &shared.destinations {
            for list in ["out", "born"] {
                let key = layout.key(self.partition, &format!("{list}:{name}"));
                pipe.cmd(redis::cmd("HGETALL").arg(key).clone());
            }
        }
        let answers = link.call_on(self.connection, self.partition, &pipe)?;
        let (damaged, lists) = answers.split_first().ok_or_else(|| Failure::away("an empty answer"))?;
        if let Some(failure) = answers.iter().find_map(failure) {
            return Err(failure);
        }
        self.damaged = int(damaged).unwrap_or(WallMs::MIN);
        for (needs, lists) in self.needs.iter_mut().zip(lists.as_chunks::<2>().0) {
            let [out, born] = lists;
            needs.out = pairs(out).filter_map(|(name, version)| outstanding(layout, name, version)).collect();
            needs.out.retain(|start, _| *start > self.damaged);
            needs.cohorts = pairs(born).filter_map(|(start, value)| cohort(start, value)).collect();
        }
        self.refreshed = clock::monotonic_now();
        self.leave_out(shared, link, lists)
    }

    /// Buckets that may lack something are not stated: what Graphite has may be fuller.
    fn leave_out(&self, shared: &Shared, link: &mut Link, lists: &[redis::Value]) -> Result<(), Failure> {
        let layout = &shared.layout;
        let mut pipe = Pipe::default();
        for (name, lists) in shared.destinations.iter().zip(lists.as_chunks::<2>().0) {
            let [out, _] = lists;
            let key = layout.key(self.partition, &format!("out:{name}"));
            let partial = pairs(out).filter(|(name, version)| {
                outstanding(layout, name, version).is_some_and(|(start, _)| start <= self.damaged)
            });
            for (bucket, _) in partial {
                pipe.cmd(redis::cmd("HDEL").arg(&key).arg(bucket).clone());
            }
        }
        link.call_on(self.connection, self.partition, &pipe).map(|_| ())
    }

    /// Whether it is still ours beyond doubt.
    pub(super) fn holds(&self, link: &Link) -> bool {
        let tenure = Duration::from_millis(limits::REDIS_TENURE_MS);
        link.id(self.partition) == Some(self.connection) && clock::elapsed(self.renewed) < tenure
    }

    /// Renews the lease from time to time; an error or `false` ends the tenure.
    pub(super) fn renew(&mut self, shared: &Shared, link: &mut Link) -> Result<bool, Failure> {
        if clock::elapsed(self.renewed) < RENEW_EVERY {
            return Ok(self.holds(link));
        }
        let outcome = renew(shared, link, &mut [&mut *self])?;
        Ok(outcome && self.holds(link))
    }

    /// Gives it up, so that another takes it at once.
    pub(super) fn end(self, shared: &Shared, link: &mut Link) {
        let lease = [shared.layout.key(self.partition, "lease")];
        let mut pipe = Pipe::default();
        pipe.script(Script::Release, &lease, &[self.token.as_bytes()]);
        // If it cannot be given up now, it runs out.
        link.call_on(self.connection, self.partition, &pipe).ok();
    }
}

/// Renews all leases on a connection at once, when the first of them is to be. What that does not renew is tried for
/// itself, and ends then.
pub(super) fn renew_all(shared: &Shared, link: &mut Link, tenures: &mut BTreeMap<usize, Tenure>) {
    let due = |tenure: &Tenure| clock::elapsed(tenure.renewed) >= RENEW_EVERY;
    if tenures.len() > 1 && tenures.values().any(due) {
        let on_it = |tenure: &&mut Tenure| link.id(tenure.partition) == Some(tenure.connection);
        let mut tenures: Vec<&mut Tenure> = tenures.values_mut().filter(on_it).collect();
        renew(shared, link, &mut tenures).ok();
    }
}

/// Renews leases that share a connection; whether all of them were.
fn renew(shared: &Shared, link: &mut Link, tenures: &mut [&mut Tenure]) -> Result<bool, Failure> {
    let Some((connection, partition)) = tenures.first().map(|tenure| (tenure.connection, tenure.partition))
    else {
        return Ok(true);
    };
    let leases: Vec<String> =
        tenures.iter().map(|tenure| shared.layout.key(tenure.partition, "lease")).collect();
    let ms = limits::REDIS_LEASE_MS.to_string();
    let tokens = tenures.iter().map(|tenure| tenure.token.as_bytes());
    let args: Vec<&[u8]> = std::iter::once(ms.as_bytes()).chain(tokens).collect();
    let mut pipe = Pipe::default();
    pipe.script(Script::Renew, &leases, &args);
    let sent = clock::monotonic_now();
    let answers = link.call_on(connection, partition, &pipe)?;
    let ours = answers.first().map(array).unwrap_or_default();
    let mut all = ours.len() == tenures.len();
    for (tenure, ours) in tenures.iter_mut().zip(ours) {
        if int(ours) == Some(1) {
            tenure.renewed = sent;
        } else {
            all = false;
        }
    }
    Ok(all)
}

/// A bucket on a list, with its version.
fn outstanding(layout: &Layout, name: &[u8], version: &[u8]) -> Option<(WallMs, u64)> {
    let bucket = layout.bucket(std::str::from_utf8(name).ok()?).filter(|bucket| bucket.level == 0)?;
    Some((bucket.start, version_of(version)?))
}

/// A version as it stands in Redis.
pub(super) fn version_of(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn cohort(start: &[u8], value: &[u8]) -> Option<(WallMs, Cohort)> {
    let born = std::str::from_utf8(start).ok()?.parse().ok()?;
    let mut fields = std::str::from_utf8(value).ok()?.split(',');
    let (stated, points) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let heard = fields.next().and_then(|heard| heard.parse().ok());
    Some((born, Cohort { born, partition: 0, stated, points, heard }))
}

/// A known series: when it was born, and when it was last dropped (0: never), in milliseconds.
pub(super) fn known((field, value): (&[u8], &[u8])) -> Option<(Series, WallMs, WallMs)> {
    let series = Layout::series(std::str::from_utf8(field).ok()?)?;
    let (born, last) = std::str::from_utf8(value).ok()?.split_once(',')?;
    Some((series, born.parse::<i64>().ok()? * 1_000, last.parse::<i64>().ok()? * 1_000))
}

/// Names of buckets with something pending.
pub(super) fn buckets(layout: &Layout, answer: &redis::Value) -> Vec<Bucket> {
    array(answer).iter().filter_map(|name| layout.bucket(text(name)?)).collect()
}
