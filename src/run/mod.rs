//! All stages, put together: the only folder that knows them all.
//!
//! ```text
//!   threads: ingest (one a socket) · streams · flusher · one for each destination · web (HTTP, console)
//!   stop:    close sockets → last hand-over → seal everything → destinations state what is left
//! ```
//!
//! In comes a configuration; out goes a running [`Service`], or an error before anything has started.

mod figures;
mod ingest;
mod notices;
mod restart;
mod store;
mod warnings;
mod web;

pub use store::{BACKUPS, FILE as STORE_FILE, backup_path, fill, open_stopped};

use crate::aggregate::Totals;
use crate::aggregate::epoch::Epoch;
use crate::clock::{self, Clock, WallMs};
use crate::config::Config;
use crate::flush::{self, Command, Flusher, Safe};
use crate::forward::{Destination, DestinationStatus, Signal, expand};
use crate::health::Books;
use crate::ingest::signed::KeyFileError;
use crate::ingest::{Bound, IngestError};
use crate::journal::JournalError;
use crate::limits;
use crate::metric::Width;
use crate::serve::links::Links;
use crate::serve::tokens::{TokenFileError, Tokens};
use crate::store::embedded::DiskError;
use crate::store::{Store, StoreError};
use crate::sys::{self, Inherited, Waker};
use crate::tls::{Tls, TlsError};
use arc_swap::ArcSwap;
use ingest::IngestThreads;
use restart::Note;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::{Checkpoints, Opened, random_producer};
use thiserror::Error;
use warnings::{few_descriptors, open_to_strangers, restarted_inside_a_bucket};
use web::{Running, Web};

/// Commands that may wait for the flusher.
const COMMANDS: usize = 64;

/// Pause between two looks at a thread that is to end.
const JOIN_PAUSE: Duration = Duration::from_millis(5);

/// A service that could not be started.
#[derive(Debug, Error)]
pub enum RunError {
    /// An ingest socket.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The console or HTTP.
    #[error("{what} {address} (from `{key}`): {cause}; stop the other program or choose another address")]
    Listen {
        /// What was to be bound.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The key that says so.
        key: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// The store's file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What is in the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is damaged, and this is the way out.
    #[error("{error}{}", last_backup(backup.as_deref()))]
    Damaged {
        /// What is wrong.
        error: Box<RunError>,
        /// The newest backup.
        backup: Option<PathBuf>,
    },
    /// The store's directory.
    #[error("the store's directory {}: {cause}; give `store.url` a directory that tallyd may write to, or `memory:`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of a key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// A thread, a waker or the runtime.
    #[error("the system gives us no thread or socket pair: {0}")]
    System(#[from] io::Error),
}

fn last_backup(backup: Option<&Path>) -> String {
    match backup {
        Some(backup) => format!(". The last backup is {}", backup.display()),
        None => ". There is no backup beside it".to_owned(),
    }
}

/// Where a service listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The first UDP address.
    pub udp: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// The console.
    pub console: Option<SocketAddr>,
    /// Everything lines come in by, in words.
    pub ingest: Vec<String>,
}

/// What a stop came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Buckets that did not reach a destination, with its address.
    pub undelivered: Vec<(String, u64)>,
    /// They are on disk, and the next process states them.
    pub kept: bool,
}

/// A running service.
pub struct Service {
    addresses: Addresses,
    /// Warnings that arose while starting.
    pub warnings: Vec<String>,
    store: Arc<dyn Store>,
    rules: Arc<ArcSwap<expand::Rules>>,
    commands: SyncSender<Command>,
    stop_ingest: Arc<AtomicBool>,
    wakers: Vec<Arc<Waker>>,
    ingest: Vec<JoinHandle<()>>,
    /// Unix sockets' paths are removed when this goes.
    bound: Bound,
    flusher: JoinHandle<()>,
    signal: Arc<Signal>,
    destinations: Vec<(JoinHandle<()>, Arc<DestinationStatus>)>,
    ready: Arc<AtomicBool>,
    note: Option<Note>,
    checkpoints: Option<(Arc<Checkpoints>, JoinHandle<()>)>,
    books: Arc<Books>,
    started_ms: WallMs,
    clock: Clock,
    width: Width,
    web: Running,
}

/// Sockets that are bound and not yet served.
struct Listeners {
    ingest: Bound,
    http: Option<TcpListener>,
    console: Option<TcpListener>,
    warnings: Vec<String>,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, RunError> {
        let mut inherited = sys::inherited_sockets()?;
        let console = inherited_listener(&mut inherited, "console")?;
        let http = inherited_listener(&mut inherited, "http")?;
        let mut ingest = Bound::bind(&config.ingest, inherited)?;
        let mut warnings = std::mem::take(&mut ingest.warnings);
        let console = match console {
            None => listen("the console", "console.listen", config.console.listen)?,
            inherited => inherited,
        };
        let http = match http
            .map_or_else(|| listen("HTTP", "http.listen", config.http.listen), |one| Ok(Some(one)))
        {
            Err(error) if !config.http.required => {
                warnings.push(format!("going on without status and metrics: {error}"));
                None
            }
            http => http?,
        };
        Ok(Self { ingest, http, console, warnings })
    }

