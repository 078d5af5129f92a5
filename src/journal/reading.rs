//! Reading a journal that somebody else writes: its directory, without the lock.

use super::recovery::Contents;
use super::segment::{self, UnknownVersion};
use crate::limits;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A journal that another thread of this process writes.
#[derive(Clone, Debug)]
pub struct Reading {
    folder: PathBuf,
}

impl Reading {
    /// The journal in a directory.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The segments there are, oldest first.
    pub fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(segment::number_of));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The whole records of a segment, as far as they are written.
    pub fn read(&self, number: u64) -> io::Result<Contents> {
        let path = self.folder.join(segment::file_name(number));
        if fs::metadata(&path)?.len() > limits::JOURNAL_READ_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = fs::read(path)?;
        match segment::scan(&bytes) {
            Ok(scan) => Ok(Contents::new(bytes, scan)),
            Err(UnknownVersion(version)) => Err(io::Error::other(format!(
                "a segment of version {version}, which this tallyd does not know"
            ))),
        }
    }
}
