//! What is usual by hour of the week, and when silence is more than chance.
//!
//! Let *e* be the events that are usual since the last one. If they come at random, a silence as long as that has
//! the chance e^−e, and N events a day have 91·N beginnings of one in a quarter: with L = ln(91·N) one of them lasts
//! until e ≥ L. Days differ more than chance does, which matters the more the more events a day has: an alarm waits
//! for 1.3·L from 200 a day on, and for 1.15·L at 20. Amber comes at e ≥ 5.
//!
//! Usual is the mean of the same hour of the week in the last four weeks, by the clock on the wall. Where that is of
//! few events, the hour's share of an average day, times the weekday's, says more than the hour's own: the two are
//! weighed by how many events the hour had. Pure functions.

use super::days::Days;
use crate::clock::WallMs;
use chrono::{Datelike, NaiveDate};

/// Hours of a day on the wall.
pub(super) const HOURS: usize = 24;
/// Expected events from which silence is worth a word.
const AMBER: f64 = 5.0;
/// What the threshold of an alarm is multiplied by, at so many events a day and less, and at so many and more.
const MARGINS: [(f64, f64); 2] = [(20.0, 1.15), (200.0, 1.3)];
/// Days of a quarter.
const QUARTER_DAYS: f64 = 91.0;
/// Whole days without which nothing is usual.
const DAYS_MIN: u32 = 7;
/// Events of an hour of the week that count as much as what the hour shares with all days.
const OWN_EVENTS: f64 = 20.0;
/// How finely expectation is summed up: zones differ by quarters of an hour.
const STEP_MS: i64 = 900_000;
/// Further back than this nothing is summed up: two weeks of silence are known to be one.
const BACK_MS: i64 = 14 * 86_400_000;

/// What a day came to, by hour on the wall.
pub type Hours = [f64; HOURS];

/// What is usual, by weekday and hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    numbers: [Hours; 7],
    events: [Hours; 7],
    days: [u32; 7],
    /// The most that an hour came to.
    pub(super) hour_max: f64,
}

impl Profile {
    /// Adds a day: what it came to, and how many events that were.
    pub fn add(&mut self, date: NaiveDate, numbers: &Hours, events: &Hours) {
        let weekday = weekday(date);
        for (own, day) in [(&mut self.numbers, numbers), (&mut self.events, events)] {
            for (sum, number) in own.get_mut(weekday).into_iter().flatten().zip(day) {
                *sum += number;
            }
        }
        if let Some(days) = self.days.get_mut(weekday) {
            *days += 1;
        }
        self.hour_max = numbers.iter().copied().fold(self.hour_max, f64::max);
    }

    /// How many days are known.
    #[must_use]
    pub fn days(&self) -> u32 {
        self.days.iter().sum()
    }

    /// Whether enough is known to call anything usual.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.days() >= DAYS_MIN
    }

    /// Events on an average day.
    #[must_use]
    pub fn events_a_day(&self) -> f64 {
        (0..7).map(|weekday| self.mean(&self.events, weekday).iter().sum::<f64>()).sum::<f64>() / 7.0
    }

    /// The mean of a weekday by hour; of one that was never seen, the mean of all days.
    fn mean(&self, of: &[Hours; 7], weekday: usize) -> Hours {
        let mut mean = [0.0; HOURS];
        let own = self.days.get(weekday).copied().unwrap_or(0);
        let (days, rows) = if own > 0 { (own, weekday..weekday + 1) } else { (self.days(), 0..7) };
        for row in of.get(rows).into_iter().flatten() {
            for (sum, number) in mean.iter_mut().zip(row) {
                *sum += number / f64::from(days.max(1));
            }
        }
        mean
    }

    /// Events that are usual on a weekday, by hour.
    fn usual_events(&self, weekday: usize) -> Hours {
        let own = self.mean(&self.events, weekday);
        let days = f64::from(self.days.get(weekday).copied().unwrap_or(0));
        let mut shared = [0.0; HOURS];
        for row in &self.events {
            for (sum, events) in shared.iter_mut().zip(row) {
                *sum += events;
            }
        }
        let (day, all) = (own.iter().sum::<f64>(), shared.iter().sum::<f64>());
        let mut usual = own;
        for (usual, shared) in usual.iter_mut().zip(shared).filter(|_| all > 0.0) {
            let weight = *usual * days / (*usual * days + OWN_EVENTS);
            *usual = weight * *usual + (1.0 - weight) * day * shared / all;
        }
        usual
    }

    /// Events that are usual in `[from, to)`; on holidays nothing is.
    #[must_use]
    pub fn expected(&self, days: &Days, from: WallMs, to: WallMs) -> f64 {
        let mut expected = 0.0;
        let mut at = from.max(to - BACK_MS);
        let mut row: Option<(NaiveDate, Hours)> = None;
        while at < to {
            let next = ((at.div_euclid(STEP_MS) + 1) * STEP_MS).min(to);
            let date = days.calendar.date(at);
            if row.is_none_or(|(known, _)| known != date) {
                row = Some((date, self.usual_events(weekday(date))));
            }
            if let Some((_, row)) = row.filter(|_| !days.is_holiday(date)) {
                let hour = hour(days, date, at);
                expected += row.get(hour).copied().unwrap_or(0.0) * (next - at) as f64 / 3_600_000.0;
            }
            at = next;
        }
        expected
    }

    /// Which part of what is usual from `first` to `last` has usually come by a time of `today`; `None` if nothing
    /// is usual there.
    pub(super) fn pace(
        &self,
        days: &Days,
        (first, last): (NaiveDate, NaiveDate),
        today: NaiveDate,
        cut: WallMs,
    ) -> Option<f64> {
        if !self.is_known() {
            return None;
        }
        let wall = days.wall_of_day(today, cut);
        let (mut before, mut all) = (0.0, 0.0);
        for date in super::days::dates(first, last).filter(|date| !days.is_holiday(*date)) {
            let row = self.mean(&self.numbers, weekday(date));
            let day: f64 = row.iter().sum();
            all += day;
            before += match date.cmp(&today) {
                std::cmp::Ordering::Less => day,
                std::cmp::Ordering::Greater => 0.0,
                std::cmp::Ordering::Equal => row
                    .iter()
                    .enumerate()
                    .map(|(hour, number)| number * (wall / 3_600_000.0 - hour as f64).clamp(0.0, 1.0))
                    .sum(),
            };
        }
        (all > 0.0).then(|| before / all)
    }
}

