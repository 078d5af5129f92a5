//! A figure with the series it is made of: which these are, and what is read of them.
//!
//! ```text
//!   revenue.*  ─▶  revenue.eur          line EUR     never added to
//!                  revenue.usd          line USD     one another
//!   signups    ─▶  signups;plan=pro     line 0, slice pro
//!                  signups;plan=free    line 0, slice free
//! ```

use super::compare::Total;
use super::cover::{self, Kept, kept, merge, pieces};
use super::options::FigureRules;
use super::state::FigureKind;
use super::words::Unit;
use crate::calendar::Span;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Kind, Series, Tally, glob};
use crate::query::Stat;
use crate::store::{Store, StoreError};

/// A series of a figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) series: Series,
    /// Which of the figure's units it counts for.
    pub(super) line: usize,
    /// Which part of the figure it is, where parts are told apart.
    pub(super) slice: Option<String>,
}

/// A figure with its series.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) rules: FigureRules,
    pub(super) units: Vec<Unit>,
    pub(super) members: Vec<Member>,
    pub(super) kept: Vec<Kept>,
    /// Series beyond what one figure shows.
    pub(super) left_out: usize,
}

/// What was read of a member: its tally, and how many buckets had something in them.
pub(super) type Part = (Option<Tally>, f64);

/// The kind of series that a kind of figure shows; a ratio has none of its own.
pub(super) fn kind_of(kind: FigureKind) -> Option<Kind> {
    match kind {
        FigureKind::Count | FigureKind::Money => Some(Kind::Counter),
        FigureKind::Unique => Some(Kind::Set),
        FigureKind::Gauge => Some(Kind::Gauge),
        FigureKind::Timer => Some(Kind::Timer),
        FigureKind::Ratio => None,
    }
}

/// Whether a series belongs to a figure.
pub(super) fn belongs(rules: &FigureRules, series: &Series) -> bool {
    kind_of(rules.kind) == Some(series.kind()) && glob::matches(&rules.metric, series.split().0)
}

/// Whether a reading has anything in it: a client may send zeros.
pub(super) fn is_event(tally: &Tally) -> bool {
    match tally {
        Tally::Counter(sum) => sum.to_f64() != 0.0,
        Tally::Gauge(gauge) => !gauge.is_empty(),
        Tally::Timer(digest) => digest.events() > 0.0,
        Tally::Set(unique) => !unique.is_empty(),
    }
}

impl Watched {
    /// A figure of these series, of which it takes as many as it may have.
    pub(super) fn new(rules: &FigureRules, mut series: Vec<Series>, currency: &str) -> Self {
        let left_out = series.len().saturating_sub(limits::FIGURE_SERIES_MAX);
        series.truncate(limits::FIGURE_SERIES_MAX);
        let mut this =
            Self { rules: rules.clone(), units: Vec::new(), members: Vec::new(), kept: Vec::new(), left_out };
        let mut units: Vec<Unit> = series.iter().map(|series| this.unit(series, currency)).collect();
        this.units.clone_from(&units);
        // The company's own currency stands first, then by name; of nothing there is one line all the same.
        let own = this.own_unit(currency);
        this.units.push(own.clone());
        this.units.sort_by_key(|unit| (*unit != own, format!("{unit:?}")));
        this.units.dedup();
        if !units.is_empty() && !units.contains(&own) {
            this.units.retain(|unit| *unit != own);
        }
        this.left_out += this.units.len().saturating_sub(limits::FIGURE_LINES_MAX);
        this.units.truncate(limits::FIGURE_LINES_MAX);
        for (series, unit) in series.into_iter().zip(units.drain(..)) {
            if let Some(line) = this.units.iter().position(|own| *own == unit) {
                let slice = this.slice(&series);
                this.members.push(Member { series, line, slice });
            }
        }
        this
    }

    fn own_unit(&self, currency: &str) -> Unit {
        match self.rules.kind {
            FigureKind::Count | FigureKind::Unique => Unit::Plain,
            FigureKind::Ratio => Unit::Share,
            FigureKind::Gauge => Unit::Measured(""),
            FigureKind::Timer if matches!(self.rules.stat, Some(Stat::Count)) => Unit::Plain,
            FigureKind::Timer => Unit::Measured("ms"),
            FigureKind::Money => {
                Unit::Money(self.rules.currency.clone().unwrap_or_else(|| currency.to_owned()))
            }
        }
    }

