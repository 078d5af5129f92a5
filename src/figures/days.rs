//! Which stretches of time are compared: the company's days, cut at the same time on the wall.
//!
//! ```text
//!   today        |==========================>| cut: the last closed minute, 14:05 on the wall
//!   last Monday  |==========================>| 14:05 on that day's wall
//! ```
//!
//! On a day of a change of clocks the two may differ in length, and the note on the page says so. Holidays are
//! skipped: what is compared with is the same weekday of the week before. Pure functions of dates.

use crate::calendar::{Calendar, DAY_MS, Span};
use crate::clock::WallMs;
use chrono::{Datelike, Days as Ahead, NaiveDate, NaiveDateTime, Weekday};
use std::collections::BTreeSet;

/// Weeks back that a comparison looks for a day that is no holiday.
const WEEKS_BACK: u64 = 5;
/// Days back that it looks for yesterday's place.
const DAYS_BACK: u64 = 7;

/// Days with holidays among them.
#[derive(Clone, Debug)]
pub struct Days {
    pub(super) calendar: Calendar,
    holidays: BTreeSet<NaiveDate>,
}

/// A day that is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) date: NaiveDate,
    /// The day that it stands in for, which was a holiday.
    pub(super) instead_of: Option<NaiveDate>,
}

impl Days {
    /// Days of a calendar, of which some are holidays.
    #[must_use]
    pub fn new(calendar: Calendar, holidays: BTreeSet<NaiveDate>) -> Self {
        Self { calendar, holidays }
    }

    pub(super) fn is_holiday(&self, date: NaiveDate) -> bool {
        self.holidays.contains(&date)
    }

    /// What the wall shows at a moment, as a time of the day that holds it: 25:30 is half past one of the night
    /// that still belongs to the day.
    pub(super) fn wall(&self, date: NaiveDate, time: WallMs) -> chrono::Duration {
        self.calendar.local(time) - midnight(date)
    }

    /// How far the wall is from the beginning of the day, in milliseconds: 0 to a day, whatever the clocks do.
    pub(super) fn wall_of_day(&self, date: NaiveDate, time: WallMs) -> f64 {
        let since = self.calendar.local(time) - self.calendar.begins_locally(date);
        since.num_milliseconds().clamp(0, DAY_MS) as f64
    }

    /// The part of another day up to the time that the wall shows at `cut` today.
    pub(super) fn until(&self, today: NaiveDate, cut: WallMs, other: NaiveDate) -> Span {
        let day = self.calendar.day(other);
        if cut >= self.calendar.day(today).end {
            return day;
        }
        let at = self.calendar.moment(midnight(other) + self.wall(today, cut));
        Span { start: day.start, end: at.clamp(day.start, day.end) }
    }

    /// The same weekday of last week, or of the last week in which that was no holiday.
    pub(super) fn last_week(&self, today: NaiveDate) -> Option<Other> {
        self.before(today, (1..=WEEKS_BACK).map(|weeks| 7 * weeks))
    }

    /// Yesterday, or the last day before today that was no holiday.
    pub(super) fn yesterday(&self, today: NaiveDate) -> Option<Other> {
        self.before(today, 1..=DAYS_BACK)
    }

    fn before(&self, today: NaiveDate, mut back: impl Iterator<Item = u64> + Clone) -> Option<Other> {
        let date = |days| today.checked_sub_days(Ahead::new(days));
        let first = date(back.clone().next()?)?;
        let found = back.find_map(|days| date(days).filter(|date| !self.is_holiday(*date)))?;
        Some(Other { date: found, instead_of: (found != first).then_some(first) })
    }

    /// The four same weekdays before today that were no holidays, the last one first.
    pub(super) fn same_weekdays(&self, today: NaiveDate) -> Vec<NaiveDate> {
        let back = (1..=2 * WEEKS_BACK).filter_map(|weeks| today.checked_sub_days(Ahead::new(7 * weeks)));
        back.filter(|date| !self.is_holiday(*date)).take(4).collect()
    }

    /// Monday of the week of a date.
    pub(super) fn week_start(date: NaiveDate) -> NaiveDate {
        date.week(Weekday::Mon).first_day()
    }

    /// The first of the month of a date.
    pub(super) fn month_start(date: NaiveDate) -> NaiveDate {
        date.with_day(1).unwrap_or(date)
    }

