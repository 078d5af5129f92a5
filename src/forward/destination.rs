//! One destination: a thread that states what its list in the store says, and strikes off what was confirmed.
//!
//! ```text
//!   until stopped and done:
//!     what was sent before and is settled: confirmed → strike each bucket in the version sent
//!     the list, newest first → the new bucket, and of the backlog what the rate allows
//!     expand → bytes → send; the next bucket does not wait for the confirmation of this one
//!     failed: wait, longer each time; then what was confirmed in the last `resend` is stated again
//! ```
//!
//! Values are absolute, so that stating twice is free and stating once too few is the only fault there is.
//! One destination never waits for another.

use super::carbon::{Carbon, ForwardError, Link};
use super::lately::Lately;
use super::newborn::{self, Restating};
use super::payload::{Encoder, InFlight, Payload};
use super::signal::{DestinationStatus, Signal};
use super::{Options, Rules, expand};
use crate::clock::{self, Clock, WallMs};
use crate::limits;
use crate::store::{Cohort, Outstanding, Sealed, Store};
use crate::wire::graphite::Point;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After a stop was asked for, a destination that refuses is given this long to come back.
const STOP_REFUSED_MS: u64 = 1_000;
/// Pause between attempts after a stop was asked for.
const STOP_RETRY: Duration = Duration::from_millis(100);
/// Pause between two looks at what was sent and is not settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two looks at new series, when nothing is sealed.
const NEWBORN_PAUSE: Duration = Duration::from_secs(30);
/// Pause while the backlog waits for its rate.
const BACKFILL_PAUSE: Duration = Duration::from_millis(100);

/// A destination and its thread's own state.
pub struct Destination {
    index: usize,
    options: Arc<Options>,
    rules: Arc<ArcSwap<Rules>>,
    store: Arc<dyn Store>,
    clock: Clock,
    signal: Arc<Signal>,
    status: Arc<DestinationStatus>,
    carbon: Box<dyn Link>,
    /// What was sent and is not settled.
    in_flight: Vec<InFlight>,
    /// Newest bucket of each partition that was ever sent: what is newer is not backlog.
    newest: BTreeMap<usize, WallMs>,
    /// Points of backlog that may leave now.
    allowance: f64,
    allowance_at: Duration,
    /// What was confirmed and may yet be lost.
    lately: Lately,
    /// How often deliveries have failed.
    attempts: u32,
    /// When it was last said that carbon may be too slow for new series.
    warned_at: WallMs,
    /// New series that are being stated again.
    restating: Option<Restating>,
    jitter: foldhash::quality::RandomState,
}

/// What one round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The list is empty.
    Done,
    /// Something was sent.
    Sent,
    /// Everything on the list was sent; it is not settled yet.
    Waiting,
    /// Only backlog is left, and its rate is used up.
    Paced,
    /// The delivery failed.
    Failed,
}

impl Destination {
    /// The destination at `index` of the options; it needs a thread to [`Destination::run`] on.
    #[must_use]
    pub fn new(
        index: usize,
        options: Arc<Options>,
        rules: Arc<ArcSwap<Rules>>,
        store: Arc<dyn Store>,
        clock: Clock,
        signal: Arc<Signal>,
    ) -> Self {
        let address = options.addresses.get(index).cloned().unwrap_or_default();
        let status = DestinationStatus { address: address.clone(), ..DestinationStatus::default() };
        status.last_flush.store(clock.now() / 1_000, Ordering::Relaxed);
        let before = (store.series_count() > 0).then(|| clock.passed());
        let lately = Lately::new(Duration::from_millis(options.resend_ms.max(0) as u64), before);
        Self {
            index,
            carbon: Box::new(Carbon::new(address, options.connection)),
            in_flight: Vec::new(),
            allowance: options.backfill_rate as f64,
            lately,
            options,
            rules,
            store,
            allowance_at: clock.passed(),
            clock,
            signal,
            status: Arc::new(status),
            newest: BTreeMap::new(),
            attempts: 0,
            warned_at: WallMs::MIN,
            restating: None,
            jitter: foldhash::quality::RandomState::default(),
        }
    }

    /// What others may know of it.
    #[must_use]
    pub fn status(&self) -> Arc<DestinationStatus> {
        Arc::clone(&self.status)
    }

    /// The same over another way to Graphite.
    #[must_use]
    pub fn over(self, carbon: Box<dyn Link>) -> Self {
        Self { carbon, ..self }
    }

