//! Buckets that were gathered into rows of many: let go of, damaged, and on their way there when the process ends.

use super::file::{FileFaults, VirtualFile};
use super::{BOUNDS, HOUR_MS};
use std::collections::BTreeMap;
use tallyd::calendar::Calendar;
use tallyd::metric::ladder::Step;
use tallyd::metric::{Kind, Ladder, Series, Sum, Tally, Width};
use tallyd::store::embedded::{EmbeddedStore, Gathering, Rules};
use tallyd::store::{Applied, Batch, Idle, IdleRules, Store, StoreError};

const WIDTH: i64 = 10_000;
const SERIES: usize = 20;
const PACE: Gathering =
    Gathering { after_ms: 60_000, row_bytes: 600, bytes_at_once: 100_000, versions_at_once: 8 };

fn rules() -> Rules {
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    Rules {
        ladder: Ladder::new(
            Width::from_ms(10_000),
            &[step(10, HOUR_MS), step(60, 3 * HOUR_MS)],
            &[],
            HOUR_MS,
            Calendar::default(),
        ),
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
    Series::new(Kind::Counter, &format!("some.series.{n}"))
}

/// What a series counts in a bucket: no two are alike.
fn value(n: usize, bucket: i64) -> u64 {
    (bucket / WIDTH) as u64 * 100 + n as u64
}

fn open(file: &VirtualFile, now: i64) -> EmbeddedStore {
    EmbeddedStore::on_disk(rules(), idle(), file.open().unwrap(), now).unwrap().gathering(PACE)
}

/// Counts, folds, states and writes the buckets from one to before another.
fn fill(store: &EmbeddedStore, from: i64, to: i64) {
    for n in from..to {
        let (bucket, end) = (n * WIDTH, (n + 1) * WIDTH);
        let entries = (0..SERIES).map(|n| (series(n), Tally::Counter(Sum::from_count(value(n, bucket)))));
        let batch = Batch { producer: 1, number: n as u64 + 1, bucket, entries: entries.collect() };
        assert_eq!(store.apply(batch, bucket).unwrap(), Applied::Done);
        store.fold(end, end).unwrap();
        for one in store.outstanding(0).unwrap() {
            assert!(store.strike(0, one).unwrap());
            store.settle(0, &[one.bucket]);
        }
        if n % 4 == 3 {
            store.checkpoint(end).unwrap();
        }
    }
}

type Points = BTreeMap<i64, u64>;

fn read(store: &EmbeddedStore, n: usize, level: usize, from: i64, to: i64) -> Result<Points, StoreError> {
    let found = store.read(&[series(n)], level, from * WIDTH, to * WIDTH)?.remove(0);
    let each = |reading: &tallyd::store::Reading| match &reading.tally {
        Tally::Counter(sum) => (reading.start / WIDTH, sum.to_f64() as u64),
        other => panic!("{other:?}"),
    };
    assert!(found.is_sorted_by(|a, b| a.start < b.start));
    Ok(found.iter().map(each).collect())
}

fn expected(n: usize, from: i64, to: i64) -> Points {
    (from..to).map(|bucket| (bucket, value(n, bucket * WIDTH))).collect()
}

#[test]
fn every_part_of_what_is_gathered_reads_as_it_was_written() {
    let file = VirtualFile::new(1);
    let store = open(&file, 0);
    fill(&store, 0, 100);
    let rows = store.rows().unwrap();
    assert!(rows.gathered >= 10 && rows.single < 60, "{rows:?}");
    for again in [false, true] {
        let store =
            if again { open(&file, 100 * WIDTH) } else { open(&VirtualFile::with_bytes(file.bytes(), 2), 0) };
        for from in (0..100).step_by(3) {
            for to in [from + 1, from + 2, from + 17, 100] {
                let to = to.min(100);
                assert_eq!(read(&store, 7, 0, from, to).unwrap(), expected(7, from, to), "{from}..{to}");
            }
        }
        for bucket in 0..100 {
            let sealed = store.sealed(bucket * WIDTH).unwrap().unwrap();
            assert_eq!(sealed.entries.len(), SERIES);
            let list = [bucket * WIDTH];
            assert_eq!(store.state_again(0, &list), 1);
            let one = store.outstanding(0).unwrap()[0];
            assert_eq!(one.version, sealed.version);
            assert!(store.strike(0, one).unwrap());
        }
    }
}

#[test]
fn what_is_over_is_not_read_and_its_rows_go_when_all_of_them_is_over() {
    let file = VirtualFile::new(1);
    let store = open(&file, 0);
    // An hour is kept, and as much as a minute needs to be whole.
    fill(&store, 0, 800);
    let before = store.rows().unwrap();
    let now = 800 * WIDTH;
    let oldest = rules().ladder.oldest(tallyd::metric::Class::History, 0, now) / WIDTH;
    assert!(oldest > 400, "{oldest}");
    let found = read(&store, 3, 0, 0, 800).unwrap();
    assert_eq!(found, expected(3, oldest, 800), "what is older is hidden");
    assert_eq!(read(&store, 3, 1, 0, 800).unwrap().len(), 134, "and is in the minutes");
    // Both levels stay within what they keep and a row more each.
    assert!(before.gathered <= 90, "{before:?}");
    store.fold(now + 5 * HOUR_MS, now + 5 * HOUR_MS).unwrap();
    let after = store.rows().unwrap();
    assert!(after.gathered <= 2 && after.single <= 2, "{after:?}");
    assert!(store.sealed(0).unwrap().is_none() && store.sealed(799 * WIDTH).unwrap().is_none());
    store.checkpoint(now + 5 * HOUR_MS).unwrap();
    drop(store);
    let store = open(&file, now + 5 * HOUR_MS);
    assert!(
        (0..800).all(|n| store.sealed(n * WIDTH).unwrap().is_none()),
        "nor are they sealed after a restart"
    );
}

#[test]
fn what_comes_late_to_a_gathered_bucket_wins_and_is_gathered_in() {
    let file = VirtualFile::new(1);
    let store = open(&file, 0);
    fill(&store, 0, 100);
    let (late, now) = (30, 100 * WIDTH);
    let entries = vec![
        (series(2), Tally::Counter(Sum::from_count(5))),
        (series(99), Tally::Counter(Sum::from_count(1))),
    ];
    let batch = Batch { producer: 2, number: 1, bucket: late * WIDTH, entries };
    let singles = store.rows().unwrap().single;
    assert_eq!(store.apply(batch, now).unwrap(), Applied::Done);
    assert_eq!(store.fold(now, now).unwrap().amended, 1);
    store.checkpoint(now).unwrap();
    drop(store);
    let store = open(&file, now);
    let mut truth = expected(2, 0, 100);
    *truth.get_mut(&late).unwrap() += 5;
    for gathered_in in [false, true] {
        assert_eq!(read(&store, 2, 0, 0, 100).unwrap(), truth);
        assert_eq!(read(&store, 99, 0, 0, 100).unwrap(), BTreeMap::from([(late, 1)]));
        assert_eq!(store.sealed(late * WIDTH).unwrap().unwrap().entries.len(), SERIES + 1);
        let again = store.gathered().again;
        assert_eq!(again > 0, gathered_in, "{again} {singles}");
        let later = now + 2 * PACE.after_ms;
        store.fold(later, later).unwrap();
    }
}

/// Writes of the checkpoint fail from one on, or the process is killed or the power lost there: whatever it was, each
/// bucket is there once.
#[test]
fn a_crash_at_any_write_of_a_checkpoint_that_gathers_leaves_every_bucket_once() {
    let file = VirtualFile::new(1);
    let store = open(&file, 0);
    fill(&store, 0, 60);
    drop(store);
    let whole = file.bytes();
    let now = 60 * WIDTH + 2 * PACE.after_ms;
    let (mut done, mut lost) = (false, 0);
    for write in 0.. {
        for power in [false, true] {
            let file = VirtualFile::with_bytes(whole.clone(), write);
            let store = open(&file, now);
            let had = store.rows().unwrap();
            store.fold(now, now).unwrap();
            assert!(store.gathered().rows > 0, "this checkpoint gathers");
            file.fail(FileFaults { writes_left: Some(write as u32), ..FileFaults::default() });
            done = store.checkpoint(now).is_ok();
            if power {
                file.lose_power();
            } else {
                file.kill();
            }
            drop(store);
            file.fail(FileFaults::default());
            let store = open(&file, now);
            for n in [0, 7, SERIES - 1] {
                assert_eq!(read(&store, n, 0, 0, 60).unwrap(), expected(n, 0, 60), "write {write} {power}");
            }
            lost += u32::from(store.rows().unwrap().single == had.single);
            // What was not written is gathered now.
            store.fold(now, now).unwrap();
            store.checkpoint(now).unwrap();
            assert!(store.rows().unwrap().single < had.single);
            assert_eq!(read(&store, 5, 0, 0, 60).unwrap(), expected(5, 0, 60));
        }
        if done {
            break;
        }
    }
    assert!(done && lost > 2, "{lost}");
}

#[test]
fn a_damaged_gathered_row_is_named_and_costs_only_itself() {
    let file = VirtualFile::new(1);
    let store = open(&file, 0);
    fill(&store, 0, 100);
    drop(store);
    let whole = file.bytes();
    // Series 0 to 3 in bucket 30, as they stand behind one another in a gathered row: numbers in two bytes.
    let two = |value: u64| [0x80 | ((value - 128) >> 8) as u8, (value - 128) as u8];
    let places: Vec<u8> = (0..4).flat_map(|n| two(value(n, 30 * WIDTH))).collect();
    let found: Vec<usize> =
        (0..whole.len() - places.len()).filter(|at| whole[*at..].starts_with(&places)).collect();
    let (mut named, mut cost) = (0, 0);
    for at in found {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let store = open(&VirtualFile::with_bytes(bytes, 2), 100 * WIDTH);
        let Err(error) = read(&store, 1, 0, 30, 31) else {
            // A page that was in use before.
            assert_eq!(read(&store, 1, 0, 0, 100).unwrap(), expected(1, 0, 100));
            continue;
        };
        assert!(matches!(&error, StoreError::Damaged(_)) && error.to_string().contains("damaged"), "{error}");
        assert!(store.durability().damaged > 0);
        named += 1;
        cost += (0..100).filter(|&bucket| read(&store, 1, 0, bucket, bucket + 1).is_err()).count();
        // It goes on: what is new is sealed and gathered, and what comes late to the row is kept beside it.
        let batch = Batch {
            producer: 2,
            number: 1,
            bucket: 29 * WIDTH,
            entries: vec![(series(1), Tally::Counter(Sum::from_count(1)))],
        };
        assert_eq!(store.apply(batch, 100 * WIDTH).unwrap(), Applied::Done);
        fill(&store, 100, 140);
        assert!(store.gathered().rows > 0);
        assert_eq!(read(&store, 1, 0, 60, 140).unwrap(), expected(1, 60, 140));
    }
    assert!(named > 0 && cost <= 13 * named, "{named} named, {cost} buckets lost");
}
