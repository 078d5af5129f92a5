//! What of a page's state is shown, read leniently: a server of another version may leave things out or add some.
//!
//! Labels and texts come from others and end in a terminal, which would obey some of them: control characters and
//! those that turn the direction of writing are replaced while they are read.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::ops::Deref;

/// Text that a terminal may be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        Ok(Self(harmless(&text.unwrap_or_default())))
    }
}

/// The text without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// A page, with those parts that are shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    #[serde(rename = "page")]
    pub(super) name: Name,
    pub(super) pages: Vec<Name>,
    pub(super) zone: Text,
    pub(super) day: Text,
    pub(super) clock: Text,
    pub(super) note: Option<Text>,
    pub(super) guarantee: Text,
    pub(super) partial: Option<Text>,
    pub(super) figures: Vec<Figure>,
    pub(super) ticker: Vec<Event>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Name {
    pub(super) path: Text,
    pub(super) title: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figure {
    pub(super) label: Text,
    pub(super) kind: Text,
    pub(super) slot: Text,
    pub(super) state: Text,
    pub(super) lower_is_better: bool,
    pub(super) values: Vec<Value>,
    pub(super) period: Text,
    pub(super) also: Vec<Also>,
    pub(super) last_words: Option<Text>,
    pub(super) compare: Vec<Compare>,
    pub(super) compare_words: Option<Text>,
    pub(super) usual: Option<Text>,
    pub(super) spark: Option<Spark>,
    pub(super) goals: Vec<Goal>,
    pub(super) quiet: Option<Quiet>,
    pub(super) record: Option<Text>,
    pub(super) corrected: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Value {
    unit: Text,
    unit_first: bool,
    text: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Also {
    label: Text,
    text: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Compare {
    label: Text,
    delta: Text,
    percent: Option<Text>,
    pub(super) tone: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spark {
    pub(super) today: Vec<Option<f64>>,
    pub(super) last_week: Vec<Option<f64>>,
    pub(super) now_index: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Goal {
    period: Text,
    target: Text,
    text: Text,
    pub(super) done: f64,
    pub(super) pace: Option<f64>,
    words: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Quiet {
    pub(super) words: Text,
    pub(super) alarm: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) clock: Text,
    pub(super) text: Text,
}

impl Page {
    pub(super) fn read(state: &serde_json::Value) -> Option<Self> {
        Self::deserialize(state).ok()
    }
}

impl Figure {
    /// All values in one line; a dash while nothing is known, `≈` before what may be too low.
    pub(super) fn number(&self) -> String {
        let about = if &*self.state == "partial" { "≈ " } else { "" };
        let value = |value: &Value| match (&*value.unit, value.unit_first) {
            ("", _) => format!("{about}{}", value.text),
            (unit, true) => format!("{about}{unit}{}", value.text),
            (unit, false) => format!("{about}{} {unit}", value.text),
        };
        match self.values.as_slice() {
            [] => "–".to_owned(),
            values => values.iter().map(value).collect::<Vec<_>>().join(" · "),
        }
    }

    /// `Sign-ups today`
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.label, self.period).trim_end().to_owned()
    }

    /// What there is to compare with, a line each.
    pub(super) fn comparisons(&self) -> Vec<String> {
        match (self.compare.as_slice(), &self.compare_words) {
            ([], Some(words)) => vec![words.to_string()],
            (all, _) => all.iter().map(|one| one.words(self.lower_is_better)).collect(),
        }
    }

    /// What is to be known besides, the most urgent first.
    pub(super) fn remarks(&self) -> Vec<String> {
        let waiting = (&*self.state == "never").then(|| "waiting for the first event".to_owned());
        let quiet = self.quiet.as_ref().map(|quiet| {
            if quiet.alarm { format!("ALARM: {}", quiet.words) } else { quiet.words.to_string() }
        });
        let texts =
            [&self.record, &self.corrected, &self.usual].into_iter().flatten().map(ToString::to_string);
        let also = self.also.iter().map(|also| format!("{}: {}", also.label, also.text));
        waiting.into_iter().chain(quiet).chain(texts).chain(also).collect()
    }
}

impl Compare {
    /// `+21 (+13 %) vs last Mon by 14:05`, with an arrow where the difference means something.
    pub(super) fn words(&self, lower_is_better: bool) -> String {
        let percent = self.percent.as_ref().map_or_else(String::new, |percent| format!(" ({percent})"));
        let better = |up: bool| if up == lower_is_better { "worse" } else { "better" };
        let arrow = match &*self.tone {
            "up" => format!("▲ {}: ", better(true)),
            "down" => format!("▼ {}: ", better(false)),
            _ => String::new(),
        };
        format!("{arrow}{}{percent} {}", self.delta, self.label)
    }
}

impl Goal {
    /// `goal of the day 300: 184, on pace`
    pub(super) fn words(&self) -> String {
        let words = if self.words.is_empty() { String::new() } else { format!(", {}", self.words) };
        format!("goal of the {} {}: {}{words}", self.period, self.target, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_terminal_is_given_nothing_that_it_obeys() {
        let state =
            json!({"figures": [{"label": "a\u{1b}[2J\u{9b}31m\u{202e}b", "values": null, "period": null}]});
        assert!(Page::read(&state).is_none(), "a list is a list");
        let state = json!({"figures": [{"label": "a\u{1b}[2J\u{9b}31m\u{202e}b", "period": null}], "new": 1});
        let page = Page::read(&state).unwrap();
        assert_eq!(page.figures[0].title(), "a\u{fffd}[2J\u{fffd}31m\u{fffd}b");
        assert_eq!(page.figures[0].number(), "–");
    }
}
