//! Rows 1, 17 and 18: the collector is killed, stopped and restarted under load.

use crate::board::{Outcome, step};
use crate::books::{log, seconds};
use crate::feed::{Balance, Feed, LINES, To, arrive, arrive_at, kernel, settle};
use crate::held::Held;
use crate::judge::Judge;
use crate::rows::redis::server::{APPEND, Server};
use crate::support::{Sink, free_port, http, time, wait_until};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// Lines a second.
const RATE: u64 = 50_000;
const SECONDS: &str = "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n";
/// The default tick.
const TICK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a kill has cost is looked for when the next process has read what had arrived meanwhile.
pub(crate) fn kill(outcome: &mut Outcome) {
    const KILLS: usize = 20;
    // A tick is over when the disk has it, which others may keep busy.
    outcome.wants_a_quiet_machine();
    let seed = time::unix_secs() as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    let held = Held::start(SECONDS, None, "", Duration::ZERO);
    let (mut sent, mut missing, mut double, mut most) = (0, 0, 0, 0);
    let mut away = Duration::ZERO;
    for kill in 1..=KILLS {
        let feed = Feed::start(&To::Udp(held.udp), RATE);
        time::sleep(Duration::from_millis(random.u64(500..2_500)));
        let killed = time::now();
        held.signal("KILL");
        held.wait_ready(kill + 1);
        away = away.max(killed.elapsed());
        time::sleep(Duration::from_millis(300));
        sent += feed.stop();
        let (drops, _) = kernel(held.udp);
        // What earlier kills have cost is known.
        let balance = settle(held.http, sent - drops - missing / LINES, PATIENCE);
        missing += balance.lost;
        double += balance.double;
        most = most.max(balance.lost);
        outcome.unexplained(balance.uneven as i64);
        step(&format!("kill {kill}: {} lines are missing", balance.lost));
    }
    let (drops, _) = kernel(held.udp);
    let tick_lines = (RATE as f64 * TICK.as_secs_f64()) as u64;
    outcome.figure(format!(
        "{KILLS} kills (seed {seed}), {} lines sent, dropped by the kernel {}",
        sent * LINES,
        drops * LINES
    ));
    outcome.figure(format!(
        "missing {missing}, by one kill {most} at most, which is {:.0} ms of input",
        most as f64 * 1e3 / RATE as f64
    ));
    outcome
        .figure(format!("double {double}; the next process was ready after {} ms at most", away.as_millis()));
    outcome.require(most <= tick_lines, format!("{most} lines by one kill, a tick has {tick_lines}"));
    outcome.require(double == 0, format!("{double} lines are double"));
}

/// 100 restarts with the socket kept.
pub(crate) fn restarts(outcome: &mut Outcome) {
    const RESTARTS: usize = 100;
    let graphite = Sink::start();
    let held = Held::start(SECONDS, None, &graphite.address(), Duration::ZERO);
    let feed = Feed::start(&To::Udp(held.udp), RATE);
    let mut away = Duration::ZERO;
    for restart in 1..=RESTARTS {
        time::sleep(Duration::from_millis(150));
        let stopped = time::now();
        held.signal("TERM");
        held.wait_ready(restart + 1);
        away = away.max(stopped.elapsed());
        if restart % 20 == 0 {
            step(&format!("{restart} restarts"));
        }
    }
    let sent = feed.stop();
    let (drops, _) = kernel(held.udp);
    let balance = arrive(held.http, sent - drops, PATIENCE);
    let stated = arrive_at(|| graphite.points(), sent - drops, PATIENCE);
    let failed = held.ends().iter().filter(|code| **code != 0).count();
    outcome.figure(format!(
        "{RESTARTS} restarts, {} lines sent, dropped by the kernel {}",
        sent * LINES,
        drops * LINES
    ));
    outcome.figure(format!(
        "lost {}, double {}; from SIGTERM to ready {} ms at most",
        balance.lost,
        balance.double,
        away.as_millis()
    ));
    outcome.figure(format!("at Graphite: lost {}, double {}", stated.lost, stated.double));
    outcome.unexplained((balance.uneven + stated.uneven) as i64);
    outcome.require(balance.is_even(), format!("{balance:?}"));
    outcome.require(stated.is_even(), format!("at Graphite {stated:?}"));
    outcome.require(failed == 0, format!("{failed} stops had another exit code than 0"));
}

/// Asks it to end under load: how long that took, with which code, and what was sent until the feed ended too.
fn told_to_end(held: &Held, feed: Feed) -> (Duration, i32, u64) {
    let stopped = time::now();
    held.signal("TERM");
    held.wait_ended(1);
    (stopped.elapsed(), held.ends()[0], feed.stop())
}

/// Stops under load: with all that is behind it up, with all of it down, and down where nothing keeps it; and with
/// many series, whose last buckets are large.
pub(crate) fn stops(outcome: &mut Outcome) {
    // To seal and write 200,000 series takes a core a second.
    outcome.wants_a_quiet_machine();
    for _ in 0..3 {
        stop_between(outcome, false, false);
    }
    stop_between(outcome, true, false);
    stop_between(outcome, true, true);
    stop_between(outcome, false, true);
    stop_without_a_store(outcome);
    for graphite in ["up", "away", "taking nothing"] {
        stop_with_many(outcome, graphite);
    }
}

