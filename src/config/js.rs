//! A JavaScript value as data, and JavaScript's own ideas about it.
//!
//! In come questions such as "is it true?", "which number is it?" and "what does it print?"; out come the
//! answers that statsd would get, since its file is JavaScript. Knows neither the file nor statsd's keys.

use super::timers::number_text;
use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Js {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Js>),
    Object(Object),
}

/// Keys and values, in the order of the file.
pub(super) type Object = Vec<(String, Js)>;

/// The value of `key`.
pub(super) fn field<'o>(object: &'o Object, key: &str) -> Option<&'o Js> {
    object.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

impl Js {
    /// Whether JavaScript's `if` takes it for true.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(answer) => *answer,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::List(_) | Self::Object(_) => true,
        }
    }

    /// The number it is, or that JavaScript would make of its text.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The text it is, or that JavaScript would make of a number.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number_text(*number)),
            _ => None,
        }
    }

    /// The value as it would be written in the file, for messages.
    pub(super) fn source(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::List(elements) => {
                format!("[{}]", elements.iter().map(Self::source).collect::<Vec<_>>().join(", "))
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| format!("{key}: {}", value.source()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }
}

/// What JavaScript makes of it in `'' + value`.
impl fmt::Display for Js {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(answer) => write!(f, "{answer}"),
            Self::Number(number) => f.write_str(&number_text(*number)),
            Self::Text(text) => f.write_str(text),
            Self::List(elements) => {
                let joined = elements.iter().map(|element| match element {
                    Self::Null => String::new(),
                    other => other.to_string(),
                });
                f.write_str(&joined.collect::<Vec<_>>().join(","))
            }
            Self::Object(_) => f.write_str("[object Object]"),
        }
    }
}

/// The lines of statsd's `config` command, in the order of the file.
pub(super) fn console_lines(object: &Object) -> Vec<String> {
    let lines = object.iter().flat_map(|(key, value)| match value {
        Js::Null => Vec::new(),
        Js::List(elements) => elements
            .iter()
            .enumerate()
            .map(|(index, element)| format!("{key} > {index}: {element}"))
            .collect(),
        Js::Object(fields) => fields.iter().map(|(sub, value)| format!("{key} > {sub}: {value}")).collect(),
        plain => vec![format!("{key}: {plain}")],
    });
    // A value may hold line breaks, and a line of the console is a line.
    lines.map(|line| line.replace(['\r', '\n'], " ")).collect()
}
