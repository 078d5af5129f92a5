//! Which series there are: those of each figure, and those of none.
//!
//! A metric exists at its first event. What no figure shows is listed with the lines that would show it; where
//! nothing is configured at all, the likeliest of it makes a page of its own.

use super::options::{DEPLOYS, FigureRules, Goals, MARKS, Options, PageRules};
use super::state::{FigureKind, Unplaced};
use super::watched::belongs;
use super::words::label_of;
use crate::limits;
use crate::metric::{Kind, Series};
use crate::store::{Store, StoreError};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What companies live by, the likeliest first.
const BUSINESS: [&str; 16] = [
    "signup",
    "sign_up",
    "sign-up",
    "regist",
    "order",
    "sale",
    "purchase",
    "payment",
    "subscri",
    "submission",
    "checkout",
    "revenue",
    "trial",
    "login",
    "visitor",
    "view",
];
/// Candidates for the list of what is not placed, looked at for the likeliest.
const CANDIDATES_MAX: usize = 2_000;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Series of each figure, in the figures' order.
    pub(super) members: Vec<Vec<Series>>,
    /// Counters that are deploys and marks.
    pub(super) marks: Vec<Series>,
    /// Names that no figure shows, the likeliest first.
    pub(super) strangers: Vec<(Kind, String)>,
}

/// The letters of a pattern before its first star: cheaper to compare than the pattern.
fn prefix(pattern: &str) -> &str {
    pattern.split(['*', '?']).next().unwrap_or_default()
}

/// Looks through all series once.
pub(super) fn scan(
    store: &dyn Store,
    options: &Options,
    figures: &[FigureRules],
) -> Result<Found, StoreError> {
    let prefixes: Vec<&str> = figures.iter().map(|rules| prefix(&rules.metric)).collect();
    let own = format!("{}.", options.own_prefix);
    let strangers: RefCell<BTreeSet<(Kind, String)>> = RefCell::default();
    // Only what somebody wants is taken out of the store; it may hold a million others.
    let wanted = |series: &Series| {
        let key = series.key();
        if key.starts_with(DEPLOYS) || key.starts_with(MARKS) {
            return series.kind() == Kind::Counter;
        }
        let of = |(rules, prefix): (&FigureRules, &&str)| key.starts_with(*prefix) && belongs(rules, series);
        if figures.iter().zip(&prefixes).any(of) {
            return true;
        }
        let mut strangers = strangers.borrow_mut();
        if strangers.len() < CANDIDATES_MAX && !key.starts_with(&own) {
            strangers.insert((series.kind(), series.split().0.to_owned()));
        }
        false
    };
    let series = store.series(&wanted)?;
    let mut found = Found { members: vec![Vec::new(); figures.len()], ..Found::default() };
    for series in series {
        if series.key().starts_with(DEPLOYS) || series.key().starts_with(MARKS) {
            found.marks.push(series.clone());
        }
        for (members, rules) in found.members.iter_mut().zip(figures) {
            if belongs(rules, &series) && members.len() <= limits::FIGURE_SERIES_MAX {
                members.push(series.clone());
            }
        }
    }
    found.strangers = strangers.into_inner().into_iter().collect();
    found.strangers.sort_by_cached_key(|(kind, name)| (rank(*kind, name), name.clone()));
    Ok(found)
}

/// What is likelier to be watched has a lower rank.
fn rank(kind: Kind, name: &str) -> usize {
    let lower = name.to_ascii_lowercase();
    let word = BUSINESS.iter().position(|word| lower.contains(word)).unwrap_or(BUSINESS.len());
    let kind = match kind {
        Kind::Counter => 0,
        Kind::Set => 1,
        Kind::Gauge => 2,
        Kind::Timer => 3,
    };
    // A word of business says more than the kind; among the others the kind decides.
    if word < BUSINESS.len() { word * 4 + kind } else { 1_000 + kind }
}

