//! Pages on Redis: what they cost there, and that what they remember is never believed for longer than it is true.

use super::contract::{STATSD_IDLE, WIDTH, batch, count, fresh_bucket, open};
use super::nodes::SETTLED;
use super::rollbacks::{restore, save};
use super::server::{APPEND, NOTHING, Server};
use crate::support::{Launch, time, wait_until};
use std::fmt::Write as _;
use std::time::Duration;
use tallyd::metric::{Kind, Series, Tally};
use tallyd::store::Store;
use tallyd::store::redis::RedisStore;

/// A look is as old as this at the most, and then some.
const STALE: Duration = Duration::from_millis(tallyd::limits::REDIS_GLANCE_MS * 2);

/// How often each command was called since the start.
fn calls(redis: &Server, only: &str) -> u64 {
    let stats = redis.cli(&["info", "commandstats"]);
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let calls = calls.filter(|(name, _)| only.is_empty() || *name == only);
    calls.map(|(_, rest)| rest.split(',').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_page_costs_few_commands_however_many_figures_it_has() {
    let redis = Server::start(&APPEND);
    let mut toml = String::new();
    for n in 0..2 {
        for kind in ["count", "money", "unique", "gauge"] {
            let id = format!("{kind}{n}");
            write!(toml, "[[figure]]\nid = \"{id}\"\nkind = \"{kind}\"\nmetric = \"shop.{id}\"\n").unwrap();
        }
    }
    let launch = Launch::native(&toml);
    let journal = launch.dir().join("journal").display().to_string();
    let node = launch
        .env("TALLYD_STORE_URL", &redis.url())
        .env("TALLYD_STORE_JOURNAL", &journal)
        .env("TALLYD_GRAPHITE_ADDRESS", "")
        .start();
    for n in 0..2 {
        let lines = format!("shop.count{n}:7|c\nshop.money{n}:1250|c\nshop.unique{n}:a|s\nshop.gauge{n}:5|g");
        node.send_udp(lines.as_bytes());
    }
    let shown = || {
        let page: serde_json::Value =
            serde_json::from_str(&node.http_get("/api/v1/live.json").body).unwrap_or_default();
        let figures = page["figures"].as_array().cloned().unwrap_or_default();
        figures.len() == 8 && figures.iter().all(|figure| figure["values"][0]["number"].as_f64() > Some(0.0))
    };
    assert!(wait_until(SETTLED, shown), "{}", node.http_get("/api/v1/live.json").body);
    let (before, started) = (calls(&redis, ""), time::now());
    time::sleep(Duration::from_secs(12));
    let rate = (calls(&redis, "") - before) as f64 / started.elapsed().as_secs_f64();
    // Some 55 where it was measured; before pages remembered anything, more than a thousand.
    println!("{rate:.0} commands a second");
    assert!(rate < 150.0, "{rate} commands a second: {}", redis.cli(&["info", "commandstats"]));
    assert_eq!(node.sigterm(), Some(0));
}

/// What a counter comes to in a bucket, to a page and to who asks Redis.
fn both(store: &RedisStore, level: usize, start: i64) -> [f64; 2] {
    let series = [Series::new(Kind::Counter, "a")];
    let sum = |tally: &Tally| if let Tally::Counter(sum) = tally { sum.to_f64() } else { 0.0 };
    let end = start + WIDTH;
    [store.glance(&series, level, start, end), store.read(&series, level, start, end)]
        .map(|read| read.unwrap()[0].iter().map(|reading| sum(&reading.tally)).sum())
}

/// Waits until nothing is pending below the level of minutes, and a page would have to look again.
fn folded(redis: &Server, prefix: &str) {
    let todo = format!("{prefix}:{{0}}:todo");
    let fine = || redis.cli(&["zrange", &todo, "0", "-1"]).lines().any(|name| !name.starts_with("60:"));
    assert!(wait_until(SETTLED, || !fine()));
    time::sleep(STALE);
}

#[test]
fn what_changes_in_an_old_bucket_comes_through_what_pages_remember() {
    let redis = Server::start(&APPEND);
    let store = open(&redis.url(), "t", &STATSD_IDLE, None);
    // Of another minute than the one that is open, and of its own ten seconds.
    let old = (fresh_bucket() - 300_000) / 60_000 * 60_000;
    store.apply(batch(1, old, vec![count("a", 5)]), 0).unwrap();
    assert!(store.drained(SETTLED));
    for level in 0..3 {
        assert_eq!(both(&store, level, old), [5.0; 2], "pending");
    }
    folded(&redis, "t");
    for level in 0..3 {
        assert_eq!(both(&store, level, old), [5.0; 2], "sealed");
    }
    // It is remembered: of a look that is too old there is another, and no sealed bucket is read in it.
    let series = [Series::new(Kind::Counter, "a")];
    let glance = || store.glance(&series, 0, old, old + 50 * WIDTH).unwrap()[0].len();
    glance();
    let remembered = || {
        time::sleep(STALE);
        let [looks, hashes] = ["exec", "hgetall"].map(|name| calls(&redis, name));
        assert_eq!(glance(), 1);
        // Whoever folds reads some meanwhile.
        calls(&redis, "exec") > looks && calls(&redis, "hgetall") - hashes < 20
    };
    assert!(wait_until(SETTLED, remembered), "fifty buckets are read again with each look");
    // And a late batch shows, before it is folded and after that.
    store.apply(batch(2, old, vec![count("a", 2)]), 0).unwrap();
    assert!(store.drained(SETTLED));
    time::sleep(STALE);
    for level in 0..3 {
        assert_eq!(both(&store, level, old), [7.0; 2], "late");
    }
    folded(&redis, "t");
    for level in 0..3 {
        assert_eq!(both(&store, level, old), [7.0; 2], "amended");
    }
}

#[test]
fn what_a_slot_has_lost_is_not_remembered() {
    let redis = Server::start(&NOTHING);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let store = open(&redis.url(), "t", &STATSD_IDLE, None);
    let old = (fresh_bucket() - 300_000) / 60_000 * 60_000;
    store.apply(batch(1, old, vec![count("a", 5)]), 0).unwrap();
    assert!(store.drained(SETTLED));
    folded(&redis, "t");
    let snapshot = save(&mut connection, "t");
    store.apply(batch(2, old, vec![count("a", 2)]), 0).unwrap();
    assert!(store.drained(SETTLED));
    folded(&redis, "t");
    // Who sent the second is gone, with its journal.
    store.close();
    drop(store);
    let store = open(&redis.url(), "t", &STATSD_IDLE, None);
    assert_eq!(both(&store, 0, old), [7.0; 2]);
    restore(&mut connection, "t", &snapshot);
    time::sleep(STALE);
    assert_eq!(both(&store, 0, old), [5.0; 2]);
}
