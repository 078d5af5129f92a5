//! `[[link]]`: who may look at a page without being let in.
//!
//! In come the tables as they were written, with the figures and pages they speak of; out come rules, or every
//! mistake. A token stands here as its hash alone: whoever reads the file cannot use the link.

use super::figures::{Entry, tables};
use super::problem::{Mistake, Reason, suggestion};
use super::raw::Raw;
use super::reader::Reader;
use crate::calendar::Calendar;
use crate::clock::WallMs;
use crate::figures::{FigureRules, PageRules};
use crate::limits;
use crate::serve::links::LinkRules;
use crate::serve::tokens::{Token, is_hashed};
use chrono::{DateTime, NaiveDate};
use std::collections::BTreeSet;

const KEYS: [&str; 5] = ["page", "name", "token", "expires", "hide"];
const CURE: &str = "`tallyd link` makes one and prints what to write here";

/// Reads all of them.
pub(super) fn links(
    reader: &mut Reader<'_>,
    figures: &[FigureRules],
    pages: &[PageRules],
    calendar: &Calendar,
) -> Vec<LinkRules> {
    let mut links: Vec<LinkRules> = Vec::new();
    for (at, table) in tables(reader, "link", limits::LINKS_MAX).into_iter().enumerate() {
        let mut entry = Entry::new("link", at, "name", table);
        entry.unknown(&KEYS);
        for key in ["name", "token", "expires"] {
            if !entry.has(key) {
                entry.mistake(key, Reason::new("it is missing", CURE));
            }
        }
        let name = entry.text("name");
        let page = entry.get("page", |raw| page(raw, pages));
        let token = entry.get_secret("token", token);
        let expires = entry.get("expires", |raw| expires(raw, calendar));
        let hide = entry.get("hide", |raw| hide(raw, figures)).unwrap_or_default();
        for (key, twice) in [
            ("name", links.iter().any(|other| Some(&other.name) == name.as_ref())),
            ("token", links.iter().any(|other| Some(other.token) == token)),
        ] {
            if twice {
                entry.mistake_unshown(key, Reason::new("two links have this one", CURE));
            }
        }
        if let (Some(name), Some(token), Some(expires)) = (name, token, expires) {
            let first = || pages.first().map_or("/", |page| &page.path).to_owned();
            let page = page.unwrap_or_else(first);
            let link = LinkRules { name, page, token, expires, hide, hidden: BTreeSet::new() };
            links.push(link.over(figures));
        }
        entry.mistakes.into_iter().for_each(|mistake| reader.refuse(mistake));
    }
    links
}

/// Looks whether all figures that may be embedded are there.
pub(super) fn check_numbers(reader: &mut Reader<'_>, numbers: &[String], figures: &[FigureRules]) {
    for id in numbers {
        if let Some(reason) = unknown(id, figures) {
            reader.refuse(Mistake::new("http.numbers", id, reason));
        }
    }
}

fn unknown(id: &str, figures: &[FigureRules]) -> Option<Reason> {
    let ids = || figures.iter().map(|figure| figure.id.as_str());
    if ids().any(|known| known == id) {
        return None;
    }
    let cure = suggestion(id, ids())
        .map_or_else(|| "write ids of figures".to_owned(), |near| format!("did you mean \"{near}\"?"));
    Some(Reason::new(format!("there is no figure \"{id}\""), cure))
}

fn page(raw: Raw<'_>, pages: &[PageRules]) -> Result<String, Reason> {
    let path = raw.text()?;
    let known = || pages.iter().map(|page| page.path.as_str());
    if known().any(|known| known == path) || (pages.is_empty() && path == "/") {
        return Ok(path.to_owned());
    }
    if let Some(first) = pages.first().filter(|_| path == "/") {
        return Ok(first.path.clone());
    }
    let cure = suggestion(path, known()).map_or_else(
        || "write the path of a [[page]]".to_owned(),
        |near| format!("did you mean \"{near}\"?"),
    );
    Err(Reason::new("there is no such page", cure))
}

fn token(raw: Raw<'_>) -> Result<Token, Reason> {
    let text = raw.text()?;
    if !is_hashed(text) {
        return Err(Reason::new("this is no hash, and a link's token is not written out", CURE));
    }
    Token::read(text).map_err(|error| Reason::new(error.to_string(), CURE))
}

/// The beginning of a company's day, a moment, or never.
fn expires(raw: Raw<'_>, calendar: &Calendar) -> Result<Option<WallMs>, Reason> {
    let text = raw.text()?;
    if text == "never" {
        return Ok(None);
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(Some(calendar.day(date).start));
    }
    let cure = "write a date such as \"2027-01-31\", a moment such as \"2027-01-31T12:00:00Z\", or \"never\"";
    let moment = DateTime::parse_from_rfc3339(text).map_err(|_| Reason::new("this is no time", cure))?;
    Ok(Some(moment.timestamp_millis()))
}

fn hide(raw: Raw<'_>, figures: &[FigureRules]) -> Result<Vec<String>, Reason> {
    let ids = raw.list()?.into_iter().map(Raw::text).collect::<Result<Vec<_>, _>>()?;
    if let Some(reason) = ids.iter().find_map(|id| unknown(id, figures)) {
        return Err(reason);
    }
    Ok(ids.into_iter().map(str::to_owned).collect())
}
