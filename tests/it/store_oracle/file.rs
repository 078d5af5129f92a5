//! A file in memory under redb that crashes on command: the store's oracles run on it.
//!
//! What was written since the last sync is there after a process was killed. After a loss of power any part of it is
//! there, in sectors, whatever the order it was written in. Whoever had the file open before cannot write any more.

use crate::journal::disk::Fate;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tallyd::store::embedded::{Disk, DiskError};

const SECTOR_BYTES: usize = 512;

/// The file; clones are the same file.
#[derive(Clone, Debug)]
pub(crate) struct VirtualFile(Arc<Mutex<State>>);

/// What fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileFaults {
    /// Writes until the disk takes no more.
    pub(crate) writes_left: Option<u32>,
    pub(crate) syncs_fail: bool,
    pub(crate) reads_fail: bool,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    /// What was changed since the last sync, oldest first.
    unsynced: Vec<Write>,
    /// Who may write: the last that opened it.
    owner: u64,
    faults: FileFaults,
    fate: Fate,
    random: StdRng,
}

#[derive(Debug)]
enum Write {
    Bytes { at: usize, before: Vec<u8>, after: Vec<u8> },
    Length { before: Vec<u8>, keep: usize, after: usize },
}

impl VirtualFile {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_bytes(Vec::new(), seed)
    }

    pub(crate) fn with_bytes(bytes: Vec<u8>, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(State {
            bytes,
            unsynced: Vec::new(),
            owner: 0,
            faults: FileFaults::default(),
            fate: Fate::default(),
            random,
        })))
    }

    /// From here on it fails like this.
    pub(crate) fn fail(&self, faults: FileFaults) {
        self.state().faults = faults;
    }

    /// What is in it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set(&self, faults: FileFaults) {
        self.state().faults = faults;
    }

    /// From now on it is this process that writes.
    pub(crate) fn serve(&self, fate: &Fate) {
        self.state().fate = fate.clone();
    }

    pub(crate) fn length(&self) -> usize {
        self.state().bytes.len()
    }

    /// The process that has it is gone; what it wrote is there.
    pub(crate) fn kill(&self) {
        self.state().owner += 1;
    }

    /// The machine is gone, and with it any part of what was not synced.
    pub(crate) fn lose_power(&self) {
        let State { bytes, unsynced, owner, random, .. } = &mut *self.state();
        *owner += 1;
        for write in unsynced.iter().rev() {
            match write {
                Write::Bytes { at, before, .. } => bytes[*at..*at + before.len()].copy_from_slice(before),
                Write::Length { before, keep, .. } => {
                    bytes.truncate(*keep);
                    bytes.extend(before);
                }
            }
        }
        for write in unsynced.drain(..) {
            match write {
                Write::Length { after, .. } if random.random() => bytes.resize(after, 0),
                Write::Length { .. } => {}
                Write::Bytes { at, after, .. } => {
                    for (sector, part) in after.chunks(SECTOR_BYTES).enumerate() {
                        let start = at + sector * SECTOR_BYTES;
                        if random.random() {
                            let end = start + part.len();
                            bytes.resize(bytes.len().max(end), 0);
                            bytes[start..end].copy_from_slice(part);
                        }
                    }
                }
            }
        }
    }

    /// Opens it as the store's disk.
    pub(crate) fn open(&self) -> Result<Disk, DiskError> {
        let file = self.clone();
        let backend = move || {
            let mut state = file.state();
            state.owner += 1;
            let owner = state.owner;
            Ok(Box::new(Handle { file: file.clone(), owner }) as Box<dyn StorageBackend>)
        };
        Disk::open_with(Path::new("virtual/tallyd.redb"), Arc::new(backend))
    }
}

#[derive(Debug)]
struct Handle {
    file: VirtualFile,
    owner: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.file.state();
        if state.owner == self.owner { Ok(state) } else { Err(io::Error::other("this process is gone")) }
    }
}

impl State {
    fn take_write(&mut self) -> io::Result<()> {
        self.fate.act()?;
        match &mut self.faults.writes_left {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if state.faults.reads_fail {
            return Err(io::Error::other("input/output error"));
        }
        let at = usize::try_from(offset).unwrap();
        let found = at.checked_add(out.len()).and_then(|end| state.bytes.get(at..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.take_write()?;
        let (len, now) = (usize::try_from(len).unwrap(), state.bytes.len());
        let keep = len.min(now);
        let before = state.bytes[keep..].to_vec();
        state.unsynced.push(Write::Length { before, keep, after: len });
        state.bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.fate.act()?;
        if state.faults.syncs_fail {
            return Err(io::Error::other("input/output error"));
        }
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.take_write()?;
        let at = usize::try_from(offset).unwrap();
        let end = at + data.len();
        if end > state.bytes.len() {
            let (now, before) = (state.bytes.len(), Vec::new());
            state.unsynced.push(Write::Length { before, keep: now, after: end });
            state.bytes.resize(end, 0);
        }
        let before = state.bytes[at..end].to_vec();
        state.unsynced.push(Write::Bytes { at, before, after: data.to_vec() });
        state.bytes[at..end].copy_from_slice(data);
        Ok(())
    }
}
