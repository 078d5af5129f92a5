//! Where samples are counted whose series has no place: one overflow series for each kind and first component of a
//! name, so that detail is lost and no count.
//!
//! ```text
//!   shop.cart.user-4711:1|c     ─▶ shop.tallyd_overflow
//!   orders:1|c|#user:4711       ─▶ orders.tallyd_overflow
//!   session-4711:1|c            ─▶ tallyd_overflow         (the name has one component, and that is its detail)
//! ```
//!
//! A counter adds up, a timer's values and a set's members are all of them together, and a gauge says what was sent
//! last and no more: values of different gauges have no sum. Beyond so many overflow series there is one for all.

use super::heavy::{Heavy, RecentlyHeavy};
use crate::limits;
use crate::metric::hll::Hll;
use crate::metric::unique::hash_member;
use crate::metric::{Kind, Series, name};
use std::collections::HashMap;

/// What overflow series are called, behind a first component or alone.
pub const NAME: &str = "tallyd_overflow";
/// A prefix that has at least so much of the one around it stands for both, in percent.
const STANDS_FOR_PERCENT: u64 = 80;

/// The first component of a key's name, if there is more to it that tells its series apart.
#[must_use]
pub fn first_component(key: &str) -> Option<&str> {
    let (name, tags) = name::split_key(key);
    let first = match name.split_once('.') {
        Some((first, _)) => first,
        None if tags.is_empty() => return None,
        None => name,
    };
    (!first.is_empty()).then_some(first)
}

/// The series of a kind that counts for a first component.
fn series(kind: Kind, first: Option<&str>) -> Series {
    match first {
        Some(first) => Series::new(kind, &format!("{first}.{NAME}")),
        None => Series::new(kind, NAME),
    }
}

/// The overflow series there are.
#[derive(Debug)]
pub(super) struct Overflow {
    first: HashMap<(Kind, Box<str>), Series, foldhash::fast::RandomState>,
    all: [Series; Kind::ALL.len()],
}

impl Overflow {
    pub(super) fn new() -> Self {
        Self { first: HashMap::default(), all: Kind::ALL.map(|kind| series(kind, None)) }
    }

    /// The series for a first component, and whether it is that alone.
    pub(super) fn of(&mut self, kind: Kind, first: &str) -> (Series, bool) {
        let key = (kind, first.into());
        if let Some(known) = self.first.get(&key) {
            return (known.clone(), true);
        }
        if self.first.len() >= limits::OVERFLOW_SERIES_MAX {
            return (self.for_all(kind), false);
        }
        let series = series(kind, Some(first));
        self.first.insert(key, series.clone());
        (series, true)
    }

    /// The one for all others.
    pub(super) fn for_all(&self, kind: Kind) -> Series {
        self.all.get(kind as usize).cloned().unwrap_or_else(|| series(kind, None))
    }

    /// Forgets those that nobody counts into any more.
    pub(super) fn forget_unheld(&mut self) {
        self.first.retain(|_, series| series.handles() > 1);
    }
}

/// Under which prefixes series are made, and how many have found no place.
#[derive(Debug)]
pub(super) struct Prefixes {
    born: RecentlyHeavy<String>,
    shed: RecentlyHeavy<String>,
    names_shed: Hll,
}

impl Prefixes {
    pub(super) fn new() -> Self {
        let heavy = || RecentlyHeavy::new(limits::OFFENDERS_KEPT);
        Self { born: heavy(), shed: heavy(), names_shed: Hll::default() }
    }

    pub(super) fn born(&mut self, key: &str) {
        each(key, |prefix| self.born.add(prefix, 1));
    }

    pub(super) fn shed(&mut self, key: &str) {
        self.names_shed.insert(hash_member(b"", key.as_bytes()));
        each(key, |prefix| self.shed.add(prefix, 1));
    }

    pub(super) fn turn(&mut self, now: crate::clock::WallMs) {
        self.born.turn(now);
        self.shed.turn(now);
    }

    /// How many names were shed since the start, within about a hundredth.
    pub(super) fn names_shed(&self) -> u64 {
        self.names_shed.count()
    }

