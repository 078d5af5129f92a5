//! What destinations still need of the partitions that are ours: listed, read whole, struck off once confirmed.
//!
//! What was confirmed stays on the list in Redis until it is settled, which is when Graphite has had it for `resend`: a
//! holder that takes over by then states it again. In its probation nothing is settled, in case a holder before us is
//! stating older values still; when it is over everything is stated once more. All reads go over the connection of the
//! lease.

use super::fold::chunks;
use super::holder::{Held, Lane};
use super::layout::Bucket;
use super::link::{Failure, Pipe, failure, int, pairs};
use super::scripts::Script;
use super::tenure::{Tenure, version_of};
use crate::clock::{self, WallMs};
use crate::store::{Cohort, Entry, Outstanding, Sealed, StoreError};
use std::time::Duration;

fn away(failure: Failure) -> StoreError {
    StoreError::Away(failure.text)
}

impl Held {
    /// A partition that is ours beyond doubt.
    fn tenure(&mut self, partition: usize) -> Option<(&mut Tenure, &mut super::link::Link)> {
        let Self { link, tenures, .. } = self;
        let tenure = tenures.get_mut(&partition)?;
        tenure.holds(link).then_some((tenure, link))
    }
}

impl Lane {
    /// What a destination needs and has not been told in this probation.
    pub(super) fn outstanding(&self, destination: usize) -> Vec<Outstanding> {
        let held = &mut *self.lock();
        let mut list = Vec::new();
        for &partition in &self.partitions {
            let Some((tenure, _)) = held.tenure(partition) else {
                continue;
            };
            let damaged = tenure.damaged;
            let Some(needs) = tenure.needs.get_mut(destination) else {
                continue;
            };
            if needs.probation.take_if(|until| clock::monotonic_now() >= *until).is_some() {
                needs.stated.clear();
            }
            let open = needs
                .out
                .iter()
                .filter(|(start, version)| needs.stated.get(start) != Some(version) && **start > damaged);
            list.extend(open.map(|(&bucket, &version)| Outstanding { bucket, partition, version }));
        }
        list
    }

