//! A damaged store: found and named, or of no consequence; never a panic, never written over. From outside, at many
//! places of a real file; and inside, where the file is not compared with its checksums when it is opened, as that of
//! a large store is not.

use super::durability::{SmallStore, command, on_disk, stdout};
use crate::books::{log, refuses_to_start};
use crate::support::{Launch, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Bits turned over, one at a time, and lengths that a file is cut to; so many times as many in the long form.
const BITS: usize = 40;
const CUTS: usize = 8;
const LONG: usize = 10;
/// redb's header, in which every byte matters, and the byte in it whose bits say which of two commits is the newer.
const HEADER_BYTES: usize = 320;
const WHICH_COMMIT: usize = 9;

fn times() -> usize {
    if std::env::var_os("TALLYD_TEST_LONG").is_some() { LONG } else { 1 }
}

/// What was done to a file.
#[derive(Debug)]
enum Damage {
    Bit { byte: usize, bit: u8 },
    Cut(usize),
    Zeroed(std::ops::Range<usize>),
    Longer(usize),
    Other,
}

impl Damage {
    fn done_to(&self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Bit { byte, bit } => bytes[*byte] ^= 1 << bit,
            Self::Cut(length) => bytes.truncate(*length),
            Self::Zeroed(range) => bytes[range.clone()].fill(0),
            Self::Longer(more) => bytes.extend(vec![0xa5; *more]),
            Self::Other => bytes = b"this is no store\n".repeat(1_000),
        }
        bytes
    }

    /// Damage that the file cannot have and be whole.
    fn is_certain(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Other) || matches!(self, Self::Zeroed(range) if range.start == 0)
    }
}

fn damages(length: usize, times: usize) -> Vec<Damage> {
    let mut random = StdRng::seed_from_u64(11);
    let mut all = vec![Damage::Other, Damage::Cut(0), Damage::Cut(1), Damage::Cut(HEADER_BYTES)];
    all.extend([0..4_096, 0..length, 4_096..8_192, length / 2..length].map(Damage::Zeroed));
    all.push(Damage::Longer(5_000));
    all.push(Damage::Bit { byte: WHICH_COMMIT, bit: 0 });
    for _ in 0..CUTS * times {
        all.push(Damage::Cut(random.random_range(0..length)));
    }
    for n in 0..BITS * times {
        let end = if n % 3 == 0 { HEADER_BYTES } else { length };
        all.push(Damage::Bit { byte: random.random_range(0..end), bit: random.random_range(0..8) });
    }
    all
}

/// The points of each series.
type Lines = Vec<(String, Value)>;

/// What the store answers about everything that was counted.
fn answers(launch: &Launch, of: &SmallStore) -> Vec<Lines> {
    let tallyd = launch.start();
    let range = format!("from={}&to={}&step=1s", of.from, of.to);
    let all = ["name=**&kind=counter", "name=**&kind=timer&stat=p90", "name=**&kind=set"].map(|what| {
        let reply = tallyd.http_get(&format!("/api/v1/query?{what}&{range}"));
        assert_eq!(reply.status, 200, "{}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        let lines = answer["series"].as_array().unwrap().iter();
        lines.map(|line| (line["name"].to_string(), line["points"].clone())).collect()
    });
    tallyd.kill9();
    all.to_vec()
}

#[test]
fn any_damage_of_the_file_is_named_or_of_no_consequence() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    let small = SmallStore::fill(&launch, 400);
    let backup = stdout(&command(&launch, &store, &["backup"]));
    let backup = Path::new(backup.trim());
    let file = store.join("tallyd.redb");
    let whole = fs::read(&file).unwrap();
    let truth = answers(&launch, &small);
    assert!(truth.iter().all(|of_kind| of_kind.len() >= 400), "{truth:?}");
    let (mut refused, mut harmless) = (0, 0);
    for damage in damages(whole.len(), times()) {
        let bytes = damage.done_to(&whole);
        fs::write(&file, &bytes).unwrap();
        fs::remove_dir_all(store.join("journal")).ok();
        let before = log(&launch).len();
        let mut tallyd = launch.start_unready();
        let starts =
            || crate::support::http::get(launch.ports.http, "/health/ready").is_ok_and(|it| it.status == 200);
        let mut ended = false;
        wait_until(Duration::from_secs(20), || {
            ended = !tallyd.process.is_running();
            ended || starts()
        });
        let said = log(&launch).split_off(before);
        assert!(!said.contains("panicked"), "{damage:?}: {said}");
        if ended {
            refused += 1;
            assert_eq!(tallyd.sigterm(), Some(1), "{damage:?}: {said}");
            assert!(said.contains("is damaged (") && said.contains("tallyd restore"), "{damage:?}: {said}");
            assert!(said.contains(backup.to_str().unwrap()), "the backup is named: {said}");
            assert!(fs::read(&file).unwrap() == bytes, "{damage:?}: nothing is written over it");
        } else {
            assert!(!damage.is_certain(), "{damage:?} goes unnoticed");
            harmless += 1;
            tallyd.kill9();
            fs::write(&file, &bytes).unwrap();
            fs::remove_dir_all(store.join("journal")).ok();
            let found = answers(&launch, &small);
            let older = matches!(damage, Damage::Bit { byte: WHICH_COMMIT, .. });
            assert!(older || found == truth, "{damage:?} goes unnoticed");
        }
    }
    println!("{refused} kinds of damage were found, {harmless} had no consequence");
    assert!(refused > harmless, "{refused} {harmless}");
    fs::write(&file, &whole[..whole.len() / 3]).unwrap();
    let said = stdout(&command(&launch, &store, &["restore", backup.to_str().unwrap()]));
    assert!(said.contains("what was there is"), "{said}");
    fs::remove_dir_all(store.join("journal")).ok();
    assert_eq!(answers(&launch, &small), truth, "the backup has everything");
}

