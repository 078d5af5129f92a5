//! The digest: every figure of the days since the last one, each against the same weekday before.

use super::message::Item;
use crate::figures::PageState;
use crate::figures::state::{Figure, FigureState, Period, Value};
use chrono::NaiveDate;
use std::sync::Arc;

/// Days that one digest covers at most: after a longer silence the figures are on the page.
pub(super) const DAYS_MAX: u64 = 7;

/// The figures of a day, as the pages stood at its end.
pub(super) fn items(date: NaiveDate, pages: &[Arc<PageState>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for figure in pages.iter().flat_map(|page| &page.figures) {
        let known = figure.state != FigureState::Never && !figure.values.is_empty();
        if known && !items.iter().any(|item| item.figure == figure.id) {
            items.push(item(date, figure));
        }
    }
    items
}

fn item(date: NaiveDate, figure: &Figure) -> Item {
    let compared = figure.compare.first().map(|compare| {
        let percent = compare.percent.as_ref().map_or_else(String::new, |percent| format!(" ({percent})"));
        let day = compare.day.parse().map_or_else(|_| compare.day.clone(), short);
        format!("{}{percent} against {} on {day}", compare.delta, compare.base)
    });
    // A goal of the day is over with it; of the week and the month it is worth saying how far they are.
    let goals = figure.goals.iter().map(|goal| {
        let period = match goal.period {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        };
        format!("goal of the {period} {}: {} ({:.0} %)", goal.target, goal.text, goal.done * 100.0)
    });
    Item {
        day: date.to_string(),
        figure: figure.id.clone(),
        label: figure.label.clone(),
        text: values(&figure.values, figure.state),
        compared,
        remarks: goals.chain(figure.record.clone()).collect(),
    }
}

/// `€3,412.00 · $260.00`; `≈` before what may be too low.
pub(super) fn values(values: &[Value], state: FigureState) -> String {
    let about = if state == FigureState::Partial { "≈ " } else { "" };
    let one = |value: &Value| match (value.unit.as_str(), value.unit_first) {
        ("", _) => format!("{about}{}", value.text),
        (unit, true) => format!("{about}{unit}{}", value.text),
        (unit, false) => format!("{about}{} {unit}", value.text),
    };
    values.iter().map(one).collect::<Vec<_>>().join(" · ")
}

/// `Mon 16 Nov`
pub(super) fn short(date: NaiveDate) -> String {
    date.format("%a %-d %b").to_string()
}

/// All of it in words.
pub(super) fn text(days: &[(NaiveDate, Vec<Item>)], zone: &str) -> String {
    let mut lines = Vec::new();
    for (date, items) in days {
        lines.push(format!("{} ({zone})", date.format("%A %-d %B %Y")));
        if items.is_empty() {
            lines.push("• nothing was counted".to_owned());
        }
        for item in items {
            let parts: Vec<&str> = item.compared.iter().chain(&item.remarks).map(String::as_str).collect();
            let compared = if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) };
            lines.push(format!("• {} {}{compared}", item.label, item.text));
        }
    }
    lines.join("\n")
}
