//! `[[notify]]`: whom to tell what happens, and in which form.
//!
//! In come the tables as they were written; out come rules, or every mistake. An address is a secret: it is never
//! part of a message, and it is best left out of the file, in a variable or a file of its own.

use super::figures::{Entry, tables};
use super::problem::Reason;
use super::raw::{Raw, boolean, choice};
use super::reader::Reader;
use crate::fetch::Target;
use crate::limits;
use crate::notify::{Digest, Rule, Style, Webhook};
use std::path::PathBuf;

const KEYS: [&str; 5] = ["webhook", "style", "digest", "alarms", "goals"];
const STYLES: [(&str, Style); 2] = [("slack", Style::Slack), ("json", Style::Json)];
const CURE: &str = "write \"env:SLACK_WEBHOOK\", \"file:/etc/tallyd/webhook\" or \"https://…\"";

/// Reads all of them.
pub(super) fn notify(reader: &mut Reader<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (at, table) in tables(reader, "notify", limits::NOTIFY_MAX).into_iter().enumerate() {
        let mut entry = Entry::new("notify", at, "", table);
        entry.unknown(&KEYS);
        if !entry.has("webhook") {
            entry.mistake("webhook", Reason::new("it is missing", CURE));
        }
        let webhook = entry.get_secret("webhook", webhook);
        let rule = webhook.map(|webhook| Rule {
            webhook,
            style: entry.get("style", choice(&STYLES)).unwrap_or(Style::Slack),
            digest: entry.get("digest", digest),
            alarms: entry.get("alarms", boolean).unwrap_or(true),
            goals: entry.get("goals", boolean).unwrap_or(true),
            marks: false,
        });
        if rule.as_ref().is_some_and(|rule| rules.iter().any(|other| other.webhook == rule.webhook)) {
            let problem = "two tables have this webhook";
            entry.mistake_unshown("webhook", Reason::new(problem, "write one table for each webhook"));
        }
        rules.extend(rule);
        entry.mistakes.into_iter().for_each(|mistake| reader.refuse(mistake));
    }
    rules
}

/// Where marks go as Graphite's events (`graphite.events`); nothing is nowhere.
pub(super) fn events(raw: Raw<'_>) -> Result<Option<Rule>, Reason> {
    if raw.text()?.trim().is_empty() {
        return Ok(None);
    }
    let webhook = webhook(raw).map_err(|reason| {
        Reason::new(
            reason.problem,
            "write the address of graphite-web's events: \"http://graphite.example.org/events/\"",
        )
    })?;
    Ok(Some(Rule { webhook, style: Style::Graphite, digest: None, alarms: false, goals: false, marks: true }))
}

fn webhook(raw: Raw<'_>) -> Result<Webhook, Reason> {
    let text = raw.text()?.trim();
    if let Some(name) = text.strip_prefix("env:") {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Reason::new("this is no name of a variable", CURE));
        }
        return Ok(Webhook::Env(name.to_owned()));
    }
    if let Some(path) = text.strip_prefix("file:") {
        if path.is_empty() {
            return Err(Reason::new("the path is missing", CURE));
        }
        return Ok(Webhook::File(PathBuf::from(path)));
    }
    Target::parse(text).map(Webhook::Written).map_err(|problem| Reason::new(problem, CURE))
}

fn digest(raw: Raw<'_>) -> Result<Digest, Reason> {
    Digest::parse(raw.text()?).ok_or_else(|| {
        let problem = "this is no time with days of the week";
        Reason::new(problem, "write \"08:30\", \"08:30 mon-fri\" or \"18:00 sun\"")
    })
}