    fn addresses(&self) -> Addresses {
        let local = |listener: &Option<TcpListener>| listener.as_ref().and_then(|one| one.local_addr().ok());
        Addresses {
            udp: self.ingest.udp,
            http: local(&self.http),
            console: local(&self.console),
            ingest: self.ingest.names.clone(),
        }
    }
}

/// The listener of this name among the sockets that were opened for us.
fn inherited_listener(inherited: &mut Vec<Inherited>, name: &str) -> io::Result<Option<TcpListener>> {
    let Some(at) = inherited.iter().position(|socket| socket.name == name) else {
        return Ok(None);
    };
    let listener = TcpListener::from(inherited.swap_remove(at).fd);
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

fn listen(
    what: &'static str,
    key: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let fail = |cause| RunError::Listen { what, address, key, cause };
    // std sets SO_REUSEADDR, so that a restart need not wait.
    let listener = TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(Some(listener))
}

/// Starts everything; returns when lines are taken in.
pub fn start(config: &Config, clock: &Clock) -> Result<Service, RunError> {
    let tokens = Arc::new(Tokens::load(&config.http)?);
    let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let mut listeners = Listeners::bind(config)?;
    let addresses = listeners.addresses();
    let mut warnings = std::mem::take(&mut listeners.warnings);
    warnings.extend(open_to_strangers(config));
    warnings.extend(few_descriptors());
    let books = Arc::new(Books::default());
    let Opened { store, safe, warnings: of_store } = store::open(config, clock, &books)?;
    warnings.extend(of_store);
    let note = if store.durability().on_disk { None } else { Note::new(config) };
    warnings.extend(restarted_inside_a_bucket(note.as_ref(), clock, &books));
    let checkpoints = start_checkpoints(&store, clock, &safe)?;
    let rules = Arc::new(ArcSwap::from_pointee(config.expand.clone()));
    let signal = Arc::new(Signal::default());
    let destinations = start_destinations(config, clock, &store, &rules, &signal)?;
    let (commands, inbox) = sync_channel(COMMANDS);
    let mut ingest = IngestThreads::new(config, clock, tls.clone())?;
    let totals =
        config.http.series.then(|| Arc::new(Totals::new(config.flush.bucket, config.http.series_max)));
    let parts = FlusherParts {
        totals: totals.clone(),
        store: Arc::clone(&store),
        safe,
        books: Arc::clone(&books),
        signal: Arc::clone(&signal),
        inbox,
    };
    let flusher = start_flusher(&mut ingest, &mut listeners.ingest, parts)?;
    let ready = Arc::new(AtomicBool::new(true));
    let statuses: Vec<_> = destinations.iter().map(|(_, status)| Arc::clone(status)).collect();
    let web = Web {
        config,
        clock,
        books: &books,
        store: &store,
        commands: &commands,
        statuses,
        ready: &ready,
        totals,
        tokens,
        links: Arc::new(Links::new(&config.http.links)),
        tls,
        lines: ingest.lines(),
    };
    let web = web.start(&mut listeners)?;
    Ok(Service {
        addresses,
        warnings,
        store,
        rules,
        commands,
        stop_ingest: ingest.stop,
        wakers: ingest.wakers,
        ingest: ingest.threads,
        bound: listeners.ingest,
        flusher,
        signal,
        destinations,
        ready,
        note,
        checkpoints,
        books,
        started_ms: clock.now(),
        clock: clock.clone(),
        width: config.flush.bucket,
        web,
    })
}

/// A store without a disk needs no checkpoints.
fn start_checkpoints(
    store: &Arc<dyn Store>,
    clock: &Clock,
    safe: &Safe,
) -> io::Result<Option<(Arc<Checkpoints>, JoinHandle<()>)>> {
    if !store.durability().on_disk {
        return Ok(None);
    }
    let checkpoints = Arc::new(Checkpoints::default());
    let (ours, store, clock, written) =
        (Arc::clone(&checkpoints), Arc::clone(store), clock.clone(), safe.written());
    let thread = spawn("checkpoints".to_owned(), move || ours.run(&*store, &clock, &written))?;
    Ok(Some((checkpoints, thread)))
}

type Destinations = Vec<(JoinHandle<()>, Arc<DestinationStatus>)>;

fn start_destinations(
    config: &Config,
    clock: &Clock,
    store: &Arc<dyn Store>,
    rules: &Arc<ArcSwap<expand::Rules>>,
    signal: &Arc<Signal>,
) -> io::Result<Destinations> {
    let options = Arc::new(config.graphite.clone());
    let start = |index| {
        let destination = Destination::new(
            index,
            Arc::clone(&options),
            Arc::clone(rules),
            Arc::clone(store),
            clock.clone(),
            Arc::clone(signal),
        );
        let status = destination.status();
        Ok((spawn(format!("graphite-{index}"), move || destination.run())?, status))
    };
    (0..options.addresses.len()).map(start).collect()
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}

/// Starts the flusher and the ingest threads, which need each other: the threads wake the flusher, and it
/// takes what they hand over.
fn start_flusher(
    ingest: &mut IngestThreads<'_>,
    bound: &mut Bound,
    parts: FlusherParts,
) -> io::Result<JoinHandle<()>> {
    let (give, take) = sync_channel::<flush::Parts>(1);
    let thread = spawn("flusher".to_owned(), move || {
        // Nothing comes if starting failed: then there is nothing to flush.
        if let Ok(flusher) = take.recv() {
            Flusher::new(flusher).run(&parts.inbox);
        }
    })?;
    let epoch = Epoch::new(ingest.clock.now(), thread.thread().clone());
    let collectors = ingest.start(bound, &epoch)?;
    let signal = parts.signal;
    let flusher = flush::Parts {
        options: ingest.config.flush,
        clock: ingest.clock.clone(),
        epoch,
        collectors,
        registry: Arc::clone(&ingest.registry),
        store: parts.store,
        safe: parts.safe,
        books: parts.books,
        own_prefix: ingest.config.expand.naming.own_prefix.clone(),
        dialect: ingest.config.dialect,
        on_sealed: Box::new(move || signal.news()),
        producer: random_producer(),
        totals: parts.totals,
    };
    // The thread is waiting for it.
    give.send(flusher).map_err(|_| io::Error::other("the flusher ended before it began"))?;
    Ok(thread)
}

/// What the flusher needs beside the ingest threads.
struct FlusherParts {
    totals: Option<Arc<Totals>>,
    store: Arc<dyn Store>,
    safe: Safe,
    books: Arc<Books>,
    signal: Arc<Signal>,
    inbox: std::sync::mpsc::Receiver<Command>,
}

impl Service {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where buckets stand.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether ticks come: what counts lives, and is not only there.
    #[must_use]
    pub fn is_ticking(&self) -> bool {
        let last = self.books.last_tick_ms.load(Ordering::Relaxed).max(self.started_ms);
        self.clock.now() - last < limits::STUCK_MS
    }

    /// Takes over what can be changed while running: idle rules, what points are called, tokens and share links.
    pub fn reload(&self, config: &Config) {
        self.web.reload(config);
        self.store.set_idle_rules(config.idle.clone());
        self.rules.store(Arc::new(config.expand.clone()));
        let prefix = config.expand.naming.own_prefix.clone();
        // The flusher is gone only when we are stopping.
        self.commands.send(Command::OwnPrefix(prefix)).ok();
    }

    /// Stops: no more input, the last tick, everything sealed, and destinations have what is left of
    /// [`limits::DRAIN_MS`], less what closing the store takes, to take the rest.
    #[must_use]
    pub fn stop(self) -> Outcome {
        let until = limits::DRAIN_MS - limits::DRAIN_CLOSE_MS;
        let deadline = clock::monotonic_now() + Duration::from_millis(until);
        self.ready.store(false, Ordering::Relaxed);
        self.stop_ingest.store(true, Ordering::Relaxed);
        for waker in &self.wakers {
            waker.wake();
        }
        for thread in self.ingest {
            join(thread);
        }
        if let Some(notices) = self.web.notices {
            notices.stop();
        }
        self.web.figures.stop();
        drop(self.bound);
        if let Some((checkpoints, thread)) = self.checkpoints {
            checkpoints.stop();
            join(thread);
        }
        let (done, drained) = sync_channel(1);
        if self.commands.send(Command::Drain(done)).is_ok() {
            drained.recv().ok();
        }
        join(self.flusher);
        if let Some(Err(error)) = self.note.map(|note| note.leave(self.width.start_of(self.clock.now()))) {
            tracing::debug!(%error, "no note is left of the open bucket");
        }
        self.signal.stop(deadline);
        let mut undelivered = Vec::new();
        for (index, (thread, status)) in self.destinations.into_iter().enumerate() {
            join_until(thread, deadline);
            let left = self.store.outstanding(index).map_or(0, |list| list.len() as u64);
            if left > 0 {
                undelivered.push((status.address.clone(), left));
            }
        }
        // What was confirmed meanwhile need not be stated again.
        let written = self.store.checkpoint(self.clock.now());
        self.store.close();
        Outcome { undelivered, kept: self.store.durability().on_disk && written.is_ok() }
    }
}

/// Waits for a thread, but not for ever: it may be inside the system's look-up of a name, which knows no limit.
fn join_until(thread: JoinHandle<()>, deadline: Instant) {
    while !thread.is_finished() {
        if clock::monotonic_now() >= deadline + JOIN_PAUSE {
            return;
        }
        std::thread::sleep(JOIN_PAUSE);
    }
    join(thread);
}

/// A thread that panicked has said so, and with `panic = "abort"` we are not here any more.
fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread panicked");
    }
}
