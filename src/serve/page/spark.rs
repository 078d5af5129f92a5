//! The lines: today over a dashed last week, bars, and the same as a table. Draws what dashboards/live/spark.js does.
//!
//! Coordinates are whole numbers on a grid of 1,000 by 400 that CSS stretches; strokes keep their width.

use super::element::{Element, Node, h};
use crate::figures::state::{Figure, FigureKind, Mark, Spark};
use std::fmt::Write as _;

const WIDE: f64 = 1_000.0;
const HIGH: f64 = 400.0;
const TOP: f64 = 14.0;
const DAY_MS: i64 = 86_400_000;

/// What is summed over the day is drawn as the sum so far, so that the line ends at the number shown.
fn is_summed(figure: &Figure) -> bool {
    matches!(figure.kind, FigureKind::Count | FigureKind::Money)
}

fn course(values: &[Option<f64>], summed: bool) -> Vec<Option<f64>> {
    let mut sum = 0.0;
    let summing = |value: &Option<f64>| {
        value.map(|value| {
            sum += value;
            if summed { sum } else { value }
        })
    };
    values.iter().map(summing).collect()
}

/// Today as far as it has come. A sum ends at the number that is shown, which is newer than its last part.
fn so_far(figure: &Figure, spark: &Spark) -> Vec<Option<f64>> {
    let mut values = course(spark.today.get(..whole(figure, spark)).unwrap_or_default(), is_summed(figure));
    if let (true, Some(shown), Some(last)) = (is_summed(figure), figure.values.first(), values.last_mut()) {
        *last = Some(shown.number);
    }
    values
}

/// Of what is neither summed nor stands for itself, a part that has just begun says nothing yet.
fn whole(figure: &Figure, spark: &Spark) -> usize {
    if is_summed(figure) || figure.kind == FigureKind::Gauge { until_now(spark) } else { spark.now_index }
}

fn until_now(spark: &Spark) -> usize {
    (spark.now_index + 1).min(spark.today.len())
}

fn largest(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().fold(0.0, |most, value| f64::max(most, *value))
}

/// Rounds as JavaScript does: halves up.
fn rounded(value: f64) -> i64 {
    (value + 0.5).floor() as i64
}

struct Path {
    d: String,
    start: Option<(i64, i64)>,
    end: Option<(i64, i64)>,
    pieces: usize,
}

/// A path through what is known; a gap where nothing is.
fn line(values: &[Option<f64>], steps: usize, most: f64) -> Path {
    let mut path = Path { d: String::new(), start: None, end: None, pieces: 0 };
    let mut pen = false;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen = false;
            continue;
        };
        let x = rounded((index + 1) as f64 * WIDE / steps as f64);
        let y = rounded(HIGH - 2.0 - (value.max(0.0) / most) * (HIGH - TOP));
        path.pieces += usize::from(!pen);
        // Writing to a string does not fail.
        write!(path.d, "{}{x} {y}", if pen { 'L' } else { 'M' }).ok();
        pen = true;
        path.start.get_or_insert((x, y));
        path.end = Some((x, y));
    }
    path
}

/// The marks that stand on a line.
pub(super) fn of_today<'a>(spark: &Spark, marks: &'a [Mark]) -> Vec<&'a Mark> {
    marks.iter().filter(|mark| (0..DAY_MS).contains(&(mark.at_ms - spark.from_ms))).collect()
}

/// Today's line as an area, its end as a dot, last week's line, and the marks.
pub(super) fn drawing(figure: &Figure, spark: &Spark, marks: &[Mark]) -> Element {
    let summed = is_summed(figure);
    let today = so_far(figure, spark);
    let before = course(&spark.last_week, summed);
    let most = largest(&today).max(largest(&before));
    let most = if most == 0.0 { 1.0 } else { most };
    let steps = spark.last_week.len().max(spark.today.len()).max(1);
    let path = line(&today, steps, most);
    let marks = of_today(spark, marks);
    let area = (path.start, path.end);
    let area = match area {
        (Some((start, _)), Some(_)) if summed && path.pieces == 1 => {
            Some(h("path.area").with("d", format!("{}V{HIGH}H{start}Z", path.d)))
        }
        _ => None,
    };
    h("svg")
        .with("viewBox", format!("0 0 {WIDE} {HIGH}"))
        .with("preserveAspectRatio", "none")
        .with("role", "img")
        .with("aria-label", in_words(figure, spark, &today, &before, &marks))
        .all(marks.iter().map(|mark| {
            let x = rounded((mark.at_ms - spark.from_ms) as f64 / DAY_MS as f64 * WIDE);
            h("path.mark")
                .key(format!("{} {}", mark.at_ms, mark.text))
                .with("d", format!("M{x} 0V{HIGH}"))
                .add(h("title").add(format!("{} {}", mark.clock, mark.text)))
        }))
        .add(h("path.before").with("d", line(&before, steps, most).d))
        .all(area)
        .all(path.end.map(|(x, y)| h("path.end").with("d", format!("M{x} {y}h0"))))
        .add(h("path.today").with("d", path.d))
}

