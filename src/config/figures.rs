//! `[[figure]]` and `[[page]]`: what the business watches, and where it is shown.
//!
//! In come the tables as they were written; out come the rules of figures and pages, or every mistake, each under
//! the name of its figure. Relations between tables are checked here too: ids, paths and how much a page holds.

use super::problem::{Mistake, Reason, suggestion};
use super::raw::{Raw, choice, count};
use super::reader::Reader;
use crate::figures::state::FigureKind;
use crate::figures::{FigureRules, Goals, PageRules, label_of};
use crate::limits;
use crate::metric::Kind;
use crate::query::Stat;
use toml::{Table, Value};

const KINDS: [(&str, FigureKind); 6] = [
    ("count", FigureKind::Count),
    ("money", FigureKind::Money),
    ("unique", FigureKind::Unique),
    ("ratio", FigureKind::Ratio),
    ("gauge", FigureKind::Gauge),
    ("timer", FigureKind::Timer),
];
const FIGURE_KEYS: [&str; 12] =
    ["id", "metric", "label", "kind", "currency", "decimals", "of", "stat", "by", "goal", "alarm", "group"];
const PAGE_KEYS: [&str; 4] = ["path", "title", "hero", "show"];
/// Most digits of a minor unit.
const DECIMALS_MAX: usize = 6;

/// One table of an array, which notes what is wrong in it.
pub(super) struct Entry<'a> {
    pub(super) table: &'a Table,
    /// How the table is called in messages: `figure.signups`, or `figure[2]` while it has no name.
    name: String,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(array: &str, at: usize, key: &str, table: &'a Table) -> Self {
        let named = table.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = named.map_or_else(|| format!("{array}[{}]", at + 1), |name| format!("{array}.{name}"));
        Self { table, name, mistakes: Vec::new() }
    }

    pub(super) fn mistake(&mut self, key: &str, reason: Reason) {
        let shown = self.table.get(key).map_or_else(String::new, |value| Raw::File(value).shown());
        self.mistakes.push(Mistake::new(format!("{}.{key}", self.name), &shown, reason));
    }

    /// The value of a key, if it is written and right.
    pub(super) fn get<T>(&mut self, key: &str, parse: impl Fn(Raw<'_>) -> Result<T, Reason>) -> Option<T> {
        match parse(Raw::File(self.table.get(key)?)) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake(key, reason);
                None
            }
        }
    }

    /// The same of a value that no message shows.
    pub(super) fn get_secret<T>(
        &mut self,
        key: &str,
        parse: impl Fn(Raw<'_>) -> Result<T, Reason>,
    ) -> Option<T> {
        match parse(Raw::File(self.table.get(key)?)) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake_unshown(key, reason);
                None
            }
        }
    }

    pub(super) fn mistake_unshown(&mut self, key: &str, reason: Reason) {
        self.mistakes.push(Mistake::new(format!("{}.{key}", self.name), "(not shown)", reason));
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.get(key, words)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Keys that nobody knows.
    pub(super) fn unknown(&mut self, known: &[&str]) {
        let strangers: Vec<&String> =
            self.table.keys().filter(|key| !known.contains(&key.as_str())).collect();
        for key in strangers {
            let near = suggestion(key, known.iter().copied());
            let cure = near.map_or_else(
                || format!("it has {}", known.join(", ")),
                |near| format!("did you mean \"{near}\"?"),
            );
            self.mistake(key, Reason::new("there is no such key", cure));
        }
    }

    /// A key that does nothing for this kind.
    fn only_for(&mut self, key: &str, fits: bool, kinds: &str) {
        if self.has(key) && !fits {
            self.mistake(
                key,
                Reason::new("this kind of figure has none", format!("remove it, or write kind = {kinds}")),
            );
        }
    }
}

/// Text that is shown to people.
pub(super) fn words(raw: Raw<'_>) -> Result<String, Reason> {
    let text = raw.text()?.trim();
    if text.is_empty() || text.len() > limits::FIGURE_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = "this is empty, too long or has control characters in it";
        return Err(Reason::new(problem, format!("write 1 to {} bytes", limits::FIGURE_TEXT_BYTES_MAX)));
    }
    Ok(text.to_owned())
}

