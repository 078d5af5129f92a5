//! The contract of a store. One suite, to be run on every store there is.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use tallyd::calendar::Calendar;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::ladder::Step;
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Bounds, Gauge, Kind, Ladder, Number, Series, Sum, Tally, Unique, Width};
use tallyd::store::embedded::{Disk, EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Entry, Idle, IdleRules, Sealed, Store};

const WIDTH: i64 = 10_000;
const STATSD_IDLE: IdleRules = IdleRules {
    counters: Idle::Zero,
    timers: Idle::Zero,
    sets: Idle::Zero,
    gauges: Idle::Keep,
    gauges_ttl: 1,
    after_ms: None,
};

fn rules(bytes_max: usize) -> Rules {
    let width = Width::from_ms(WIDTH as u64);
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    Rules {
        ladder: Ladder::new(width, &[step(60, 86_400_000)], &[], 3_600_000, Calendar::default()),
        bounds: Bounds { timer_exact_max: 512, set_exact_max: 256 },
        bytes_max,
        destinations: vec!["a:2003".to_owned(), "b:2003".to_owned()],
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    }
}

fn memory(idle: IdleRules, bytes_max: usize) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory(rules(bytes_max), idle))
}

fn on_disk(folder: &Path, idle: &IdleRules) -> Arc<dyn Store> {
    let disk = Disk::open(&folder.join("tallyd.redb")).unwrap();
    Arc::new(EmbeddedStore::on_disk(rules(usize::MAX), idle.clone(), disk, 0).unwrap())
}

/// Every store, empty. What is on disk goes when the test ends.
fn stores(idle: &IdleRules) -> Vec<(&'static str, Arc<dyn Store>)> {
    let folder = tempfile::tempdir().unwrap().keep();
    let file = on_disk(&folder, idle);
    // Unlinked now, it goes with the last handle.
    fs::remove_dir_all(&folder).unwrap();
    vec![("memory:", memory(idle.clone(), usize::MAX)), ("file:", file)]
}

fn count(name: &str, value: i64) -> (Series, Tally) {
    let mut sum = Sum::ZERO;
    sum.add(Number::Decimal { mantissa: value, places: 0 });
    (Series::new(Kind::Counter, name), Tally::Counter(sum))
}

fn gauge(name: &str, time: i64, number: u64, set: Option<f64>, delta: f64) -> (Series, Tally) {
    let order = Order { time, producer: 1, number };
    (Series::new(Kind::Gauge, name), Tally::Gauge(Gauge::once(order, Change { set, delta })))
}

fn batch(number: u64, bucket: i64, entries: Vec<(Series, Tally)>) -> Batch {
    Batch { producer: 1, number, bucket, entries }
}

fn entry<'a>(sealed: &'a Sealed, name: &str) -> Option<&'a Entry> {
    sealed.entries.iter().find(|entry| entry.series.key() == name)
}

fn value(sealed: &Sealed, name: &str) -> Option<f64> {
    let entry = entry(sealed, name)?;
    match &entry.tally {
        Tally::Counter(sum) => Some(sum.to_f64()),
        Tally::Gauge(gauge) => gauge.value(entry.before),
        _ => None,
    }
}

#[test]
fn a_batch_is_applied_once_and_in_order() {
    for (name, store) in stores(&STATSD_IDLE) {
        let one = batch(1, 0, vec![count("a", 5)]);
        assert_eq!(store.apply(one.clone(), 100).unwrap(), Applied::Done, "{name}");
        assert_eq!(store.apply(one.clone(), 100).unwrap(), Applied::Duplicate);
        assert_eq!(
            store.apply(batch(3, 0, vec![count("a", 1)]), 100).unwrap(),
            Applied::Gap { watermark: 1 }
        );
        assert_eq!(store.apply(batch(2, 0, vec![count("a", 1), count("a", 1)]), 100).unwrap(), Applied::Done);
        let other = Batch { producer: 2, ..one };
        assert_eq!(store.apply(other, 100).unwrap(), Applied::Done);
        let read = store.read(&[Series::new(Kind::Counter, "a")], 0, 0, WIDTH).unwrap();
        assert_eq!((read.len(), read[0].len(), read[0][0].start, read[0][0].end), (1, 1, 0, WIDTH), "{name}");
        assert!(matches!(&read[0][0].tally, Tally::Counter(sum) if sum.to_f64() == 12.0), "{name}: {read:?}");
    }
}

