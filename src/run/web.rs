//! HTTP and the console: one runtime beside the threads that count.

use super::figures::{self, Figures};
use super::notices::{self, Notices};
use super::{Listeners, backup_path};
use crate::aggregate::Totals;
use crate::aggregate::request::{Lines, Request};
use crate::clock::Clock;
use crate::config::Config;
use crate::console::{self, Console};
use crate::figures::Engine;
use crate::flush::Command;
use crate::forward::DestinationStatus;
use crate::health::Books;
use crate::serve::links::Links;
use crate::serve::tokens::Tokens;
use crate::serve::{GraphiteStatus, Server};
use crate::store::{Store, StoreUrl};
use crate::tls::Tls;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// What HTTP and the console are made of.
pub(super) struct Web<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: &'a Clock,
    pub(super) books: &'a Arc<Books>,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) commands: &'a SyncSender<Command>,
    pub(super) statuses: Vec<Arc<DestinationStatus>>,
    pub(super) ready: &'a Arc<AtomicBool>,
    pub(super) totals: Option<Arc<Totals>>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) links: Arc<Links>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) lines: Lines,
}

/// What is served, at work.
pub(super) struct Running {
    pub(super) figures: Figures,
    pub(super) notices: Option<Notices>,
    tokens: Arc<Tokens>,
    links: Arc<Links>,
    /// What the pages are drawn by, which is not reloaded.
    rules: crate::figures::Options,
    tls: Option<Arc<Tls>>,
    _runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Takes over who is let in, and the certificate. What cannot be used changes nothing.
    pub(super) fn reload(&self, config: &Config) {
        if let Err(error) = self.tokens.reload(&config.http) {
            tracing::error!(%error, "the tokens are not reloaded, the old ones stay");
        }
        // A link hides figures by their ids: of other figures than those that run it would hide others.
        let fit = self.rules.figures == config.figures.figures && self.rules.pages == config.figures.pages;
        if !fit {
            tracing::warn!(
                "new share links hold from the next start on, since figures or pages are others too"
            );
        }
        self.links.reload(&config.http.links, fit);
        if let (Some(tls), Some(files)) = (&self.tls, &config.tls)
            && let Err(error) = tls.reload(files)
        {
            tracing::error!(%error, "the certificate is not reloaded, the old one stays");
        }
    }
}

