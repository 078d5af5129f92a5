//! What Graphite must hold: an independent tally of what clients meant to send.
//!
//! Operations come in (from the clients' JSON, or made here); out go Graphite's paths with the value that
//! statsd would send for one bucket that holds them all. The arithmetic is the plainest there is and shares
//! nothing with tallyd: values are kept, sorted and added up.

use std::collections::{BTreeMap, BTreeSet};

/// What an operation does to its series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Adds to a counter.
    Count(f64),
    /// Sets a gauge.
    Gauge(f64),
    /// Adds to a gauge.
    GaugeDelta(f64),
    /// One timing (`ms`, `h` and `d`).
    Time(f64),
    /// One member of a set.
    Member(String),
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    /// Series without tags.
    pub(crate) name: String,
    /// Sorted by key, as Graphite wants them.
    pub(crate) tags: BTreeMap<String, String>,
    /// What is done.
    pub(crate) change: Change,
}

/// How tallyd was told to compute.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Width of a bucket.
    pub(crate) bucket_secs: f64,
    /// As configured; below zero they are taken from the top.
    pub(crate) percentiles: Vec<f64>,
}

/// Value by Graphite path (`stats.…;k=v`).
pub(crate) type Expected = BTreeMap<String, f64>;

impl Operation {
    /// Reads a line `{"kind", "name", "tags", "value"}` of a client.
    pub(crate) fn from_json(line: &str) -> Self {
        let json: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let number = || json["value"].as_f64().expect("a number");
        let change = match json["kind"].as_str().expect("a kind") {
            "counter" => Change::Count(number()),
            "gauge" => Change::Gauge(number()),
            "gauge_delta" => Change::GaugeDelta(number()),
            "timer" => Change::Time(number()),
            "set" => Change::Member(text(&json["value"])),
            other => panic!("unknown kind {other}"),
        };
        let tags = json["tags"].as_object().expect("tags");
        let tags = tags.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        Self { name: text(&json["name"]), tags, change }
    }

    /// `stats.KIND.NAME`, the figure that `leaf` names (`.count`, or nothing), and the tags.
    fn path(&self, leaf: &str) -> String {
        let kind = match self.change {
            Change::Count(_) => "counters",
            Change::Gauge(_) | Change::GaugeDelta(_) => "gauges",
            Change::Time(_) => "timers",
            Change::Member(_) => "sets",
        };
        let tags: String = self.tags.iter().flat_map(|(key, value)| [";", key, "=", value]).collect();
        format!("stats.{kind}.{}{leaf}{tags}", self.name)
    }
}

/// All that one bucket with these operations sends to Graphite.
pub(crate) fn expect_bucket(operations: &[Operation], rules: &Rules) -> Expected {
    let mut expected = expect_counts(operations);
    expected.extend(expect_gauges(operations));
    let rates = sum_counters(operations, ".rate");
    expected.extend(rates.into_iter().map(|(path, count)| (path, count / rules.bucket_secs)));
    let mut members: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut timers: BTreeMap<String, (&Operation, Vec<f64>)> = BTreeMap::new();
    for operation in operations {
        match &operation.change {
            Change::Member(member) => {
                members.entry(operation.path(".count")).or_default().insert(member);
            }
            Change::Time(value) => {
                timers.entry(operation.path("")).or_insert((operation, Vec::new())).1.push(*value);
            }
            Change::Count(_) | Change::Gauge(_) | Change::GaugeDelta(_) => {}
        }
    }
    expected.extend(members.into_iter().map(|(path, members)| (path, members.len() as f64)));
    for (operation, values) in timers.into_values() {
        let figures = timer_figures(values, rules);
        expected
            .extend(figures.into_iter().map(|(leaf, value)| (operation.path(&format!(".{leaf}")), value)));
    }
    expected
}

/// The sum over time of every counter's `count`, however many buckets there were.
pub(crate) fn expect_counts(operations: &[Operation]) -> Expected {
    sum_counters(operations, ".count")
}

fn sum_counters(operations: &[Operation], leaf: &str) -> Expected {
    let mut sums = Expected::new();
    for operation in operations {
        if let Change::Count(value) = operation.change {
            *sums.entry(operation.path(leaf)).or_default() += value;
        }
    }
    sums
}

/// The last value of every gauge; operations are in the order in which they were sent.
pub(crate) fn expect_gauges(operations: &[Operation]) -> Expected {
    let mut gauges = Expected::new();
    for operation in operations {
        match operation.change {
            Change::Gauge(value) => *gauges.entry(operation.path("")).or_default() = value,
            Change::GaugeDelta(value) => *gauges.entry(operation.path("")).or_default() += value,
            Change::Count(_) | Change::Time(_) | Change::Member(_) => {}
        }
    }
    gauges
}

