//! Marks: deploys and whatever else is worth a thin line.
//!
//! A counter under `deploys.` is a mark wherever it counts, and so is one under `marks.`, which is where a mark that
//! somebody sends with a text is counted: the store keeps it, and Graphite draws it.

use super::days::Days;
use super::engine::MarkRefused;
use super::options::{DEPLOYS, MARKS};
use super::state::Mark;
use crate::calendar::DAY_MS;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::name::clean;
use crate::metric::{Kind, Series};
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;

/// A text and its counter are the same mark if they are no further apart than this, in milliseconds.
const SAME_MS: i64 = 60_000;

/// The marks of today.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// As they were sent, with their text.
    sent: Vec<Mark>,
    /// Counters, up to the cut.
    closed: BTreeMap<(WallMs, String), Mark>,
    closed_to: WallMs,
}

impl Marks {
    /// Takes a text; also says what counter stands for it.
    pub(super) fn send(
        &mut self,
        days: &Days,
        text: &str,
        at: WallMs,
        now: WallMs,
    ) -> Result<(Mark, Series), MarkRefused> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.len() > limits::MARK_BYTES_MAX {
            return Err(MarkRefused::TooLong);
        }
        let name = counter_of(&text).ok_or(MarkRefused::Empty)?;
        if at > now + limits::TIMESTAMP_AHEAD_MS_MAX || at < now - DAY_MS {
            return Err(MarkRefused::NotToday);
        }
        self.sent.retain(|mark| mark.at_ms > now - DAY_MS);
        if self.sent.len() >= limits::MARKS_MAX {
            return Err(MarkRefused::TooMany);
        }
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let mark = Mark { at_ms: at, clock: clock(days, at), text };
        self.sent.push(mark.clone());
        Ok((mark, Series::new(Kind::Counter, &name)))
    }

    /// All marks of today, oldest first.
    pub(super) fn look(
        &mut self,
        store: &dyn Store,
        days: &Days,
        series: &[Series],
        (cut, now): (WallMs, WallMs),
    ) -> Result<Vec<Mark>, StoreError> {
        let start = days.calendar.day_of(now).start;
        self.closed.retain(|(at, _), _| *at >= start);
        if self.closed_to < start {
            self.closed_to = start;
        }
        let mut open = Vec::new();
        let finest = store.ladder().bucket().ms();
        // The finest buckets of a whole day are not kept; minutes are.
        for level in [1, 0] {
            let from = if level == 1 { self.closed_to } else { cut.max(now - finest.max(DAY_MS / 24)) };
            let to = if level == 1 { cut } else { now + 1 };
            if from >= to || level >= store.ladder().levels().len() {
                continue;
            }
            for (series, readings) in series.iter().zip(store.glance(series, level, from, to)?) {
                for reading in readings
                    .iter()
                    .filter(|reading| reading.start >= from && super::watched::is_event(&reading.tally))
                {
                    let mark = Mark {
                        at_ms: reading.start,
                        clock: clock(days, reading.start),
                        text: text_of(series),
                    };
                    if level == 1 {
                        self.closed.insert((mark.at_ms, mark.text.clone()), mark);
                    } else {
                        open.push(mark);
                    }
                }
            }
        }
        self.closed_to = self.closed_to.max(cut);
        let sent: Vec<&Mark> =
            self.sent.iter().filter(|mark| mark.at_ms >= start && mark.at_ms <= now).collect();
        let is_sent = |mark: &Mark| {
            sent.iter().any(|sent| (sent.at_ms - mark.at_ms).abs() <= SAME_MS && same(&sent.text, &mark.text))
        };
        let counted = self.closed.values().chain(&open).filter(|mark| !is_sent(mark));
        let mut marks: Vec<Mark> = counted.chain(sent.iter().copied()).cloned().collect();
        marks.sort_by(|a, b| (a.at_ms, &a.text).cmp(&(b.at_ms, &b.text)));
        let first = marks.len().saturating_sub(limits::MARKS_MAX);
        Ok(marks.split_off(first))
    }
}

fn clock(days: &Days, at: WallMs) -> String {
    days.calendar.local(at).format("%H:%M").to_string()
}

/// The counter that a text is counted under.
fn counter_of(text: &str) -> Option<String> {
    let name = clean(text).replace([';', '='], "_");
    let name = name.trim_matches(['.', '_']);
    (!name.is_empty()).then(|| format!("{MARKS}{name}"))
}

/// What a counter is called as a mark: `deploys.web` is `deploy web`.
fn text_of(series: &Series) -> String {
    let (name, _) = series.split();
    let text = match name.strip_prefix(DEPLOYS) {
        Some(what) => format!("deploy {what}"),
        None => name.strip_prefix(MARKS).unwrap_or(name).to_owned(),
    };
    text.replace(['_', '.'], " ")
}

/// What a mark's text and the text of its counter have in common.
#[must_use]
pub fn mark_key(text: &str) -> Option<String> {
    counter_of(text).map(|name| name.replace('.', "_"))
}

fn same(sent: &str, counted: &str) -> bool {
    counter_of(sent).is_some_and(|name| text_of(&Series::new(Kind::Counter, &name)) == counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_texts_name_each_other() {
        let deploy = Series::new(Kind::Counter, "deploys.web_shop;host=a");
        assert_eq!(text_of(&deploy), "deploy web shop");
        assert_eq!(counter_of("Release 1.4 <b>now</b>").as_deref(), Some("marks.Release_1.4_bnow-b"));
        assert_eq!((counter_of("☕"), counter_of("  ")), (None, None));
        assert!(same("deploy web", "deploy web") && !same("deploy web", "deploy shop"));
        let sent = "Release 1.4 <b>now</b>";
        let counted = text_of(&Series::new(Kind::Counter, &counter_of(sent).unwrap()));
        assert_eq!(mark_key(sent), mark_key(&counted));
    }

    #[test]
    fn texts_are_bounded() {
        let days = Days::new(crate::calendar::Calendar::default(), std::collections::BTreeSet::new());
        let now = 1_795_433_521_250;
        let mut marks = Marks::default();
        assert_eq!(marks.send(&days, "", now, now).unwrap_err(), MarkRefused::Empty);
        assert_eq!(marks.send(&days, &"x".repeat(121), now, now).unwrap_err(), MarkRefused::TooLong);
        assert_eq!(marks.send(&days, "x", now - 2 * DAY_MS, now).unwrap_err(), MarkRefused::NotToday);
        for _ in 0..limits::MARKS_MAX {
            marks.send(&days, "deploy web", now, now).unwrap();
        }
        assert_eq!(marks.send(&days, "x", now, now).unwrap_err(), MarkRefused::TooMany);
        assert!(marks.send(&days, "x", now + DAY_MS, now + DAY_MS + 1).is_ok());
    }
}
