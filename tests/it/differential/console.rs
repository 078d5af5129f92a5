//! The management console of both programs, command by command.
//!
//! Answers are compared as what they mean: dumps of JavaScript objects as maps, `stats` as names and the
//! values that do not depend on the clock, everything else as text. The flush interval is an hour, so that
//! no flush falls between the samples and the commands.

use super::original::Program::{Original, Tallyd};
use super::original::Server;
use super::setup::Setup;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;
const SAMPLES: &[&[u8]] = &[
    b"a.b:1|c\na.c:2.5|c\nother:3|c|@0.5",
    b"t.one:1|ms\nt.one:20|ms\nt.one:3|ms\nt.two:0.5|ms\nx-y:7|ms",
    b"g.one:-5|g\ng.two:7.25|g\ng-three:1e3|g\ng.one:+7|g",
    b"bad line\nbad:x|c",
];
/// A console may show what its threads handed over at their last tick, so it gets a few ticks.
const SETTLE: Duration = Duration::from_millis(800);

fn pair(setup: &Setup) -> [Server; 2] {
    let pair = [Original, Tallyd].map(|program| Server::start(program, setup));
    // `server is up` may be said a moment before the socket is bound.
    std::thread::sleep(SETTLE);
    for server in &pair {
        for datagram in SAMPLES {
            server.send(datagram);
        }
    }
    std::thread::sleep(SETTLE);
    pair
}

fn ask(pair: &[Server; 2], command: &str) -> [String; 2] {
    pair.each_ref().map(|server| server.console(command))
}

fn assert_same_text(pair: &[Server; 2], command: &str) {
    let [original, tallyd] = ask(pair, command);
    assert_eq!(original, tallyd, "{command:?}");
}

fn assert_same_dump(pair: &[Server; 2], command: &str) {
    let [original, tallyd] = ask(pair, command).map(|answer| dump(&answer));
    assert_eq!(original, tallyd, "{command:?}");
}

/// A map of names to values, or to sorted lists of values, since nobody relies on a timer's order.
fn dump(answer: &str) -> BTreeMap<String, Vec<f64>> {
    let object = answer.strip_suffix("END\n\n").unwrap_or_else(|| panic!("no END: {answer:?}"));
    let object: BTreeMap<String, Value> =
        json5::from_str(object).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let numbers = |value: Value| match value {
        Value::Array(values) => {
            let mut values: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
            values.sort_by(f64::total_cmp);
            values
        }
        value => vec![value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))],
    };
    object.into_iter().map(|(name, value)| (name, numbers(value))).collect()
}

/// `name: number` lines up to the end.
fn figures(answer: &str) -> BTreeMap<&str, f64> {
    let lines = answer.strip_suffix("END\n\n").unwrap_or_else(|| panic!("no END: {answer:?}")).lines();
    let figure = |line| {
        let (name, value): (&str, &str) = str::split_once(line, ": ").expect("a name and a value");
        (name, value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
    };
    lines.map(figure).collect()
}

#[test]
fn dumps_and_deletions_agree() {
    let pair = pair(&Setup::plain(HOUR_MS));
    for command in ["counters", "timers", "gauges"] {
        assert_same_dump(&pair, command);
    }
    for command in [
        "delcounters",
        "delcounters a.b",
        "delcounters a.b",
        "delcounters other missing",
        "deltimers t.*",
        "deltimers nothing.*",
        "delgauges g.one g-three",
        "delgauges g",
        "deltimers t.*",
    ] {
        assert_same_text(&pair, command);
    }
    for command in ["counters", "timers", "gauges"] {
        assert_same_dump(&pair, command);
    }
}

#[test]
fn words_agree() {
    let pair = pair(&Setup::plain(HOUR_MS));
    for command in [
        "help",
        "health",
        "health down",
        "health",
        "health maybe",
        "health UP",
        "health",
        "nonsense",
        "HELP",
        "",
        "delsets a",
        "sets",
        " help ",
    ] {
        assert_same_text(&pair, command);
    }
}

#[test]
fn stats_agree() {
    let pair = pair(&Setup::plain(HOUR_MS));
    let answers = ask(&pair, "stats");
    let [original, tallyd] = answers.each_ref().map(|answer| figures(answer));
    assert_eq!(original.keys().collect::<Vec<_>>(), tallyd.keys().collect::<Vec<_>>());
    assert_eq!(original["messages.bad_lines_seen"], 2.0);
    assert_eq!(tallyd["messages.bad_lines_seen"], 2.0);
    for name in ["uptime", "messages.last_msg_seen", "graphite.last_flush"] {
        assert!(
            (original[name] - tallyd[name]).abs() <= 10.0,
            "{name}: {} and {}",
            original[name],
            tallyd[name]
        );
    }
    // No exception yet: both print how long ago 1970 was.
    assert!((original["graphite.last_exception"] - tallyd["graphite.last_exception"]).abs() <= 10.0);
}

#[test]
fn config_says_what_the_file_says() {
    let setup = Setup::plain(HOUR_MS)
        .with("percentThreshold", "[50, 90]")
        .with("deleteGauges", "true")
        .with("prefixStats", "'own'");
    let [original, tallyd] = ask(&pair(&setup), "config");
    assert!(original.starts_with('\n') && tallyd.starts_with('\n'), "the first line is empty");
    let ours: Vec<&str> = tallyd.lines().collect();
    for line in original.lines() {
        let key = line.split(": ").next().unwrap_or_default();
        let computed = ["gaugesMaxTTL", "deleteIdleStats"].contains(&key);
        if key.to_lowercase().ends_with("port") || key == "mgmt_port" {
            let named = format!("{key}: ");
            assert!(ours.iter().any(|line| line.starts_with(&named)), "{key} is missing: {tallyd}");
        } else if !computed {
            assert!(ours.contains(&line), "{line:?} is missing: {tallyd}");
        }
    }
}

#[test]
fn dumps_are_read_as_they_are_printed() {
    let answer = "{\n  'a.b': 1,\n  plain: -0.5,\n  t: [ 3, 1, 2 ],\n  empty: []\n}\nEND\n\n";
    let expected = [("a.b", vec![1.0]), ("empty", vec![]), ("plain", vec![-0.5]), ("t", vec![1.0, 2.0, 3.0])];
    assert_eq!(dump(answer), expected.map(|(name, values)| (name.to_owned(), values)).into());
}