#[test]
fn a_bucket_is_sealed_when_it_is_due_and_amended_when_more_comes() {
    for (name, store) in stores(&STATSD_IDLE) {
        store.apply(batch(1, 0, vec![count("a", 5)]), 100).unwrap();
        assert_eq!(store.fold(WIDTH - 1, WIDTH - 1).unwrap().sealed, 0);
        assert!(store.sealed(0).unwrap().is_none());
        assert_eq!(store.fold(WIDTH, WIDTH).unwrap().sealed, 1);
        let first = store.sealed(0).unwrap().unwrap();
        assert_eq!(value(&first, "a"), Some(5.0));
        assert_eq!(
            store.fold(WIDTH, WIDTH).unwrap(),
            tallyd::store::Folded::default(),
            "{name}: nothing is new"
        );
        store.apply(batch(2, 0, vec![count("a", 2), count("late", 1)]), WIDTH).unwrap();
        assert_eq!(store.fold(WIDTH, WIDTH).unwrap().amended, 1);
        let second = store.sealed(0).unwrap().unwrap();
        assert_eq!((value(&second, "a"), value(&second, "late")), (Some(7.0), Some(1.0)));
        assert_ne!(first.version, second.version);
    }
}

#[test]
fn what_was_stated_is_struck_off_only_in_that_version_and_for_that_destination() {
    for (name, store) in stores(&STATSD_IDLE) {
        for bucket in [0, WIDTH, 2 * WIDTH] {
            store.apply(batch(1 + (bucket / WIDTH) as u64, bucket, vec![count("a", 1)]), bucket).unwrap();
        }
        store.fold(3 * WIDTH, 3 * WIDTH).unwrap();
        let list = store.outstanding(0).unwrap();
        let starts: Vec<i64> = list.iter().map(|one| one.bucket).collect();
        assert_eq!(starts, [2 * WIDTH, WIDTH, 0], "{name}: newest first");
        store.apply(batch(4, 0, vec![count("a", 1)]), 3 * WIDTH).unwrap();
        store.fold(3 * WIDTH, 3 * WIDTH).unwrap();
        assert!(!store.strike(0, list[2]).unwrap(), "amended since");
        assert!(store.strike(0, list[1]).unwrap());
        assert!(!store.strike(0, list[1]).unwrap());
        assert_eq!(store.outstanding(0).unwrap().len(), 2);
        assert_eq!(store.outstanding(1).unwrap().len(), 3);
        assert_eq!(store.state_again(0, &[WIDTH, 2 * WIDTH, 9 * WIDTH]), 1, "of those that are kept");
        assert_eq!(store.outstanding(0).unwrap().len(), 3);
    }
}

#[test]
fn what_was_struck_off_and_not_settled_is_on_the_list_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = on_disk(folder.path(), &STATSD_IDLE);
    for bucket in [0, WIDTH, 2 * WIDTH] {
        store.apply(batch(1 + (bucket / WIDTH) as u64, bucket, vec![count("a", 1)]), bucket).unwrap();
    }
    store.fold(3 * WIDTH, 3 * WIDTH).unwrap();
    for one in store.outstanding(0).unwrap() {
        assert!(store.strike(0, one).unwrap());
    }
    // The first is amended since: what was settled is its older version.
    store.apply(batch(4, 0, vec![count("a", 1)]), 3 * WIDTH).unwrap();
    store.fold(3 * WIDTH, 3 * WIDTH).unwrap();
    store.settle(0, &[0, WIDTH]);
    store.checkpoint(3 * WIDTH).unwrap();
    drop(store);
    let list = on_disk(folder.path(), &STATSD_IDLE).outstanding(0).unwrap();
    assert_eq!(list.iter().map(|one| one.bucket).collect::<Vec<_>>(), [2 * WIDTH, 0]);
}

#[test]
fn idle_series_send_what_their_rule_says() {
    let drop_all = IdleRules { counters: Idle::Drop, gauges: Idle::Drop, gauges_ttl: 2, ..STATSD_IDLE };
    let zero_gauges =
        IdleRules { counters: Idle::Keep, gauges: Idle::Zero, after_ms: Some(25_000), ..STATSD_IDLE };
    let cases = [
        (STATSD_IDLE, [(Some(0.0), Some(4.0)), (Some(0.0), Some(4.0)), (Some(0.0), Some(4.0))]),
        (drop_all, [(None, Some(4.0)), (None, None), (None, None)]),
        (zero_gauges, [(Some(5.0), Some(0.0)), (None, None), (None, None)]),
    ];
    for (rules, expected) in cases {
        for (name, store) in stores(&rules) {
            store.apply(batch(1, 0, vec![count("a", 5), gauge("g", 1, 1, Some(4.0), 0.0)]), 0).unwrap();
            for (at, expected) in (1_i64..).zip(expected) {
                store.apply(batch(1 + at as u64, at * WIDTH, vec![count("other", 1)]), 0).unwrap();
                store.fold((at + 1) * WIDTH, (at + 1) * WIDTH).unwrap();
                let sealed = store.sealed(at * WIDTH).unwrap().unwrap();
                assert_eq!(
                    (value(&sealed, "a"), value(&sealed, "g")),
                    expected,
                    "{name} bucket {at} under {rules:?}"
                );
            }
        }
    }
}

