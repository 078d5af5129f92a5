//! Row 9: the wall clock jumps, creeps, and goes through the days on which clocks are changed.

use crate::board::{Outcome, step};
use crate::books::Books;
use crate::feed::{Feed, LINES, To, kernel};
use crate::support::clock::Clock;
use crate::support::sink::{Points, sum_of};
use crate::support::{Launch, Sink, Tallyd, http, time, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Wide enough that a bucket is cut in two by most jumps.
const WIDTH: i64 = 2;

/// Sets a clock to this second.
fn stand_at(clock: &mut Clock, unix_secs: i64) {
    clock.jump((unix_secs - time::unix_secs()) * 1_000 - clock.ahead_ms);
}

pub(crate) fn jumps(outcome: &mut Outcome) {
    let graphite = Sink::start();
    let toml = format!(
        "[flush]\nbucket = \"{WIDTH}s\"\ngrace = \"200ms\"\namend_window = \"3h\"\n[rollup]\nkeep = {{ \"2s\" = \"6h\" }}\n\
         figures = {{ \"2s\" = \"6h\" }}\n[graphite]\naddress = [\"{}\"]\n",
        graphite.address()
    );
    let (launch, mut clock) = Clock::of(Launch::native(&toml).with_store());
    let mut tallyd = launch.start();
    let feed = Feed::start(&To::Udp(launch.ports.statsd), 6_000);
    let rest = |millis| time::sleep(Duration::from_millis(millis));
    rest(3_000);
    let mut jumps = 0;
    for seconds in [3_600, -3_600, 90, -90, -3_600, 3_600, -90, 90, -1, 1] {
        clock.jump(seconds * 1_000);
        jumps += 1;
        // Not in step with buckets.
        rest(2_300 + jumps * 170);
    }
    step("in steps of 10 ms");
    for step in 0..400 {
        clock.jump(if step % 100 < 50 { 10 } else { -10 });
        rest(20);
    }
    let sent = feed.stop() * LINES;
    let drops = kernel(launch.ports.statsd).0 * LINES;
    wait_until(Duration::from_secs(10), || Books::read(&tallyd).counted + drops >= sent);
    let books = Books::read(&tallyd);
    let steps = books.json["ticks"]["clock_steps"].as_u64().unwrap_or(0);
    let runs = tallyd.process.is_running();
    let code = tallyd.sigterm();
    let points = graphite.points();
    let found: f64 = (0..LINES).map(|n| sum_of(&points, &path(n))).sum();
    outcome.figure(format!("{jumps} jumps (± 1 h, ± 90 s, ± 1 s; {steps} seen) and 400 steps of 10 ms: {sent} lines, counted {}, at Graphite {found}, dropped by the kernel {drops}", books.counted));
    outcome.unexplained(sent as i64 - (books.counted + drops) as i64);
    outcome.unexplained(books.counted as i64 - found as i64);
    outcome.require(runs && code == Some(0), format!("exit code {code:?}"));
    outcome.require(found == books.counted as f64, format!("{found} of {} at Graphite", books.counted));
    let misfits = misfits(&graphite, &points);
    outcome.require(misfits.is_empty(), misfits);
    for (day, zone) in [(1_792_879_200, "2026-10-25, 25 hours"), (1_806_188_400, "2027-03-28, 23 hours")] {
        changed_day(outcome, day, zone);
    }
}

fn path(n: u64) -> String {
    format!("stats.counters.hits.n{n}.count")
}

/// Of the counters, and not of tallyd's own figures, which say how its sender stands at a moment that is no bucket's:
/// no value below zero, none where no bucket begins, none that was replaced by less.
fn misfits(graphite: &Sink, points: &Points) -> String {
    let points = || points.iter().filter(|((path, _), _)| path.starts_with("stats.counters.hits."));
    let negative = points().filter(|(_, value)| **value < 0.0).count();
    let astray: Vec<_> = points().filter(|((_, at), _)| at % WIDTH != 0).collect();
    let mut highest: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut less = 0;
    for line in graphite.lines() {
        let fields: Vec<&str> = line.text.split(' ').collect();
        let count = fields[0].strip_suffix(".count").unwrap_or_default();
        if !count.starts_with("stats.counters.hits.") {
            continue;
        }
        let value: f64 = fields[1].parse().expect("a number");
        let highest = highest.entry((fields[0].to_owned(), fields[2].to_owned())).or_insert(value);
        less += u64::from(value < *highest);
        *highest = highest.max(value);
    }
    if negative + astray.len() == 0 && less == 0 {
        return String::new();
    }
    format!(
        "{negative} negative values, {} stamps that are no bucket's (such as {:?}), {less} values replaced by less",
        astray.len(),
        astray.first()
    )
}

/// Orders before, in and after a day of Berlin on which clocks are changed; `midnight` is when it begins.
fn changed_day(outcome: &mut Outcome, midnight: i64, what: &str) {
    let hours = if what.contains("25") && !what.contains("23 hours") { 25 } else { 23 };
    let toml = "[company]\ntimezone = \"Europe/Berlin\"\n[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[rollup]\n\
                keep = { \"1s\" = \"6h\", \"1m\" = \"7d\" }\nfigures = { \"1m\" = \"40d\", \"1d\" = \"10y\" }\n\
                [[figure]]\nid = \"orders\"\nmetric = \"orders\"\n[graphite]\naddress = []\n";
    let (launch, mut clock) = Clock::of(Launch::native(toml));
    stand_at(&mut clock, midnight - 60);
    let tallyd = launch.start();
    let end = midnight + hours * 3_600;
    // Just before and after midnight, the change at one o'clock UTC, and the next midnight; and so many orders each.
    let change = (midnight / 86_400 + 1) * 86_400 + 3_600;
    let moments = [
        (midnight - 4, 1),
        (midnight + 3, 10),
        (change - 4, 100),
        (change + 3, 1_000),
        (end - 4, 10_000),
        (end + 3, 100_000),
    ];
    for (at, orders) in moments {
        stand_at(&mut clock, at);
        time::sleep(Duration::from_millis(700));
        tallyd.send_udp(format!("orders:{orders}|c").as_bytes());
        time::sleep(Duration::from_millis(1_500));
    }
    let wanted = [1.0, 11_110.0, 100_000.0];
    let mut found = Vec::new();
    let right = wait_until(Duration::from_secs(20), || {
        found = days(&tallyd, midnight - 3_600, end + 60);
        found == wanted
    });
    outcome.figure(format!("{what}: days hold {found:?} of {wanted:?}"));
    let (sum, all) = (found.iter().sum::<f64>(), wanted.iter().sum::<f64>());
    outcome.unexplained((all - sum) as i64);
    outcome.require(right, format!("{what}: {found:?}"));
}

fn days(tallyd: &Tallyd, from: i64, to: i64) -> Vec<f64> {
    let asked = http::get(
        tallyd.ports.http,
        &format!("/api/v1/query?name=orders&step=1d&stat=sum&from={from}&to={to}"),
    );
    let answer: Value =
        serde_json::from_str(&asked.map(|reply| reply.body).unwrap_or_default()).unwrap_or_default();
    let points = answer["series"][0]["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter_map(|point| point[1].as_f64()).collect()
}
