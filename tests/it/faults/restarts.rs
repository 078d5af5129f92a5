//! Restarts with a store on disk, as Graphite sees them: a bucket that was cut in two is stated whole, gauges and
//! idle series go on, and what could not be delivered is delivered by the next process.

use super::durability::{durable, on_disk_to};
use crate::support::sink::{self, Points};
use crate::support::{Launch, Sink, Tallyd, time};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
/// What came before is in the journal by then.
const A_FEW_TICKS: Duration = Duration::from_millis(800);

/// A way to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stop,
    Kill,
}

fn end(tallyd: Tallyd, how: End) {
    match how {
        End::Stop => assert_eq!(tallyd.sigterm(), Some(0)),
        End::Kill => tallyd.kill9(),
    }
}

fn at_path(points: &Points, path: &str) -> BTreeMap<i64, f64> {
    points.iter().filter(|((name, _), _)| name == path).map(|((_, at), value)| (*at, *value)).collect()
}

/// Three restarts inside one bucket of ten seconds: what a stop states unfinished is replaced by the whole.
#[test]
fn a_bucket_with_restarts_inside_is_stated_whole() {
    for how in [End::Stop, End::Kill] {
        let graphite = Sink::start();
        let folder = tempfile::tempdir().unwrap();
        let launch = on_disk_to(&folder.path().join("store"), "10s", &graphite.address());
        time::sleep_until((time::unix_secs() / 10 + 1) * 10, Duration::from_millis(300));
        let bucket = time::unix_secs() / 10 * 10;
        let mut tallyd = launch.start();
        for round in 1..=4 {
            tallyd.send_udp(format!("orders:{round}|c\nlatency:{round}|ms\nusers:u{round}|s").as_bytes());
            time::sleep(A_FEW_TICKS);
            if round < 4 {
                end(tallyd, how);
                tallyd = launch.start();
            }
        }
        assert_eq!(time::unix_secs() / 10 * 10, bucket, "this machine is too slow for the test");
        let wanted = [
            ("stats.counters.orders.count", 10.0),
            ("stats.timers.latency.count", 4.0),
            ("stats.timers.latency.upper", 4.0),
            ("stats.timers.latency.sum", 10.0),
            ("stats.sets.users.count", 4.0),
        ];
        let whole = |points: &Points| {
            wanted.iter().all(|(path, value)| at_path(points, path).values().sum::<f64>() == *value)
        };
        let found = graphite.wait_for(DEADLINE, whole);
        assert!(found.is_some(), "{how:?}: {:?}", wanted.map(|(path, _)| at_path(&graphite.points(), path)));
        assert_eq!(at_path(&graphite.points(), wanted[0].0).len(), 1, "{how:?}: it stands in its own bucket");
        let status: Value = serde_json::from_str(&tallyd.http_get("/api/v1/status").body).unwrap();
        assert_eq!(status["store"]["restarts_in_bucket"], 0, "nothing was lost by it");
    }
}

fn known(tallyd: &Tallyd) -> Vec<String> {
    let answer: Value = serde_json::from_str(&tallyd.http_get("/api/v1/series?match=shop.**").body).unwrap();
    let lines = answer["series"].as_array().unwrap().iter();
    lines.map(|line| format!("{} {}", line["kind"], line["name"])).collect()
}

/// Waits until `path` has this value in a bucket that is newer than all there were; returns its second.
fn newer(graphite: &Sink, path: &str, value: f64) -> i64 {
    let last = at_path(&graphite.points(), path).last_key_value().map_or(0, |(at, _)| *at);
    let is_there =
        |points: &Points| at_path(points, path).range(last + 1..).any(|(_, found)| *found == value);
    let found = graphite.wait_for(DEADLINE, is_there);
    assert!(found.is_some(), "{path} {value} behind {last}: {:?}", at_path(&graphite.points(), path));
    *at_path(&graphite.points(), path).last_key_value().unwrap().0
}

#[test]
fn gauges_idle_series_and_the_list_of_series_survive_stops_and_kills() {
    let graphite = Sink::start();
    let folder = tempfile::tempdir().unwrap();
    let launch = on_disk_to(&folder.path().join("store"), "1s", &graphite.address());
    let mut tallyd = launch.start();
    tallyd.send_udp(b"shop.stock:7|g\nshop.stock:+3|g\nshop.orders:5|c\nshop.time:20|ms\nshop.users:a|s");
    newer(&graphite, "stats.gauges.shop.stock", 10.0);
    let series = known(&tallyd);
    assert_eq!(series.len(), 4, "{series:?}");
    let mut stock = 10.0;
    for how in [End::Kill, End::Stop, End::Kill, End::Kill] {
        tallyd.send_udp(b"shop.stock:+1|g");
        stock += 1.0;
        time::sleep(A_FEW_TICKS);
        end(tallyd, how);
        tallyd = launch.start();
        assert_eq!(known(&tallyd), series, "{how:?}");
        // Nobody sends anything: idle series go on.
        newer(&graphite, "stats.gauges.shop.stock", stock);
        newer(&graphite, "stats.counters.shop.orders.count", 0.0);
        newer(&graphite, "stats.timers.shop.time.count", 0.0);
        newer(&graphite, "stats.sets.shop.users.count", 0.0);
        // A change of a gauge starts where it stood.
        tallyd.send_udp(b"shop.stock:-2|g");
        stock -= 2.0;
        newer(&graphite, "stats.gauges.shop.stock", stock);
    }
    let orders = at_path(&graphite.points(), "stats.counters.shop.orders.count");
    assert_eq!(orders.values().sum::<f64>(), 5.0, "{orders:?}");
}

#[test]
fn what_a_stop_could_not_deliver_the_next_process_does() {
    let mut graphite = Sink::start();
    let folder = tempfile::tempdir().unwrap();
    let launch: Launch = on_disk_to(&folder.path().join("store"), "1s", &graphite.address());
    graphite.stop();
    let tallyd = launch.start();
    for _ in 0..3 {
        tallyd.send_udp(b"orders:4|c");
        time::sleep(Duration::from_millis(1_100));
    }
    durable(&tallyd, true);
    let stopped = time::now();
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is lost: the store keeps it");
    assert!(stopped.elapsed() < Duration::from_secs(6), "{:?}", stopped.elapsed());
    let log = crate::books::log(&launch);
    assert!(log.contains("Graphite has not confirmed; the store keeps them"), "{log}");
    // Still away: it stops as well as before, and nothing goes.
    assert_eq!(launch.start().sigterm(), Some(0));
    graphite.start_again();
    let tallyd = launch.start();
    let path = "stats.counters.orders.count";
    let all = graphite.wait_for(DEADLINE, |points| sink::sum_of(points, path) == 12.0);
    assert!(all.is_some(), "{:?}", at_path(&graphite.points(), path));
    assert_eq!(tallyd.sigterm(), Some(0));
    let found = at_path(&graphite.points(), path);
    assert!(found.values().filter(|value| **value == 4.0).count() == 3, "each in its own bucket: {found:?}");
}
