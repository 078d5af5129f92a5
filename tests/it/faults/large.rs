//! A large store: how soon it is there after a kill -9, and damage in it, which no start has the time to look for.
//!
//! The short form's store is just too large to be compared with its checksums when it is opened; the long form's
//! has more than a gigabyte.

use super::durability::{command, load, on_disk};
use crate::support::http;
use crate::support::{Launch, time, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use tallyd::config::Config;
use tallyd::limits;
use tallyd::metric::ladder::Step;
use tallyd::metric::{Kind, Ladder, Series, Tally, Width};
use tallyd::store::embedded::{Disk, EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Store};

const SERIES: usize = 512;
/// Values of a timer in a bucket, all kept: eight bytes each.
const VALUES: usize = 450;
/// Buckets begin so long ago; fewer than that fill the store.
const AGE_SECS: i64 = 3_000;
/// The goal is a second; the rest is for a build without optimisation on a busy machine.
const START_MAX: Duration = Duration::from_secs(15);

fn bytes_wanted() -> u64 {
    if std::env::var_os("TALLYD_TEST_LONG").is_some() {
        1 << 30
    } else {
        limits::STORE_CHECKED_BYTES + (4 << 20)
    }
}

/// Fills a store through its own door; returns the second of its first bucket.
fn fill(folder: &Path) -> i64 {
    let config = Config::default();
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    let keep = [step(1, 6 * 3_600_000), step(60, 7 * 86_400_000)];
    let calendar = *config.store.ladder.calendar();
    let rules = Rules {
        ladder: Ladder::new(Width::from_ms(1_000), &keep, &[], 6 * 3_600_000, calendar),
        bounds: config.aggregate.bounds,
        bytes_max: usize::MAX,
        destinations: Vec::new(),
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    };
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("tallyd.redb");
    let first = (time::unix_secs() - AGE_SECS) * 1_000;
    let disk = Disk::open(&file).unwrap();
    let store = EmbeddedStore::on_disk(rules, config.idle, disk, first).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let entry = |n: usize| {
        let mut tally = Tally::empty(Kind::Timer);
        if let Tally::Timer(digest) = &mut tally {
            (0..VALUES).for_each(|_| digest.record(random.f64() * 1e3, 1.0, 1.0, limits::TIMER_EXACT_MAX));
        }
        (Series::new(Kind::Timer, &format!("large.n{n}")), tally)
    };
    // The same in every bucket: what the values are does not matter, and to make them takes long.
    let entries: Vec<_> = (0..SERIES).map(entry).collect();
    for n in 0..AGE_SECS - 10 {
        let bucket = first + n * 1_000;
        let entries = entries.clone();
        let applied =
            store.apply(Batch { producer: 1, number: n as u64 + 1, bucket, entries }, bucket).unwrap();
        assert_eq!(applied, Applied::Done);
        store.fold(bucket + 1_000, bucket + 1_000).unwrap();
        if n % 10 == 9 {
            store.checkpoint(bucket).unwrap();
            // The file's length is no measure: it grows ahead of what it holds, and shrinks when it is closed.
            if (n + 1) as u64 * (SERIES * VALUES * 8) as u64 >= bytes_wanted() {
                break;
            }
        }
    }
    first / 1_000
}

/// Starts and kills it; returns how long it took to be ready.
fn start(launch: &Launch) -> Duration {
    let started = time::now();
    let tallyd = launch.start();
    let took = started.elapsed();
    load(&tallyd, Duration::from_millis(700));
    tallyd.kill9();
    took
}

#[test]
fn a_large_store_is_there_at_once_after_a_kill_and_lives_with_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let first = fill(&store);
    let path = store.join("tallyd.redb");
    let launch = on_disk(&store);
    let times: Vec<Duration> = (0..4).map(|_| start(&launch)).collect();
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes >= bytes_wanted(), "{bytes}");
    println!("a store of {bytes} bytes is ready in {times:?}, the last three after a kill -9");
    assert!(times.iter().all(|took| *took < START_MAX), "{times:?}");

    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..200 {
        let at = random.random_range(8_192..bytes);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }
    let mut tallyd = launch.start_unready();
    let get = |path: &str| http::get(launch.ports.http, path);
    let mut ended = false;
    wait_until(Duration::from_secs(20), || {
        ended = !tallyd.process.is_running();
        ended || get("/health/ready").is_ok_and(|reply| reply.status == 200)
    });
    if ended {
        assert!(tallyd.process.stderr().contains("is damaged ("), "{}", tallyd.process.stderr());
        return;
    }
    let range = format!("step=1s&from={first}&to={}", first + AGE_SECS);
    let ask = |n: usize| get(&format!("/api/v1/query?name=large.n{n}&{range}"));
    let asked = (0..SERIES).step_by(8).map(ask);
    let failed: Vec<_> = asked.map(Result::unwrap).filter(|reply| reply.status != 200).collect();
    assert!(!failed.is_empty() && failed.iter().all(|reply| reply.body.contains("is damaged")), "{failed:?}");
    // Some ticks, a checkpoint, and a backup, which must not pass for one.
    load(&tallyd, Duration::from_secs(11));
    let metrics = get("/metrics").unwrap().body;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("tallyd_store_damaged_total "));
    assert!(counted.is_some_and(|times| times != "0"), "{counted:?}");
    let backup = command(&launch, &store, &["backup"]);
    let said = String::from_utf8_lossy(&backup.stderr).into_owned();
    assert!(backup.status.code() == Some(1) && said.contains("is damaged"), "{said}");
    assert!(tallyd.process.is_running(), "{}", tallyd.process.stderr());
    assert!(!tallyd.process.stderr().contains("panicked"), "{}", tallyd.process.stderr());
}
