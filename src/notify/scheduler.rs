//! What is to be told, decided: states, notes and time in, new notes out. Pure, so that half a year can be tried in
//! a minute.
//!
//! Nothing is said while the numbers may be too low or the process is young: then what happens waits until they are
//! right again. What a day came to is looked at once more when it is over, so that a goal that was reached meanwhile
//! is told all the same. Every node decides alike, from the same store; that one of them puts a note up first is the
//! board's business.

use super::digest::{self, items, values};
use super::message::{Item, Topic};
use super::note::{BEGAN, Ledger, Note, digest_name};
use super::options::{Options, Rule};
use crate::clock::{WallMs, words};
use crate::figures::state::{BEST_DAY, Figure, Goal, Period, Quiet};
use crate::figures::{PageState, mark_key};
use chrono::{Datelike as _, Days, NaiveDate};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So long after its start a process knows too little to say that something is missing, in milliseconds.
pub const YOUNG_MS: i64 = 15 * 60_000;

/// Gives the pages as they stood at the end of a day.
pub type Closing<'a> = &'a dyn Fn(NaiveDate) -> Vec<Arc<PageState>>;

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    started: WallMs,
    /// The last day that was looked at when it was over.
    closed: Option<NaiveDate>,
}

/// An event with the name of its note.
pub type New = (String, Note);

impl Scheduler {
    /// Decides by these options, for a process that started then.
    #[must_use]
    pub fn new(options: Options, started: WallMs) -> Self {
        Self { options, started, closed: None }
    }

    /// What there is to be told and has no note yet.
    pub fn decide(
        &mut self,
        pages: &[Arc<PageState>],
        now: WallMs,
        notes: &Ledger,
        closing: Closing<'_>,
    ) -> Vec<New> {
        let Some(began) = notes.began() else {
            // What was before is left alone.
            return vec![(BEGAN.to_owned(), self.note(None, now, String::new()))];
        };
        if now - self.started < YOUNG_MS || pages.iter().any(|page| page.partial.is_some()) {
            return Vec::new();
        }
        let today = self.options.calendar.date(now);
        let mut new = Vec::new();
        let mut closed: BTreeMap<NaiveDate, Vec<Arc<PageState>>> = BTreeMap::new();
        let yesterday = today.pred_opt().unwrap_or(today);
        if self.closed != Some(yesterday) {
            if began.day <= yesterday.to_string() {
                let pages = closed.entry(yesterday).or_insert_with(|| closing(yesterday));
                for figure in figures(pages) {
                    new.extend(self.reached(figure, yesterday, now));
                }
            }
            self.closed = Some(yesterday);
        }
        for figure in figures(pages) {
            new.extend(self.silence(figure, now, notes));
            new.extend(self.reached(figure, today, now));
        }
        new.extend(self.digests(now, (notes, began.at_ms), &mut closed, closing));
        new.retain(|(name, _)| !notes.has(name));
        new
    }

    /// Marks that have no note yet. To be asked on the node that sends, and on no other: one that was sent a mark's
    /// text knows its time better than one that sees its counter.
    #[must_use]
    pub fn marks(&self, pages: &[Arc<PageState>], now: WallMs, notes: &Ledger) -> Vec<New> {
        let Some(began) = notes.began().filter(|_| self.options.rules.iter().any(|rule| rule.marks)) else {
            return Vec::new();
        };
        // Every page has all of them.
        let marks = pages.first().into_iter().flat_map(|page| &page.marks);
        let new = marks.filter_map(|mark| {
            let key = mark_key(&mark.text)?;
            if mark.at_ms < began.at_ms || notes.has_mark(&key, mark.at_ms) {
                return None;
            }
            let name = format!("mark {key} {}", mark.at_ms);
            let note = Note {
                figure: Some(key),
                since_ms: Some(mark.at_ms),
                ..self.note(Some(Topic::Mark), now, mark.text.clone())
            };
            Some((name, note))
        });
        new.collect()
    }

    fn note(&self, topic: Option<Topic>, now: WallMs, text: String) -> Note {
        let wants = |rule: &&Rule| match topic {
            Some(Topic::Stalled | Topic::Clear) => rule.alarms,
            Some(Topic::Goal | Topic::Record) => rule.goals,
            Some(Topic::Mark) => rule.marks,
            _ => false,
        };
        Note {
            topic,
            figure: None,
            at_ms: now,
            day: self.options.calendar.date(now).to_string(),
            since_ms: None,
            number: None,
            text,
            figures: Vec::new(),
            waiting: self.options.rules.iter().filter(wants).map(|rule| rule.webhook.id()).collect(),
        }
    }

    /// Goals that are reached on a day, and whether it is the best so far.
    fn reached(&self, figure: &Figure, date: NaiveDate, now: WallMs) -> Vec<New> {
        let mut new = Vec::new();
        let of_day = if date == self.options.calendar.date(now) {
            String::new()
        } else {
            format!(" on {}", digest::short(date))
        };
        for goal in figure.goals.iter().filter(|goal| goal.done >= 1.0) {
            let (period, first) = period(goal, date);
            let text = format!(
                "{}: goal of the {period} reached{of_day}, {} of {}",
                figure.label, goal.text, goal.target
            );
            let note = Note { figure: Some(figure.id.clone()), ..self.note(Some(Topic::Goal), now, text) };
            new.push((format!("goal {} {period} {first}", figure.id), note));
        }
        if let Some(record) = figure.record.as_ref().filter(|record| record.starts_with(BEST_DAY)) {
            let number = values(&figure.values, figure.state);
            let text = format!(
                "{}: a record day, {} with {number}. It is the {record}",
                figure.label,
                digest::short(date)
            );
            let note = Note { figure: Some(figure.id.clone()), ..self.note(Some(Topic::Record), now, text) };
            new.push((format!("record {} {date}", figure.id), note));
        }
        new
    }

