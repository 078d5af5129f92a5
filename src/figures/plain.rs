//! A figure at work: what the slow part saw, what came since, and what was shown.

use super::compare::Total;
use super::cover;
use super::slow::{Look, Past, Slow};
use super::state::FigureKind;
use super::watched::{Part, Watched, is_event};
use super::words::Unit;
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::metric::{Bounds, Tally};
use crate::store::StoreError;
use chrono::NaiveDate;

/// A change of what was shown is worth a word from this part of it on.
const CORRECTED_SHARE: f64 = 0.01;
/// How long it is said.
const CORRECTED_MS: i64 = 15 * 60_000;

/// See the module.
pub(super) struct Plain {
    pub(super) watched: Watched,
    pub(super) past: Past,
    /// The day that the past is of.
    past_of: Option<NaiveDate>,
    pub(super) slow: Option<Slow>,
    /// What came since the cut, by member.
    quick: Vec<Part>,
    /// Of a gauge what it stands at now.
    standing: Option<Total>,
    pub(super) last_ms: Option<WallMs>,
    /// What was shown last, with its day.
    shown: Option<(NaiveDate, Vec<Total>)>,
    corrected: Option<(f64, WallMs)>,
    /// The hour so far.
    pub(super) hour: Option<f64>,
}

/// What happened to a line since it was shown.
pub(super) struct Moved {
    pub(super) line: usize,
    pub(super) by: f64,
}

impl Plain {
    pub(super) fn new(watched: Watched) -> Self {
        Self {
            watched,
            past: Past::default(),
            past_of: None,
            slow: None,
            quick: Vec::new(),
            standing: None,
            last_ms: None,
            shown: None,
            corrected: None,
            hour: None,
        }
    }

    /// Other series belong to it from now on. A series that is new has no past, so that this stays what it is.
    pub(super) fn change(&mut self, watched: Watched, today: NaiveDate) {
        if watched.members != self.watched.members {
            self.slow = None;
            self.quick.clear();
            let unit = |watched: &Watched| watched.units.first().cloned();
            if self.watched.members.is_empty() || unit(&watched) != unit(&self.watched) {
                self.past_of = None;
            }
            if self.watched.members.is_empty() {
                // Whatever there is of it is news.
                self.shown = Some((today, vec![Total::default(); watched.units.len()]));
            }
        }
        self.watched = watched;
    }

    /// Looks at what changes by the minute, where that is due, and then at what came since.
    pub(super) fn look(&mut self, look: &Look<'_>) -> Result<(), StoreError> {
        if self.watched.members.is_empty() {
            return Ok(());
        }
        if self.past_of != Some(look.today) {
            self.past = look.past(&self.watched)?;
            self.past_of = Some(look.today);
            if self.last_ms.is_none() {
                self.last_ms = look.last_event(&self.watched)?;
            }
        }
        let due = self.slow.as_ref().is_none_or(|slow| slow.cut != look.cut || slow.today != look.today);
        if due {
            let slow = look.slow(&self.watched, &self.past)?;
            self.correct(look, &slow)?;
            self.slow = Some(slow);
            self.quick.clear();
        }
        let open = Span { start: look.cut, end: look.now + 1 };
        if self.watched.rules.kind == FigureKind::Gauge {
            // What was found once stands until something else is found.
            let stood = match self.standing {
                Some(_) => self.watched.standing(look.store, look.now + 1)?,
                None => self.watched.standing_now(look.store, look.now)?,
            };
            if let Some((total, changed)) = stood {
                self.standing = Some(total);
                self.last_ms = self.last_ms.max(changed.map(|at| at.min(look.now)));
            }
            return Ok(());
        }
        let mut quick: Vec<Part> = vec![(None, 0.0); self.watched.members.len()];
        let bounds = look.store.bounds();
        cover::read(look.store, &self.watched.series(), (0, open), &mut |at, reading| {
            if let Some((tally, buckets)) = quick.get_mut(at) {
                *buckets += f64::from(u8::from(is_event(&reading.tally)));
                cover::merge(tally, reading.tally, &bounds);
            }
        })?;
        if self.hour.is_none() || due {
            self.hour = self.this_hour(look)?;
        }
        let news = !due && quick != self.quick;
        self.quick = quick;
        if news && self.quick.iter().any(|(tally, _)| tally.as_ref().is_some_and(is_event)) {
            self.last_ms = Some(look.now);
        }
        Ok(())
    }

