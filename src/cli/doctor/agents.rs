//! What carbon says of itself (`carbon.agents.*`), asked of graphite-web if its address was given.
//!
//! carbon drops points in silence: of names that it may not make yet, and of a cache that is full. Its own figures
//! are where that is seen.

use super::{PATIENCE, Patient, Report};
use crate::cli::ask::{Answer, send};
use crate::clock::Clock;
use serde_json::Value;
use std::io;
use std::net::ToSocketAddrs as _;

/// Up to so many seconds back a value counts as present.
const SPAN_SECS: u64 = 900;
/// More than this between its clock and ours, and buckets do not meet, in milliseconds.
const SKEW_MS_MAX: i64 = 2_000;
/// A cache that holds so many times what is written between two reports is falling behind.
const BEHIND: f64 = 10.0;

/// What each figure means if it is above zero, and what to do.
const FIGURES: [(&str, &str, &str); 3] = [
    (
        "droppedCreates",
        "points of new names were dropped, since carbon may make only so many files a minute",
        "set MAX_CREATES_PER_MINUTE = inf in carbon.conf and restart carbon",
    ),
    (
        "cache.overflow",
        "points were dropped, since carbon's cache was full",
        "raise MAX_CACHE_SIZE and MAX_UPDATES_PER_SECOND in carbon.conf, or give carbon a faster disk",
    ),
    (
        "errors",
        "writes to whisper's files failed",
        "look into carbon's log: a full disk, rights, or a damaged file",
    ),
];

pub(super) fn check(patient: &Patient, report: &mut Report) {
    let Some(url) = &patient.render else {
        if !patient.loaded.config.graphite.addresses.is_empty() {
            report.note(
                "not asked; --render http://GRAPHITE-WEB lets the doctor look at what carbon says of itself",
            );
        }
        return;
    };
    let answer = match render(url) {
        Ok(answer) => answer,
        Err(error) => {
            report.finding(
                format!("{url} does not answer: {error}"),
                "give --render the address of graphite-web, such as http://graphite.example:8080",
            );
            return;
        }
    };
    skew(report, url, &answer);
    let Some(series) = serde_json::from_str::<Value>(&answer.body).ok().filter(|_| answer.code == 200) else {
        report.finding(
            format!("{url} does not answer as graphite-web does: {}", answer.status),
            "give --render the address of graphite-web, such as http://graphite.example:8080",
        );
        return;
    };
    judge(report, &series);
}

fn render(url: &str) -> io::Result<Answer> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "the doctor speaks http:// only");
    let (host, path) = match url.strip_prefix("http://").ok_or_else(other)? {
        rest if rest.contains('/') => rest.split_once('/').unwrap_or((rest, "")),
        rest => (rest, ""),
    };
    let named = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let address = named.to_socket_addrs()?.next().ok_or_else(none)?;
    let base = path.trim_matches('/');
    let slash = if base.is_empty() { "" } else { "/" };
    let mut target = format!("{slash}{base}/render?format=json&noCache=1&from=-{SPAN_SECS}s");
    for (figure, ..) in FIGURES {
        target.push_str("&target=carbon.agents.*.");
        target.push_str(figure);
    }
    target.push_str("&target=carbon.agents.*.cache.size&target=carbon.agents.*.committedPoints");
    send(address, host, "GET", &target, &[], PATIENCE)
}

/// The time in its answer beside ours; both are whole seconds at best.
fn skew(report: &mut Report, url: &str, answer: &Answer) {
    let date = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    });
    let Some(theirs) = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(&date).ok()) else {
        return;
    };
    let apart = Clock::system().now() - theirs.timestamp_millis();
    if (apart - 500).abs() > SKEW_MS_MAX {
        report.finding(
            format!("the clock of {url} and this machine's are {} s apart", (apart - 500).abs() / 1_000),
            "keep both by NTP: timedatectl set-ntp true, or chrony",
        );
    }
}

/// The last value of each series that has one, with its name.
fn last_values(series: &Value) -> Vec<(String, f64)> {
    let last = |one: &Value| {
        let points = one.get("datapoints")?.as_array()?;
        let value = points.iter().rev().find_map(|point| point.get(0)?.as_f64())?;
        Some((one.get("target")?.as_str()?.to_owned(), value))
    };
    series.as_array().into_iter().flatten().filter_map(last).collect()
}

/// The sum of what a series had in the span: carbon reports what came since its last report.
fn sum(one: &Value) -> f64 {
    let points = one.get("datapoints").and_then(Value::as_array);
    points.into_iter().flatten().filter_map(|point| point.get(0)?.as_f64()).sum()
}

fn judge(report: &mut Report, series: &Value) {
    let lasts = last_values(series);
    if lasts.is_empty() {
        report.note(
            "graphite-web has no carbon.agents.* of the last quarter of an hour (CARBON_METRIC_INTERVAL)",
        );
        return;
    }
    let mut wrong = 0;
    for one in series.as_array().into_iter().flatten() {
        let name = one.get("target").and_then(Value::as_str).unwrap_or_default();
        let figure = FIGURES.iter().find(|(figure, ..)| name.ends_with(&format!(".{figure}")));
        if let (Some((_, what, cure)), count @ 1.0..) = (figure, sum(one)) {
            wrong += 1;
            report.finding(format!("{name} is {count} in the last quarter of an hour: {what}"), *cure);
        }
    }
    for (name, size) in lasts.iter().filter(|(name, _)| name.ends_with(".cache.size")) {
        let agent = name.trim_end_matches("cache.size");
        let written = lasts.iter().find(|(other, _)| *other == format!("{agent}committedPoints"));
        if let Some((_, written)) = written.filter(|(_, written)| *written > 0.0 && size / written > BEHIND) {
            wrong += 1;
            report.finding(
                format!("{name} is {size}, and carbon writes {written} points between two reports: it falls behind"),
                "raise MAX_UPDATES_PER_SECOND in carbon.conf, or give carbon a faster disk",
            );
        }
    }
    if wrong == 0 {
        report.good("carbon says that it dropped nothing and keeps up");
    }
}
