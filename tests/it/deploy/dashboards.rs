//! The dashboards in dashboards/grafana: held against Grafana's own types, and every Graphite target answered
//! with data by a real graphite-web that a real carbon fed, from what a made-up shop sent to tallyd.
//!
//! With `TALLYD_TEST_PICTURES` set, graphite-web's pictures of the panels replace those in docs/pictures.

use super::printed;
use crate::support::{Graphite, Launch, client_node, free_port, repository, time, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

/// carbon has created some 150 files and told graphite-web of the tagged ones.
const DATA_DEADLINE: Duration = Duration::from_secs(90);
/// tallyd has stated some 700 buckets of the past.
const STATED_DEADLINE: Duration = Duration::from_secs(60);
const MINUTES: i64 = 360;
const WEEK_SECS: i64 = 7 * 86_400;

/// One dashboard.
pub(super) struct Board {
    json: Value,
}

impl Board {
    pub(super) fn read(name: &str) -> Self {
        let path = repository("dashboards/grafana").join(name).with_extension("json");
        Self { json: serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() }
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        let all = self.json["panels"].as_array().unwrap().iter();
        all.filter(|panel| panel["type"] != "row")
    }

    /// What its panels ask, under this key: `target` of Graphite, `expr` of Prometheus.
    pub(super) fn targets(&self, key: &str) -> Vec<String> {
        self.panels().flat_map(|panel| queries(panel, key)).collect()
    }

    /// Its variables with the values they begin with.
    fn variables(&self) -> BTreeMap<String, String> {
        let list = self.json["templating"]["list"].as_array().unwrap().iter();
        let value = |one: &Value| one["current"]["value"].as_str().unwrap_or(".*").to_owned();
        list.map(|one| (one["name"].as_str().unwrap().to_owned(), value(one))).collect()
    }

    fn filled(&self, target: &str) -> String {
        self.variables().iter().fold(target.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        })
    }
}

fn queries(panel: &Value, key: &str) -> Vec<String> {
    let targets = panel["targets"].as_array().unwrap().iter();
    targets.filter_map(|target| target[key].as_str()).map(str::to_owned).collect()
}

const BOARDS: [(&str, &str); 3] =
    [("business", "tallyd-business"), ("operations", "tallyd-operations"), ("statsd", "tallyd-statsd")];

#[test]
fn dashboards_fit_grafanas_own_types() {
    let check = |folder: &std::path::Path| {
        let work = tempfile::tempdir().unwrap();
        let mut node = client_node();
        node.arg(repository("tests/tools/dashboards.js")).arg(folder).arg(work.path()).output().unwrap()
    };
    assert_eq!(printed(&check(&repository("dashboards/grafana"))), "3 dashboards fit\n");
    let bad = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(repository("dashboards/grafana/business.json")).unwrap();
    fs::write(
        bad.path().join("business.json"),
        text.replace("\"displayMode\": \"list\"", "\"displayMode\": \"lits\""),
    )
    .unwrap();
    let output = check(bad.path());
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("lits"));
}

/// What the types do not say: uids that stay, sources that exist, panels that explain themselves.
#[test]
fn dashboards_are_whole() {
    let sources = super::containers::yaml("deploy/grafana/provisioning/datasources/tallyd.yaml");
    let sources: BTreeSet<(String, String)> = sources["datasources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["type"].as_str().unwrap().to_owned(), one["uid"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(fs::read_dir(repository("dashboards/grafana")).unwrap().count(), BOARDS.len());
    for (name, uid) in BOARDS {
        let board = Board::read(name);
        assert_eq!(board.json["uid"], uid);
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in board.json["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{name}: an id stands twice");
            let place = |key: &str| panel["gridPos"][key].as_i64().unwrap();
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(x < 24 && cells.insert((x, y)), "{name}: {} overlaps", panel["title"]);
                }
            }
        }
        let text = board.json.to_string();
        for variable in board.variables().keys() {
            let used = text.contains(&format!("${{{variable}}}")) || text.contains(&format!("${variable}"));
            assert!(used, "{name}: nothing uses {variable}");
        }
        for panel in board.panels() {
            let title = &panel["title"];
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{name}: {title} says nothing");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title} has no unit");
            let source = &panel["datasource"];
            let source =
                (source["type"].as_str().unwrap().to_owned(), source["uid"].as_str().unwrap().to_owned());
            assert!(sources.contains(&source), "{name}: {title} asks {source:?}");
            let asked = [queries(panel, "target"), queries(panel, "expr")].concat();
            assert!(!asked.is_empty());
            for target in asked.iter().map(|target| board.filled(target)) {
                assert!(
                    !target.replace("$__rate_interval", "").replace("$'", "").contains('$'),
                    "{name}: {target}"
                );
            }
        }
    }
}

