//! Durations and sizes as people write them: `"200ms"`, `"6h"`, `"8MiB"`.
//!
//! In comes the text of a value; out come milliseconds or bytes, or the reason why not. The way back is here
//! too, so that messages, examples and migrated files use the same words. Knows no keys and no limits.

use super::problem::Reason;

/// Units of time with their milliseconds, ascending.
const TIME_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("y", 365 * 86_400_000)];
/// Units of memory with their bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Milliseconds of a duration.
pub(super) fn parse_duration(text: &str) -> Result<u64, Reason> {
    let (number, unit) = split_unit(text);
    let cure = "write a whole number with ms, s, m, h, d or y, such as \"200ms\" or \"10s\"";
    let Some(number) = number else {
        return Err(Reason::new("this is no duration", cure));
    };
    if unit.is_empty() {
        let cure = format!("write \"{number}ms\" or \"{number}s\", whichever you mean");
        return Err(Reason::new("a duration needs its unit", cure));
    }
    let Some((_, ms)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(Reason::new(format!("\"{unit}\" is no unit of time"), cure));
    };
    number.checked_mul(*ms).ok_or_else(|| Reason::new("the duration is too long", cure))
}

/// Bytes of a size; a plain number is bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, Reason> {
    let (number, unit) = split_unit(text);
    let cure = "write a whole number of bytes, or one with KiB, MiB, GiB, KB, MB or GB, such as \"8MiB\"";
    let Some(number) = number else {
        return Err(Reason::new("this is no size", cure));
    };
    let unit = if unit.is_empty() { "B" } else { unit };
    let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        return Err(Reason::new(format!("\"{unit}\" is no unit of size"), cure));
    };
    number.checked_mul(*bytes).ok_or_else(|| Reason::new("the size is too large", cure))
}

/// A duration in its largest whole unit; a day and less in hours, since that is how people say it.
pub(crate) fn show_duration(ms: u64) -> String {
    let fits = |unit: u64| ms.is_multiple_of(unit) && (unit < 86_400_000 || ms > unit);
    let (unit, factor) =
        TIME_UNITS.iter().rev().find(|(_, unit)| ms > 0 && fits(*unit)).unwrap_or(&("s", 1_000));
    format!("{}{unit}", ms / factor)
}

/// A size in its largest whole binary unit.
pub(crate) fn show_size(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().rev().filter(|(name, _)| name.ends_with("iB"));
    let fitting = binary.into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    fitting.map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// The number in front, if it is whole and fits, and the letters behind it.
fn split_unit(text: &str) -> (Option<u64>, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number.parse().ok(), unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, ms) in [
            ("200ms", 200),
            ("10s", 10_000),
            ("1m", 60_000),
            ("6h", 21_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in
            ["", "s", "10", "-1s", "1.5s", "10 weeks", "10S", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("200").unwrap_err().cure.contains("200ms"));
    }

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4_096),
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("8mib", 8 << 20),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "8M", "1.5GiB", "-1", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for ms in [0, 1, 200, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000, 604_800_000] {
            assert_eq!(parse_duration(&show_duration(ms)), Ok(ms));
        }
        assert_eq!(show_duration(86_400_000), "24h");
        assert_eq!(show_duration(604_800_000), "7d");
        for bytes in [0, 1, 1_000, 1_024, 65_536, 8 << 20, 512 << 20, 3 << 30] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_size(8 << 20), "8MiB");
    }
}