impl Web<'_> {
    pub(super) fn start(self, listeners: &mut Listeners) -> io::Result<Running> {
        let (tokens, links) = (Arc::clone(&self.tokens), Arc::clone(&self.links));
        let (rules, tls) = (self.config.figures.clone(), self.tls.clone());
        let figures = figures::start(self.config, self.clock, self.store, self.books, self.commands)?;
        let status = Arc::default();
        let notices = notices::start(self.config, self.clock, &figures.engine, self.store, &status)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("web")
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        if let Some(listener) = listeners.http.take() {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let server = Arc::new(self.server(listeners.ingest.names.clone(), &figures.engine, status));
            runtime.spawn(server.serve(listener, self.config.http.clone()));
        }
        if let Some(listener) = listeners.console.take() {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(Arc::new(self.console()).serve(listener));
        }
        drop(inside);
        Ok(Running { figures, notices, tokens, links, rules, tls, _runtime: runtime })
    }

    /// A copy of the store, in the directory beside it.
    fn backup(&self) -> Arc<dyn Fn() -> Result<String, String> + Send + Sync> {
        let (store, clock, url) = (Arc::clone(self.store), self.clock.clone(), self.config.store.url.clone());
        Arc::new(move || {
            let StoreUrl::File(folder) = &url else {
                return Err("store.url names no directory: there is nothing to copy here".to_owned());
            };
            let now = clock.now();
            let to = backup_path(folder, now).map_err(|error| error.to_string())?;
            // Whoever asked may work elsewhere.
            let to = std::path::absolute(&to).unwrap_or(to);
            store.backup(&to, now).map_err(|error| error.to_string())?;
            Ok(to.display().to_string())
        })
    }

    fn server(
        &self,
        listening: Vec<String>,
        figures: &Arc<Engine>,
        notices: Arc<crate::health::NoticeCounts>,
    ) -> Server {
        let (statuses, clock) = (self.statuses.clone(), self.clock.clone());
        Server {
            clock: self.clock.clone(),
            started_ms: self.clock.now(),
            books: Arc::clone(self.books),
            store: Arc::clone(self.store),
            graphite: Arc::new(move || {
                let now = clock.now();
                statuses.iter().map(|status| graphite_status(status, now)).collect()
            }),
            backup: self.backup(),
            totals: self.totals.clone(),
            figures: Arc::clone(figures),
            notices,
            grafana: self.config.http.grafana.clone(),
            listening,
            ready: Arc::clone(self.ready),
            tokens: Arc::clone(&self.tokens),
            links: Arc::clone(&self.links),
            numbers: self.config.http.numbers.clone(),
            tls: self.tls.clone().filter(|_| self.config.http.tls),
            lines: self.lines.clone(),
            count: self.count(),
        }
    }

    /// Hands a request to the flusher; one that finds no room comes back.
    fn count(&self) -> Arc<dyn Fn(Request) -> bool + Send + Sync> {
        let commands = self.commands.clone();
        Arc::new(move |request| commands.try_send(Command::Request(Box::new(request))).is_ok())
    }

    fn console(&self) -> Console {
        let commands = self.commands.clone();
        let status = self.statuses.first().map(Arc::clone);
        let started = self.clock.now().div_euclid(1_000);
        Console {
            clock: self.clock.clone(),
            started,
            books: Arc::clone(self.books),
            store: Arc::clone(self.store),
            tick_now: Arc::new(move || tick_now(&commands)),
            sender: Arc::new(move || sender_figures(status.as_deref(), started)),
            config_lines: self.config.console.config_lines.clone(),
            healthy: AtomicBool::new(self.config.console.healthy),
        }
    }
}

fn tick_now(commands: &SyncSender<Command>) {
    let (done, ticked) = sync_channel(1);
    if commands.send(Command::Tick(done)).is_ok() {
        // An error is the flusher's end: then the store is as full as it gets.
        ticked.recv().ok();
    }
}

fn sender_figures(status: Option<&DestinationStatus>, started: i64) -> Vec<console::Figure> {
    let read = |figure: fn(&DestinationStatus) -> i64, or| status.map_or(or, figure);
    vec![
        ("last_flush", read(|status| status.last_flush.load(Ordering::Relaxed), started)),
        ("last_exception", read(|status| status.last_exception.load(Ordering::Relaxed), 0)),
        ("flush_time", read(|status| status.flush_ms.load(Ordering::Relaxed) as i64, 0)),
        ("flush_length", read(|status| status.flush_bytes.load(Ordering::Relaxed) as i64, 0)),
    ]
}

fn graphite_status(status: &DestinationStatus, now: i64) -> GraphiteStatus {
    let waiting = status.outstanding.load(Ordering::Relaxed);
    let oldest = status.oldest_ms.load(Ordering::Relaxed);
    GraphiteStatus {
        address: status.address.clone(),
        failing: status.failing.load(Ordering::Relaxed),
        buckets_waiting: waiting,
        lag_seconds: if waiting == 0 { 0.0 } else { (now - oldest) as f64 / 1_000.0 },
        points: status.points.load(Ordering::Relaxed),
        buckets: status.buckets.load(Ordering::Relaxed),
        failures: status.failures.load(Ordering::Relaxed),
        unsendable: status.unsendable.load(Ordering::Relaxed),
        last_flush: status.last_flush.load(Ordering::Relaxed),
        last_exception: status.last_exception.load(Ordering::Relaxed),
    }
}
