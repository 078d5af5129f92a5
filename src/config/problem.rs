//! What is wrong with a configuration, said so that it can be put right.
//!
//! In come a key, its value as it was written and the reason it was refused; out comes one line of plain
//! words for each mistake. Knows nothing of what the keys mean, and never stops at the first mistake: who
//! edits a file wants to edit it once.

use std::fmt;

/// Longest excerpt of a value in bytes that a message shows.
const EXCERPT_BYTES_MAX: usize = 80;
/// So many wrong letters are a slip; more are another word.
const LETTERS_MAX: usize = 3;
/// Words longer than this are no slip of the finger, and comparing them would only cost time.
const WORD_BYTES_MAX: usize = 64;

/// One mistake: where it is, what stands there, why that cannot be, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as its user knows it: `flush.tick`, `TALLYD_FLUSH_TICK`, statsd's `flushInterval`, or the
    /// path of a file.
    pub key: String,
    /// The value as it was written, shortened; empty where there is none. Secrets are never in here.
    pub value: String,
    /// Why it is refused.
    pub problem: String,
    /// What to write instead.
    pub cure: String,
}

impl Mistake {
    /// A mistake at `key`, where `value` is written.
    pub(super) fn new(key: impl Into<String>, value: &str, reason: Reason) -> Self {
        Self { key: key.into(), value: excerpt(value), problem: reason.problem, cure: reason.cure }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}: {}; {}", self.key, self.problem, self.cure),
            value => write!(f, "{} = {}: {}; {}", self.key, value, self.problem, self.cure),
        }
    }
}

/// Every mistake that was found; displays as one line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.mistakes))]
pub struct ConfigError {
    /// The mistakes, in the order of the keys.
    pub mistakes: Vec<Mistake>,
}

impl From<Mistake> for ConfigError {
    fn from(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

/// Why a value is refused, before anyone knows under which key it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) problem: String,
    pub(super) cure: String,
}

impl Reason {
    pub(super) fn new(problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: cure.into() }
    }
}

/// The beginning of `text` on one line: a message is a line, whatever was written.
pub(super) fn excerpt(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= EXCERPT_BYTES_MAX {
        return line;
    }
    let mut end = EXCERPT_BYTES_MAX;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", line.get(..end).unwrap_or_default())
}

/// The candidate that `word` was probably meant to be.
pub(super) fn suggestion<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let tolerated = (word.chars().count() / 3).clamp(1, LETTERS_MAX);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop or replace to get from one word to the other (Levenshtein), a row at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, x) in from.chars().enumerate() {
        let (mut diagonal, mut left) = (index, index + 1);
        for (cell, y) in row.iter_mut().skip(1).zip(to.chars()) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            (diagonal, left) = (above, *cell);
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (from, to, letters) in
            [("", "abc", 3), ("abc", "abc", 0), ("tik", "tick", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), letters, "{from} {to}");
            assert_eq!(distance(to, from), letters, "{to} {from}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(suggestion("Tik", ["grace", "tick"]), Some("tick"));
        assert_eq!(suggestion("colour", ["grace", "tick"]), None);
        assert_eq!(suggestion(&"t".repeat(100_000), ["tick"]), None);
    }

    #[test]
    fn excerpts_are_one_short_line() {
        assert_eq!(excerpt("a\nb"), "a b");
        let long = excerpt(&"ä".repeat(1_000));
        assert!(long.len() <= EXCERPT_BYTES_MAX + "…".len() && long.ends_with('…'), "{long}");
    }
}
