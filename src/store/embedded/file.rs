//! The file that redb's pages are in, with a lock, and with a hold on what is written.
//!
//! ```text
//!   held:      reads come from what is held over the file; writes are held, in their order
//!   released:  what was held is written, in the same order and with the same syncs, and from then on all is
//! ```
//!
//! redb writes while it opens: that the file is in use, a repair where it was not closed well. Of a file that turns
//! out to be damaged, or of a later version, nothing may be changed; so whatever opening writes is held until the
//! first commit. Then it is written as redb would have, so that a crash in the middle is a crash as any other. It is
//! also why a store opens on a disk that is full or read-only.

use redb::StorageBackend;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// A file, locked for as long as this lives or until redb closes it.
#[derive(Debug)]
pub(super) struct PageFile {
    file: File,
    /// The system's number for why it may only be read.
    read_only: Option<i32>,
    held: RwLock<Option<Held>>,
}

/// What redb has written and the file does not have.
#[derive(Debug)]
struct Held {
    writes: Vec<Write>,
    /// The length that redb sees.
    length: u64,
}

#[derive(Debug)]
enum Write {
    At(u64, Box<[u8]>),
    Length(u64),
    Sync,
}

impl PageFile {
    /// Opens and locks a file; `None` if another process has it. One that may not be written can still be read.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if is_read_only(&error) => Self::lock(File::open(path)?, error.raw_os_error()),
            file => Self::lock(file?, None),
        }
    }

    /// Opens a file that is to be filled anew, and makes it if it is not there.
    pub(super) fn create(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Self::lock(file, None)
    }

    fn lock(file: File, read_only: Option<i32>) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => {
                let length = file.metadata()?.len();
                let held = RwLock::new(Some(Held { writes: Vec::new(), length }));
                Ok(Some(Self { file, read_only, held }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Empties it, and writes what comes at once.
    pub(super) fn begin_anew(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Writes what is held. After an error the rest is still held.
    pub(super) fn release(&self) -> io::Result<()> {
        if let Some(number) = self.read_only {
            return Err(io::Error::from_raw_os_error(number));
        }
        let mut guard = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = guard.as_mut() else {
            return Ok(());
        };
        let mut done = 0;
        let mut result = Ok(());
        for write in &held.writes {
            result = match write {
                Write::At(at, bytes) => self.file.write_all_at(bytes, *at),
                Write::Length(length) => self.file.set_len(*length),
                Write::Sync => self.file.sync_data(),
            };
            if result.is_err() {
                break;
            }
            done += 1;
        }
        held.writes.drain(..done);
        if result.is_ok() {
            *guard = None;
        }
        result
    }
}

/// Whether a file may not be written, but perhaps read.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

impl Held {
    /// Reads what the file would hold.
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_or_zero(file, offset, out)?;
        for write in &self.writes {
            match write {
                Write::At(at, bytes) => lay_over(offset, out, *at, bytes),
                Write::Length(length) => {
                    // What was cut off does not come back when it grows again.
                    let kept = length.saturating_sub(offset).min(out.len() as u64) as usize;
                    out.get_mut(kept..).unwrap_or_default().fill(0);
                }
                Write::Sync => {}
            }
        }
        Ok(())
    }
}

/// Reads; what is beyond the file's end is 0.
fn read_or_zero(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match file.read_at(out, offset) {
            Ok(0) => {
                out.fill(0);
                return Ok(());
            }
            Ok(read) => {
                offset += read as u64;
                out = out.get_mut(read..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lays `bytes`, which stand at `at`, over what was read from `offset`.
fn lay_over(offset: u64, out: &mut [u8], at: u64, bytes: &[u8]) {
    let from = at.max(offset);
    let to = (at + bytes.len() as u64).min(offset + out.len() as u64);
    if from < to {
        let length = (to - from) as usize;
        let (into, out_of) = ((from - offset) as usize, (from - at) as usize);
        if let (Some(into), Some(out_of)) =
            (out.get_mut(into..into + length), bytes.get(out_of..out_of + length))
        {
            into.copy_from_slice(out_of);
        }
    }
}

/// redb owns its backend, and we release it.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<PageFile>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        match &*self.0.held.read().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => Ok(held.length),
            None => Ok(self.0.file.metadata()?.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.0.held.read().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => held.read(&self.0.file, offset, out),
            None => self.0.file.read_exact_at(out, offset),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        match &mut *self.0.held.write().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => {
                held.length = length;
                held.writes.push(Write::Length(length));
                Ok(())
            }
            None => self.0.file.set_len(length),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match &mut *self.0.held.write().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => {
                held.writes.push(Write::Sync);
                Ok(())
            }
            None => self.0.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Writing shares the lock: only a hold is changed by it.
        if self.0.held.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return self.0.file.write_all_at(data, offset);
        }
        match &mut *self.0.held.write().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => {
                held.length = held.length.max(offset + data.len() as u64);
                held.writes.push(Write::At(offset, data.into()));
                Ok(())
            }
            None => self.0.file.write_all_at(data, offset),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.unlock()
    }
}

/// Passes any backend on as one type.
#[derive(Debug)]
pub(super) struct Boxed(pub(super) Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_held_reads_as_if_it_were_written_and_is_written_once_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages");
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..200 {
            let mut model: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            fs::write(&path, &model).unwrap();
            let file = Arc::new(PageFile::open(&path).unwrap().unwrap());
            let backend = Shared(Arc::clone(&file));
            let before = model.clone();
            for _ in 0..20 {
                match random.u8(0..4) {
                    0 => {
                        let length = random.usize(0..300);
                        model.resize(length, 0);
                        backend.set_len(length as u64).unwrap();
                    }
                    1 if !model.is_empty() => {
                        let at = random.usize(0..model.len());
                        let bytes = vec![random.u8(..); random.usize(0..=model.len() - at)];
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                        backend.write(at as u64, &bytes).unwrap();
                    }
                    2 => backend.sync_data().unwrap(),
                    _ => {
                        let at = random.usize(0..=model.len());
                        let mut out = vec![1; random.usize(0..=model.len() - at)];
                        backend.read(at as u64, &mut out).unwrap();
                        assert_eq!(out, model[at..at + out.len()], "round {round}");
                    }
                }
                assert_eq!(backend.len().unwrap(), model.len() as u64);
            }
            backend.read(model.len() as u64, &mut [0]).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), before, "nothing is written while it is held");
            file.release().unwrap();
            assert_eq!(fs::read(&path).unwrap(), model, "round {round}");
            backend.set_len(1).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), 1, "after a release it is written at once");
        }
    }

    #[test]
    fn one_at_a_time_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages");
        let first = PageFile::create(&path).unwrap().unwrap();
        assert!(PageFile::open(&path).unwrap().is_none());
        drop(first);
        assert!(PageFile::open(&path).unwrap().is_some());
    }
}
