//! `/metrics/series`: what was sent is what a real Prometheus has, kind by kind, and the answer stays within its
//! bounds.

use crate::books::Books;
use crate::support::prometheus::Prometheus;
use crate::support::{Launch, wait_until};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

const SCRAPED_DEADLINE: Duration = Duration::from_secs(30);

fn launch(more: &str) -> Launch {
    Launch::native(&format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"100ms\"\n[graphite]\naddress = []\n[http]\nseries = true\n{more}"
    ))
}

fn value_of(found: &[(Value, f64)]) -> Option<f64> {
    match found {
        [(_, value)] => Some(*value),
        _ => None,
    }
}

#[test]
fn prometheus_has_what_was_sent() {
    let tallyd = launch("").start();
    for _ in 0..1_000 {
        tallyd.send_udp(b"shop.revenue:0.10|c\nshop.orders:1|c|#plan:pro,quantile:a\"b");
    }
    tallyd.send_udp(b"shop.time:10|ms|@0.5\nshop.time:40|ms\nshop.stock:-0|g\nshop.stock:+7|g\n9.lives:9|c");
    let total = 2_005;
    let books = Books::wait_total(&tallyd, total);
    assert_eq!((books.counted, books.kernel_drops), (total, 0), "{books:?}");
    let prometheus = Prometheus::start("shop", tallyd.ports.http, "/metrics/series");
    // Sets and quantiles speak of the last whole bucket, so they are sent until they are seen.
    let live = [
        ("shop_visitors_uniques", 2.0),
        ("shop_latency{quantile=\"0.9\"}", 20.0),
        ("shop_latency{quantile=\"0.5\"}", 20.0),
    ];
    let lasting = [
        ("shop_revenue_total", 100.0),
        ("shop_orders_total{plan=\"pro\",tag_quantile=\"ab\"}", 1_000.0),
        ("shop_time_sum", 60.0),
        ("shop_time_count", 3.0),
        ("shop_stock", 7.0),
        ("_9_lives_total", 9.0),
        ("tallyd_series_left_out{reason=\"limit\"}", 0.0),
        ("tallyd_series_left_out{reason=\"name\"}", 0.0),
    ];
    let mut wrong = Vec::new();
    let right = wait_until(SCRAPED_DEADLINE, || {
        tallyd.send_udp(b"shop.visitors:a|s\nshop.visitors:b|s\nshop.latency:20|ms");
        crate::support::time::sleep(Duration::from_millis(100));
        let asked = live.iter().chain(&lasting);
        let answers = asked.map(|(name, wanted)| (name, value_of(&prometheus.query(name)), *wanted));
        wrong = answers.filter(|(_, got, wanted)| *got != Some(*wanted)).collect();
        wrong.is_empty()
    });
    assert!(right, "{wrong:?}\n{}", tallyd.http_get("/metrics/series").body);

    let text = tallyd.http_get("/metrics/series").body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: run tests/setup");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_name_that_is_taken_and_a_series_too_many_are_left_out_and_counted() {
    let tallyd = launch("series_max = 12").start();
    tallyd.send_udp(b"a.b:1|c\na-b:1|c\nx:1|ms\nx_count:4|g");
    Books::wait_total(&tallyd, 4);
    for number in 0..20 {
        tallyd.send_udp(format!("many.{number}:1|c").as_bytes());
    }
    Books::wait_total(&tallyd, 24);
    let text = tallyd.http_get("/metrics/series").body;
    assert_eq!(text.matches("\na_b_total ").count(), 1, "{text}");
    assert!(!text.contains("TYPE x_count "), "{text}");
    assert!(text.contains("tallyd_series_left_out{reason=\"name\"} 2\n"), "{text}");
    let exported = text.lines().find_map(|line| line.strip_prefix("tallyd_series_exported ")).unwrap();
    // Twelve totals and one gauge, less the two whose names are taken; tallyd's own are among the twelve.
    assert_eq!(exported, "11", "{text}");
    assert!(!text.contains("{reason=\"limit\"} 0\n"), "{text}");
}

#[test]
fn nothing_is_shown_unless_it_is_asked_for() {
    let tallyd = Launch::native("[graphite]\naddress = []").start();
    let reply = tallyd.http_get("/metrics/series");
    assert_eq!((reply.status, reply.body.as_str()), (404, "off: http.series = true turns it on\n"));
}
