//! From a question to its answer: buckets are read, merged into steps and groups, and a figure is taken of each.
//!
//! ```text
//!   series ─▶ units (a series, or a group of them) ─▶ slices of the grid ─▶ read ─▶ merge ─▶ figure
//! ```
//!
//! Work goes slice by slice, many series at a time: a store has them packed together, and only one slice's tallies
//! are in memory.

use super::listing::owned_tags;
use super::params::Asked;
use super::plan::{Grid, Reach, plan};
use super::render::{Num, join};
use super::select::tag;
use super::stat::{Part, Stat};
use super::{Problem, QueryError};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Kind, Series, Tally};
use crate::store::{Reading, Store};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What was found. Times and spans are seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Where the first step begins.
    pub from: Num,
    /// Where the last step ends.
    pub to: Num,
    /// From one point to the next; days may be longer and shorter.
    pub step: Num,
    /// The zone whose days the steps are, where they are days.
    pub days_of: Option<&'static str>,
    /// The figure that was asked for; none is each kind's own.
    pub stat: Option<String>,
    /// Width of the coarsest buckets that were read.
    pub resolution: Option<Num>,
    /// The step that is not over yet.
    pub open: Option<Open>,
    /// How many series match.
    pub matched: usize,
    /// How many of them do not have the figure and are left out.
    pub left_out: usize,
    /// Series or groups.
    pub series: Vec<Line>,
    /// Where each step begins, in milliseconds.
    #[serde(skip)]
    pub(super) times: Arc<[WallMs]>,
}

/// A step that is not over yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Open {
    /// Where it begins.
    pub start: Num,
    /// How much of it is over: what its rates are divided by, if that is a second or more.
    pub seconds: Num,
}

/// A series, or a group of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its name without tags; of a group the name they share, or else the pattern.
    pub name: String,
    /// Its tags; of a group those that it is grouped by.
    pub tags: BTreeMap<String, String>,
    /// Its kind.
    pub kind: &'static str,
    /// The figure.
    pub stat: String,
    /// How many series were merged into it.
    pub merged: usize,
    /// Width of the coarsest buckets that were read for it.
    pub resolution: Num,
    /// What is before this may be gone; steps that begin earlier are null.
    pub kept_from: Num,
    /// Start of each step and the figure.
    pub points: Points,
}

/// Points of a line. All lines of an answer share where their steps begin, and a figure that there is not is NaN in
/// here and null outside: eight bytes a point, since an answer may have a million.
#[derive(Clone, Debug)]
pub struct Points {
    edges: Arc<[WallMs]>,
    figures: Vec<f64>,
}

impl Points {
    /// Start of each step and the figure.
    pub fn iter(&self) -> impl Iterator<Item = (Num, Option<Num>)> {
        let figure = |figure: f64| figure.is_finite().then_some(Num(figure));
        self.edges.iter().zip(&self.figures).map(move |(at, value)| (Num::secs(*at), figure(*value)))
    }
}

