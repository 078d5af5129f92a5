//! Requests with a key: counted with a tick like everything else, but once, and not at all unless they are durable.
//!
//! ```text
//!   key ─▶ producer, the same on every node and after every restart      group 0, 1, 2… of its lines ─▶ number 1, 2, 3…
//!   a tick: journal (its batches, before those of the tick; one sync) ─▶ on the disk? ─▶ apply ─▶ answer
//!                                                                        not? ─▶ forgotten; who sent it sends it again
//! ```
//!
//! A store applies each batch once by its name, so that the batches of a key are their own memory: it is written in the
//! transaction that applies them, it is in the journal before that, and a Redis has it for all nodes. What is
//! remembered here besides tells a repeated request from another one that has the same key.

use super::Flusher;
use super::batches::Batches;
use crate::aggregate::request::{Key, Outcome, Request};
use crate::clock::WallMs;
use crate::health::Intake;
use crate::limits;
use crate::metric::Width;
use crate::store::{Applied, Batch, KEYED, Store};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Requests that wait for the tick, and those of before.
pub(super) struct Keyed {
    window_ms: i64,
    waiting: Vec<Request>,
    /// What each key stood for.
    recent: HashMap<u128, u64, foldhash::fast::RandomState>,
    /// When they came, oldest first.
    came: VecDeque<(WallMs, u128)>,
    /// Of what was counted since the books were last written.
    intake: Intake,
}

/// A request as batches.
struct Ready {
    request: Request,
    batches: usize,
}

/// The requests of a tick.
pub(super) struct Prepared {
    ready: Vec<Ready>,
    /// Of all of them, one after another.
    pub(super) batches: Vec<Batch>,
}

impl Keyed {
    pub(super) fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            waiting: Vec::new(),
            recent: HashMap::default(),
            came: VecDeque::new(),
            intake: Intake::default(),
        }
    }

    /// Takes a request that the next tick counts.
    pub(super) fn wait(&mut self, request: Request) {
        self.waiting.push(request);
    }

    pub(super) fn take_intake(&mut self) -> Intake {
        std::mem::take(&mut self.intake)
    }

    /// Answers what needs no counting, and makes batches of the rest.
    pub(super) fn prepare(
        &mut self,
        store: &Arc<dyn Store>,
        width: Width,
        at: WallMs,
        now: WallMs,
    ) -> Prepared {
        self.forget(now);
        let mut prepared = Prepared { ready: Vec::new(), batches: Vec::new() };
        let mut here: HashMap<u128, u64> = HashMap::new();
        for request in std::mem::take(&mut self.waiting) {
            let Key { name, lines } = request.key;
            match self.recent.get(&name).or_else(|| here.get(&name)) {
                Some(known) if *known != lines => {
                    (request.done)(Outcome::OtherRequest);
                    continue;
                }
                Some(_) if self.recent.contains_key(&name) => {
                    (request.done)(Outcome::Counted { before: true });
                    continue;
                }
                _ => {}
            }
            if self.recent.len() + here.len() >= limits::REQUEST_KEYS_MAX {
                (request.done)(Outcome::TooManyKeys);
                continue;
            }
            here.insert(name, lines);
            prepared.push(request, store, width, at);
        }
        prepared
    }

    /// A key stands for these lines from now on.
    fn remember(&mut self, key: Key, now: WallMs) {
        if self.recent.insert(key.name, key.lines).is_none() {
            self.came.push_back((now, key.name));
        }
    }

    fn forget(&mut self, now: WallMs) {
        while let Some((_, name)) = self.came.front().filter(|(came, _)| came + self.window_ms < now) {
            self.recent.remove(name);
            self.came.pop_front();
        }
    }
}

impl Prepared {
    /// The batches of one request. In each partition they are numbered by their group: where a group has nothing there,
    /// and one behind it has, its batch is empty.
    fn push(&mut self, mut request: Request, store: &Arc<dyn Store>, width: Width, at: WallMs) {
        let mut by_partition: BTreeMap<usize, Vec<Batch>> = BTreeMap::new();
        let producer = request.key.name | KEYED;
        for (number, (bucket, cells)) in (1..).zip(std::mem::take(&mut request.gathered.groups)) {
            let bucket = bucket.unwrap_or_else(|| width.start_of(at));
            let mut gathered = Batches::new(width, bucket, at, store);
            for (series, time, cell) in cells {
                gathered.add(&series, time, cell);
            }
            for ((bucket, partition), tallies) in gathered.finish() {
                let producer = producer & !0xffff | partition as u128;
                let batches = by_partition.entry(partition).or_default();
                for number in batches.len() as u64 + 1..number {
                    batches.push(Batch { producer, number, bucket, entries: Vec::new() });
                }
                let entries = tallies.into_entries(producer, number);
                batches.push(Batch { producer, number, bucket, entries });
            }
        }
        let before = self.batches.len();
        self.batches.extend(by_partition.into_values().flatten());
        self.ready.push(Ready { request, batches: self.batches.len() - before });
    }
}

impl Flusher {
    /// Counts what is durable, and says what became of each.
    pub(super) fn count_requests(&mut self, prepared: Prepared, durable: bool, now: WallMs) {
        let mut batches = prepared.batches.into_iter();
        for Ready { request, batches: count } in prepared.ready {
            let own: Vec<Batch> = batches.by_ref().take(count).collect();
            if !durable {
                (request.done)(Outcome::NotDurable(self.safe.trouble()));
                continue;
            }
            let mut added = false;
            for batch in own {
                added |= self.count_keyed(batch, now);
            }
            self.keyed.remember(request.key, now);
            if added {
                self.keyed.intake.add(&request.gathered.intake);
            }
            (request.done)(Outcome::Counted { before: !added });
        }
    }

    /// Whether it was added now.
    fn count_keyed(&mut self, batch: Batch, now: WallMs) -> bool {
        let shown =
            self.totals.as_ref().map(|totals| (Arc::clone(totals), batch.bucket, batch.entries.clone()));
        match self.store.apply(batch, now) {
            Ok(Applied::Done) => {
                if let Some((totals, bucket, entries)) = shown {
                    totals.add(bucket, &entries);
                }
                if self.store.sharing().is_none() {
                    self.books.batches_applied.fetch_add(1, Ordering::Relaxed);
                }
                true
            }
            Ok(Applied::Duplicate) => false,
            // What is in the journal is counted from there at the next start, or was too late even for that.
            Ok(Applied::Late | Applied::Gap { .. }) | Err(_) => {
                self.books.batches_late.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }
}
