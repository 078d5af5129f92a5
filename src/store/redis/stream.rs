//! What one producer has for one partition: numbered batches on their way to Redis.
//!
//! ```text
//!   journal ─▶ refilled ─┐
//!                        ├─▶ watermark + 1, + 2, … ─▶ apply ─▶ ok · dup · gap: the watermark says what to send next
//!   flusher ─▶ queue ────┘                                 └─▶ late: at the next coarser level, or passed over
//! ```
//!
//! The watermark says what to send, never what may be let go of. What was applied leaves the memory here, since the
//! journal has it; what is neither here nor there is lost, and passed over aloud.

use super::layout::{Bucket, Layout, partition_of_producer};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::Tally;
use crate::store::{Batch, KEYED};
use crate::wire::batch::push_batch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A batch as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) number: u64,
    /// Start of its finest bucket.
    pub(super) start: WallMs,
    /// The level it is sent to; `None` where it is late for all of them.
    pub(super) level: Option<usize>,
    pub(super) bytes: Arc<[u8]>,
    /// What it adds to figures of its day.
    pub(super) figures: Arc<[(String, i64)]>,
}

impl Packet {
    pub(super) fn new(layout: &Layout, batch: &Batch) -> Self {
        let mut bytes = Vec::new();
        let entries = batch.entries.iter().map(|(series, tally)| (series, tally));
        push_batch(&mut bytes, batch.producer, batch.number, batch.bucket, entries);
        let figures = if partition_of_producer(batch.producer) == layout.figures() {
            figures(batch)
        } else {
            Vec::new()
        };
        Self {
            number: batch.number,
            start: batch.bucket,
            level: Some(0),
            bytes: bytes.into(),
            figures: figures.into(),
        }
    }

    /// The bucket it is sent to.
    pub(super) fn bucket(&self, layout: &Layout) -> Option<Bucket> {
        let level = self.level?;
        Some(Bucket { level, start: layout.ladder.span_of(level, self.start).start })
    }
}

/// Counters of a batch as whole numbers: a function of the batch alone, since it may be sent again.
fn figures(batch: &Batch) -> Vec<(String, i64)> {
    let mut figures: Vec<(String, i64)> = Vec::new();
    for (series, tally) in &batch.entries {
        let Tally::Counter(sum) = tally else {
            continue;
        };
        let whole = sum.to_f64().round() as i64;
        match figures.iter_mut().find(|(name, _)| name == series.key()) {
            Some((_, value)) => *value += whole,
            None => figures.push((series.key().to_owned(), whole)),
        }
    }
    figures.retain(|(_, value)| *value != 0);
    figures
}

/// Batches of one producer for one partition.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) partition: usize,
    /// The highest number there is.
    pub(super) last: u64,
    /// The highest number that Redis has, if that is known on this connection.
    pub(super) watermark: Option<u64>,
    /// Nothing will be added to it: it is of a process before this one, or of one request.
    pub(super) old: bool,
    /// What is applied of it has been marked to be confirmed, and that need not be said again on this connection.
    pub(super) marked: bool,
    /// Redis has told since the last look what it has.
    pub(super) seen: bool,
    /// The highest number that is on its way to be confirmed.
    pub(super) confirming: u64,
    /// From the journal, by number; more than once where Redis fell back further meanwhile.
    refilled: BTreeMap<u64, Packet>,
    queue: VecDeque<Packet>,
    /// Bytes of both.
    pub(super) bytes: usize,
    /// From which number on there was a batch of which newest bucket; of what was queued here.
    newest: VecDeque<(u64, WallMs)>,
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: Redis has all there is.
    Nothing,
    /// This batch.
    Packet(Packet),
    /// It is not in memory.
    Elsewhere,
}

impl Stream {
    pub(super) fn new(producer: u128, last: u64, old: bool) -> Self {
        Self {
            partition: partition_of_producer(producer),
            last,
            watermark: None,
            old: old || producer & KEYED != 0,
            marked: false,
            seen: false,
            confirming: 0,
            refilled: BTreeMap::new(),
            queue: VecDeque::new(),
            bytes: 0,
            newest: VecDeque::new(),
        }
    }

    /// The newest batch. One that is known is of a request that came again: it is here, or in the journal.
    pub(super) fn push(&mut self, packet: Packet) {
        if packet.number <= self.last {
            return;
        }
        self.marked = false;
        self.last = packet.number;
        self.bytes += packet.bytes.len();
        if self.newest.back().is_none_or(|(_, start)| *start < packet.start) {
            self.newest.push_back((packet.number, packet.start));
        }
        if self.newest.len() > limits::REDIS_NEWEST_MAX
            && let (Some((number, _)), Some(second)) = (self.newest.pop_front(), self.newest.front_mut())
        {
            // Of the oldest it is said that they may have been a little newer than they were.
            second.0 = number;
        }
        self.queue.push_back(packet);
    }

    /// The newest bucket that there was a batch of up to a number, late ones having come in between; of a process before
    /// us only what is still held is known.
    pub(super) fn newest_up_to(&self, number: u64) -> Option<WallMs> {
        let known = self.newest.iter().rfind(|(from, _)| *from <= number).map(|(_, start)| *start);
        known.or_else(|| self.refilled.values().chain(&self.queue).map(|packet| packet.start).max())
    }

