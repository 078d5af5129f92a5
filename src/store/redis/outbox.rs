//! What waits to be sent to Redis, by stream, and what of it is on its way to be confirmed.
//!
//! The flusher and the sender's thread meet here, and neither waits for the other for long. Where Redis falls back
//! behind what was to be confirmed, that is taken back (confirm.rs), and of other streams in that partition nothing
//! counts as known any more.

use super::confirm::Confirmer;
use super::layout::{Layout, partition_of_producer};
use super::stream::{Packet, Stream};
use crate::health::Books;
use crate::limits;
use crate::store::{Batch, Confirmed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Streams to some partitions, which share a connection.
pub(super) struct Outbox {
    streams: Mutex<BTreeMap<u128, Stream>>,
    pub(super) news: Condvar,
    confirmed: Mutex<Confirmer>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { streams: Mutex::default(), news: Condvar::new(), confirmed: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken while that of the streams is held, or alone.
    pub(super) fn confirmed(&self) -> MutexGuard<'_, Confirmer> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where Redis fell back, what was to be confirmed is not, and nothing is known of others in that partition.
    pub(super) fn fall_back(&self) {
        let mut streams = self.lock();
        let fell = streams.iter_mut().filter_map(|(&producer, stream)| Some((producer, stream.fell_back()?)));
        let fell: BTreeMap<u128, u64> = fell.collect();
        if fell.is_empty() {
            return;
        }
        let partitions: BTreeSet<usize> =
            fell.keys().map(|producer| partition_of_producer(*producer)).collect();
        for (producer, stream) in streams.iter_mut() {
            if partitions.contains(&stream.partition) && !fell.contains_key(producer) {
                stream.watermark = None;
                stream.marked = false;
            }
        }
        self.confirmed().fell_back(&fell);
    }

    /// Takes a batch to be sent. Beyond a bound what waits is left to the journal.
    pub(super) fn push(&self, layout: &Layout, batch: &Batch, books: &Books) {
        let packet = Packet::new(layout, batch);
        let mut streams = self.lock();
        let bytes: usize = streams.values().map(|stream| stream.bytes).sum();
        if bytes + packet.bytes.len() > limits::REDIS_QUEUE_BYTES_MAX && books.journal.failing().is_none() {
            streams.values_mut().for_each(Stream::forget_queued);
        }
        streams.entry(batch.producer).or_insert_with(|| Stream::new(batch.producer, 0, false)).push(packet);
        drop(streams);
        self.news.notify_all();
    }

    /// What a process before us left in the journal.
    pub(super) fn add_old(&self, producer: u128, last: u64) {
        self.lock().insert(producer, Stream::new(producer, last, true));
    }

    /// Whether Redis has everything.
    pub(super) fn is_done(&self) -> bool {
        self.lock().values().all(Stream::is_done)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.lock().values().map(|stream| stream.bytes).sum()
    }

    /// Wakes the sender.
    pub(super) fn wake(&self) {
        self.news.notify_all();
    }

    /// What was confirmed at least `hold` ago.
    pub(super) fn ripe(&self, hold: Duration) -> Vec<Confirmed> {
        let mut streams = self.lock();
        let is_known = |producer| streams.get(&producer).is_none_or(|stream| stream.watermark.is_some());
        let ripe = self.confirmed().ripe(hold, is_known);
        for one in &ripe {
            if streams.get(&one.producer).is_some_and(|stream| stream.old && stream.last <= one.number) {
                streams.remove(&one.producer);
            }
        }
        ripe
    }
}
