//! `/metrics`, the dashboard and the alerts that stand on it, judged by Debian's Prometheus and its promtool.

use super::dashboards::Board;
use super::printed;
use crate::books::Books;
use crate::redis::nodes::node;
use crate::redis::server::{APPEND, Server};
use crate::support::prometheus::Prometheus;
use crate::support::{Launch, Sink, Tallyd, repository, time, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tallyd::health::Refusal;

/// Prometheus has scraped often enough for a rate.
const SCRAPED_DEADLINE: Duration = Duration::from_secs(40);

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: run tests/setup");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn running(graphite: &Sink) -> Tallyd {
    let launch = Launch::native("[flush]\nbucket = \"1s\"\ngrace = \"100ms\"");
    launch.env("TALLYD_GRAPHITE_ADDRESS", &graphite.address()).start()
}

/// Names of an exposition with their types.
fn exposed(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|rest| rest.split_once(' ').unwrap()).map(|(name, kind)| (name.into(), kind.into())).collect()
}

/// The names of tallyd's own metrics in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("tallyd_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let graphite = Sink::start();
    let tallyd = running(&graphite);
    let text = tallyd.http_get("/metrics").body;
    let output = promtool(&["check", "metrics"], &text);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    let bad = promtool(&["check", "metrics"], "# TYPE shop_orders counter\nshop_orders 1\n");
    assert!(!bad.status.success(), "promtool finds what is wrong");
}

/// What a node by itself exposes, and one on Redis.
fn everything_exposed() -> BTreeMap<String, String> {
    let (graphite, redis) = (Sink::start(), Server::start(&APPEND));
    let mut all = exposed(&running(&graphite).http_get("/metrics").body);
    let shared = node(&redis.url(), Some(&graphite), "").start();
    all.extend(exposed(&shared.http_get("/metrics").body));
    all
}

/// docs/metrics.md has a row for each metric, with its type, and one for each reason, and no other.
#[test]
fn every_metric_and_every_reason_is_documented() {
    let exposed = everything_exposed();
    let text = fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let cells =
        |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> =
        text.lines().filter(|line| line.starts_with("| `") && !line.contains("\\|")).map(cells).collect();
    let documented: BTreeMap<String, String> = rows
        .iter()
        .filter(|row| row.len() > 4)
        .map(|row| (row[1].split('{').next().unwrap().to_owned(), row[2].clone()))
        .collect();
    assert_eq!(documented, exposed);
    let reasons: Vec<&str> = rows.iter().filter(|row| row.len() == 4).map(|row| row[1].as_str()).collect();
    assert_eq!(reasons, Refusal::ALL.map(Refusal::label));
}

#[test]
fn every_alert_fires_when_it_should_and_rests_when_not() {
    let rules = repository("deploy/prometheus/alerts.yml");
    printed(&promtool(&["check", "rules", rules.to_str().unwrap()], ""));
    printed(&promtool(
        &["check", "config", repository("deploy/prometheus/prometheus.yml").to_str().unwrap()],
        "",
    ));
    let cases = repository("tests/prometheus/alerts_test.yml");
    printed(&promtool(&["test", "rules", cases.to_str().unwrap()], ""));

    let known = everything_exposed();
    let cases = fs::read_to_string(cases).unwrap();
    let operations = fs::read_to_string(repository("docs/operations.md")).unwrap();
    let alerts = super::containers::yaml("deploy/prometheus/alerts.yml");
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(cases.matches(&format!("alertname: {name}\n")).count(), 2, "{name} is tried both ways");
        assert!(
            operations.contains(&format!("`{name}`")),
            "docs/operations.md does not say what to do about {name}"
        );
        for metric in named(rule["expr"].as_str().unwrap()) {
            assert!(known.contains_key(&metric), "{name} looks at {metric}, which is not there");
        }
    }
}

#[test]
fn every_panel_of_the_operations_dashboard_answers_with_data() {
    let graphite = Sink::start();
    let tallyd = running(&graphite);
    let prometheus = Prometheus::start("tallyd", tallyd.ports.http, "/metrics");
    let board = Board::read("operations");
    let mut empty: BTreeSet<String> = board.targets("expr").into_iter().collect();
    assert!(empty.len() > 30, "only {} expressions", empty.len());
    let answered = wait_until(SCRAPED_DEADLINE, || {
        tallyd.send_udp(b"shop.orders:1|c\nshop.time:5|ms\nshop.bad:x|c");
        time::sleep(Duration::from_millis(200));
        empty.retain(|expression| {
            let asked = expression
                .replace("$__rate_interval", "15s")
                .replace("$job", "tallyd")
                .replace("$instance", ".*");
            prometheus.query(&asked).iter().all(|(_, value)| value.is_nan())
        });
        empty.is_empty()
    });
    assert!(answered, "these have no data: {empty:#?}");

    let known = exposed(&tallyd.http_get("/metrics").body);
    let shown: BTreeSet<String> = board.targets("expr").iter().flat_map(|target| named(target)).collect();
    for metric in known.keys().filter(|name| name.starts_with("tallyd_")) {
        assert!(shown.contains(metric), "{metric} is on no panel");
    }
    assert!(Books::read(&tallyd).refused_total() > 0);
}