/// The tables of an array.
pub(super) fn tables<'a>(reader: &mut Reader<'a>, array: &'static str, max: usize) -> Vec<&'a Table> {
    let Some(value) = reader.array(array) else {
        return Vec::new();
    };
    let found: Option<Vec<&Table>> =
        value.as_array().and_then(|tables| tables.iter().map(Value::as_table).collect());
    let reason = match found {
        None => Reason::new("this is not a list of tables", format!("write [[{array}]], with two brackets")),
        Some(found) if found.len() > max => {
            Reason::new(format!("these are {} tables", found.len()), format!("write at most {max}"))
        }
        Some(found) => return found,
    };
    reader.refuse(Mistake::new(array, "", reason));
    Vec::new()
}

/// Reads all figures and pages.
pub(super) fn figures(reader: &mut Reader<'_>) -> (Vec<FigureRules>, Vec<PageRules>) {
    let mut figures: Vec<FigureRules> = Vec::new();
    let mut ratios = Vec::new();
    for (at, table) in tables(reader, "figure", limits::FIGURES_MAX).into_iter().enumerate() {
        let mut entry = Entry::new("figure", at, "id", table);
        let figure = figure(&mut entry);
        if figures.iter().any(|other| other.id == figure.id) {
            entry.mistake("id", Reason::new("two figures have this id", "give each an id of its own"));
        }
        if figure.kind == FigureKind::Ratio {
            ratios.push((entry.name.clone(), figure.clone()));
        }
        entry.mistakes.into_iter().for_each(|mistake| reader.refuse(mistake));
        figures.push(figure);
    }
    for (name, ratio) in ratios {
        if let Some(reason) = ratio.of.as_ref().and_then(|of| bad_ratio(of, &figures)) {
            reader.refuse(Mistake::new(format!("{name}.of"), "", reason));
        }
    }
    let pages = pages(reader, &figures);
    if pages.is_empty() && figures.len() > limits::PAGE_FIGURES_MAX {
        let problem = format!(
            "{} figures are more than one page holds, which is {}",
            figures.len(),
            limits::PAGE_FIGURES_MAX
        );
        reader.refuse(Mistake::new(
            "figure",
            "",
            Reason::new(problem, "write [[page]] for each page, with hero and show"),
        ));
    }
    (figures, pages)
}

fn figure(entry: &mut Entry<'_>) -> FigureRules {
    entry.unknown(&FIGURE_KEYS);
    let kind = entry.get("kind", choice(&KINDS)).unwrap_or(FigureKind::Count);
    let metric = entry.get("metric", metric).unwrap_or_default();
    let ratio = kind == FigureKind::Ratio;
    entry.only_for("metric", !ratio, "\"count\"");
    entry.only_for("of", ratio, "\"ratio\"");
    if !ratio && !entry.has("metric") {
        entry.mistake("metric", Reason::new("it is missing", "write the metric's name, such as \"signups\""));
    }
    if ratio && !entry.has("of") {
        entry.mistake(
            "of",
            Reason::new("it is missing", "write the ids of two figures, such as [\"orders\", \"signups\"]"),
        );
    }
    let id = entry.get("id", id).unwrap_or_else(|| id_of(&metric));
    let named_badly = entry.has("metric") && metric.is_empty();
    if id.is_empty() && !entry.has("id") && !named_badly {
        entry.mistake("id", Reason::new("it is missing", "write a short name, such as \"signups\""));
    }
    let money = kind == FigureKind::Money;
    entry.only_for("currency", money, "\"money\"");
    entry.only_for("decimals", money, "\"money\"");
    let measured = matches!(kind, FigureKind::Timer | FigureKind::Gauge);
    entry.only_for("stat", measured, "\"timer\" or \"gauge\"");
    let counted = matches!(kind, FigureKind::Count | FigureKind::Money);
    entry.only_for("by", counted, "\"count\" or \"money\"");
    entry.only_for("goal", counted || kind == FigureKind::Unique, "\"count\", \"money\" or \"unique\"");
    entry.only_for(
        "alarm",
        !ratio && kind != FigureKind::Gauge,
        "\"count\", \"money\", \"unique\" or \"timer\"",
    );
    let goal = goals(entry, kind);
    FigureRules {
        label: entry.text("label").unwrap_or_else(|| label_of(&id)),
        kind,
        currency: entry.get("currency", |raw| currency(raw.text()?)),
        decimals: entry.get("decimals", count(0..=DECIMALS_MAX)).unwrap_or(2) as u32,
        of: entry.get("of", pair),
        stat: entry.get("stat", |raw| stat(raw, kind)),
        by: entry.text("by"),
        goal,
        alarm: entry.get("alarm", choice(&[("stalled", true), ("off", false)])).unwrap_or(false),
        group: entry.text("group"),
        id,
        metric,
    }
}