impl PartialEq for Points {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Line {
    pub(super) fn tags_text(&self) -> String {
        join(self.tags.iter())
    }
}

/// What makes a point: a series by itself, or a group of them.
struct Unit {
    line: Line,
    kind: Kind,
    stat: Stat,
    kept_from: WallMs,
}

/// Which group a series belongs to: the pattern it matches, its kind, the values of the tags grouped by.
type GroupKey = (usize, Kind, Vec<Option<String>>);

/// Answers a question at the time `now`.
pub fn answer(store: &dyn Store, asked: &Asked, now: WallMs) -> Result<Answer, QueryError> {
    let found = store.series(&|series| {
        asked.kind.is_none_or(|kind| kind == series.kind())
            && asked.names.iter().any(|name| name.matches(series))
    })?;
    let matched = found.len();
    let mut series = with_figures(asked, found)?;
    let left_out = matched - series.len();
    within_limits(asked, &mut series)?;
    let (grid, reaches) = plan(store, asked, &series, now)?;
    let (mut units, owners) = units(asked, &series, &reaches, &grid);
    check_work(&grid, &series, &reaches, units.len())?;
    let work = Work { store, asked, grid: &grid, now, series: &series, reaches: &reaches, owners: &owners };
    work.run(&mut units)?;
    let open = open_step(&grid, now).map(|step| {
        let start = grid.edges.get(step).copied().unwrap_or(now);
        Open { start: Num::secs(start), seconds: Num::secs(now - start) }
    });
    let lines: Vec<Line> = units.into_iter().map(|unit| unit.line).collect();
    Ok(Answer {
        from: Num::secs(grid.start()),
        to: Num::secs(grid.end()),
        step: Num::secs(grid.step_ms),
        days_of: grid.days.then(|| store.ladder().calendar().zone()),
        stat: asked.stat.map(|stat| stat.to_string()),
        resolution: lines.iter().map(|line| line.resolution).reduce(|a, b| if a.0 < b.0 { b } else { a }),
        open,
        matched,
        left_out,
        series: lines,
        times: grid.edges,
    })
}

/// Each series with the figure that is asked of it; those that do not have it are left out, unless all are.
fn with_figures(asked: &Asked, found: Vec<Series>) -> Result<Vec<(Series, Stat)>, Problem> {
    let grouped = asked.by.is_some();
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| found.iter().any(|series| series.kind() == *kind)).collect();
    let fits = |kind: Kind| match asked.stat {
        // What one of several gauges stands at is no figure of theirs.
        Some(Stat::Last) if grouped => false,
        stat => stat.is_none_or(|stat| stat.fits(kind)),
    };
    if let Some(stat) = asked.stat
        && !kinds.is_empty()
        && !kinds.iter().any(|kind| fits(*kind))
    {
        if stat == Stat::Last && grouped && kinds.contains(&Kind::Gauge) {
            let error = "`last` of several gauges is no figure of theirs";
            return Err(Problem::new("stat", error, "sum, mean, min or max; or leave `by` out"));
        }
        let choices: Vec<&str> = kinds.iter().map(|kind| Stat::choice(*kind)).collect();
        let error = format!("none of the {} series that match has `{stat}`", found.len());
        return Err(Problem::new("stat", error, choices.join("; ")));
    }
    let with = found.into_iter().filter(|series| fits(series.kind()));
    Ok(with
        .map(|series| {
            let stat = asked.stat.unwrap_or(Stat::default_of(series.kind(), grouped));
            (series, stat)
        })
        .collect())
}

fn within_limits(asked: &Asked, series: &mut Vec<(Series, Stat)>) -> Result<(), Problem> {
    let (max, cure) = match (&asked.by, asked.limit) {
        (None, Some(limit)) => {
            series.truncate(limit);
            return Ok(());
        }
        (None, None) => (limits::QUERY_SERIES_MAX, "a narrower name, tag filters, by= or limit="),
        (Some(_), _) => (limits::QUERY_SERIES_READ_MAX, "a narrower name or tag filters"),
    };
    if series.len() > max {
        let error = format!("{} series match; the limit is {max}", series.len());
        return Err(Problem::new("name", error, cure));
    }
    Ok(())
}

/// What the points are of, and for each series the units it belongs to.
fn units(
    asked: &Asked,
    series: &[(Series, Stat)],
    reaches: &[Reach],
    grid: &Grid,
) -> (Vec<Unit>, Vec<Vec<usize>>) {
    let mut units = Vec::new();
    let mut owners = vec![Vec::new(); series.len()];
    let mut groups: BTreeMap<GroupKey, Vec<usize>> = BTreeMap::new();
    for (at, (series, _)) in series.iter().enumerate() {
        match &asked.by {
            None => {
                groups.insert((at, series.kind(), Vec::new()), vec![at]);
            }
            Some(by) => {
                let (name, tags) = series.split();
                let value_of = |by: &String| if by == "name" { Some(name) } else { tag(tags, by) };
                let values: Vec<_> = by.iter().map(|by| value_of(by).map(str::to_owned)).collect();
                for (pattern, _) in asked.names.iter().enumerate().filter(|(_, name)| name.matches(series)) {
                    groups.entry((pattern, series.kind(), values.clone())).or_default().push(at);
                }
            }
        }
    }
    for (key, members) in groups.into_iter().take(asked.limit.unwrap_or(limits::QUERY_SERIES_READ_MAX)) {
        for member in &members {
            if let Some(owners) = owners.get_mut(*member) {
                owners.push(units.len());
            }
        }
        units.extend(unit(asked, key, &members, series, reaches, grid));
    }
    (units, owners)
}

