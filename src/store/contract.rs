//! What every store promises; one suite of tests runs on all of them.
//!
//! A *batch* is applied once by its name (producer, number), however often it is sent. *Fold* seals what is
//! due and amends what came late, and gives each result a version of its own. What Graphite still needs is
//! listed for each destination, read as a whole bucket, and struck off only in the version that was sent:
//! a bucket amended meanwhile stays on the list. Reading is sealed and pending together, at every level of the
//! ladder: what is not rolled up yet is merged from the finer level while it is read.

use crate::clock::WallMs;
use crate::metric::{Bounds, Kind, Ladder, Series, Tally, Width};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// What an idle series sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Zero (a timer: `count` 0).
    Zero,
    /// What it sent last.
    Keep,
    /// Nothing: it is forgotten.
    Drop,
}

/// What happens to series without samples (`[idle]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleRules {
    /// Counters.
    pub counters: Idle,
    /// Timers.
    pub timers: Idle,
    /// Sets.
    pub sets: Idle,
    /// Gauges.
    pub gauges: Idle,
    /// Buckets that a gauge is still sent in, its own included, before `drop` forgets it (statsd's
    /// `gaugesMaxTTL`).
    pub gauges_ttl: u32,
    /// An idle series is forgotten after so many milliseconds; `None` is never.
    pub after_ms: Option<i64>,
}

impl IdleRules {
    /// The rule for a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Idle {
        match kind {
            Kind::Counter => self.counters,
            Kind::Timer => self.timers,
            Kind::Gauge => self.gauges,
            Kind::Set => self.sets,
        }
    }
}

/// Which store, from `store.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `file:DIR`
    File(PathBuf),
    /// `redis://…` and `redis+cluster://…`, as they were written.
    Redis(String),
}

/// The store and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which store.
    pub url: StoreUrl,
    /// What is kept how long.
    pub ladder: Ladder,
    /// Globs of series that keep the ladder (`rollup.history`).
    pub history: Vec<String>,
    /// Globs of series that figures show.
    pub figures: Vec<String>,
    /// Bytes that buckets may take (`limits.memory_max`).
    pub memory_bytes_max: usize,
    /// What keys in Redis begin with (`store.prefix`).
    pub prefix: String,
    /// Among how many partitions series are spread in Redis (`store.partitions`).
    pub partitions: usize,
    /// How long batches stay in the journal after Redis has confirmed them (`store.journal_hold`), in milliseconds.
    pub hold_ms: i64,
}

/// Tallies of one bucket on their way into the store, under a name that is used once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Who counted; random at every start of a process.
    pub producer: u128,
    /// 1, 2, 3… without a gap.
    pub number: u64,
    /// Start of the bucket.
    pub bucket: WallMs,
    /// A series may stand here more than once; its tallies are merged.
    pub entries: Vec<(Series, Tally)>,
}

/// In the id of a producer: it was made of a request's key, and has the batches of that request alone.
pub const KEYED: u128 = 1 << 127;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in its bucket.
    Done,
    /// It was there already; nothing changed.
    Duplicate,
    /// The batch after `watermark` is missing; nothing changed.
    Gap {
        /// The highest number applied.
        watermark: u64,
    },
    /// Its bucket is not kept any more; nothing changed but the number.
    Late,
}

/// A series in a sealed bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which.
    pub series: Series,
    /// Its samples.
    pub tally: Tally,
    /// The value of a gauge before the bucket.
    pub before: Option<f64>,
    /// It had no samples: this is what an idle series sends, and nothing that may be rolled up.
    pub idle: bool,
}

/// A sealed bucket, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// Its start.
    pub start: WallMs,
    /// Its width.
    pub width: Width,
    /// Which state of it; random, never counted.
    pub version: u64,
    /// All series in it.
    pub entries: Vec<Entry>,
}

/// A bucket that a destination still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outstanding {
    /// Its start.
    pub bucket: WallMs,
    /// Which part of the series it is of; 0 where the store has only one.
    pub partition: usize,
    /// The version it has now.
    pub version: u64,
}

/// One bucket of one series, at some level.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its first millisecond.
    pub start: WallMs,
    /// The first millisecond after it.
    pub end: WallMs,
    /// Its samples.
    pub tally: Tally,
    /// The value of a gauge before the bucket.
    pub before: Option<f64>,
}

/// Series that are new to a destination: carbon may have dropped their first points instead of making files
/// for them, so these are stated again until it must have made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cohort {
    /// Start of the bucket in which these series had their first samples.
    pub born: WallMs,
    /// Which part of the series they are of.
    pub partition: usize,
    /// How often they were stated again.
    pub stated: u32,
    /// Points of one bucket of them: as many files carbon has to make.
    pub points: u64,
    /// When the destination had been told of them, not counting the time that it was away since; `None` before.
    pub heard: Option<WallMs>,
}

/// What is safe: every batch of a producer up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Whose batches.
    pub producer: u128,
    /// The last of them.
    pub number: u64,
}

