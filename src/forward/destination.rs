//! One destination: a thread that states what its list in the store says, and strikes off what was confirmed.
//!
//! ```text
//!   until stopped and done:
//!     what was sent before and is settled: confirmed → strike each bucket in the version sent
//!     the list, newest first → the new bucket, and of the backlog what the rate allows
//!     expand → bytes → send; the next bucket does not wait for the confirmation of this one
//!     failed: wait, longer each time; then the last `resend` is stated again
//! ```
//!
//! Values are absolute, so that stating twice is free and stating once too few is the only fault there is.
//! One destination never waits for another.

use super::carbon::{Carbon, Flight, ForwardError};
use super::newborn::{self, Restating};
use super::signal::{DestinationStatus, Signal};
use super::{Options, Protocol, Rules, expand};
use crate::clock::{self, Clock, WallMs};
use crate::limits;
use crate::store::{Cohort, Outstanding, Sealed, Store};
use crate::wire::graphite::{Pickler, Point, push_line};
use arc_swap::ArcSwap;
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
    carbon: Carbon,
    /// What was sent and is not settled.
    in_flight: Vec<InFlight>,
    /// Newest bucket that was ever sent: what is newer is not backlog.
    newest: WallMs,
    /// Points of backlog that may leave now.
    allowance: f64,
    allowance_at: Instant,
    /// When deliveries began to fail, and how often they have.
    failed_at: Option<WallMs>,
    attempts: u32,
    /// New series that are being stated again.
    restating: Option<Restating>,
    jitter: foldhash::quality::RandomState,
}

/// What one round came to.
enum Round {
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

/// Bytes of one delivery and what they state.
#[derive(Default)]
struct Payload {
    bytes: Vec<u8>,
    /// Bytes that were sent; the bytes themselves are not kept.
    length: u64,
    stated: Vec<Outstanding>,
    /// New series whose restatement this ends.
    restated: Option<Cohort>,
    points: u64,
    unsendable: u64,
}

/// A delivery under way.
struct InFlight {
    flight: Flight,
    payload: Payload,
    started: Instant,
}

/// Plaintext or pickle, as one.
enum Encoder {
    Plaintext(Vec<u8>),
    Pickle(Pickler),
}

impl Encoder {
    fn push(&mut self, point: &Point<'_>) -> bool {
        match self {
            Self::Plaintext(out) => push_line(out, point),
            Self::Pickle(pickler) => pickler.push(point),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Plaintext(out) => out,
            Self::Pickle(pickler) => pickler.finish(),
        }
    }
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
        Self {
            index,
            carbon: Carbon::new(address, options.connection),
            in_flight: Vec::new(),
            allowance: options.backfill_rate as f64,
            options,
            rules,
            store,
            clock,
            signal,
            status: Arc::new(status),
            newest: WallMs::MIN,
            allowance_at: clock::monotonic_now(),
            failed_at: None,
            attempts: 0,
            restating: None,
            jitter: foldhash::quality::RandomState::default(),
        }
    }

    /// What others may know of it.
    #[must_use]
    pub fn status(&self) -> Arc<DestinationStatus> {
        Arc::clone(&self.status)
    }

