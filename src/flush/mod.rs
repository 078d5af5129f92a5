//! Tick to batches to journal to store.
//!
//! At each tick the flusher asks every ingest thread for its generation, makes one batch of them for each
//! bucket, applies it, and folds what is due. Our own counters go the same road. A tick's samples belong to
//! the bucket in which the tick began to be gathered; ticks end at the borders of buckets. It knows nothing
//! of sockets, nor of where buckets go.

mod backlog;
mod batches;
mod keyed;
mod memory;
mod offenders;
mod own;
mod safe;

pub use backlog::Backlog;
pub use safe::{Replayed, Safe, Written, recover};

use crate::aggregate::request::Request;
use crate::aggregate::{Collector, Registry, Tick, Totals, epoch::Epoch, table::Example};
use crate::clock::{self, Clock, WallMs};
use crate::health::{Books, Intake, Refusal, Shown};
use crate::limits;
use crate::metric::{Series, Tally, Width};
use crate::store::{Applied, Batch, Store};
use crate::wire::Dialect;
use batches::Batches;
use keyed::Keyed;
use memory::Memory;
use offenders::Senders;
use own::Own;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// When things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Milliseconds between hand-overs (`flush.tick`).
    pub tick_ms: i64,
    /// Width of a bucket (`flush.bucket`, statsd's `flushInterval`).
    pub bucket: Width,
    /// Milliseconds after its end at which a bucket is sealed (`flush.grace`).
    pub grace_ms: i64,
    /// Milliseconds in which late samples still amend (`flush.amend_window`).
    pub amend_window_ms: i64,
    /// Bytes that the process may take (`limits.memory_max`).
    pub memory_bytes_max: usize,
}

/// What others ask of the flusher.
#[derive(Debug)]
pub enum Command {
    /// Close a tick now, so that the store holds everything received; answered when it does.
    Tick(SyncSender<()>),
    /// Our own series are called otherwise from now on.
    OwnPrefix(String),
    /// Count this with the next tick, as if it had come in.
    Count(Series, Tally),
    /// Count a request with the next tick, once.
    Request(Box<Request>),
    /// The ingest threads have ended: take what they left, seal everything, and end.
    Drain(SyncSender<()>),
}

/// What the flusher works with.
pub struct Flusher {
    options: Options,
    clock: Clock,
    epoch: Arc<Epoch>,
    collectors: Vec<Collector>,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    safe: Safe,
    books: Arc<Books>,
    own: Own,
    senders: Senders,
    memory: Memory,
    /// What is to be counted with the next tick.
    asked: Vec<(Series, Tally)>,
    keyed: Keyed,
    /// Told when something was sealed or amended.
    on_sealed: Box<dyn Fn() + Send>,
    producer: u128,
    /// The last number, by partition.
    numbers: Vec<u64>,
    totals: Option<Arc<Totals>>,
    /// Last refusal logged, by reason.
    logged: [WallMs; Refusal::COUNT],
    /// It was said that folding does not work.
    fold_failing: bool,
    forgotten_at: WallMs,
    /// When something was last counted in an overflow series.
    overflowed_at: WallMs,
}

/// The parts a flusher is made of.
pub struct Parts {
    /// When things happen.
    pub options: Options,
    /// The time.
    pub clock: Clock,
    /// Shared with the recorders.
    pub epoch: Arc<Epoch>,
    /// One for each ingest thread.
    pub collectors: Vec<Collector>,
    /// The series known.
    pub registry: Arc<Registry>,
    /// Where batches go.
    pub store: Arc<dyn Store>,
    /// What keeps them meanwhile.
    pub safe: Safe,
    /// Our own counters.
    pub books: Arc<Books>,
    /// First component of our own series (`graphite.own_prefix`).
    pub own_prefix: String,
    /// Whose rules: statsd's dialect has statsd's own series and no more.
    pub dialect: Dialect,
    /// Told when something was sealed or amended.
    pub on_sealed: Box<dyn Fn() + Send>,
    /// Who we are among producers.
    pub producer: u128,
    /// What every series adds up to, where somebody wants to know.
    pub totals: Option<Arc<Totals>>,
}