    /// The prefixes with most new series, and those with most samples that found no place.
    pub(super) fn top(&self) -> [Vec<Heavy<String>>; 2] {
        [&self.born, &self.shed].map(|heavy| {
            let mut top = deepest(&heavy.top(limits::OFFENDERS_KEPT));
            top.truncate(limits::OFFENDERS_SHOWN);
            top
        })
    }
}

/// Visits the prefixes of a key that are shorter than its name, and the name where tags come behind it.
fn each(key: &str, mut visit: impl FnMut(&str)) {
    let (name, tags) = name::split_key(key);
    let dots = name.match_indices('.').map(|(at, _)| at).take(limits::OFFENDERS_DEPTH);
    for at in dots {
        visit(excerpt(name.get(..at).unwrap_or(name)));
    }
    if !tags.is_empty() && name.matches('.').count() < limits::OFFENDERS_DEPTH {
        visit(excerpt(name));
    }
}

/// The beginning of a name: whoever sends long ones does not choose how much is kept of them.
fn excerpt(name: &str) -> &str {
    let most = name.len().min(limits::OFFENDER_BYTES_MAX);
    (0..=most).rev().find_map(|end| name.get(..end)).unwrap_or_default()
}

/// Leaves out a prefix where a longer one has most of what it has: that one says where to look.
fn deepest(top: &[Heavy<String>]) -> Vec<Heavy<String>> {
    let is_below =
        |longer: &str, shorter: &str| longer.strip_prefix(shorter).is_some_and(|rest| rest.starts_with('.'));
    let stands_for = |one: &Heavy<String>| {
        top.iter().any(|other| {
            is_below(&other.key, &one.key) && other.at_least * 100 >= one.count * STANDS_FOR_PERCENT
        })
    };
    top.iter().filter(|one| !stands_for(one)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_component_is_what_tells_series_apart_taken_away() {
        for (key, first) in [
            ("shop.cart.user-1", Some("shop")),
            ("shop.cart", Some("shop")),
            ("shop.cart;a=b.c", Some("shop")),
            ("orders;user=1", Some("orders")),
            ("orders;site=a.b", Some("orders")),
            ("session-1", None),
            (".x", None),
            ("", None),
            (";a=b", None),
        ] {
            assert_eq!(first_component(key), first, "{key}");
        }
    }

    #[test]
    fn overflow_series_are_bounded_and_one_stands_for_all_others() {
        let mut overflow = Overflow::new();
        for number in 0..limits::OVERFLOW_SERIES_MAX {
            let (series, own) = overflow.of(Kind::Counter, &number.to_string());
            assert_eq!((series.key(), own), (format!("{number}.{NAME}").as_str(), true));
        }
        let (series, own) = overflow.of(Kind::Timer, "more");
        assert_eq!((series.kind(), series.key(), own), (Kind::Timer, NAME, false));
        let held = overflow.of(Kind::Counter, "7");
        assert!(held.1);
        overflow.forget_unheld();
        assert!(overflow.of(Kind::Timer, "more").1, "there is room again");
        assert_eq!(overflow.of(Kind::Counter, "7").0, held.0);
        assert_eq!(overflow.first.len(), 2);
    }

    #[test]
    fn the_prefix_that_is_shown_is_the_longest_that_explains_it() {
        let mut prefixes = Prefixes::new();
        for number in 0..1_000 {
            prefixes.born(&format!("app.web.session.u{number}.hits"));
            prefixes.shed(&format!("orders;user={number}"));
        }
        for number in 0..100 {
            prefixes.born(&format!("app.jobs.n{number}"));
            prefixes.shed(&format!("plain{number}"));
        }
        let [born, shed] = prefixes.top();
        let shown = |top: &[Heavy<String>]| {
            top.iter().take(2).map(|one| (one.key.clone(), one.at_least)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&born), [("app.web.session".to_owned(), 1_000), ("app.jobs".to_owned(), 100)]);
        assert_eq!(shown(&shed), [("orders".to_owned(), 1_000)]);
        let error = (prefixes.names_shed() as f64 / 1_100.0 - 1.0).abs();
        assert!(error < 0.03, "{}", prefixes.names_shed());
        prefixes.born(&format!("{}.x", "\u{e9}".repeat(500)));
        let [born, _] = prefixes.top();
        assert!(born.iter().all(|one| one.key.len() <= limits::OFFENDER_BYTES_MAX));
    }
}