/// Six hours of a shop, and the same hours a week before, a line a minute with a timestamp of its own.
fn history(now: i64) -> (String, i64) {
    let mut random = fastrand_like(7);
    let mut text = String::new();
    let mut signups = 0;
    for minute in 1..MINUTES {
        for (back, size) in [(0, 10.0), (WEEK_SECS, 8.0)] {
            let at = now - 60 * minute - back;
            let wave = 1.0 + 0.4 * (minute as f64 / 57.0).sin();
            let mut some = |mean: f64| (mean * wave * (0.7 + 0.6 * random())).round();
            let (views, orders, joined) = (some(40.0 * size), some(size * 0.4) + 1.0, some(size * 0.8));
            if back == 0 {
                signups += joined as i64;
            }
            let cents = (orders * some(490.0)) / 10.0;
            writeln!(text, "page_views:{views}|c|T{at}\norders:{orders}|c|T{at}\nsignups:{joined}|c|T{at}")
                .unwrap();
            writeln!(text, "revenue:{cents}|c|T{at}\ncarts.open:{}|g|T{at}", some(12.0)).unwrap();
            for visitor in 0..some(6.0) as i64 {
                writeln!(text, "visitors:user-{visitor}|s|T{at}").unwrap();
            }
            let slow = if (100..110).contains(&minute) && back == 0 { 2.2 } else { 1.0 };
            for _ in 0..8 {
                writeln!(text, "checkout.time:{}|ms|T{at}", some(240.0 * slow)).unwrap();
            }
            writeln!(
                text,
                "page.time:{}|ms|#page:home|T{at}\npage.time:{}|ms|#page:cart|T{at}",
                some(38.0),
                some(51.0)
            )
            .unwrap();
        }
        if minute == 110 || minute == 290 {
            writeln!(text, "deploys.shop:1|c|T{}", now - 60 * minute).unwrap();
        }
    }
    (text, signups)
}

/// Numbers from 0 to 1, the same in every run, so that pictures change only when something does.
fn fastrand_like(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// graphite-web's picture of targets.
fn picture(graphite: &Graphite, title: &str, targets: &[String]) -> Vec<u8> {
    let mut form = format!(
        "format=png&width=520&height=260&from=-6h&until=now&lineMode=connected&maxDataPoints=360&bgcolor=white&fgcolor=black\
         &minorGridLineColor=white&title={}",
        crate::support::http::encode(title)
    );
    for target in targets {
        write!(form, "&target={}", crate::support::http::encode(target)).unwrap();
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, graphite.web_port())).unwrap();
    write!(
        stream,
        "POST /render HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let border = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    bytes.split_off(border + 4)
}

#[test]
fn every_graphite_panel_answers_with_data() {
    let tcp = free_port();
    let launch = Launch::native(
        "[flush]\nbucket = \"1m\"\namend_window = \"8d\"\n[graphite]\nbackfill_rate = 1000000\nconnection = \"kept\"",
    );
    let config = launch.dir().join("tallyd.toml");
    let rules = |only| {
        printed(&super::tallyd(&["graphite-rules", "--config", config.to_str().unwrap(), "--only", only]))
    };
    let graphite = Graphite::start_with(&rules("schemas"), &rules("aggregation"));
    let launch = launch
        .env("TALLYD_GRAPHITE_ADDRESS", &graphite.plaintext_addr())
        .env("TALLYD_INGEST_TCP", &format!("127.0.0.1:{tcp}"));
    let tallyd = launch.start();
    let (lines, signups) = history(time::unix_secs());
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, tcp)).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    crate::books::Books::wait_total(&tallyd, lines.lines().count() as u64);
    tallyd.send_udp(b"visitors:last|s\ncarts.open:+1|g\nbad");
    let stated = || {
        let text = tallyd.http_get("/metrics").body;
        let waiting = text.lines().find(|line| line.starts_with("tallyd_graphite_buckets_waiting{"));
        waiting.is_some_and(|line| line.ends_with(" 0")) && !text.contains("tallyd_graphite_buckets_total{0")
    };
    time::sleep(Duration::from_secs(1));
    assert!(wait_until(STATED_DEADLINE, stated), "{}", tallyd.http_get("/metrics").body);
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");

    let now = time::unix_secs();
    for name in ["business", "statsd"] {
        let board = Board::read(name);
        let mut empty: BTreeSet<String> = board.targets("target").into_iter().collect();
        let annotations = board.json["annotations"]["list"].as_array().unwrap().iter();
        empty.extend(annotations.map(|one| one["target"]["target"].as_str().unwrap().to_owned()));
        assert!(empty.len() > 10, "only {} targets", empty.len());
        let answered = wait_until(DATA_DEADLINE, || {
            empty.retain(|target| {
                let rendered = graphite.render(&board.filled(target), now - 6 * 3_600, now + 60);
                !rendered.iter().any(|(_, points)| points.iter().any(|(value, _)| value.is_some()))
            });
            empty.is_empty()
        });
        assert!(answered, "{name}: these have no data: {empty:#?}");
        draw(&graphite, &board, name);
    }
    // One number stands for all: the sign-ups that were sent are the sign-ups that the panel adds up.
    let board = Board::read("business");
    let rendered = graphite.render(
        &board.filled(&queries(board.panels().next().unwrap(), "target")[0]),
        now - 86_400,
        now,
    );
    let sum: f64 = rendered[0].1.iter().filter_map(|(value, _)| *value).sum();
    assert_eq!(sum, signups as f64);
}

/// A picture of each panel, and the page of the documents that shows them.
fn draw(graphite: &Graphite, board: &Board, name: &str) {
    let keep = std::env::var_os("TALLYD_TEST_PICTURES").is_some();
    for panel in board.panels() {
        let title = panel["title"].as_str().unwrap();
        let targets: Vec<String> =
            queries(panel, "target").iter().map(|target| board.filled(target)).collect();
        let png = picture(graphite, title, &targets);
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{title}: {}", String::from_utf8_lossy(&png));
        assert!(png.len() > 1_500, "{title}: nothing is drawn in {} bytes", png.len());
        let path = repository("docs/pictures").join(format!("{name}-{}.png", panel["id"]));
        if keep {
            fs::write(&path, png).unwrap();
        }
        assert!(path.exists(), "{} is missing: run this test with TALLYD_TEST_PICTURES=1", path.display());
    }
}
