//! What can go wrong with the journal, in words that name the file, the cause and the cure.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A failure of the journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has the directory.
    #[error(
        "the journal {} is in use by another process: stop the other tallyd, or give each a directory of its \
         own in `store.journal`",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be used at all.
    #[error(
        "the journal's directory {} cannot be used: {source}; make it a directory that tallyd's user may \
         write to, or choose another in `store.journal`",
        path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment is in a form that a later program wrote.
    #[error(
        "{} has format {version}, which this tallyd does not know: start the tallyd that wrote it until its \
         journal is empty, or move the file away and lose what is in it",
        path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// What its header says.
        version: u32,
    },
    /// A segment cannot be read.
    #[error("{} cannot be read: {source}; it is left as it is and tried again at the next start", path.display())]
    Read {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment cannot be written.
    #[error("{} cannot be written: {source}; {}", path.display(), cure(source))]
    Write {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment cannot be brought to the disk.
    #[error(
        "{} cannot be brought to the disk: {source}; {}; what was written since the last time is not safe",
        path.display(), cure(source)
    )]
    Sync {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment that is confirmed cannot be removed.
    #[error("{} cannot be removed: {source}; {}", path.display(), cure(source))]
    Remove {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal has its size.
    #[error(
        "the journal is full: {bytes} bytes and {record_bytes} more are over the {bytes_max} bytes of \
         `store.journal_max`; it goes on when the store has confirmed what is in it"
    )]
    Full {
        /// Bytes of the journal.
        bytes: u64,
        /// Bytes of the record that had no room.
        record_bytes: u64,
        /// Bytes it may have.
        bytes_max: u64,
    },
    /// A record is larger than the journal takes.
    #[error("a batch of {bytes} bytes is larger than the {bytes_max} that the journal takes at once")]
    TooLarge {
        /// Bytes of the record.
        bytes: u64,
        /// Bytes it may have.
        bytes_max: u64,
    },
    /// There is no segment to append to: the journal is not durable now.
    #[error("the journal takes nothing now: it is not durable")]
    NoSegment,
    /// A segment was given up, and with it records that had not been brought to the disk.
    #[error("what was written to the journal before its last failure did not reach the disk")]
    Abandoned,
}

/// Why the journal is not durable: the label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has the size of `store.journal_max`.
    Full,
    /// The disk, or our share of it, is full.
    DiskFull,
    /// The file system is read-only, or the directory not ours to write.
    ReadOnly,
    /// A batch was larger than the journal takes.
    TooLarge,
    /// Anything else that the system says.
    Io,
}

impl Reason {
    /// The label of a counter.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "journal_full",
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::TooLarge => "batch_too_large",
            Self::Io => "input_output",
        }
    }

    fn of(source: &io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull,
            ReadOnlyFilesystem | PermissionDenied => Self::ReadOnly,
            _ => Self::Io,
        }
    }
}

impl JournalError {
    /// What this makes the journal.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Full { .. } => Reason::Full,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Directory { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Sync { source, .. }
            | Self::Remove { source, .. } => Reason::of(source),
            Self::Locked { .. } | Self::Version { .. } | Self::NoSegment | Self::Abandoned => Reason::Io,
        }
    }

    /// Whether the journal gets over it by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Locked { .. } | Self::Directory { .. } | Self::Version { .. })
    }
}

fn cure(source: &io::Error) -> &'static str {
    match Reason::of(source) {
        Reason::DiskFull => "free some space on that disk",
        Reason::ReadOnly => "make it writable for tallyd's user",
        _ => "look at the disk and at the system's log",
    }
}
