//! The file: one redb database with one table of bytes.
//!
//! Every commit is one transaction with redb's *quick repair*, so that a file of a gigabyte opens at once after a
//! crash (measured in the research: 0.01 s for 1.1 GB against 3.6 s). After an error in writing redb trusts
//! nothing it holds in memory, so the file is opened anew before the next try.
//!
//! **Damage.** A file that is damaged, or newer than this program, is an error that says how to go on. Nothing is
//! ever written over it: what redb writes while it opens is held until the first commit (file.rs). Damage is found
//!
//! - at the opening of a file up to [`limits::STORE_CHECKED_BYTES`]: redb compares the checksums of all pages;
//!   of a larger one when it is met, for that takes too long at a start;
//! - by a checksum behind each value, of its key and itself, which is compared with each reading; and by keys that
//!   are not in order;
//! - by a panic of redb, which promises none only for what it has checked; it is caught here, and nowhere else.
//!
//! Damage that is met later is counted and said, and costs what cannot be read.
//!
//! One bit is beyond this: the one in redb's header that says which of the last two commits is the newer. Turned
//! over, the store is as it was a checkpoint before; where the journal has gone on since, the gap is counted.

use super::archive::{EachWhile, Layer, OnDamage};
use super::error::DiskError;
use super::file::{Boxed, PageFile, Shared};
use super::layout::{self, WRONG_SUM};
use crate::limits;
use crate::panics;
use crate::store::StoreError;
use redb::{Builder, Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tallyd");

/// How the file is reached; the simulation gives its own.
type Backend = Arc<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// A database that is open.
struct Opened {
    database: Database,
    /// What its pages are in; nothing is held of what a backend of somebody else's writes.
    file: Option<Arc<PageFile>>,
}

impl Opened {
    /// What was written while opening is written to the file, too, if it was not yet.
    fn release(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.release())
    }
}

/// What there is of the database.
enum State {
    Open(Opened),
    /// There is none yet: when we started the disk was full, in these words. It is as good as empty.
    Unmade(String),
    /// It is opened anew with the next commit.
    Closed,
}

/// The database, open or to be opened anew.
pub struct Disk {
    path: PathBuf,
    backend: Option<Backend>,
    /// A file up to this size is compared with its checksums when it is opened.
    checked_bytes: u64,
    state: RwLock<State>,
    /// Bytes of values and keys handed to commits, for the status.
    written: AtomicU64,
    /// How often something did not read back.
    damaged: AtomicU64,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(limits::STORE_CACHE_BYTES);
    builder
}

