//! How a question is answered: how far apart points are, and which level of the ladder each series is read at.
//!
//! ```text
//!   levels that reach back to `from` ─▶ the finest of each series ─▶ the step: a multiple of all of these
//!   grid of the step ─▶ levels whose buckets fit into it ─▶ the coarsest of these (gauges: the finest)
//! ```
//!
//! Merges are the same at every level, so the coarsest level that fits costs least and says the same. A gauge's
//! smallest, largest and mean value are those its buckets ended at: more of them say more.

use super::span::short;
use super::stat::Stat;
use super::{Asked, Problem};
use crate::calendar::{Calendar, DAY_MS};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Kind, Ladder, Series};
use crate::store::Store;
use chrono::{Datelike, NaiveDate};
use std::sync::Arc;

/// Steps that people like, in milliseconds.
const NICE_MS: [i64; 21] = [
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    2 * 3_600_000,
    3 * 3_600_000,
    6 * 3_600_000,
    12 * 3_600_000,
    DAY_MS,
    7 * DAY_MS,
];

/// A level at which a series is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kept {
    level: usize,
    width_ms: i64,
    /// Start of its oldest bucket that must be there.
    from: WallMs,
}

/// At which level a series is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    pub(super) level: usize,
    /// Width of its buckets.
    pub(super) width_ms: i64,
    /// What is before this may be gone.
    pub(super) kept_from: WallMs,
}

/// The steps of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    /// Where each step begins and, last, where the last one ends.
    pub(super) edges: Arc<[WallMs]>,
    pub(super) step_ms: i64,
    /// Steps are whole days of the company, of 23 or 25 hours now and then.
    pub(super) days: bool,
}

impl Grid {
    /// Steps that cover `[from, to)`, whole ones.
    pub(super) fn new(step_ms: i64, from: WallMs, to: WallMs, calendar: &Calendar) -> Self {
        let days = step_ms % DAY_MS == 0;
        let mut edges = Vec::new();
        if days {
            let length = i32::try_from(step_ms / DAY_MS).unwrap_or(i32::MAX);
            // Day 1 of the common era was a Monday, so that weeks begin on Mondays.
            let number = (calendar.date(from).num_days_from_ce() - 1).div_euclid(length) * length + 1;
            let mut numbers = (0..).map_while(|n: i32| number.checked_add(n.checked_mul(length)?));
            let begin = |number| Some(calendar.day(NaiveDate::from_num_days_from_ce_opt(number)?).start);
            while let Some(edge) = numbers.next().and_then(begin) {
                // A day that was left out, at the date line, has no length.
                if edges.last() != Some(&edge) {
                    edges.push(edge);
                }
                if edge >= to {
                    break;
                }
            }
        } else {
            let mut edge = from.div_euclid(step_ms) * step_ms;
            edges.push(edge);
            while edge < to {
                edge = edge.saturating_add(step_ms);
                edges.push(edge);
            }
        }
        Self { edges: edges.into(), step_ms, days }
    }

