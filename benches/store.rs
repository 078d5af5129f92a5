//! Question: what does keeping everything on disk cost a tick, a question and a start?
//!
//! - *A tick*: one batch of counters encoded, appended to the journal, synced, and applied; at the end of each
//!   bucket it is folded too, which is told apart. Rival, alternating with it on the same disk: the same bytes
//!   written to a file and synced. A checkpoint is a thread's of its own and holds up no tick; its time and what it
//!   writes are told as well, and with them the bytes that reach the disk for each byte of a sealed bucket.
//! - *A question*: a week of one series at 1 m, a day of 100 series at 10 s, merged and as JSON.
//! - *A start*: a store that knows 100,000 series, opened after a process that did not close it.
//! - *Bytes a point*: what a day and a half of the demo's shop, its counters alone, take of the file, and two hours of
//!   2,560 counters, late enough that buckets are gathered all the while. Rival: the same without gathering, which also
//!   says what gathering costs in bytes that are written. redb makes room ahead, so that its file doubles now and then;
//!   what counts is the pages in use. Measured: 2.96 bytes against 16.20 for the demo, 2.51 against 4.27 in full blocks;
//!   commits are handed 16.0 bytes a point against 13.2, and 4.9 against 2.5; the disk gets no more, 6.9 KB against 7.3,
//!   and 57 bytes against 59, since a checkpoint writes whole pages and there are fewer of them.
//!
//! Expectation on paper: 10,000 names as numbers of a dictionary and small sums are some 60 KB a tick, so the disk's
//! sync leads; 100,000 miss the cache twice each, 100 ns, and are sorted into blocks: 20 to 40 ms. A point decodes in
//! some 20 ns, so a week (10,080 points) takes 0.3 ms and a day of 100 series (864,000) 20 ms.
//!
//! The directory is `TALLYD_BENCH_DIR`, or `target` of this repository: a temporary directory may be memory. Sums
//! are checked against what was put in. `cargo bench --bench store` measures and fails where a target is missed;
//! without `--bench` it runs at toy size and only checks.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench prints, indexes what it made, and ends where the disk fails"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tallyd::calendar::Calendar;
use tallyd::clock;
use tallyd::config::Config;
use tallyd::flush::Safe;
use tallyd::health::Books;
use tallyd::journal::{Directory, Journal, Options};
use tallyd::metric::ladder::Step;
use tallyd::metric::{Kind, Ladder, Series, Sum, Tally, Width};
use tallyd::query::{Asked, answer};
use tallyd::store::embedded::{Disk, EmbeddedStore, Gathering, Rules};
use tallyd::store::{Applied, Batch, Store};

/// Monday, 23 November 2026, 00:00 UTC.
const START: i64 = 1_795_392_000_000;
const BUCKET_MS: i64 = 10_000;
const TICKS_A_BUCKET: i64 = 50;
const PRODUCER: u128 = 7;

/// Measures under a name, and says in words what it missed.
type Part<'a> = &'a dyn Fn(&str) -> Option<String>;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let folder = std::env::var_os("TALLYD_BENCH_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let target = |ms: f64| if full { ms } else { f64::INFINITY };
    println!("ms: median (tenth and ninetieth percentile; longest)");
    // `cargo bench --bench store -- day` runs what has that word in its name.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let within = |name: &str| folder.path().join(name);
    let parts: [(&str, Part<'_>); 6] = [
        ("10k", &|name| ticks(&within(name), if full { 10_000 } else { 300 }, full, target(10.0))),
        ("100k", &|name| ticks(&within(name), if full { 100_000 } else { 600 }, full, target(80.0))),
        ("week", &|_| week(full, target(5.0))),
        ("day", &|_| day(full, target(50.0))),
        ("start", &|name| start(&within(name), if full { 100_000 } else { 1_000 }, target(300.0))),
        ("bytes", &|name| points(&within(name), full)),
    ];
    let missed: Vec<String> = parts
        .into_iter()
        .filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())))
        .filter_map(|(name, part)| part(name))
        .collect();
    assert!(missed.is_empty(), "targets missed: {}", missed.join("; "));
}

/// What is missed, in words, if it is.
fn missed(what: &str, found: f64, target: f64) -> Option<String> {
    (found > target).then(|| format!("{what}: {found:.1}, not {target}"))
}

/// Sorts times and prints them; returns the median in milliseconds.
fn row(name: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    let last = times.len() - 1;
    println!(
        "{name:48} {:8.2} ({:.2} to {:.2}; {:.2})",
        ms(last / 2),
        ms(last / 10),
        ms(last * 9 / 10),
        ms(last)
    );
    ms(last / 2)
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let started = clock::monotonic_now();
    let result = work();
    times.push(clock::elapsed(started));
    result
}