    /// Of money the currency that is written, or that the tag or the end of the name says.
    fn unit(&self, series: &Series, currency: &str) -> Unit {
        if self.rules.kind != FigureKind::Money || self.rules.currency.is_some() {
            return self.own_unit(currency);
        }
        let (name, tags) = series.split();
        let said = tag(tags, "currency").or_else(|| name.rsplit_once('.').map(|(_, last)| last));
        let code = said.filter(|said| said.len() == 3 && said.bytes().all(|byte| byte.is_ascii_alphabetic()));
        code.map_or_else(|| self.own_unit(currency), |code| Unit::Money(code.to_ascii_uppercase()))
    }

    /// The tag's value, or what the pattern leaves open.
    fn slice(&self, series: &Series) -> Option<String> {
        let (name, tags) = series.split();
        if let Some(by) = &self.rules.by {
            return Some(tag(tags, by).unwrap_or("(none)").to_owned());
        }
        if self.rules.kind != FigureKind::Count {
            return None;
        }
        let (before, after) = self.rules.metric.split_once('*')?;
        let after = after.rsplit('*').next().unwrap_or_default();
        let open = name.get(before.len()..name.len().checked_sub(after.len())?)?;
        Some(open.to_owned()).filter(|open| !open.is_empty())
    }

    /// Looks up how far back each level goes, for all series alike.
    pub(super) fn look_up(&mut self, store: &dyn Store, now: WallMs) {
        let mut all = self.members.iter().map(|member| kept(store, &member.series, now));
        let mut common = all.next().unwrap_or_default();
        for other in all {
            common.retain_mut(|own| {
                let theirs = other.iter().find(|theirs| theirs.level == own.level);
                own.from = own.from.max(theirs.map_or(own.from, |theirs| theirs.from));
                theirs.is_some()
            });
        }
        self.kept = common;
    }

    pub(super) fn series(&self) -> Vec<Series> {
        self.members.iter().map(|member| member.series.clone()).collect()
    }

    /// What each member came to in a span; `None` if what is kept cannot say.
    pub(super) fn gather(&self, store: &dyn Store, span: Span) -> Result<Option<Vec<Part>>, StoreError> {
        let Some(pieces) = pieces(store.ladder(), &self.kept, span) else {
            return Ok(None);
        };
        let mut parts: Vec<Part> = vec![(None, 0.0); self.members.len()];
        let (series, bounds) = (self.series(), store.bounds());
        for piece in pieces {
            cover::read(store, &series, piece, &mut |at, reading| {
                if let Some((tally, buckets)) = parts.get_mut(at) {
                    *buckets += f64::from(u8::from(is_event(&reading.tally)));
                    merge(tally, reading.tally, &bounds);
                }
            })?;
        }
        Ok(Some(parts))
    }

    /// What each line came to.
    pub(super) fn totals(&self, parts: &[Part], bounds: &Bounds) -> Vec<Total> {
        let mut lines: Vec<Part> = vec![(None, 0.0); self.units.len()];
        for (member, (tally, buckets)) in self.members.iter().zip(parts) {
            if let (Some((line, sum)), Some(tally)) = (lines.get_mut(member.line), tally) {
                merge(line, tally.clone(), bounds);
                *sum += buckets;
            }
        }
        lines.iter().map(|(tally, buckets)| self.total(tally.as_ref(), *buckets)).collect()
    }

    /// The number of merged tallies.
    pub(super) fn total(&self, tally: Option<&Tally>, buckets: f64) -> Total {
        match tally {
            Some(Tally::Counter(sum)) if self.rules.kind == FigureKind::Money => {
                Total { number: sum.to_f64() / 10_f64.powi(self.rules.decimals as i32), events: buckets }
            }
            Some(Tally::Counter(sum)) => Total { number: sum.to_f64(), events: sum.to_f64().max(0.0) },
            Some(Tally::Set(unique)) => {
                let count = unique.count() as f64;
                Total { number: count, events: count }
            }
            Some(tally @ Tally::Timer(digest)) => {
                let stat = self.rules.stat.unwrap_or(Stat::Median);
                Total { number: stat.of_tally(tally, 86_400.0).unwrap_or_default(), events: digest.events() }
            }
            Some(Tally::Gauge(_)) | None => Total::default(),
        }
    }

    /// The main line's total of a span.
    pub(super) fn main(&self, store: &dyn Store, span: Span) -> Result<Option<Total>, StoreError> {
        let parts = self.gather(store, span)?;
        Ok(parts.map(|parts| self.totals(&parts, &store.bounds()).first().copied().unwrap_or_default()))
    }
}

/// The value of a tag in a key's tag part.
fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    tags.split(';')
        .filter_map(|tag| tag.split_once('='))
        .find(|(own, _)| *own == name)
        .map(|(_, value)| value)
}
