//! The main path, for real: unmodified clients, the built program, and a real Graphite read through
//! `/render`.
//!
//! What the clients say they meant is tallied here by plain arithmetic, and every series must read back as
//! that tally: counters, gauges, sets and all figures of timers, with tags and without. Nothing else may
//! have appeared under the clients' names.

use crate::support::truth::{self, Expected, Operation, Rules};
use crate::support::{Graphite, Launch, Rendered, clients, time, wait_until};
use std::collections::BTreeMap;
use std::time::Duration;

/// Operations of each of the four clients in one bucket; timers stay below 512 values a series.
const OPERATIONS_EACH: usize = 5_000;
/// The time that tallyd gets to read what the kernel holds when the last client has ended.
const SETTLE: Duration = Duration::from_secs(1);
/// carbon creates files and posts tags one after the other, at some hundred a second on a busy machine.
const READ_BACK_DEADLINE: Duration = Duration::from_secs(90);
/// So many targets go into one request.
const TARGETS_MAX: usize = 200;
const HOUR_SECS: i64 = 3_600;
const MINUTE_SECS: i64 = 60;
/// A run that would cross the hour waits for the next one.
const BORDER_SECS: i64 = MINUTE_SECS;

/// With one bucket for the whole run, which the drain states as far as it has come, uniques and percentiles
/// are comparable as a whole.
#[test]
fn every_figure_of_real_clients_reads_back_from_graphite() {
    let graphite = Graphite::start("1m:6h");
    let launch = Launch::native(&format!(
        r#"
        [flush]
        bucket = "1h"
        grace = "500ms"
        [graphite]
        address = ["{}"]
        naming = "statsd"
        [timers]
        percentiles = [90, 50, 99.9, -10]
        "#,
        graphite.plaintext_addr(),
    ));
    let bucket = hour_with_room();
    let tallyd = launch.start();
    let operations = clients::send_all(launch.ports.statsd, 1, OPERATIONS_EACH);
    time::sleep(SETTLE);
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");

    let rules = Rules { bucket_secs: HOUR_SECS as f64, percentiles: vec![90.0, 50.0, 99.9, -10.0] };
    let expected = truth::expect_bucket(&operations, &rules);
    assert_reads_back(&graphite, &expected, bucket - MINUTE_SECS, bucket, last_value);
    assert_nothing_else(&graphite, &expected);
    assert_found_by_tags(&graphite, &truth::expect_counts(&operations), bucket);
}

/// With buckets of a second, what counts is the sum over time, and a gauge's last value.
#[test]
fn counters_add_up_over_buckets_sent_as_pickles() {
    let graphite = Graphite::start("1s:1h");
    let launch = Launch::native(&format!(
        r#"
        [flush]
        bucket = "1s"
        grace = "200ms"
        [graphite]
        address = ["{}"]
        protocol = "pickle"
        "#,
        graphite.pickle_addr(),
    ));
    let tallyd = launch.start();
    let started = time::unix_secs();
    let mut operations: Vec<Operation> = Vec::new();
    for seed in 2..5 {
        operations.extend(clients::send_all(launch.ports.statsd, seed, 500));
        time::sleep(Duration::from_secs(1));
    }
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");

    let until = time::unix_secs() + 1;
    let counts = truth::expect_counts(&operations);
    assert_reads_back(&graphite, &counts, started - 2, until, sum);
    assert_reads_back(&graphite, &truth::expect_gauges(&operations), started - 2, until, last_value);
    let (path, _) = counts.first_key_value().expect("the clients count");
    let (_, points) = graphite.render(path, started - 2, until).remove(0);
    let busy_count = points.iter().filter(|(value, _)| value.is_some_and(|value| value != 0.0)).count();
    assert!(busy_count >= 3, "three rounds a second apart are in buckets of their own: {points:?}");
}

/// Start of the present hour, which has more than [`BORDER_SECS`] left.
fn hour_with_room() -> i64 {
    let now = time::unix_secs();
    let left = HOUR_SECS - now % HOUR_SECS;
    if left > BORDER_SECS {
        return now - now % HOUR_SECS;
    }
    println!("waits {left} s, so that the hour does not end during the test");
    time::sleep_until(now + left, Duration::from_millis(100));
    now + left
}

fn last_value(points: &[(Option<f64>, i64)]) -> Option<f64> {
    points.iter().rev().find_map(|(value, _)| *value)
}

fn sum(points: &[(Option<f64>, i64)]) -> Option<f64> {
    points.iter().filter_map(|(value, _)| *value).reduce(|left, right| left + right)
}

/// Reads every expected path between `from` (exclusive) and `until`; `reduce` makes one value of its points.
/// What is not there yet, or not complete, is asked for again.
fn assert_reads_back(
    graphite: &Graphite,
    expected: &Expected,
    from: i64,
    until: i64,
    reduce: impl Fn(&[(Option<f64>, i64)]) -> Option<f64>,
) {
    let mut open: BTreeMap<&str, f64> =
        expected.iter().map(|(path, value)| (path.as_str(), *value)).collect();
    let mut found: BTreeMap<String, Option<f64>> = BTreeMap::new();
    let all_right = wait_until(READ_BACK_DEADLINE, || {
        let paths: Vec<String> = open.keys().map(|path| (*path).to_owned()).collect();
        for targets in paths.chunks(TARGETS_MAX) {
            let rendered = graphite.render_all(targets, from, until);
            found.extend(rendered.into_iter().map(|(path, points): Rendered| (path, reduce(&points))));
        }
        let value_of = |path: &str| found.get(path).copied().flatten();
        open.retain(|path, wanted| !value_of(path).is_some_and(|got| truth::is_close(got, *wanted)));
        open.is_empty()
    });
    println!("{} of {} series read back as expected", expected.len() - open.len(), expected.len());
    let wrong: Vec<_> = open.iter().take(20).map(|(path, wanted)| (path, wanted, found.get(*path))).collect();
    assert!(all_right, "{} series differ, such as (path, wanted, found): {wrong:#?}", open.len());
}

/// Graphite's files under the clients' names are just the expected ones.
fn assert_nothing_else(graphite: &Graphite, expected: &Expected) {
    let of_a_client = |path: &String| clients::PREFIXES.iter().any(|prefix| path.contains(prefix));
    let unexpected = |path: &String| of_a_client(path) && !expected.contains_key(path);
    let surplus: Vec<String> = graphite.untagged_paths().into_iter().filter(unexpected).collect();
    assert!(surplus.is_empty(), "nobody sent these: {surplus:?}");
}

/// Tagged series are found by name and tags too: carbon has told graphite-web of each.
fn assert_found_by_tags(graphite: &Graphite, counts: &Expected, bucket: i64) {
    let tagged: Vec<_> = counts.iter().filter(|(path, _)| path.contains(';')).collect();
    assert!(tagged.len() > 20, "the clients send tags");
    for (path, wanted) in tagged.into_iter().step_by(5) {
        let fields: Vec<String> =
            format!("name={path}").split(';').map(|field| format!("'{field}'")).collect();
        let target = format!("seriesByTag({})", fields.join(","));
        let found = wait_until(READ_BACK_DEADLINE, || {
            let series = graphite.render(&target, bucket - MINUTE_SECS, bucket);
            let same = series.iter().find(|(name, _)| name == path);
            same.and_then(|(_, points)| last_value(points)).is_some_and(|got| truth::is_close(got, *wanted))
        });
        assert!(found, "{target} does not give {wanted}");
    }
}
