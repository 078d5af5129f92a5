//! Damage that nobody looked for at the start: a file too large to be compared with its checksums then. Whatever
//! meets it answers with an error that is counted, or with the truth, and everything else goes on.

use super::file::{FileFaults, VirtualFile};
use super::{BOUNDS, HOUR_MS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use tallyd::calendar::Calendar;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::ladder::Step;
use tallyd::metric::{Gauge, Kind, Ladder, Number, Series, Sum, Tally, Width};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Entry, Idle, IdleRules, Reading, Store, StoreError};

const WIDTH: i64 = 10_000;
const BUCKETS: i64 = 40;
const SERIES: usize = 600;
/// Files, each with a few bits turned over; the long form has ten times as many.
const FILES: u64 = 60;

fn rules() -> Rules {
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    let steps = [step(10, 2 * HOUR_MS), step(60, 6 * HOUR_MS)];
    Rules {
        ladder: Ladder::new(Width::from_ms(10_000), &steps, &[], HOUR_MS, Calendar::default()),
        bounds: BOUNDS,
        bytes_max: usize::MAX,
        destinations: vec!["a:2003".to_owned()],
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    }
}

fn idle() -> IdleRules {
    let drop = Idle::Drop;
    IdleRules { counters: drop, timers: drop, sets: drop, gauges: Idle::Keep, gauges_ttl: 1, after_ms: None }
}

fn series(n: usize) -> Series {
    Series::new(if n.is_multiple_of(2) { Kind::Counter } else { Kind::Gauge }, &format!("some.series.{n}"))
}

/// Each series once, with a value of its own.
fn batch(number: u64, bucket: i64) -> Batch {
    let entry = |n: usize| {
        let series = series(n);
        let value = n as i64 * 1_000 + bucket / WIDTH;
        let tally = if series.kind() == Kind::Counter {
            let mut sum = Sum::ZERO;
            sum.add(Number::Decimal { mantissa: value, places: 0 });
            Tally::Counter(sum)
        } else {
            let order = Order { time: bucket + 1, producer: 1, number };
            Tally::Gauge(Gauge::once(order, Change { set: Some(value as f64), delta: 0.0 }))
        };
        (series, tally)
    };
    Batch { producer: 1, number, bucket, entries: (0..SERIES).map(entry).collect() }
}

/// A file with what forty buckets came to.
fn whole() -> Vec<u8> {
    let file = VirtualFile::new(1);
    let store = EmbeddedStore::on_disk(rules(), idle(), file.open().unwrap(), 0).unwrap();
    for n in 0..BUCKETS {
        assert_eq!(store.apply(batch(n as u64 + 1, n * WIDTH), n * WIDTH).unwrap(), Applied::Done);
        store.fold((n + 1) * WIDTH, (n + 1) * WIDTH).unwrap();
        if n % 10 == 9 {
            store.checkpoint(n * WIDTH).unwrap();
        }
    }
    drop(store);
    file.bytes()
}

fn open(bytes: Vec<u8>, seed: u64) -> Result<EmbeddedStore, StoreError> {
    let disk = VirtualFile::with_bytes(bytes, seed).open();
    let disk = disk.map_err(|error| StoreError::Damaged(error.to_string()))?;
    EmbeddedStore::on_disk(rules(), idle(), disk, BUCKETS * WIDTH)
}

type Truth = BTreeMap<(usize, usize), Vec<Reading>>;

fn read(store: &EmbeddedStore, n: usize, level: usize) -> Result<Vec<Reading>, StoreError> {
    Ok(store.read(&[series(n)], level, 0, BUCKETS * WIDTH)?.remove(0))
}

/// What is answered is the truth; what is not is said to be damaged.
fn check(store: &EmbeddedStore, truth: &Truth, random: &mut StdRng, missing: &mut u32) -> bool {
    let before = store.durability().damaged;
    let mut said = false;
    for _ in 0..40 {
        let (n, level) = (random.random_range(0..SERIES), random.random_range(0..2));
        match read(store, n, level) {
            // A key that leads astray hides what is behind it: there is less, and nothing that is wrong.
            Ok(found) => {
                let all = &truth[&(n, level)];
                let right = found.iter().all(|one| all.contains(one));
                assert!(right, "{n} at level {level}: wrong, and nobody says so");
                *missing += u32::from(found.len() < all.len() && store.durability().damaged == 0);
            }
            Err(StoreError::Damaged(_)) => said = true,
            Err(error) => panic!("{error}"),
        }
    }
    let sealed: Vec<Vec<Entry>> = (0..BUCKETS)
        .filter_map(|bucket| store.sealed(bucket * WIDTH).unwrap())
        .map(|sealed| sealed.entries.clone())
        .collect();
    assert!(sealed.iter().all(|entries| entries.len() <= SERIES));
    assert!(!said || store.durability().damaged > before, "damage is counted");
    said || store.durability().damaged > before
}

