//! Days as the company counts them: local days of a time zone, which begin at a chosen hour.
//!
//! In come moments in UTC milliseconds, out come the days that hold them. A day of a change of clocks has 23 or
//! 25 hours, or half an hour more or less where the zone does it so. Where the hour at which days begin does not
//! exist on some date, that day begins with the first moment after it; where it exists twice, with the earlier.
//! Does not know what is counted in a day. Zones and their rules are the IANA database's, by way of chrono-tz.

use crate::clock::WallMs;
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// Milliseconds of a day without a change of clocks.
pub const DAY_MS: i64 = 86_400_000;
/// A gap in local time is not wider than this: a zone that moves across the date line skips a day.
const GAP_MINUTES_MAX: i64 = 25 * 60;

/// A span of time, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Its first millisecond.
    pub start: WallMs,
    /// The first millisecond after it.
    pub end: WallMs,
}

/// Where a company's days begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
    day_starts: NaiveTime,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { zone: Tz::UTC, day_starts: NaiveTime::MIN }
    }
}

impl Calendar {
    /// Days of `zone` (an IANA name) that begin at `day_starts`; `None` if there is no such zone.
    #[must_use]
    pub fn new(zone: &str, day_starts: NaiveTime) -> Option<Self> {
        Some(Self { zone: zone.parse().ok()?, day_starts })
    }

    /// The zone's name.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The date of the day that holds a moment.
    #[must_use]
    pub fn date(&self, time: WallMs) -> NaiveDate {
        // The date on the wall, or one of its neighbours: days need not begin at midnight.
        let date = self.local(time).date();
        let candidates = [date.succ_opt(), Some(date), date.pred_opt()];
        let holds = |date: &NaiveDate| self.begins(*date) <= time;
        candidates.into_iter().flatten().find(holds).unwrap_or(date)
    }

    /// The day of a date.
    #[must_use]
    pub fn day(&self, date: NaiveDate) -> Span {
        let next = date.succ_opt().unwrap_or(date);
        Span { start: self.begins(date), end: self.begins(next) }
    }

    /// The day that holds a moment.
    #[must_use]
    pub fn day_of(&self, time: WallMs) -> Span {
        self.day(self.date(time))
    }

    /// What the clock on the wall shows.
    #[must_use]
    pub fn local(&self, time: WallMs) -> NaiveDateTime {
        DateTime::from_timestamp_millis(time).unwrap_or_default().with_timezone(&self.zone).naive_local()
    }

    /// The first moment at which the clock on the wall shows a time, or a later one where it never shows that.
    #[must_use]
    pub fn moment(&self, local: NaiveDateTime) -> WallMs {
        if let Some(at) = self.zone.from_local_datetime(&local).earliest() {
            return at.timestamp_millis();
        }
        // Clocks change at whole minutes, so the first minute that exists is the first moment after a gap.
        let minute = local.with_second(0).and_then(|local| local.with_nanosecond(0)).unwrap_or(local);
        let exists = |minutes: i64| {
            let local = minute + chrono::Duration::minutes(minutes);
            self.zone.from_local_datetime(&local).earliest()
        };
        (1..=GAP_MINUTES_MAX)
            .find_map(exists)
            .map_or_else(|| Utc.from_utc_datetime(&local).timestamp_millis(), |at| at.timestamp_millis())
    }

    /// The moment at which the day of a date begins.
    fn begins(&self, date: NaiveDate) -> WallMs {
        self.moment(date.and_time(self.day_starts))
    }

    /// The local time at which the day of a date begins, whether or not there is such a time.
    #[must_use]
    pub fn begins_locally(&self, date: NaiveDate) -> NaiveDateTime {
        date.and_time(self.day_starts)
    }

    /// Whether days begin on multiples of `width_ms` in UTC, on every day of the next years: a bucket that a
    /// day is rolled up from must not lie in two days.
    #[must_use]
    pub fn fits(&self, width_ms: i64, around: WallMs) -> bool {
        let today = self.date(around);
        (0..800_u64)
            .filter_map(|ahead| today.checked_add_days(Days::new(ahead)))
            .all(|date| self.begins(date).rem_euclid(width_ms) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str, hour: u32) -> Calendar {
        Calendar::new(zone, NaiveTime::from_hms_opt(hour, 0, 0).unwrap()).unwrap()
    }

    fn hours(calendar: &Calendar, year: i32, month: u32, day: u32) -> f64 {
        let span = calendar.day(NaiveDate::from_ymd_opt(year, month, day).unwrap());
        (span.end - span.start) as f64 / 3_600_000.0
    }

    #[test]
    fn days_of_a_change_of_clocks_are_longer_and_shorter() {
        let berlin = calendar("Europe/Berlin", 0);
        assert_eq!(hours(&berlin, 2026, 3, 29), 23.0);
        assert_eq!(hours(&berlin, 2026, 10, 25), 25.0);
        assert_eq!(hours(&berlin, 2026, 11, 23), 24.0);
        let lord_howe = calendar("Australia/Lord_Howe", 0);
        assert_eq!(hours(&lord_howe, 2026, 10, 4), 23.5);
        assert_eq!(hours(&lord_howe, 2026, 4, 5), 24.5);
        // Where days begin at four, the change is in the day before.
        let late = calendar("Europe/Berlin", 4);
        assert_eq!(hours(&late, 2026, 3, 28), 23.0);
        assert_eq!(hours(&late, 2026, 3, 29), 24.0);
    }

    #[test]
    fn a_midnight_that_does_not_exist_begins_after_the_gap() {
        // Clocks in Santiago went from 24:00 to 01:00 on 2023-09-02.
        let santiago = calendar("America/Santiago", 0);
        let span = santiago.day(NaiveDate::from_ymd_opt(2023, 9, 3).unwrap());
        assert_eq!(span.start % 3_600_000, 0);
        assert_eq!(hours(&santiago, 2023, 9, 3), 23.0);
        assert_eq!(santiago.date(span.start), NaiveDate::from_ymd_opt(2023, 9, 3).unwrap());
        assert_eq!(santiago.date(span.start - 1), NaiveDate::from_ymd_opt(2023, 9, 2).unwrap());
        // Samoa had no 30 December 2011.
        let apia = calendar("Pacific/Apia", 0);
        assert_eq!(hours(&apia, 2011, 12, 29), 24.0);
        assert_eq!(hours(&apia, 2011, 12, 30), 0.0);
    }

    #[test]
    fn every_moment_is_in_the_day_of_its_date_and_days_join() {
        for zone in ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"] {
            for hour in [0, 2, 5, 23] {
                let calendar = calendar(zone, hour);
                let mut time = 1_760_000_000_123_i64;
                for _ in 0..1_000 {
                    let span = calendar.day_of(time);
                    assert!((span.start..span.end).contains(&time), "{zone} {hour} {time}: {span:?}");
                    assert_eq!(calendar.day_of(span.end).start, span.end, "{zone} {hour}: days join");
                    time += 31_234_567;
                }
            }
        }
    }

    #[test]
    fn zones_of_45_minutes_want_quarters() {
        let now = 1_795_000_000_000;
        assert!(calendar("Asia/Kathmandu", 0).fits(900_000, now));
        assert!(!calendar("Asia/Kathmandu", 0).fits(1_800_000, now));
        assert!(!calendar("Asia/Kolkata", 0).fits(3_600_000, now));
        assert!(calendar("Europe/Berlin", 0).fits(3_600_000, now));
        assert!(Calendar::new("Europe/Atlantis", NaiveTime::MIN).is_none());
    }
}