    /// The main line since the hour began, where records are kept of hours.
    fn this_hour(&self, look: &Look<'_>) -> Result<Option<f64>, StoreError> {
        if !matches!(self.watched.rules.kind, FigureKind::Count | FigureKind::Money) {
            return Ok(None);
        }
        let minutes = look.days.wall_of_day(look.today, look.cut) as i64 / 60_000 % 60;
        let span = Span { start: look.cut - minutes * 60_000, end: look.cut };
        Ok(self.watched.main(look.store, span)?.map(|total| total.number))
    }

    /// Compares what is known now of the time up to the last cut with what was shown of it.
    fn correct(&mut self, look: &Look<'_>, slow: &Slow) -> Result<(), StoreError> {
        let counted = matches!(self.watched.rules.kind, FigureKind::Count | FigureKind::Money);
        let Some(before) = self.slow.as_ref().filter(|before| counted && before.today == slow.today) else {
            self.corrected = None;
            return Ok(());
        };
        let since = self.watched.main(look.store, Span { start: before.cut, end: slow.cut })?;
        let (Some(was), Some(is), Some(since)) = (before.by_now, slow.by_now, since) else {
            return Ok(());
        };
        let late = is.number - since.number - was.number;
        if late != 0.0 {
            let sum =
                self.corrected.filter(|(_, at)| look.now - at < CORRECTED_MS).map_or(0.0, |(sum, _)| sum);
            if (sum + late).abs() > CORRECTED_SHARE * was.number.abs() {
                self.corrected = Some((sum + late, look.now));
            }
        }
        Ok(())
    }

    pub(super) fn corrected_words(&self, unit: &Unit, now: WallMs) -> Option<String> {
        let (late, _) = self.corrected.filter(|(_, at)| now - at < CORRECTED_MS)?;
        Some(format!("{} arrived late", unit.difference(late)))
    }

    /// All tallies of today.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Tally> {
        let closed = self.slow.iter().flat_map(|slow| &slow.closed);
        closed.chain(&self.quick).filter_map(|(tally, _)| tally.as_ref())
    }

    /// Today, by member.
    pub(super) fn merged(&self, bounds: &Bounds) -> Vec<Option<Tally>> {
        self.both(bounds).into_iter().map(|(tally, _)| tally).collect()
    }

    fn both(&self, bounds: &Bounds) -> Vec<Part> {
        let mut parts = self.slow.as_ref().map_or_else(Vec::new, |slow| slow.closed.clone());
        parts.resize(self.watched.members.len(), (None, 0.0));
        for ((tally, buckets), (quick, more)) in parts.iter_mut().zip(&self.quick) {
            if let Some(quick) = quick {
                cover::merge(tally, quick.clone(), bounds);
            }
            *buckets += more;
        }
        parts
    }

    /// Today, by line.
    pub(super) fn today(&self, bounds: &Bounds) -> Vec<Total> {
        if self.watched.rules.kind == FigureKind::Gauge {
            return self.standing.into_iter().collect();
        }
        self.watched.totals(&self.both(bounds), bounds)
    }

    /// Whether anything came today.
    pub(super) fn happened(&self) -> bool {
        self.parts().any(is_event)
    }

    /// What moved since this was asked last; nothing on the first look at a day.
    pub(super) fn moved(&mut self, bounds: &Bounds, now: WallMs) -> Vec<Moved> {
        let Some(today) = self.slow.as_ref().map(|slow| slow.today) else {
            return Vec::new();
        };
        let totals = self.today(bounds);
        let before = self.shown.replace((today, totals.clone()));
        let Some((_, before)) = before.filter(|(day, before)| *day == today && before.len() == totals.len())
        else {
            return Vec::new();
        };
        let moved = totals.iter().zip(before).enumerate();
        let moved: Vec<Moved> = moved
            .filter(|(_, (now, before))| now.number != before.number)
            .map(|(line, (now, before))| Moved { line, by: now.number - before.number })
            .collect();
        if !moved.is_empty() && self.watched.rules.kind != FigureKind::Gauge {
            self.last_ms = Some(now);
        }
        moved
    }
}
