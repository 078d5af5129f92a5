//! Nodes whose clock is far off, and nodes that are restarted one after another under sockets that stay.

use super::long;
use super::nodes::{SETTLED, Truth, node, status, sums};
use super::server::{APPEND, Proxy, Server};
use crate::support::clock::Clock;
use crate::support::process::{Process, signal};
use crate::support::{Launch, Sink, Tallyd, free_port, http, repository, time, wait_until};
use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// A launch whose wall clock is so many seconds ahead.
fn ahead(launch: Launch, seconds: i64) -> Launch {
    let (launch, mut clock) = Clock::of(launch);
    clock.jump(seconds * 1_000);
    launch
}

fn skew_is_said(node: &Tallyd, seconds: i64) -> bool {
    let skew = status(node)["redis"]["skew_ms"].as_i64().unwrap_or(0);
    let warned = node.process.stderr().contains("clock and that of Redis differ");
    (skew - seconds * 1_000).abs() < 5_000 && warned
}

#[test]
fn a_node_whose_clock_is_90_seconds_off_is_said_to_be_and_its_counts_are_exact() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let right = node(&redis.url(), Some(&graphite), "");
    let slow = ahead(node(&redis.url(), Some(&graphite), ""), -90);
    let (right, slow) = (right.start(), slow.start());
    let mut truth = Truth::default();
    truth.load(&[&right, &slow], Duration::from_secs(5));
    assert!(wait_until(SETTLED, || skew_is_said(&slow, -90)), "{}", status(&slow)["redis"]);
    assert!(status(&right)["redis"]["skew_ms"].as_i64().unwrap().abs() < 5_000);
    truth.load(&[&right, &slow], Duration::from_secs(2));
    truth.await_queries(&right);
    truth.await_graphite(&graphite);
}

#[test]
fn a_node_whose_clock_is_90_seconds_ahead_counts_exactly_too() {
    // Its buckets are over for the others a minute and a half later.
    let seconds = if long() { 90 } else { 15 };
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let right = node(&redis.url(), Some(&graphite), "");
    let fast = ahead(node(&redis.url(), Some(&graphite), ""), seconds);
    let (right, fast) = (right.start(), fast.start());
    let mut truth = Truth::default();
    truth.load(&[&right, &fast], Duration::from_secs(5));
    assert!(wait_until(SETTLED, || skew_is_said(&fast, seconds)), "{}", status(&fast)["redis"]);
    truth.await_queries(&fast);
    time::sleep(Duration::from_secs(seconds.unsigned_abs()));
    truth.await_queries(&right);
    truth.await_graphite(&graphite);
}

#[test]
fn a_node_that_was_cut_off_for_an_hour_is_counted_where_it_belongs() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let link = Proxy::plain(redis.port);
    let right = node(&redis.url(), Some(&graphite), "");
    // What it counts now is an hour old for all the others, as if it had been away since.
    let behind = -3_500;
    let cut_off = ahead(node(&format!("redis://127.0.0.1:{}", link.port), Some(&graphite), ""), behind);
    link.cut_off(true);
    let (right, cut_off) = (right.start(), cut_off.start());
    let mut truth = Truth::default();
    let started = time::now();
    let span = Duration::from_secs(if long() { 300 } else { 8 });
    truth.load(&[&right, &cut_off], span);
    assert!(wait_until(SETTLED, || status(&cut_off)["redis"]["away"].is_object()));
    let seen = sums(&right);
    let missing =
        truth.counters.iter().all(|(name, sent)| seen.get(name).is_none_or(|sum| *sum < *sent as f64));
    assert!(missing, "the link is cut");
    link.cut_off(false);
    assert!(wait_until(SETTLED, || skew_is_said(&cut_off, behind)), "{}", status(&cut_off)["redis"]);
    truth.load(&[&right, &cut_off], Duration::from_secs(2));
    println!("cut off for {:?}", started.elapsed());
    truth.await_queries(&right);
    truth.await_graphite(&graphite);
    // At every level.
    let now = time::since_epoch().as_secs() as i64;
    let both = |step: &str| {
        let (from, to) = ((now - 4_200) / 60 * 60, (now / 60 + 3) * 60);
        let path = format!("/api/v1/query?name=web.c9&from={from}&to={to}&step={step}&stat=sum");
        total(&right.http_get(&path).body)
    };
    let sent = truth.counters["web.c9"] as f64;
    assert_eq!([both("1s"), both("10s"), both("1m")], [sent; 3]);
    assert_eq!(status(&cut_off)["batches_lost"], 0);
}

