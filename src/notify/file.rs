//! The board of a process that is alone with its store: notes in one small file, or in memory where there is no disk.
//!
//! The file is JSON and carries its version. It is written beside its place, synced and renamed, so that a crash
//! leaves the old one or the new one, and it is written before anything is sent. One that cannot be read is put aside
//! and named in the log: then what has been is left alone, as at a first start.

use crate::store::{Board, Notes, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Name of the file, in the store's directory.
pub const NOTES_FILE: &str = "notices.json";
/// Version of its format.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct FileBoard {
    path: Option<PathBuf>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    notes: Notes,
    /// Whether the last attempt to write failed, so that it is said once.
    failing: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    notes: BTreeMap<String, Value>,
}

impl FileBoard {
    /// What an earlier process left in a directory; without one, everything is in memory.
    #[must_use]
    pub fn open(folder: Option<&Path>) -> Self {
        let path = folder.map(|folder| folder.join(NOTES_FILE));
        let notes = path.as_deref().map_or_else(Notes::default, |path| {
            read(path).unwrap_or_else(|error| {
                put_aside(path, &error);
                Notes::default()
            })
        });
        Self { path, held: Mutex::new(Held { notes, failing: false }) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of it. A failure is said once; the notes go on in memory, and are written with the next change.
    fn write(&self, held: &mut Held) {
        held.notes.state += 1;
        let Some(path) = &self.path else { return };
        let written = write(path, &held.notes);
        if let Err(error) = &written
            && !held.failing
        {
            tracing::warn!(file = %path.display(), %error, "notices are in memory alone: a restart may repeat one");
        }
        held.failing = written.is_err();
    }
}

impl Board for FileBoard {
    fn read(&self, seen: Option<u64>) -> Result<Option<Notes>, StoreError> {
        let held = self.held();
        Ok((seen != Some(held.notes.state)).then(|| held.notes.clone()))
    }

    fn post(&self, name: &str, text: &str) -> Result<bool, StoreError> {
        let held = &mut *self.held();
        if held.notes.notes.contains_key(name) {
            return Ok(false);
        }
        held.notes.notes.insert(name.to_owned(), text.to_owned());
        self.write(held);
        Ok(true)
    }

    fn change(&self, name: &str, text: Option<&str>) -> Result<(), StoreError> {
        let held = &mut *self.held();
        match text {
            Some(text) => held.notes.notes.insert(name.to_owned(), text.to_owned()),
            None => held.notes.notes.remove(name),
        };
        self.write(held);
        Ok(())
    }

    fn is_ours(&self) -> bool {
        true
    }
}

fn put_aside(path: &Path, error: &io::Error) {
    // If it cannot be moved it is written over; what it said is lost either way.
    fs::rename(path, path.with_extension("json.unreadable")).ok();
    tracing::warn!(file = %path.display(), %error, "what was told is not known any more");
}

fn read(path: &Path) -> io::Result<Notes> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Notes::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    let written: Written = serde_json::from_str(&text)?;
    if written.version != VERSION {
        return Err(io::Error::other(format!("it is of version {}", written.version)));
    }
    let notes = written.notes.into_iter().map(|(name, note)| (name, note.to_string()));
    Ok(Notes { state: 0, notes: notes.collect() })
}

fn write(path: &Path, notes: &Notes) -> io::Result<()> {
    let parsed = |(name, text): (&String, &String)| Some((name.clone(), serde_json::from_str(text).ok()?));
    let written = Written { version: VERSION, notes: notes.notes.iter().filter_map(parsed).collect() };
    let beside = path.with_extension("json.new");
    let mut new = File::create(&beside)?;
    new.write_all(serde_json::to_string(&written)?.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, path)?;
    // The name too is to be there after a crash.
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_outlive_their_process_and_a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let board = FileBoard::open(Some(folder.path()));
        assert!(board.post("goal a", "{\"n\":1}").unwrap());
        assert!(!board.post("goal a", "{\"n\":2}").unwrap(), "the first one holds");
        board.post("goal b", "{}").unwrap();
        board.change("goal b", None).unwrap();
        let again = FileBoard::open(Some(folder.path())).read(None).unwrap().unwrap();
        assert_eq!(again.notes, BTreeMap::from([("goal a".to_owned(), "{\"n\":1}".to_owned())]));
        fs::write(folder.path().join(NOTES_FILE), "{\"version\":1,\"notes\":{\"goal").unwrap();
        let board = FileBoard::open(Some(folder.path()));
        assert!(board.read(None).unwrap().unwrap().notes.is_empty());
        assert!(folder.path().join("notices.json.unreadable").exists());
    }
}