#[test]
fn the_original_s_own_counters_are_never_dropped() {
    let rules = IdleRules { counters: Idle::Drop, after_ms: Some(1), ..STATSD_IDLE };
    for (name, store) in stores(&rules) {
        store.apply(batch(1, 0, vec![count("statsd.packets_received", 3), count("a", 1)]), 0).unwrap();
        store.apply(batch(2, WIDTH, vec![count("other", 1)]), 0).unwrap();
        store.fold(2 * WIDTH, 2 * WIDTH).unwrap();
        let sealed = store.sealed(WIDTH).unwrap().unwrap();
        assert_eq!(
            (value(&sealed, "statsd.packets_received"), value(&sealed, "a")),
            (Some(0.0), None),
            "{name}"
        );
    }
}

#[test]
fn gauges_carry_over_and_a_late_change_moves_its_own_bucket() {
    for (name, store) in stores(&STATSD_IDLE) {
        store.apply(batch(1, 0, vec![gauge("g", 100, 1, Some(10.0), 0.0)]), 0).unwrap();
        store.apply(batch(2, WIDTH, vec![gauge("g", WIDTH + 5, 2, None, 5.0)]), 0).unwrap();
        store.fold(2 * WIDTH, 2 * WIDTH).unwrap();
        let present = |store: &Arc<dyn Store>| store.present(Kind::Gauge).unwrap()[0].gauge;
        assert_eq!(value(&store.sealed(WIDTH).unwrap().unwrap(), "g"), Some(15.0), "{name}");
        assert_eq!(present(&store), Some(15.0));
        store.apply(batch(3, 0, vec![gauge("g", 50, 3, Some(99.0), 0.0)]), 0).unwrap();
        store.fold(2 * WIDTH, 2 * WIDTH).unwrap();
        assert_eq!(value(&store.sealed(0).unwrap().unwrap(), "g"), Some(10.0), "an earlier set loses");
        store.apply(batch(4, 0, vec![gauge("g", 500, 4, None, 1.0)]), 0).unwrap();
        store.fold(2 * WIDTH, 2 * WIDTH).unwrap();
        assert_eq!(value(&store.sealed(0).unwrap().unwrap(), "g"), Some(11.0));
        assert_eq!(value(&store.sealed(WIDTH).unwrap().unwrap(), "g"), Some(15.0), "and only its own bucket");
        assert_eq!(present(&store), Some(16.0), "the present value counts what was late");
    }
}

#[test]
fn forgotten_series_are_gone_from_the_open_bucket() {
    for (name, store) in stores(&STATSD_IDLE) {
        store.apply(batch(1, 0, vec![count("a.b", 1), count("a.c", 1), count("d", 1)]), 0).unwrap();
        let mut gone = store.forget(Kind::Counter, &|key| key.starts_with("a.")).unwrap();
        gone.sort();
        assert_eq!(gone, ["a.b", "a.c"], "{name}");
        store.fold(WIDTH, WIDTH).unwrap();
        let sealed = store.sealed(0).unwrap().unwrap();
        assert_eq!((value(&sealed, "a.b"), value(&sealed, "d")), (None, Some(1.0)));
        assert_eq!(store.series_count(), 1);
    }
}

#[test]
fn a_bucket_past_its_keep_is_never_written_again() {
    for (name, store) in stores(&STATSD_IDLE) {
        store.apply(batch(1, 0, vec![count("a", 1)]), 0).unwrap();
        let on_its_way = 3_600_000 + WIDTH;
        assert_eq!(
            store.apply(batch(2, 0, vec![count("a", 1)]), on_its_way).unwrap(),
            Applied::Done,
            "{name}"
        );
        let later = on_its_way + tallyd::limits::LATE_MARGIN_MS;
        assert_eq!(store.apply(batch(3, 0, vec![count("a", 1)]), later).unwrap(), Applied::Late, "{name}");
        assert_eq!(store.apply(batch(3, 0, vec![count("a", 1)]), later).unwrap(), Applied::Duplicate);
    }
}

