//! Keeping batches safe on the way to the store: in the journal until a checkpoint of the store holds them.
//!
//! ```text
//!   each tick     keep: every batch of the tick encoded and appended, one sync     ─▶ then they are applied
//!   checkpoints   the thread that writes them leaves word in `Written`             ─▶ the journal lets go of them
//!   a start       recover: what the last process left is applied; the store knows what it has already
//! ```
//!
//! Where the journal fails counting goes on in memory, and is said to be not durable. It is safe again with the
//! next checkpoint that works: that holds everything, whether it was in the journal or not. That the journal takes
//! batches again is not enough, for those it did not take are in memory still.

use crate::clock::WallMs;
use crate::health::Books;
use crate::journal::{Journal, Recovered};
use crate::metric::Width;
use crate::store::{Applied, Batch, Confirmed, Store, StoreError};
use crate::wire::batch::{Dictionary, Names, push_batch_with, read_batch_with};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// What checkpoints have written: left by the thread that writes them, taken by the flusher.
#[derive(Debug, Default)]
pub struct Written(Mutex<Option<Vec<Confirmed>>>);

impl Written {
    /// A checkpoint has worked.
    pub fn leave(&self, mut confirmed: Vec<Confirmed>) {
        // Each says what is new in it.
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.get_or_insert_default().append(&mut confirmed);
    }

    fn take(&self) -> Option<Vec<Confirmed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The journal, if there is one, and what it knows of names.
#[derive(Debug, Default)]
pub struct Safe {
    journal: Option<Journal>,
    written: Arc<Written>,
    books: Arc<Books>,
    dictionary: Dictionary,
    /// The segment that the dictionary is of.
    segment: Option<u64>,
    buffer: Vec<u8>,
    missing: Option<Missing>,
    /// It was said that the journal fails.
    said: bool,
}

/// Batches that are in memory alone, since the journal did not take them.
#[derive(Debug)]
struct Missing {
    producer: u128,
    /// The last of them.
    number: u64,
    since: WallMs,
    cause: String,
}

impl Safe {
    /// Keeps batches in a journal; `None` keeps nothing.
    #[must_use]
    pub fn new(journal: Option<Journal>, books: Arc<Books>) -> Self {
        Self { journal, books, ..Self::default() }
    }

    /// Where checkpoints leave word.
    #[must_use]
    pub fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Brings batches to the disk, as far as it takes them.
    pub fn keep(&mut self, batches: &[Batch], now: WallMs) {
        self.keep_keyed(&[], batches, now);
    }

    /// The same, and before them those of requests; whether these are on the disk for certain. Where they are not,
    /// they are not to be counted either: whoever sent them will send them again.
    pub fn keep_keyed(&mut self, keyed: &[Batch], batches: &[Batch], now: WallMs) -> bool {
        let Some(mut journal) = self.journal.take() else {
            return false;
        };
        let durable = if keyed.is_empty() {
            self.append(&mut journal, batches.iter(), now);
            true
        } else {
            let all = keyed.iter().chain(batches);
            let (whole, named) = journal.synced(|journal| self.append(journal, all, now));
            whole && named.is_ok() && journal.is_durable()
        };
        if let (Some(trouble), Some(last)) = (journal.not_durable(), batches.last()) {
            self.missing = Some(Missing {
                producer: last.producer,
                number: last.number,
                since: self.missing.as_ref().map_or(trouble.since, |missing| missing.since),
                cause: trouble.cause.clone(),
            });
        }
        self.say(&journal);
        self.journal = Some(journal);
        durable
    }

    /// Why what came last is not durable.
    #[must_use]
    pub fn trouble(&self) -> String {
        let trouble = self.journal.as_ref().and_then(|journal| journal.not_durable());
        trouble.map_or_else(|| "nothing is kept on a disk".to_owned(), |trouble| trouble.cause.clone())
    }

