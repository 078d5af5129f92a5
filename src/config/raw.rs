//! One value as it was written, and what it can be read as.
//!
//! In comes a value of the file, with its TOML type, or the text of an environment variable, which has none;
//! out comes a number, a word or a list within the limits given, or the reason why not. Knows no keys.

use super::problem::Reason;
use super::units::{parse_duration, parse_size, show_duration, show_size};
use std::ops::RangeInclusive;
use toml::Value;

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// In the file: its type counts.
    File(&'a Value),
    /// In the environment: text that is read as whatever the key wants.
    Env(&'a str),
}

impl<'a> Raw<'a> {
    /// A word or a sentence.
    pub(super) fn text(self) -> Result<&'a str, Reason> {
        match self {
            Self::Env(text) => Ok(text),
            Self::File(Value::String(text)) => Ok(text),
            Self::File(value) => Err(wrong_type("text", value, "write it in quotes")),
        }
    }

    /// A whole number.
    fn integer(self) -> Result<i64, Reason> {
        match self {
            Self::File(Value::Integer(number)) => Ok(*number),
            Self::Env(text) => {
                text.trim().parse().map_err(|_| Reason::new("this is no whole number", "write digits alone"))
            }
            Self::File(value) => Err(wrong_type("a whole number", value, "write digits without quotes")),
        }
    }

    /// A number that may have a fraction.
    pub(super) fn number(self) -> Result<f64, Reason> {
        match self {
            Self::File(Value::Float(number)) => Ok(*number),
            Self::File(Value::Integer(number)) => Ok(*number as f64),
            Self::Env(text) => {
                text.trim().parse().map_err(|_| Reason::new("this is no number", "write it as 90 or 99.9"))
            }
            Self::File(value) => Err(wrong_type("a number", value, "write it without quotes")),
        }
    }

    /// Yes or no.
    fn boolean(self) -> Result<bool, Reason> {
        match self {
            Self::File(Value::Boolean(answer)) => Ok(*answer),
            Self::Env(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Ok(true),
                "false" | "0" | "no" => Ok(false),
                _ => Err(Reason::new("this is neither yes nor no", "write true or false")),
            },
            Self::File(value) => {
                Err(wrong_type("true or false", value, "write true or false without quotes"))
            }
        }
    }

    /// The elements of a list; in the environment they stand between commas.
    pub(super) fn list(self) -> Result<Vec<Self>, Reason> {
        match self {
            Self::File(Value::Array(elements)) => Ok(elements.iter().map(Self::File).collect()),
            Self::Env(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Env(text) => Ok(text.split(',').map(|element| Self::Env(element.trim())).collect()),
            Self::File(value) => Err(wrong_type("a list", value, "write it in square brackets")),
        }
    }

    /// The value for a message. Passwords in addresses are left out.
    pub(super) fn shown(self) -> String {
        let written = match self {
            Self::File(value) => value.to_string(),
            Self::Env(text) => Value::String(text.to_owned()).to_string(),
        };
        without_password(&written)
    }
}

/// An address without its user and password.
pub(super) fn without_password(written: &str) -> String {
    match (written.find("://"), written.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            let (before, after) = (written.get(..scheme), written.get(at..));
            format!("{}://…{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => written.to_owned(),
    }
}

/// Reads yes or no.
pub(super) fn boolean(raw: Raw<'_>) -> Result<bool, Reason> {
    raw.boolean()
}

/// Reads text with a parser of its own.
pub(super) fn text<T>(parse: impl Fn(&str) -> Result<T, Reason>) -> impl Fn(Raw<'_>) -> Result<T, Reason> {
    move |raw| parse(raw.text()?)
}

/// Reads a duration within limits, in milliseconds.
pub(super) fn duration(range: RangeInclusive<u64>) -> impl Fn(Raw<'_>) -> Result<u64, Reason> {
    move |raw| {
        if let Raw::File(Value::Integer(number)) = raw {
            return parse_duration(&number.to_string());
        }
        let ms = parse_duration(raw.text()?)?;
        within(ms, &range, |ms| format!("\"{}\"", show_duration(ms)))
    }
}

/// Reads a size within limits, in bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(Raw<'_>) -> Result<usize, Reason> {
    move |raw| {
        let bytes = match raw {
            Raw::File(Value::Integer(number)) => parse_size(&number.to_string())?,
            raw => parse_size(raw.text()?)?,
        };
        let bytes = within(bytes, &range, |bytes| format!("\"{}\"", show_size(bytes)))?;
        usize::try_from(bytes).map_err(|_| Reason::new("this machine has no such size", "write less"))
    }
}

/// Reads a whole number within limits.
pub(super) fn count(range: RangeInclusive<usize>) -> impl Fn(Raw<'_>) -> Result<usize, Reason> {
    move |raw| {
        let number = i128::from(raw.integer()?);
        let limits = *range.start() as i128..=*range.end() as i128;
        within(number, &limits, |number| number.to_string()).map(|number| number as usize)
    }
}

/// Reads one of a few words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(Raw<'_>) -> Result<T, Reason> {
    |raw| {
        let text = raw.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            Reason::new("there is no such choice", format!("write {}", all.join(" or ")))
        })
    }
}

/// The value if it lies within the limits.
fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, Reason> {
    if range.contains(&value) {
        return Ok(value);
    }
    let problem = if value < *range.start() { "this is too little" } else { "this is too much" };
    Err(Reason::new(problem, format!("write {} to {}", show(*range.start()), show(*range.end()))))
}

fn wrong_type(expected: &str, value: &Value, cure: &str) -> Reason {
    let article = if value.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
    Reason::new(format!("{expected} is expected here, and this is {article} {}", value.type_str()), cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_count_in_the_file_and_not_in_the_environment() {
        let (text, number) = (Value::from("90"), Value::from(90));
        assert_eq!(Raw::File(&number).integer(), Ok(90));
        assert!(Raw::File(&text).integer().is_err());
        assert_eq!(Raw::Env("90").integer(), Ok(90));
        assert!(Raw::File(&number).text().is_err());
        assert_eq!(Raw::Env("Yes").boolean(), Ok(true));
        assert!(Raw::File(&number).boolean().is_err());
    }

    #[test]
    fn limits_are_inclusive_and_named() {
        let tick = duration(20..=1_000);
        assert_eq!((tick(Raw::Env("20ms")), tick(Raw::Env("1s"))), (Ok(20), Ok(1_000)));
        assert_eq!(tick(Raw::Env("19ms")).unwrap_err().cure, "write \"20ms\" to \"1s\"");
        assert!(tick(Raw::Env("1001ms")).is_err());
        assert!(tick(Raw::File(&Value::from(200))).unwrap_err().problem.contains("unit"));
        assert!(count(1..=2)(Raw::Env("-1")).is_err());
        assert!(count(0..=2)(Raw::Env("-1")).is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = Raw::Env("redis://user:hunter2@host:6379").shown();
        assert_eq!(shown, "\"redis://…@host:6379\"");
    }
}