/// Commands on a stopped store find the same, and a backup that is damaged is not put in its place.
#[test]
fn commands_name_damage_too_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    SmallStore::fill(&launch, 10);
    let file = store.join("tallyd.redb");
    let whole = fs::read(&file).unwrap();
    let backup = stdout(&command(&launch, &store, &["backup"]));
    let backup = Path::new(backup.trim());
    let good = fs::read(backup).unwrap();

    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[4_096..middle].iter_mut().for_each(|byte| *byte ^= 0x10);
    fs::write(backup, &bad).unwrap();
    let stored = fs::read(&file).unwrap();
    let output = command(&launch, &store, &["restore", backup.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains(backup.to_str().unwrap()), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(fs::read(&file).unwrap() == stored && fs::read(backup).unwrap() == bad, "nothing is written");

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let output = command(&launch, &store, &["backup"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is damaged (") && !said.contains("panicked"), "{said}");
    assert!(fs::read(&file).unwrap() == whole[..whole.len() / 2], "nothing is written over it");
}

/// What a later version writes, and what was written for other buckets, is refused in words.
#[test]
fn a_newer_layout_and_another_width_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let launch = on_disk(&store);
    SmallStore::fill(&launch, 10);
    let file = store.join("tallyd.redb");
    let whole = fs::read(&file).unwrap();

    let other = Launch::native("[flush]\nbucket = \"5s\"\n[graphite]\naddress = []\n")
        .env("TALLYD_STORE_URL", &format!("file:{}", store.display()));
    let said = refuses_to_start(&other);
    assert!(said.contains("buckets of 1000 ms") && said.contains("flush.bucket"), "{said}");
    assert!(fs::read(&file).unwrap() == whole, "nothing is written over it");

    write_setting(&file, b"mformat", b"9");
    let newer = fs::read(&file).unwrap();
    for said in [
        refuses_to_start(&launch),
        String::from_utf8(command(&launch, &store, &["backup"]).stderr).unwrap(),
        String::from_utf8(command(&launch, &store, &["restore", file.to_str().unwrap()]).stderr).unwrap(),
    ] {
        assert!(said.contains("was written by a later version of tallyd"), "{said}");
        assert!(
            said.contains("its format is 9, this one knows 2") && said.contains("Run that version"),
            "{said}"
        );
        assert!(fs::read(&file).unwrap() == newer, "nothing is written over it");
    }
}

/// Writes an entry as the store does: with the checksum of its key and value behind it.
pub(crate) fn write_setting(file: &Path, key: &[u8], value: &[u8]) {
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("tallyd");
    let database = redb::Database::open(file).unwrap();
    let mut writing = database.begin_write().unwrap();
    writing.set_quick_repair(true);
    let sum = crc32fast::hash(&[key, value].concat()).to_le_bytes();
    writing.open_table(table).unwrap().insert(key, &[value, &sum[..]].concat()[..]).unwrap();
    writing.commit().unwrap();
}
