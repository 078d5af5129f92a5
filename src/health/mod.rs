//! Our own counters: the books.
//!
//! What is received is counted, or refused with a reason; [`Refusal`] names every reason there is and its
//! variants are the labels of a counter. Stages add to the books; status, `/metrics` and statsd's own
//! figures read them. This file knows no stage.

mod offenders;

pub use offenders::{Offender, Offenders, OffendingPrefixes, OffendingSenders};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Why something that arrived was not counted. Small, `Copy`, without text: it never travels as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// A line without a value (`name`), or a value without a type (`name:1`).
    NoType,
    /// Nothing before the first colon.
    EmptyName,
    /// The name is longer than `limits.name_bytes_max`, or nothing of it is left after cleaning.
    BadName,
    /// A value that is not a number in decimal notation.
    BadValue,
    /// A number that is infinite, or too large for a double.
    NotFinite,
    /// A timer below zero.
    NegativeTimer,
    /// A type nobody knows, where `names.unknown_type` is `refuse`.
    UnknownType,
    /// A sample rate that is not a positive number.
    BadRate,
    /// A `|T` timestamp that is not a whole number of seconds.
    BadTimestamp,
    /// A `|T` timestamp older than `flush.amend_window`.
    TooLate,
    /// A `|T` timestamp too far in the future.
    TooEarly,
    /// More tags than `limits.tags_max`, or a tag list that is too long.
    TooManyTags,
    /// An event or service check that does not follow its own grammar.
    BadEvent,
    /// A stream line longer than the limit.
    LineTooLong,
    /// The last, cut line of a datagram that did not fit the buffer.
    Truncated,
    /// A stream closed in the middle of a line.
    Unterminated,
    /// The sender is not in `ingest.allow`.
    Source,
    /// A new series for which not even an overflow series has room.
    SeriesLimit,
    /// More series with timestamps of their own in one tick than there is room for.
    TimedLimit,
    /// A connection beyond the limit, closed at once.
    ConnectionLimit,
    /// `names.declared_only` is set, and nobody has declared this name.
    NotDeclared,
    /// The sender is beyond `limits.sender_rate`.
    SenderRate,
    /// A datagram that no known key has signed, or that is cut.
    BadSignature,
    /// A signed datagram older than `ingest.signed_window`.
    SignedLate,
    /// A signed datagram from further in the future than that.
    SignedEarly,
    /// A signed datagram that came before.
    Replayed,
    /// A signed datagram beyond those that can be told from replays.
    SignatureLimit,
    /// A connection to `ingest.tls` without a handshake in time.
    TlsHandshake,
    /// A connection beyond `limits.sender_connections`, closed at once.
    SenderConnections,
    /// A stream that begins as a request of HTTP does, hung up on.
    HttpRequest,
}

impl Refusal {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 30] = [
        Self::NoType,
        Self::EmptyName,
        Self::BadName,
        Self::BadValue,
        Self::NotFinite,
        Self::NegativeTimer,
        Self::UnknownType,
        Self::BadRate,
        Self::BadTimestamp,
        Self::TooLate,
        Self::TooEarly,
        Self::TooManyTags,
        Self::BadEvent,
        Self::LineTooLong,
        Self::Truncated,
        Self::Unterminated,
        Self::Source,
        Self::SeriesLimit,
        Self::TimedLimit,
        Self::ConnectionLimit,
        Self::NotDeclared,
        Self::SenderRate,
        Self::BadSignature,
        Self::SignedLate,
        Self::SignedEarly,
        Self::Replayed,
        Self::SignatureLimit,
        Self::TlsHandshake,
        Self::SenderConnections,
        Self::HttpRequest,
    ];
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label of the counter.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoType => "no_type",
            Self::EmptyName => "empty_name",
            Self::BadName => "bad_name",
            Self::BadValue => "bad_value",
            Self::NotFinite => "not_finite",
            Self::NegativeTimer => "negative_timer",
            Self::UnknownType => "unknown_type",
            Self::BadRate => "bad_rate",
            Self::BadTimestamp => "bad_timestamp",
            Self::TooLate => "too_late",
            Self::TooEarly => "too_early",
            Self::TooManyTags => "too_many_tags",
            Self::BadEvent => "bad_event",
            Self::LineTooLong => "line_too_long",
            Self::Truncated => "truncated",
            Self::Unterminated => "unterminated",
            Self::Source => "source",
            Self::SeriesLimit => "series_limit",
            Self::TimedLimit => "timed_limit",
            Self::ConnectionLimit => "connection_limit",
            Self::NotDeclared => "not_declared",
            Self::SenderRate => "sender_rate",
            Self::BadSignature => "bad_signature",
            Self::SignedLate => "signed_late",
            Self::SignedEarly => "signed_early",
            Self::Replayed => "replayed",
            Self::SignatureLimit => "signature_limit",
            Self::TlsHandshake => "tls_handshake",
            Self::SenderConnections => "sender_connections",
            Self::HttpRequest => "http_request",
        }
    }

    /// Whether statsd would call this a bad line: something it could not read. The other reasons are ours.
    #[must_use]
    pub fn is_bad_line(self) -> bool {
        !matches!(
            self,
            Self::Source
                | Self::SeriesLimit
                | Self::TimedLimit
                | Self::ConnectionLimit
                | Self::NotDeclared
                | Self::SenderRate
                | Self::BadSignature
                | Self::SignedLate
                | Self::SignedEarly
                | Self::Replayed
                | Self::SignatureLimit
                | Self::TlsHandshake
                | Self::SenderConnections
                | Self::HttpRequest
        )
    }
}

