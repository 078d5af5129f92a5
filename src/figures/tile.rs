//! From what was read to what is shown: one figure's tile.

use super::compare::{Total, Words, compare};
use super::days::{Days, short};
use super::plain::Plain;
use super::slow::{Look, Slow};
use super::stalled::{Silence, silence};
use super::state::{Also, BEST_DAY, Figure, FigureKind, FigureState, Goal, Period, Quiet, Slice, Slot};
use super::words::{Unit, ago};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Tally};
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// A mean of fewer weekdays is not called usual.
const USUAL_WEEKDAYS_MIN: usize = 2;
/// Days before the best of them is a record.
const RECORD_DAYS_MIN: usize = 14;
/// Parts of the pace from which one is ahead, on it, or a little behind.
const AHEAD: f64 = 1.1;
const ON_PACE: f64 = 0.95;
const NEARLY: f64 = 0.8;

/// What holds for all tiles of a look.
pub(super) struct Around<'a> {
    pub(super) look: Look<'a>,
    pub(super) bounds: Bounds,
    /// Numbers may be too low.
    pub(super) partial: bool,
    /// Why nothing can be said about silence.
    pub(super) cannot_tell: Option<&'static str>,
    pub(super) udp_port: u16,
}

impl Around<'_> {
    fn clock(&self, at: WallMs) -> String {
        self.look.days.calendar.local(at).format("%H:%M").to_string()
    }

    /// A tile of which nothing is known yet.
    fn blank(plain: &super::options::FigureRules) -> Figure {
        Figure {
            id: plain.id.clone(),
            version: 0,
            label: plain.label.clone(),
            kind: plain.kind,
            slot: Slot::Third,
            group: plain.group.clone(),
            state: FigureState::Never,
            lower_is_better: plain.kind == FigureKind::Timer,
            values: Vec::new(),
            period: if plain.kind == FigureKind::Gauge { "now" } else { "today" },
            also: Vec::new(),
            last_ms: None,
            last_words: None,
            compare: Vec::new(),
            compare_words: Some("no figure to compare yet".to_owned()),
            usual: None,
            spark: None,
            goals: Vec::new(),
            quiet: None,
            record: None,
            corrected: None,
            breakdown: Vec::new(),
            snippet: None,
            query: Vec::new(),
        }
    }

    /// The tile of a figure that has series of its own.
    pub(super) fn plain(&self, plain: &Plain) -> Figure {
        let rules = &plain.watched.rules;
        // `*` of a query ends at a dot, that of a figure does not.
        let query = vec![rules.metric.replace('*', "**")];
        let mut figure = Figure { query, ..Self::blank(rules) };
        let (Some(last), Some(slow)) = (plain.last_ms, &plain.slow) else {
            figure.snippet = Some(snippet(plain, self.udp_port));
            return figure;
        };
        let today = plain.today(&self.bounds);
        figure.state = self.state(plain.happened(), rules.kind);
        figure.last_ms = Some(last);
        figure.last_words = Some(self.last_words(last));
        figure.values =
            plain.watched.units.iter().zip(&today).map(|(unit, total)| unit.value(total.number)).collect();
        if rules.kind == FigureKind::Timer && today.iter().all(|total| total.events == 0.0) {
            figure.values.clear();
        }
        let (Some(unit), Some(main)) = (plain.watched.units.first(), today.first().copied()) else {
            return figure;
        };
        self.compared(&mut figure, slow, unit);
        figure.spark.clone_from(&slow.spark);
        figure.also = self.also(plain, slow);
        figure.goals = self.goals(plain, slow, main, unit);
        figure.quiet = self.quiet(plain, last);
        figure.record = Self::record(plain, main, unit);
        figure.corrected = plain.corrected_words(unit, self.look.now);
        figure.breakdown = breakdown(plain, &self.bounds, unit);
        figure
    }

    /// The tile of one figure over another.
    pub(super) fn ratio(&self, rules: &super::options::FigureRules, part: &Plain, whole: &Plain) -> Figure {
        let query = [part, whole].map(|plain| plain.watched.rules.metric.replace('*', "**"));
        let mut figure = Figure { query: query.into(), ..Self::blank(rules) };
        let (Some(last), Some(a), Some(b)) = (part.last_ms.max(whole.last_ms), &part.slow, &whole.slow)
        else {
            return figure;
        };
        let main = |plain: &Plain| plain.today(&self.bounds).first().copied();
        figure.state = self.state(part.happened() || whole.happened(), FigureKind::Ratio);
        figure.last_ms = Some(last);
        figure.last_words = Some(self.last_words(last));
        if let Some(share) = share(main(part), main(whole)) {
            figure.values = vec![Unit::Share.value(share.number)];
        }
        let slow = super::ratio::ratio(a, b);
        self.compared(&mut figure, &slow, &Unit::Share);
        figure.spark = slow.spark;
        figure
    }

    fn state(&self, happened: bool, kind: FigureKind) -> FigureState {
        match (self.partial, happened || kind == FigureKind::Gauge) {
            (true, _) => FigureState::Partial,
            (false, true) => FigureState::Live,
            (false, false) => FigureState::Zero,
        }
    }

    fn last_words(&self, last: WallMs) -> String {
        let calendar = &self.look.days.calendar;
        let (date, clock) = (calendar.date(last), self.clock(last));
        match (self.look.today - date).num_days() {
            ..=0 => format!("last one today {clock}"),
            1 => format!("last one yesterday {clock}"),
            _ => format!("last one on {} {clock}", short(date)),
        }
    }

    fn compared(&self, figure: &mut Figure, slow: &Slow, unit: &Unit) {
        let gauge = figure.kind == FigureKind::Gauge;
        let clock = self.clock(slow.cut);
        let until = if gauge { format!("at {clock}") } else { format!("by {clock}") };
        let words =
            Words { unit, today: slow.today, until: &until, percent: figure.kind != FigureKind::Ratio };
        let Some(by_now) = slow.by_now else {
            return;
        };
        let mut bases = vec![slow.last_week, slow.yesterday];
        // A week of holidays may lead both to one day.
        bases.dedup_by_key(|base| base.as_ref().map(|(other, _)| other.date));
        figure.compare = bases
            .into_iter()
            .flatten()
            .map(|(other, base)| compare(&words, by_now, (other, base), &slow.weekdays))
            .collect();
        if !figure.compare.is_empty() {
            figure.compare_words = None;
        }
        if slow.weekdays.len() >= USUAL_WEEKDAYS_MIN {
            let count = slow.weekdays.len() as f64;
            let mean = slow.weekdays.iter().map(|day| day.number).sum::<f64>() / count;
            let mean = if *unit == Unit::Plain { mean.round() } else { mean };
            figure.usual =
                Some(format!("usual {} {}", if gauge { "at this time" } else { "by now" }, unit.rough(mean)));
        }
    }

    fn also(&self, plain: &Plain, slow: &Slow) -> Vec<Also> {
        let mut also = Vec::new();
        for (label, before) in &slow.longer {
            let mut all = before.clone();
            for tally in plain.parts() {
                super::cover::merge(&mut all, tally.clone(), &self.bounds);
            }
            let number = match &all {
                Some(Tally::Set(unique)) => unique.count() as f64,
                _ => 0.0,
            };
            also.push(Also { label: (*label).to_owned(), text: Unit::Plain.text(number), number });
        }
        also
    }

    fn goals(&self, plain: &Plain, slow: &Slow, main: Total, unit: &Unit) -> Vec<Goal> {
        let (today, goal) = (slow.today, plain.watched.rules.goal);
        let zero = Some(Total::default());
        let month = (Days::month_start(today), Days::month_end(today));
        let monday = Days::week_start(today);
        let week = (monday, monday.checked_add_days(chrono::Days::new(6)).unwrap_or(monday));
        let periods = [
            (Period::Day, goal.day, zero, (today, today)),
            (Period::Week, goal.week, slow.week, week),
            (Period::Month, goal.month, slow.month, month),
        ];
        let goal = |(period, target, before, dates): (_, Option<f64>, Option<Total>, _)| {
            let (target, before) = (target?, before?);
            let number = before.number + main.number;
            let done = number / target;
            let pace = plain.past.profile.pace(self.look.days, dates, today, slow.cut);
            let text = unit.text(number);
            Some(Goal {
                period,
                target: unit.rough(target),
                text,
                number,
                done,
                pace,
                words: pace_words(done, pace),
            })
        };
        periods.into_iter().filter_map(goal).collect()
    }

    fn quiet(&self, plain: &Plain, last: WallMs) -> Option<Quiet> {
        let (profile, look) = (&plain.past.profile, self.look);
        if !profile.is_known() || look.days.is_holiday(look.today) {
            return None;
        }
        let expected = profile.expected(look.days, last, look.now);
        let silence = silence(expected, profile.events_a_day())?;
        if let Some(why) = self.cannot_tell {
            return Some(Quiet {
                since_ms: last,
                words: format!("cannot tell whether it is quiet: {why}"),
                alarm: false,
            });
        }
        let since = look.now - last;
        // To the minute, so that the words change no more often than that.
        let words = format!("quiet: none for {}, usually {:.0}", ago(since), expected);
        let alarm = silence == Silence::Alarm && plain.watched.rules.alarm;
        Some(Quiet { since_ms: last, words, alarm })
    }

    fn record(plain: &Plain, main: Total, unit: &Unit) -> Option<String> {
        let past = &plain.past;
        if !matches!(plain.watched.rules.kind, FigureKind::Count | FigureKind::Money | FigureKind::Unique) {
            return None;
        }
        if let Some((date, best)) =
            past.best.filter(|(_, best)| past.days >= RECORD_DAYS_MIN && main.number > *best)
        {
            return Some(format!("{BEST_DAY}, before it {} on {}", unit.text(best), short(date)));
        }
        if plain.watched.rules.kind == FigureKind::Count {
            let reached = milestones().take_while(|stone| *stone <= past.all + main.number).last()?;
            if reached > past.all && past.days > 0 {
                return Some(format!("the {}th came today", super::words::grouped(reached, 0)));
            }
        }
        let hour_max = past.profile.hour_max;
        let hour = plain.hour?;
        (past.profile.days() >= RECORD_DAYS_MIN as u32 && hour_max > 0.0 && hour > hour_max)
            .then(|| "best hour in four weeks".to_owned())
    }
}

