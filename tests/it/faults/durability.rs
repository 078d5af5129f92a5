//! What survives on disk, seen from outside: kill -9 under load, a full disk, a damaged file, backup and restore.

use crate::books::Books;
use crate::support::{Launch, Tallyd, time, wait_until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Lines a second, thirty a datagram.
const RATE: u64 = 50_000;
/// Kills of the short form; the long one has 20.
const KILLS: u64 = 4;
/// The goal is a second (tests/it/faults/large.rs); the rest is for a busy machine.
const START_MAX: Duration = Duration::from_secs(15);
/// Tick, and what a busy machine may be late by.
const TICK: Duration = Duration::from_secs(2);

/// Buckets of a second in a store on disk, and no Graphite.
pub(crate) fn on_disk(folder: &Path) -> Launch {
    with_store(folder, "[flush]\nbucket = \"1s\"\n[graphite]\naddress = []\n")
}

/// The same with buckets of another width, and a Graphite.
pub(crate) fn on_disk_to(folder: &Path, bucket: &str, graphite: &str) -> Launch {
    let flush = format!("[flush]\nbucket = \"{bucket}\"\ngrace = \"200ms\"\n");
    with_store(folder, &format!("{flush}[graphite]\naddress = [\"{graphite}\"]\n"))
}

fn with_store(folder: &Path, toml: &str) -> Launch {
    Launch::native(toml).env("TALLYD_STORE_URL", &format!("file:{}", folder.display()))
}

/// What a counter adds up to over all buckets there are.
pub(crate) fn sum(tallyd: &Tallyd, name: &str) -> f64 {
    let reply = tallyd.http_get(&format!("/api/v1/query?name={name}&from=-2h&step=1m&stat=sum"));
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    let lines = answer["series"].as_array().into_iter().flatten();
    lines.flat_map(|line| line["points"].as_array().unwrap()).filter_map(|point| point[1].as_f64()).sum()
}

fn store_status(tallyd: &Tallyd) -> Value {
    let status: Value = serde_json::from_str(&tallyd.http_get("/api/v1/status").body).unwrap();
    status["store"].clone()
}

/// Sends thirty counters a datagram for so long; returns how many datagrams.
pub(crate) fn load(tallyd: &Tallyd, span: Duration) -> u64 {
    let datagram: Vec<String> = (0..30).map(|n| format!("hits.n{n}:1|c")).collect();
    let datagram = datagram.join("\n");
    let started = time::now();
    let mut sent = 0;
    while started.elapsed() < span {
        tallyd.send_udp(datagram.as_bytes());
        sent += 1;
        let due = Duration::from_secs_f64(sent as f64 * 30.0 / RATE as f64);
        time::sleep(due.saturating_sub(started.elapsed()));
    }
    sent
}

/// What all thirty counters add up to; datagrams come whole, so each has the same.
fn each_counter(tallyd: &Tallyd, what: &str) -> f64 {
    let sums: Vec<f64> = (0..30).map(|n| sum(tallyd, &format!("hits.n{n}"))).collect();
    assert!(sums.iter().all(|found| *found == sums[0]), "{what}: a datagram came in part: {sums:?}");
    sums[0]
}

/// Before the kill the books and the store say the same of what was sent; after it, what they said is there but for
/// a tick at most, and never more than was sent.
#[test]
fn a_kill_costs_at_most_a_tick_and_nothing_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let launch = on_disk(&folder.path().join("store"));
    let kills = if std::env::var_os("TALLYD_TEST_LONG").is_some() { 20 } else { KILLS };
    let seed = time::unix_secs() as u64;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tallyd = launch.start();
    let mut before = 0.0;
    for kill in 0..kills {
        // Not in step with ticks, buckets and checkpoints.
        let mut sent = load(&tallyd, Duration::from_millis(random.u64(500..4_000)));
        let promised = Books::read(&tallyd);
        // When the tick that was under way is done, all that the books had is promised.
        let ticks = |books: &Books| books.json["ticks"]["count"].as_u64().unwrap();
        Books::wait(&tallyd, |books| ticks(books) > ticks(&promised));
        sent += load(&tallyd, Duration::from_millis(random.u64(0..500)));
        let sent = sent as f64;
        let books = Books::read(&tallyd);
        tallyd.kill9();
        // What one tick's books say came from datagrams that were sent, whole.
        assert!(books.counted <= sent as u64 * 30 && books.counted.is_multiple_of(30), "{books:?}");
        assert_eq!((books.refused_total(), books.kernel_drops), (0, 0), "{books:?}");
        let started = time::now();
        tallyd = launch.start();
        assert!(started.elapsed() < START_MAX, "a start takes {:?}", started.elapsed());
        let what =
            format!("kill {kill} of seed {seed}, {sent} sent after {before}, {} counted", books.counted);
        let found = each_counter(&tallyd, &what);
        let got = found - before;
        let most_lost = TICK.as_secs_f64() * RATE as f64 / 30.0;
        assert!(got <= sent, "counted twice: {what}: {got}");
        assert!(got >= (promised.counted / 30) as f64, "promised and lost: {what}: {got}");
        assert!(got >= sent - most_lost, "more than a tick is lost: {what}: {got}");
        let status = Books::read(&tallyd).json;
        assert_eq!(status["store"]["batches_late"], 0, "{what}");
        assert_eq!(status["store"]["journal"]["unreadable"], 0, "{what}: a torn tail is no batch");
        before = found;
    }
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(sum(&launch.start(), "hits.n7"), before, "a stop that is asked for loses nothing");
}

