//! A store's file that could not be opened, in words that say how to go on.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A file that could not be opened.
#[derive(Debug, Error)]
pub enum DiskError {
    /// It is not what it should be.
    #[error(
        "the store {path} is damaged ({cause}); nothing was changed in it. To go on, put a backup in its place \
         (`tallyd restore BACKUP`), or move it away and start with an empty store"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A later version of tallyd made it.
    #[error(
        "the store {path} was written by a later version of tallyd (its format is {found}, this one knows {known}); \
         nothing was changed in it. Run that version, or move the file away and start with an empty store"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that we know.
        known: u64,
    },
    /// Another process has it.
    #[error(
        "the store {path} is in use by another process; stop it, or give this one a directory of its own (`store.url`)"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The system would not let us.
    #[error("the store {path}: {cause}; {}", cure(cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

impl DiskError {
    /// Whether only room is missing.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if is_full(cause))
    }
}

fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn cure(cause: &io::Error) -> &'static str {
    if is_full(cause) {
        "free some space on that disk, or give `store.url` a directory on another"
    } else {
        "give `store.url` a directory that tallyd may write to, or `memory:`"
    }
}