    /// States until it is stopped and everything is stated or the time is up.
    pub fn run(mut self) {
        // What the process before us had stated may have gone with a carbon that was killed meanwhile.
        self.store.state_again(self.index, self.clock.now() - self.options.resend_ms).unwrap_or(0);
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

    fn round(&mut self, stop_at: Option<Instant>) -> Round {
        let failed = self.settle();
        let mut list = self.list();
        if failed {
            self.restating = None;
            return if list.is_empty() { Round::Done } else { Round::Failed };
        }
        if list.is_empty() {
            return self.restate(stop_at);
        }
        list.retain(|one| !self.in_flight.iter().any(|flying| flying.payload.stated.contains(one)));
        if list.is_empty() || self.in_flight.len() >= limits::CARBON_IN_FLIGHT_MAX {
            return Round::Waiting;
        }
        let payload = self.payload(&list, stop_at.is_some());
        if payload.stated.is_empty() {
            return Round::Paced;
        }
        self.send(payload, stop_at)
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
        if stop_at.is_some() || !self.in_flight.is_empty() {
            return Round::Done;
        }
        if self.restating.is_none() {
            self.restating = self.newborn();
        }
        let Some(mut restating) = self.restating else {
            return Round::Done;
        };
        let mut encoder = self.encoder();
        let mut payload = Payload::default();
        while restating.next <= restating.last && payload.points < limits::NEWBORN_POINTS {
            if let Ok(Some(sealed)) = self.store.sealed_of(restating.next, restating.cohort.born) {
                let rules = self.rules.load();
                let expanded = expand::expand(&rules, &sealed, &mut |point| encoder.push(point));
                payload.points += expanded.points;
                payload.unsendable += expanded.unsendable;
                restating.points = restating.points.max(expanded.points);
            }
            restating.next += self.store.ladder().bucket().ms();
        }
        payload.bytes = encoder.finish();
        let cohort =
            Cohort { stated: restating.cohort.stated + 1, points: restating.points, ..restating.cohort };
        let ended = restating.next > restating.last;
        self.restating = (!ended).then_some(restating);
        payload.restated = ended.then_some(cohort);
        if payload.bytes.is_empty() {
            self.restated(cohort);
            return Round::Sent;
        }
        self.send(payload, stop_at)
    }

    /// The oldest cohort whose time has come.
    fn newborn(&self) -> Option<Restating> {
        let (now, width) = (self.clock.now(), self.store.ladder().bucket().ms());
        let cohorts = self.store.cohorts(self.index);
        let cohort = cohorts.into_iter().find(|cohort| newborn::due(cohort, width) <= now)?;
        Some(Restating { cohort, next: cohort.born, last: now, points: cohort.points })
    }

    /// New series were stated again, to their last bucket.
    fn restated(&self, cohort: Cohort) {
        let cohorts = self.store.cohorts(self.index);
        let files =
            cohorts.iter().filter(|other| other.born != cohort.born).map(|other| other.points).sum::<u64>();
        let tried = Cohort { stated: cohort.stated - 1, ..cohort };
        let done = newborn::done(&tried, files + cohort.points);
        if !done && newborn::given_up(&tried) {
            tracing::warn!(
                address = %self.status.address,
                files = files + cohort.points,
                "carbon may not have made files for all new series by now: raise its MAX_CREATES_PER_MINUTE"
            );
        }
        self.store.restated(self.index, cohort, done || newborn::given_up(&tried));
    }

    fn encoder(&self) -> Encoder {
        match self.options.protocol {
            Protocol::Plaintext => Encoder::Plaintext(Vec::new()),
            Protocol::Pickle => Encoder::Pickle(Pickler::default()),
        }
    }

    /// The new bucket, and of the backlog, newest first, what its rate allows now.
    fn payload(&mut self, list: &[Outstanding], all: bool) -> Payload {
        let rate = self.options.backfill_rate as f64;
        let since = clock::elapsed(self.allowance_at).as_secs_f64();
        self.allowance_at = clock::monotonic_now();
        self.allowance = (self.allowance + rate * since).min(rate);
        let mut encoder = self.encoder();
        let mut payload = Payload::default();
        for &outstanding in list {
            let backlog = outstanding.bucket <= self.newest || !payload.stated.is_empty();
            if backlog && !all && self.allowance <= 0.0 {
                break;
            }
            let before = payload.points;
            match self.store.sealed(outstanding.bucket) {
                // It was amended since the list was made: this is the newer version.
                Ok(Some(sealed)) => {
                    self.expand(&sealed, &mut encoder, &mut payload);
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

    fn expand(&self, sealed: &Sealed, encoder: &mut Encoder, payload: &mut Payload) {
        let rules = self.rules.load();
        let started = clock::monotonic_now();
        let mut emit = |point: &Point<'_>| encoder.push(point);
        let expanded = expand::expand(&rules, sealed, &mut emit);
        let took_ms = clock::elapsed(started).as_millis() as f64;
        let seconds = rules.stamp_of(sealed.start, sealed.width.ms());
        let own = [
            ("numStats", expanded.series as f64),
            ("graphiteStats.calculationtime", took_ms),
            ("processing_time", took_ms),
        ];
        let mut more = expand::own(&rules, seconds, &own, &mut emit);
        if payload.stated.is_empty() {
            let sender = self.sender_figures();
            let now = self.clock.now().div_euclid(1_000);
            let last = expand::own(&rules, now, &sender, &mut emit);
            more.points += last.points;
            more.unsendable += last.unsendable;
        }
        payload.points += expanded.points + more.points;
        payload.unsendable += expanded.unsendable + more.unsendable;
    }

    /// statsd's figures of the flush before this one.
    fn sender_figures(&self) -> [(&'static str, f64); 4] {
        let status = &self.status;
        [
            ("graphiteStats.last_exception", status.last_exception.load(Ordering::Relaxed) as f64),
            ("graphiteStats.last_flush", status.last_flush.load(Ordering::Relaxed) as f64),
            ("graphiteStats.flush_time", status.flush_ms.load(Ordering::Relaxed) as f64),
            ("graphiteStats.flush_length", status.flush_bytes.load(Ordering::Relaxed) as f64),
        ]
    }

    fn send(&mut self, mut payload: Payload, stop_at: Option<Instant>) -> Round {
        let started = clock::monotonic_now();
        let patience =
            stop_at.map_or(Duration::MAX, |at| at.saturating_duration_since(started)).max(STOP_RETRY);
        match self.carbon.send(&payload.bytes, patience) {
            Ok(flight) => {
                self.newest =
                    payload.stated.iter().map(|stated| stated.bucket).fold(self.newest, WallMs::max);
                payload.length = std::mem::take(&mut payload.bytes).len() as u64;
                self.in_flight.push(InFlight { flight, payload, started });
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
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        self.status.last_exception.store(now.div_euclid(1_000), Ordering::Relaxed);
        self.status.failing.store(true, Ordering::Relaxed);
        if self.failed_at.is_some() {
            tracing::debug!(address = %self.status.address, %error, "Graphite is still away");
        } else {
            self.failed_at = Some(now);
            tracing::warn!(address = %self.status.address, %error, "Graphite is away: buckets wait");
        }
    }

    fn confirmed(&mut self, payload: &Payload, started: Instant) {
        let now = self.clock.now();
        for &stated in &payload.stated {
            // False where it was amended meanwhile: it stays on the list in its newer version.
            self.store.strike(self.index, stated).unwrap_or(false);
        }
        if let Some(cohort) = payload.restated {
            self.restated(cohort);
        }
        let status = &self.status;
        status.points.fetch_add(payload.points, Ordering::Relaxed);
        status.buckets.fetch_add(payload.stated.len() as u64, Ordering::Relaxed);
        status.unsendable.fetch_add(payload.unsendable, Ordering::Relaxed);
        status.flush_ms.store(clock::elapsed(started).as_millis() as u64, Ordering::Relaxed);
        status.flush_bytes.store(payload.length, Ordering::Relaxed);
        status.last_flush.store(now.div_euclid(1_000), Ordering::Relaxed);
        status.failing.store(false, Ordering::Relaxed);
        self.attempts = 0;
        if let Some(failed_at) = self.failed_at.take() {
            // Carbon may have lost from its cache what it had accepted before it went.
            let again = self.store.state_again(self.index, failed_at - self.options.resend_ms).unwrap_or(0);
            tracing::info!(address = %status.address, stated_again = again, "Graphite is back");
        }
    }
}
