//! Samples that come as one request with a key, and are counted once however often the request is sent.
//!
//! In come lines; out come tallies in *groups*, one for each bucket that the lines name by a timestamp, and one for those
//! that name none. A group has a number that follows from the lines alone: lines that are too late or too early are
//! refused, but their group keeps its number, so that the same lines sent again later fall into the same groups. It
//! knows nothing of ticks; a table of its own counts, as an ingest thread's does.

use super::Options;
use super::registry::Registry;
use super::table::{Cell, Table};
use crate::clock::WallMs;
use crate::health::{Intake, Refusal};
use crate::limits;
use crate::metric::Series;
use crate::wire::statsd::{self, Grammar, Sample, Visitor};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What lines are made into tallies with.
#[derive(Clone, Debug)]
pub struct Lines {
    options: Arc<Options>,
    registry: Arc<Registry>,
    grammar: Grammar,
}

/// The tallies of one bucket; `None` is that of the tick in which they are counted.
pub type Group = (Option<WallMs>, Vec<(Series, Option<WallMs>, Cell)>);

/// What the lines of a request came to.
#[derive(Debug, Default)]
pub struct Gathered {
    /// By number; one may be empty.
    pub groups: Vec<Group>,
    /// What is entered into the books.
    pub intake: Intake,
    /// Which lines had something that was refused, from 1, and why; the first of them.
    pub refused: Vec<(u64, Refusal)>,
}

/// The lines name more buckets than one request may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyBuckets;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is counted, and no crash undoes that.
    Counted {
        /// It was before, and nothing was added to it now.
        before: bool,
    },
    /// The key was another request's.
    OtherRequest,
    /// It is not counted now, since it could not be made durable: why. It has to be sent again.
    NotDurable(String),
    /// It is not counted, since more keys came lately than can be remembered.
    TooManyKeys,
}

/// A request on its way to the flusher.
pub struct Request {
    /// Which.
    pub key: Key,
    /// What is in it.
    pub gathered: Gathered,
    /// Told what became of it. Dropped where nobody will count it.
    pub done: Box<dyn FnOnce(Outcome) + Send>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A key, and what it stands for, by their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the key.
    pub name: u128,
    /// Of the lines.
    pub lines: u64,
}

impl Key {
    /// The key of a request.
    #[must_use]
    pub fn new(key: &[u8], lines: &[u8]) -> Self {
        let name = Sha256::digest([b"tallyd idempotency key\n", key].concat());
        let lines = Sha256::digest(lines);
        let (name, _) = name.as_slice().split_first_chunk().unwrap_or((&[0; 16], &[]));
        let (lines, _) = lines.as_slice().split_first_chunk().unwrap_or((&[0; 8], &[]));
        Self { name: u128::from_le_bytes(*name), lines: u64::from_le_bytes(*lines) }
    }
}

/// Counts the lines of one request, with a table for each group.
struct Counter<'a> {
    lines: &'a Lines,
    now: WallMs,
    /// The line that is read.
    line: u64,
    tables: BTreeMap<Option<WallMs>, Table>,
    gathered: Gathered,
    too_many: bool,
}

impl Lines {
    /// Counts as the ingest threads do.
    #[must_use]
    pub fn new(options: Arc<Options>, registry: Arc<Registry>, grammar: Grammar) -> Self {
        Self { options, registry, grammar }
    }

    /// Counts the lines of one request.
    pub fn gather(&self, text: &[u8], now: WallMs) -> Result<Gathered, TooManyBuckets> {
        let mut counter = Counter {
            lines: self,
            now,
            line: 0,
            tables: BTreeMap::new(),
            gathered: Gathered::default(),
            too_many: false,
        };
        for line in text.split(|&byte| byte == b'\n') {
            counter.line += 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_line = statsd::line(self.grammar, line, &mut counter);
            counter.gathered.intake.lines += u64::from(is_line);
            if counter.too_many {
                return Err(TooManyBuckets);
            }
        }
        let Counter { tables, mut gathered, .. } = counter;
        gathered.intake.bytes = text.len() as u64;
        gathered.intake.overflow = tables.values().map(Table::overflowed).sum();
        let exact_max = self.options.bounds.timer_exact_max;
        gathered.groups =
            tables.into_iter().map(|(bucket, table)| (bucket, table.into_cells(exact_max))).collect();
        Ok(gathered)
    }
}

impl Visitor for Counter<'_> {
    fn sample(&mut self, sample: &Sample<'_>) {
        let width = self.lines.options.bucket;
        let bucket = sample.timestamp.map(|seconds| width.start_of(seconds.saturating_mul(1_000)));
        if !self.tables.contains_key(&bucket) && self.tables.len() >= limits::REQUEST_BUCKETS_MAX {
            self.too_many = true;
            return;
        }
        let Lines { options, registry, .. } = self.lines;
        let new = || Table::new(Arc::clone(options), Arc::clone(registry));
        match self.tables.entry(bucket).or_insert_with(new).record(sample, self.now) {
            Ok(()) => self.gathered.intake.samples += 1,
            Err(reason) => self.refused(reason),
        }
    }

    fn refused(&mut self, reason: Refusal) {
        self.gathered.intake.refuse(reason);
        if self.gathered.refused.len() < limits::REQUEST_REFUSED_SHOWN {
            self.gathered.refused.push((self.line, reason));
        }
    }

    fn field_ignored(&mut self) {
        self.gathered.intake.fields_ignored += 1;
    }

    fn event(&mut self) {
        self.gathered.intake.events += 1;
    }

    fn service_check(&mut self) {
        self.gathered.intake.service_checks += 1;
    }
}
