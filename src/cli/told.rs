//! What `tallyd check` says of share links and notices: whom tallyd shows and tells what, and when.

use crate::calendar::Calendar;
use crate::clock::WallMs;
use crate::figures;
use crate::notify::{Options, Rule, Style, YOUNG_MS};
use crate::serve::links::LinkRules;

/// A line for each share link.
pub(super) fn links(links: &[LinkRules], calendar: &Calendar, now: WallMs) -> Vec<String> {
    let line = |link: &LinkRules| {
        let hidden = match link.hidden.iter().map(String::as_str).collect::<Vec<_>>() {
            hidden if hidden.is_empty() => "all of it".to_owned(),
            hidden => format!("without {}", hidden.join(", ")),
        };
        let until = match link.expires {
            None => "until it is taken out here".to_owned(),
            Some(at) if at <= now => "no more: it has expired".to_owned(),
            Some(at) => format!("until {}", calendar.local(at).format("%a %-d %b %Y %H:%M")),
        };
        format!("Shows:    {} to who holds the link \"{}\", {hidden}, {until}", link.page, link.name)
    };
    links.iter().map(line).collect()
}

/// Lines for each receiver, and what holds for all of them.
pub(super) fn describe(options: &Options, figures: &figures::Options, now: WallMs) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in &options.rules {
        let style = match rule.style {
            Style::Slack => "as Slack has it",
            Style::Json => "as JSON",
            Style::Graphite => "as events of Graphite's",
        };
        let place = match rule.webhook.resolve() {
            Ok(target) => format!("{} ({target})", rule.webhook),
            Err(problem) => format!("{}, which leads nowhere now ({problem})", rule.webhook),
        };
        lines.push(format!("Tells:    {place} {style}:"));
        lines.extend(
            subjects(rule, options, figures, now).into_iter().map(|line| format!("          {line}")),
        );
    }
    if !lines.is_empty() {
        lines.push(format!(
            "          nothing while numbers may be too low, or in the first {} min after a start; `tallyd notify` \
             sends a sample",
            YOUNG_MS / 60_000
        ));
    }
    lines
}

fn subjects(rule: &Rule, options: &Options, figures: &figures::Options, now: WallMs) -> Vec<String> {
    let named = |wanted: &dyn Fn(&figures::FigureRules) -> bool| {
        let labels = figures.figures.iter().filter(|figure| wanted(figure)).map(|figure| &*figure.label);
        labels.collect::<Vec<_>>().join(", ")
    };
    let mut subjects = Vec::new();
    if rule.marks {
        subjects.push("marks: deploys.* counters, and what is sent to /api/v1/marks".to_owned());
    }
    if rule.alarms {
        subjects.push(match named(&|figure| figure.alarm).as_str() {
            "" => "no alarms, since no figure has alarm = \"stalled\"".to_owned(),
            labels => format!("when one of these stands still, and when it moves again: {labels}"),
        });
    }
    if rule.goals {
        let has_goal = |figure: &figures::FigureRules| {
            [figure.goal.day, figure.goal.week, figure.goal.month].iter().any(Option::is_some)
        };
        let labels = named(&has_goal);
        let goals = if labels.is_empty() {
            String::new()
        } else {
            format!("when a goal is reached ({labels}), and ")
        };
        subjects.push(format!("{goals}on a record day, from a fortnight of days on"));
    }
    if let Some(digest) = rule.digest {
        let next = digest.next(&options.calendar, now).map_or_else(String::new, |next| {
            format!(", next on {}", options.calendar.local(next).format("%a %-d %b at %H:%M"))
        });
        subjects.push(format!(
            "a digest of the days since the last one, {digest} in {}{next}",
            options.calendar.zone()
        ));
    }
    if subjects.is_empty() {
        subjects.push("nothing: alarms, goals and digest are all off".to_owned());
    }
    subjects
}
