//! Nodes of two versions on one Redis: what a later one wrote is refused or left, in words, and never harmed.

use super::nodes::{SETTLED, Truth, node, status};
use super::server::{APPEND, Server};
use crate::samples::total;
use crate::support::{time, wait_until};
use redis::Connection;
use std::time::Duration;
use tallyd::metric::{Kind, Number, Series, Sum, Tally};
use tallyd::wire::batch::push_batch;

const SETTINGS: &str = "tallyd:{fig}:settings";

fn is_agreed(redis: &Server) -> bool {
    redis.cli(&["hget", SETTINGS, "layout"]) == "1"
}

/// All keys with what they hold, but for those that say who is there, which expire.
fn contents(redis: &Server) -> Vec<String> {
    let keys = redis.cli(&["--scan", "--pattern", "tallyd:*"]);
    let lasts = |key: &&str| !key.ends_with(":lease") && !key.ends_with(":nodes");
    let mut all: Vec<String> =
        keys.lines().filter(lasts).map(|key| format!("{key} {}", redis.cli(&["dump", key]))).collect();
    all.sort();
    all
}

#[test]
fn a_node_of_an_earlier_version_is_refused_and_harms_nothing() {
    let redis = Server::start(&APPEND);
    let launch = node(&redis.url(), None, "");
    let tallyd = launch.start();
    assert!(wait_until(SETTLED, || is_agreed(&redis)), "{}", redis.cli(&["hgetall", SETTINGS]));
    let mut truth = Truth::default();
    truth.load(&[&tallyd], Duration::from_secs(2));
    truth.await_queries(&tallyd);
    // A later version raises the number when it is alone; this node was cut off meanwhile, and comes back.
    redis.cli(&["hset", SETTINGS, "layout", "2"]);
    redis.cli(&["client", "kill", "type", "normal"]);
    let mut said = String::new();
    let told = wait_until(SETTLED, || {
        truth.send(&tallyd);
        said = status(&tallyd).to_string();
        said.contains("a later version of tallyd counts into this Redis (its layout is 2, this one knows 1)")
    });
    assert!(told, "{said}");
    assert_eq!(tallyd.sigterm(), Some(0), "the journal has what Redis has not");
    let before = contents(&redis);
    let mut refused = launch.start_unready();
    assert!(wait_until(SETTLED, || !refused.process.is_running()));
    let said = refused.process.stderr();
    assert!(
        said.contains("its layout is 2, this one knows 1") && said.contains("Run that version"),
        "{said}"
    );
    assert_eq!(contents(&redis), before, "nothing was changed");
    // Where the way back is made, the journal counts.
    redis.cli(&["hset", SETTINGS, "layout", "1"]);
    truth.await_queries(&launch.start());
}

/// A batch that adds 1,000 to `shop.c0` in a bucket of a minute ago, and where it is pending.
fn batch(from: i64) -> Vec<u8> {
    let series = Series::new(Kind::Counter, "shop.c0");
    let mut sum = Sum::ZERO;
    sum.add(Number::Decimal { mantissa: 1_000, places: 0 });
    let tally = Tally::Counter(sum);
    let mut bytes = Vec::new();
    push_batch(&mut bytes, 7, 1, from, [(&series, &tally)].into_iter());
    bytes
}

fn put(connection: &mut Connection, from: i64, bytes: &[u8]) {
    let name = format!("1:{}", from / 1_000);
    let pending = format!("tallyd:{{fig}}:in:{name}");
    redis::cmd("HSET").arg(pending).arg("later:1").arg(bytes).query::<i64>(connection).unwrap();
    redis::cmd("ZADD").arg("tallyd:{fig}:todo").arg(0).arg(name).query::<i64>(connection).unwrap();
}

#[test]
fn a_batch_of_a_later_version_waits_for_a_node_that_knows_it() {
    let server = Server::start(&APPEND);
    let tallyd = node(&server.url(), None, "").start();
    let mut truth = Truth::default();
    truth.load(&[&tallyd], Duration::from_secs(1));
    truth.await_queries(&tallyd);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let from = (time::unix_secs() - 60) * 1_000;
    let (ours, mut later) = (batch(from), batch(from));
    later[0] = 0x20;
    put(&mut connection, from, &later);
    // Its neighbours in that bucket count.
    tallyd.send_udp(format!("shop.c0:5|c|T{}", from / 1_000).as_bytes());
    *truth.counters.get_mut("shop.c0").unwrap() += 5;
    let waits = || tallyd.process.stderr().contains("what a later version of tallyd wrote");
    assert!(wait_until(SETTLED, waits), "{}", tallyd.process.stderr());
    let pending = format!("tallyd:{{fig}}:in:1:{}", from / 1_000);
    let alone = || server.cli(&["hkeys", &pending]) == "later:1";
    assert!(wait_until(SETTLED, alone), "{}", server.cli(&["hkeys", &pending]));
    truth.load(&[&tallyd], Duration::from_secs(3));
    assert!(alone(), "it was folded by one that cannot read it");
    assert_eq!(status(&tallyd)["damaged"], 0, "it is not damaged");
    let reply = tallyd.http_get("/api/v1/query?name=shop.c0&from=-1h&step=1m&stat=sum");
    assert!(reply.status == 503 && reply.body.contains("a later version of tallyd"), "{}", reply.body);
    // A node that knows it counts it.
    put(&mut connection, from, &ours);
    *truth.counters.get_mut("shop.c0").unwrap() += 1_000;
    truth.await_queries(&tallyd);
    assert_eq!(total(&tallyd, "shop.c0"), truth.counters["shop.c0"] as f64);
}
