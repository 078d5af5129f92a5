//! Redis killed, emptied, full, or cut off between request and answer; holders killed and stopped.

use super::long;
use super::nodes::{SETTLED, Truth, node, status};
use super::server::{APPEND, NOTHING, Proxy, SNAPSHOTS, Server};
use crate::support::process::signal;
use crate::support::{Launch, Sink, Tallyd, time, wait_until};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tallyd::limits;

#[test]
fn redis_killed_again_and_again_loses_and_doubles_nothing() {
    let (mut redis, graphite) = (Server::start(&APPEND), Sink::start());
    let launches = [(); 2].map(|()| node(&redis.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    for kill in 0..if long() { 20 } else { 4 } {
        truth.load(&nodes.each_ref(), Duration::from_millis(1_300 + kill * 377 % 1_000));
        redis.kill();
        // Counting goes on meanwhile.
        truth.load(&nodes.each_ref(), Duration::from_millis(700));
        redis.start_again();
    }
    truth.load(&nodes.each_ref(), Duration::from_secs(1));
    truth.await_queries(&nodes[0]);
    truth.await_graphite(&graphite);
    assert_eq!(status(&nodes[0])["batches_lost"], 0);
}

#[test]
fn what_snapshots_do_not_have_comes_from_the_journal() {
    let (mut redis, graphite) = (Server::start(&SNAPSHOTS), Sink::start());
    let launches = [(); 2].map(|()| node(&redis.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(3));
    redis.cli(&["save"]);
    truth.load(&nodes.each_ref(), Duration::from_secs(3));
    redis.cli(&["shutdown", "nosave"]);
    redis.kill();
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    assert!(wait_until(SETTLED, || status(&nodes[0])["redis"]["away"].is_object()));
    redis.start_again();
    truth.load(&nodes.each_ref(), Duration::from_secs(1));
    truth.await_queries(&nodes[1]);
    truth.await_graphite(&graphite);
    assert!(wait_until(SETTLED, || status(&nodes[0])["redis"]["away"].is_null()));
}

#[test]
fn redis_that_forgets_everything_is_told_again() {
    let mut redis = Server::start(&NOTHING);
    let launch = node(&redis.url(), None, "");
    let tallyd = launch.start();
    let mut truth = Truth::default();
    truth.load(&[&tallyd], Duration::from_secs(2));
    truth.await_queries(&tallyd);
    redis.kill();
    redis.start_again();
    truth.load(&[&tallyd], Duration::from_secs(1));
    truth.await_queries(&tallyd);
    assert!(status(&tallyd)["promise"].as_str().unwrap().contains("keeps nothing over a restart"));
}

#[test]
fn without_redis_a_node_starts_counts_and_is_killed_and_nothing_is_lost() {
    let mut redis = Server::start(&APPEND);
    redis.kill();
    let launch = node(&redis.url(), None, "");
    let mut truth = Truth::default();
    let tallyd = launch.start();
    truth.load(&[&tallyd], Duration::from_secs(2));
    assert!(status(&tallyd)["redis"]["away"].is_object());
    // The last tick is in the journal.
    time::sleep(Duration::from_secs(1));
    tallyd.kill9();
    let tallyd = launch.start();
    truth.load(&[&tallyd], Duration::from_secs(1));
    redis.start_again();
    truth.await_queries(&tallyd);
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn answers_that_are_lost_count_nothing_twice() {
    let redis = Server::start(&APPEND);
    let proxy = Proxy::cutting(redis.port, 12_000);
    let launch =
        node(&format!("redis://127.0.0.1:{}", proxy.port), None, "").env("TALLYD_FLUSH_TICK", "20ms");
    let tallyd = launch.start();
    let mut truth = Truth::default();
    let wanted = if long() { 10_000 } else { 200 };
    let started = time::now();
    let patience = Duration::from_secs(if long() { 3_000 } else { 45 });
    while proxy.cuts.load(Ordering::Relaxed) < wanted && started.elapsed() < patience {
        truth.load(&[&tallyd], Duration::from_millis(500));
    }
    println!("{} answers were lost", proxy.cuts.load(Ordering::Relaxed));
    assert!(proxy.cuts.load(Ordering::Relaxed) >= wanted / 4);
    proxy.stop_cutting();
    truth.await_queries(&tallyd);
    assert_eq!(status(&tallyd)["batches_lost"], 0);
}

/// For how long threads of a process that begin with a name have been ready and were not let run.
fn held_up(process: u32, name: &str) -> Duration {
    let mut waited = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let read = |file| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(name) {
            let nanoseconds = read("schedstat").split_whitespace().nth(1).and_then(|text| text.parse().ok());
            waited += Duration::from_nanos(nanoseconds.unwrap_or(0));
        }
    }
    waited
}

/// Counts on until every partition that was folded has a bucket more, and asserts that this was in time.
///
/// For how long the machine let neither holder nor Redis run, though they were ready, is not held against them.
fn folding_goes_on(redis: &Server, truth: &mut Truth, node: &Tallyd) {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let stalled = || held_up(node.process.id(), "holder") + held_up(redis.id(), "redis-server");
    let (started, stalled_before) = (time::now(), stalled());
    let mut newest = || {
        let partitions = (0..16).map(|n| n.to_string()).chain(["fig".to_owned()]);
        let keys: Vec<String> = partitions.map(|name| format!("tallyd:{{{name}}}:newest")).collect();
        redis::cmd("MGET").arg(keys).query::<Vec<Option<i64>>>(&mut connection).unwrap()
    };
    let before = newest();
    assert!(before.iter().flatten().count() > 1, "{before:?}");
    loop {
        let now = newest();
        if before.iter().zip(&now).all(|(before, now)| before.is_none() || now > before) {
            break;
        }
        assert!(started.elapsed() < SETTLED, "{before:?} {now:?}");
        truth.send(node);
        time::sleep(Duration::from_millis(20));
    }
    let (taken, stalled) = (started.elapsed(), stalled().saturating_sub(stalled_before));
    println!("taken over after {taken:?}, {stalled:?} of which they were not let run");
    assert!(taken.saturating_sub(stalled) <= Duration::from_millis(limits::REDIS_TAKEOVER_MS), "{taken:?}");
}

#[test]
fn a_holder_that_is_killed_is_followed_within_seconds_and_graphite_is_right() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let launches = [(); 2].map(|()| node(&redis.url(), Some(&graphite), ""));
    let first = launches[0].start();
    let mut truth = Truth::default();
    truth.load(&[&first], Duration::from_secs(3));
    assert!(wait_until(SETTLED, || status(&first)["redis"]["held"] == 17));
    let second = launches[1].start();
    truth.load(&[&first, &second], Duration::from_millis(500));
    let dir = launches[0].dir().to_owned();
    first.kill9();
    folding_goes_on(&redis, &mut truth, &second);
    assert!(wait_until(SETTLED, || status(&second)["redis"]["held"] == 17));
    truth.load(&[&second], Duration::from_secs(2));
    // What the first had in its journal comes with its next start.
    assert!(dir.join("journal").exists());
    let first = launches[0].start();
    truth.load(&[&first, &second], Duration::from_secs(1));
    let found = super::nodes::sums(&second);
    assert!(found.len() <= truth.counters.len());
    first.sigterm();
    // A kill costs at most the tick that was being gathered.
    let lost = |name: &str| {
        truth.counters[name] as f64 - super::nodes::sums(&second).get(name).copied().unwrap_or(0.0)
    };
    let settled = wait_until(SETTLED, || {
        let lost = lost("web.c9") / 10.0;
        (0.0..200.0).contains(&lost)
    });
    assert!(settled, "{} of web.c9 are lost", lost("web.c9"));
    let sent = super::nodes::sums(&second)["web.c9"];
    let stated = |points: &_| crate::support::sink::sum_of(points, "stats.counters.web.c9.count") == sent;
    assert!(graphite.wait_for(SETTLED, stated).is_some(), "Graphite holds what the store holds");
}

#[test]
fn a_holder_that_sleeps_and_wakes_changes_nothing() {
    let (redis, graphite) = (Server::start(&APPEND), Sink::start());
    let launches = [(); 2].map(|()| node(&redis.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(3));
    let sleeper = nodes[0].process.id().to_string();
    signal("STOP", &sleeper);
    folding_goes_on(&redis, &mut truth, &nodes[1]);
    let span = Duration::from_secs(if long() { 30 } else { 9 });
    truth.load(&[&nodes[1]], span);
    assert!(wait_until(SETTLED, || status(&nodes[1])["redis"]["held"] == 17));
    signal("CONT", &sleeper);
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    truth.await_queries(&nodes[1]);
    truth.await_graphite(&graphite);
}

#[test]
fn redis_without_memory_takes_it_later() {
    let redis = Server::start(&APPEND);
    let tallyd = node(&redis.url(), None, "").start();
    let mut truth = Truth::default();
    truth.load(&[&tallyd], Duration::from_secs(1));
    redis.cli(&["config", "set", "maxmemory", "1"]);
    truth.load(&[&tallyd], Duration::from_secs(2));
    let says = || status(&tallyd)["redis"]["away"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(wait_until(SETTLED, || says().contains("out of memory")), "{}", says());
    redis.cli(&["config", "set", "maxmemory", "0"]);
    truth.await_queries(&tallyd);
    assert_eq!(status(&tallyd)["batches_lost"], 0);
}