fn unit(
    asked: &Asked,
    (pattern, kind, values): GroupKey,
    members: &[usize],
    series: &[(Series, Stat)],
    reaches: &[Reach],
    grid: &Grid,
) -> Option<Unit> {
    let (first, stat) = series.get(*members.first()?)?;
    let names =
        || members.iter().filter_map(|member| series.get(*member)).map(|(series, _)| series.split().0);
    let (name, tags) = first.split();
    let (name, tags) = match &asked.by {
        None => (name.to_owned(), owned_tags(tags)),
        Some(by) => {
            let shared = names().all(|other| other == name);
            let pattern = asked.names.get(pattern).map_or("", |selector| &selector.name_text);
            let tags = by.iter().zip(values).filter(|(by, _)| *by != "name");
            let tags = tags.filter_map(|(tag, value)| Some((tag.clone(), value?)));
            (if shared { name } else { pattern }.to_owned(), tags.collect())
        }
    };
    let read_at = || members.iter().filter_map(|member| reaches.get(*member));
    let kept_from = read_at().map(|reach| reach.kept_from).max()?;
    let line = Line {
        name,
        tags,
        kind: kind.word(),
        stat: stat.to_string(),
        merged: members.len(),
        resolution: Num::secs(read_at().map(|reach| reach.width_ms).max()?),
        kept_from: Num::secs(kept_from),
        points: Points { edges: Arc::clone(&grid.edges), figures: Vec::new() },
    };
    Some(Unit { line, kind, stat: *stat, kept_from })
}

fn weight(kind: Kind) -> i64 {
    match kind {
        Kind::Counter | Kind::Gauge => 1,
        Kind::Timer | Kind::Set => limits::QUERY_WEIGHT_LARGE,
    }
}

fn check_work(
    grid: &Grid,
    series: &[(Series, Stat)],
    reaches: &[Reach],
    units: usize,
) -> Result<(), Problem> {
    const CURE: &str = "a longer step, a shorter range, a narrower name or limit=";
    if units > limits::QUERY_SERIES_MAX {
        let error = format!("{units} groups; the limit is {}", limits::QUERY_SERIES_MAX);
        return Err(Problem::new("by", error, "a tag with fewer values, a narrower name or limit="));
    }
    let points = units * grid.steps();
    if points > limits::QUERY_POINTS_TOTAL_MAX {
        let error = format!("{points} points in all; the limit is {}", limits::QUERY_POINTS_TOTAL_MAX);
        return Err(Problem::new("step", error, CURE));
    }
    let buckets = series.iter().zip(reaches).map(|((series, _), reach)| {
        (grid.end() - grid.start().max(reach.kept_from)).max(0) / reach.width_ms * weight(series.kind())
    });
    let buckets: i64 = buckets.sum();
    if buckets > limits::QUERY_BUCKETS_MAX {
        let error = format!(
            "{buckets} buckets would be read, where one of a timer or set counts as {}; the limit is {}",
            limits::QUERY_WEIGHT_LARGE,
            limits::QUERY_BUCKETS_MAX
        );
        return Err(Problem::new("step", error, CURE));
    }
    Ok(())
}

/// The step that is not over yet.
fn open_step(grid: &Grid, now: WallMs) -> Option<usize> {
    grid.edges.windows(2).position(|edges| matches!(edges, [start, end] if (*start..*end).contains(&now)))
}

struct Work<'a> {
    store: &'a dyn Store,
    asked: &'a Asked,
    grid: &'a Grid,
    now: WallMs,
    series: &'a [(Series, Stat)],
    reaches: &'a [Reach],
    owners: &'a [Vec<usize>],
}

/// Parts of one slice: `parts[unit][step]`.
type Parts = Vec<Vec<Part>>;

