//! A restart inside a bucket, where no store survives it.
//!
//! A stop states the open bucket as far as it has come. If the next process starts inside the same bucket
//! under `memory:`, what it states will replace that by less, and nobody could know. So the stop leaves a
//! note, a few bytes in the runtime or temporary directory, and the start reads it: the loss is counted and
//! said. Without a place for the note nothing is said, and nothing else changes.

use crate::clock::WallMs;
use crate::config::Config;
use crate::limits;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where one process tells the next which bucket it stated unfinished.
#[derive(Clone, Debug)]
pub(super) struct Note {
    path: PathBuf,
    width_ms: i64,
}

impl Note {
    /// The note of this configuration: others on this machine that listen or send elsewhere have their own.
    pub(super) fn new(config: &Config) -> Option<Self> {
        // Without a destination nothing is stated, so nothing can be replaced.
        if config.graphite.addresses.is_empty() {
            return None;
        }
        let folder = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
        Some(Self::at(&folder, config))
    }

    fn at(folder: &Path, config: &Config) -> Self {
        // The same in every process: the name must be found again.
        let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
        hasher.write(format!("{:?} {:?}", config.ingest.udp, config.ingest.unix).as_bytes());
        hasher.write(format!("{:?}", config.graphite.addresses).as_bytes());
        let user = nix::unistd::Uid::effective();
        let path = folder.join(format!("tallyd-{user}-{:016x}.open-bucket", hasher.finish()));
        Self { path, width_ms: config.flush.bucket.ms() }
    }

    /// The bucket that the process before us stated unfinished, if `now` is still inside it. The note is
    /// taken away: it is said once.
    pub(super) fn take(&self, now: WallMs) -> Option<WallMs> {
        let text = fs::read_to_string(&self.path).ok()?;
        fs::remove_file(&self.path).ok();
        let start: WallMs = text.trim().parse().ok()?;
        (start..start.saturating_add(self.width_ms)).contains(&now).then_some(start)
    }

    /// Takes away the notes of a day and more ago, whose buckets are over: configurations come and go.
    fn sweep(&self) {
        let prefix = format!("tallyd-{}-", nix::unistd::Uid::effective());
        let notes =
            self.path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        for note in notes.filter(|note| note.file_name().to_string_lossy().starts_with(&prefix)) {
            let age =
                note.metadata().and_then(|meta| meta.modified()).ok().and_then(|then| then.elapsed().ok());
            if age.is_some_and(|age| age.as_millis() > u128::from(limits::BUCKET_MS_MAX)) {
                fs::remove_file(note.path()).ok();
            }
        }
    }

    /// Leaves word that the bucket was stated unfinished.
    pub(super) fn leave(&self, bucket: WallMs) -> io::Result<()> {
        self.sweep();
        // In a folder that others write to, a link of theirs must not lead us elsewhere.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        writeln!(file, "{bucket}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_once_and_only_inside_its_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note::at(folder.path(), &Config::default());
        assert_eq!(note.take(15_000), None);
        note.leave(10_000).unwrap();
        assert_eq!(note.take(19_999), Some(10_000));
        assert_eq!(note.take(19_999), None, "it is said once");
        note.leave(10_000).unwrap();
        assert_eq!(note.take(20_000), None, "the bucket is over");
    }

    #[test]
    fn a_link_is_not_followed_and_other_addresses_have_other_notes() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::default();
        let note = Note::at(folder.path(), &config);
        let target = folder.path().join("precious");
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &note.path).unwrap();
        assert!(note.leave(0).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        let mut other = config;
        other.ingest.udp = vec!["127.0.0.1:9".parse().unwrap()];
        assert_ne!(Note::at(folder.path(), &other).path, note.path);
    }
}
