//! The contract of a store, in real time: Redis' own clock decides what is due.

use super::server::{APPEND, Server};
use crate::support::{time, wait_until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallyd::calendar::Calendar;
use tallyd::clock::Clock;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::ladder::Step;
use tallyd::metric::{Bounds, Gauge, Kind, Ladder, Series, Sum, Tally, Width};
use tallyd::store::redis::{RedisStore, Settings};
use tallyd::store::{Batch, Entry, Idle, IdleRules, Kept, Sealed, Store};

pub(super) const WIDTH: i64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const STATSD_IDLE: IdleRules = IdleRules {
    counters: Idle::Zero,
    timers: Idle::Zero,
    sets: Idle::Zero,
    gauges: Idle::Keep,
    gauges_ttl: 1,
    after_ms: None,
};

/// A journal in memory.
#[derive(Clone, Default)]
pub(super) struct Kept1(pub(super) Arc<Mutex<Vec<Batch>>>);

impl Kept for Kept1 {
    fn producers(&mut self) -> Result<Vec<(u128, u64)>, String> {
        Ok(Vec::new())
    }

    fn next(&mut self, wanted: &BTreeMap<u128, u64>) -> Result<Vec<Batch>, String> {
        let all = self.0.lock().unwrap();
        let ours = |batch: &&Batch| wanted.get(&batch.producer).is_some_and(|from| batch.number >= *from);
        Ok(all.iter().filter(ours).take(100).cloned().collect())
    }
}

/// A store of one partition, and that of the figures.
pub(super) fn open(url: &str, prefix: &str, idle: &IdleRules, kept: Option<Kept1>) -> RedisStore {
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    let settings = Settings {
        url: url.to_owned(),
        prefix: prefix.to_owned(),
        partitions: 1,
        ladder: Ladder::new(
            Width::from_ms(WIDTH as u64),
            &[step(10, 86_400_000), step(60, 86_400_000)],
            &[],
            3_600_000,
            Calendar::default(),
        ),
        bounds: Bounds { timer_exact_max: 512, set_exact_max: 256 },
        history: vec!["*".to_owned()],
        figures: vec!["figures.*".to_owned()],
        destinations: vec!["a:2003".to_owned(), "b:2003".to_owned()],
        resend_ms: 0,
        grace_ms: 100,
        hold_ms: 600_000,
        idle: idle.clone(),
    };
    let kept = kept.map(|kept| Box::new(kept) as Box<dyn Kept>);
    RedisStore::open(settings, &Clock::system(), &Arc::default(), kept).unwrap()
}

pub(super) fn count(name: &str, value: i64) -> (Series, Tally) {
    (Series::new(Kind::Counter, name), Tally::Counter(Sum::from_whole(value)))
}

fn gauge(name: &str, time: i64, number: u64, set: Option<f64>, delta: f64) -> (Series, Tally) {
    let order = Order { time, producer: 1, number };
    (Series::new(Kind::Gauge, name), Tally::Gauge(Gauge::once(order, Change { set, delta })))
}

pub(super) fn batch(number: u64, bucket: i64, entries: Vec<(Series, Tally)>) -> Batch {
    Batch { producer: 1 << 16, number, bucket, entries }
}

fn entry<'a>(sealed: &'a Sealed, name: &str) -> Option<&'a Entry> {
    sealed.entries.iter().find(|entry| entry.series.key() == name)
}

fn value(store: &RedisStore, bucket: i64, name: &str) -> Option<f64> {
    let sealed = store.sealed(bucket).unwrap()?;
    let entry = entry(&sealed, name)?;
    match &entry.tally {
        Tally::Counter(sum) => Some(sum.to_f64()),
        Tally::Gauge(gauge) => gauge.value(entry.before),
        _ => None,
    }
}

fn await_value(store: &RedisStore, bucket: i64, name: &str, expected: Option<f64>) {
    let right = wait_until(PATIENCE, || {
        value(store, bucket, name) == expected && store.sealed(bucket).unwrap().is_some()
    });
    assert!(right, "{name} is {:?} and not {expected:?}", value(store, bucket, name));
}

/// The bucket that has just begun.
pub(super) fn fresh_bucket() -> i64 {
    let next = time::unix_secs() + 1;
    time::sleep_until(next, Duration::from_millis(20));
    next * 1_000
}