    /// A sealed bucket of a partition that is ours, whole, as it is now.
    pub(super) fn state(&self, one: Outstanding) -> Result<Option<Sealed>, StoreError> {
        let held = &mut *self.lock();
        let Some((tenure, link)) = held.tenure(one.partition) else {
            return Ok(None);
        };
        let layout = &self.shared.layout;
        let bucket = Bucket { level: 0, start: one.bucket };
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("HGETALL").arg(layout.sealed(one.partition, bucket)).clone());
        let answers = link.call_on(tenure.connection, one.partition, &pipe).map_err(away)?;
        let Some(answer) = answers.first() else {
            return Ok(None);
        };
        if let Some(failure) = failure(answer) {
            return Err(away(failure));
        }
        let version =
            pairs(answer).find(|(field, _)| *field == b"~version").and_then(|(_, text)| version_of(text));
        let Some(version) = version else {
            // It was kept as long as it had to be.
            self.let_go(tenure, link, one).map_err(away)?;
            return Ok(None);
        };
        let parts = chunks(&self.shared, answer).map_err(away)?.into_iter().flatten();
        let entries = parts.map(|part| Entry {
            series: part.series,
            tally: part.tally,
            before: part.before,
            idle: part.idle > 0,
        });
        let width = layout.ladder.bucket();
        Ok(Some(Sealed { start: one.bucket, width, version, entries: entries.collect() }))
    }

    /// The series of it that were born at a time.
    pub(super) fn state_of(&self, bucket: WallMs, cohort: Cohort) -> Result<Option<Sealed>, StoreError> {
        let one = Outstanding { bucket, partition: cohort.partition, version: 0 };
        let Some(mut sealed) = self.state(one)? else {
            return Ok(None);
        };
        let held = &mut *self.lock();
        let Some((tenure, _)) = held.tenure(cohort.partition) else {
            return Ok(None);
        };
        sealed.entries.retain(|entry| tenure.born.get(&entry.series) == Some(&cohort.born));
        Ok(Some(sealed))
    }

    fn let_go(
        &self,
        tenure: &mut Tenure,
        link: &mut super::link::Link,
        one: Outstanding,
    ) -> Result<(), Failure> {
        let layout = &self.shared.layout;
        let name = layout.name(Bucket { level: 0, start: one.bucket });
        let mut pipe = Pipe::default();
        for (needs, destination) in tenure.needs.iter_mut().zip(&self.shared.destinations) {
            needs.out.remove(&one.bucket);
            let key = layout.key(one.partition, &format!("out:{destination}"));
            pipe.cmd(redis::cmd("HDEL").arg(key).arg(&name).clone());
        }
        link.call_on(tenure.connection, one.partition, &pipe).map(|_| ())
    }

    /// A bucket was confirmed in a version. It stays on the list in Redis until it is settled: whoever takes over by
    /// then states it again.
    pub(super) fn strike(&self, destination: usize, stated: Outstanding) -> bool {
        let held = &mut *self.lock();
        let tenure = held.tenure(stated.partition);
        let Some(needs) = tenure.and_then(|(tenure, _)| tenure.needs.get_mut(destination)) else {
            return false;
        };
        let is_needed = needs.out.get(&stated.bucket) == Some(&stated.version);
        is_needed && needs.stated.insert(stated.bucket, stated.version) != Some(stated.version)
    }

    /// Buckets that were struck off need not be stated again: they leave the list in the version that was stated,
    /// but not in the probation.
    pub(super) fn settle(&self, destination: usize, buckets: &[WallMs]) -> Result<(), Failure> {
        let Some(name) = self.shared.destinations.get(destination) else {
            return Ok(());
        };
        let layout = &self.shared.layout;
        let held = &mut *self.lock();
        for &partition in &self.partitions {
            let Some((tenure, link)) = held.tenure(partition) else {
                continue;
            };
            let Some(needs) = tenure.needs.get_mut(destination) else {
                continue;
            };
            if needs.probation.is_some() {
                continue;
            }
            let key = [layout.key(partition, &format!("out:{name}"))];
            let mut pipe = Pipe::default();
            for bucket in buckets {
                if let Some(version) = needs.stated.remove(bucket) {
                    if needs.out.get(bucket) == Some(&version) {
                        needs.out.remove(bucket);
                    }
                    let field = layout.name(Bucket { level: 0, start: *bucket });
                    let version = format!("{version:016x}");
                    pipe.script(Script::Strike, &key, &[field.as_bytes(), version.as_bytes()]);
                }
            }
            // Lost, it is stated once too often.
            link.call_on(tenure.connection, partition, &pipe)?;
        }
        Ok(())
    }

    /// Puts buckets on a destination's list again, those that are kept still; returns how many were not on it.
    pub(super) fn state_again(&self, destination: usize, buckets: &[WallMs]) -> Result<usize, Failure> {
        let Some(name) = self.shared.destinations.get(destination) else {
            return Ok(0);
        };
        let layout = &self.shared.layout;
        let held = &mut *self.lock();
        let mut again = 0;
        for &partition in &self.partitions {
            let Some((tenure, link)) = held.tenure(partition) else {
                continue;
            };
            let out = layout.key(partition, &format!("out:{name}"));
            let mut pipe = Pipe::default();
            for bucket in buckets.iter().map(|&start| Bucket { level: 0, start }) {
                let keys = [out.clone(), layout.sealed(partition, bucket)];
                pipe.script(Script::Again, &keys, &[layout.name(bucket).as_bytes()]);
            }
            let answers = link.call_on(tenure.connection, partition, &pipe)?;
            again += answers.iter().filter_map(int).sum::<i64>() as usize;
            tenure.refresh(&self.shared, link)?;
            if let Some(needs) = tenure.needs.get_mut(destination) {
                for bucket in buckets {
                    again += usize::from(needs.stated.remove(bucket).is_some());
                }
            }
        }
        Ok(again)
    }

    /// A delivery ended without confirmation: what was sent may still arrive.
    pub(super) fn unconfirmed(&self, destination: usize) {
        let probation = clock::monotonic_now() + Duration::from_millis(self.shared.resend_ms.max(0) as u64);
        for tenure in self.lock().tenures.values_mut() {
            if let Some(needs) = tenure.needs.get_mut(destination) {
                needs.probation = Some(probation);
            }
        }
    }

    pub(super) fn cohorts(&self, destination: usize) -> Vec<Cohort> {
        let held = self.lock();
        let mut cohorts = Vec::new();
        for (&partition, tenure) in &held.tenures {
            let of = tenure.needs.get(destination).into_iter().flat_map(|needs| &needs.cohorts);
            cohorts.extend(of.map(|(&born, of)| Cohort { born, partition, ..*of }));
        }
        cohorts
    }

    /// New series were stated again.
    pub(super) fn restated(&self, destination: usize, cohort: Cohort, done: bool) {
        let held = &mut *self.lock();
        let Some((tenure, link)) = held.tenure(cohort.partition) else {
            return;
        };
        let Some((needs, name)) =
            tenure.needs.get_mut(destination).zip(self.shared.destinations.get(destination))
        else {
            return;
        };
        let key = self.shared.layout.key(cohort.partition, &format!("born:{name}"));
        let mut pipe = Pipe::default();
        if done {
            needs.cohorts.remove(&cohort.born);
            pipe.cmd(redis::cmd("HDEL").arg(key).arg(cohort.born).clone());
        } else {
            needs.cohorts.insert(cohort.born, cohort);
            let heard = cohort.heard.map_or_else(String::new, |heard| heard.to_string());
            let value = format!("{},{},{heard}", cohort.stated, cohort.points);
            pipe.cmd(redis::cmd("HSET").arg(key).arg(cohort.born).arg(value).clone());
        }
        // Lost, it is stated once too often.
        link.call_on(tenure.connection, cohort.partition, &pipe).ok();
    }
}
