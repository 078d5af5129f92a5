//! A disk in memory that fails on command and loses power: the journal's simulation runs on it.
//!
//! It keeps what a real one keeps and no more: bytes that were synced, in files whose directory was synced.
//! Of everything else a loss of power leaves any part, in pages, some of them zeros and some of them junk. A
//! sync that failed is as on Linux: the bytes are held for clean, and the next sync says yes without them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tallyd::journal::Disk;

/// Small, so that small files have many.
const PAGE_BYTES: usize = 64;

/// How many more times a process writes to its disks before it is killed. Nothing it does later leaves a trace, so
/// that whoever drives it may let it go on to the end of a step. Clones are of the same process.
#[derive(Clone, Debug)]
pub(crate) struct Fate(Arc<AtomicU64>);

impl Default for Fate {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Fate {
    pub(crate) fn meet_after(&self, writes: u64) {
        self.0.store(writes, Ordering::Relaxed);
    }

    pub(crate) fn is_met(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn act(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => Ok(()),
            0 => Err(io::Error::other("this process is gone")),
            left => {
                self.0.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// What fails.
#[expect(clippy::struct_excessive_bools, reason = "any of them may be so at a time")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Bytes until the disk is full.
    pub(crate) room_bytes: Option<usize>,
    pub(crate) read_only: bool,
    pub(crate) writes_fail: bool,
    pub(crate) syncs_fail: bool,
    /// Writes are interrupted, or take a part.
    pub(crate) writes_short: bool,
    /// Syncs say yes and do nothing: no journal can stand this, and the simulation must notice.
    pub(crate) syncs_lie: bool,
    pub(crate) reads_fail: bool,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct VirtualDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    files: BTreeMap<String, VirtualFile>,
    /// Removed, and the directory not synced since.
    removed: BTreeMap<String, VirtualFile>,
    open: Option<String>,
    faults: Faults,
    fate: Fate,
    random: StdRng,
    syncs: usize,
}

#[derive(Clone, Debug, Default)]
struct VirtualFile {
    bytes: Vec<u8>,
    /// So many survive a loss of power.
    safe: usize,
    /// A sync failed: what was not safe then never will be.
    sync_failed: bool,
    /// The directory was synced since the file was made.
    named: bool,
}

impl VirtualDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            open: None,
            faults: Faults::default(),
            fate: Fate::default(),
            random: StdRng::seed_from_u64(seed),
            syncs: 0,
        })))
    }

    /// A disk with one file, for damage that is made by hand.
    pub(crate) fn with_file(name: &str, bytes: &[u8]) -> Self {
        let disk = Self::new(0);
        let file = VirtualFile { bytes: bytes.to_vec(), safe: bytes.len(), sync_failed: false, named: true };
        disk.state().files.insert(name.to_owned(), file);
        disk
    }

    /// Another disk with the same on it.
    pub(crate) fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        copy.state().files.clone_from(&self.state().files);
        copy.state().removed.clone_from(&self.state().removed);
        copy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// From now on it is this process that writes.
    pub(crate) fn serve(&self, fate: &Fate) {
        self.state().fate = fate.clone();
    }

    pub(crate) fn file_names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    pub(crate) fn bytes_of(&self, name: &str) -> Vec<u8> {
        self.state().files[name].bytes.clone()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state().files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// Syncs of data so far, failed ones among them.
    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Flips one bit somewhere in a file; says in which.
    pub(crate) fn flip_a_bit(&self) -> Option<String> {
        let State { files, random, .. } = &mut *self.state();
        let which = random.random_range(0..files.len().max(1));
        let (name, file) = files.iter_mut().nth(which)?;
        let bit = random.random_range(0..(file.bytes.len() * 8).max(1));
        *file.bytes.get_mut(bit / 8)? ^= 1 << (bit % 8);
        Some(name.clone())
    }

    /// Loses power. What is left afterwards is on the disk.
    pub(crate) fn lose_power(&self) {
        let State { files, removed, open, random, .. } = &mut *self.state();
        *open = None;
        for (name, file) in std::mem::take(removed) {
            if random.random() {
                files.entry(name).or_insert(file);
            }
        }
        files.retain(|_, file| file.named || random.random());
        for file in files.values_mut() {
            let length = random.random_range(file.safe..=file.bytes.len());
            file.bytes.truncate(length);
            for start in (0..length).step_by(PAGE_BYTES) {
                let page = start.max(file.safe)..(start + PAGE_BYTES).clamp(file.safe, length);
                let lost = file.bytes.get_mut(page).unwrap_or_default();
                match random.random_range(0..6) {
                    0 => lost.fill(0),
                    1 => random.fill(lost),
                    _ => {}
                }
            }
            *file = VirtualFile { safe: length, sync_failed: false, named: true, bytes: file.bytes.clone() };
        }
    }
}

impl State {
    fn writable(&self) -> io::Result<()> {
        self.fate.act()?;
        if self.faults.read_only { Err(ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl Disk for VirtualDisk {
    fn path(&self, name: &str) -> PathBuf {
        Path::new("virtual").join(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.state().files.iter().map(|(name, file)| (name.clone(), file.bytes.len() as u64)).collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        if state.faults.reads_fail {
            return Err(io::Error::other("input/output error"));
        }
        state.files.get(name).map(|file| file.bytes.clone()).ok_or(ErrorKind::NotFound.into())
    }

    fn create_new(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.open = None;
        state.writable()?;
        if state.files.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.removed.remove(name);
        state.files.insert(name.to_owned(), VirtualFile::default());
        state.open = Some(name.to_owned());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.writable()?;
        let faults = state.faults;
        if faults.writes_fail {
            return Err(io::Error::other("input/output error"));
        }
        let mut length = bytes.len().min(faults.room_bytes.unwrap_or(usize::MAX));
        if length == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        if faults.writes_short {
            if state.random.random_range(0..4) == 0 {
                return Err(ErrorKind::Interrupted.into());
            }
            length = state.random.random_range(1..=length);
        }
        if let Some(room) = &mut state.faults.room_bytes {
            *room -= length;
        }
        let name = state.open.clone().expect("a file is open");
        // The file may have been removed while it was open: then nobody sees these bytes.
        if let Some(file) = state.files.get_mut(&name) {
            file.bytes.extend(&bytes[..length]);
        }
        Ok(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
        state.fate.act()?;
        let faults = state.faults;
        let name = state.open.clone().expect("a file is open");
        let Some(file) = state.files.get_mut(&name) else { return Ok(()) };
        if faults.syncs_fail {
            file.sync_failed = true;
            return Err(io::Error::other("input/output error"));
        }
        if !file.sync_failed && !faults.syncs_lie {
            file.safe = file.bytes.len();
        }
        Ok(())
    }

    fn close(&mut self) {
        self.state().open = None;
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.writable()?;
        let file = state.files.remove(name).ok_or(ErrorKind::NotFound)?;
        state.removed.insert(name.to_owned(), file);
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.fate.act()?;
        if state.faults.syncs_fail {
            return Err(io::Error::other("input/output error"));
        }
        state.removed.clear();
        state.files.values_mut().for_each(|file| file.named = true);
        Ok(())
    }
}
