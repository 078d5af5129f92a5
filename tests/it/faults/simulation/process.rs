//! The product, put together as `run` does it, on a machine that is not real.

use super::graphite::{Shared, Wire};
use super::sabotage::{Mistreating, Sabotage};
use crate::journal::disk::VirtualDisk;
use crate::store_oracle::file::VirtualFile;
use chrono::NaiveTime;
use rand::RngExt;
use rand::rngs::StdRng;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::{self, Registry};
use tallyd::calendar::Calendar;
use tallyd::clock::Clock;
use tallyd::config::Config;
use tallyd::flush::{self, Flusher, Parts, Replayed, Safe, Written, recover};
use tallyd::forward::{self, Destination, Scheme, Signal};
use tallyd::health::Books;
use tallyd::ingest::receive::Receiver;
use tallyd::journal::{Journal, Options, SyncWhen};
use tallyd::metric::ladder::Step;
use tallyd::metric::{Ladder, Width};
use tallyd::store::embedded::{EmbeddedStore, Gathering, Rules};
use tallyd::store::{Idle, IdleRules, Store};
use tallyd::sys::Waker;
use tallyd::wire::Dialect;

const WINDOW_MS: i64 = 6 * HOUR_MS;
const GRACE_MS: i64 = 1_000;
const RESEND_MS: i64 = 120_000;
pub(super) const TICK_MS: i64 = 200;
pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// What does not change in a history.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) rules: Rules,
    pub(super) idle: IdleRules,
    pub(super) pace: Gathering,
    pub(super) journal: Options,
    pub(super) graphite: Arc<forward::Options>,
    /// What is done wrong on purpose, and to which batch.
    pub(super) sabotage: Sabotage,
    pub(super) batches: Arc<AtomicU64>,
}

/// What a kill ends.
pub(super) struct Process {
    pub(super) store: Arc<dyn Store>,
    pub(super) embedded: Arc<EmbeddedStore>,
    pub(super) flusher: Flusher,
    pub(super) receiver: Receiver,
    pub(super) destination: Destination,
    pub(super) written: Arc<Written>,
    pub(super) books: Arc<Books>,
    /// After a failure it looks again only then.
    pub(super) rests_until: Duration,
}

/// What a kill leaves.
pub(super) struct Machine {
    pub(super) clock: Clock,
    pub(super) disk: VirtualDisk,
    pub(super) file: VirtualFile,
    pub(super) graphite: Shared,
}

fn ladder(width: u64) -> Ladder {
    let step = |secs: u64| Step { width: Width::from_ms(secs * 1_000), keep_ms: 99 * DAY_MS };
    let calendar = Calendar::new("Australia/Lord_Howe", NaiveTime::MIN).unwrap();
    Ladder::new(
        Width::from_ms(width * 1_000),
        &[step(width)],
        &[60, 900, 86_400].map(step),
        WINDOW_MS,
        calendar,
    )
}

impl Settings {
    pub(super) fn new(random: &mut StdRng, sabotage: Sabotage) -> Self {
        let mut config = Config::default();
        let width = [1, 10][random.random_range(0..2)];
        let ladder = ladder(width);
        config.flush = flush::Options {
            tick_ms: TICK_MS,
            bucket: ladder.bucket(),
            grace_ms: GRACE_MS,
            amend_window_ms: WINDOW_MS,
            // What the tests take of the machine is nothing that a history may depend on.
            memory_bytes_max: usize::MAX,
        };
        config.aggregate = aggregate::Options {
            bucket: ladder.bucket(),
            amend_window_ms: WINDOW_MS,
            bounds: tallyd::metric::Bounds { timer_exact_max: 100, set_exact_max: 100_000 },
            ..config.aggregate
        };
        config.expand.naming.scheme = Scheme::Plain;
        config.expand.naming.prefix = String::new();
        let rules = Rules {
            ladder,
            bounds: config.aggregate.bounds,
            bytes_max: usize::MAX,
            destinations: vec!["carbon:2003".to_owned()],
            history: Vec::new(),
            figures: vec!["*".to_owned()],
        };
        let rule = [Idle::Zero, Idle::Drop][random.random_range(0..2)];
        let idle = IdleRules {
            counters: rule,
            timers: rule,
            sets: rule,
            gauges: Idle::Keep,
            gauges_ttl: 1,
            after_ms: None,
        };
        // Rows of a few buckets, so that late samples come into gathered ones.
        let pace = Gathering {
            after_ms: random.random_range(0..20_000),
            row_bytes: random.random_range(60..600),
            versions_at_once: random.random_range(1..10),
            ..Gathering::default()
        };
        let journal = Options {
            bytes_max: 1 << 20,
            segment_bytes: random.random_range(1_000..20_000),
            sync: SyncWhen::Tick,
        };
        let graphite = forward::Options {
            addresses: rules.destinations.clone(),
            resend_ms: RESEND_MS,
            backfill_rate: [40, 20_000][random.random_range(0..2)],
            ..config.graphite.clone()
        };
        Self {
            config,
            rules,
            idle,
            pace,
            journal,
            graphite: Arc::new(graphite),
            sabotage,
            batches: Arc::default(),
        }
    }
}

impl Process {
    /// As `run::start` does it; says what the journal held.
    pub(super) fn start(
        machine: &Machine,
        settings: &Settings,
        producer: u128,
    ) -> Result<(Self, Replayed), Box<dyn Error>> {
        let Settings { config, rules, idle, pace, journal, graphite, sabotage, batches } = settings;
        let (now, books) = (machine.clock.now(), Arc::new(Books::default()));
        let store = EmbeddedStore::on_disk(rules.clone(), idle.clone(), machine.file.open()?, now)?;
        let embedded = Arc::new(store.gathering(*pace));
        let store: Arc<dyn Store> = Arc::new(Mistreating {
            store: Arc::clone(&embedded) as Arc<dyn Store>,
            sabotage: *sabotage,
            batches: Arc::clone(batches),
        });
        let (journal, recovered) = Journal::open(Box::new(machine.disk.clone()), *journal)?;
        let replayed = recover(&journal, &recovered, &*store, config.flush.bucket)?;
        let safe = Safe::new(Some(journal), Arc::clone(&books));
        let written = safe.written();
        let epoch = Epoch::new(now, std::thread::current());
        let registry = Arc::new(Registry::new(config.aggregate.series_max));
        let aggregate = Arc::new(config.aggregate.clone());
        let waker = Arc::new(Waker::new()?);
        let (recorder, collector) = pair(aggregate, Arc::clone(&registry), Arc::clone(&epoch), waker);
        let flusher = Flusher::new(Parts {
            options: config.flush,
            clock: machine.clock.clone(),
            epoch,
            collectors: vec![collector],
            registry,
            store: Arc::clone(&store),
            safe,
            books: Arc::clone(&books),
            own_prefix: "tallyd".to_owned(),
            dialect: Dialect::Native,
            on_sealed: Box::new(|| {}),
            producer,
            totals: None,
        });
        let expand = Arc::new(arc_swap::ArcSwap::from_pointee(config.expand.clone()));
        let (signal, clock) = (Arc::new(Signal::default()), machine.clock.clone());
        let wire = Wire { graphite: Arc::clone(&machine.graphite), watching: None };
        let destination =
            Destination::new(0, Arc::clone(graphite), expand, Arc::clone(&store), clock, signal)
                .over(Box::new(wire));
        let receiver = Receiver::new(recorder, config.ingest.grammar, false);
        let rests_until = Duration::ZERO;
        let process = Self { store, embedded, flusher, receiver, destination, written, books, rests_until };
        Ok((process, replayed))
    }
}
