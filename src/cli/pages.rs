//! What `tallyd check` says of the pages: which figures they show, in plain words.

use crate::calendar::Calendar;
use crate::figures::state::FigureKind;
use crate::figures::{FigureRules, Options, PageRules};

/// A line for each page, and below it one for each of its figures.
pub(super) fn describe(options: &Options, calendar: &Calendar) -> Vec<String> {
    if options.figures.is_empty() {
        return vec![
            "Page:     / guesses from what comes in, since there is no [[figure]]; it says what to write"
                .to_owned(),
        ];
    }
    let all = PageRules {
        path: "/".to_owned(),
        title: "Live".to_owned(),
        hero: options.figures.first().map(|figure| figure.id.clone()).unwrap_or_default(),
        show: options.figures.iter().skip(1).map(|figure| figure.id.clone()).collect(),
    };
    let pages = if options.pages.is_empty() { std::slice::from_ref(&all) } else { &options.pages };
    let begins = calendar.begins_locally(chrono::NaiveDate::default()).format("%H:%M");
    let mut lines = Vec::new();
    for page in pages {
        lines.push(format!(
            "Page:     {} \"{}\", in days of {} from {begins}",
            page.path,
            page.title,
            calendar.zone()
        ));
        for id in std::iter::once(&page.hero).chain(&page.show) {
            let figure = options.figures.iter().find(|figure| figure.id == *id);
            lines.extend(figure.map(|figure| format!("          {}", one(figure, &options.currency))));
        }
    }
    let holidays = options.holidays.len();
    if holidays > 0 {
        lines.push(format!("          nothing is compared with {holidays} holidays"));
    }
    lines
}

fn one(figure: &FigureRules, currency: &str) -> String {
    let metric = &figure.metric;
    let what = match figure.kind {
        FigureKind::Count => format!("today's count of {metric}"),
        FigureKind::Money => money(figure, currency),
        FigureKind::Unique => format!("distinct members of {metric}, of today, 7 and 30 days"),
        FigureKind::Ratio => {
            let (part, whole) = figure.of.clone().unwrap_or_default();
            format!("\"{part}\" as a share of \"{whole}\"")
        }
        FigureKind::Gauge => format!("what {metric} stands at"),
        FigureKind::Timer => {
            let stat = figure.stat.map_or_else(|| "median".to_owned(), |stat| stat.to_string());
            format!("the {stat} of today's {metric}")
        }
    };
    let by = figure.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
    let goals = [("day", figure.goal.day), ("week", figure.goal.week), ("month", figure.goal.month)];
    let goals: Vec<String> =
        goals.iter().filter_map(|(period, goal)| goal.map(|goal| format!("{goal} a {period}"))).collect();
    let goals = if goals.is_empty() { String::new() } else { format!("; goal {}", goals.join(", ")) };
    let alarm = if figure.alarm { "; silence that is no chance is an alarm" } else { "" };
    format!("{}: {what}{by}{goals}{alarm}", figure.label)
}

fn money(figure: &FigureRules, currency: &str) -> String {
    let metric = &figure.metric;
    let in_what = match &figure.currency {
        Some(code) => format!("in {code}"),
        None => format!("in the currency that its name or tag says, else {currency}; never added together"),
    };
    let unit = 4_900.0 / 10_f64.powi(figure.decimals as i32);
    format!("today's {metric} {in_what}; a sample of 4900 is {unit:.2}")
}