fn metric(raw: Raw<'_>) -> Result<String, Reason> {
    let text = raw.text()?;
    let problem = match text {
        "" => "the name is empty",
        text if text.len() > limits::NAME_BYTES_MAX => "the name is too long",
        text if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ';') => {
            "no metric is called so: names have no blanks and no tags"
        }
        text if text.chars().all(|c| matches!(c, '*' | '?' | '.')) => "this is everything that comes in",
        _ => return Ok(text.to_owned()),
    };
    Err(Reason::new(problem, "write a metric's name such as \"signups\", or a pattern such as \"revenue.*\""))
}

/// The id of a figure that is given none: its metric's name, of a pattern what stands before its first wildcard
/// (`revenue.*` is `revenue`), or nothing where that is no id.
fn id_of(metric: &str) -> String {
    let fixed = metric.split(['*', '?', '[', '{']).next().unwrap_or_default().trim_end_matches('.');
    if is_id(fixed) { fixed.to_owned() } else { String::new() }
}

fn is_id(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn id(raw: Raw<'_>) -> Result<String, Reason> {
    words(raw).and_then(|id| {
        is_id(&id)
            .then_some(id)
            .ok_or_else(|| Reason::new("an id is letters, digits, - _ and .", "write \"signups\""))
    })
}

/// Three letters.
pub(super) fn currency(text: &str) -> Result<String, Reason> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Ok(text.to_ascii_uppercase());
    }
    Err(Reason::new("this is no currency", "write its three letters, such as \"EUR\""))
}

fn pair(raw: Raw<'_>) -> Result<(String, String), Reason> {
    let cure = "write the ids of two figures, such as [\"orders\", \"signups\"]";
    let ids = raw.list()?.into_iter().map(Raw::text).collect::<Result<Vec<_>, _>>()?;
    match ids.as_slice() {
        [part, whole] => Ok(((*part).to_owned(), (*whole).to_owned())),
        _ => Err(Reason::new(format!("a ratio is of two figures, and these are {}", ids.len()), cure)),
    }
}

fn bad_ratio((part, whole): &(String, String), figures: &[FigureRules]) -> Option<Reason> {
    for id in [part, whole] {
        let Some(figure) = figures.iter().find(|figure| figure.id == *id) else {
            let near = suggestion(id, figures.iter().map(|figure| figure.id.as_str()));
            let cure = near.map_or_else(
                || format!("write a [[figure]] with id = \"{id}\""),
                |near| format!("did you mean \"{near}\"?"),
            );
            return Some(Reason::new(format!("there is no figure \"{id}\""), cure));
        };
        if !matches!(figure.kind, FigureKind::Count | FigureKind::Unique) {
            return Some(Reason::new(
                format!("\"{id}\" is neither a count nor unique"),
                "write figures with kind = \"count\" or \"unique\"",
            ));
        }
    }
    None
}

fn stat(raw: Raw<'_>, kind: FigureKind) -> Result<Stat, Reason> {
    let of = if kind == FigureKind::Gauge { Kind::Gauge } else { Kind::Timer };
    let found = Stat::parse(raw.text()?).filter(|stat| stat.fits(of));
    found.ok_or_else(|| Reason::new("there is no such statistic", Stat::choice(of)))
}

fn goals(entry: &mut Entry<'_>, kind: FigureKind) -> Goals {
    let mut goals = Goals::default();
    let Some(value) = entry.table.get("goal") else {
        return goals;
    };
    let cure = "write what is to be reached, such as { day = 300, month = 9000 }";
    let Some(table) = value.as_table() else {
        entry.mistake("goal", Reason::new("a table is expected here", cure));
        return goals;
    };
    for (period, target) in table {
        let place = match period.as_str() {
            "day" => &mut goals.day,
            "week" | "month" if kind == FigureKind::Unique => {
                entry
                    .mistake("goal", Reason::new("uniques have goals of a day alone", "write { day = 300 }"));
                continue;
            }
            "week" => &mut goals.week,
            "month" => &mut goals.month,
            _ => {
                entry.mistake(
                    "goal",
                    Reason::new(format!("there is no period \"{period}\""), "write day, week or month"),
                );
                continue;
            }
        };
        match Raw::File(target).number() {
            Ok(target) if target > 0.0 && target.is_finite() => *place = Some(target),
            _ => entry.mistake("goal", Reason::new("a goal is a number above 0", cure)),
        }
    }
    goals
}