/// A store with counters, timers and sets of a few seconds, of a tallyd that was stopped.
pub(crate) struct SmallStore {
    /// The seconds in which it counted.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl SmallStore {
    /// Fills the store of `launch` with so many series of each kind.
    pub(crate) fn fill(launch: &Launch, series: usize) -> Self {
        let tallyd = launch.start();
        let from = time::unix_secs() - 1;
        for round in 0..3 {
            for n in 0..series {
                tallyd.send_udp(format!("c.{n}:{n}|c\nt.{n}:{round}:{n}|ms\ns.{n}:a{round}|s").as_bytes());
            }
            time::sleep(Duration::from_millis(1_200));
        }
        let to = time::unix_secs();
        assert_eq!(tallyd.sigterm(), Some(0));
        Self { from, to }
    }
}

/// A small file system of its own, unmounted when the test ends.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where the system lets nobody mount, as in an unprivileged container, and says so.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path());
        if !mount.status().unwrap().success() {
            eprintln!("left out: no small file system can be mounted here (this takes root)");
            return None;
        }
        Some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().ok();
    }
}

/// Takes all the room there is; removed, there is room again.
pub(crate) fn fill(disk: &SmallDisk) -> PathBuf {
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 8 << 20]).unwrap_err();
    filler
}

/// Counts so many orders, and waits until there are so many in all.
pub(crate) fn count(tallyd: &Tallyd, n: usize, all: f64) {
    (0..n).for_each(|_| tallyd.send_udp(b"orders:1|c"));
    let there = || sum(tallyd, "orders") == all;
    assert!(wait_until(Duration::from_secs(10), there), "{} of {all}", sum(tallyd, "orders"));
}

/// Waits until the status says whether what is counted is durable; returns why not.
pub(crate) fn durable(tallyd: &Tallyd, wanted: bool) -> String {
    let is = || store_status(tallyd)["durable"] == wanted;
    assert!(wait_until(Duration::from_secs(60), is), "{}", store_status(tallyd));
    store_status(tallyd)["not_durable"]["reason"].to_string()
}