    /// Appends batches and brings them to the disk; whether all of them are there.
    fn append<'a>(
        &mut self,
        journal: &mut Journal,
        batches: impl Iterator<Item = &'a Batch>,
        now: WallMs,
    ) -> bool {
        let mut whole = true;
        for batch in batches {
            let Some(segment) = journal.segment(now) else {
                whole = false;
                break;
            };
            if self.segment != Some(segment) {
                self.segment = Some(segment);
                self.dictionary = Dictionary::default();
            }
            self.buffer.clear();
            let entries = batch.entries.iter().map(|(series, tally)| (series, tally));
            push_batch_with(
                &mut self.dictionary,
                &mut self.buffer,
                batch.producer,
                batch.number,
                batch.bucket,
                entries,
            );
            if journal.append(batch.producer, batch.number, &self.buffer, now).is_err() {
                // It says why when it is asked whether it is durable.
                whole = false;
                break;
            }
        }
        journal.sync(now).is_ok() && whole
    }

    fn say(&mut self, journal: &Journal) {
        let now = journal.not_durable().map(|trouble| trouble.cause.clone());
        let trouble = self.missing.as_ref().map(|missing| {
            let before = || format!("{}; that is over, and waits for the next checkpoint", missing.cause);
            (now.unwrap_or_else(before), missing.since)
        });
        self.books.journal.bytes.store(journal.bytes(), Ordering::Relaxed);
        match (&trouble, self.said) {
            (Some((cause, _)), false) => tracing::error!("not durable: {cause}; counting goes on in memory"),
            (None, true) => {
                tracing::info!("durable again: the journal takes batches, and the rest is written");
            }
            _ => {}
        }
        self.said = trouble.is_some();
        self.books.journal.set_failing(trouble);
    }

    /// Lets go of what the last checkpoint holds, if there was one.
    pub fn confirm_written(&mut self, now: WallMs) {
        if let Some(confirmed) = self.written.take() {
            self.confirm(&confirmed, now);
        }
    }

    /// Lets go of what a checkpoint holds.
    pub fn confirm(&mut self, confirmed: &[Confirmed], now: WallMs) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        for one in confirmed {
            self.missing.take_if(|lost| lost.producer == one.producer && lost.number <= one.number);
        }
        if let Err(error) = journal.confirm_all(confirmed.iter().map(|one| (one.producer, one.number))) {
            tracing::debug!(%error, "a segment of the journal stays until the next checkpoint");
        }
        // The open segment is closed, so that the next checkpoint can let go of it.
        if let Err(error) = journal.finish(now) {
            tracing::debug!(%error, "the journal's segment could not be closed in order");
        }
        self.say(&journal);
        self.journal = Some(journal);
    }
}

/// What a start found in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Batches that the store did not have yet.
    pub applied: u64,
    /// Batches that it had.
    pub known: u64,
    /// Batches that were not whole, or that refer to names that were not.
    pub unreadable: u64,
    /// Batches whose bucket is gone.
    pub late: u64,
}

/// Applies what the journal holds to the store.
pub fn recover(
    journal: &Journal,
    recovered: &Recovered,
    store: &dyn Store,
    width: Width,
) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed::default();
    for &segment in &recovered.segments {
        let Ok(contents) = journal.read(segment) else {
            continue;
        };
        let mut names = Names::default();
        for record in contents.records() {
            let Ok(decoded) = read_batch_with(&mut names, record.payload) else {
                replayed.unreadable += 1;
                continue;
            };
            let (producer, number, bucket) = (decoded.producer, decoded.number, decoded.bucket);
            // As if it came in time: it was counted then.
            let then = bucket.saturating_add(width.ms());
            loop {
                let entries = decoded.entries.clone();
                let batch = Batch { producer, number, bucket, entries };
                match store.apply(batch, then)? {
                    Applied::Done => replayed.applied += 1,
                    Applied::Duplicate => replayed.known += 1,
                    Applied::Late => replayed.late += 1,
                    Applied::Gap { watermark } => {
                        store.pass(producer, watermark + 1, number - 1)?;
                        continue;
                    }
                }
                break;
            }
        }
    }
    Ok(replayed)
}
