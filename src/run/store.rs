//! The store and the journal in front of it: opened, brought up to date, and written out from time to time.

use super::RunError;
use crate::clock::{Clock, WallMs};
use crate::config::Config;
use crate::flush::{Backlog, Safe, Written, recover};
use crate::health::Books;
use crate::journal::{Directory, Journal};
use crate::limits;
use crate::store::embedded::{Disk, DiskError, EmbeddedStore, Rules};
use crate::store::redis::{RedisStore, Settings};
use crate::store::{Batch, KEYED, Kept, Store, StoreError, StoreUrl};
use std::fs::{self, DirBuilder};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The directory in the store's that backups go to.
pub const BACKUPS: &str = "backups";
/// Batches of the past that are in memory alone at a time.
const FILL_BATCHES: usize = 1_000;
/// Batches of the past that are sealed together.
const FILL_FOLDED: usize = 16;
/// The file in the store's directory.
pub const FILE: &str = "tallyd.redb";

/// A store, and what keeps batches safe on their way to it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) safe: Safe,
    pub(super) warnings: Vec<String>,
}

/// Opens what the configuration names, and applies what the last process left in the journal.
pub(super) fn open(config: &Config, clock: &Clock, books: &Arc<Books>) -> Result<Opened, RunError> {
    if let StoreUrl::Redis(url) = &config.store.url {
        return open_redis(config, url, clock, books);
    }
    let now = clock.now();
    let rules = rules(config);
    let mut warnings = Vec::new();
    let store: Arc<dyn Store> = match &config.store.url {
        StoreUrl::Memory | StoreUrl::Redis(_) => {
            Arc::new(EmbeddedStore::in_memory(rules, config.idle.clone()))
        }
        StoreUrl::File(folder) => {
            make_folder(folder)?;
            let disk = Disk::open(&folder.join(FILE)).map_err(|error| with_backup(error, folder))?;
            let store = EmbeddedStore::on_disk(rules, config.idle.clone(), disk, now);
            Arc::new(store.map_err(|error| with_backup(error, folder))?)
        }
    };
    let journal = match &config.journal {
        None => None,
        Some(journal) => {
            let (journal, recovered) =
                Journal::open(Box::new(Directory::open(&journal.folder)?), journal.options)?;
            let replayed = recover(&journal, &recovered, &*store, config.flush.bucket)?;
            books.journal.replayed.store(replayed.applied, Ordering::Relaxed);
            books.journal.unreadable.store(replayed.unreadable, Ordering::Relaxed);
            books.batches_late.fetch_add(replayed.late, Ordering::Relaxed);
            if replayed.applied > 0 {
                tracing::info!(
                    batches = replayed.applied,
                    "the last process ended without a checkpoint; what it had counted is here again"
                );
            }
            if recovered.findings.damaged_in_all().stretches > 0 || replayed.unreadable > 0 {
                warnings.push(format!(
                    "the journal in {} was damaged: {recovered}; {} batches could not be read and are lost",
                    config.journal.as_ref().map_or_else(String::new, |one| one.folder.display().to_string()),
                    replayed.unreadable
                ));
            }
            Some(journal)
        }
    };
    Ok(Opened { store, safe: Safe::new(journal, Arc::clone(books)), warnings })
}

/// Opens the store in Redis, which sends what the last process left in the journal.
fn open_redis(config: &Config, url: &str, clock: &Clock, books: &Arc<Books>) -> Result<Opened, RunError> {
    let mut warnings = Vec::new();
    let journal = match &config.journal {
        None => None,
        Some(journal) => {
            let directory = Directory::open(&journal.folder)?;
            let (opened, recovered) = Journal::open(Box::new(directory), journal.options)?;
            books.journal.bytes.store(opened.bytes(), Ordering::Relaxed);
            books.journal.bytes_max.store(journal.options.bytes_max, Ordering::Relaxed);
            books.journal.replayed.store(recovered.records, Ordering::Relaxed);
            if recovered.findings.damaged_in_all().stretches > 0 || !recovered.unreadable.is_empty() {
                let folder = journal.folder.display();
                warnings.push(format!(
                    "the journal in {folder} was damaged: {recovered}; what Redis does not have of it is lost, and \
                     counted as lost"
                ));
            }
            Some((opened, Box::new(Backlog::new(&journal.folder)) as Box<dyn Kept>))
        }
    };
    let (journal, kept) = journal.unzip();
    let settings = Settings {
        url: url.to_owned(),
        prefix: config.store.prefix.clone(),
        partitions: config.store.partitions,
        ladder: config.store.ladder.clone(),
        bounds: config.aggregate.bounds,
        history: config.store.history.clone(),
        figures: config.store.figures.clone(),
        destinations: config.graphite.addresses.clone(),
        resend_ms: config.graphite.resend_ms,
        grace_ms: config.flush.grace_ms,
        hold_ms: config.store.hold_ms,
        idle: config.idle.clone(),
    };
    let store = RedisStore::open(settings, clock, books, kept)?;
    Ok(Opened { store: Arc::new(store), safe: Safe::new(journal, Arc::clone(books)), warnings })
}