#[test]
fn beyond_its_memory_the_stated_go_first_and_the_unstated_are_counted() {
    let store = memory(STATSD_IDLE, 12_000);
    let set = |number: u64, i: u64| {
        let mut set = Unique::default();
        (0..16).for_each(|member| set.insert(hash_member(b"", format!("{i} {member}").as_bytes()), 256));
        (Series::new(Kind::Set, &format!("s{number}.{i}")), Tally::Set(Box::new(set)))
    };
    let entries = |number: u64| (0..50).map(|i| set(number, i)).collect::<Vec<_>>();
    let rules = IdleRules { sets: Idle::Drop, ..STATSD_IDLE };
    store.set_idle_rules(rules);
    let mut shed = 0;
    for number in 1..=4_u64 {
        let bucket = (number as i64 - 1) * WIDTH;
        store.apply(batch(number, bucket, entries(number)), bucket).unwrap();
        shed += store.fold(bucket + WIDTH, bucket + WIDTH).unwrap().shed;
        if number == 1 {
            for destination in [0, 1] {
                let stated = store.outstanding(destination).unwrap()[0];
                assert!(store.strike(destination, stated).unwrap());
            }
        }
    }
    let held: Vec<bool> = (0..4).map(|at| store.sealed(at * WIDTH).unwrap().is_some()).collect();
    assert!(!held[0], "the stated one went first");
    assert!(held[3], "the newest is held");
    let waiting = store.outstanding(0).unwrap().len() as u64;
    assert_eq!(waiting + shed, 3, "each unstated bucket waits or was counted as shed");
}

/// Takes everything off every destination's list, as when all of it was confirmed.
fn strike_all(store: &dyn Store) {
    for destination in 0..2 {
        for one in store.outstanding(destination).unwrap() {
            assert!(store.strike(destination, one).unwrap());
        }
    }
}

#[test]
fn series_that_came_once_make_room_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for store in [memory(STATSD_IDLE, usize::MAX), on_disk(folder.path(), &STATSD_IDLE)] {
        // Three blocks of a flood, and among the second one somebody who stays.
        let mut flood: Vec<_> = (0..512).map(|i| count(&format!("flood.n{i}"), 7)).collect();
        flood.insert(300, count("steady", 1));
        flood.extend((512..767).map(|i| count(&format!("flood.n{i}"), 7)));
        flood.push(gauge("level", 5, 1, Some(4.0), 0.0));
        store.apply(batch(1, 0, flood), 100).unwrap();
        store.fold(WIDTH, WIDTH).unwrap();
        assert_eq!(store.make_room(10_000).unwrap(), 0, "it is still the newest bucket");
        store.apply(batch(2, WIDTH, vec![count("steady", 2)]), WIDTH + 100).unwrap();
        store.fold(2 * WIDTH, 2 * WIDTH).unwrap();
        assert_eq!(store.make_room(10_000).unwrap(), 0, "it is not stated yet");
        strike_all(&*store);
        let known = store.series_count();
        assert_eq!((known, store.make_room(1).unwrap()), (769, 256), "the oldest of them, and whole blocks");
        store.checkpoint(2 * WIDTH).unwrap();
        assert_eq!((store.make_room(10_000).unwrap(), store.series_count()), (256, 257));
        assert_eq!(store.make_room(10_000).unwrap(), 0, "who stays keeps the block");
        // Their places are others' at once, who have nothing of what stood there, at any level.
        let next: Vec<_> = (0..512).map(|i| count(&format!("next.n{i}"), 1)).collect();
        store.apply(batch(3, 2 * WIDTH, next), 2 * WIDTH + 100).unwrap();
        store.fold(6 * WIDTH, 6 * WIDTH).unwrap();
        let series: Vec<_> = (0..512).map(|i| Series::new(Kind::Counter, &format!("next.n{i}"))).collect();
        for level in [0, 1] {
            for readings in store.read(&series, level, 0, 6 * WIDTH).unwrap() {
                let sums: Vec<f64> = readings
                    .iter()
                    .map(|reading| match &reading.tally {
                        Tally::Counter(sum) => sum.to_f64(),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(sums, [1.0], "level {level}");
            }
        }
        let steady = store.read(&[Series::new(Kind::Counter, "steady")], 1, 0, 6 * WIDTH).unwrap();
        assert!(matches!(&steady[0][0].tally, Tally::Counter(sum) if sum.to_f64() == 3.0), "{steady:?}");
        assert_eq!(value(&store.sealed(2 * WIDTH).unwrap().unwrap(), "level"), Some(4.0));
        let left = store.series(&|series| series.key().starts_with("flood")).unwrap().len();
        assert_eq!(left, 255);
        store.checkpoint(6 * WIDTH).unwrap();
    }
    let again = on_disk(folder.path(), &STATSD_IDLE);
    assert_eq!(again.series_count(), 769);
    assert_eq!(again.series(&|series| series.key().starts_with("next")).unwrap().len(), 512);
    let one = again.read(&[Series::new(Kind::Counter, "next.n0")], 1, 0, 6 * WIDTH).unwrap();
    assert!(matches!(&one[0][0].tally, Tally::Counter(sum) if sum.to_f64() == 1.0), "{one:?}");
}
