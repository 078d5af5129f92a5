//! A slot that falls back to an earlier moment, as with a failover: all of a partition's keys at once.

use super::contract::{Kept1, STATSD_IDLE, WIDTH, batch, count, open};
use super::long;
use super::server::{NOTHING, Proxy, Server};
use crate::support::{time, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallyd::metric::{Kind, Series, Tally};
use tallyd::store::redis::RedisStore;
use tallyd::store::{Batch, Reading, Store};

/// All keys of a partition with what is left of their lives.
pub(super) type Snapshot = Vec<(Vec<u8>, i64, Vec<u8>)>;

const SAVE: &str = "local all = {} for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
    all[#all + 1] = {key, redis.call('PTTL', key), redis.call('DUMP', key)} end return all";
const RESTORE: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end \
    for i = 2, #ARGV, 3 do redis.call('RESTORE', ARGV[i], math.max(tonumber(ARGV[i + 1]), 0), ARGV[i + 2]) end";

pub(super) fn save(connection: &mut redis::Connection, prefix: &str) -> Snapshot {
    let pattern = format!("{prefix}:{{0}}:*");
    redis::cmd("EVAL").arg(SAVE).arg(0).arg(pattern).query(connection).unwrap()
}

pub(super) fn restore(connection: &mut redis::Connection, prefix: &str, snapshot: &Snapshot) {
    let mut eval = redis::cmd("EVAL");
    eval.arg(RESTORE).arg(0).arg(format!("{prefix}:{{0}}:*"));
    for (key, ttl, dump) in snapshot {
        eval.arg(key.as_slice()).arg(*ttl).arg(dump.as_slice());
    }
    eval.exec(connection).unwrap();
}

/// What a new master does to everybody: nobody's connection is the one it was.
fn hang_up(connection: &mut redis::Connection) {
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"][..]).exec(connection).unwrap();
}

/// A node: a store, its journal, and what it has counted.
struct Node {
    store: RedisStore,
    kept: Kept1,
    producer: u128,
    number: u64,
}

impl Node {
    fn new(url: &str, prefix: &str, producer: u128) -> Self {
        let kept = Kept1(Arc::new(Mutex::new(Vec::new())));
        let store = open(url, prefix, &STATSD_IDLE, Some(kept.clone()));
        Self { store, kept, producer: producer << 16, number: 0 }
    }

    fn count(&mut self, random: &mut StdRng) -> [i64; 2] {
        let now = time::since_epoch().as_millis() as i64;
        let late = [0, 0, 0, 0, 1, 3, 12, 70][random.random_range(0..8)];
        let bucket = (now / WIDTH - late) * WIDTH;
        let values = [random.random_range(1..1_000), random.random_range(1..1_000)];
        self.number += 1;
        let entries = vec![count("a", values[0]), count("b", values[1])];
        let one = Batch { producer: self.producer, ..batch(self.number, bucket, entries) };
        self.kept.0.lock().unwrap().push(one.clone());
        self.store.apply(one, 0).unwrap();
        values
    }
}

/// What a level adds up to, to who asks Redis.
fn totals(store: &RedisStore, level: usize) -> Option<[f64; 2]> {
    sums(|series, from, to| store.read(series, level, from, to).ok())
}

/// What a page sees.
fn glances(store: &RedisStore, level: usize) -> Option<[f64; 2]> {
    sums(|series, from, to| store.glance(series, level, from, to).ok())
}

fn sums(read: impl Fn(&[Series], i64, i64) -> Option<Vec<Vec<Reading>>>) -> Option<[f64; 2]> {
    let now = time::since_epoch().as_millis() as i64;
    let series = ["a", "b"].map(|name| Series::new(Kind::Counter, name));
    let read = read(&series, now - 300_000, now + 60_000)?;
    let sum = |tally: &Tally| if let Tally::Counter(sum) = tally { sum.to_f64() } else { 0.0 };
    let total = |at: usize| read[at].iter().map(|reading| sum(&reading.tally)).sum();
    Some([total(0), total(1)])
}

/// A Redis of its own, on which slots fall back run after run; how often.
fn fall_back(seed: u64, runs: std::ops::Range<usize>) -> u64 {
    let redis = Server::start(&NOTHING);
    // Between reading and folding there is time for a slot to fall back.
    let slow = Proxy::slow(redis.port, Duration::from_millis(20));
    let url = format!("redis://127.0.0.1:{}", slow.port);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut rolled_back = 0;
    for run in runs {
        let prefix = format!("r{run}");
        let mut nodes = [1, 2].map(|producer| Node::new(&url, &prefix, producer));
        let mut sent = [0, 0];
        let mut snapshots: Vec<Snapshot> = vec![Vec::new()];
        for _ in 0..60 {
            for node in &mut nodes {
                let values = node.count(&mut random);
                (sent[0], sent[1]) = (sent[0] + values[0], sent[1] + values[1]);
                if random.random_bool(0.2) {
                    // What it sees now must not be believed for longer than it is true.
                    glances(&node.store, random.random_range(0..3));
                }
            }
            time::sleep(Duration::from_millis(random.random_range(0..60)));
            match random.random_range(0..10) {
                0..4 => snapshots.push(save(&mut connection, &prefix)),
                4..7 => {
                    // Mostly to a moment that is not long past, as a replica would.
                    let back = [1, 1, 1, 2, 3, 8][random.random_range(0..6)].min(snapshots.len());
                    restore(&mut connection, &prefix, &snapshots[snapshots.len() - back]);
                    if random.random_bool(0.3) {
                        hang_up(&mut connection);
                    }
                    rolled_back += 1;
                }
                _ => {}
            }
        }
        ends_right(&redis, &mut nodes, &prefix, sent);
        println!("run {run}: {rolled_back} rollbacks by now");
    }
    rolled_back
}

/// Nothing more comes, and nobody hangs up: the last fall is noticed all the same.
fn ends_right(redis: &Server, nodes: &mut [Node; 2], prefix: &str, sent: [i64; 2]) {
    let expected = Some(sent.map(|sent| sent as f64));
    for node in &*nodes {
        let mut found = [[None; 2]; 3];
        let right = wait_until(Duration::from_secs(40), || {
            found = [0, 1, 2].map(|level| [totals(&node.store, level), glances(&node.store, level)]);
            found.iter().flatten().all(|found| *found == expected)
        });
        assert!(right, "run {prefix}: {found:?} and not {expected:?}");
    }
    // What is pending is folded in the end, and nothing changes by that.
    let folded = || redis.cli(&["zrangebyscore", &format!("{prefix}:{{0}}:todo"), "-inf", "1"]).is_empty();
    assert!(wait_until(Duration::from_secs(20), folded));
    time::sleep(Duration::from_millis(1_500));
    assert_eq!([0, 1, 2].map(|level| totals(&nodes[0].store, level)), [expected; 3], "run {prefix}");
    assert_eq!([0, 1, 2].map(|level| glances(&nodes[0].store, level)), [expected; 3], "run {prefix}");
    assert_eq!(redis.cli(&["hget", &format!("{prefix}:{{0}}:books"), "lost"]), "");
    for node in nodes {
        node.store.close();
    }
}

/// Six runs in `make test`, and a thousand in the long version, on ten servers side by side.
#[test]
fn a_slot_that_falls_back_again_and_again_ends_with_every_batch_once() {
    let (servers, runs) = if long() { (10_usize, 100) } else { (1, 6) };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let rolled_back: u64 = std::thread::scope(|scope| {
        let fall_back =
            |server| move || fall_back(seed.wrapping_add(server as u64), server * runs..(server + 1) * runs);
        let all: Vec<_> = (0..servers).map(|server| scope.spawn(fall_back(server))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    println!("{rolled_back} rollbacks");
    assert!(rolled_back > 0);
}

#[test]
fn two_holders_at_once_fold_every_batch_once() {
    let redis = Server::start(&NOTHING);
    let slow = Proxy::slow(redis.port, Duration::from_millis(20));
    let url = format!("redis://127.0.0.1:{}", slow.port);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut nodes = [1, 2].map(|producer| Node::new(&url, "h", producer));
    let mut sent = [0, 0];
    let started = time::now();
    while started.elapsed() < Duration::from_secs(if long() { 120 } else { 15 }) {
        for node in &mut nodes {
            for _ in 0..4 {
                let values = node.count(&mut random);
                (sent[0], sent[1]) = (sent[0] + values[0], sent[1] + values[1]);
            }
        }
        // Whoever looks finds the lease free, and who had it believes so for a while.
        redis::cmd("DEL").arg("h:{0}:lease").exec(&mut connection).unwrap();
        time::sleep(Duration::from_millis(15));
    }
    let expected = Some([sent[0] as f64, sent[1] as f64]);
    let mut found = [None; 3];
    let right = wait_until(Duration::from_secs(40), || {
        found = [0, 1, 2].map(|level| totals(&nodes[1].store, level));
        found.iter().all(|found| *found == expected)
    });
    assert!(right, "{found:?} and not {expected:?}");
    for node in &nodes {
        node.store.close();
    }
}

#[test]
fn a_late_batch_that_is_still_held_hides_no_newer_loss() {
    let redis = Server::start(&NOTHING);
    let kept = Kept1::default();
    let store = open(&redis.url(), "d", &STATSD_IDLE, Some(kept.clone()));
    let newer = (time::since_epoch().as_millis() as i64 / WIDTH - 20) * WIDTH;
    let late = batch(3, newer - 300 * WIDTH, vec![count("a", 1)]);
    // The journal has the last one only, which came late.
    kept.0.lock().unwrap().push(late.clone());
    let first = batch(1, newer - 10 * WIDTH, vec![count("a", 1)]);
    for batch in [first, batch(2, newer, vec![count("a", 1)]), late] {
        store.apply(batch, 0).unwrap();
    }
    assert!(store.drained(Duration::from_secs(30)));
    redis.cli(&["flushall"]);
    let damaged = || redis.cli(&["get", "d:{0}:damaged"]);
    assert!(wait_until(Duration::from_secs(40), || !damaged().is_empty()), "it is passed over aloud");
    assert_eq!(
        damaged(),
        newer.to_string(),
        "up to the newest bucket that may lack something, and no further"
    );
    assert_eq!(redis.cli(&["hget", "d:{0}:books", "lost"]), "2");
}
