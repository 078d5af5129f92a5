//! tallyd's nodes on one Redis, driven from outside, with a count of what was sent.

use crate::support::{Launch, Sink, Tallyd, sink, time, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// For how long the last batches may take to be everywhere: a bucket, the tick and a takeover, on a busy machine.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// A node in buckets of a second.
pub(crate) fn node(url: &str, graphite: Option<&Sink>, more: &str) -> Launch {
    let toml = format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\nresend = \"3s\"\n\
         [[figure]]\nid = \"shop\"\nmetric = \"shop.*\"\n[rollup]\nfigures = {{ \"10s\" = \"8h\", \"1m\" = \"1d\" }}\n{more}"
    );
    let launch = Launch::native(&toml);
    let journal = launch.dir().join("journal").display().to_string();
    let address = graphite.map_or(String::new(), Sink::address);
    launch
        .env("TALLYD_STORE_URL", url)
        .env("TALLYD_STORE_JOURNAL", &journal)
        .env("TALLYD_GRAPHITE_ADDRESS", &address)
}

/// What was sent to all nodes together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) counters: BTreeMap<String, i64>,
    pub(crate) timings: u64,
    pub(crate) members: u64,
}

impl Truth {
    /// Sends a datagram of all kinds to a node.
    pub(crate) fn send(&mut self, node: &Tallyd) {
        self.members += 1;
        self.timings += 1;
        let member = self.members;
        let mut lines = format!("t.load:{}|ms\nshop.users:u{member}|s\ng.level:{member}|g", member % 100);
        for n in 0..20 {
            let name = if n < 4 { format!("shop.c{n}") } else { format!("web.c{n}") };
            let value = i64::from(n) + 1;
            write!(lines, "\n{name}:{value}|c").unwrap();
            *self.counters.entry(name).or_default() += value;
        }
        node.send_udp(lines.as_bytes());
    }

    /// Sends to nodes in turn for so long, at some 200 datagrams a second.
    pub(crate) fn load(&mut self, nodes: &[&Tallyd], span: Duration) {
        let started = time::now();
        while started.elapsed() < span {
            for node in nodes {
                self.send(node);
            }
            time::sleep(Duration::from_millis(5) * nodes.len() as u32);
        }
    }

    /// Waits until a node's queries say what was sent, no more and no less.
    pub(crate) fn await_queries(&self, node: &Tallyd) {
        let mut last = String::new();
        let right = wait_until(SETTLED, || {
            last = self.misfit(node).unwrap_or_default();
            if !last.is_empty() {
                time::sleep(Duration::from_millis(200));
            }
            last.is_empty()
        });
        assert!(right, "queries: {last}; status {}", node.http_get("/api/v1/status").body);
    }

    fn misfit(&self, node: &Tallyd) -> Option<String> {
        let found = sums(node);
        self.counters.iter().find_map(|(name, sent)| {
            let found = found.get(name).copied().unwrap_or(0.0);
            (found != *sent as f64).then(|| format!("{name} is {found} of {sent}"))
        })
    }

    /// Waits until Graphite holds what was sent.
    pub(crate) fn await_graphite(&self, graphite: &Sink) {
        let mut last = String::new();
        let right = wait_until(SETTLED, || {
            let points = graphite.points();
            let counter = |name: &str| sink::sum_of(&points, &format!("stats.counters.{name}.count"));
            last = self
                .counters
                .iter()
                .find(|(name, sent)| counter(name) != **sent as f64)
                .map_or(String::new(), |(name, sent)| format!("{name} is {} of {sent}", counter(name)));
            let timings = sink::sum_of(&points, "stats.timers.t.load.count");
            if last.is_empty() && timings != self.timings as f64 {
                last = format!("{timings} timings of {}", self.timings);
            }
            let members = sink::sum_of(&points, "stats.sets.shop.users.count");
            // Each is sent once, and so counted in one bucket; where a node was starved and a bucket has more than
            // `sets.exact_max`, they are an estimate. That none is lost is what the counters say.
            if last.is_empty() && (members / self.members as f64 - 1.0).abs() > 0.01 {
                last = format!("{members} members of {}", self.members);
            }
            if !last.is_empty() {
                time::sleep(Duration::from_millis(200));
            }
            last.is_empty()
        });
        assert!(right, "Graphite: {last}");
    }
}

/// What each counter adds up to over all buckets there are.
pub(crate) fn sums(node: &Tallyd) -> BTreeMap<String, f64> {
    let reply = node.http_get("/api/v1/query?name=*.c*&from=-2h&step=1m&stat=sum&kind=counter");
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let lines = answer["series"].as_array().cloned().unwrap_or_default();
    lines
        .iter()
        .map(|line| {
            let points = line["points"].as_array().cloned().unwrap_or_default();
            let sum = points.iter().filter_map(|point| point[1].as_f64()).sum();
            (line["name"].as_str().unwrap_or_default().to_owned(), sum)
        })
        .collect()
}

/// The part of the status that tells of the store.
pub(crate) fn status(node: &Tallyd) -> Value {
    let status: Value = serde_json::from_str(&node.http_get("/api/v1/status").body).unwrap_or_default();
    status["store"].clone()
}