fn rules(keep: &[Step]) -> Rules {
    Rules {
        ladder: Ladder::new(Width::from_ms(BUCKET_MS as u64), keep, &[], 6 * 3_600_000, Calendar::default()),
        bounds: Config::default().aggregate.bounds,
        bytes_max: usize::MAX,
        destinations: vec!["graphite:2003".to_owned()],
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    }
}

const DAY_MS: i64 = 86_400_000;

/// The ladder that `rollup.keep` is by default.
fn usual() -> Vec<Step> {
    [(10, DAY_MS / 4), (60, 7 * DAY_MS), (900, 90 * DAY_MS)]
        .map(|(secs, keep_ms)| Step { width: Width::from_ms(secs * 1_000), keep_ms })
        .to_vec()
}

fn open(folder: &Path, keep: &[Step], now: i64) -> EmbeddedStore {
    fs::create_dir_all(folder).unwrap();
    let disk = Disk::open(&folder.join("tallyd.redb")).unwrap();
    EmbeddedStore::on_disk(rules(keep), Config::default().idle, disk, now).unwrap()
}

fn names(series: usize) -> Vec<Series> {
    (0..series).map(|i| Series::new(Kind::Counter, &format!("app.web.checkout.signups.{i:06}"))).collect()
}

fn counter(units: u64) -> Tally {
    Tally::Counter(Sum::from_count(units))
}

/// Ticks of so many changed series, with everything on disk after each.
fn ticks(folder: &Path, series: usize, full: bool, target: f64) -> Option<String> {
    let ticks = if full { 3 * TICKS_A_BUCKET } else { 6 };
    let store = open(folder, &usual(), START);
    let journal =
        Journal::open(Box::new(Directory::open(&folder.join("journal")).unwrap()), Options::default());
    let mut safe = Safe::new(Some(journal.unwrap().0), Arc::new(Books::default()));
    let mut bare = File::create(folder.join("bare")).unwrap();
    let series = names(series);
    let (mut kept, mut bares, mut folds, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut journalled, mut now) = (0, START);
    for tick in 0..ticks {
        now = START + tick * BUCKET_MS / TICKS_A_BUCKET;
        let entries = series.iter().enumerate().map(|(i, one)| (one.clone(), counter(1 + i as u64 % 9)));
        let bucket = now - now.rem_euclid(BUCKET_MS);
        let batch = Batch { producer: PRODUCER, number: 1 + tick as u64, bucket, entries: entries.collect() };
        let before = journal_bytes(folder);
        timed(&mut kept, || {
            let batches = [batch];
            safe.keep(&batches, now);
            let [batch] = batches;
            assert_eq!(store.apply(batch, now).unwrap(), Applied::Done);
        });
        let grown = journal_bytes(folder).saturating_sub(before);
        journalled += grown;
        let bytes = vec![0xa5; grown as usize];
        timed(&mut bares, || {
            bare.write_all(&bytes).unwrap();
            bare.sync_data().unwrap();
        });
        if tick % TICKS_A_BUCKET == TICKS_A_BUCKET - 1 || !full {
            let due = now + BUCKET_MS;
            timed(&mut folds, || store.fold(due, due)).unwrap();
            timed(&mut checkpoints, || store.checkpoint(due)).unwrap();
        }
    }
    let count = series.len();
    row(&format!("{count} series: bare write and fdatasync"), &mut bares);
    let median = row(&format!("{count} series: a tick, journalled and applied"), &mut kept);
    row(&format!("{count} series: fold at a bucket's end"), &mut folds);
    row(&format!("{count} series: checkpoint"), &mut checkpoints);
    check_sums(&store, &series, ticks, now);
    let written = store.durability().written_bytes;
    println!(
        "{count} series: {:.1} bytes a series and tick in the journal, {:.1} bytes a series and bucket by checkpoints",
        journalled as f64 / (count as i64 * ticks) as f64,
        written as f64 / (count as f64 * folds.len() as f64)
    );
    missed(&format!("ms a tick of {count} series"), median, target)
}

fn journal_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |it| it.len())).sum()
}

fn check_sums(store: &dyn Store, series: &[Series], ticks: i64, now: i64) {
    for (i, readings) in store.read(&series[..100], 0, START, now + BUCKET_MS).unwrap().iter().enumerate() {
        let sum: f64 = readings.iter().map(|reading| value(&reading.tally)).sum();
        assert_eq!(sum, (ticks * (1 + i as i64 % 9)) as f64);
    }
}

fn value(tally: &Tally) -> f64 {
    match tally {
        Tally::Counter(sum) => sum.to_f64(),
        other => panic!("{other:?}"),
    }
}