    pub(super) fn steps(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    pub(super) fn start(&self) -> WallMs {
        self.edges.first().copied().unwrap_or(0)
    }

    pub(super) fn end(&self) -> WallMs {
        self.edges.last().copied().unwrap_or(0)
    }

    /// Whether no bucket of a width lies in two steps.
    fn holds(&self, width_ms: i64) -> bool {
        match (self.days, width_ms % DAY_MS == 0) {
            (true, false) => self.edges.iter().all(|edge| edge % width_ms == 0),
            (false, true) => false,
            (true, true) | (false, false) => self.step_ms % width_ms == 0,
        }
    }
}

/// The steps of the answer, and where each of the series is read. `stats` are the figures asked of each.
pub(super) fn plan(
    store: &dyn Store,
    asked: &Asked,
    series: &[(Series, Stat)],
    now: WallMs,
) -> Result<(Grid, Vec<Reach>), Problem> {
    let ladder = store.ladder();
    let kept: Vec<Vec<Kept>> = series.iter().map(|(series, _)| kept(store, ladder, series, now)).collect();
    let mut unit = 1;
    for levels in &kept {
        unit = common_multiple(unit, finest_reaching(levels, asked.from).width_ms);
    }
    if kept.is_empty() {
        unit = ladder.bucket().ms();
    }
    let range = asked.to - asked.from;
    let step = asked.step_ms.map_or_else(|| step_of_choice(unit, range), |step| multiple_of(unit, step));
    let points = range / step + 1;
    if points > limits::QUERY_POINTS_MAX as i64 {
        let error = format!(
            "{points} points of {} for each series; the limit is {}",
            short(step),
            limits::QUERY_POINTS_MAX
        );
        let cure = format!("step={} or more, or a shorter range", short(step_of_choice(unit, range)));
        return Err(Problem::new("step", error, cure));
    }
    let grid = Grid::new(step, asked.from, asked.to, ladder.calendar());
    let fits: Vec<bool> = ladder.levels().iter().map(|level| grid.holds(level.width.ms())).collect();
    let reaches = series.iter().zip(&kept).map(|((series, stat), kept)| {
        let fine = series.kind() == Kind::Gauge && matches!(stat, Stat::Min | Stat::Max | Stat::Mean);
        choose(kept, &fits, grid.start(), fine)
    });
    let reaches = reaches.collect();
    Ok((grid, reaches))
}

fn kept(store: &dyn Store, ladder: &Ladder, series: &Series, now: WallMs) -> Vec<Kept> {
    let levels = store.levels_of(series).into_iter();
    let kept: Vec<Kept> = levels
        .map(|(level, keep_ms)| {
            let oldest = now.saturating_sub(keep_ms).saturating_sub(limits::LATE_MARGIN_MS).max(0);
            Kept { level, width_ms: ladder.width(level).ms(), from: ladder.span_of(level, oldest).start }
        })
        .collect();
    if kept.is_empty() { vec![Kept { level: 0, width_ms: ladder.bucket().ms(), from: now }] } else { kept }
}

/// The finest level that reaches back to `from`, or else the one that reaches back furthest.
fn finest_reaching(kept: &[Kept], from: WallMs) -> Kept {
    let reaching = kept.iter().find(|level| level.from <= from);
    let furthest = || kept.iter().min_by_key(|level| level.from);
    reaching.or_else(furthest).copied().unwrap_or(Kept { level: 0, width_ms: 1, from })
}

/// Of the levels that fit into the grid the coarsest that reaches back to its start (the finest, where `fine`),
/// or else the one that reaches back furthest.
fn choose(kept: &[Kept], fits: &[bool], start: WallMs, fine: bool) -> Reach {
    let fitting = || kept.iter().filter(|level| fits.get(level.level) == Some(&true));
    let mut reaching = fitting().filter(|level| level.from <= start);
    let best = if fine { reaching.next() } else { reaching.next_back() };
    let best = best.or_else(|| fitting().min_by_key(|level| level.from));
    // Nothing fits only where a day does not begin on a bucket's border; then a bucket goes where it begins.
    let best = best.copied().unwrap_or_else(|| finest_reaching(kept, start));
    Reach { level: best.level, width_ms: best.width_ms, kept_from: best.from }
}

/// A step that people like, a multiple of `unit`, of which a range has at most [`limits::QUERY_POINTS`].
fn step_of_choice(unit: i64, range_ms: i64) -> i64 {
    let least = (range_ms / limits::QUERY_POINTS as i64).max(unit);
    let nice = NICE_MS.into_iter().chain([unit]).filter(|nice| nice % unit == 0 && *nice >= least);
    nice.min().unwrap_or_else(|| multiple_of(common_multiple(unit, DAY_MS), least))
}

/// The least multiple of `unit` that is not below `step`.
fn multiple_of(unit: i64, step: i64) -> i64 {
    step.saturating_add(unit - 1) / unit * unit
}

fn common_multiple(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveTime;

    const NOW: WallMs = 1_795_437_000_500;
    const HOUR: i64 = 3_600_000;

    fn levels(widths: &[(i64, i64)]) -> Vec<Kept> {
        let kept = widths.iter().enumerate();
        kept.map(|(level, (secs, hours))| {
            let oldest = NOW - hours * HOUR - limits::LATE_MARGIN_MS;
            Kept { level, width_ms: secs * 1_000, from: oldest.div_euclid(secs * 1_000) * secs * 1_000 }
        })
        .collect()
    }

    /// The level for a step and a range of so many hours, and the step it becomes.
    fn chosen(kept: &[Kept], step: Option<i64>, hours: i64, fine: bool) -> (i64, usize) {
        let from = NOW - hours * HOUR;
        let unit = finest_reaching(kept, from).width_ms;
        let step =
            step.map_or_else(|| step_of_choice(unit, hours * HOUR), |secs| multiple_of(unit, secs * 1_000));
        let grid = Grid::new(step, from, NOW, &Calendar::default());
        let fits: Vec<bool> = kept.iter().map(|level| grid.holds(level.width_ms)).collect();
        (step / 1_000, choose(kept, &fits, grid.start(), fine).level)
    }

    #[test]
    fn the_coarsest_level_that_fits_is_read_and_of_gauges_the_finest() {
        let kept = levels(&[(10, 6), (60, 168), (900, 2_160), (86_400, 87_600)]);
        for (step, hours, expected, fine) in [
            (None, 1, (10, 0), 0),
            (None, 6, (30, 0), 0),
            (None, 24, (120, 1), 1),
            (None, 168, (900, 2), 1),
            (None, 720, (3_600, 2), 2),
            (None, 20_000, (86_400, 3), 3),
            (None, 87_600, (604_800, 3), 3),
            (Some(10), 1, (10, 0), 0),
            (Some(1), 1, (10, 0), 0),
            (Some(15), 1, (20, 0), 0),
            (Some(60), 1, (60, 1), 0),
            (Some(90), 1, (90, 0), 0),
            (Some(90), 24, (120, 1), 1),
            (Some(10), 24, (60, 1), 1),
            (Some(3_600), 24, (3_600, 2), 1),
            (Some(86_400), 48, (86_400, 3), 1),
            (Some(86_400), 20_000, (86_400, 3), 3),
            (Some(5_400), 20_000, (86_400, 3), 3),
        ] {
            assert_eq!(chosen(&kept, step, hours, false), expected, "{step:?} {hours}");
            assert_eq!(chosen(&kept, step, hours, true), (expected.0, fine), "{step:?} {hours}");
        }
        // Nothing reaches back so far: what reaches back furthest.
        assert_eq!(chosen(&levels(&[(10, 6)]), None, 24, false), (120, 0));
        assert_eq!(chosen(&levels(&[(10, 6), (60, 48)]), Some(10), 200, false), (60, 1));
    }

    #[test]
    fn steps_are_whole_and_days_are_the_company_s() {
        let utc = Calendar::default();
        let grid = Grid::new(60_000, 90_000, 180_000, &utc);
        assert_eq!(*grid.edges, [60_000, 120_000, 180_000]);
        assert!(grid.holds(10_000) && !grid.holds(45_000) && !grid.holds(DAY_MS));
        let berlin = Calendar::new("Europe/Berlin", NaiveTime::MIN).unwrap();
        // 24 to 26 October 2026; the 25th has 25 hours.
        let from = 1_792_850_400_000;
        let grid = Grid::new(DAY_MS, from, from + 48 * HOUR, &berlin);
        let hours: Vec<i64> = grid.edges.windows(2).map(|edges| (edges[1] - edges[0]) / HOUR).collect();
        assert_eq!((grid.start(), &hours[..]), (1_792_792_800_000, &[24, 25, 24][..]));
        assert!(grid.holds(HOUR) && grid.holds(DAY_MS) && !grid.holds(5 * HOUR));
        let kathmandu = Calendar::new("Asia/Kathmandu", NaiveTime::MIN).unwrap();
        let grid = Grid::new(DAY_MS, NOW - 48 * HOUR, NOW, &kathmandu);
        assert!(grid.holds(900_000) && !grid.holds(HOUR));
        // Weeks begin on Mondays; NOW is one.
        let grid = Grid::new(7 * DAY_MS, NOW - 8 * 24 * HOUR, NOW, &utc);
        assert_eq!(grid.edges.len(), 4);
        assert_eq!((grid.edges[2], grid.start()), (1_795_392_000_000, 1_795_392_000_000 - 14 * DAY_MS));
        assert!(grid.holds(DAY_MS) && grid.holds(HOUR));
        // Samoa had no 30 December 2011.
        let apia = Calendar::new("Pacific/Apia", NaiveTime::MIN).unwrap();
        let grid = Grid::new(DAY_MS, 1_325_000_000_000, 1_325_400_000_000, &apia);
        assert!(grid.edges.windows(2).all(|edges| edges[0] < edges[1]), "{grid:?}");
    }

    #[test]
    fn no_step_is_too_odd() {
        for step in [1, 7, 999, 1_000_003, 100_000_000_000_000, 99_999_999_999_999] {
            let grid = Grid::new(step, NOW - 5 * step.min(NOW / 10), NOW, &Calendar::default());
            assert!(grid.start() <= NOW && grid.end() >= NOW && grid.steps() >= 1, "{step}: {grid:?}");
        }
        assert_eq!(common_multiple(60_000, 90_000), 180_000);
        assert_eq!((multiple_of(10, 11), multiple_of(10, 20)), (20, 20));
    }
}