#[test]
fn a_bucket_is_sealed_amended_listed_and_struck_off() {
    let redis = Server::start(&APPEND);
    let store = open(&redis.url(), "t", &STATSD_IDLE, None);
    let start = fresh_bucket();
    store.apply(batch(1, start, vec![count("a", 5)]), 0).unwrap();
    assert!(store.drained(PATIENCE));
    let read = || store.read(&[Series::new(Kind::Counter, "a")], 0, start, start + WIDTH).unwrap();
    assert!(matches!(&read()[0][0].tally, Tally::Counter(sum) if sum.to_f64() == 5.0), "pending is read");
    await_value(&store, start, "a", Some(5.0));
    let first = store.sealed(start).unwrap().unwrap().version;
    store.apply(batch(2, start, vec![count("a", 2), count("late", 1)]), 0).unwrap();
    await_value(&store, start, "a", Some(7.0));
    assert_eq!(value(&store, start, "late"), Some(1.0));
    let list = store.outstanding(0).unwrap();
    let one = *list.iter().find(|one| one.bucket == start).unwrap();
    assert_ne!(one.version, first);
    let old = tallyd::store::Outstanding { version: first, ..one };
    assert!(!store.strike(0, old).unwrap(), "amended since");
    assert!(store.strike(0, one).unwrap());
    assert!(!store.strike(0, one).unwrap());
    let in_redis = || redis.cli(&["hexists", "t:{0}:out:a:2003", &format!("1:{}", start / 1_000)]) == "1";
    assert!(in_redis(), "whoever takes over states it again");
    let listed = |destination| store.outstanding(destination).unwrap().iter().any(|one| one.bucket == start);
    assert_eq!((listed(0), listed(1)), (false, true));
    assert_eq!(store.state_again(0, &[start]), 1);
    assert!(listed(0));
    let one = *store.outstanding(0).unwrap().iter().find(|one| one.bucket == start).unwrap();
    assert!(store.strike(0, one).unwrap());
    store.settle(0, &[start]);
    assert!(!in_redis() && !listed(0) && listed(1));
    assert_eq!(store.state_again(0, &[start]), 1);
    assert!(listed(0));
}

#[test]
fn idle_series_send_what_their_rule_says_and_gauges_carry_over() {
    let redis = Server::start(&APPEND);
    let store = open(&redis.url(), "t", &IdleRules { timers: Idle::Drop, ..STATSD_IDLE }, None);
    let start = fresh_bucket();
    let timer = (Series::new(Kind::Timer, "t"), Tally::empty(Kind::Timer));
    let entries = vec![count("a", 5), gauge("g", start + 5, 1, Some(4.0), 0.0), timer];
    store.apply(batch(1, start, entries), 0).unwrap();
    await_value(&store, start + WIDTH, "a", Some(0.0));
    assert_eq!(value(&store, start + WIDTH, "g"), Some(4.0));
    let sealed = store.sealed(start + WIDTH).unwrap().unwrap();
    assert!(entry(&sealed, "t").is_none(), "dropped");
    // A late addition moves its own bucket and what comes after.
    store.apply(batch(2, start, vec![gauge("g", start + 50, 2, None, 3.0)]), 0).unwrap();
    await_value(&store, start, "g", Some(7.0));
    let later = fresh_bucket();
    await_value(&store, later, "g", Some(7.0));
    assert_eq!(store.present(Kind::Gauge).unwrap()[0].gauge, Some(7.0));
    assert_eq!(store.forget(Kind::Gauge, &|key| key == "g").unwrap(), ["g"]);
    let later = fresh_bucket();
    await_value(&store, later, "g", None);
    assert!(store.present(Kind::Gauge).unwrap().is_empty());
}

#[test]
fn what_is_late_for_a_level_is_taken_by_a_coarser_one_or_passed_over() {
    let redis = Server::start(&APPEND);
    let store = open(&redis.url(), "t", &STATSD_IDLE, None);
    let now = fresh_bucket();
    // An hour is the window: this is gone, the next is not.
    store.apply(batch(1, now - 7_200_000, vec![count("a", 1)]), 0).unwrap();
    store.apply(batch(2, now - 3_000_000, vec![count("a", 10)]), 0).unwrap();
    store.apply(batch(3, now, vec![count("a", 100)]), 0).unwrap();
    assert!(store.drained(PATIENCE));
    let series = [Series::new(Kind::Counter, "a")];
    let total = |level| {
        let read = store.read(&series, level, now - 8_000_000, now + 60_000).unwrap();
        let sum = |tally: &Tally| if let Tally::Counter(sum) = tally { sum.to_f64() } else { 0.0 };
        read[0].iter().map(|reading| sum(&reading.tally)).sum::<f64>()
    };
    assert_eq!((total(0), total(1), total(2)), (110.0, 110.0, 110.0));
    assert_eq!(redis.cli(&["hget", "t:{0}:books", "late"]), "1");
    assert!(wait_until(PATIENCE, || redis.cli(&["zcard", "t:{0}:todo"]) != "3"));
    assert_eq!((total(0), total(1), total(2)), (110.0, 110.0, 110.0));
}
