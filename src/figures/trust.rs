//! How far the numbers can be trusted: what was lost on the way in, and what is not safe.

use super::days::Days;
use super::words::grouped;
use super::work::counter;
use crate::clock::WallMs;
use crate::health::{Books, read};
use crate::metric::Tally;
use crate::store::{Store, StoreError};
use chrono::NaiveDate;
use std::sync::Arc;

/// A process that is younger says nothing about silence, in milliseconds: it cannot know what it missed.
const YOUNG_MS: i64 = 15 * 60_000;

/// What was lost, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lost {
    /// Datagrams.
    dropped: u64,
    /// Batches that the store could not take, and buckets let go for want of memory.
    batches: u64,
    /// Values that were counted in overflow series: nothing is missing but their names.
    unnamed: u64,
}

/// See the module.
pub(super) struct Trust {
    books: Arc<Books>,
    started: WallMs,
    /// Our own counter of what the kernel dropped, for what was before the start.
    drops_name: String,
    today: Option<NaiveDate>,
    /// What the books said when the day began, or when we did.
    at_first: Lost,
    /// Datagrams dropped today before we started.
    before_start: u64,
    reason: Option<String>,
    failing: Option<String>,
}

impl Trust {
    pub(super) fn new(books: Arc<Books>, started: WallMs, drops_name: String) -> Self {
        Self {
            books,
            started,
            drops_name,
            today: None,
            at_first: Lost::default(),
            before_start: 0,
            reason: None,
            failing: None,
        }
    }

    fn lost(&self) -> Lost {
        let books = &self.books;
        Lost {
            dropped: read(&books.kernel_drops),
            batches: read(&books.batches_late) + read(&books.buckets_shed),
            unnamed: read(&books.overflow),
        }
    }

    pub(super) fn look(&mut self, store: &dyn Store, days: &Days, now: WallMs, failed: Option<&StoreError>) {
        let today = days.calendar.date(now);
        match self.today {
            None => self.before_start = self.dropped_before(store, days.calendar.day(today).start),
            Some(day) if day != today => {
                self.at_first = self.lost();
                self.before_start = 0;
            }
            Some(_) => {}
        }
        self.today = Some(today);
        let durability = store.durability();
        let failing = self.books.journal.failing().or(durability.failing).filter(|_| durability.on_disk);
        self.failing = failing.map(|(reason, since)| {
            let since = days.calendar.local(since).format("%H:%M");
            format!("not saved to disk since {since}: {reason}")
        });
        let lost = self.lost();
        let dropped = self.before_start + lost.dropped.saturating_sub(self.at_first.dropped);
        let batches = lost.batches.saturating_sub(self.at_first.batches);
        self.reason = if let Some(error) = failed {
            Some(format!("{error}"))
        } else if let Some(failing) = &self.failing {
            Some(failing.clone())
        } else if batches > 0 {
            Some(format!("{} could not be stored today", some(batches, "batch", "batches")))
        } else {
            (dropped > 0).then(|| {
                format!("{} dropped by the kernel today", some(dropped, "datagram was", "datagrams were"))
            })
        };
    }

    /// Datagrams that the kernel dropped today before this process began.
    fn dropped_before(&self, store: &dyn Store, start: WallMs) -> u64 {
        let level = usize::from(store.ladder().levels().len() > 1);
        let readings = store.read(&[counter(&self.drops_name)], level, start, self.started);
        let sum = |tally: &Tally| match tally {
            Tally::Counter(sum) => sum.to_f64() as u64,
            _ => 0,
        };
        readings.into_iter().flatten().flatten().map(|reading| sum(&reading.tally)).sum()
    }

    /// Why numbers may be too low.
    pub(super) fn partial(&self) -> Option<String> {
        self.reason.clone()
    }

    /// What is promised, or what is wrong with it.
    pub(super) fn guarantee(&self, promise: &str, store: &dyn Store) -> String {
        if let Some(failing) = &self.failing {
            return failing.clone();
        }
        let durable = store.durability().on_disk;
        let promise = if durable { promise } else { "kept in memory: a restart forgets" };
        match self.lost().unnamed.saturating_sub(self.at_first.unnamed) {
            0 => promise.to_owned(),
            unnamed => format!(
                "{promise}; {} today for names beyond limits.series_max, together",
                some(unnamed, "value was counted", "values were counted")
            ),
        }
    }

    /// Why nothing can be said about silence.
    pub(super) fn cannot_tell(&self, now: WallMs) -> Option<&'static str> {
        if now - self.started < YOUNG_MS {
            return Some("tallyd runs for less than 15 min");
        }
        self.reason.is_some().then_some("the numbers may be too low")
    }
}

fn some(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count as f64, 0), if count == 1 { one } else { many })
}