/// Monday is 0.
fn weekday(date: NaiveDate) -> usize {
    date.weekday().num_days_from_monday() as usize
}

/// The hour of its day on the wall that a moment is in, counted from the day's beginning.
pub(super) fn hour(days: &Days, date: NaiveDate, time: WallMs) -> usize {
    ((days.wall_of_day(date, time) / 3_600_000.0) as usize).min(HOURS - 1)
}

/// How unusual a silence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Worth a word.
    Amber,
    /// No chance.
    Alarm,
}

/// What a silence means in which `expected` events are usual, of `events_a_day`.
#[must_use]
pub fn silence(expected: f64, events_a_day: f64) -> Option<Silence> {
    let alarm = (margin(events_a_day) * (QUARTER_DAYS * events_a_day).max(1.0).ln()).max(AMBER);
    if expected >= alarm { Some(Silence::Alarm) } else { (expected >= AMBER).then_some(Silence::Amber) }
}

fn margin(events_a_day: f64) -> f64 {
    let [(few, least), (many, most)] = MARGINS;
    let between = (events_a_day.max(1.0) / few).ln() / (many / few).ln();
    least + (most - least) * between.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;

    fn flat(days: u32, an_hour: f64) -> Profile {
        let mut profile = Profile::default();
        let first: NaiveDate = "2026-10-26".parse().unwrap();
        for date in first.iter_days().take(days as usize) {
            profile.add(date, &[an_hour; HOURS], &[an_hour; HOURS]);
        }
        profile
    }

    #[test]
    fn thresholds_are_those_of_the_formula() {
        assert_eq!((silence(4.9, 200.0), silence(5.0, 200.0)), (None, Some(Silence::Amber)));
        assert_eq!((margin(5.0), margin(20.0), margin(200.0), margin(9e9)), (1.15, 1.15, 1.3, 1.3));
        let alarm = 1.3 * (91.0_f64 * 200.0).ln();
        assert!((12.7..12.8).contains(&alarm));
        assert_eq!(silence(alarm - 0.01, 200.0), Some(Silence::Amber));
        assert_eq!(silence(alarm + 0.01, 200.0), Some(Silence::Alarm));
        assert_eq!(silence(4.0, 0.001), None, "hardly anything ever comes: no silence is unusual");
    }

    #[test]
    fn expectation_adds_up_hours_of_the_week_and_leaves_holidays_out() {
        let days = Days::new(
            Calendar::new("Europe/Paris", chrono::NaiveTime::MIN).unwrap(),
            ["2026-11-24".parse().unwrap()].into(),
        );
        let profile = flat(28, 12.0);
        let noon = days.calendar.moment("2026-11-23T12:00:00".parse().unwrap());
        assert!((profile.expected(&days, noon, noon + 1_500_000) - 5.0).abs() < 1e-9);
        assert!((profile.expected(&days, noon, noon + 48 * 3_600_000) - 24.0 * 12.0).abs() < 1e-9);
        assert_eq!(profile.events_a_day(), 288.0);
    }

    #[test]
    fn pace_follows_the_curve_and_not_a_straight_line() {
        let days = Days::new(Calendar::default(), ["2026-11-25".parse().unwrap()].into());
        let mut profile = Profile::default();
        let mut morning = [0.0; HOURS];
        morning[6] = 30.0;
        morning[18] = 10.0;
        let first: NaiveDate = "2026-10-26".parse().unwrap();
        for date in first.iter_days().take(28) {
            profile.add(date, &morning, &morning);
        }
        let today: NaiveDate = "2026-11-24".parse().unwrap();
        let at = |time: &str| days.calendar.moment(format!("2026-11-24T{time}").parse().unwrap());
        let pace = |first, last, time| profile.pace(&days, (first, last), today, at(time)).unwrap();
        assert_eq!(pace(today, today, "06:30:00"), 0.375);
        assert_eq!(pace(today, today, "12:00:00"), 0.75);
        // Monday whole, Tuesday three quarters, Wednesday is a holiday, four more.
        let (monday, sunday) = ("2026-11-23".parse().unwrap(), "2026-11-29".parse().unwrap());
        assert!((pace(monday, sunday, "12:00:00") - 1.75 / 6.0).abs() < 1e-9);
        assert_eq!(flat(6, 1.0).pace(&days, (today, today), today, at("12:00:00")), None);
    }
}
