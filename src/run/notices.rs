//! The thread that tells people what happens.

use crate::clock::Clock;
use crate::config::Config;
use crate::figures::Engine;
use crate::health::NoticeCounts;
use crate::notify::{FileBoard, Notifier, SharedBoard, Source};
use crate::store::{Board, Store};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// The notifier at work.
pub(super) struct Notices {
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

/// Starts it, if there is anybody to tell.
pub(super) fn start(
    config: &Config,
    clock: &Clock,
    engine: &Arc<Engine>,
    store: &Arc<dyn Store>,
    status: &Arc<NoticeCounts>,
) -> io::Result<Option<Notices>> {
    if config.notify.rules.is_empty() {
        return Ok(None);
    }
    let board: Arc<dyn Board> = match store.board() {
        Some(_) => Arc::new(SharedBoard(Arc::clone(store))),
        None => Arc::new(FileBoard::open(config.notify.folder.as_deref())),
    };
    let (pages, closing) = (Arc::clone(engine), Arc::clone(engine));
    let source = Source {
        pages: Box::new(move || pages.pages().filter_map(|page| pages.state(&page.path)).collect()),
        closing: Box::new(move |date| closing.closing(date)),
        board,
    };
    let notifier = Notifier::new(config.notify.clone(), clock, source, Arc::clone(status));
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let thread = super::spawn("notices".to_owned(), move || {
        if let Err(error) = notifier.run(&stopped) {
            tracing::error!(%error, "no notices are sent");
        }
    })?;
    Ok(Some(Notices { stop, thread }))
}

impl Notices {
    /// Ends the thread; what is not sent is on disk.
    pub(super) fn stop(self) {
        // A permit is kept if the thread is not waiting yet.
        self.stop.notify_one();
        super::join(self.thread);
    }
}
