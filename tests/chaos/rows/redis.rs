//! Rows 2, 3 and 4: Redis is killed, loses its memory, fails over, is cut off, or its answers are lost.

#[path = "../../it/redis/server.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
pub(crate) mod server;

use super::cut::Isolated;
use crate::board::{Outcome, step};
use crate::feed::{Balance, Feed, LINES, To, arrive, arrive_at, kernel};
use crate::support::{Launch, Sink, Tallyd, http, time, wait_until};
use serde_json::Value;
use server::{APPEND, Cluster, Proxy, SNAPSHOTS, Server};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Lines a second to each node.
const RATE: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(90);

/// A node that counts into a Redis, in buckets of a second.
pub(super) fn node(url: &str, graphite: &str) -> Launch {
    let toml = "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\nresend = \"3s\"\n";
    let launch = Launch::native(toml);
    let journal = launch.dir().join("journal").display().to_string();
    launch
        .env("TALLYD_STORE_URL", url)
        .env("TALLYD_STORE_JOURNAL", &journal)
        .env("TALLYD_GRAPHITE_ADDRESS", graphite)
}

/// What the kernel did not drop of what was sent to these nodes.
fn taken(sent: u64, nodes: &[Tallyd]) -> u64 {
    sent - nodes.iter().map(|node| kernel(node.ports.statsd).0).sum::<u64>()
}

/// Batches that nodes say are neither in the store nor in the journal.
fn batches_lost(nodes: &[Tallyd]) -> u64 {
    let lost = |node: &Tallyd| {
        let status = http::get(node.ports.http, "/api/v1/status").map(|reply| reply.body).unwrap_or_default();
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        status["store"]["batches_lost"].as_u64().unwrap_or(0)
    };
    nodes.iter().map(lost).sum()
}

/// Two nodes under load and a Graphite, and what they hold in the end.
struct Pair {
    graphite: Sink,
    nodes: [Tallyd; 2],
    feeds: Vec<Feed>,
    _launches: [Launch; 2],
}

impl Pair {
    fn start(url: &str) -> Self {
        let graphite = Sink::start();
        let launches = [(); 2].map(|()| node(url, &graphite.address()));
        let nodes = launches.each_ref().map(Launch::start);
        let feed = |node: &Tallyd| Feed::start(&To::Udp(node.ports.statsd), RATE);
        let feeds = nodes.iter().map(feed).collect();
        Self { graphite, nodes, feeds, _launches: launches }
    }

    /// Stops the load and waits until all is where it belongs.
    fn finish(self, outcome: &mut Outcome, what: &str) {
        let sent: u64 = self.feeds.into_iter().map(Feed::stop).sum();
        let taken = taken(sent, &self.nodes);
        let stored = arrive(self.nodes[0].ports.http, taken, PATIENCE);
        let stated = arrive_at(|| self.graphite.points(), taken, PATIENCE);
        let (sent, drops) = (sent * LINES, (sent - taken) * LINES);
        outcome.figure(format!(
            "{what}: {sent} lines, dropped by the kernel {drops}, lost {}, double {}; at Graphite lost {}, double {}",
            stored.lost, stored.double, stated.lost, stated.double
        ));
        outcome.unexplained((stored.uneven + stated.uneven) as i64);
        outcome.require(stored.is_even(), format!("{what}: {stored:?}"));
        outcome.require(stated.is_even(), format!("{what}: at Graphite {stated:?}"));
        let lost = batches_lost(&self.nodes);
        outcome.require(lost == 0, format!("{what}: {lost} batches are lost"));
    }
}

/// Killed 20 times with an append-only file, and 20 times with snapshots alone, which lose what came since.
pub(crate) fn kill(outcome: &mut Outcome) {
    const KILLS: u64 = 20;
    for (what, kept, saves) in [("append-only", &APPEND[..], false), ("snapshots", &SNAPSHOTS[..], true)] {
        let mut redis = Server::start(kept);
        let pair = Pair::start(&redis.url());
        for kill in 0..KILLS {
            time::sleep(Duration::from_millis(900 + kill * 377 % 800));
            // Every third time there is a snapshot; the others fall back behind it.
            if saves && kill % 3 == 0 {
                redis.cli(&["save"]);
            }
            redis.kill();
            time::sleep(Duration::from_millis(500 + kill * 211 % 600));
            redis.start_again();
            if kill % 5 == 4 {
                step(&format!("{what}: {} kills", kill + 1));
            }
        }
        time::sleep(Duration::from_secs(1));
        pair.finish(outcome, &format!("{KILLS} kills, {what}"));
    }
}