/// A number as short as it can be said: whole, or with two digits; thousands apart.
fn plain(value: f64) -> String {
    let text = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut grouped = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn in_words(
    figure: &Figure,
    spark: &Spark,
    today: &[Option<f64>],
    before: &[Option<f64>],
    marks: &[&Mark],
) -> String {
    let say = |value: Option<f64>| value.map_or("not known".to_owned(), plain);
    let last = |values: &[Option<f64>]| say(values.iter().rev().copied().flatten().next());
    let then = last(before.get(..whole(figure, spark).min(before.len())).unwrap_or_default());
    let (label, now) = (&figure.label, last(today));
    let mut words = if is_summed(figure) {
        format!("{label} over the day: today {now} so far, last week by this time {then}")
    } else {
        format!("{label} over the day: lately {now}, at this time last week {then}")
    };
    for mark in marks {
        write!(words, "; {} {}", mark.clock, mark.text).ok();
    }
    words
}

/// The hours under the hero's line.
pub(super) fn axis(spark: &Spark) -> Element {
    let at = |part: u32| format!("{:02}", (spark.from_minute + part * 360) / 60 % 24);
    let end = if spark.from_minute == 0 { "24".to_owned() } else { at(0) };
    let hours = (0..4).map(at).chain([end]).map(|hour| h("span").add(hour));
    h("p.axis").with("aria-hidden", "true").all(hours)
}

/// How much of something, and where it usually is by now.
pub(super) fn bar(done: f64, pace: Option<f64>) -> Element {
    let part = |value: f64| rounded(value.clamp(0.0, 1.0) * WIDE);
    h("svg.bar")
        .with("viewBox", format!("0 0 {WIDE} 10"))
        .with("preserveAspectRatio", "none")
        .with("aria-hidden", "true")
        .add(h("rect.all").with("width", WIDE.to_string()).with("height", "10"))
        .add(h("rect.done").with("width", part(done).to_string()).with("height", "10"))
        .all(pace.map(|pace| h("path.pace").with("d", format!("M{} 0V10", part(pace).clamp(2, 998)))))
}

/// The line as a table: an hour a row.
pub(super) fn hours(figure: &Figure, spark: &Spark) -> Element {
    let each = rounded(3_600_000.0 / spark.step_ms.max(1) as f64).max(1) as usize;
    let now = until_now(spark);
    let row = |from: usize| {
        let minute = i64::from(spark.from_minute) + from as i64 * spark.step_ms / 60_000;
        let hour = |values: Option<&[Option<f64>]>| cell(figure, values.unwrap_or_default());
        let to = (from + each).min(spark.last_week.len());
        h("tr")
            .add(h("th").with("scope", "row").add(format!("{:02}:{:02}", minute / 60 % 24, minute % 60)))
            .add(hour(spark.today.get(from..(from + each).min(now))))
            .add(hour(spark.last_week.get(from..to)))
    };
    let heads = ["From", "Today", "Last week"].map(|head| h("th").with("scope", "col").add(head));
    h("table.hours")
        .add(h("caption").add("By hour"))
        .add(h("thead").add(h("tr").all(heads)))
        .add(h("tbody").all((0..spark.last_week.len().max(spark.today.len())).step_by(each).map(row)))
}

fn cell(figure: &Figure, values: &[Option<f64>]) -> Node {
    let known = values.iter().copied().flatten();
    let value = if is_summed(figure) { known.reduce(|sum, value| sum + value) } else { known.last() };
    h("td").add(value.map_or("–".to_owned(), plain)).into()
}