    /// States until it is stopped and everything is stated or the time is up.
    pub fn run(mut self) {
        let mut refused_since = None;
        loop {
            let seen = self.signal.state();
            let round = self.round(seen.stop_at);
            let Some(stop_at) = seen.stop_at else {
                match round {
                    Round::Sent => {}
                    Round::Done => self.signal.wait(seen, Some(NEWBORN_PAUSE)),
                    Round::Waiting => self.signal.wait(seen, Some(SETTLE_PAUSE)),
                    Round::Paced => self.signal.wait(seen, Some(BACKFILL_PAUSE)),
                    Round::Failed => self.wait_after_failure(),
                }
                continue;
            };
            match round {
                Round::Done => return,
                Round::Waiting => std::thread::sleep(SETTLE_PAUSE),
                Round::Sent | Round::Paced => refused_since = None,
                Round::Failed => {
                    let since = *refused_since.get_or_insert_with(clock::monotonic_now);
                    if clock::elapsed(since) >= Duration::from_millis(STOP_REFUSED_MS) {
                        return;
                    }
                    std::thread::sleep(STOP_RETRY);
                }
            }
            if clock::monotonic_now() >= stop_at {
                return;
            }
        }
    }

    /// Waits longer after each failure; news does not shorten it, a stop does.
    fn wait_after_failure(&mut self) {
        let pause = limits::CARBON_RETRY_MS
            .saturating_mul(1 << self.attempts.min(10))
            .min(limits::CARBON_RETRY_MS_MAX);
        self.attempts += 1;
        // Half to all of it, so that many nodes do not come back in step.
        let part = self.jitter.hash_one(self.attempts) % 512;
        let until = clock::monotonic_now() + Duration::from_millis(pause * (512 + part) / 1_024);
        loop {
            self.list();
            let seen = self.signal.state();
            let left = until.saturating_duration_since(clock::monotonic_now());
            if left.is_zero() || seen.stop_at.is_some() {
                return;
            }
            self.signal.wait(seen, Some(left));
        }
    }

    /// Looks at what was sent and at the list, and sends at most once; never waits but for the link.
    pub fn round(&mut self, stop_at: Option<Instant>) -> Round {
        let now = self.clock.passed();
        self.lately.suspect(self.carbon.watch_ended(), now);
        if self.settle() {
            return Round::Failed;
        }
        self.store.settle(self.index, &self.lately.safe(now));
        let mut list = self.list();
        // Not in another version either: carbon may read the older one last.
        let flying = self.in_flight.iter().flat_map(|flying| flying.payload.buckets());
        let flying: BTreeSet<_> = flying.map(|stated| (stated.bucket, stated.partition)).collect();
        list.retain(|one| !flying.contains(&(one.bucket, one.partition)));
        if self.in_flight.len() >= limits::CARBON_IN_FLIGHT_MAX {
            return Round::Waiting;
        }
        self.refill();
        let round = if list.is_empty() {
            self.restate(stop_at)
        } else {
            match self.payload(&list, stop_at.is_some()) {
                payload if payload.stated.is_empty() => Round::Paced,
                payload => self.send(payload, stop_at),
            }
        };
        match round {
            Round::Done
                if self.in_flight.iter().any(|one| stop_at.is_none() || one.payload.restates.is_empty()) =>
            {
                Round::Waiting
            }
            round => round,
        }
    }

    /// Points of backlog that have become due since it was last asked for.
    fn refill(&mut self) {
        let rate = self.options.backfill_rate as f64;
        let since = self.clock.passed().saturating_sub(self.allowance_at).as_secs_f64();
        self.allowance_at = self.clock.passed();
        self.allowance = (self.allowance + rate * since).min(rate);
    }

    /// What is to be stated, newest first; the status follows it.
    fn list(&self) -> Vec<Outstanding> {
        let list = self.store.outstanding(self.index).unwrap_or_default();
        if let Some(oldest) = list.last() {
            self.status.oldest_ms.store(oldest.bucket, Ordering::Relaxed);
        }
        self.status.outstanding.store(list.len() as u64, Ordering::Relaxed);
        list
    }

    /// Strikes off what was confirmed; returns whether something failed.
    fn settle(&mut self) -> bool {
        let mut failed = false;
        let mut at = 0;
        while let Some(flying) = self.in_flight.get_mut(at) {
            match flying.flight.settled() {
                None => at += 1,
                Some(result) => {
                    let flying = self.in_flight.swap_remove(at);
                    match result {
                        Ok(()) => self.confirmed(&flying.payload, flying.started),
                        Err(error) => {
                            self.failed(&error);
                            // Of what was on no list, Graphite may read this older version last.
                            let buckets = flying.payload.restates.iter().map(|stated| stated.bucket);
                            self.lately.confirmed(buckets, flying.started, self.clock.passed());
                            failed = true;
                        }
                    }
                }
            }
        }
        failed
    }

