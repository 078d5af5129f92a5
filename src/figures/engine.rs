//! The engine: keeps the state of every page and says when one changed.
//!
//! One thread calls [`Engine::refresh`]; any thread reads. Each page has one watch channel, so that whoever is slow
//! gets the newest state and never a queue.

use super::days::Days;
use super::discover::one_page;
use super::options::Options;
use super::state::{Mark, PageName, PageState};
use super::work::Work;
use crate::clock::WallMs;
use crate::health::Books;
use crate::limits;
use crate::metric::{Series, Sum, Tally};
use crate::store::Store;
use chrono::NaiveDate;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Counts something of our own as if it had come in, so that the store keeps it and Graphite sees it. Says whether
/// it was taken.
pub type Count = Box<dyn Fn(Series, Tally) -> bool + Send + Sync>;

/// Why a mark was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MarkRefused {
    /// Nothing of it is left after cleaning.
    #[error("the text is empty: write what happened, such as \"deploy web\"")]
    Empty,
    /// It is longer than [`limits::MARK_BYTES_MAX`](crate::limits::MARK_BYTES_MAX).
    #[error("the text is longer than {} bytes: a mark is a few words", crate::limits::MARK_BYTES_MAX)]
    TooLong,
    /// There are [`limits::MARKS_MAX`](crate::limits::MARKS_MAX) of the last day.
    #[error(
        "there are {} marks of the last day already: a mark is for deploys, not for events",
        crate::limits::MARKS_MAX
    )]
    TooMany,
    /// Its time is not in the last day or is in the future.
    #[error("the time is not within the last day: leave it out, or write a time of today")]
    NotToday,
}

/// See the module.
pub struct Engine {
    pages: Vec<(PageName, watch::Sender<Arc<PageState>>)>,
    store: Arc<dyn Store>,
    days: Days,
    work: Mutex<Work>,
    count: Count,
}

impl Engine {
    /// The engine of what the configuration says, over a store; `started` is when the process did.
    #[must_use]
    pub fn new(
        mut options: Options,
        store: Arc<dyn Store>,
        books: Arc<Books>,
        started: WallMs,
        count: Count,
    ) -> Self {
        let guessed = options.figures.is_empty();
        if options.pages.is_empty() {
            options.pages.push(one_page(&options.figures));
        }
        let name = |page: &super::PageRules| PageName { path: page.path.clone(), title: page.title.clone() };
        let names: Vec<PageName> = options.pages.iter().map(name).collect();
        let pages = names.iter().map(|name| {
            let (page, pages) = (name.clone(), names.clone());
            let build = env!("CARGO_PKG_VERSION");
            let state = PageState { build, page, pages, ..PageState::default() };
            (name.clone(), watch::Sender::new(Arc::new(state)))
        });
        let pages = pages.collect();
        let days = Days::new(*store.ladder().calendar(), options.holidays.clone());
        let work = Mutex::new(Work::new(options, names, guessed, books, started));
        Self { pages, store, days, work, count }
    }

    /// All pages, the first one first.
    pub fn pages(&self) -> impl Iterator<Item = &PageName> {
        self.pages.iter().map(|(name, _)| name)
    }

    /// The state of a page as it is now; `/` is the first page where no other is.
    #[must_use]
    pub fn state(&self, path: &str) -> Option<Arc<PageState>> {
        Some(Arc::clone(&self.page(path)?.borrow()))
    }

    /// Waits until everything was looked at once, which takes a moment where the past is long; not for longer than
    /// [`limits::FIRST_LOOK_MS`].
    pub async fn first_look(&self, path: &str) {
        if let Some(mut states) = self.watch(path) {
            let looked = states.wait_for(|state| state.version > 0);
            let patience = Duration::from_millis(limits::FIRST_LOOK_MS);
            // Whoever asks is told that it is starting.
            tokio::time::timeout(patience, looked).await.ok();
        }
    }

    /// Wakes at every change of a page.
    #[must_use]
    pub fn watch(&self, path: &str) -> Option<watch::Receiver<Arc<PageState>>> {
        Some(self.page(path)?.subscribe())
    }

    fn page(&self, path: &str) -> Option<&watch::Sender<Arc<PageState>>> {
        let own = self.pages.iter().find(|(name, _)| name.path == path);
        let first = || self.pages.first().filter(|_| path == "/");
        own.or_else(first).map(|(_, sender)| sender)
    }

    /// A panic while the lock is held ends the process, so a poisoned lock is only met on the way down.
    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the store again and publishes what changed. To be called every 250 ms, by one thread.
    pub fn refresh(&self, now: WallMs) {
        let mut work = self.work();
        let common = work.look(&*self.store, &self.days, now);
        for (at, (_, sender)) in self.pages.iter().enumerate() {
            let Some(next) = work.page(at, &*self.store, &self.days, &common) else {
                continue;
            };
            sender.send_if_modified(|state| {
                let (next, changed) = versioned(next, state);
                *state = Arc::new(next);
                changed
            });
        }
    }

    /// Every page as it stood at the end of a day that is over. Takes as long as a start does.
    #[must_use]
    pub fn closing(&self, date: NaiveDate) -> Vec<Arc<PageState>> {
        // The lock is not held meanwhile: the pages go on.
        let work = self.work().anew();
        work.closing(&*self.store, &self.days, date).into_iter().map(Arc::new).collect()
    }

    /// Puts a mark on today's lines; it is also counted under `marks.`, for the store and for Graphite.
    pub fn mark(&self, text: &str, at: WallMs, now: WallMs) -> Result<Mark, MarkRefused> {
        let (mark, series) = self.work().marks.send(&self.days, text, at, now)?;
        if !(self.count)(series, Tally::Counter(Sum::from_count(1))) {
            tracing::warn!(
                text = mark.text,
                "a mark is on the page and was not counted: the flusher is busy"
            );
        }
        Ok(mark)
    }
}

/// Gives a state and its figures the versions that they have, and says whether anything changed but the time.
#[must_use]
pub fn versioned(mut next: PageState, before: &PageState) -> (PageState, bool) {
    let at_ms = std::mem::replace(&mut next.at_ms, before.at_ms);
    next.version = before.version;
    for figure in &mut next.figures {
        let same = before.figures.iter().find(|same| same.id == figure.id);
        figure.version = same.map_or(0, |same| same.version);
        if same.is_none_or(|same| same != figure) {
            figure.version = before.version + 1;
        }
    }
    let changed = next != *before;
    next.version += u64::from(changed);
    next.at_ms = at_ms;
    (next, changed)
}
