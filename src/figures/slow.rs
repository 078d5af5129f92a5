//! What is looked at once a minute: today up to the last closed minute, and the days it is compared with.
//!
//! Whole history (the usual curve, records, the first event) is looked at once a day. Both are functions of the
//! store and a moment; what came since is for `quick`.

use super::compare::Total;
use super::cover::{self, pieces};
use super::days::{Days, Other, dates};
use super::stalled::{HOURS, Hours, Profile, hour};
use super::state::{FigureKind, Spark};
use super::watched::{Part, Watched, is_event};
use crate::calendar::{DAY_MS, Span};
use crate::clock::WallMs;
use crate::metric::Tally;
use crate::store::{Store, StoreError};
use chrono::{Days as Ahead, NaiveDate};
use std::collections::BTreeMap;

/// Days that make what is usual.
const USUAL_DAYS: u64 = 28;
/// Steps of a sparkline, and the events of a day from which the finer one says more than chance.
const FINE_MS: i64 = 900_000;
const COARSE_MS: i64 = 3_600_000;
const FINE_EVENTS: f64 = 200.0;
/// The coarsest bucket that a sparkline is made of.
const SPARK_BUCKET_MS: i64 = FINE_MS;
/// How far back each level is searched for the last event, the finest first.
const SEARCH_MS: [i64; 3] = [3_600_000, DAY_MS, 40 * DAY_MS];

/// The moment that everything is looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) days: &'a Days,
    pub(super) now: WallMs,
    /// The end of the last closed minute, or the beginning of the day.
    pub(super) cut: WallMs,
    pub(super) today: NaiveDate,
}

/// What the whole past says, up to the beginning of today.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The day of the first event.
    pub(super) first: Option<NaiveDate>,
    pub(super) profile: Profile,
    /// The best day before today.
    pub(super) best: Option<(NaiveDate, f64)>,
    /// Days before today that something is known of.
    pub(super) days: usize,
    /// Everything before today.
    pub(super) all: f64,
}

/// What today and its days of comparison say.
#[derive(Clone, Debug)]
pub(super) struct Slow {
    pub(super) today: NaiveDate,
    pub(super) cut: WallMs,
    /// Today up to the cut, by member; of gauges nothing.
    pub(super) closed: Vec<Part>,
    pub(super) by_now: Option<Total>,
    pub(super) last_week: Option<(Other, Total)>,
    pub(super) yesterday: Option<(Other, Total)>,
    /// The same weekdays before, cut at the same time.
    pub(super) weekdays: Vec<Total>,
    pub(super) spark: Option<Spark>,
    /// This week and this month before today.
    pub(super) week: Option<Total>,
    pub(super) month: Option<Total>,
    /// Of uniques: the six and the 29 days before today.
    pub(super) longer: Vec<(&'static str, Option<Tally>)>,
}

impl Look<'_> {
    fn day(&self) -> Span {
        self.days.calendar.day(self.today)
    }

    fn before(&self, days: u64) -> NaiveDate {
        self.today.checked_sub_days(Ahead::new(days)).unwrap_or(self.today)
    }

    /// Whether a day was seen whole: the day of the first event may have begun without us.
    fn is_whole(past: &Past, date: NaiveDate) -> bool {
        past.first.is_some_and(|first| date > first)
    }

    /// The main line in a span, or of gauges what stood at its end.
    fn main(&self, watched: &Watched, span: Span) -> Result<Option<Total>, StoreError> {
        if watched.rules.kind == FigureKind::Gauge {
            return Ok(watched.standing(self.store, span.end)?.map(|(total, _)| total));
        }
        watched.main(self.store, span)
    }

    /// Another day up to the same time on the wall.
    fn same_time(
        &self,
        watched: &Watched,
        past: &Past,
        date: NaiveDate,
    ) -> Result<Option<Total>, StoreError> {
        if !Self::is_whole(past, date) {
            return Ok(None);
        }
        self.main(watched, self.days.until(self.today, self.cut, date))
    }

    fn other(
        &self,
        watched: &Watched,
        past: &Past,
        other: Option<Other>,
    ) -> Result<Option<(Other, Total)>, StoreError> {
        let Some(other) = other else {
            return Ok(None);
        };
        Ok(self.same_time(watched, past, other.date)?.map(|total| (other, total)))
    }