/// Neither read nor written for hours: memory has its limit all the same, what is new is sealed, and when the disk is
/// back it is written.
#[test]
fn a_disk_that_is_gone_costs_memory_up_to_its_limit() {
    let bytes_max = 1 << 20;
    for reads_fail in [false, true] {
        let file = VirtualFile::with_bytes(whole(), 9);
        let rules = Rules { bytes_max, ..rules() };
        let start = BUCKETS * WIDTH;
        let store = EmbeddedStore::on_disk(rules, idle(), file.open().unwrap(), start).unwrap();
        file.fail(FileFaults { writes_left: Some(0), syncs_fail: true, reads_fail });
        let mut now = start;
        let (mut most, mut shed) = (0, 0);
        for n in 1..=300 {
            let applied = store.apply(batch(BUCKETS as u64 + n, now), now).unwrap();
            assert_eq!(applied, Applied::Done);
            now += WIDTH;
            match store.fold(now, now) {
                Ok(folded) => shed += folded.shed,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            if n % 5 == 0 {
                store.checkpoint(now).unwrap_err();
            }
            most = most.max(store.durability().waiting_bytes);
            assert!(store.sealed(now - WIDTH).is_ok_and(|sealed| sealed.is_some()), "what is new is there");
        }
        assert!(most <= bytes_max as u64 * 11 / 10, "{most} bytes wait");
        assert!(store.durability().failing.is_some());
        file.fail(FileFaults::default());
        store.checkpoint(now).ok();
        store.checkpoint(now).unwrap();
        assert!(store.durability().failing.is_none());
        shed += store.fold(now, now).unwrap().shed;
        assert!(shed > 0, "buckets that nobody had are counted");
        assert!(!read(&store, 2, 1).unwrap().is_empty());
    }
}

#[test]
fn damage_that_is_met_later_is_counted_and_stops_nothing() {
    let whole = whole();
    let sound = open(whole.clone(), 0).unwrap();
    let places = (0..SERIES).flat_map(|n| (0..2).map(move |level| (n, level)));
    let truth: Truth = places.map(|(n, level)| ((n, level), read(&sound, n, level).unwrap())).collect();
    assert!(truth.iter().all(|((_, level), found)| found.len() as i64 >= BUCKETS / [1, 6][*level]));
    let long = std::env::var_os("TALLYD_TEST_LONG").is_some();
    let (mut refused, mut met, mut goes_on, mut missing) = (0, 0, 0, 0);
    for seed in 0..if long { FILES * 10 } else { FILES } {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..8) {
            // Behind the header, which is compared at every start.
            let at = random.random_range(4_096..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        }
        let Ok(store) = open(bytes, seed) else {
            refused += 1;
            continue;
        };
        met += u32::from(check(&store, &truth, &mut random, &mut missing));
        // Late samples, new ones, roll-ups, retention and checkpoints meet it too.
        let mut now = BUCKETS * WIDTH;
        let watermark = BUCKETS as u64;
        for n in 1..=13 {
            let bucket = if n % 3 == 0 { random.random_range(0..BUCKETS) * WIDTH } else { now };
            assert_eq!(store.apply(batch(watermark + n, bucket), now).unwrap(), Applied::Done);
            now += WIDTH;
            store.fold(now, now).unwrap();
            for one in store.outstanding(0).unwrap() {
                assert!(store.strike(0, one).unwrap());
            }
        }
        let newest = store.sealed(now - WIDTH).unwrap().expect("what is new is sealed");
        assert!(newest.entries.len() >= SERIES / 2, "and is whole but for what cannot be read");
        goes_on += u32::from(store.checkpoint(now).is_ok());
        store.fold(now + 9 * HOUR_MS, now + 9 * HOUR_MS).unwrap();
        store.checkpoint(now + 9 * HOUR_MS).ok();
    }
    println!(
        "{refused} refused, {met} met, {goes_on} written on, {missing} answers lacked a bucket in silence"
    );
    assert!(refused > 0 && met > 0 && goes_on > 0, "{refused} {met} {goes_on}");
    assert!(missing <= met / 20, "{missing} of {met}");
}
