//! What the journal asks of a disk: one directory, whole files to read, one file at a time to write.
//!
//! The real one is [`Directory`]. Tests have one in memory that crashes, fills up and fails on command; that
//! is why this is a trait, and why there is no more in it than the journal needs.

use super::JournalError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory of files. All names are plain file names.
pub trait Disk: fmt::Debug + Send {
    /// A file's path, for messages.
    fn path(&self, name: &str) -> PathBuf;
    /// All files, with their bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a file, which must not exist yet. It is the one that is written to, until it is closed or the
    /// next one is made.
    fn create_new(&mut self, name: &str) -> io::Result<()>;
    /// Writes at the file's end, perhaps not all of it; returns how much.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until what was written to the file would survive a loss of power.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Closes the file that is written to.
    fn close(&mut self);
    /// Takes a file away.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Waits until files made and taken away would be so after a loss of power.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A directory of the file system, locked for as long as this lives: two writers would remove each other's
/// segments.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The lock is on the directory itself, so that it can be had where nothing can be written.
    locked: Flock<File>,
    file: Option<File>,
}

impl Directory {
    /// Makes the directory if it is not there, and locks it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Directory { path: path.to_owned(), source };
        if !path.exists() {
            // What is counted is nobody else's business.
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            // So that its name survives; where the parent may be entered and not read, the system sees to it.
            if let Some(parent) = path.parent().and_then(|parent| File::open(parent).ok()) {
                parent.sync_all().ok();
            }
        }
        let directory =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(path).map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => Ok(Self { path: path.to_owned(), locked, file: None }),
            Err((_, Errno::EWOULDBLOCK)) => Err(JournalError::Locked { path: path.to_owned() }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no file is open to be written"))
    }
}

impl Disk for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // A name that is not UTF-8 is not one of ours.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    fn create_new(&mut self, name: &str) -> io::Result<()> {
        self.file = None;
        self.file = Some(OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(name))?);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn close(&mut self) {
        self.file = None;
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        match self.locked.sync_all() {
            // Some network file systems have no sync of a directory: there is nothing more to ask for.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }
}