    /// The minute's look.
    pub(super) fn slow(&self, watched: &Watched, past: &Past) -> Result<Slow, StoreError> {
        let until_now = Span { start: self.day().start, end: self.cut };
        let closed = match watched.rules.kind {
            FigureKind::Gauge => Vec::new(),
            _ => watched
                .gather(self.store, until_now)?
                .unwrap_or_else(|| vec![(None, 0.0); watched.members.len()]),
        };
        let by_now = match watched.rules.kind {
            FigureKind::Gauge => self.main(watched, until_now)?,
            _ => watched.totals(&closed, &self.store.bounds()).first().copied(),
        };
        let last_week = self.other(watched, past, self.days.last_week(self.today))?;
        let yesterday = self.other(watched, past, self.days.yesterday(self.today))?;
        let mut weekdays = Vec::new();
        for date in self.days.same_weekdays(self.today) {
            weekdays.extend(self.same_time(watched, past, date)?);
        }
        let (week, month) = self.periods(watched)?;
        Ok(Slow {
            today: self.today,
            cut: self.cut,
            closed,
            by_now,
            spark: self.spark(watched, past)?,
            last_week,
            yesterday,
            weekdays,
            week,
            month,
            longer: self.longer(watched)?,
        })
    }

    /// This week and this month before today, where goals ask for them.
    fn periods(&self, watched: &Watched) -> Result<(Option<Total>, Option<Total>), StoreError> {
        let (start, goal) = (self.day().start, watched.rules.goal);
        let since = |first: NaiveDate| Span { start: self.days.calendar.day(first).start, end: start };
        let sum = |wanted: Option<f64>, first| match wanted {
            Some(_) => watched.main(self.store, since(first)),
            None => Ok(None),
        };
        Ok((sum(goal.week, Days::week_start(self.today))?, sum(goal.month, Days::month_start(self.today))?))
    }

    fn longer(&self, watched: &Watched) -> Result<Vec<(&'static str, Option<Tally>)>, StoreError> {
        let mut longer = Vec::new();
        if watched.rules.kind == FigureKind::Unique {
            let bounds = self.store.bounds();
            for (label, days) in [("7 days", 6), ("30 days", 29)] {
                let start = self.days.calendar.day(self.before(days)).start;
                let span = Span { start, end: self.day().start };
                // What is not kept so long is not known, and then there is no such line.
                let Some(parts) = watched.gather(self.store, span)? else {
                    continue;
                };
                let mut all = None;
                for (tally, _) in parts {
                    if let Some(tally) = tally {
                        cover::merge(&mut all, tally, &bounds);
                    }
                }
                longer.push((label, all));
            }
        }
        Ok(longer)
    }

    /// Today and the day it is compared with, by time on the wall.
    fn spark(&self, watched: &Watched, past: &Past) -> Result<Option<Spark>, StoreError> {
        let base = self.days.last_week(self.today).map(|other| other.date);
        let base = base.filter(|date| Self::is_whole(past, *date));
        let often = past.profile.is_known() && past.profile.events_a_day() >= FINE_EVENTS;
        let counted = matches!(watched.rules.kind, FigureKind::Count | FigureKind::Unique);
        let step_ms = if often || !counted { FINE_MS } else { COARSE_MS };
        let slots = (DAY_MS / step_ms) as usize;
        let now_index = (self.days.wall_of_day(self.today, self.cut.max(self.now)) as i64 / step_ms) as usize;
        let now_index = now_index.min(slots - 1);
        let until_now = Span { start: self.day().start, end: self.cut };
        let Some(mut today) = self.slots(watched, self.today, until_now, step_ms)? else {
            return Ok(None);
        };
        today.iter_mut().skip(now_index + 1).for_each(|slot| *slot = None);
        let last_week = match base {
            Some(date) => self.slots(watched, date, self.days.calendar.day(date), step_ms)?,
            None => None,
        };
        let begins = self.days.calendar.begins_locally(self.today).time();
        Ok(Some(Spark {
            step_ms,
            from_ms: self.day().start,
            from_minute: (begins - chrono::NaiveTime::MIN).num_minutes() as u32,
            today,
            last_week: last_week.unwrap_or_default(),
            now_index,
        }))
    }

