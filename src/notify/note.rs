//! What stands on the board: for each event one note, with whom it is still to be told.
//!
//! A note has a name that it keeps over restarts and that every node gives it (`goal signups day 2026-11-23`), so that
//! an event is put up once. As long as somebody waits for it, it holds the message; then what is needed to know that
//! it was told.

use super::message::{Item, Message, Topic};
use crate::clock::WallMs;
use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The note that is put up first, so that nothing is told that was before it.
pub(super) const BEGAN: &str = "began";
/// What was told is forgotten after so many days: no event is as old.
const REMEMBERED_DAYS: u64 = 70;
/// Most notes: every figure with every goal for as long, and room.
const NOTES_MAX: usize = 20_000;
/// Messages that wait for one receiver; beyond it the oldest is given up.
const WAITING_MAX: usize = 256;
/// A mark and one of the same words are the same if they are no further apart, in milliseconds.
const MARK_APART_MS: i64 = 60_000;
/// A message that nobody took for so long is given up, in milliseconds.
const PATIENCE_MS: i64 = 24 * 3_600_000;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about; of the first note none.
    pub(super) topic: Option<Topic>,
    /// Whose id; of a digest none, of a mark what its words come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) figure: Option<String>,
    /// When it was decided, in milliseconds since 1970.
    pub(super) at_ms: WallMs,
    /// The company's day on which it was decided, `2026-11-23`.
    pub(super) day: String,
    /// Of a silence, when the last event before it was; of a mark, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since_ms: Option<WallMs>,
    /// Of a silence and its end, which one of the figure's it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u64>,
    /// All of it in words, while somebody waits for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) text: String,
    /// Of a digest, the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) figures: Vec<Item>,
    /// The receivers that are still to be told, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) waiting: Vec<String>,
}

impl Note {
    /// The note without the message, once nobody waits.
    pub(super) fn settled(mut self) -> Self {
        if self.waiting.is_empty() {
            self.text.clear();
            self.figures.clear();
        }
        self
    }
}

/// The name of a digest's note: each receiver has its own.
pub(super) fn digest_name(date: NaiveDate, to: &str) -> String {
    format!("digest {date} {to}")
}

fn digest_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("digest ")?.split_once(' ')
}

/// All notes as they were read last.
#[derive(Clone, Debug, Default)]
pub struct Ledger(pub(super) BTreeMap<String, Note>);

impl Ledger {
    /// Reads notes; what cannot be read is of another version, and is as good as told.
    pub(super) fn read(notes: &BTreeMap<String, String>) -> Self {
        let note = |text: &String| serde_json::from_str(text).ok();
        Self(notes.iter().filter_map(|(name, text)| Some((name.clone(), note(text)?))).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// When the first note was put up.
    pub(super) fn began(&self) -> Option<&Note> {
        self.0.get(BEGAN)
    }

    /// The last silence of a figure: its number, and the note if it is not over.
    pub(super) fn silence(&self, figure: &str) -> (u64, Option<&Note>) {
        let of = |topic, note: &&Note| note.topic == Some(topic) && note.figure.as_deref() == Some(figure);
        let last = |topic| {
            let notes = self.0.values().filter(move |note| of(topic, note));
            notes.max_by_key(|note| note.number)
        };
        let (stalled, clear) = (last(Topic::Stalled), last(Topic::Clear));
        let number = |note: Option<&Note>| note.and_then(|note| note.number).unwrap_or(0);
        let open = stalled.filter(|note| note.number.unwrap_or(0) > number(clear));
        (number(stalled).max(number(clear)), open)
    }

    /// Whether a mark has a note: a text and its counter differ by less than a minute.
    pub(super) fn has_mark(&self, key: &str, at: WallMs) -> bool {
        self.0.values().any(|note| {
            note.topic == Some(Topic::Mark)
                && note.figure.as_deref() == Some(key)
                && note.since_ms.is_some_and(|since| (since - at).abs() <= MARK_APART_MS)
        })
    }

    /// The days of the digests that a receiver was sent.
    pub(super) fn last_digest(&self, to: &str) -> Option<NaiveDate> {
        let own = |name: &String| digest_of(name).is_some_and(|(_, of)| of == to);
        let days = self.0.iter().filter(|(name, _)| own(name)).map(|(_, note)| &note.day);
        days.max()?.parse().ok()
    }

    /// The next message for a receiver, the oldest first, with the name of its note.
    pub(super) fn next(&self, to: &str) -> Option<(String, Message)> {
        let (name, note) = self.waiting(to).min_by(|a, b| (a.1.at_ms, a.0).cmp(&(b.1.at_ms, b.0)))?;
        // The id says nothing of where it goes.
        let id = digest_of(name).map_or_else(|| name.clone(), |(date, _)| format!("digest {date}"));
        let message = Message {
            id,
            topic: note.topic?,
            figure: note.figure.clone(),
            at_ms: note.since_ms.filter(|_| note.topic == Some(Topic::Mark)).unwrap_or(note.at_ms),
            text: note.text.clone(),
            figures: note.figures.clone(),
        };
        Some((name.clone(), message))
    }

    fn waiting<'a>(&'a self, to: &'a str) -> impl Iterator<Item = (&'a String, &'a Note)> {
        self.0.iter().filter(move |(_, note)| note.waiting.iter().any(|waiting| waiting == to))
    }

    /// How many messages wait for a receiver.
    pub(super) fn waiting_count(&self, to: &str) -> usize {
        self.waiting(to).count()
    }

    /// Messages that are given up: for too long nobody took them, or there are too many.
    pub(super) fn hopeless(&self, now: WallMs, receivers: &[String]) -> Vec<String> {
        let old = |note: &Note| now - note.at_ms > PATIENCE_MS;
        let waiting = self.0.iter().filter(|(_, note)| !note.waiting.is_empty());
        let mut names: Vec<String> =
            waiting.filter(|(_, note)| old(note)).map(|(name, _)| name.clone()).collect();
        for to in receivers {
            let mut waiting: Vec<(WallMs, &String)> =
                self.waiting(to).map(|(name, note)| (note.at_ms, name)).collect();
            waiting.sort_unstable();
            let beyond = waiting.len().saturating_sub(WAITING_MAX);
            names.extend(waiting.into_iter().take(beyond).map(|(_, name)| name.clone()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Names that are so old that they mean nothing any more. The end of a silence goes after its beginning.
    pub(super) fn forgettable(&self, today: NaiveDate) -> Vec<String> {
        let oldest = today.checked_sub_days(Days::new(REMEMBERED_DAYS)).unwrap_or(today).to_string();
        let open = |note: &Note| {
            note.topic == Some(Topic::Stalled)
                && note.figure.as_deref().is_some_and(|figure| self.silence(figure).1 == Some(note))
        };
        let spent =
            |(name, note): &(&String, &Note)| *name != BEGAN && note.waiting.is_empty() && !open(note);
        let mut spent: Vec<(&String, &Note)> = self.0.iter().filter(spent).collect();
        spent.sort_unstable_by_key(|(_, note)| note.at_ms);
        let beyond = self.0.len().saturating_sub(NOTES_MAX);
        let old = spent.iter().take_while(|(_, note)| note.day < oldest).count();
        spent.into_iter().take(old.max(beyond)).map(|(name, _)| name.clone()).collect()
    }
}