/// Applies one batch to each bucket from `START` on, seals it, and writes checkpoints as the service does.
fn fill(store: &dyn Store, buckets: Range<i64>, mut batch: impl FnMut(i64) -> Vec<(Series, Tally)>) {
    for bucket in buckets {
        let start = START + bucket * BUCKET_MS;
        let end = start + BUCKET_MS;
        let batch =
            Batch { producer: PRODUCER, number: 1 + bucket as u64, bucket: start, entries: batch(bucket) };
        assert_eq!(store.apply(batch, start).unwrap(), Applied::Done);
        store.fold(end, end).unwrap();
        for stated in store.outstanding(0).unwrap() {
            assert!(store.strike(0, stated).unwrap());
            // As it is some minutes later, when it need not be stated again after a restart.
            store.settle(0, &[stated.bucket]);
        }
        store.checkpoint(end).unwrap();
    }
}

fn kept(width_secs: u64, days: i64) -> Step {
    Step { width: Width::from_ms(width_secs * 1_000), keep_ms: days * DAY_MS }
}

/// How often a question is asked.
fn runs(full: bool) -> usize {
    if full { 21 } else { 3 }
}

/// A week of one series at a minute.
fn week(full: bool, target: f64) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let buckets = if full { 7 * DAY_MS / BUCKET_MS } else { 60 };
    let store = open(folder.path(), &[kept(10, 2), kept(60, 14)], START);
    let one = names(1);
    fill(&store, 0..buckets, |bucket| vec![(one[0].clone(), counter(1 + bucket as u64 % 9))]);
    let sum: i64 = (0..buckets).map(|bucket| 1 + bucket % 9).sum();
    let name = "a week of one series at 1 m";
    missed(name, ask(&store, name, runs(full), START + buckets * BUCKET_MS, "60", sum), target)
}

/// A day of 100 series at ten seconds.
fn day(full: bool, target: f64) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let buckets = if full { DAY_MS / BUCKET_MS } else { 60 };
    let store = open(folder.path(), &[kept(10, 2), kept(60, 14)], START);
    let hundred = names(100);
    fill(&store, 0..buckets, |bucket| {
        hundred.iter().map(|one| (one.clone(), counter(1 + bucket as u64 % 9))).collect()
    });
    let sum: i64 = 100 * (0..buckets).map(|bucket| 1 + bucket % 9).sum::<i64>();
    let name = "a day of 100 series at 10 s";
    missed(name, ask(&store, name, runs(full), START + buckets * BUCKET_MS, "10", sum), target)
}

fn ask(store: &dyn Store, name: &str, runs: usize, now: i64, step: &str, sum: i64) -> f64 {
    let (from, to) = ((START / 1_000).to_string(), (now / 1_000).to_string());
    let pairs = [("name", "app.web.checkout.signups.*"), ("from", &from), ("to", &to), ("step", step)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let asked = Asked::read(&pairs, now, store.ladder().calendar()).unwrap();
    let (mut answers, mut renders) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let found = timed(&mut answers, || answer(store, &asked, now)).unwrap();
        let json = timed(&mut renders, || found.json());
        let all: serde_json::Value = serde_json::from_str(&json).unwrap();
        let lines = all["series"].as_array().unwrap();
        let points = lines.iter().flat_map(|line| line["points"].as_array().unwrap());
        assert_eq!(points.map(|point| point[1].as_f64().unwrap_or(0.0)).sum::<f64>(), sum as f64);
    }
    let took = row(name, &mut answers);
    row(&format!("{name}: as JSON"), &mut renders);
    took
}

/// A start after a process that ended without closing anything.
fn start(folder: &Path, series: usize, target: f64) -> Option<String> {
    let all = names(series);
    let store = open(folder, &usual(), START);
    fill(&store, 0..3, |_| all.iter().map(|one| (one.clone(), counter(3))).collect());
    std::mem::forget(store);
    // The lock of the process that died went with it; here the file is copied as it is on disk.
    let again = folder.join("again");
    fs::create_dir_all(&again).unwrap();
    fs::copy(folder.join("tallyd.redb"), again.join("tallyd.redb")).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let store = timed(&mut times, || open(&again, &usual(), START + 3 * BUCKET_MS));
        assert_eq!(store.series_count(), series);
    }
    let took = row(&format!("a start that knows {series} series"), &mut times);
    missed(&format!("ms a start that knows {series} series"), took, target)
}