    /// A day in steps on the wall; what the wall does not show is null, and so is a measure of nothing.
    fn slots(
        &self,
        watched: &Watched,
        date: NaiveDate,
        span: Span,
        step_ms: i64,
    ) -> Result<Option<Vec<Option<f64>>>, StoreError> {
        let slots = (DAY_MS / step_ms) as usize;
        let slot = |at| ((self.days.wall_of_day(date, at) as i64 / step_ms) as usize).min(slots - 1);
        let ladder = self.store.ladder();
        let fine: Vec<_> = watched
            .kept
            .iter()
            .copied()
            .filter(|kept| ladder.width(kept.level).ms() <= SPARK_BUCKET_MS)
            .collect();
        let Some(pieces) = pieces(ladder, &fine, span) else {
            return Ok(None);
        };
        if watched.rules.kind == FigureKind::Gauge {
            let level = pieces.iter().map(|(level, _)| *level).max().unwrap_or(0);
            return watched.stood(self.store, level, span, slots, slot).map(Some);
        }
        let mut merged: Vec<Option<Tally>> = vec![None; slots];
        let (series, bounds) = (main_series(watched), self.store.bounds());
        for piece in pieces {
            cover::read(self.store, &series, piece, &mut |_, reading| {
                if let Some(into) = merged.get_mut(slot(reading.start)) {
                    cover::merge(into, reading.tally, &bounds);
                }
            })?;
        }
        let counted = watched.rules.kind != FigureKind::Timer;
        let mut shown: Vec<Option<f64>> = vec![None; slots];
        let mut at = span.start;
        while at < span.end {
            if let Some(place) = shown.get_mut(slot(at)) {
                *place = counted.then_some(0.0);
            }
            at += FINE_MS;
        }
        for (place, tally) in shown.iter_mut().zip(&merged).filter(|(_, tally)| tally.is_some()) {
            *place = Some(watched.total(tally.as_ref(), 0.0).number);
        }
        Ok(Some(shown))
    }

    /// The day's look at the whole past.
    pub(super) fn past(&self, watched: &Watched) -> Result<Past, StoreError> {
        let mut past = Past::default();
        let Some(coarsest) = watched.kept.last() else {
            return Ok(past);
        };
        let mut by_date: BTreeMap<NaiveDate, Option<Tally>> = BTreeMap::new();
        let (series, bounds) = (main_series(watched), self.store.bounds());
        let whole = Span { start: coarsest.from.max(0), end: self.now + 1 };
        for (level, span) in chunks(self.store.ladder().width(coarsest.level).ms(), coarsest.level, whole) {
            for readings in self.store.glance(&series, level, span.start, span.end)? {
                for reading in readings
                    .into_iter()
                    .filter(|reading| reading.start < span.end && reading.start >= span.start)
                {
                    if is_event(&reading.tally) {
                        let date = self.days.calendar.date(reading.start);
                        cover::merge(by_date.entry(date).or_default(), reading.tally, &bounds);
                    }
                }
            }
        }
        past.first = by_date.keys().next().copied();
        let before: Vec<_> = by_date.range(..self.today).collect();
        past.days = before.len();
        for (date, tally) in before {
            let number = watched.total(tally.as_ref(), 0.0).number;
            past.all += number;
            if Self::is_whole(&past, *date) && past.best.is_none_or(|(_, best)| number > best) {
                past.best = Some((*date, number));
            }
        }
        self.usual(watched, &mut past)?;
        Ok(past)
    }

    /// The curve by hour of the week.
    fn usual(&self, watched: &Watched, past: &mut Past) -> Result<(), StoreError> {
        if watched.rules.kind == FigureKind::Gauge {
            return Ok(());
        }
        let ladder = self.store.ladder();
        // Money does not say how many events it is made of: minutes in which there was some do.
        let widest = if watched.rules.kind == FigureKind::Money { 60_000 } else { FINE_MS };
        let (first, last) = (self.before(USUAL_DAYS), self.before(1));
        for date in dates(first, last).filter(|date| !self.days.is_holiday(*date)) {
            if !Self::is_whole(past, date) {
                continue;
            }
            let day = self.days.calendar.day(date);
            let narrow = |widest: i64| -> Vec<_> {
                watched.kept.iter().copied().filter(|kept| ladder.width(kept.level).ms() <= widest).collect()
            };
            let fine = pieces(ladder, &narrow(widest), day).or_else(|| pieces(ladder, &narrow(FINE_MS), day));
            let Some(pieces) = fine else {
                continue;
            };
            self.add_day(watched, date, &pieces, &mut past.profile)?;
        }
        Ok(())
    }