impl Flusher {
    /// A flusher that has not ticked yet; it needs a thread to [`Flusher::run`] on, the one the epoch names.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            options: parts.options,
            forgotten_at: parts.clock.now(),
            overflowed_at: WallMs::MIN,
            numbers: vec![0; parts.store.partitions()],
            clock: parts.clock,
            epoch: parts.epoch,
            collectors: parts.collectors,
            registry: parts.registry,
            store: parts.store,
            safe: parts.safe,
            books: parts.books,
            own: Own { prefix: parts.own_prefix, dialect: parts.dialect, stamped: None, stated: None },
            senders: Senders::new(),
            memory: Memory::new(parts.options.memory_bytes_max),
            asked: Vec::new(),
            keyed: Keyed::new(parts.options.amend_window_ms),
            on_sealed: parts.on_sealed,
            producer: parts.producer,
            totals: parts.totals,
            logged: [WallMs::MIN; Refusal::COUNT],
            fold_failing: false,
        }
    }

    /// Ticks until it is told to drain.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let mut due = self.next_tick(self.clock.now());
        loop {
            let now = self.clock.now();
            // A clock that was set back must not make us wait for a time that was; and commands, however many there
            // are, hold up no tick.
            due = due.min(self.next_tick(now));
            if now >= due {
                self.tick(due, || {});
                due = self.next_tick(self.clock.now());
                continue;
            }
            match commands.recv_timeout(Duration::from_millis((due - now).max(0) as u64)) {
                // Timers are a little early or late; a tick that is early would end before its border.
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::Tick(done)) => {
                    let now = self.clock.now();
                    self.tick(now + 1, || {});
                    done.send(()).ok();
                }
                Ok(Command::Request(request)) => self.keyed.wait(*request),
                Ok(Command::OwnPrefix(prefix)) => {
                    self.own.prefix = prefix;
                    self.own.stated = None;
                }
                Ok(Command::Count(series, tally)) => self.asked.push((series, tally)),
                Ok(Command::Drain(done)) => {
                    self.drain();
                    done.send(()).ok();
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return self.drain(),
            }
        }
    }

    /// When the next tick ends: a tick after the last one at most, or at the end of the bucket if that comes first.
    ///
    /// A crash takes what came since the last tick that had reached the disk, and that takes its time too: of 20 kills
    /// one took 200.4 ms of input. With ticks that are a twentieth shorter it is no more than a tick.
    #[must_use]
    pub fn next_tick(&self, now: WallMs) -> WallMs {
        let tick = self.options.tick_ms - self.options.tick_ms / 20;
        let next = (now.div_euclid(tick) + 1) * tick;
        next.min(self.options.bucket.start_of(now) + self.options.bucket.ms())
    }

    /// Closes the tick that was to end at `due`. Where nothing runs beside it, `asked` hands over when the ingest
    /// threads were asked to.
    pub fn tick(&mut self, due: WallMs, asked: impl FnOnce()) {
        let started = clock::monotonic_now();
        let now = self.clock.now();
        // Samples came before `due`. If we slept through more than a tick, most of them came since.
        let at = if now - due > self.options.tick_ms { now } else { due - 1 };
        let number = self.epoch.advance(now);
        asked();
        let mut batches = self.batches(at);
        let ticks = self.collect(number, &mut batches);
        self.finish_tick(&ticks, batches, now, due);
        self.fold(now - self.options.grace_ms, now);
        self.safe.confirm_written(now);
        self.books.tick_micros.store(clock::elapsed(started).as_micros() as u64, Ordering::Relaxed);
        self.books.series.store(self.store.series_count() as u64, Ordering::Relaxed);
        self.books.ticks.fetch_add(1, Ordering::Relaxed);
        self.books.last_tick_ms.store(now, Ordering::Relaxed);
        self.forget(now);
        if self.memory.look(&*self.store, &self.registry, &self.books, now) {
            for collector in &mut self.collectors {
                collector.renew_after(now, 0);
            }
        }
    }

    /// Takes what ended threads left and seals everything, the open bucket as far as it has come.
    fn drain(&mut self) {
        let now = self.clock.now();
        let (mut ticks, mut batches) = (Vec::new(), self.batches(now));
        for collector in &mut self.collectors {
            while let Some(tick) = collector.take(|series, time, cell| batches.add(series, time, cell)) {
                ticks.push(tick);
            }
        }
        self.finish_tick(&ticks, batches, now, WallMs::MIN);
        self.fold(WallMs::MAX, now);
        match self.store.checkpoint(now) {
            Ok(confirmed) => self.safe.confirm(&confirmed, now),
            Err(error) => tracing::error!(%error, "what was counted last is in the journal alone"),
        }
    }

    /// Empty batches for what came before `at`.
    fn batches(&self, at: WallMs) -> Batches {
        Batches::new(self.options.bucket, self.options.bucket.start_of(at), at, &self.store)
    }

    /// Every thread's generation of this tick, and with it the one before if that came too late for its own.
    fn collect(&mut self, number: u64, batches: &mut Batches) -> Vec<Tick> {
        for collector in &self.collectors {
            collector.wake();
        }
        let deadline = clock::monotonic_now() + Duration::from_millis(limits::HAND_OVER_MS);
        let mut ticks = Vec::with_capacity(self.collectors.len());
        let mut waiting: Vec<&mut Collector> = self.collectors.iter_mut().collect();
        loop {
            waiting.retain_mut(|collector| {
                while let Some(tick) = collector.take(|series, time, cell| batches.add(series, time, cell)) {
                    let of_this_tick = tick.number >= number;
                    ticks.push(tick);
                    if of_this_tick {
                        return false;
                    }
                    // It had no spare until now, and may have asked for one in vain.
                    collector.wake();
                }
                true
            });
            let left = deadline.saturating_duration_since(clock::monotonic_now());
            if waiting.is_empty() || left.is_zero() {
                self.books.hand_overs_late.fetch_add(waiting.len() as u64, Ordering::Relaxed);
                return ticks;
            }
            std::thread::park_timeout(left);
        }
    }

    fn finish_tick(&mut self, ticks: &[Tick], mut batches: Batches, now: WallMs, due: WallMs) {
        let bucket = batches.bucket;
        let mut intake = Intake::default();
        for tick in ticks {
            intake.add(&tick.intake);
            self.senders.add(tick);
        }
        intake.add(&self.keyed.take_intake());
        self.books.enter(&intake);
        self.senders.enter(&self.registry, &self.books, now);
        if intake.packets > 0 {
            self.books.last_packet_ms.store(now, Ordering::Relaxed);
        }
        batches.own(self.own.counters(&intake, bucket));
        batches.own(std::mem::take(&mut self.asked));
        if due == bucket + self.options.bucket.ms() {
            batches.own(self.own.timestamp_lag(due, self.options.bucket));
        }
        self.apply(batches, now);
        self.show(ticks.iter().flat_map(|tick| &tick.examples), now);
        self.renew_indexes(&intake, now);
    }

    /// Everything is in the journal before any of it is in the store.
    fn apply(&mut self, batches: Batches, now: WallMs) {
        let requests = self.keyed.prepare(&self.store, self.options.bucket, batches.at, now);
        let mut numbered = Vec::new();
        for ((bucket, partition), tallies) in batches.finish() {
            let Some(number) = self.numbers.get_mut(partition) else {
                continue;
            };
            *number += 1;
            // Each partition has a producer of its own, whose numbers have no gap.
            let (producer, number) = (self.producer & !0xffff | partition as u128, *number);
            let entries = tallies.into_entries(producer, number);
            if let Some(totals) = &self.totals {
                totals.add(bucket, &entries);
            }
            numbered.push(Batch { producer, number, bucket, entries });
        }
        let durable = self.safe.keep_keyed(&requests.batches, &numbered, now);
        self.count_requests(requests, durable, now);
        for batch in numbered {
            let bucket = batch.bucket;
            match self.store.apply(batch, now) {
                // Where it is only on its way, whoever sends it counts it.
                Ok(Applied::Done) if self.store.sharing().is_some() => {}
                Ok(Applied::Done) => {
                    self.books.batches_applied.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Applied::Late) => {
                    self.books.batches_late.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(bucket, "a batch came after its bucket was let go and is lost");
                }
                Ok(outcome @ (Applied::Duplicate | Applied::Gap { .. })) => {
                    unreachable!("we are the only one with this producer's numbers, and got {outcome:?}")
                }
                Err(error) => {
                    self.books.batches_late.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "a batch could not be applied and is lost");
                }
            }
        }
    }

    fn fold(&mut self, due: WallMs, now: WallMs) {
        match self.store.fold(due, now) {
            Ok(folded) => {
                self.fold_failing = false;
                self.books.buckets_sealed.fetch_add(folded.sealed, Ordering::Relaxed);
                self.books.buckets_amended.fetch_add(folded.amended, Ordering::Relaxed);
                self.books.memory.buckets_let_go.fetch_add(folded.let_go, Ordering::Relaxed);
                if folded.shed > 0 {
                    self.books.buckets_shed.fetch_add(folded.shed, Ordering::Relaxed);
                    tracing::error!(
                        buckets = folded.shed,
                        "memory_max is reached: buckets are lost to Graphite"
                    );
                }
                if folded.sealed + folded.amended > 0 {
                    (self.on_sealed)();
                }
                if folded.sealed > 0 {
                    self.make_room(now);
                }
            }
            Err(error) if !self.fold_failing => {
                tracing::error!(%error, "buckets could not be sealed; trying again at each tick");
                self.fold_failing = true;
            }
            Err(_) => {}
        }
    }

    /// Logs refused lines, at most one a second for each reason.
    fn show<'a>(&mut self, examples: impl Iterator<Item = &'a Example>, now: WallMs) {
        for example in examples {
            let Some(logged) = self.logged.get_mut(example.reason as usize) else {
                continue;
            };
            if now.saturating_sub(*logged) >= limits::LOG_REFUSED_MS {
                *logged = now;
                let line = example.excerpt.escape_ascii().to_string();
                let shown = Shown { at_ms: now, sender: example.sender.clone(), line: line.clone() };
                self.books.show(example.reason, shown);
                tracing::warn!(
                    reason = example.reason.label(),
                    sender = %example.sender,
                    line,
                    so_far = self.books.refused(example.reason),
                    "refused"
                );
            }
        }
    }

    /// Where places have run out of late, series that came once and never again give up theirs.
    fn make_room(&mut self, now: WallMs) {
        let late = limits::MAKE_ROOM_MS.max(limits::MAKE_ROOM_BUCKETS * self.options.bucket.ms());
        let excess = self.registry.excess();
        if excess == 0 || now.saturating_sub(self.overflowed_at) > late {
            return;
        }
        let gone = self.store.make_room(excess).unwrap_or_else(|error| {
            tracing::warn!(%error, "no room can be made for new series");
            0
        });
        if gone > 0 {
            tracing::info!(series = gone, "series that came once have made room for new ones");
            self.books.series_made_room.fetch_add(gone as u64, Ordering::Relaxed);
            for collector in &mut self.collectors {
                collector.renew_after(now, 0);
            }
            // By then the threads have let go of them too.
            self.forgotten_at = now - limits::INDEX_RENEW_FULL_MS + 3 * self.options.tick_ms;
        }
    }

    /// Threads learn their names anew from time to time, sooner when there is no room for new ones.
    fn renew_indexes(&mut self, intake: &Intake, now: WallMs) {
        if intake.overflow > 0 {
            self.overflowed_at = now;
        }
        let age = if intake.overflow > 0 { limits::INDEX_RENEW_FULL_MS } else { limits::INDEX_RENEW_MS };
        for collector in &mut self.collectors {
            collector.renew_after(now, age);
        }
    }

    /// Lets go of series that neither a thread nor the store knows any more.
    fn forget(&mut self, now: WallMs) {
        if now - self.forgotten_at >= limits::INDEX_RENEW_FULL_MS {
            self.forgotten_at = now;
            self.registry.forget_unheld();
        }
    }
}
