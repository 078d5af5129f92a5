//! The thread that keeps the pages' states up to date.

use crate::clock::{self, Clock};
use crate::config::Config;
use crate::figures::Engine;
use crate::flush::Command;
use crate::health::Books;
use crate::limits;
use crate::store::Store;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

/// The engine at work.
pub(super) struct Figures {
    pub(super) engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Starts it over a store that is open.
pub(super) fn start(
    config: &Config,
    clock: &Clock,
    store: &Arc<dyn Store>,
    books: &Arc<Books>,
    commands: &SyncSender<Command>,
) -> io::Result<Figures> {
    let commands = commands.clone();
    let count = Box::new(move |series, tally| {
        // The flusher is gone only when we are stopping.
        commands.try_send(Command::Count(series, tally)).is_ok()
    });
    let (store, books) = (Arc::clone(store), Arc::clone(books));
    let engine = Arc::new(Engine::new(config.figures.clone(), store, books, clock.now(), count));
    let stop = Arc::new(AtomicBool::new(false));
    let (ours, stopped, clock) = (Arc::clone(&engine), Arc::clone(&stop), clock.clone());
    let thread = super::spawn("figures".to_owned(), move || {
        let pause = Duration::from_millis(limits::FIGURES_MS);
        // Nothing else is told by the flag, so that its order does not matter.
        while !stopped.load(Ordering::Relaxed) {
            ours.refresh(clock.now());
            std::thread::park_timeout(pause);
        }
    })?;
    Ok(Figures { engine, stop, thread })
}

impl Figures {
    /// Ends the thread; the last states stay to be read. It changes nothing, so that a stop does not wait while it
    /// reads a long past.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        super::join_until(self.thread, clock::monotonic_now() + Duration::from_millis(limits::FIGURES_MS));
    }
}