/// A cluster of 3 + 3: a master killed, one stopped for 10 s, and one cut off for 12 s, with nodes on either side.
pub(crate) fn cluster(outcome: &mut Outcome) {
    let mut cluster = Cluster::start();
    let pair = Pair::start(&cluster.url());
    time::sleep(Duration::from_secs(4));
    step("a master is killed");
    let killed = {
        let (at, master) = cluster.a_master(0);
        master.kill();
        at
    };
    time::sleep(Duration::from_secs(6));
    cluster.nodes[killed].start_again();
    time::sleep(Duration::from_secs(3));
    step("a master is stopped");
    let stopped = {
        let (at, master) = cluster.a_master(1);
        master.signal("STOP");
        at
    };
    time::sleep(Duration::from_secs(10));
    cluster.nodes[stopped].signal("CONT");
    time::sleep(Duration::from_secs(4));
    pair.finish(outcome, "a master killed, another stopped for 10 s");
    drop(cluster);
    cut_off(outcome);
}

/// Both nodes count all the time; one of them is beside the master that is cut off.
fn cut_off(outcome: &mut Outcome) {
    let Some(cluster) = Isolated::start() else {
        outcome.figure("link cut: not played, since network namespaces take root");
        outcome.require(false, "the link was not cut");
        return;
    };
    let master = cluster.a_master();
    let far = node(&cluster.url(), "").start();
    let near = cluster.tallyd(master);
    let feeds = [Feed::start(&To::Udp(far.ports.statsd), RATE), Feed::start(&To::Unix(near.socket()), RATE)];
    time::sleep(Duration::from_secs(4));
    step("a master's link is cut");
    cluster.cut(master, true);
    time::sleep(Duration::from_secs(12));
    let changed = cluster.masters_without(master) == 3;
    cluster.cut(master, false);
    step("the link is back");
    time::sleep(Duration::from_secs(4));
    let sent: u64 = feeds.into_iter().map(Feed::stop).sum();
    let nodes = [far];
    let taken = taken(sent, &nodes);
    let balance = arrive(nodes[0].ports.http, taken, PATIENCE);
    outcome.figure(format!(
        "link cut for 12 s, a node on either side: {} lines, lost {}, double {}",
        sent * LINES,
        balance.lost,
        balance.double
    ));
    outcome.unexplained(balance.uneven as i64);
    outcome.require(changed, "the cluster chose no new master, so that the cut was none");
    outcome.require(balance == Balance::default(), format!("link cut: {balance:?}"));
    let lost = batches_lost(&nodes);
    outcome.require(lost == 0, format!("link cut: {lost} batches are lost"));
}

/// Requests always arrive whole, and their answers end after a random number of bytes.
pub(crate) fn lost_answers(outcome: &mut Outcome) {
    const CUTS: u64 = 10_000;
    const NODES: usize = 8;
    /// Answers of a connection are cut off below so many bytes.
    const MOST: u64 = 4_000;
    let redis = Server::start(&APPEND);
    let proxy = Proxy::cutting(redis.port, MOST);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let launches: Vec<Launch> =
        (0..NODES).map(|_| node(&url, "").env("TALLYD_FLUSH_TICK", "100ms")).collect();
    let nodes: Vec<Tallyd> = launches.iter().map(Launch::start).collect();
    let feeds: Vec<Feed> = nodes.iter().map(|node| Feed::start(&To::Udp(node.ports.statsd), 3_000)).collect();
    let started = time::now();
    let cuts = || proxy.cuts.load(Ordering::Relaxed);
    while cuts() < CUTS && started.elapsed() < Duration::from_secs(420) {
        wait_until(Duration::from_secs(20), || cuts() >= CUTS);
        step(&format!("{} answers were lost", cuts()));
    }
    let sent: u64 = feeds.into_iter().map(Feed::stop).sum();
    let cut = cuts();
    proxy.stop_cutting();
    let taken = taken(sent, &nodes);
    // While what waits is folded, a question reads all of it and may take longer than it is waited for.
    let balance = arrive(nodes[0].ports.http, taken, 3 * PATIENCE);
    outcome.figure(format!(
        "{cut} answers lost in {} s at {NODES} nodes, {} lines, lost {}, double {}",
        started.elapsed().as_secs(),
        sent * LINES,
        balance.lost,
        balance.double
    ));
    outcome.unexplained(balance.uneven as i64);
    outcome.require(cut >= CUTS, format!("only {cut} answers were lost"));
    outcome.require(balance.is_even(), format!("{balance:?}"));
    let lost = batches_lost(&nodes);
    outcome.require(lost == 0, format!("{lost} batches are lost"));
}