/// What one ingest thread has seen since its last hand-over. Plain numbers: only that thread writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Datagrams, or stream reads that completed a line.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Non-empty lines, bad ones included.
    pub lines: u64,
    /// Values that were counted.
    pub samples: u64,
    /// Of those, values counted in overflow series, since their own found no place.
    pub overflow: u64,
    /// Series that this thread met for the first time, on any thread.
    pub series_made: u64,
    /// DogStatsD events, taken and counted, not kept.
    pub events: u64,
    /// DogStatsD service checks, taken and counted, not kept.
    pub service_checks: u64,
    /// Fields of a line that are not known and were passed over.
    pub fields_ignored: u64,
    /// Datagrams the kernel dropped because the receive buffer was full.
    pub kernel_drops: u64,
    /// Values, lines or datagrams refused, by reason.
    pub refused: [u64; Refusal::COUNT],
    /// All of those.
    pub refused_total: u64,
}

impl Intake {
    /// Counts one refusal.
    pub fn refuse(&mut self, reason: Refusal) {
        self.refuse_many(reason, 1);
    }

    /// Counts refusals.
    pub fn refuse_many(&mut self, reason: Refusal, count: u64) {
        if let Some(refused) = self.refused.get_mut(reason as usize) {
            *refused += count;
        }
        self.refused_total += count;
    }

    /// Refusals that statsd would call bad lines.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        Refusal::ALL.iter().zip(self.refused).filter(|(reason, _)| reason.is_bad_line()).map(|(_, n)| n).sum()
    }

    /// Adds what another thread has seen.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.samples += other.samples;
        self.overflow += other.overflow;
        self.series_made += other.series_made;
        self.refused_total += other.refused_total;
        self.events += other.events;
        self.service_checks += other.service_checks;
        self.fields_ignored += other.fields_ignored;
        self.kernel_drops += other.kernel_drops;
        for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
            *mine += theirs;
        }
    }
}

/// The books of the whole process. Written by the flusher and the forwarders, read by anyone; every number
/// stands for itself, so relaxed order is enough.
#[derive(Debug, Default)]
pub struct Books {
    /// See [`Intake`]; totals since the start.
    pub packets: AtomicU64,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Non-empty lines.
    pub lines: AtomicU64,
    /// Values counted.
    pub samples: AtomicU64,
    /// Of those, values counted in overflow series.
    pub overflow: AtomicU64,
    /// About how many names those had.
    pub overflow_names: AtomicU64,
    /// Events seen.
    pub events: AtomicU64,
    /// Service checks seen.
    pub service_checks: AtomicU64,
    /// Unknown fields passed over.
    pub fields_ignored: AtomicU64,
    /// Datagrams dropped by the kernel.
    pub kernel_drops: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
    /// HTTP connections hung up on, since all places were taken.
    pub http_refused: AtomicU64,
    /// The same, since their address had all it may have.
    pub http_refused_of_sender: AtomicU64,
    /// Wall time of the last packet, in milliseconds.
    pub last_packet_ms: AtomicI64,
    /// Wall time of the last tick, in milliseconds.
    pub last_tick_ms: AtomicI64,
    /// Ticks completed.
    pub ticks: AtomicU64,
    /// Hand-overs that were not ready in time and came with the next tick.
    pub hand_overs_late: AtomicU64,
    /// Duration of the last tick's work, in microseconds.
    pub tick_micros: AtomicU64,
    /// Batches applied by the store.
    pub batches_applied: AtomicU64,
    /// Batches that could not be applied: their bucket was gone, or the store failed.
    pub batches_late: AtomicU64,
    /// Batches that were neither in the store nor in the journal any more.
    pub batches_lost: AtomicU64,
    /// Buckets sealed.
    pub buckets_sealed: AtomicU64,
    /// Sealed buckets that were amended by late batches.
    pub buckets_amended: AtomicU64,
    /// Buckets let go before every destination had them, for want of memory.
    pub buckets_shed: AtomicU64,
    /// Starts inside a bucket that the process before had stated unfinished, without a store that remembers.
    pub restarts_in_bucket: AtomicU64,
    /// Series known now.
    pub series: AtomicU64,
    /// Series that came once and were forgotten to make room for new ones.
    pub series_made_room: AtomicU64,
    /// The journal in front of the store.
    pub journal: JournalBooks,
    /// How short memory is.
    pub memory: MemoryBooks,
    /// The last refused line of each reason; written by the flusher once a second at most.
    last_refused: Mutex<BTreeMap<Refusal, Shown>>,
    /// Who sends most; written by the flusher once a second.
    offenders: Mutex<Offenders>,
}