impl Disk {
    /// Opens a file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        Self::start(path.to_owned(), None, limits::STORE_CHECKED_BYTES)
    }

    /// Opens a file that is there.
    pub fn open_existing(path: &Path) -> Result<Self, DiskError> {
        fs::metadata(path).map_err(|cause| DiskError::Io { path: path.to_owned(), cause })?;
        Self::open(path)
    }

    /// Reads a whole file and compares its checksums; returns how many keys it has. Nothing is written to it.
    pub fn check(path: &Path) -> Result<u64, DiskError> {
        fs::metadata(path).map_err(|cause| DiskError::Io { path: path.to_owned(), cause })?;
        let disk = Self::start(path.to_owned(), None, u64::MAX)?;
        let mut keys = 0;
        let counted = disk.visit(&[], &[0xff], OnDamage::Fail, &mut |_, _| {
            keys += 1;
            Ok(true)
        });
        counted.map_err(|error| DiskError::Damaged { path: path.to_owned(), cause: error.to_string() })?;
        Ok(keys)
    }

    /// Opens what a backend gives; `path` is only its name.
    pub fn open_with(path: &Path, backend: Backend) -> Result<Self, DiskError> {
        Self::start(path.to_owned(), Some(backend), 0)
    }

    fn start(path: PathBuf, backend: Option<Backend>, checked_bytes: u64) -> Result<Self, DiskError> {
        let disk = Self {
            path,
            backend,
            checked_bytes,
            state: RwLock::new(State::Closed),
            written: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        };
        let state = match disk.opened() {
            Ok(opened) => {
                if let Err(error) = disk.caught(|| disk.check_format(&opened.database)) {
                    disk.close(opened);
                    return Err(error);
                }
                State::Open(opened)
            }
            Err(error) if error.is_full() && !disk.path.exists() => State::Unmade(error.to_string()),
            Err(error) => return Err(error),
        };
        *disk.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(disk)
    }

    /// A panic of redb's says that the file is damaged.
    fn caught<T>(&self, work: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
        let damaged = |cause| Err(DiskError::Damaged { path: self.path.clone(), cause });
        panics::caught(work).unwrap_or_else(damaged)
    }

    fn opened(&self) -> Result<Opened, DiskError> {
        self.caught(|| match &self.backend {
            Some(backend) => {
                let backend = backend().map_err(|cause| DiskError::Io { path: self.path.clone(), cause })?;
                let database = builder().create_with_backend(Boxed(backend));
                Ok(Opened { database: database.map_err(|error| self.unopened(error))?, file: None })
            }
            None => self.open_file(),
        })
    }

    fn open_file(&self) -> Result<Opened, DiskError> {
        let io_error = |cause| DiskError::Io { path: self.path.clone(), cause };
        if !self.path.exists() {
            self.make()?;
        }
        let bytes = fs::metadata(&self.path).map_err(io_error)?.len();
        if bytes == 0 {
            // redb would begin anew in it, and what was lost would go unnoticed.
            return Err(DiskError::Damaged { path: self.path.clone(), cause: "it is empty".to_owned() });
        }
        let file = PageFile::open(&self.path).map_err(io_error)?;
        let file = Arc::new(file.ok_or_else(|| DiskError::InUse { path: self.path.clone() })?);
        let database = builder()
            .set_check_integrity_on_open(bytes <= self.checked_bytes)
            .create_with_backend(Shared(Arc::clone(&file)));
        Ok(Opened { database: database.map_err(|error| self.unopened(error))?, file: Some(file) })
    }

    /// Makes an empty database. It comes into its place whole, or not at all: a disk that is full, or a crash,
    /// leaves nothing behind that would pass for a damaged store.
    fn make(&self) -> Result<(), DiskError> {
        let part = self.path.with_extension("new");
        let io_error = |cause| DiskError::Io { path: self.path.clone(), cause };
        // The lock on it is held until it is in its place, so that of two processes one makes it.
        let file = PageFile::create(&part).map_err(io_error)?;
        let file = Arc::new(file.ok_or_else(|| DiskError::InUse { path: self.path.clone() })?);
        if self.path.exists() {
            return Ok(());
        }
        let made = file.begin_anew().map_err(io_error).and_then(|()| {
            let database = builder().create_with_backend(Shared(Arc::clone(&file)));
            database.and_then(Database::close).map_err(|error| self.unopened(error))
        });
        if let Err(error) = made.and_then(|()| fs::rename(&part, &self.path).map_err(io_error)) {
            fs::remove_file(&part).ok();
            return Err(error);
        }
        // So that its name survives; where the folder may not be read, the system sees to it.
        if let Some(folder) = self.path.parent().and_then(|folder| File::open(folder).ok()) {
            folder.sync_all().ok();
        }
        Ok(())
    }

    fn unopened(&self, error: redb::DatabaseError) -> DiskError {
        let path = self.path.clone();
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DiskError::InUse { path },
            redb::DatabaseError::Storage(redb::StorageError::Io(cause))
                if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                DiskError::Io { path, cause }
            }
            error => DiskError::Damaged { path, cause: error.to_string() },
        }
    }

    /// Closes a database. It may be damaged, and then whatever redb does is not of interest any more.
    fn close(&self, opened: Opened) {
        if let Err(cause) = panics::caught(|| drop(opened)) {
            tracing::debug!(cause, path = %self.path.display(), "the store's file could not be closed in order");
        }
    }

    fn check_format(&self, database: &Database) -> Result<(), DiskError> {
        let damaged = |cause: String| DiskError::Damaged { path: self.path.clone(), cause };
        let key = layout::setting("format");
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let reading = database.begin_read()?;
            match reading.open_table(TABLE) {
                Ok(table) => Ok(table.get(&key[..])?.map(|found| found.value().to_vec())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let Some(found) = read().map_err(|error| damaged(error.to_string()))? else {
            return Ok(());
        };
        let found = layout::opened(&key, &found).ok_or_else(|| damaged(WRONG_SUM.to_owned()))?;
        let found = std::str::from_utf8(found).ok().and_then(|text| text.parse().ok());
        match found.ok_or_else(|| damaged("its format is not a number".to_owned()))? {
            found if found > layout::FORMAT => {
                Err(DiskError::Newer { path: self.path.clone(), found, known: layout::FORMAT })
            }
            _ => Ok(()),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were handed to it for writing.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// Bytes of the pages that its entries are in; the file is longer, since redb makes room ahead.
    pub(super) fn used(&self) -> Result<u64, StoreError> {
        self.with_table(
            |table| {
                let stats = table.stats().map_err(|error| self.away(error))?;
                Ok(stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes())
            },
            0,
        )
    }

    fn away(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(cause) => self.damaged(&cause),
            error => StoreError::Away(format!("{}: {error}", self.path.display())),
        }
    }

    fn damaged(&self, cause: &str) -> StoreError {
        let times = self.damaged.fetch_add(1, Ordering::Relaxed) + 1;
        // The same place may be read many times a second.
        if times.is_power_of_two() {
            tracing::error!(
                path = %self.path.display(), cause, times,
                "a part of the store's file does not read back, and is left out; `tallyd restore` puts a backup in \
                 its place"
            );
        }
        StoreError::Damaged(format!("{} is damaged: {cause}", self.path.display()))
    }

    /// How often something in it did not read back.
    pub(super) fn times_damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Why there is nothing to write to since the start, if there is not.
    pub(super) fn unmade(&self) -> Option<String> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Unmade(cause) => Some(cause.clone()),
            _ => None,
        }
    }

    fn with_table<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, StoreError>,
        empty: T,
    ) -> Result<T, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let opened = match &*state {
            State::Open(opened) => opened,
            State::Unmade(_) => return Ok(empty),
            State::Closed => {
                return Err(StoreError::Away(format!("{} is being opened anew", self.path.display())));
            }
        };
        let done = panics::caught(|| {
            let reading = opened.database.begin_read().map_err(|error| self.away(error))?;
            match reading.open_table(TABLE) {
                Ok(table) => read(&table),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(empty),
                Err(error) => Err(self.away(error)),
            }
        });
        done.unwrap_or_else(|cause| Err(self.damaged(&cause)))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.with_table(
            |table| {
                let Some(found) = table.get(key).map_err(|error| self.away(error))? else {
                    return Ok(None);
                };
                layout::opened(key, found.value())
                    .map(|value| Some(value.into()))
                    .ok_or_else(|| self.damaged(WRONG_SUM))
            },
            None,
        )
    }

    /// Visits keys in `[from, to)` in their order until it is told not to go on.
    pub(super) fn visit(
        &self,
        from: &[u8],
        to: &[u8],
        damage: OnDamage,
        each: EachWhile<'_>,
    ) -> Result<(), StoreError> {
        self.with_table(
            |table| {
                let mut last: Option<Vec<u8>> = None;
                for entry in table.range(from..to).map_err(|error| self.away(error))? {
                    let (key, value) = entry.map_err(|error| self.away(error))?;
                    let (key, value) = (key.value(), value.value());
                    if last.as_deref().is_some_and(|last| last >= key) || key < from || key >= to {
                        return Err(self.damaged("its keys are not in order"));
                    }
                    match layout::opened(key, value).ok_or_else(|| self.damaged(WRONG_SUM)) {
                        Ok(value) if panics::ours(|| each(key, value))? => {}
                        Ok(_) => break,
                        Err(_) if damage == OnDamage::Pass => {}
                        Err(error) => return Err(error),
                    }
                    let last = last.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(key);
                }
                Ok(())
            },
            (),
        )
    }

    /// Writes a layer in one transaction.
    pub(super) fn commit(&self, layer: &Layer) -> Result<(), StoreError> {
        if !matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Open(_)) {
            self.open_anew().map_err(|error| StoreError::Away(error.to_string()))?;
        }
        let written = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(opened) => self.write(opened, layer),
            _ => Err(StoreError::Away(format!("{} is not open", self.path.display()))),
        };
        match written {
            Ok(bytes) => {
                self.written.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                // What redb holds in memory may differ from the file now. And what could only be read when it was
                // opened may be written by now.
                if let Err(error) = self.open_anew() {
                    tracing::debug!(%error, "the store's file is opened anew with the next checkpoint");
                }
                Err(error)
            }
        }
    }

    fn write(&self, opened: &Opened, layer: &Layer) -> Result<u64, StoreError> {
        let away = |error: io::Error| StoreError::Away(format!("{}: {error}", self.path.display()));
        opened.release().map_err(away)?;
        match panics::caught(|| write(&opened.database, layer)) {
            Ok(written) => written.map_err(|error| self.away(error)),
            Err(cause) => Err(self.damaged(&cause)),
        }
    }

    fn open_anew(&self) -> Result<(), DiskError> {
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let was_made = !matches!(*guard, State::Unmade(_));
        if let State::Open(stale) = mem::replace(&mut *guard, State::Closed) {
            self.close(stale);
        }
        match self.opened() {
            Ok(opened) => *guard = State::Open(opened),
            Err(error) => {
                if !was_made {
                    *guard = State::Unmade(error.to_string());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a consistent copy to a file that is not there yet; writing goes on meanwhile.
    pub(super) fn copy_to(&self, target: &Path) -> Result<u64, StoreError> {
        let part = target.with_extension("part");
        // One that was left by a copy that did not end.
        fs::remove_file(&part).ok();
        let copied = self.copy_into(&part).and_then(|keys| {
            let put = fs::rename(&part, target);
            put.map_err(|error| StoreError::Away(format!("{}: {error}", target.display())))?;
            Ok(keys)
        });
        if copied.is_err() {
            fs::remove_file(&part).ok();
        }
        copied
    }

    fn copy_into(&self, part: &Path) -> Result<u64, StoreError> {
        let fail = |error: &dyn std::fmt::Display| StoreError::Away(format!("{}: {error}", part.display()));
        let copy = builder().create(part).map_err(|error| fail(&error))?;
        let mut writing = copy.begin_write().map_err(|error| fail(&error))?;
        writing.set_quick_repair(true);
        let mut keys = 0;
        {
            let mut table = writing.open_table(TABLE).map_err(|error| fail(&error))?;
            self.visit(&[], &[0xff], OnDamage::Fail, &mut |key, value| {
                keys += 1;
                let put = table.insert(key, &layout::summed(key, value)[..]);
                put.map(|_| true).map_err(|error| fail(&error))
            })?;
        }
        writing.commit().map_err(|error| fail(&error))?;
        copy.close().map_err(|error| fail(&error))?;
        Ok(keys)
    }
}

/// Applies a layer in one transaction; returns the bytes of its keys and values.
fn write(database: &Database, layer: &Layer) -> Result<u64, redb::Error> {
    let mut writing = database.begin_write()?;
    writing.set_quick_repair(true);
    let mut bytes = 0;
    {
        let mut table = writing.open_table(TABLE)?;
        for (key, value) in layer {
            match value {
                Some(value) => {
                    bytes += (key.len() + value.len()) as u64;
                    table.insert(&key[..], &layout::summed(key, value)[..])?;
                }
                None => {
                    table.remove(&key[..])?;
                }
            }
        }
    }
    writing.commit()?;
    Ok(bytes)
}
