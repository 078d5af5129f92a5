//! `redis://…`, `redis+cluster://…`, `redis+sentinel://…` — buckets in Redis, which any number of nodes count into.
//!
//! ```text
//!   flusher ─▶ apply ─▶ outbox ─▶ sender ═▶ apply, pass ═▶ ┌─────────────────────┐
//!   journal ───────────────────────▲                       │ Redis: 17 partitions │
//!   holder: leases, folds ═══════════════════════════════▶ │ pending ─▶ sealed    │
//!   graphite-N ─▶ outstanding, state, strike ════════════▶ │ lists of what to     │
//!   queries, console ─▶ read, series, present ═══════════▶ │ state                │
//!                                                          └─────────────────────┘
//! ```
//!
//! A batch is *moved*, never copied: pending in a bucket, folded into it, and in the same script pending in the next
//! coarser one. All that belongs together is in one partition, which is one slot of a cluster and rolls back as one,
//! with the numbers of the batches applied. `layout.rs` draws the keys, `scripts.rs` holds every change that must be
//! whole. Redis may be away at any time: batches wait in the journal.

mod beside;
mod board;
mod cluster;
mod confirm;
mod examine;
mod fold;
mod glance;
mod holder;
mod layout;
mod link;
mod outbox;
mod packed;
mod read;
mod scripts;
mod seal;
mod sender;
mod settings;
mod shared;
mod stating;
mod stream;
mod target;
mod tenure;
mod write;

pub use examine::{Finding, examine};
pub use settings::{Settings, check_address};

use crate::calendar::Span;
use crate::clock::{self, Clock, WallMs};
use crate::health::Books;
use crate::metric::{Bounds, Kind, Ladder, Series};
use crate::store::{
    Applied, Batch, Board, Cohort, Confirmed, Durability, Folded, IdleRules, Kept, Outstanding, Present,
    Reading, Sealed, Sharing, Store, StoreError,
};
use glance::Glances;
use holder::{Crowd, Lane};
use layout::{Layout, partition_of_producer};
use link::{Failure, Link};
use outbox::Outbox;
use sender::Sender;
use shared::Shared;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use target::Target;

/// How long a stop waits for leases to be given up.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);
/// A question is asked again so often, after a pause.
const QUESTIONS: usize = 3;
const QUESTION_PAUSE: Duration = Duration::from_millis(100);