    /// States new series again, when nothing else is to be done and their time has come.
    fn restate(&mut self, stop_at: Option<Instant>) -> Round {
        // One delivery of it at a time: if one fails, it begins anew.
        if stop_at.is_some() || self.in_flight.iter().any(|flying| !flying.payload.restates.is_empty()) {
            return Round::Done;
        }
        if self.restating.is_none() {
            self.restating = self.newborn();
        }
        let Some(mut restating) = self.restating else {
            return Round::Done;
        };
        if self.allowance <= 0.0 {
            return Round::Paced;
        }
        let mut encoder = Encoder::new(self.options.protocol);
        let mut payload = Payload::default();
        for _ in 0..limits::NEWBORN_BUCKETS {
            if restating.next > restating.last || payload.points >= limits::DELIVERY_POINTS {
                break;
            }
            if let Ok(Some(sealed)) = self.store.sealed_of(restating.next, restating.cohort) {
                let rules = self.rules.load();
                let expanded = expand::expand(&rules, &sealed, &mut |point| encoder.push(point));
                payload.points += expanded.points;
                payload.unsendable += expanded.unsendable;
                restating.points = restating.points.max(expanded.points);
                let (version, partition) = (sealed.version, restating.cohort.partition);
                payload.restates.push(Outstanding { bucket: restating.next, version, partition });
            }
            restating.next += self.store.ladder().bucket().ms();
        }
        payload.bytes = encoder.finish();
        self.allowance -= payload.points as f64;
        let ended = restating.next > restating.last;
        self.restating = (!ended).then_some(restating);
        payload.restated = ended.then_some(restating);
        if payload.bytes.is_empty() {
            if ended {
                self.restated(restating);
            }
            return Round::Sent;
        }
        self.send(payload, stop_at)
    }

    /// The oldest cohort whose time has come. As nothing else is to be stated, all that are over were once.
    fn newborn(&self) -> Option<Restating> {
        let (now, width) = (self.clock.now(), self.store.ladder().bucket().ms());
        let mut cohorts = self.store.cohorts(self.index);
        for cohort in cohorts.iter_mut().filter(|cohort| cohort.heard.is_none()) {
            if cohort.born.saturating_add(width) <= now {
                cohort.heard = Some(now);
                self.store.restated(self.index, *cohort, false);
            }
        }
        let cohort = newborn::come(&cohorts, now)?;
        Some(Restating { cohort, next: cohort.born, last: now, points: cohort.points, began: now })
    }

    /// While Graphite was away it made no files: that time does not count.
    fn put_off_newborn(&self, away_ms: i64) {
        for cohort in self.store.cohorts(self.index) {
            if let Some(heard) = cohort.heard {
                let cohort = Cohort { heard: Some(heard.saturating_add(away_ms)), ..cohort };
                self.store.restated(self.index, cohort, false);
            }
        }
    }

    /// New series were stated again, to their last bucket.
    fn restated(&mut self, restating: Restating) {
        let now = self.clock.now();
        let tried = Cohort { points: restating.points, ..restating.cohort };
        let others = self.store.cohorts(self.index);
        let own = (tried.born, tried.partition);
        let others = others.into_iter().filter(|other| (other.born, other.partition) != own);
        let files = others.map(|other| other.points).sum::<u64>() + tried.points;
        let age = tried.heard.map_or(0, |heard| restating.began - heard);
        let done = newborn::done(age, files);
        let given_up = !done && newborn::given_up(&tried, files, now - restating.began);
        let address = &self.status.address;
        tracing::debug!(
            address,
            born = tried.born,
            files = tried.points,
            done,
            "new series were stated again"
        );
        if given_up && now.saturating_sub(self.warned_at) >= limits::NEWBORN_WARNED_MS {
            self.warned_at = now;
            tracing::warn!(
                address,
                files,
                "carbon may not have made files for all new series by now: raise its MAX_CREATES_PER_MINUTE"
            );
        }
        self.store.restated(self.index, newborn::again(tried, files, now), done || given_up);
    }

    /// The new bucket, and of the backlog, newest first, what its rate and one delivery allow.
    fn payload(&mut self, list: &[Outstanding], all: bool) -> Payload {
        let mut encoder = Encoder::new(self.options.protocol);
        let mut payload = Payload::default();
        // The newest bucket leaves at once, whatever part of the series it is of.
        let newest = list.first().map(|one| one.bucket);
        for &outstanding in list {
            let sent = self.newest.get(&outstanding.partition);
            let again = sent.is_some_and(|sent| outstanding.bucket <= *sent);
            let backlog = again || Some(outstanding.bucket) != newest;
            let full = payload.points >= limits::DELIVERY_POINTS;
            if full || (backlog && !all && self.allowance <= 0.0) {
                break;
            }
            let before = payload.points;
            match self.store.state(outstanding) {
                // It was amended since the list was made: this is the newer version.
                Ok(Some(sealed)) => {
                    self.expand(&sealed, outstanding.partition, &mut encoder, &mut payload);
                    payload.stated.push(Outstanding { version: sealed.version, ..outstanding });
                }
                // It was let go; the store has taken it off the list too.
                Ok(None) | Err(_) => continue,
            }
            if backlog {
                self.allowance -= (payload.points - before) as f64;
            }
        }
        payload.bytes = encoder.finish();
        payload
    }

