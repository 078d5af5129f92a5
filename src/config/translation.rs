//! The border between statsd's keys and ours: entries that are read, or printed as a file of ours.
//!
//! In come single keys of ours with the reason why they are there; out comes a [`Source`] for the one reader
//! of keys, which names statsd's key in its messages. Knows neither language.

use super::native::Switches;
use super::problem::Mistake;
use super::reader::{Origin, Source};
use toml::{Table, Value};

/// One key of ours.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The section.
    pub(crate) section: &'static str,
    /// The key.
    pub(crate) key: &'static str,
    /// The value.
    pub(crate) value: Value,
    /// What was written, if the entry was.
    pub(crate) origin: Option<Origin>,
    /// Where it comes from, in a few words.
    pub(crate) comment: String,
}

/// A file of statsd's in our keys.
#[derive(Clone, Debug)]
pub(crate) struct Translation {
    /// The keys that say the same; keys with the same default are left out.
    pub(crate) entries: Vec<Entry>,
    /// What our keys cannot say.
    pub(crate) switches: Switches,
    /// What statsd's keys hold that cannot be.
    pub(crate) mistakes: Vec<Mistake>,
    /// What was ignored, and why.
    pub(crate) warnings: Vec<String>,
}

/// The entries as if they had been a file of ours.
pub(super) fn source(entries: &[Entry]) -> Source {
    let mut source = Source::default();
    for entry in entries {
        let section = source.table.entry(entry.section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(entry.key.to_owned(), entry.value.clone());
        }
        if let Some(origin) = &entry.origin {
            source.origins.insert(format!("{}.{}", entry.section, entry.key), origin.clone());
        }
    }
    source
}