/// What is given up while memory is short, in this order.
pub const MEMORY_STEPS: [&str; 5] = ["history", "exactness", "new_names", "names", "buckets"];

/// Memory's part of the books.
#[derive(Debug, Default)]
pub struct MemoryBooks {
    /// Bytes that the process takes; 0 where the system does not say.
    pub used: AtomicU64,
    /// As many as it may take (`limits.memory_max`).
    pub bytes_max: AtomicU64,
    /// How many of [`MEMORY_STEPS`] are taken now.
    pub steps: AtomicU64,
    /// How often each was taken.
    pub taken: [AtomicU64; MEMORY_STEPS.len()],
    /// Buckets let go early, since memory was short, that every destination had.
    pub buckets_let_go: AtomicU64,
}

/// The journal's part of the books; without a journal all of it is nothing.
#[derive(Debug, Default)]
pub struct JournalBooks {
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// As many as it may have.
    pub bytes_max: AtomicU64,
    /// Batches that a start found in it and applied.
    pub replayed: AtomicU64,
    /// Batches that a start found in it and could not read.
    pub unreadable: AtomicU64,
    /// Why it does not keep what it is given, and since when.
    failing: Mutex<Option<(String, i64)>>,
}

impl JournalBooks {
    /// Says whether it fails, why, and since when.
    pub fn set_failing(&self, failing: Option<(String, i64)>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// Why it does not keep what it is given, and since when; `None` while it does.
    #[must_use]
    pub fn failing(&self) -> Option<(String, i64)> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A refused line, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who sent it.
    pub sender: String,
    /// How it began, with everything unprintable escaped.
    pub line: String,
}

impl Books {
    /// Enters what an ingest thread has seen.
    pub fn enter(&self, intake: &Intake) {
        let add = |total: &AtomicU64, n: u64| {
            if n > 0 {
                total.fetch_add(n, Ordering::Relaxed);
            }
        };
        add(&self.packets, intake.packets);
        add(&self.bytes, intake.bytes);
        add(&self.lines, intake.lines);
        add(&self.samples, intake.samples);
        add(&self.overflow, intake.overflow);
        add(&self.events, intake.events);
        add(&self.service_checks, intake.service_checks);
        add(&self.fields_ignored, intake.fields_ignored);
        add(&self.kernel_drops, intake.kernel_drops);
        for (total, n) in self.refused.iter().zip(intake.refused) {
            add(total, n);
        }
    }

    /// Refusals so far for one reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    /// Keeps a refused line to be shown.
    pub fn show(&self, reason: Refusal, shown: Shown) {
        self.last_refused.lock().unwrap_or_else(PoisonError::into_inner).insert(reason, shown);
    }

    /// The last refused line of each reason.
    #[must_use]
    pub fn shown(&self) -> Vec<(Refusal, Shown)> {
        let shown = self.last_refused.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().map(|(reason, shown)| (*reason, shown.clone())).collect()
    }

    /// Says who sends most.
    pub fn set_offenders(&self, offenders: Offenders) {
        *self.offenders.lock().unwrap_or_else(PoisonError::into_inner) = offenders;
    }

    /// Who sends most.
    #[must_use]
    pub fn offenders(&self) -> Offenders {
        self.offenders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refusals so far that statsd would call bad lines.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        Refusal::ALL.iter().filter(|reason| reason.is_bad_line()).map(|&reason| self.refused(reason)).sum()
    }
}

/// Reads a counter of the books.
#[must_use]
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What became of notices. Written by the notifier alone; nothing is ordered by it.
#[derive(Debug, Default)]
pub struct NoticeCounts {
    /// Messages that were taken, since the start.
    pub sent: AtomicU64,
    /// Attempts that were not.
    pub failures: AtomicU64,
    /// Messages that wait.
    pub waiting: AtomicU64,
    /// Messages that were given up.
    pub given_up: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_listed_under_its_own_number_and_label() {
        let mut labels: Vec<_> = Refusal::ALL.iter().map(|reason| reason.label()).collect();
        for (number, reason) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Refusal::COUNT);
    }

    #[test]
    fn the_books_add_up() {
        let books = Books::default();
        let mut intake = Intake { packets: 2, lines: 5, samples: 3, ..Intake::default() };
        intake.refuse(Refusal::BadValue);
        intake.refuse(Refusal::Source);
        books.enter(&intake);
        books.enter(&intake);
        assert_eq!(read(&books.samples), 6);
        assert_eq!(books.refused(Refusal::BadValue), 2);
        assert_eq!(books.bad_lines(), 2);
        let mut sum = intake.clone();
        sum.add(&intake);
        assert_eq!((sum.packets, sum.bad_lines()), (4, 2));
    }
}