    fn expand(&self, sealed: &Sealed, partition: usize, encoder: &mut Encoder, payload: &mut Payload) {
        let rules = self.rules.load();
        let started = self.clock.passed();
        let mut emit = |point: &Point<'_>| encoder.push(point);
        let expanded = expand::expand(&rules, sealed, &mut emit);
        let took_ms = self.clock.passed().saturating_sub(started).as_millis() as f64;
        payload.points += expanded.points;
        payload.unsendable += expanded.unsendable;
        // Our own figures have one value a bucket: whoever states the first part says them for all.
        if partition > 0 {
            return;
        }
        let series =
            if self.store.partitions() > 1 { self.store.series_count() as u64 } else { expanded.series };
        let seconds = rules.stamp_of(sealed.start, sealed.width.ms());
        let own = [
            ("numStats", series as f64),
            ("graphiteStats.calculationtime", took_ms),
            ("processing_time", took_ms),
        ];
        let mut more = expand::own(&rules, seconds, &own, &mut emit);
        if payload.stated.is_empty() {
            let sender = self.status.figures();
            let now = self.clock.now().div_euclid(1_000);
            let last = expand::own(&rules, now, &sender, &mut emit);
            more.points += last.points;
            more.unsendable += last.unsendable;
        }
        payload.points += more.points;
        payload.unsendable += more.unsendable;
    }

    fn send(&mut self, mut payload: Payload, stop_at: Option<Instant>) -> Round {
        let started = self.clock.passed();
        let left = |at: Instant| at.saturating_duration_since(clock::monotonic_now());
        let patience = stop_at.map_or(Duration::MAX, left).max(STOP_RETRY);
        match self.carbon.send(&payload.bytes, patience) {
            Ok(flight) => {
                for stated in &payload.stated {
                    let newest = self.newest.entry(stated.partition).or_insert(stated.bucket);
                    *newest = stated.bucket.max(*newest);
                }
                payload.length = std::mem::take(&mut payload.bytes).len() as u64;
                self.in_flight.push(InFlight { flight, payload, started });
                if self.options.watch && self.options.resend_ms > 0 {
                    self.carbon.watch();
                }
                Round::Sent
            }
            Err(error) => {
                self.failed(&error);
                Round::Failed
            }
        }
    }

    fn failed(&mut self, error: &ForwardError) {
        let now = self.clock.now();
        self.store.unconfirmed(self.index);
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        self.status.last_exception.store(now.div_euclid(1_000), Ordering::Relaxed);
        self.lately.failed(self.clock.passed());
        self.carbon.unwatch();
        // It begins anew with the first bucket.
        self.restating = None;
        if self.status.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(address = %self.status.address, %error, "Graphite is still away");
        } else {
            tracing::warn!(address = %self.status.address, %error, "Graphite is away: buckets wait");
        }
    }

    fn confirmed(&mut self, payload: &Payload, started: Duration) {
        let (now, passed) = (self.clock.now(), self.clock.passed());
        for &stated in &payload.stated {
            // False where it was amended meanwhile: it stays on the list in its newer version.
            self.store.strike(self.index, stated).unwrap_or(false);
        }
        if let Some(restated) = payload.restated {
            self.restated(restated);
        }
        let status = &self.status;
        status.points.fetch_add(payload.points, Ordering::Relaxed);
        status.buckets.fetch_add(payload.stated.len() as u64, Ordering::Relaxed);
        status.unsendable.fetch_add(payload.unsendable, Ordering::Relaxed);
        let took = passed.saturating_sub(started);
        status.flush_ms.store(took.as_millis() as u64, Ordering::Relaxed);
        status.flush_bytes.store(payload.length, Ordering::Relaxed);
        status.last_flush.store(now.div_euclid(1_000), Ordering::Relaxed);
        status.failing.store(false, Ordering::Relaxed);
        self.attempts = 0;
        let buckets = payload.buckets().map(|stated| stated.bucket);
        let again = self.lately.confirmed(buckets, started, passed);
        if !again.away.is_zero() {
            self.put_off_newborn(again.away.as_millis() as i64);
        }
        if !again.buckets.is_empty() {
            let again = self.store.state_again(self.index, &again.buckets);
            tracing::info!(address = %self.status.address, stated_again = again, "Graphite is back");
        }
    }
}
