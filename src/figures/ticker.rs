//! The last events, as they were seen: names and amounts, nothing personal.

use super::options::FigureRules;
use super::plain::Plain;
use super::slow::Look;
use super::state::{Event, FigureKind};
use super::words::Unit;
use crate::clock::WallMs;
use crate::limits;
use std::collections::VecDeque;

/// What comes within this time is one event, in milliseconds: a ticker is to be read.
const TOGETHER_MS: i64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    /// The newest first, each with what it came to.
    events: VecDeque<(Event, Unit, f64)>,
}

impl Ticker {
    /// Whether a figure's events are few enough to be read one by one.
    pub(super) fn is_for(plain: &Plain) -> bool {
        let counted = plain.watched.rules.kind == FigureKind::Count;
        !(counted && plain.past.profile.events_a_day() > limits::TICKER_EVENTS_A_DAY)
    }

    /// A counted figure moved.
    pub(super) fn note(&mut self, look: &Look<'_>, rules: &FigureRules, unit: Option<&Unit>, by: f64) {
        let Some(unit) = unit.filter(|_| matches!(rules.kind, FigureKind::Count | FigureKind::Money)) else {
            return;
        };
        let recent = |event: &Event| look.now - event.at_ms < TOGETHER_MS && event.figure == rules.id;
        let last = self.events.iter().position(|(event, own, _)| recent(event) && own == unit);
        let (at_ms, by) = match last.and_then(|at| self.events.remove(at)) {
            Some((event, _, before)) => (event.at_ms, before + by),
            None => (look.now, by),
        };
        if by == 0.0 {
            return;
        }
        let text = format!("{} {}", rules.label, unit.difference(by));
        let event = Event { at_ms, clock: clock(look, at_ms), figure: rules.id.clone(), text };
        self.events.push_front((event, unit.clone(), by));
        // Of each figure so many, since no page has to show them all.
        let mut own = (0..self.events.len())
            .filter(|at| self.events.get(*at).is_some_and(|(event, ..)| event.figure == rules.id));
        if let Some(at) = own.nth(limits::TICKER_EVENTS) {
            self.events.remove(at);
        }
    }

    /// The last events of these figures.
    pub(super) fn events(&self, ids: &[&String]) -> Vec<Event> {
        let of_them =
            self.events.iter().map(|(event, ..)| event).filter(|event| ids.contains(&&event.figure));
        of_them.take(limits::TICKER_EVENTS).cloned().collect()
    }
}

fn clock(look: &Look<'_>, at: WallMs) -> String {
    look.days.calendar.local(at).format("%H:%M:%S").to_string()
}
