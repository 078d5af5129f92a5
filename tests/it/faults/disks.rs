//! Disks that are full or read-only when tallyd starts, and journals that are torn: what it does then, from outside.

use super::durability::{SmallDisk, count, durable, fill, load, on_disk, sum};
use crate::support::time;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is counted until the next tick is in the journal then.
const A_FEW_TICKS: Duration = Duration::from_millis(800);

#[test]
fn a_first_start_on_a_full_disk_counts_in_memory_and_makes_its_store_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let launch = on_disk(&disk.path().join("store"));
    fs::create_dir_all(disk.path().join("store/journal")).unwrap();
    let filler = fill(&disk);
    let tallyd = launch.start();
    count(&tallyd, 10, 10.0);
    let reason = durable(&tallyd, false);
    assert!(reason.contains("No space left") && reason.contains("free some space"), "{reason}");
    assert!(tallyd.http_get("/metrics").body.contains("\ntallyd_durable 0\n"));
    fs::remove_file(&filler).unwrap();
    durable(&tallyd, true);
    count(&tallyd, 20, 30.0);
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();
    assert_eq!(sum(&launch.start(), "orders"), 30.0);
}

#[test]
fn a_restart_on_a_full_disk_knows_what_was_and_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let launch = on_disk(&disk.path().join("store"));
    let tallyd = launch.start();
    count(&tallyd, 10, 10.0);
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();
    let filler = fill(&disk);
    let tallyd = launch.start();
    assert_eq!(sum(&tallyd, "orders"), 10.0);
    count(&tallyd, 20, 30.0);
    durable(&tallyd, false);
    fs::remove_file(&filler).unwrap();
    durable(&tallyd, true);
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();
    assert_eq!(sum(&launch.start(), "orders"), 30.0);
}

#[test]
fn a_read_only_disk_is_read_and_written_again_when_it_may_be() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", &format!("remount,{how}")]).arg(disk.path()).status().unwrap();
        assert!(done.success(), "remount,{how}");
    };
    let folder = disk.path().join("store");
    let launch = on_disk(&folder);
    let tallyd = launch.start();
    count(&tallyd, 10, 10.0);
    time::sleep(A_FEW_TICKS);
    // Part of it is in the journal alone.
    tallyd.kill9();
    remount("ro");
    let before = files(&folder);
    let tallyd = launch.start();
    assert_eq!(sum(&tallyd, "orders"), 10.0);
    count(&tallyd, 20, 30.0);
    let reason = durable(&tallyd, false);
    assert!(reason.contains("Read-only file system"), "{reason}");
    assert!(tallyd.http_get("/metrics").body.contains("\ntallyd_durable 0\n"));
    assert!(files(&folder) == before);
    remount("rw");
    durable(&tallyd, true);
    count(&tallyd, 40, 70.0);
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();
    assert_eq!(sum(&launch.start(), "orders"), 70.0);
}

/// All files below a directory, with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

fn put(folder: &Path, files: &[(PathBuf, Vec<u8>)]) {
    fs::remove_dir_all(folder).unwrap();
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What was in front of the damage is here, nothing twice, and a second start changes nothing.
#[test]
fn a_torn_journal_costs_what_is_torn_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    let tallyd = launch.start();
    let sent = load(&tallyd, Duration::from_millis(2_500)) as f64;
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();
    let whole = files(&store);
    let journal = store.join("journal");
    let largest =
        |(path, bytes): &&(PathBuf, Vec<u8>)| if path.starts_with(&journal) { bytes.len() } else { 0 };
    let (segment, bytes) = whole.iter().max_by_key(largest).unwrap();
    assert!(segment.starts_with(&journal) && bytes.len() > 1_000, "{}", segment.display());
    let found = sum(&launch.start(), "hits.n3");
    assert!(found == sent, "{found} {sent}");
    let mut random = StdRng::seed_from_u64(3);
    let long = std::env::var_os("TALLYD_TEST_LONG").is_some();
    let mut lost = 0;
    for n in 0..if long { 100 } else { 10 } {
        put(&store, &whole);
        let mut torn = bytes.clone();
        let at = random.random_range(0..torn.len());
        if n % 2 == 0 {
            torn.truncate(at);
        } else {
            torn[at] ^= 1 << random.random_range(0..8);
        }
        fs::write(segment, &torn).unwrap();
        let logged = crate::books::log(&launch).len();
        let tallyd = launch.start();
        let found = sum(&tallyd, "hits.n3");
        assert!(found <= sent, "torn at {at}: {found} of {sent}");
        lost += u32::from(found < sent);
        let status: Value = serde_json::from_str(&tallyd.http_get("/api/v1/status").body).unwrap();
        let said = crate::books::log(&launch).split_off(logged);
        assert!(!said.contains("panicked"), "{said}");
        if n % 2 == 1 {
            assert!(
                said.contains("was damaged"),
                "turned over at {at}: {said} {}",
                status["store"]["journal"]
            );
        }
        tallyd.kill9();
        assert_eq!(sum(&launch.start(), "hits.n3"), found, "torn at {at}, started twice");
    }
    assert!(lost > 0, "what is torn is lost");
}
