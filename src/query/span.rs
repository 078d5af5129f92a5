//! Moments and spans as people write them: `-1h`, `today`, `2026-11-23`, `15m`.

use crate::calendar::Calendar;
use crate::clock::WallMs;
use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};

/// Units of a span, in milliseconds; longer words first where one begins another.
const UNITS: [(&str, f64); 8] = [
    ("ms", 1.0),
    ("min", 60_000.0),
    ("s", 1_000.0),
    ("m", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
    ("w", 604_800_000.0),
    ("y", 31_536_000_000.0),
];
/// Seconds beyond this would be the year 5138: they are milliseconds.
const SECONDS_MAX: f64 = 1e11;

/// A span in milliseconds: `90`, `0.5`, `15m`, `1h30m`. A number without a unit is seconds.
#[must_use]
pub fn span_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        if behind.is_empty() && digits == text.len() {
            total = number * 1_000.0;
            break;
        }
        let (unit, ms) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        total += number * ms;
        rest = behind.strip_prefix(unit)?;
        if rest.is_empty() {
            break;
        }
    }
    (total <= SECONDS_MAX * 1_000.0).then_some(total.round() as i64)
}

/// A moment: `now`, `-1h`, `now-1h`, `today`, `yesterday`, `2026-11-23`, RFC 3339, or seconds since 1970. In words
/// what is wrong with it.
pub fn moment(text: &str, now: WallMs, calendar: &Calendar) -> Result<WallMs, String> {
    let today = || calendar.day_of(now).start;
    match text {
        "now" => return Ok(now),
        "today" => return Ok(today()),
        "yesterday" => return Ok(calendar.day_of(today() - 1).start),
        _ => {}
    }
    if let Some(ago) = text.strip_prefix("now").unwrap_or(text).strip_prefix('-') {
        let ago = span_ms(ago).ok_or_else(|| format!("`{text}` is not a span of time before now"))?;
        return Ok(now.saturating_sub(ago).max(0));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        if seconds > SECONDS_MAX {
            return Err(format!("`{text}` would be in the far future: it looks like milliseconds"));
        }
        return Ok((seconds * 1_000.0).round() as i64);
    }
    let in_range = |year: i32| (1970..10_000).contains(&year);
    if let Ok(date) = text.parse::<NaiveDate>() {
        return in_range(date.year())
            .then(|| calendar.day(date).start)
            .ok_or_else(|| format!("`{text}` is before 1970 or after 9999"));
    }
    // The + of an offset that was not encoded arrives as a blank.
    let offset = if text.contains('T') { text.replace(' ', "+") } else { text.to_owned() };
    match DateTime::parse_from_rfc3339(&offset) {
        Ok(time) if in_range(time.year()) => Ok(time.timestamp_millis().max(0)),
        Ok(_) => Err(format!("`{text}` is before 1970 or after 9999")),
        Err(_) => Err(format!("`{text}` is not a time")),
    }
}

/// A moment as RFC 3339, with milliseconds where it has some.
pub(super) fn written(time: WallMs) -> String {
    let time = DateTime::from_timestamp_millis(time).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A span as a parameter: `10s`, `15m`, `1d`.
pub(super) fn short(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = UNITS.iter().find(|(unit, _)| ms >= *unit && ms % unit == 0);
    unit.map_or_else(|| format!("{ms}ms"), |(unit, word)| format!("{}{word}", ms / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveTime;

    #[test]
    fn spans_have_units_or_are_seconds() {
        for (text, ms) in [
            ("90", 90_000),
            ("0.2", 200),
            ("200ms", 200),
            ("15m", 900_000),
            ("15min", 900_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(span_ms(text), Some(ms), "{text}");
        }
        for text in
            ["", "m", "1x", "1h30", "-1h", "1 h", "1..2", ".", "1mon", "1e3", "99999999999999999999", "ms"]
        {
            assert_eq!(span_ms(text), None, "{text}");
        }
    }

    #[test]
    fn moments_are_written_in_many_ways() {
        let calendar = Calendar::new("Europe/Berlin", NaiveTime::MIN).unwrap();
        // Monday, 23 November 2026, 13:30:00.500 in Berlin.
        let now = 1_795_437_000_500;
        for (text, ms) in [
            ("now", now),
            ("-1h", now - 3_600_000),
            ("-90", now - 90_000),
            ("now-1h30m", now - 5_400_000),
            ("-1000y", 0),
            ("today", 1_795_388_400_000),
            ("yesterday", 1_795_302_000_000),
            ("2026-11-23", 1_795_388_400_000),
            ("1795437000", 1_795_437_000_000),
            ("1795437000.25", 1_795_437_000_250),
            ("2026-11-23T12:30:00Z", 1_795_437_000_000),
            ("2026-11-23T13:30:00+01:00", 1_795_437_000_000),
            ("2026-11-23T13:30:00 01:00", 1_795_437_000_000),
            ("2026-11-23T12:30:00.5Z", now),
            ("0", 0),
        ] {
            assert_eq!(moment(text, now, &calendar), Ok(ms), "{text}");
        }
        let texts = [
            "",
            "-",
            "soon",
            "now+1h",
            "-1x",
            "1795437000000",
            "2026-13-01",
            "2026-11-23T13:30",
            "1.2.3",
            "nan",
        ];
        for text in texts.into_iter().chain(["+1h", "1e9", "12345-01-01", "1950-01-01", "inf"]) {
            assert!(moment(text, now, &calendar).is_err(), "{text}");
        }
    }
}