/// 100, 1,000 and so on, and their halves and fifths beyond a thousand.
fn milestones() -> impl Iterator<Item = f64> {
    let steps = |at: i32| [1.0, 2.0, 5.0].map(move |step| step * 10_f64.powi(at));
    (2..15).flat_map(steps).filter(|stone| *stone >= 1_000.0 || *stone == 100.0)
}

/// A share of two totals, with the chance that a share of so many has.
pub(super) fn share(part: Option<Total>, whole: Option<Total>) -> Option<Total> {
    let (part, whole) = (part?, whole?);
    (whole.number > 0.0).then(|| Total { number: part.number / whole.number, events: part.number })
}

fn pace_words(done: f64, pace: Option<f64>) -> String {
    match pace {
        _ if done >= 1.0 => "reached".to_owned(),
        None => format!("{:.0} % of it", (done * 100.0).floor()),
        Some(pace) if done >= AHEAD * pace => "ahead of pace".to_owned(),
        Some(pace) if done >= ON_PACE * pace => "on pace".to_owned(),
        Some(pace) if done >= NEARLY * pace => "a little behind".to_owned(),
        Some(_) => "behind".to_owned(),
    }
}

fn breakdown(plain: &Plain, bounds: &Bounds, unit: &Unit) -> Vec<Slice> {
    let watched = &plain.watched;
    let mut slices: BTreeMap<&str, Option<Tally>> = BTreeMap::new();
    for (member, tally) in watched.members.iter().zip(plain.merged(bounds)) {
        if let (Some(slice), Some(tally), 0) = (&member.slice, tally, member.line) {
            super::cover::merge(slices.entry(slice).or_default(), tally, bounds);
        }
    }
    let mut parts: Vec<(&str, f64)> =
        slices.iter().map(|(name, tally)| (*name, watched.total(tally.as_ref(), 0.0).number)).collect();
    let all: f64 = parts.iter().map(|(_, number)| number).sum();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    parts.truncate(limits::FIGURE_SLICES);
    if parts.len() < 2 || all <= 0.0 {
        return Vec::new();
    }
    let slice = |(name, number): (&str, f64)| Slice {
        name: name.to_owned(),
        text: unit.text(number),
        share: number / all,
    };
    parts.into_iter().map(slice).collect()
}

/// What to run to see a figure move.
fn snippet(plain: &Plain, port: u16) -> String {
    let rules = &plain.watched.rules;
    let example = if rules.kind == FigureKind::Money { "eur" } else { "example" };
    let name = rules.metric.replace(['*', '?'], example);
    let sample = match rules.kind {
        FigureKind::Count | FigureKind::Ratio => "1|c",
        FigureKind::Money if rules.decimals == 0 => "49|c",
        FigureKind::Money => "4900|c",
        FigureKind::Unique => "user-1|s",
        FigureKind::Gauge => "42|g",
        FigureKind::Timer => "320|ms",
    };
    format!("printf '{name}:{sample}' > /dev/udp/127.0.0.1/{port}")
}

/// The date as it stands in a state.
pub(super) fn day_text(date: NaiveDate) -> String {
    date.to_string()
}