/// What the points of an answer add up to.
fn total(body: &str) -> f64 {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let points = answer["series"][0]["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter_map(|point| point[1].as_f64()).sum()
}

/// A node under sockets that outlive it.
struct Held {
    process: Process,
    udp: u16,
    http: u16,
    _launch: Launch,
}

impl Held {
    fn start(redis: &Server, graphite: &Sink) -> Self {
        let launch = node(&redis.url(), Some(graphite), "");
        let (udp, http) = (free_port(), free_port());
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(repository("tests/tools/activate.py"))
            .args([format!("udp=udp:{udp}"), format!("http=tcp:{http}")])
            .args(["--", env!("CARGO_BIN_EXE_tallyd"), "run", "--set", "console.listen=off", "--config"])
            .arg(launch.dir().join("tallyd.toml"))
            .env("RUNTIME_DIRECTORY", launch.dir());
        let ours = ["TALLYD_INGEST_UDP", "TALLYD_HTTP_LISTEN", "TALLYD_CONSOLE_LISTEN"];
        command.envs(launch.environment().iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned());
        let process = Process::start("activate", &command, launch.dir());
        let held = Self { process, udp, http, _launch: launch };
        assert!(wait_until(SETTLED, || held.is_ready()), "{}", held.process.stderr());
        held
    }

    fn is_ready(&self) -> bool {
        http::get(self.http, "/health/ready").is_ok_and(|reply| reply.status == 200)
    }

    fn runs(&self) -> Vec<String> {
        let stdout = self.process.stdout();
        stdout.lines().filter_map(|line| line.strip_prefix("run ")).map(str::to_owned).collect()
    }

    fn sum(&self, name: &str) -> f64 {
        let path = format!("/api/v1/query?name={name}&from=-2h&step=1m&stat=sum");
        total(&http::get(self.http, &path).map(|reply| reply.body).unwrap_or_default())
    }
}

#[test]
fn three_nodes_restarted_in_turn_under_their_sockets_lose_nothing() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let nodes = [(); 3].map(|()| Held::start(&redis, &graphite));
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut sent = 0;
    let mut load = |span: Duration| {
        let started = time::now();
        while started.elapsed() < span {
            for node in &nodes {
                sender.send_to(b"rolling.c0:1|c", (Ipv4Addr::LOCALHOST, node.udp)).unwrap();
                sent += 1;
            }
            time::sleep(Duration::from_millis(10));
        }
    };
    for node in &nodes {
        load(Duration::from_secs(1));
        let before = node.runs();
        signal("TERM", before.last().unwrap());
        let mut waited = 0;
        while (node.runs().len() == before.len() || !node.is_ready()) && waited < 60 {
            load(Duration::from_millis(500));
            waited += 1;
        }
        assert!(
            node.process.stdout().contains("ended 0"),
            "{}{}",
            node.process.stdout(),
            node.process.stderr()
        );
    }
    load(Duration::from_secs(1));
    let all = || nodes.iter().all(|node| node.sum("rolling.c0") == f64::from(sent));
    let sums = || nodes.iter().map(|node| node.sum("rolling.c0")).collect::<Vec<_>>();
    assert!(wait_until(SETTLED, all), "{:?} of {sent}", sums());
    let stated = |points: &_| {
        crate::support::sink::sum_of(points, "stats.counters.rolling.c0.count") == f64::from(sent)
    };
    assert!(graphite.wait_for(SETTLED, stated).is_some(), "Graphite holds what was sent");
}
