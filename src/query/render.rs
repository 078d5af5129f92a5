//! Answers as JSON and CSV.
//!
//! Numbers are the nearest doubles, whole ones without a fraction. In CSV there is a line for each point; text that
//! a spreadsheet would take for a formula gets an apostrophe in front.

use super::answer::Answer;
use super::listing::Listing;
use super::span::{short, written};
use serde::{Serialize, Serializer};
use std::fmt::{self, Write as _};

/// Every whole number up to here is a double.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A number as it is written: `3`, not `3.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Num(pub f64);

impl Num {
    /// Milliseconds as seconds.
    #[must_use]
    pub fn secs(ms: i64) -> Self {
        Self(ms as f64 / 1_000.0)
    }

    fn whole(self) -> Option<i64> {
        (self.0.fract() == 0.0 && self.0.abs() <= WHOLE_MAX).then_some(self.0 as i64)
    }
}

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole() {
            Some(whole) => serializer.serialize_i64(whole),
            // What is no number becomes null there.
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole() {
            Some(whole) => write!(f, "{whole}"),
            None if self.0.is_finite() => write!(f, "{:?}", self.0),
            None => Ok(()),
        }
    }
}

impl Answer {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// As CSV, a line for each point.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = "time,seconds,name,tags,kind,stat,value,open\n".to_owned();
        let open = self.open.map(|open| open.start);
        let times: Vec<String> = self.times.iter().map(|time| written(*time)).collect();
        for line in &self.series {
            let about = format!(
                "{},{},{},{}",
                cell(&line.name),
                cell(&line.tags_text()),
                line.kind,
                cell(&line.stat)
            );
            for ((at, value), time) in line.points.iter().zip(&times) {
                let value = value.map(|value| value.to_string()).unwrap_or_default();
                let open = if open == Some(at) { "open" } else { "" };
                writeln!(text, "{time},{at},{about},{value},{open}").ok();
            }
        }
        text
    }
}

impl Listing {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// As CSV, a line for each series.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = "name,tags,kind,levels\n".to_owned();
        for series in &self.series {
            let levels: Vec<String> = series
                .levels
                .iter()
                .map(|level| format!("{}:{}", short(ms(level.width)), short(ms(level.keep))))
                .collect();
            let tags = join(series.tags.iter());
            writeln!(text, "{},{},{},{}", cell(&series.name), cell(&tags), series.kind, levels.join(" "))
                .ok();
        }
        text
    }
}

fn ms(seconds: Num) -> i64 {
    (seconds.0 * 1_000.0).round() as i64
}

/// Tags as in a key: `plan=pro;country=de`.
pub(super) fn join<'a>(tags: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    tags.map(|(tag, value)| format!("{tag}={value}")).collect::<Vec<_>>().join(";")
}

/// Text as a cell of a CSV file: quoted where need be, and never a formula.
#[must_use]
pub fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r', ';', '\t']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_short() {
        let json = |value| serde_json::to_string(&Num(value)).unwrap();
        assert_eq!((json(3.0), json(0.1), json(-0.0)), ("3".to_owned(), "0.1".to_owned(), "0".to_owned()));
        assert_eq!((json(f64::NAN), json(f64::INFINITY)), ("null".to_owned(), "null".to_owned()));
        for value in [1e300, -1e-300, 0.1 + 0.2, 1e17, 9_007_199_254_740_991.0] {
            assert_eq!(json(value).parse(), Ok(value));
            assert_eq!(Num(value).to_string().parse(), Ok(value));
        }
        assert_eq!(Num(f64::NAN).to_string(), "");
    }

    #[test]
    fn cells_are_neither_formulas_nor_breaks() {
        for (text, shown) in [
            ("signups", "signups"),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2", "'-2"),
            ("+a,b", "\"'+a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("\tx", "\"'\tx\""),
            ("plan=pro;country=de", "\"plan=pro;country=de\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), shown, "{text}");
        }
    }
}