/// The figure of a kind of series.
fn figure_kind(kind: Kind) -> FigureKind {
    match kind {
        Kind::Counter => FigureKind::Count,
        Kind::Set => FigureKind::Unique,
        Kind::Gauge => FigureKind::Gauge,
        Kind::Timer => FigureKind::Timer,
    }
}

fn id_of(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    name.chars().map(plain).take(limits::FIGURE_TEXT_BYTES_MAX).collect()
}

/// What to paste to see a series on a page.
pub(super) fn unplaced((kind, name): &(Kind, String)) -> Unplaced {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let word = match figure_kind(*kind) {
        FigureKind::Unique => "unique",
        FigureKind::Gauge => "gauge",
        FigureKind::Timer => "timer",
        _ => "count",
    };
    let toml = format!(
        "[[figure]]\nid = {}\nmetric = {}\nlabel = {}\nkind = \"{word}\"\n",
        quoted(&id_of(name)),
        quoted(name),
        quoted(&label_of(name))
    );
    Unplaced { name: name.clone(), kind: kind.word(), toml }
}

/// Figures and a page of what comes in, the likeliest first. What was guessed before stays where it is.
pub(super) fn guess(known: &mut Vec<FigureRules>, strangers: &mut Vec<(Kind, String)>) {
    let room = limits::PAGE_FIGURES_MAX.saturating_sub(known.len());
    let take = room.min(strangers.len());
    for (kind, name) in strangers.drain(..take) {
        let id = format!("{}-{}", kind.word(), id_of(&name));
        let rules = FigureRules {
            id,
            label: label_of(&name),
            kind: figure_kind(kind),
            currency: None,
            decimals: 2,
            of: None,
            stat: None,
            by: None,
            goal: Goals::default(),
            alarm: false,
            group: None,
            metric: name,
        };
        known.push(rules);
    }
    let rank_of = |rules: &FigureRules| {
        let kind = super::watched::kind_of(rules.kind).unwrap_or(Kind::Counter);
        rank(kind, &rules.metric)
    };
    known.sort_by_cached_key(|rules| (rank_of(rules), rules.metric.clone()));
}

/// One page of all figures.
pub(super) fn one_page(figures: &[FigureRules]) -> PageRules {
    let mut ids = figures.iter().map(|rules| rules.id.clone()).take(limits::PAGE_FIGURES_MAX);
    PageRules {
        path: "/".to_owned(),
        title: "Live".to_owned(),
        hero: ids.next().unwrap_or_default(),
        show: ids.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_comes_first_and_stays_on_the_page() {
        let mut names: Vec<(Kind, String)> = [
            (Kind::Timer, "checkout.time"),
            (Kind::Counter, "aaa"),
            (Kind::Counter, "shop.signups"),
            (Kind::Set, "visitors"),
        ]
        .map(|(kind, name)| (kind, name.to_owned()))
        .into();
        names.sort_by_cached_key(|(kind, name)| (rank(*kind, name), name.clone()));
        let mut known = Vec::new();
        guess(&mut known, &mut names);
        let ids: Vec<&str> = known.iter().map(|rules| rules.metric.as_str()).collect();
        assert_eq!(ids, ["shop.signups", "checkout.time", "visitors", "aaa"]);
        let mut more: Vec<_> = (0..20).map(|n| (Kind::Counter, format!("orders.{n}"))).collect();
        guess(&mut known, &mut more);
        assert_eq!((known.len(), more.len()), (limits::PAGE_FIGURES_MAX, 15));
        assert!(known.iter().any(|rules| rules.metric == "aaa"));
    }

    #[test]
    fn what_is_pasted_is_toml_whatever_the_name() {
        for name in ["signups", "a\"b\\c", "caf\u{e9}.<script>"] {
            let pasted: toml::Table = toml::from_str(&unplaced(&(Kind::Set, name.to_owned())).toml).unwrap();
            let figure = pasted["figure"].as_array().unwrap()[0].as_table().unwrap();
            assert_eq!((figure["metric"].as_str(), figure["kind"].as_str()), (Some(name), Some("unique")));
        }
    }
}