impl Work<'_> {
    fn run(&self, units: &mut [Unit]) -> Result<(), QueryError> {
        // Series that are read in one call, and what one step of each weighs.
        let mut bundles: BTreeMap<(usize, Kind), Vec<usize>> = BTreeMap::new();
        for (at, ((series, _), reach)) in self.series.iter().zip(self.reaches).enumerate() {
            if self.owners.get(at).is_some_and(|owners| !owners.is_empty()) {
                bundles.entry((reach.level, series.kind())).or_default().push(at);
            }
        }
        let each = |level: usize, kind| {
            (self.grid.step_ms / self.store.ladder().width(level).ms()).max(1) * weight(kind)
        };
        let all: i64 =
            bundles.iter().map(|((level, kind), members)| each(*level, *kind) * members.len() as i64).sum();
        let steps = (limits::QUERY_BUCKETS_AT_ONCE / all.max(1)).max(1) as usize;
        let bounds = self.store.bounds();
        for unit in &mut *units {
            unit.line.points.figures.reserve_exact(self.grid.steps());
        }
        for first in (0..self.grid.steps()).step_by(steps) {
            let slice = first..(first + steps).min(self.grid.steps());
            let mut parts: Parts = vec![vec![Part::Nothing; slice.len()]; units.len()];
            for ((level, kind), members) in &bundles {
                let room = limits::QUERY_BUCKETS_AT_ONCE / (each(*level, *kind) * slice.len() as i64);
                for members in members.chunks(room.max(1) as usize) {
                    self.read(&slice, *level, members, &mut parts, &bounds)?;
                }
            }
            for (unit, parts) in units.iter_mut().zip(parts) {
                self.figures(unit, &slice, &parts);
            }
        }
        Ok(())
    }

    /// Reads a slice of some series and merges it into the parts.
    fn read(
        &self,
        slice: &Range<usize>,
        level: usize,
        members: &[usize],
        parts: &mut Parts,
        bounds: &Bounds,
    ) -> Result<(), QueryError> {
        let Some(edges) = self.grid.edges.get(slice.start..=slice.end) else {
            return Ok(());
        };
        let (Some(start), Some(end)) = (edges.first(), edges.last()) else {
            return Ok(());
        };
        let series: Vec<Series> =
            members.iter().filter_map(|member| Some(self.series.get(*member)?.0.clone())).collect();
        let readings = self.store.read(&series, level, *start, *end)?;
        for (member, readings) in members.iter().zip(readings) {
            let Some((last, others)) = self.owners.get(*member).and_then(|owners| owners.split_last()) else {
                continue;
            };
            for owner in others {
                if let Some(parts) = parts.get_mut(*owner) {
                    merge(edges, readings.clone(), parts, bounds);
                }
            }
            if let Some(parts) = parts.get_mut(*last) {
                merge(edges, readings, parts, bounds);
            }
        }
        Ok(())
    }

    fn figures(&self, unit: &mut Unit, slice: &Range<usize>, parts: &[Part]) {
        let Some(edges) = self.grid.edges.get(slice.start..=slice.end) else {
            return;
        };
        for (edges, part) in edges.windows(2).zip(parts) {
            let [start, end] = *edges else { continue };
            let seconds = if (start..end).contains(&self.now) {
                // Not over yet: by the part that is, but not by the blink of an eye.
                (self.now - start).max((end - start).min(1_000))
            } else {
                end - start
            };
            let nothing = self.asked.fill_zero && unit.stat.is_zero_of_nothing(unit.kind);
            let figure = if start < unit.kept_from {
                None
            } else {
                part.figure(unit.stat, seconds as f64 / 1_000.0).or(nothing.then_some(0.0))
            };
            unit.line.points.figures.push(figure.unwrap_or(f64::NAN));
        }
    }
}

/// Merges the buckets of one series into the steps that begin at `edges`.
fn merge(edges: &[WallMs], readings: Vec<Reading>, parts: &mut [Part], bounds: &Bounds) {
    let mut step = 0;
    // Where a gauge stands, and the step in which it does.
    let mut stands: Option<(usize, f64)> = None;
    for reading in readings {
        // The step a bucket begins in; readings are oldest first.
        while edges.get(step + 1).is_some_and(|end| *end <= reading.start) {
            step += 1;
        }
        let begun = edges.get(step).is_some_and(|start| *start <= reading.start);
        let Some(part) = parts.get_mut(step).filter(|_| begun) else {
            continue;
        };
        match (reading.tally, part) {
            (Tally::Gauge(gauge), part) => {
                if let Some(value) = gauge.value(reading.before) {
                    part.gauge(value);
                    settle(parts, stands.filter(|(at, _)| *at != step));
                    stands = Some((step, value));
                }
            }
            (tally, Part::Merged(merged)) => merged.merge(tally, bounds),
            (tally, part) => *part = Part::Merged(tally),
        }
    }
    settle(parts, stands);
}

fn settle(parts: &mut [Part], stands: Option<(usize, f64)>) {
    if let Some((step, value)) = stands
        && let Some(part) = parts.get_mut(step)
    {
        part.stands(value);
    }
}