/// Whether what was counted is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// There is a disk to be written to.
    pub on_disk: bool,
    /// What does not work, in words, and since when; `None` while everything does.
    pub failing: Option<(String, WallMs)>,
    /// Bytes that wait in memory to be written.
    pub waiting_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes that were written to it since the start.
    pub written_bytes: u64,
    /// Packed buckets that did not read back.
    pub damaged: u64,
}

/// How a store that many nodes count into is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Why it takes nothing now, in words, and since when.
    pub away: Option<(String, WallMs)>,
    /// What is wrong with how it is set up, in words, and since when.
    pub trouble: Option<(String, WallMs)>,
    /// Our clock less its clock, in milliseconds.
    pub skew_ms: i64,
    /// Nodes that count into it now.
    pub nodes: u64,
    /// Parts that the series are spread over.
    pub partitions: u64,
    /// Those of them that this node seals and states.
    pub held: u64,
    /// Buckets that are over and that nobody has sealed, or amended, yet.
    pub buckets_due: u64,
    /// Buckets that pages look at and that had to be let go of since the start, for want of room.
    pub buckets_reread: u64,
}

/// What stays with a node until the store has confirmed it: the journal, as the sender of a store sees it.
pub trait Kept: Send {
    /// Producers that it has batches of, each with the last number.
    fn producers(&mut self) -> Result<Vec<(u128, u64)>, String>;
    /// Some producers' batches from the numbers wanted on, in order: those of the oldest piece that has any. Nothing
    /// where there are none at all.
    fn next(&mut self, wanted: &BTreeMap<u128, u64>) -> Result<Vec<Batch>, String>;
}

/// What a fold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Buckets sealed for the first time.
    pub sealed: u64,
    /// Sealed buckets changed by late batches.
    pub amended: u64,
    /// Buckets of blocks rolled up.
    pub rolled: u64,
    /// Buckets let go before every destination had them, for want of memory.
    pub shed: u64,
    /// Buckets let go early, for want of memory, that every destination had.
    pub let_go: u64,
}

/// The present state of a series, for the console.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// Which.
    pub series: Series,
    /// Its samples in the open bucket; empty if it has none there.
    pub tally: Tally,
    /// The present value of a gauge.
    pub gauge: Option<f64>,
}

/// A store that failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached now; later, again.
    #[error("the store is away: {0}")]
    Away(String),
    /// What it holds is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// It holds buckets of another width.
    #[error(
        "the store holds buckets of {} ms, and flush.bucket says otherwise: write that, or give `store.url` another \
         directory",
        found_ms
    )]
    OtherBucket {
        /// Their width in milliseconds.
        found_ms: i64,
    },
    /// The nodes that count into it agree on something else.
    #[error(
        "{key} is {ours} here, and {theirs} on the nodes that count into this Redis: all of them must have the same; \
         another `store.prefix` is another store"
    )]
    Differs {
        /// The key of the configuration.
        key: String,
        /// What it says there.
        theirs: String,
        /// What it says here.
        ours: String,
    },
    /// A later version of tallyd has changed its layout.
    #[error(
        "this Redis is written by a later version of tallyd (its layout is {found}, this one knows {known}); nothing was \
         changed in it. Run that version, or write another `store.prefix`, which is another store"
    )]
    Later {
        /// The number of its layout.
        found: String,
        /// The highest that we know.
        known: String,
    },
    /// It throws things away when its memory is full.
    #[error(
        "this Redis may throw counts away: its maxmemory-policy is {policy}; set it to noeviction \
         (`redis-cli config set maxmemory-policy noeviction`, and in its file)"
    )]
    Evicts {
        /// How it chooses.
        policy: String,
    },
}

impl StoreError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Damaged(_)
            | Self::OtherBucket { .. }
            | Self::Differs { .. }
            | Self::Later { .. }
            | Self::Evicts { .. } => false,
        }
    }
}

/// Notes by name, which all nodes over a store see and one of them acts on.
pub trait Board: Send + Sync {
    /// All of them with the number of this state, unless that is still `seen`.
    fn read(&self, seen: Option<u64>) -> Result<Option<Notes>, StoreError>;
    /// Puts up a note, unless there is one of its name; whether it did.
    fn post(&self, name: &str, text: &str) -> Result<bool, StoreError>;
    /// Writes a note anew, or takes it down.
    fn change(&self, name: &str, text: Option<&str>) -> Result<(), StoreError>;
    /// Whether this node acts on them now; of several, one does.
    fn is_ours(&self) -> bool;
}

/// What stands on a [`Board`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Grows with every change.
    pub state: u64,
    /// By name.
    pub notes: BTreeMap<String, String>,
}