/// One stop; what was in the socket and what could not be delivered is the next process's.
fn stop_between(outcome: &mut Outcome, redis: bool, down: bool) {
    let mut graphite = Sink::start();
    let mut server = redis.then(|| Server::start(&APPEND));
    let url = server.as_ref().map(Server::url);
    let pause = Duration::from_secs(3);
    let held = Held::start(SECONDS, url.as_deref(), &graphite.address(), pause);
    let feed = Feed::start(&To::Udp(held.udp), RATE);
    time::sleep(Duration::from_millis(2_300));
    if down {
        graphite.stop();
        if let Some(server) = &mut server {
            server.kill();
        }
        time::sleep(Duration::from_millis(1_500));
    }
    let (took, code, sent) = told_to_end(&held, feed);
    if down {
        graphite.start_again();
        if let Some(server) = &mut server {
            server.start_again();
        }
    }
    held.wait_ready(2);
    let (drops, _) = kernel(held.udp);
    let balance = arrive(held.http, sent - drops, PATIENCE);
    let stated = arrive_at(|| graphite.points(), sent - drops, PATIENCE);
    let what = format!(
        "{}, {}",
        if redis { "Redis" } else { "a file" },
        if down { "everything down" } else { "up" }
    );
    outcome.figure(format!(
        "{what}: {:.1} s, code {code}, lost {}, double {}",
        took.as_secs_f64(),
        balance.lost.max(stated.lost),
        balance.double.max(stated.double)
    ));
    outcome.unexplained((balance.uneven + stated.uneven) as i64);
    // Ended to the eyes of who waits: the parent that starts processes is told a little later.
    outcome.require(took <= Duration::from_millis(5_100), format!("{what}: the exit took {took:?}"));
    outcome.require(code == 0, format!("{what}: exit code {code}, though the store or the journal keeps it"));
    outcome.require(
        balance == Balance::default() && stated.is_even(),
        format!("{what}: {balance:?}, Graphite {stated:?}"),
    );
}

/// In memory alone, with Graphite away: what is lost is said, and so is the exit code.
fn stop_without_a_store(outcome: &mut Outcome) {
    let mut graphite = Sink::start();
    graphite.stop();
    let launch = seconds(&graphite.address(), "");
    let tallyd = launch.start();
    let feed = Feed::start(&To::Udp(launch.ports.statsd), RATE);
    time::sleep(Duration::from_millis(1_500));
    let stopped = time::now();
    feed.stop();
    let code = tallyd.sigterm();
    let took = stopped.elapsed();
    outcome.figure(format!(
        "in memory, Graphite down: {:.1} s, code {code:?}, said to be lost",
        took.as_secs_f64()
    ));
    outcome.require(took <= Duration::from_millis(5_100), format!("in memory: the exit took {took:?}"));
    outcome.require(code == Some(1), format!("in memory: exit code {code:?}, though it was lost"));
    outcome.require(log(&launch).contains("lost"), "in memory: the log does not say that it was lost");
}

/// Some millions of points have waited, which are stated at `graphite.backfill_rate`.
const CATCHES_UP: Duration = Duration::from_secs(300);
/// Series of the largest load, in groups that one query reads.
const MANY: usize = 200_000;
const GROUP: usize = 10_000;

/// Datagrams that name each of the many series once.
fn many() -> Vec<Vec<u8>> {
    let lines: Vec<String> = (0..MANY).map(|n| format!("many.g{}.n{n}:1|c", n / GROUP)).collect();
    // What does not fill a datagram is left out.
    lines.chunks_exact(LINES as usize).map(|lines| lines.join("\n").into_bytes()).collect()
}

/// What the store holds of the many series, all in all.
fn stored(http_port: u16) -> f64 {
    let of_group = |group: usize| {
        let path = format!("/api/v1/query?name=many.g{group}.*&by=&from=-3h&step=1m&stat=sum&kind=counter");
        let body = http::get(http_port, &path).map(|reply| reply.body).unwrap_or_default();
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let points = answer["series"][0]["points"].as_array().cloned().unwrap_or_default();
        points.iter().filter_map(|point| point[1].as_f64()).sum::<f64>()
    };
    (0..MANY / GROUP).map(of_group).sum()
}

/// One stop with [`MANY`] series in a file, in buckets of the default width, Graphite up, away, or there and reading
/// nothing.
fn stop_with_many(outcome: &mut Outcome, graphite: &str) {
    let watched =
        |path: &str| path.starts_with("stats.counters.many.") && path.rsplit('.').next() == Some("count");
    let port = free_port();
    let stuck = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let stuck = (graphite == "taking nothing").then(stuck);
    let up = (graphite == "up").then(|| Judge::at(port, watched));
    let held = Held::start("", None, &format!("127.0.0.1:{port}"), Duration::from_secs(3));
    let what = format!("{MANY} series in a file, Graphite {graphite}");
    let feed = Feed::cycling(&To::Udp(held.udp), RATE, many());
    // All of them, and more than one bucket.
    time::sleep(Duration::from_secs(24));
    let (took, code, sent) = told_to_end(&held, feed);
    drop(stuck);
    let graphite = up.unwrap_or_else(|| Judge::at(port, watched));
    held.wait_ready(2);
    let wanted = (sent - kernel(held.udp).0) * LINES;
    let (mut store, mut stated) = (0.0, 0.0);
    wait_until(CATCHES_UP, || {
        time::sleep(Duration::from_secs(1));
        (store, stated) = (stored(held.http), graphite.sum(".count"));
        store as u64 == wanted && stated as u64 == wanted
    });
    let off = |found: f64| wanted as i64 - found as i64;
    outcome.figure(format!(
        "{what}: {:.1} s, code {code}, lost {}, double {}",
        took.as_secs_f64(),
        off(store).max(off(stated)).max(0),
        off(store).min(off(stated)).min(0).abs()
    ));
    outcome.require(took <= Duration::from_millis(5_100), format!("{what}: the exit took {took:?}"));
    outcome.require(code == 0, format!("{what}: exit code {code}, though the store keeps it"));
    outcome.require(
        off(store) == 0 && off(stated) == 0,
        format!("{what}: of {wanted} lines the store has {store}, Graphite {stated}"),
    );
}