    /// The last of the month of a date.
    pub(super) fn month_end(date: NaiveDate) -> NaiveDate {
        let next = Self::month_start(date).checked_add_months(chrono::Months::new(1));
        next.and_then(|next| next.pred_opt()).unwrap_or(date)
    }

    /// What is unusual about today or a day that is compared with.
    pub(super) fn note(&self, today: NaiveDate) -> Option<String> {
        let changes = |date: NaiveDate| {
            let day = self.calendar.day(date);
            day.end - day.start != DAY_MS
        };
        let others = [self.last_week(today), self.yesterday(today)].into_iter().flatten();
        let when = if changes(today) {
            "the clocks change today".to_owned()
        } else {
            let date = others.map(|other| other.date).find(|date| changes(*date))?;
            format!("the clocks changed on {}", short(date))
        };
        Some(format!("{when}: days are compared up to the same time on the wall"))
    }
}

fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(chrono::NaiveTime::MIN)
}

/// `Mon 9 Nov`
pub(super) fn short(date: NaiveDate) -> String {
    date.format("%a %-d %b").to_string()
}

/// All dates from one to another, both included.
pub(super) fn dates(first: NaiveDate, last: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    first.iter_days().take_while(move |date| *date <= last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveTime;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn days(zone: &str, starts: u32, holidays: &[&str]) -> Days {
        let calendar = Calendar::new(zone, NaiveTime::from_hms_opt(starts, 0, 0).unwrap()).unwrap();
        Days::new(calendar, holidays.iter().map(|text| date(text)).collect())
    }

    #[test]
    fn holidays_are_skipped_and_named() {
        let days = days("Europe/Paris", 0, &["2026-11-16", "2026-11-22"]);
        let monday = date("2026-11-23");
        let last = days.last_week(monday).unwrap();
        assert_eq!((last.date, last.instead_of), (date("2026-11-09"), Some(date("2026-11-16"))));
        assert_eq!(days.yesterday(monday).unwrap().date, date("2026-11-21"));
        assert!(!days.same_weekdays(monday).contains(&date("2026-11-16")));
        assert_eq!(days.same_weekdays(monday).len(), 4);
    }

    #[test]
    fn both_days_are_cut_at_the_same_time_on_the_wall() {
        let days = days("Europe/Berlin", 0, &[]);
        // 29 March has no 02:00 to 03:00; the Sunday before has.
        let today = date("2026-03-29");
        let at =
            |date: NaiveDate, hour, minute| days.calendar.moment(date.and_hms_opt(hour, minute, 0).unwrap());
        let other = days.until(today, at(today, 14, 5), date("2026-03-22"));
        assert_eq!(other.end - other.start, (14 * 60 + 5) * 60_000);
        // A time that the other day does not have is the first after it.
        let gap = days.until(date("2026-04-05"), at(date("2026-04-05"), 2, 30), today);
        assert_eq!(gap.end - gap.start, 2 * 3_600_000);
        // One that it has twice is the first of them.
        let twice = days.until(date("2026-11-01"), at(date("2026-11-01"), 2, 30), date("2026-10-25"));
        assert_eq!(twice.end - twice.start, 150 * 60_000);
    }

    #[test]
    fn hours_after_midnight_belong_to_the_day_that_began_before() {
        let days = days("Europe/Paris", 4, &[]);
        let at = days.calendar.moment(date("2026-11-24").and_hms_opt(2, 30, 0).unwrap());
        let today = days.calendar.date(at);
        assert_eq!((today, days.wall(today, at).num_minutes()), (date("2026-11-23"), 26 * 60 + 30));
        let other = days.until(today, at, date("2026-11-16"));
        assert_eq!(other.end - other.start, (22 * 60 + 30) * 60_000);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_end() {
        assert_eq!(Days::week_start(date("2026-11-29")), date("2026-11-23"));
        assert_eq!(Days::month_end(date("2028-02-03")), date("2028-02-29"));
        assert_eq!(dates(date("2026-11-29"), date("2026-12-01")).count(), 3);
    }

    #[test]
    fn a_change_of_clocks_is_noted_on_the_days_it_matters() {
        let days = days("Europe/Berlin", 0, &[]);
        let noted = |text| days.note(date(text));
        assert!(noted("2026-10-25").unwrap().contains("today"));
        assert!(noted("2026-10-26").unwrap().contains("Sun 25 Oct") && noted("2026-11-01").is_some());
        assert_eq!((noted("2026-10-24"), noted("2026-11-02")), (None, None));
    }
}