/// statsd's figures for the values of one timer, each sent with rate 1.
fn timer_figures(mut values: Vec<f64>, rules: &Rules) -> Vec<(String, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mean = sum / count;
    let squared_distances: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    let mut figures = vec![
        ("count".to_owned(), count),
        ("count_ps".to_owned(), count / rules.bucket_secs),
        ("lower".to_owned(), values[0]),
        ("upper".to_owned(), values[values.len() - 1]),
        ("sum".to_owned(), sum),
        ("sum_squares".to_owned(), values.iter().map(|value| value * value).sum()),
        ("mean".to_owned(), mean),
        ("median".to_owned(), median),
        ("std".to_owned(), (squared_distances / count).sqrt()),
    ];
    for percentile in &rules.percentiles {
        figures.extend(percentile_figures(&values, *percentile));
    }
    figures
}

/// The lowest `percentile` of the sorted values, or the highest when it is negative; nothing when that is
/// less than half a value.
fn percentile_figures(sorted: &[f64], percentile: f64) -> Vec<(String, f64)> {
    let share = percentile.abs() / 100.0 * sorted.len() as f64;
    let kept_count = if sorted.len() == 1 { 1 } else { (share + 0.5).floor() as usize };
    if kept_count == 0 {
        return Vec::new();
    }
    let suffix = percentile.to_string().replacen('.', "_", 1).replacen('-', "top", 1);
    let (kept, border_name, border) = if percentile < 0.0 {
        let kept = &sorted[sorted.len() - kept_count..];
        (kept, "lower", kept[0])
    } else {
        let kept = &sorted[..kept_count];
        (kept, "upper", kept[kept_count - 1])
    };
    let sum: f64 = kept.iter().sum();
    vec![
        (format!("count_{suffix}"), kept_count as f64),
        (format!("mean_{suffix}"), sum / kept_count as f64),
        (format!("{border_name}_{suffix}"), border),
        (format!("sum_{suffix}"), sum),
        (format!("sum_squares_{suffix}"), kept.iter().map(|value| value * value).sum()),
    ]
}

/// Whether two values are the same but for the order in which floats were added.
pub(crate) fn is_close(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * left.abs().max(right.abs()).max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(lines: &[&str]) -> Expected {
        let operations: Vec<_> = lines.iter().map(|line| Operation::from_json(line)).collect();
        expect_bucket(&operations, &Rules { bucket_secs: 10.0, percentiles: vec![90.0, 99.9, -40.0] })
    }

    #[test]
    fn a_timer_has_the_figures_that_statsd_computes() {
        let timing = |value: f64| {
            format!(r#"{{"kind":"timer","name":"t","tags":{{"b":"2","a":"1"}},"value":{value}}}"#)
        };
        let lines = [300.0, 100.0, 250.5, 100.0, 450.0].map(timing);
        let expected = bucket(&lines.each_ref().map(String::as_str));
        let figure = |leaf: &str| expected[&format!("stats.timers.t.{leaf};a=1;b=2")];
        assert_eq!((figure("count"), figure("count_ps"), figure("median")), (5.0, 0.5, 250.5));
        assert_eq!((figure("lower"), figure("upper"), figure("sum")), (100.0, 450.0, 1200.5));
        assert_eq!((figure("count_90"), figure("upper_90"), figure("upper_99_9")), (5.0, 450.0, 450.0));
        assert_eq!((figure("count_top40"), figure("lower_top40"), figure("sum_top40")), (2.0, 300.0, 750.0));
        assert!(is_close(figure("std"), 17_402.04_f64.sqrt()));
        assert_eq!(expected.len(), 9 + 3 * 5);
    }

    #[test]
    fn counters_gauges_and_sets_are_tallied() {
        let expected = bucket(&[
            r#"{"kind":"counter","name":"c","tags":{},"value":3}"#,
            r#"{"kind":"counter","name":"c","tags":{},"value":-0.5}"#,
            r#"{"kind":"gauge_delta","name":"g","tags":{},"value":4}"#,
            r#"{"kind":"gauge","name":"g","tags":{},"value":7}"#,
            r#"{"kind":"gauge_delta","name":"g","tags":{},"value":-10}"#,
            r#"{"kind":"set","name":"s","tags":{},"value":"ann"}"#,
            r#"{"kind":"set","name":"s","tags":{},"value":"bob"}"#,
            r#"{"kind":"set","name":"s","tags":{},"value":"ann"}"#,
        ]);
        let wanted = [
            ("stats.counters.c.count", 2.5),
            ("stats.counters.c.rate", 0.25),
            ("stats.gauges.g", -3.0),
            ("stats.sets.s.count", 2.0),
        ];
        assert!(expected.iter().map(|(path, value)| (path.as_str(), *value)).eq(wanted));
    }
}