    /// Batches from the journal.
    pub(super) fn refill(&mut self, packets: impl Iterator<Item = Packet>) {
        for packet in packets {
            if self.watermark.is_none_or(|watermark| watermark < packet.number) {
                self.bytes += packet.bytes.len();
                let before = self.refilled.insert(packet.number, packet);
                self.bytes -= before.map_or(0, |packet| packet.bytes.len());
            }
        }
    }

    /// The batch of a number, or that it must be looked for.
    pub(super) fn get(&self, number: u64) -> Next {
        if number > self.last {
            return Next::Nothing;
        }
        let queued = || {
            let at = self.queue.binary_search_by_key(&number, |packet| packet.number).ok()?;
            self.queue.get(at)
        };
        let found = self.refilled.get(&number).or_else(queued).cloned();
        found.map_or(Next::Elsewhere, Next::Packet)
    }

    /// The first number in memory after `number`.
    pub(super) fn first_after(&self, number: u64) -> Option<u64> {
        let refilled = self.refilled.range(number + 1..).map(|(number, _)| *number).next();
        let queued = self.queue.iter().map(|packet| packet.number).find(|found| *found > number);
        refilled.into_iter().chain(queued).min()
    }

    /// Redis has everything up to a number; it need not be in memory any more.
    pub(super) fn applied(&mut self, watermark: u64) {
        self.watermark = Some(watermark);
        self.seen = true;
        while self.queue.front().is_some_and(|packet| packet.number <= watermark) {
            self.bytes -= self.queue.pop_front().map_or(0, |packet| packet.bytes.len());
        }
        while let Some(entry) = self.refilled.first_entry().filter(|entry| *entry.key() <= watermark) {
            self.bytes -= entry.remove().bytes.len();
        }
    }

    /// Where Redis has less than is on its way to be confirmed, how far that goes now.
    pub(super) fn fell_back(&mut self) -> Option<u64> {
        let watermark = self.watermark.filter(|watermark| *watermark < self.confirming)?;
        self.confirming = watermark;
        Some(watermark)
    }

    /// A batch came after its bucket: the next coarser one takes it, or none.
    pub(super) fn late(&mut self, layout: &Layout, number: u64) {
        let queued = self.queue.binary_search_by_key(&number, |packet| packet.number).ok();
        let queued = queued.and_then(|at| self.queue.get_mut(at));
        for packet in self.refilled.get_mut(&number).into_iter().chain(queued) {
            packet.level = packet.level.and_then(|level| layout.coarser(self.partition, level));
        }
    }

    /// Lets go of what is in the journal as well.
    pub(super) fn forget_queued(&mut self) {
        self.queue.clear();
        self.refilled.clear();
        self.bytes = 0;
    }

    /// Whether Redis has everything, as far as is known.
    pub(super) fn is_done(&self) -> bool {
        self.watermark.is_some_and(|watermark| watermark >= self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64) -> Packet {
        Packet { number, start: 0, level: Some(0), bytes: vec![0; 10].into(), figures: Vec::new().into() }
    }

    fn numbers(stream: &Stream, range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        range.filter(|number| matches!(stream.get(*number), Next::Packet(_))).collect()
    }

    #[test]
    fn how_far_a_loss_may_go_is_never_said_to_be_less_than_it_is() {
        let late = |number: u64, start| Packet { start, ..packet(number) };
        let mut stream = Stream::new(1 << 16, 0, false);
        assert_eq!(stream.newest_up_to(9), None);
        for (number, start) in [(1, 100), (2, 40), (3, 120), (4, 110)] {
            stream.push(late(number, start));
        }
        stream.applied(4);
        let newest = [1, 2, 3, 4].map(|number| stream.newest_up_to(number));
        assert_eq!(newest, [100, 100, 120, 120].map(Some));
        // However many there were, memory is bounded, and what is said errs to the newer side.
        let all = limits::REDIS_NEWEST_MAX as u64 + 50;
        (5..=all).for_each(|number| stream.push(late(number, 1_000 + number as i64)));
        assert_eq!(stream.newest.len(), limits::REDIS_NEWEST_MAX);
        assert_eq!(stream.newest_up_to(all), Some(1_000 + all as i64));
        assert!(stream.newest_up_to(1) >= Some(100));
        // Of a process before us there is what the journal has.
        let mut old = Stream::new(1 << 16, 9, true);
        old.refill([late(7, 50), late(8, 70), late(9, 60)].into_iter());
        assert_eq!(old.newest_up_to(6), Some(70));
    }

    #[test]
    fn what_falls_back_further_is_found_again() {
        let mut stream = Stream::new(1 << 16, 0, false);
        (1..=9).for_each(|number| stream.push(packet(number)));
        stream.applied(9);
        assert!(stream.is_done() && stream.bytes == 0);
        stream.applied(6);
        assert!(matches!(stream.get(7), Next::Elsewhere));
        stream.refill((7..=9).map(packet));
        stream.applied(7);
        // Redis falls back behind what is here of before.
        stream.applied(2);
        stream.refill((3..=6).map(packet));
        assert_eq!(numbers(&stream, 1..=20), [3, 4, 5, 6, 8, 9]);
        assert_eq!((stream.first_after(6), stream.bytes), (Some(8), 60));
        stream.applied(9);
        assert_eq!((stream.first_after(0), stream.bytes), (None, 0));
        assert!(matches!(stream.get(10), Next::Nothing));
    }
}
