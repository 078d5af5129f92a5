//! What every store promises; one suite of tests runs on all of them.
//!
//! A *batch* is applied once by its name (producer, number), however often it is sent. *Fold* seals what is
//! due and amends what came late, and gives each result a version of its own. What Graphite still needs is
//! listed for each destination, read as a whole bucket, and struck off only in the version that was sent:
//! a bucket amended meanwhile stays on the list. Reading is sealed and pending together.

use crate::clock::WallMs;
use crate::metric::{Kind, Series, Tally, Width};
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
}

/// The store and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which store.
    pub url: StoreUrl,
    /// Bytes that buckets may take (`limits.memory_max`).
    pub memory_bytes_max: usize,
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
    /// The version it has now.
    pub version: u64,
}

/// What a fold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Buckets sealed for the first time.
    pub sealed: u64,
    /// Sealed buckets changed by late batches.
    pub amended: u64,
    /// Buckets let go before every destination had them, for want of memory.
    pub shed: u64,
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
}

impl StoreError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away(_) => true,
        }
    }
}

/// Where buckets stand. Shared by the flusher, which applies and folds, the forwarders, which state and
/// strike, and readers.
pub trait Store: Send + Sync {
    /// Adds a batch to its bucket, once by its name.
    fn apply(&self, batch: Batch, now: WallMs) -> Result<Applied, StoreError>;
    /// Seals every bucket that ended before `due`, and amends sealed ones that got more.
    fn fold(&self, due: WallMs, now: WallMs) -> Result<Folded, StoreError>;
    /// What a destination still needs, newest first.
    fn outstanding(&self, destination: usize) -> Result<Vec<Outstanding>, StoreError>;
    /// A sealed bucket, whole, as it is now.
    fn sealed(&self, bucket: WallMs) -> Result<Option<Arc<Sealed>>, StoreError>;
    /// Takes a bucket off a destination's list, if that version is still what it needs.
    fn strike(&self, destination: usize, stated: Outstanding) -> Result<bool, StoreError>;
    /// Puts all buckets that end after `since` on a destination's list again; returns how many.
    fn state_again(&self, destination: usize, since: WallMs) -> Result<usize, StoreError>;
    /// The tallies of one series by bucket, sealed and pending together, in `[from, to)`.
    fn read(&self, series: &Series, from: WallMs, to: WallMs) -> Result<Vec<(WallMs, Tally)>, StoreError>;
    /// All known series of a kind as they are now.
    fn present(&self, kind: Kind) -> Result<Vec<Present>, StoreError>;
    /// Forgets the series of a kind whose keys match, with what the open bucket has of them; returns them.
    fn forget(&self, kind: Kind, matches: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError>;
    /// How many series are known.
    fn series_count(&self) -> usize;
    /// From now on idle series follow these rules.
    fn set_idle_rules(&self, rules: IdleRules);
    /// What is promised, in one plain line.
    fn promise(&self) -> String;
}