/// Buckets in Redis.
pub struct RedisStore {
    shared: Arc<Shared>,
    crowd: Arc<Crowd>,
    target: Target,
    /// By partition.
    outboxes: Vec<Arc<Outbox>>,
    lanes: Vec<Arc<Lane>>,
    reader: Mutex<Link>,
    glances: Mutex<Glances>,
    hold_ms: i64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

fn away(failure: Failure) -> StoreError {
    StoreError::Away(failure.text)
}

impl RedisStore {
    /// The store at a Redis, whether that can be reached now or not. What `kept` holds of older processes is sent.
    pub fn open(
        settings: Settings,
        clock: &Clock,
        books: &Arc<Books>,
        kept: Option<Box<dyn Kept>>,
    ) -> Result<Self, StoreError> {
        let agreed = settings.agreed();
        let layout = Layout::new(
            settings.prefix,
            settings.partitions,
            settings.ladder,
            settings.history,
            settings.figures,
        );
        let partitions = layout.partitions();
        let tags: Vec<String> = (0..partitions).map(|partition| layout.tag(partition)).collect();
        let target = Target::new(&settings.url, &tags).map_err(away)?;
        let shared = Arc::new(Shared::new(
            layout,
            clock.clone(),
            Arc::clone(books),
            settings.bounds,
            settings.grace_ms,
            settings.destinations,
            settings.resend_ms,
            settings.idle,
            agreed,
        ));
        let mut reader = Link::new(target.clone());
        settings::check(&shared, &mut reader)?;
        // In a cluster every partition has a connection of its own, so that none waits for another's master.
        let lanes = if target.is_cluster() { partitions } else { 1 };
        let crowd = Arc::new(Crowd::new());
        let boxes: Vec<_> = (0..lanes).map(|_| Arc::new(Outbox::new())).collect();
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                let own = (0..partitions).filter(|partition| partition % lanes == lane).collect();
                let link = Link::new(target.clone());
                Arc::new(Lane::new(Arc::clone(&shared), Arc::clone(&crowd), own, link))
            })
            .collect();
        let outboxes = (0..partitions).filter_map(|partition| boxes.get(partition % boxes.len()).cloned());
        let store = Self {
            crowd,
            outboxes: outboxes.collect(),
            lanes,
            reader: Mutex::new(reader),
            glances: Mutex::default(),
            hold_ms: settings.hold_ms,
            threads: Mutex::default(),
            shared,
            target,
        };
        store.start(&boxes, kept)?;
        Ok(store)
    }

    fn start(&self, boxes: &[Arc<Outbox>], kept: Option<Box<dyn Kept>>) -> Result<(), StoreError> {
        let mut kept = kept;
        if let Some(kept) = &mut kept {
            let unreadable =
                |error: String| StoreError::Damaged(format!("the journal cannot be read: {error}"));
            for (producer, last) in kept.producers().map_err(unreadable)? {
                if let Some(outbox) = self.outboxes.get(partition_of_producer(producer)) {
                    outbox.add_old(producer, last);
                }
            }
        }
        let kept = kept.map(|kept| Arc::new(Mutex::new(kept)));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name).spawn(work);
            thread.map(|thread| threads.push(thread)).map_err(|error| StoreError::Away(error.to_string()))
        };
        for (number, (outbox, lane)) in boxes.iter().zip(&self.lanes).enumerate() {
            let partition = lane.partitions.first().copied().unwrap_or(0);
            let link = Link::new(self.target.clone());
            let sender =
                Sender::new(Arc::clone(&self.shared), Arc::clone(outbox), link, partition, kept.clone());
            spawn(format!("sender-{number}"), Box::new(move || sender.run()))?;
            let lane = Arc::clone(lane);
            spawn(format!("holder-{number}"), Box::new(move || lane.run()))?;
        }
        Ok(())
    }

    fn reader(&self) -> MutexGuard<'_, Link> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks Redis, again after a moment where a connection had ended or keys had moved meanwhile.
    fn ask<T>(&self, question: impl Fn(&mut Link) -> Result<T, Failure>) -> Result<T, StoreError> {
        let mut answer = question(&mut self.reader());
        for _ in 0..QUESTIONS {
            if answer.is_ok() {
                break;
            }
            std::thread::sleep(QUESTION_PAUSE);
            answer = question(&mut self.reader());
        }
        answer.map_err(away)
    }

    fn lane(&self, partition: usize) -> Option<&Lane> {
        self.lanes.get(partition % self.lanes.len().max(1)).map(|lane| &**lane)
    }

    /// Waits until Redis has everything, for so long at most; whether it has.
    pub fn drained(&self, patience: Duration) -> bool {
        let until = clock::monotonic_now() + patience;
        loop {
            if self.outboxes.iter().all(|outbox| outbox.is_done()) {
                return true;
            }
            if clock::monotonic_now() >= until {
                return false;
            }
            self.outboxes.iter().for_each(|outbox| outbox.wake());
            std::thread::sleep(PAUSE);
        }
    }

    /// All buckets of a start that are ours, as one.
    fn sealed_of_all(&self, bucket: WallMs) -> Result<Option<Sealed>, StoreError> {
        let mut whole: Option<Sealed> = None;
        for partition in 0..self.partitions() {
            let one = Outstanding { bucket, partition, version: 0 };
            let Some(lane) = self.lane(partition) else {
                continue;
            };
            if let Some(sealed) = lane.state(one)? {
                match &mut whole {
                    None => whole = Some(sealed),
                    Some(whole) => {
                        whole.version ^= sealed.version;
                        whole.entries.extend(sealed.entries);
                    }
                }
            }
        }
        Ok(whole)
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for RedisStore {
    fn partitions(&self) -> usize {
        self.shared.layout.partitions()
    }

    fn partition_of(&self, series: &Series) -> usize {
        self.shared.layout.partition_of(series)
    }

    /// It is on its way: what becomes of it in Redis is in the books.
    fn apply(&self, batch: Batch, _now: WallMs) -> Result<Applied, StoreError> {
        if let Some(outbox) = self.outboxes.get(partition_of_producer(batch.producer)) {
            outbox.push(&self.shared.layout, &batch, &self.shared.books);
        }
        Ok(Applied::Done)
    }

    /// Passing over is for the sender, which knows what the journal holds.
    fn pass(&self, _producer: u128, _first: u64, _last: u64) -> Result<Applied, StoreError> {
        Ok(Applied::Duplicate)
    }

    /// What holders have folded since the last call. At a stop, Redis is given time to take what is left.
    fn fold(&self, due: WallMs, _now: WallMs) -> Result<Folded, StoreError> {
        if due == WallMs::MAX {
            self.drained(holder::STOP_PATIENCE);
        }
        let take = |counter: &std::sync::atomic::AtomicU64| counter.swap(0, Ordering::Relaxed);
        Ok(Folded {
            sealed: take(&self.shared.sealed),
            amended: take(&self.shared.amended),
            rolled: take(&self.shared.rolled),
            shed: 0,
            let_go: 0,
        })
    }

    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>, StoreError> {
        let mut list: Vec<Outstanding> =
            self.lanes.iter().flat_map(|lane| lane.outstanding(destination)).collect();
        list.sort_by_key(|one| (std::cmp::Reverse(one.bucket), one.partition));
        Ok(list)
    }

    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>, StoreError> {
        Ok(self.sealed_of_all(bucket)?.map(Arc::new))
    }

    fn state(&self, one: Outstanding) -> Result<Option<Arc<Sealed>>, StoreError> {
        let Some(lane) = self.lane(one.partition) else {
            return Ok(None);
        };
        Ok(lane.state(one)?.map(Arc::new))
    }

    fn sealed_of(&self, bucket: WallMs, cohort: Cohort) -> Result<Option<Sealed>, StoreError> {
        self.lane(cohort.partition).map_or(Ok(None), |lane| lane.state_of(bucket, cohort))
    }

    fn cohorts(&self, destination: usize) -> Vec<Cohort> {
        let mut cohorts: Vec<Cohort> = self.lanes.iter().flat_map(|lane| lane.cohorts(destination)).collect();
        cohorts.sort();
        cohorts
    }

    fn restated(&self, destination: usize, cohort: Cohort, done: bool) {
        if let Some(lane) = self.lane(cohort.partition) {
            lane.restated(destination, cohort, done);
        }
    }

    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool, StoreError> {
        Ok(self.lane(stated.partition).is_some_and(|lane| lane.strike(destination, stated)))
    }

    fn settle(&self, destination: usize, buckets: &[WallMs]) {
        for lane in self.lanes.iter().filter(|_| !buckets.is_empty()) {
            if let Err(failure) = lane.settle(destination, buckets) {
                tracing::debug!(text = failure.text, "buckets stay on a list");
            }
        }
    }

    fn state_again(&self, destination: usize, buckets: &[WallMs]) -> usize {
        self.lanes.iter().map(|lane| lane.state_again(destination, buckets).unwrap_or(0)).sum()
    }

    fn unconfirmed(&self, destination: usize) {
        self.lanes.iter().for_each(|lane| lane.unconfirmed(destination));
    }

    fn read(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        self.readings(series, level, Span { start: from, end: to }, &|link, wanted, starts| {
            read::buckets_of(&self.shared, link, wanted, starts)
        })
    }

    fn glance(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        self.readings(series, level, Span { start: from, end: to }, &|link, wanted, starts| {
            let mut glances = self.glances.lock().unwrap_or_else(PoisonError::into_inner);
            glances.buckets_of(&self.shared, link, wanted, starts)
        })
    }

    fn series(&self, matches: &dyn Fn(&Series) -> bool) -> Result<Vec<Series>, StoreError> {
        let mut all = BTreeSet::new();
        for partition in 0..self.partitions() {
            let found = self.ask(|link| read::series(&self.shared, link, partition))?;
            all.extend(found.into_iter().filter(|series| matches(series)));
        }
        let mut found: Vec<Series> = all.into_iter().collect();
        found.sort_by(|a, b| a.key().cmp(b.key()).then(a.kind().cmp(&b.kind())));
        Ok(found)
    }

    fn levels_of(&self, series: &Series) -> Vec<(usize, i64)> {
        let ladder = &self.shared.layout.ladder;
        let class = self.shared.layout.class(series);
        ladder.chain(class).map(|level| (level, ladder.keep_ms(class, level))).collect()
    }

    fn ladder(&self) -> &Ladder {
        &self.shared.layout.ladder
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds.at(1)
    }

    fn present(&self, kind: Kind) -> Result<Vec<Present>, StoreError> {
        let mut present = Vec::new();
        for partition in 0..self.partitions() {
            present.extend(self.ask(|link| read::present(&self.shared, link, partition, kind))?);
        }
        Ok(present)
    }

    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
        self.forget_all(kind, matches)
    }

    fn board(&self) -> Option<&dyn Board> {
        Some(self)
    }

    fn series_count(&self) -> usize {
        self.shared.series.iter().map(|known| known.load(Ordering::Relaxed) as usize).sum()
    }

    fn set_idle_rules(&self, rules: IdleRules) {
        *self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// What may leave the journal. A full journal shortens the hold.
    fn checkpoint(&self, _now: WallMs) -> Result<Vec<Confirmed>, StoreError> {
        let journal = &self.shared.books.journal;
        let (bytes, most) =
            (journal.bytes.load(Ordering::Relaxed), journal.bytes_max.load(Ordering::Relaxed));
        let full = most > 0 && bytes > most / 4 * 3;
        if full {
            tracing::warn!(
                bytes,
                most,
                "the journal is nearly full: what Redis has confirmed leaves it early"
            );
        }
        let hold = if full { Duration::ZERO } else { Duration::from_millis(self.hold_ms.max(0) as u64) };
        let boxes = self.outboxes.iter().take(self.lanes.len());
        Ok(boxes.flat_map(|outbox| outbox.ripe(hold)).collect())
    }

    fn durability(&self) -> Durability {
        Durability {
            on_disk: true,
            failing: None,
            waiting_bytes: self.waiting_bytes() as u64,
            disk_bytes: 0,
            written_bytes: 0,
            damaged: self.shared.damaged.load(Ordering::Relaxed),
        }
    }

    fn backup(&self, _to: &Path, _now: WallMs) -> Result<u64, StoreError> {
        Err(StoreError::Away("buckets are in Redis: back up its files".to_owned()))
    }

    fn sharing(&self) -> Option<Sharing> {
        Some(Sharing {
            away: self.shared.away(),
            trouble: self.shared.trouble(),
            skew_ms: self.shared.skew_ms(),
            nodes: self.crowd.live(),
            partitions: self.partitions() as u64,
            held: self.crowd.held() as u64,
            buckets_due: self.shared.buckets_due(),
            buckets_reread: self.shared.reread.load(Ordering::Relaxed),
        })
    }

    fn promise(&self) -> String {
        let hold = clock::words(self.hold_ms);
        let redis = match self.shared.keeping() {
            None => "it could not be asked yet how it keeps them".to_owned(),
            Some(keeping) => keeping.words(),
        };
        format!(
            "kept in Redis at {}, for all nodes: {redis}; every batch stays in this node's journal until that is \
             confirmed, and {hold} longer",
            self.target.shown()
        )
    }

    fn close(&self) {
        self.shared.close();
        self.outboxes.iter().for_each(|outbox| outbox.wake());
        let until = clock::monotonic_now() + CLOSE_PATIENCE;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        while clock::monotonic_now() < until && threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(PAUSE);
        }
        // Whoever waits for Redis still ends by itself.
        drop(threads);
    }
}

impl RedisStore {
    fn waiting_bytes(&self) -> usize {
        let lanes = self.lanes.len().max(1);
        self.outboxes.iter().take(lanes).map(|outbox| outbox.waiting_bytes()).sum()
    }
}
