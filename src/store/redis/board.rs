//! The board of notes that all nodes share: one hash in the figures' partition.
//!
//! The node that folds that partition acts on the notes. A failover may lose the newest of them, as it may lose what
//! else Redis took last; whoever wrote one writes it again.

use super::link::{Failure, Pipe, failure, int, pairs, text};
use super::scripts::Script;
use super::{RedisStore, away};
use crate::store::{Board, Notes, StoreError};

/// The field that counts changes; no note is called so.
const STATE: &str = "~state";

impl RedisStore {
    fn notices(&self) -> String {
        self.shared.layout.key(self.shared.layout.figures(), "notices")
    }

    fn ask_board(&self, pipe: &Pipe) -> Result<redis::Value, StoreError> {
        let figures = self.shared.layout.figures();
        self.ask(|link| {
            let answers = link.call(figures, pipe)?;
            let answer = answers.into_iter().next().ok_or_else(|| Failure::away("an empty answer"))?;
            failure(&answer).map_or(Ok(answer), Err)
        })
    }
}

impl Board for RedisStore {
    fn read(&self, seen: Option<u64>) -> Result<Option<Notes>, StoreError> {
        if seen.is_some() {
            let mut pipe = Pipe::default();
            pipe.cmd(redis::cmd("HGET").arg(self.notices()).arg(STATE).clone());
            let state = int(&self.ask_board(&pipe)?).unwrap_or(0) as u64;
            if Some(state) == seen {
                return Ok(None);
            }
        }
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("HGETALL").arg(self.notices()).clone());
        let answer = self.ask_board(&pipe)?;
        let mut notes = Notes::default();
        for (name, value) in pairs(&answer) {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                return Err(away(Failure::away("the notices in Redis are not text")));
            };
            if name == STATE {
                notes.state = value.parse().unwrap_or(0);
            } else {
                notes.notes.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(Some(notes))
    }

    fn post(&self, name: &str, note: &str) -> Result<bool, StoreError> {
        let mut pipe = Pipe::default();
        pipe.script(Script::Post, &[self.notices()], &[name.as_bytes(), note.as_bytes()]);
        let answer = self.ask_board(&pipe)?;
        int(&answer).map(|new| new == 1).ok_or_else(|| {
            away(Failure::away(format!("an odd answer: {}", text(&answer).unwrap_or_default())))
        })
    }

    fn change(&self, name: &str, note: Option<&str>) -> Result<(), StoreError> {
        let mut pipe = Pipe::default();
        let text = note.unwrap_or_default();
        pipe.script(Script::Change, &[self.notices()], &[name.as_bytes(), text.as_bytes()]);
        self.ask_board(&pipe).map(|_| ())
    }

    fn is_ours(&self) -> bool {
        let figures = self.shared.layout.figures();
        self.lane(figures).is_some_and(|lane| {
            let held = lane.lock();
            held.tenures.get(&figures).is_some_and(|tenure| tenure.holds(&held.link))
        })
    }
}