/// Where buckets stand. Shared by the flusher, which applies and folds, the forwarders, which state and
/// strike, and readers.
pub trait Store: Send + Sync {
    /// Among how many parts the series are spread. Each has its own producers: the last 16 bits of a producer say
    /// which part its batches are of.
    fn partitions(&self) -> usize {
        1
    }
    /// The part that a series belongs to.
    fn partition_of(&self, _series: &Series) -> usize {
        0
    }
    /// Adds a batch to its bucket, once by its name.
    fn apply(&self, batch: Batch, now: WallMs) -> Result<Applied, StoreError>;
    /// Passes over batches that are lost, so that the ones behind them can be applied.
    fn pass(&self, producer: u128, first: u64, last: u64) -> Result<Applied, StoreError>;
    /// Seals every bucket that ended before `due`, and amends sealed ones that got more.
    fn fold(&self, due: WallMs, now: WallMs) -> Result<Folded, StoreError>;
    /// What a destination still needs, newest first.
    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>, StoreError>;
    /// A sealed bucket, whole, as it is now.
    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>, StoreError>;
    /// What is to be stated of a bucket, as it is now.
    fn state(&self, one: Outstanding) -> Result<Option<Arc<Sealed>>, StoreError> {
        self.sealed(one.bucket)
    }
    /// Of a sealed bucket the series of a cohort.
    fn sealed_of(&self, bucket: WallMs, cohort: Cohort) -> Result<Option<Sealed>, StoreError>;
    /// Series that are new to a destination, oldest first.
    fn cohorts(&self, destination: usize) -> Vec<Cohort>;
    /// A cohort was stated again, as often and with as many points as it says; `done` when it need not be any more.
    fn restated(&self, destination: usize, cohort: Cohort, done: bool);
    /// Takes a bucket off a destination's list, if that version is still what it needs. Until it is settled it is on
    /// the list again after a restart.
    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool, StoreError>;
    /// What was struck off need not be stated again, not even after a restart.
    fn settle(&self, destination: usize, buckets: &[WallMs]);
    /// Puts buckets on a destination's list again, those that are kept still; returns how many were not on it.
    fn state_again(&self, destination: usize, buckets: &[WallMs]) -> usize;
    /// A delivery to a destination ended without confirmation: what was sent may still arrive.
    fn unconfirmed(&self, _destination: usize) {}
    /// The buckets of each series at a level of the ladder, oldest first, that overlap `[from, to)`: sealed and
    /// pending together. A bucket without samples is left out; for gauges that were idle there is one that says
    /// what they stood at.
    fn read(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError>;
    /// The same for pages, which ask again and again: where other nodes share the store it may be a moment old, so that
    /// many questions cost hardly more than one.
    fn glance(
        &self,
        series: &[Series],
        level: usize,
        from: WallMs,
        to: WallMs,
    ) -> Result<Vec<Vec<Reading>>, StoreError> {
        self.read(series, level, from, to)
    }
    /// All series that anything is kept of and that match, sorted by key.
    fn series(&self, matches: &dyn Fn(&Series) -> bool) -> Result<Vec<Series>, StoreError>;
    /// The levels at which a series is kept, finest first, with how long each is, in milliseconds.
    fn levels_of(&self, series: &Series) -> Vec<(usize, i64)>;
    /// All levels.
    fn ladder(&self) -> &Ladder;
    /// Up to where merges of buckets are exact.
    fn bounds(&self) -> Bounds;
    /// All known series of a kind as they are now.
    fn present(&self, kind: Kind) -> Result<Vec<Present>, StoreError>;
    /// Forgets the series of a kind whose keys match, with what the open bucket has of them; returns them.
    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError>;
    /// Where notes are put up for all nodes over this store; `None` where a process is alone with it.
    fn board(&self) -> Option<&dyn Board> {
        None
    }
    /// How many series are known.
    fn series_count(&self) -> usize;
    /// From now on idle series follow these rules.
    fn set_idle_rules(&self, rules: IdleRules);
    /// Bytes of buckets in memory that nothing else holds; `None` where they are on disk, or with another.
    fn history_bytes(&self) -> Option<usize> {
        None
    }
    /// How many such bytes there may be from now on: of buckets that every destination has, and of all.
    fn hold_history(&self, _had: usize, _all: usize) {}
    /// Places have run out: gives up series that had samples once and never again, with all that is kept of them, about
    /// as many as are asked for. Returns how many that were.
    fn make_room(&self, _series: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
    /// Writes to disk what is in memory alone; returns what need not be applied again. Does nothing where there is
    /// no disk. Others go on meanwhile.
    fn checkpoint(&self, now: WallMs) -> Result<Vec<Confirmed>, StoreError>;
    /// Whether what was counted is safe.
    fn durability(&self) -> Durability;
    /// Writes a consistent copy of all that is kept to a new file; returns how many keys it has.
    fn backup(&self, to: &Path, now: WallMs) -> Result<u64, StoreError>;
    /// What is promised, in one plain line.
    fn promise(&self) -> String;
    /// How it is doing, where other nodes count into it too.
    fn sharing(&self) -> Option<Sharing> {
        None
    }
    /// Ends its threads, and leaves to other nodes what it held for them.
    fn close(&self) {}
}