/// What points of counters take on disk, by how what is used of the file grows: an empty one has a size, too. Beside it
/// the same without gathering, which is what it was before there was any.
fn points(folder: &Path, full: bool) -> Option<String> {
    let mut missed = Vec::new();
    let flood = names(if full { 2_560 } else { 300 });
    let demo = if full { (4_320, 17_280) } else { (20, 40) };
    let many = if full { (360, 1_080) } else { (20, 40) };
    for gathers in [true, false] {
        let mut random = fastrand::Rng::with_seed(1);
        let mut of_shop = |bucket| shop(&mut random, bucket);
        let mut random = fastrand::Rng::with_seed(2);
        let mut of_flood =
            |_| flood.iter().map(|one| (one.clone(), counter(random.u64(0..400)))).collect::<Vec<_>>();
        let within = |name: &str| folder.join(format!("{name}-{gathers}"));
        let shops = grow("the demo's counters", &within("demo"), demo, gathers, &mut of_shop);
        let floods = grow("counters in full blocks", &within("many"), many, gathers, &mut of_flood);
        missed.extend([shops, floods].into_iter().filter(|bytes| gathers && full && *bytes > 8.0));
    }
    (!missed.is_empty()).then(|| format!("bytes a point: {missed:?}, not 8"))
}

/// How far a store has come: bytes of its file, of the pages in use, handed to commits, and written by this process.
fn measured(store: &EmbeddedStore) -> [f64; 4] {
    let durability = store.durability();
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let io = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0_u64);
    [durability.disk_bytes, store.rows().unwrap().page_bytes, durability.written_bytes, io]
        .map(|it| it as f64)
}

/// Fills a store up to two buckets and says what came between them for each point; returns the bytes of pages.
fn grow(
    name: &str,
    folder: &Path,
    (first, last): (i64, i64),
    gathers: bool,
    batch: &mut dyn FnMut(i64) -> Vec<(Series, Tally)>,
) -> f64 {
    let mut pace = Gathering::default();
    if !gathers {
        pace.bytes_at_once = 0;
    }
    let store = open(folder, &[kept(10, 3), kept(60, 14)], START).gathering(pace);
    let (mut sums, mut grown, mut gathered) = (0.0, Vec::new(), 0);
    for buckets in [0..first, first..last] {
        gathered = store.gathered().bytes;
        fill(&store, buckets, |bucket| {
            let entries = batch(bucket);
            sums += entries.iter().map(|(_, tally)| value(tally)).sum::<f64>();
            entries
        });
        grown.push(measured(&store));
    }
    let series = store.series(&|_| true).unwrap();
    let readings = store.read(&series, 0, START, START + last * BUCKET_MS).unwrap();
    let read: f64 = readings.iter().flatten().map(|reading| value(&reading.tally)).sum();
    assert!((read - sums).abs() <= 1e-6 * sums, "{read} is not {sums}");
    let points = ((last - first) * series.len() as i64) as f64;
    let [file, pages, handed, written]: [f64; 4] =
        std::array::from_fn(|at| (grown[1][at] - grown[0][at]) / points);
    let rows = store.rows().unwrap();
    let how = if gathers { "gathered" } else { "not gathered" };
    println!(
        "{name}, {how}: {points} points, {pages:.2} bytes a point in pages ({file:.2} by the file's length, which \
         doubles); handed to commits {handed:.1} a point, {:.1} of it by gathering; written to the disk {written:.0}; \
         {} rows are gathered, {} buckets wait in rows of their own",
        (store.gathered().bytes - gathered) as f64 / points,
        rows.gathered,
        rows.single
    );
    pages
}

/// A bucket of a shop like the demo's, its own counters too. Business comes in waves, as there.
fn shop(random: &mut fastrand::Rng, bucket: i64) -> Vec<(Series, Tally)> {
    let rates = [("page_views", 40.0), ("signups", 0.8), ("orders", 0.4)];
    let wave = 10.0 * (1.0 + 0.5 * (bucket as f64 / 1.7).sin());
    let mut entries: Vec<(Series, Tally)> = rates
        .iter()
        .map(|(name, rate)| (Series::new(Kind::Counter, name), counter(arrivals(random, rate * wave))))
        .collect();
    let orders = entries[2].1.clone();
    let mut revenue = Sum::ZERO;
    for _ in 0..value(&orders) as u64 {
        revenue.merge(&Sum::from_parts(i128::from(random.i64(1_000..20_000)), 2, 0.0).unwrap());
    }
    entries.push((Series::new(Kind::Counter, "revenue"), Tally::Counter(revenue)));
    let packets = value(&entries[0].1) as u64 + value(&entries[1].1) as u64 + value(&orders) as u64 + 200;
    for (name, count) in [
        ("bad_lines_seen", 0),
        ("packets_received", packets),
        ("metrics_received", 3 * packets - 400),
        ("kernel_drops", 0),
    ] {
        entries.push((Series::new(Kind::Counter, &format!("statsd.{name}")), counter(count)));
    }
    entries
}

/// How many of something happen that happens `rate` times on average.
fn arrivals(random: &mut fastrand::Rng, rate: f64) -> u64 {
    let (mut at, mut count) = (-(1.0 - random.f64()).ln(), 0);
    while at < rate {
        at -= (1.0 - random.f64()).ln();
        count += 1;
    }
    count
}
