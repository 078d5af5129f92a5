//! A JavaScript object literal, read and not run: what statsd's configuration file holds.
//!
//! In comes the text of the file; out come its keys and values in their order, or where and why it is no
//! literal. Nothing is evaluated: an expression is refused in plain words, with the line it stands on. Knows
//! none of statsd's keys.

use super::js::{Js, Object};
use super::problem::{ConfigError, Mistake, excerpt};
use json5::ErrorCode;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// How deep lists and objects may stand in one another: statsd's keys need three levels, and the parser is
/// recursive.
const DEPTH_MAX: usize = 32;
/// Semicolons behind the literal that are overlooked.
const SEMICOLONS_MAX: usize = 8;
/// A line up to this length is shown from its beginning.
const LINE_BYTES: usize = 80;
const TOO_DEEP: &str = "lists and objects stand too deep";

/// The object that the file holds.
pub(super) fn parse(text: &str) -> Result<Object, ConfigError> {
    let text = text.trim_start_matches('\u{feff}');
    let head = text.find(|c: char| c != ';' && !c.is_whitespace()).unwrap_or(text.len());
    let (head, rest) = text.split_at(head);
    let mut text = head.replace(';', " ") + rest;
    for _ in 0..SEMICOLONS_MAX {
        match parse_value(&text) {
            Parsed::Whole(Js::Object(object)) => return Ok(object),
            Parsed::Whole(_) => {
                return Err(mistake(&text, None, "this is no object", "put the keys between { and }"));
            }
            Parsed::Broken(error) => return Err(explain(&text, &error)),
            Parsed::Followed(error) => match offset_of_semicolon(&text, &error) {
                Some(offset) => text.replace_range(offset..=offset, " "),
                None => return Err(explain(&text, &error)),
            },
        }
    }
    Err(mistake(&text, None, "there are too many semicolons behind the object", "remove them"))
}

/// What a text turned out to be.
enum Parsed {
    /// One value.
    Whole(Js),
    /// One value, and then something else.
    Followed(json5::Error),
    /// No value.
    Broken(json5::Error),
}

fn parse_value(text: &str) -> Parsed {
    let mut parser = json5::Deserializer::from_str(text);
    let value = match Nested(DEPTH_MAX).deserialize(&mut parser) {
        Ok(value) => value,
        Err(error) => return Parsed::Broken(error),
    };
    // The parser has no public way to ask for its end, except through a second value.
    match Nested(DEPTH_MAX).deserialize(&mut parser) {
        Err(error) if error.code() == Some(ErrorCode::EofParsingValue) => Parsed::Whole(value),
        Err(error) => Parsed::Followed(error),
        Ok(_) => Parsed::Followed(json5::Error::custom("there is more than one value")),
    }
}

/// JavaScript allows semicolons behind the object, and statsd evaluates its file.
fn offset_of_semicolon(text: &str, error: &json5::Error) -> Option<usize> {
    let offset = offset_of(text, error.position()?)?;
    text.get(offset..)?.starts_with(';').then_some(offset)
}

/// Why the parser stopped, for people who wrote JavaScript and expect it to run.
fn explain(text: &str, error: &json5::Error) -> ConfigError {
    let rest =
        error.position().and_then(|position| offset_of(text, position)).map(|offset| text.split_at(offset));
    let before = rest.map_or("", |(before, _)| before);
    let next = rest.and_then(|(_, after)| after.chars().next());
    let touches_a_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let starts_a_word = next.is_some_and(|c| c.is_alphabetic() || ['_', '$'].contains(&c));
    let is_at_the_start = rest.is_some() && before.trim().is_empty() && next != Some('{');
    if is_at_the_start || text.trim().is_empty() {
        return mistake(
            text,
            error.position(),
            "the file does not begin with {",
            "put the keys between { and }, alone",
        );
    }
    match error.code() {
        Some(
            ErrorCode::ExpectedComma | ErrorCode::ExpectedClosingBrace | ErrorCode::ExpectedClosingBracket,
        ) if starts_a_word && !touches_a_word || next.is_some_and(|c| ['"', '\''].contains(&c)) => {
            mistake(text, error.position(), "a comma is missing before this", "write , between two entries")
        }
        Some(ErrorCode::LeadingZero) => mistake(
            text,
            error.position(),
            "a number begins with 0",
            "write permissions in quotes, such as \"0770\", and other numbers without the 0",
        ),
        Some(
            ErrorCode::ExpectedValue
            | ErrorCode::ExpectedComma
            | ErrorCode::ExpectedClosingBrace
            | ErrorCode::ExpectedClosingBracket
            | ErrorCode::ExpectedBool
            | ErrorCode::ExpectedNull
            | ErrorCode::ExpectedNumber
            | ErrorCode::ExpectedComment,
        ) => expression(text, error),
        // Digits and signs that are no number: `10-5`.
        None if error.to_string().starts_with("invalid float literal") => expression(text, error),
        _ => mistake(
            text,
            error.position(),
            &format!("this is no JavaScript object literal ({error})"),
            "check brackets, quotes and commas",
        ),
    }
}

