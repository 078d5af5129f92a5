//! The journal as the sender of a store sees it: what is there of a producer from some number on.
//!
//! It reads the segments' files beside the flusher, which writes them: whole records only, so that what is being
//! written is found the next time. Nothing is changed here.

use crate::journal::Reading;
use crate::store::{Batch, Kept};
use crate::wire::batch::{Names, read_batch_with};
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::Path;

/// Numbers of a producer in a segment: the least and the greatest.
type Numbers = HashMap<u128, (u64, u64)>;

/// Reads a journal that another thread writes.
#[derive(Debug)]
pub struct Backlog {
    journal: Reading,
    /// What closed segments hold. A segment with another behind it is not written any more.
    known: BTreeMap<u64, Numbers>,
}

impl Backlog {
    /// The journal in a directory.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { journal: Reading::new(folder), known: BTreeMap::new() }
    }

    /// What each segment holds, oldest first.
    fn segments(&mut self) -> Result<Vec<(u64, Numbers)>, String> {
        let segments = self.journal.segments().map_err(|error| error.to_string())?;
        self.known.retain(|known, _| segments.contains(known));
        let mut all = Vec::new();
        for &segment in &segments {
            if let Some(numbers) = self.known.get(&segment) {
                all.push((segment, numbers.clone()));
                continue;
            }
            let contents = match self.journal.read(segment) {
                Ok(contents) => contents,
                // It was confirmed and removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut numbers = Numbers::new();
            for record in contents.records() {
                let (least, greatest) =
                    numbers.entry(record.producer).or_insert((record.number, record.number));
                *least = record.number.min(*least);
                *greatest = record.number.max(*greatest);
            }
            if segments.last() != Some(&segment) {
                self.known.insert(segment, numbers.clone());
            }
            all.push((segment, numbers));
        }
        Ok(all)
    }
}

impl Kept for Backlog {
    fn producers(&mut self) -> Result<Vec<(u128, u64)>, String> {
        let mut last: HashMap<u128, u64> = HashMap::new();
        for (_, numbers) in self.segments()? {
            for (producer, (_, greatest)) in numbers {
                let last = last.entry(producer).or_default();
                *last = greatest.max(*last);
            }
        }
        Ok(last.into_iter().collect())
    }

    fn next(&mut self, wanted: &BTreeMap<u128, u64>) -> Result<Vec<Batch>, String> {
        for (segment, numbers) in self.segments()? {
            let holds = |(producer, number): (&u128, &u64)| {
                numbers.get(producer).is_some_and(|(_, greatest)| greatest >= number)
            };
            if !wanted.iter().any(holds) {
                continue;
            }
            let contents = self.journal.read(segment).map_err(|error| error.to_string())?;
            let mut names = Names::default();
            let mut found = Vec::new();
            for record in contents.records() {
                // Every record is read, since names of later ones may stand in it.
                let Ok(batch) = read_batch_with(&mut names, record.payload) else {
                    continue;
                };
                if wanted.get(&batch.producer).is_some_and(|number| batch.number >= *number) {
                    let (producer, number, bucket) = (batch.producer, batch.number, batch.bucket);
                    found.push(Batch { producer, number, bucket, entries: batch.entries });
                }
            }
            if !found.is_empty() {
                found.sort_by_key(|batch| (batch.producer, batch.number));
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
