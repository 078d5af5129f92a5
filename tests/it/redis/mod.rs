//! Many nodes, one truth: stores and nodes on real redis-server processes, with a count of what was sent.

mod apart;
mod behind;
mod cluster;
mod contract;
mod faults;
mod glance;
pub(crate) mod nodes;
mod notices;
mod replay;
mod requests;
mod roads;
mod rollbacks;
pub(crate) mod server;
mod versions;

use crate::support::{Launch, Sink, repository, wait_until};
use nodes::{SETTLED, Truth, node, status};
use server::{APPEND, Server};
use std::time::Duration;

/// Whether the long forms of tests run.
fn long() -> bool {
    std::env::var_os("TALLYD_TEST_LONG").is_some()
}

#[test]
fn three_nodes_and_one_redis_count_what_was_sent() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let launches = [(); 3].map(|()| node(&redis.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(if long() { 60 } else { 8 }));
    for node in &nodes {
        truth.await_queries(node);
    }
    truth.await_graphite(&graphite);
    // Figures are there for anyone to read, in the smallest unit.
    let days = redis.cli(&["--scan", "--pattern", "tallyd:{fig}:day:????-??-??"]);
    for n in 0..4 {
        let name = format!("shop.c{n}");
        let of = |day| redis.cli(&["hget", day, &name]).parse::<i64>().unwrap_or(0);
        assert_eq!(days.lines().map(of).sum::<i64>(), truth.counters[&name]);
    }
    let keys: Vec<String> = days.lines().map(|day| format!("{day}:shop.users")).collect();
    let mut count: Vec<&str> = keys.iter().map(String::as_str).collect();
    count.insert(0, "pfcount");
    let users: f64 = redis.cli(&count).parse().unwrap();
    assert!((users / truth.members as f64 - 1.0).abs() < 0.03, "{users} of {}", truth.members);
    assert_eq!(php_reads(&redis, &days, "shop.c1"), truth.counters["shop.c1"].to_string());
    // Every partition is held once, and every node sees the others.
    let held: u64 = nodes.iter().map(|node| status(node)["redis"]["held"].as_u64().unwrap()).sum();
    assert_eq!(held, 17);
    assert!(nodes.iter().all(|node| status(node)["redis"]["nodes"] == 3));
    // A gauge is the last value that anybody sent, on every node.
    let gauges = |port: &crate::support::Tallyd| port.console("gauges");
    assert!(gauges(&nodes[0]).contains("g.level"), "{}", gauges(&nodes[0]));
    assert_eq!(gauges(&nodes[0]), gauges(&nodes[1]));
    for node in nodes {
        assert_eq!(node.sigterm(), Some(0));
    }
}

/// The line of docs/nodes.md that reads a figure of today; on the border of a day, what redis-cli says.
fn php_reads(redis: &Server, days: &str, figure: &str) -> String {
    let document = std::fs::read_to_string(repository("docs/nodes.md")).unwrap();
    let line = document.lines().find(|line| line.starts_with("php -r")).unwrap();
    let line = line.replace("6379", &redis.port.to_string()).replace("signups", figure);
    let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    let read = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if days.lines().count() > 1 {
        return days
            .lines()
            .map(|day| redis.cli(&["hget", day, figure]).parse::<i64>().unwrap_or(0))
            .sum::<i64>()
            .to_string();
    }
    read
}

#[test]
fn a_node_that_differs_is_refused_by_the_key() {
    let redis = Server::start(&APPEND);
    let first = node(&redis.url(), None, "").start();
    assert!(wait_until(SETTLED, || redis.cli(&["hlen", "tallyd:{fig}:settings"]) != "0"));
    let other = node(&redis.url(), None, "").env("TALLYD_STORE_PARTITIONS", "8");
    let mut refused = other.start_unready();
    assert!(wait_until(SETTLED, || !refused.process.is_running()));
    let said = refused.process.stderr();
    assert!(said.contains("store.partitions is 8 here, and 16"), "{said}");
    // Figures may change while nobody counts, and not before.
    let figures = "[[figure]]\nid = \"web\"\nmetric = \"web.*\"";
    let other = node(&redis.url(), None, figures);
    let mut refused = other.start_unready();
    assert!(wait_until(SETTLED, || !refused.process.is_running()));
    assert!(refused.process.stderr().contains("figure.metric is"), "{}", refused.process.stderr());
    assert_eq!(first.sigterm(), Some(0));
    let mut truth = Truth::default();
    let second = other.start();
    truth.load(&[&second], Duration::from_secs(1));
    truth.await_queries(&second);
    // They stand in the partition of the figures now.
    assert!(wait_until(SETTLED, || redis.cli(&["hexists", "tallyd:{fig}:known", "0web.c9"]) == "1"));
}

/// What the doctor says of the store.
fn doctor(launch: &Launch) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.arg("doctor").arg("--config").arg(launch.dir().join("tallyd.toml"));
    for (name, value) in launch.environment() {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_redis() {
    let mut redis = Server::start(&APPEND);
    let launch = node(&redis.url(), None, "");
    let says = |words: &str| {
        let said = doctor(&launch);
        assert!(said.contains(words), "{words} is not in {said}");
    };
    says("it writes an append-only file, and it has no replica");
    says("it takes writes");
    redis.cli(&["hset", "tallyd:{fig}:settings", "layout", "2"]);
    says("a later version of tallyd counts into it (its layout is 2, this one knows 1)");
    redis.cli(&["del", "tallyd:{fig}:settings"]);
    redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    says("maxmemory-policy is allkeys-lru");
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    redis.cli(&["config", "set", "maxmemory", "1"]);
    says("out of memory");
    redis.cli(&["config", "set", "maxmemory", "0"]);
    redis.cli(&["config", "set", "appendonly", "no"]);
    says("set appendonly yes");
    redis.cli(&["replicaof", "127.0.0.1", "1"]);
    says("replica");
    redis.kill();
    says("Redis does not answer");
}

#[test]
fn a_redis_that_evicts_is_refused() {
    let redis = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut refused = node(&redis.url(), None, "").start_unready();
    assert!(wait_until(SETTLED, || !refused.process.is_running()));
    assert!(refused.process.stderr().contains("noeviction"), "{}", refused.process.stderr());
}

#[test]
fn nodes_come_and_go_and_the_total_stays_right() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let launches: Vec<_> = (0..4).map(|_| node(&redis.url(), Some(&graphite), "")).collect();
    let mut truth = Truth::default();
    let mut nodes: Vec<_> = launches.iter().take(3).map(Launch::start).collect();
    truth.load(&nodes.iter().collect::<Vec<_>>(), Duration::from_secs(4));
    nodes.push(launches[3].start());
    truth.load(&nodes.iter().collect::<Vec<_>>(), Duration::from_secs(4));
    assert_eq!(nodes.remove(0).sigterm(), Some(0), "it leaves for good");
    truth.load(&nodes.iter().collect::<Vec<_>>(), Duration::from_secs(4));
    // Another is restarted under load.
    assert_eq!(nodes.remove(0).sigterm(), Some(0));
    nodes.push(launches[1].start());
    truth.load(&nodes.iter().collect::<Vec<_>>(), Duration::from_secs(2));
    truth.await_queries(&nodes[0]);
    truth.await_graphite(&graphite);
}