fn expression(text: &str, error: &json5::Error) -> ConfigError {
    mistake(
        text,
        error.position(),
        "this looks like a JavaScript expression, and the file is read as data, not run",
        "write the number or the text itself, in quotes if it is text",
    )
}

fn mistake(text: &str, position: Option<json5::Position>, problem: &str, cure: &str) -> ConfigError {
    let (key, line) = match position {
        Some(position) => {
            let line = text.lines().nth(position.line).unwrap_or_default();
            // A file may be one long line; what matters is around the column.
            let start =
                if line.len() > LINE_BYTES { position.column.saturating_sub(LINE_BYTES / 2) } else { 0 };
            let line: String = line.chars().skip(start).collect();
            (format!("line {}, column {}", position.line + 1, position.column + 1), excerpt(line.trim()))
        }
        None => ("the file".to_owned(), String::new()),
    };
    Mistake { key, value: line, problem: problem.to_owned(), cure: cure.to_owned() }.into()
}

/// The byte at which a line and column lie; the parser counts characters.
fn offset_of(text: &str, position: json5::Position) -> Option<usize> {
    let (mut line, mut column) = (0, 0);
    let mut chars = text.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        if (line, column) == (position.line, position.column) {
            return Some(offset);
        }
        if ['\n', '\r', '\u{2028}', '\u{2029}'].contains(&c) {
            if c == '\r' {
                chars.next_if(|(_, next)| *next == '\n');
            }
            (line, column) = (line + 1, 0);
        } else {
            column += 1;
        }
    }
    None
}

/// Reads a value in which so many levels may still follow.
struct Nested(usize);

impl Nested {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Js;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Js, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Js;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Js, E> {
        Ok(Js::Null)
    }

    fn visit_bool<E>(self, answer: bool) -> Result<Js, E> {
        Ok(Js::Bool(answer))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Js, E> {
        Ok(Js::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Js, E> {
        Ok(Js::Number(number as f64))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Js, E> {
        Ok(Js::Number(number as f64))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Js, E> {
        Ok(Js::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Js, E> {
        Ok(Js::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Js, E> {
        Ok(Js::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Js, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self.deeper()?)? {
            list.push(element);
        }
        Ok(Js::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Js, A::Error> {
        let (mut object, mut places) = (Object::new(), BTreeMap::<String, usize>::new());
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self.deeper()?)?;
            // A key that is written twice has its last value, at its first place.
            if let Some((_, held)) = places.get(&key).and_then(|place| object.get_mut(*place)) {
                *held = value;
            } else {
                places.insert(key.clone(), object.len());
                object.push((key, value));
            }
        }
        Ok(Js::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::js::{console_lines, field};

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn literals_with_all_liberties() {
        let object = parse(
            "\u{feff} ;/* a */\n{a: 1, 'b': .5, \"c\": [true, null,], // d\n d: {e: 'x'}, a: 2,};\n// z\n;",
        )
        .unwrap();
        assert_eq!(field(&object, "a"), Some(&Js::Number(2.0)));
        assert_eq!(field(&object, "b"), Some(&Js::Number(0.5)));
        assert_eq!(object.len(), 4);
        assert_eq!(console_lines(&object), ["a: 2", "b: 0.5", "c > 0: true", "c > 1: null", "d > e: x"]);
    }

    #[test]
    fn expressions_are_named_with_their_place() {
        for text in [
            "{\n a: 10*1000}",
            "{\n a: 10 / 2}",
            "{\n a: 10-5}",
            "{\n a: process.env.X}",
            "{\n a: true && false}",
            "{\n a: f()}",
            "{\n a: new Date}",
            "{\n a: 'x' + 'y'}",
            "{\n a: `x`}",
            "{\n a: ['x', require('os').hostname()]}",
            "{\n a: 0o770}",
            "{\n a: undefined}",
        ] {
            let problem = problem(text);
            assert!(
                problem.contains("JavaScript expression") && problem.starts_with("line 2, column"),
                "{problem}"
            );
        }
    }

    #[test]
    fn other_slips_are_named_for_what_they_are() {
        assert!(problem("{a: 1\n b: 2}").contains("comma is missing"));
        assert!(problem("{a: 1\n 'b': 2}").contains("comma is missing"));
        assert!(problem("{a: 0770}").contains("begins with 0"));
        assert!(problem("module.exports = {a: 1}").contains("does not begin with {"));
        let long = format!("{{{} b: f(), c: 1}}", "a: 1,".repeat(100));
        assert!(problem(&long).contains("b: f(), c: 1"), "the place is shown in a long line");
        assert!(problem("").contains("does not begin with {"));
        assert!(problem("[1]").contains("no object"));
        assert!(problem("{a: 1").contains("brackets"));
        assert!(problem("{a: 1} {b: 2}").contains("more than one value"));
        assert!(problem(&"[".repeat(100_000)).contains(TOO_DEEP));
    }
}