/// 128 bits that no other process has: std seeds its hasher from the system's source of randomness.
pub(super) fn random_producer() -> u128 {
    let half = || u128::from(std::hash::RandomState::new().hash_one(std::process::id()));
    (half() << 64 | half()) & !KEYED
}

/// Where the next backup goes.
pub fn backup_path(folder: &Path, now: WallMs) -> Result<PathBuf, RunError> {
    let backups = folder.join(BACKUPS);
    make_folder(&backups)?;
    let time = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
    Ok(backups.join(format!("tallyd-{}.redb", time.format("%Y%m%dT%H%M%S%3fZ"))))
}

/// The newest backup in a store's directory.
fn last_backup(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder.join(BACKUPS)).ok()?.filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "redb")).max()
}

/// Damage is said with the way out of it.
fn with_backup(error: impl Into<RunError>, folder: &Path) -> RunError {
    match error.into() {
        error @ (RunError::Disk(DiskError::Damaged { .. }) | RunError::Store(StoreError::Damaged(_))) => {
            RunError::Damaged { error: Box::new(error), backup: last_backup(folder) }
        }
        error => error,
    }
}

fn make_folder(folder: &Path) -> Result<(), RunError> {
    // What is counted is nobody else's business.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|cause| RunError::Folder { path: folder.to_owned(), cause })
}

fn rules(config: &Config) -> Rules {
    Rules {
        ladder: config.store.ladder.clone(),
        bounds: config.aggregate.bounds,
        bytes_max: config.store.memory_bytes_max,
        destinations: config.graphite.addresses.clone(),
        history: config.store.history.clone(),
        figures: config.store.figures.clone(),
    }
}

/// Whether a store is there, for a command that works without the service.
pub fn open_stopped(config: &Config, now: WallMs) -> Result<Arc<dyn Store>, RunError> {
    let StoreUrl::File(folder) = &config.store.url else {
        return Err(RunError::System(io::Error::other("a store in memory is gone when tallyd stops")));
    };
    let path = folder.join(FILE);
    fs::metadata(&path).map_err(|cause| RunError::Folder { path: path.clone(), cause })?;
    Ok(Arc::new(EmbeddedStore::on_disk(rules(config), config.idle.clone(), Disk::open(&path)?, now)?))
}

/// Fills a store that no service has open with batches of the past, oldest first. Nobody is told of them: for
/// Graphite they never were.
pub fn fill(config: &Config, batches: impl Iterator<Item = Batch>) -> Result<(), RunError> {
    let StoreUrl::File(folder) = &config.store.url else {
        return Err(RunError::System(io::Error::other("a store in memory has no past")));
    };
    make_folder(folder)?;
    let rules = Rules { destinations: Vec::new(), ..rules(config) };
    let mut now = 0;
    let disk = Disk::open(&folder.join(FILE))?;
    let mut store: Option<EmbeddedStore> = None;
    let mut disk = Some(disk);
    for (at, batch) in batches.enumerate() {
        now = batch.bucket + config.flush.bucket.ms();
        if let Some(disk) = disk.take() {
            store = Some(EmbeddedStore::on_disk(rules.clone(), config.idle.clone(), disk, now)?);
        }
        let Some(store) = &store else { continue };
        store.apply(batch, now)?;
        if at % FILL_FOLDED == 0 {
            store.fold(now, now)?;
        }
        if at % FILL_BATCHES == 0 {
            store.checkpoint(now)?;
        }
    }
    if let Some(store) = store {
        store.fold(now, now)?;
        store.checkpoint(now)?;
    }
    Ok(())
}

/// Tells the thread that writes checkpoints to end.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    stop: Mutex<bool>,
    changed: Condvar,
}

impl Checkpoints {
    pub(super) fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Writes checkpoints until it is told to stop.
    pub(super) fn run(&self, store: &dyn Store, clock: &Clock, written: &Written) {
        let pause = Duration::from_millis(limits::CHECKPOINT_MS);
        let mut failing = false;
        loop {
            let guard = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(guard, pause, |stop| !*stop);
            let (stop, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if *stop {
                return;
            }
            drop(stop);
            match store.checkpoint(clock.now()) {
                Ok(confirmed) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the store is written again");
                    }
                    written.leave(confirmed);
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the store is not written: free its disk, or make it writable; what \
                                             is counted waits in memory, and it is tried again");
                }
                Err(_) => {}
            }
        }
    }
}
