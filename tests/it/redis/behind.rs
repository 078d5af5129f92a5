//! Folding that is behind: what waits is said, and queries read it in small transactions.

use super::contract::{STATSD_IDLE, WIDTH, batch, count, open};
use super::server::{APPEND, Server};
use crate::support::{time, wait_until};
use std::time::Duration;
use tallyd::metric::{Kind, Series, Tally};
use tallyd::store::Store;

const PATIENCE: Duration = Duration::from_secs(30);
/// Buckets that wait: of two minutes.
const BUCKETS: i64 = 120;

fn transactions(redis: &Server) -> u64 {
    let stats = redis.cli(&["info", "commandstats"]);
    let exec = stats.lines().find_map(|line| line.strip_prefix("cmdstat_exec:calls="));
    exec.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn what_waits_is_read_in_small_transactions() {
    let redis = Server::start(&APPEND);
    let store = open(&redis.url(), "waits", &STATSD_IDLE, None);
    // Not due yet, so that nobody folds them: the first of them in half a minute.
    let now = time::since_epoch().as_millis() as i64 / WIDTH * WIDTH;
    let from = (now + 30_000) / 10_000 * 10_000;
    for n in 0..BUCKETS {
        let entries = vec![count("a", n + 1)];
        store.apply(batch(n as u64 + 1, from + n * WIDTH, entries), 0).unwrap();
    }
    assert!(store.drained(PATIENCE));
    let before = transactions(&redis);
    let read = store.read(&[Series::new(Kind::Counter, "a")], 1, now, from + 200_000).unwrap();
    let sums: Vec<f64> = read[0]
        .iter()
        .map(|reading| if let Tally::Counter(sum) = &reading.tally { sum.to_f64() } else { 0.0 })
        .collect();
    let expected: Vec<f64> =
        (0..BUCKETS / 10).map(|step| (1..=10).map(|n| (step * 10 + n) as f64).sum()).collect();
    assert_eq!(sums, expected);
    let transactions = transactions(&redis) - before;
    assert!(transactions >= BUCKETS as u64 / 16, "{transactions} transactions for {BUCKETS} buckets");
}

#[test]
fn buckets_that_are_over_and_not_sealed_are_said() {
    let redis = Server::start(&APPEND);
    // Somebody has the lease, and does nothing with it.
    redis.cli(&["set", "stuck:{0}:lease", "nobody"]);
    let store = open(&redis.url(), "stuck", &STATSD_IDLE, None);
    let now = time::since_epoch().as_millis() as i64 / WIDTH * WIDTH;
    for n in 0..3 {
        store.apply(batch(n + 1, now - (n as i64 + 5) * WIDTH, vec![count("a", 1)]), 0).unwrap();
    }
    let due = || store.sharing().unwrap().buckets_due;
    assert!(wait_until(PATIENCE, || due() == 3), "{}", due());
    redis.cli(&["del", "stuck:{0}:lease"]);
    assert!(wait_until(PATIENCE, || due() == 0), "{}", due());
}