    /// One message when a figure stands still, and one when it moves again: when there was another event.
    fn silence(&self, figure: &Figure, now: WallMs, notes: &Ledger) -> Option<New> {
        let alarm = figure.quiet.as_ref().filter(|quiet| quiet.alarm);
        let (number, open) = notes.silence(&figure.id);
        match (open, alarm) {
            (None, Some(quiet)) => Some(self.stalled(figure, quiet, number + 1, now)),
            // An event that came since it was told is another one for every node, however coarsely it knows when.
            (Some(open), None) => {
                let last = figure.last_ms.filter(|last| *last > open.at_ms)?;
                Some(self.clear(figure, open.since_ms.unwrap_or(last), last, (number, now)))
            }
            _ => None,
        }
    }

    fn stalled(&self, figure: &Figure, quiet: &Quiet, number: u64, now: WallMs) -> New {
        let why = quiet.words.strip_prefix("quiet: ").unwrap_or(&quiet.words);
        let text = format!(
            "{}: stalled, {why}; the last one came at {} ({})",
            figure.label,
            self.clock(quiet.since_ms),
            self.options.calendar.zone()
        );
        let note = Note {
            figure: Some(figure.id.clone()),
            since_ms: Some(quiet.since_ms),
            number: Some(number),
            ..self.note(Some(Topic::Stalled), now, text)
        };
        (format!("stalled {} {number}", figure.id), note)
    }

    fn clear(&self, figure: &Figure, since: WallMs, last: WallMs, (number, now): (u64, WallMs)) -> New {
        let pause = words((last - since).max(60_000) / 60_000 * 60_000);
        let text = format!(
            "{}: all clear, one came at {} after {pause} without any ({})",
            figure.label,
            self.clock(last),
            self.options.calendar.zone()
        );
        let note = Note {
            figure: Some(figure.id.clone()),
            number: Some(number),
            ..self.note(Some(Topic::Clear), now, text)
        };
        (format!("clear {} {number}", figure.id), note)
    }

    fn clock(&self, time: WallMs) -> String {
        self.options.calendar.local(time).format("%H:%M, %a %-d %b").to_string()
    }

    /// The digests that are due: each covers the days since the one before it.
    fn digests(
        &self,
        now: WallMs,
        (notes, began): (&Ledger, WallMs),
        closed: &mut BTreeMap<NaiveDate, Vec<Arc<PageState>>>,
        closing: Closing<'_>,
    ) -> Vec<New> {
        let calendar = self.options.calendar;
        let mut new = Vec::new();
        let mut drawn: BTreeMap<NaiveDate, Vec<Item>> = BTreeMap::new();
        for rule in &self.options.rules {
            let Some((date, due)) = rule.digest.and_then(|digest| digest.due(&calendar, now)) else {
                continue;
            };
            let to = rule.webhook.id();
            let last = notes.last_digest(&to);
            if due < began || last.is_some_and(|last| last >= date) {
                continue;
            }
            let yesterday = calendar.date(now).pred_opt().unwrap_or(date);
            // The one before covered up to the day before it was sent.
            let offset = date.signed_duration_since(yesterday);
            let first = last.map_or(yesterday, |last| last - offset + chrono::Duration::days(1));
            let earliest = yesterday.checked_sub_days(Days::new(digest::DAYS_MAX - 1)).unwrap_or(yesterday);
            let days: Vec<(NaiveDate, Vec<Item>)> = first
                .clamp(earliest, yesterday)
                .iter_days()
                .take_while(|day| *day <= yesterday)
                .map(|day| {
                    let items = drawn
                        .entry(day)
                        .or_insert_with(|| items(day, closed.entry(day).or_insert_with(|| closing(day))));
                    (day, items.clone())
                })
                .collect();
            let note = Note {
                // Days on the wall and days of the company may differ in the first hours.
                day: date.to_string(),
                figures: days.iter().flat_map(|(_, items)| items.clone()).collect(),
                waiting: vec![to.clone()],
                ..self.note(Some(Topic::Digest), now, digest::text(&days, calendar.zone()))
            };
            new.push((digest_name(date, &to), note));
        }
        new
    }
}

/// All figures, each once.
fn figures(pages: &[Arc<PageState>]) -> impl Iterator<Item = &Figure> {
    let mut seen = BTreeSet::new();
    pages.iter().flat_map(|page| &page.figures).filter(move |figure| seen.insert(figure.id.as_str()))
}

/// What a goal's period is called, and its first day.
fn period(goal: &Goal, date: NaiveDate) -> (&'static str, NaiveDate) {
    match goal.period {
        Period::Day => ("day", date),
        Period::Week => ("week", date.week(chrono::Weekday::Mon).first_day()),
        Period::Month => ("month", date.with_day(1).unwrap_or(date)),
    }
}