fn pages(reader: &mut Reader<'_>, figures: &[FigureRules]) -> Vec<PageRules> {
    let mut pages: Vec<PageRules> = Vec::new();
    for (at, table) in tables(reader, "page", limits::PAGES_MAX).into_iter().enumerate() {
        let mut entry = Entry::new("page", at, "path", table);
        let page = page(&mut entry, figures);
        if pages.iter().any(|other| other.path == page.path) {
            entry.mistake("path", Reason::new("two pages have this path", "give each a path of its own"));
        }
        entry.mistakes.into_iter().for_each(|mistake| reader.refuse(mistake));
        pages.push(page);
    }
    pages
}

fn page(entry: &mut Entry<'_>, figures: &[FigureRules]) -> PageRules {
    entry.unknown(&PAGE_KEYS);
    let path = entry.get("path", path);
    if path.is_none() && !entry.has("path") {
        entry.mistake("path", Reason::new("it is missing", "write \"/\" or \"/live/sales\""));
    }
    let path = path.unwrap_or_default();
    let title = entry.text("title").unwrap_or_else(|| match path.strip_prefix("/live/") {
        Some(name) => label_of(name),
        None => "Live".to_owned(),
    });
    let ids = |raw: Raw<'_>| -> Result<Vec<String>, Reason> {
        raw.list()?.into_iter().map(|id| Ok(id.text()?.to_owned())).collect()
    };
    let mut show = entry.get("show", ids).unwrap_or_default();
    let hero = match entry.get("hero", |raw| raw.text().map(str::to_owned)) {
        Some(hero) => hero,
        None if show.is_empty() => {
            let first = figures.first().map_or("signups", |figure| figure.id.as_str());
            let cure = format!("write hero = \"{first}\", and others in show");
            entry.mistake("hero", Reason::new("the page shows nothing", cure));
            String::new()
        }
        None => show.remove(0),
    };
    check_page(entry, figures, &hero, &show);
    PageRules { path, title, hero, show }
}

fn check_page(entry: &mut Entry<'_>, figures: &[FigureRules], hero: &str, show: &[String]) {
    let tiles = 1 + show.len();
    if tiles > limits::PAGE_FIGURES_MAX {
        let problem = format!("a page holds {} figures, and these are {tiles}", limits::PAGE_FIGURES_MAX);
        let cure = "make a second [[page]], such as path = \"/live/more\": what is looked at together is few";
        entry.mistake("show", Reason::new(problem, cure));
    }
    let hero_key = if entry.has("hero") { "hero" } else { "show" };
    let named = std::iter::once((hero_key, hero)).chain(show.iter().map(|id| ("show", id.as_str())));
    let mut seen: Vec<&str> = Vec::new();
    for (key, id) in named.filter(|(_, id)| !id.is_empty()) {
        if seen.contains(&id) {
            entry.mistake(key, Reason::new(format!("\"{id}\" is on the page twice"), "name it once"));
        }
        seen.push(id);
        if !figures.iter().any(|figure| figure.id == id) {
            let near = suggestion(id, figures.iter().map(|figure| figure.id.as_str()));
            let cure = near.map_or_else(
                || format!("write a [[figure]] with id = \"{id}\""),
                |near| format!("did you mean \"{near}\"?"),
            );
            entry.mistake(key, Reason::new(format!("there is no figure \"{id}\""), cure));
        }
    }
}

fn path(raw: Raw<'_>) -> Result<String, Reason> {
    let path = raw.text()?;
    let name = path.strip_prefix("/live/");
    let plain = |name: &str| {
        let fits = (1..=64).contains(&name.len());
        fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if path == "/" || name.is_some_and(plain) {
        return Ok(path.to_owned());
    }
    Err(Reason::new(
        "no page can be there",
        "write \"/\" or \"/live/NAME\", where NAME is letters, digits, - and _",
    ))
}