#[test]
fn on_a_full_disk_counting_goes_on_and_is_said_not_to_be_durable() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let launch = on_disk(&disk.path().join("store"));
    let tallyd = launch.start();
    count(&tallyd, 10, 10.0);
    assert_eq!(store_status(&tallyd)["durable"], true);
    let filler = fill(&disk);
    let reason = durable(&tallyd, false);
    assert!(reason.contains("No space left") && reason.contains("free some space"), "{reason}");
    assert!(tallyd.http_get("/metrics").body.contains("\ntallyd_durable 0\n"));
    count(&tallyd, 20, 30.0);
    fs::remove_file(&filler).unwrap();
    durable(&tallyd, true);
    count(&tallyd, 40, 70.0);
    // A tick later it is in the journal.
    time::sleep(TICK);
    tallyd.kill9();
    assert_eq!(sum(&launch.start(), "orders"), 70.0);
}

/// Runs a command of tallyd's on a store.
pub(crate) fn command(launch: &Launch, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args(arguments).arg("--config").arg(launch.dir().join("tallyd.toml")).current_dir(launch.dir());
    command.env("TALLYD_STORE_URL", format!("file:{}", folder.display()));
    command.env("TALLYD_HTTP_LISTEN", format!("127.0.0.1:{}", launch.ports.http));
    command.output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_damaged_store_is_named_and_left_alone_and_a_backup_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    let tallyd = launch.start();
    (0..5).for_each(|_| tallyd.send_udp(b"orders:1|c"));
    assert!(wait_until(Duration::from_secs(10), || sum(&tallyd, "orders") == 5.0));
    let backup = stdout(&command(&launch, &store, &["backup"]));
    let backup = Path::new(backup.trim());
    assert!(backup.is_file(), "{}", backup.display());
    let refused = command(&launch, &store, &["restore", backup.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("stop tallyd"), "{said}");
    assert_eq!(tallyd.sigterm(), Some(0));

    let file = store.join("tallyd.redb");
    let whole = fs::read(&file).unwrap();
    let mut no_head = whole.clone();
    no_head[..4_096].fill(0);
    for damaged in [no_head, whole[..whole.len() / 2].to_vec(), b"something else".to_vec()] {
        fs::write(&file, &damaged).unwrap();
        let mut tallyd = launch.start_unready();
        assert!(wait_until(Duration::from_secs(10), || !tallyd.process.is_running()));
        let log = tallyd.process.stderr();
        assert!(log.contains(file.to_str().unwrap()) && log.contains("damaged"), "{log}");
        assert!(log.contains(backup.to_str().unwrap()), "the backup is named: {log}");
        assert!(!log.contains("panicked"), "{log}");
        assert!(fs::read(&file).unwrap() == damaged, "nothing is written over it");
    }
    let said = stdout(&command(&launch, &store, &["restore", backup.to_str().unwrap()]));
    assert!(said.contains("what was there is"), "{said}");
    assert_eq!(sum(&launch.start(), "orders"), 5.0);
}

/// The journal goes on where the backup ends, or later; what is in both counts once.
#[test]
fn a_restore_takes_over_what_the_journal_still_has_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    let tallyd = launch.start();
    count(&tallyd, 5, 5.0);
    let backup = folder.path().join("copy.redb");
    stdout(&command(&launch, &store, &["backup", "--to", backup.to_str().unwrap()]));
    count(&tallyd, 10, 15.0);
    time::sleep(TICK);
    tallyd.kill9();
    fs::write(store.join("tallyd.redb"), b"gone").unwrap();
    stdout(&command(&launch, &store, &["restore", backup.to_str().unwrap()]));
    let tallyd = launch.start();
    let found = sum(&tallyd, "orders");
    // A checkpoint in between has emptied the journal.
    assert!(found == 15.0 || found == 5.0, "{found}");
    count(&tallyd, 1, found + 1.0);
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(sum(&launch.start(), "orders"), found + 1.0);
}

#[test]
fn a_second_process_is_kept_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = on_disk(folder.path()).start();
    let mut second = on_disk(folder.path()).start_unready();
    assert!(wait_until(Duration::from_secs(10), || !second.process.is_running()));
    let log = second.process.stderr();
    assert!(log.contains("in use by another process"), "{log}");
    assert_eq!(first.sigterm(), Some(0));
}