    fn add_day(
        &self,
        watched: &Watched,
        date: NaiveDate,
        pieces: &[(usize, Span)],
        profile: &mut Profile,
    ) -> Result<(), StoreError> {
        let mut hours: [Hour; HOURS] = std::array::from_fn(|_| Hour::default());
        let (series, bounds) = (main_series(watched), self.store.bounds());
        for piece in pieces {
            cover::read(self.store, &series, *piece, &mut |_, reading| {
                if let Some(Hour { tally, active }) = hours.get_mut(hour(self.days, date, reading.start)) {
                    let at = (reading.start, reading.end - reading.start);
                    if is_event(&reading.tally) && !active.contains(&at) {
                        active.push(at);
                    }
                    cover::merge(tally, reading.tally, &bounds);
                }
            })?;
        }
        let (mut numbers, mut events): (Hours, Hours) = ([0.0; HOURS], [0.0; HOURS]);
        for ((number, event), Hour { tally, active }) in numbers.iter_mut().zip(&mut events).zip(&hours) {
            let total = watched.total(tally.as_ref(), 0.0);
            *number = total.number;
            *event = match watched.rules.kind {
                FigureKind::Count | FigureKind::Timer => total.events,
                _ => bursts(active),
            };
        }
        profile.add(date, &numbers, &events);
        Ok(())
    }

    /// When the last event before now was, at the grain of the level that still has it.
    pub(super) fn last_event(&self, watched: &Watched) -> Result<Option<WallMs>, StoreError> {
        let series = watched.series();
        for (at, kept) in watched.kept.iter().enumerate() {
            let back = SEARCH_MS.get(at).copied().unwrap_or(i64::MAX / 4);
            let from = (self.now - back).max(kept.from).max(0);
            let mut last = None;
            for readings in self.store.glance(&series, kept.level, from, self.now + 1)? {
                let event = readings.iter().rfind(|reading| is_event(&reading.tally));
                last = last.max(event.map(|reading| match &reading.tally {
                    Tally::Gauge(gauge) => gauge.last().map_or(reading.end, |order| order.time),
                    _ => reading.end,
                }));
            }
            if last.is_some() {
                return Ok(last.map(|last| last.min(self.now)));
            }
        }
        Ok(None)
    }
}

/// What is known of an hour: what it came to, and its buckets with something in them, by start and width.
#[derive(Default)]
struct Hour {
    tally: Option<Tally>,
    active: Vec<(WallMs, i64)>,
}

/// Events that make so many buckets of an hour active, if they come at random: two in one bucket look like one.
fn bursts(active: &[(WallMs, i64)]) -> f64 {
    let Some(width) = active.iter().map(|(_, width)| *width).min().filter(|width| *width > 0) else {
        return 0.0;
    };
    let buckets = (3_600_000.0 / width as f64).max(1.0);
    let share = (active.len() as f64 / (buckets + 0.5)).min(1.0 - 0.5 / buckets.max(1.0));
    -(1.0 - share).ln() * buckets
}

/// The series of the main line.
pub(super) fn main_series(watched: &Watched) -> Vec<crate::metric::Series> {
    watched.members.iter().filter(|member| member.line == 0).map(|member| member.series.clone()).collect()
}

/// A long stretch in parts, so that the store is not held for long.
fn chunks(width_ms: i64, level: usize, span: Span) -> impl Iterator<Item = (usize, Span)> {
    let part = width_ms.saturating_mul(1_000);
    let count = (span.end - span.start).max(0) / part + 1;
    (0..count).map(move |at| {
        let start = span.start + at * part;
        (level, Span { start, end: (start + part).min(span.end) })
    })
}
