//! Layouts of every version there ever was: a directory as a tallyd of that layout left it when it was killed, and
//! what was in it. Today's program must read each, and answer as was answered then.
//!
//! `store-N.tar.gz` holds the store in layout N with the journal that had not reached it yet (`data`), the moment of
//! the kill (`made_at`, milliseconds since 1970) and the answers to some questions (`answers.json`). It is read with a
//! clock that stands at that moment, so that nothing of it is too old. A file of a layout that was once released is
//! never made anew. With `TALLYD_TEST_GOLDEN` set, that of the present layout is, if there is none. Since layout 2 part
//! of the buckets are gathered, which the program does only minutes later: it is done to the store that it left.
//!
//! Bytes of batches and tallies of every version are read in `batch.rs` and `encoding.rs`.

use crate::support::{Launch, http, repository, time};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tallyd::clock::Clock;
use tallyd::store::Store;
use tallyd::store::embedded::{Disk, EmbeddedStore, Gathering, Rules};
use tallyd::{config, run};

/// A checkpoint comes every ten seconds; the rest is for a busy machine.
const CHECKPOINTED: Duration = Duration::from_secs(14);
const CONFIG: &str =
    "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = []\n[console]\nlisten = \"off\"\n";

/// Questions that together look at every kind, exact and beyond it, and what the answers add up to.
const QUESTIONS: [(&str, &str, f64); 10] = [
    ("golden.orders", "sum", 42.5),
    ("golden.tagged%3Bplan=pro", "sum", 7.0),
    ("golden.few", "count", 5.0),
    ("golden.few", "p50", 3.0),
    ("golden.many", "count", 600.0),
    ("golden.many", "sum", 180_300.0),
    ("golden.many", "max", 600.0),
    ("golden.visitors", "uniques", 3.0),
    ("golden.crowd", "uniques", 400.0),
    ("golden.stock", "last", 10.0),
];
/// When all buckets of a run are so old that they are gathered.
const LATER_MS: i64 = 1_800_000;
/// An estimate is within so much of what was sent.
const ESTIMATE: f64 = 0.05;

fn archive(layout: u64) -> PathBuf {
    repository(&format!("tests/it/golden/store-{layout}.tar.gz"))
}

/// The number behind a constant of the source.
fn constant(file: &str, begins: &str) -> u64 {
    let text = fs::read_to_string(repository(file)).unwrap();
    let line =
        text.lines().find_map(|line| line.split_once(begins)).unwrap_or_else(|| panic!("{begins} in {file}"));
    let number = line.1.trim_end_matches(';').trim();
    number
        .strip_prefix("0x")
        .map_or_else(|| number.parse().unwrap(), |hex| u64::from_str_radix(hex, 16).unwrap())
}

fn tar(arguments: &[&str], archive: &Path, dir: &Path) {
    let mut tar = Command::new("tar");
    tar.args(arguments).arg(archive).arg("-C").arg(dir);
    if arguments[0] == "-czf" {
        tar.args([
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--sparse",
            "data",
            "made_at",
            "answers.json",
        ]);
    }
    assert!(tar.status().unwrap().success(), "tar {arguments:?} {}", archive.display());
}

/// What a tallyd that starts on a copy of `dir/data` at the moment `made_at` answers.
fn answers(dir: &Path, made_at: i64) -> Vec<Value> {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(dir.join("data")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let url = format!("file:{}", copy.path().join("data").display());
    let env = [
        ("TALLYD_STORE_URL", url.as_str()),
        ("TALLYD_INGEST_UDP", "127.0.0.1:0"),
        ("TALLYD_HTTP_LISTEN", "127.0.0.1:0"),
    ];
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = config::native(CONFIG, env).unwrap().config;
    let service = run::start(&config, &Clock::manual(made_at)).unwrap();
    let port = service.addresses().http.unwrap().port();
    let (from, to) = (made_at / 60_000 * 60 - 60, made_at / 60_000 * 60 + 60);
    let ask = |(name, stat, _): &(&str, &str, f64)| {
        let path = format!("/api/v1/query?name={name}&stat={stat}&from={from}&to={to}&step=2m");
        let reply = http::get(port, &path).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        answer["series"].clone()
    };
    let answers = QUESTIONS.iter().map(ask).collect();
    assert!(service.stop().undelivered.is_empty());
    answers
}

/// All that an answer's points come to; there is one step or two, as the clock would have it.
fn total(answer: &Value, stat: &str) -> f64 {
    let lines = answer.as_array().unwrap().iter();
    let points: Vec<f64> = lines
        .flat_map(|line| line["points"].as_array().unwrap())
        .filter_map(|point| point[1].as_f64())
        .collect();
    match stat {
        "sum" | "count" => points.iter().sum(),
        _ => points.iter().copied().reduce(f64::max).unwrap_or(f64::NAN),
    }
}

fn assert_true(answers: &[Value]) {
    for ((name, stat, truth), answer) in QUESTIONS.iter().zip(answers) {
        let found = total(answer, stat);
        let slack = if *name == "golden.crowd" { ESTIMATE * truth } else { 0.0 };
        assert!((found - truth).abs() <= slack, "{name} {stat}: {found}, not {truth}: {answer}");
    }
}

/// Makes the directory of the present layout: part of it in the store, part in the journal alone.
fn make(archive: &Path) {
    let launch = Launch::native(CONFIG);
    let data = launch.dir().join("data");
    let launch = launch.env("TALLYD_STORE_URL", &format!("file:{}", data.display()));
    let tallyd = launch.start();
    // All of one minute, so that percentiles and uniques have one step.
    while time::unix_secs() % 60 > 30 {
        time::sleep(Duration::from_millis(500));
    }
    tallyd.send_udp(
        b"golden.orders:30.25|c\ngolden.tagged:3|c|#plan:pro\ngolden.tagged:5|c|#plan:free\ngolden.stock:7|g",
    );
    tallyd.send_udp(b"golden.few:1:2:3|ms\ngolden.visitors:ada|s\ngolden.visitors:bob|s");
    for part in 0..6 {
        let values: Vec<String> = (1..=100).map(|value| (part * 100 + value).to_string()).collect();
        tallyd.send_udp(format!("golden.many:{}|ms", values.join(":")).as_bytes());
        let members: Vec<String> =
            (0..100).map(|member| format!("golden.crowd:user-{}|s", (part * 100 + member) % 400)).collect();
        tallyd.send_udp(members.join("\n").as_bytes());
    }
    time::sleep(CHECKPOINTED);
    tallyd.send_udp(b"golden.orders:12.25|c\ngolden.tagged:4|c|#plan:pro\ngolden.stock:+3|g\ngolden.few:4:5|ms\ngolden.visitors:cleo|s");
    time::sleep(Duration::from_millis(700));
    let made_at = time::unix_secs() * 1_000 + 999;
    let dir = data.parent().unwrap().to_owned();
    tallyd.kill9();
    fs::remove_dir_all(dir.join("data/backups")).ok();
    gather(&data, made_at);
    let answers = answers(&dir, made_at);
    assert_true(&answers);
    fs::write(dir.join("made_at"), made_at.to_string()).unwrap();
    fs::write(dir.join("answers.json"), serde_json::to_string_pretty(&answers).unwrap()).unwrap();
    tar(&["-czf"], archive, &dir);
}

/// Gathers what the store of a process that was killed has, as it would some minutes later, and nothing else.
fn gather(folder: &Path, made_at: i64) {
    let config = config::native(CONFIG, std::iter::empty()).unwrap().config;
    let rules = Rules {
        ladder: config.store.ladder.clone(),
        bounds: config.aggregate.bounds,
        bytes_max: config.store.memory_bytes_max,
        destinations: config.graphite.addresses.clone(),
        history: config.store.history.clone(),
        figures: config.store.figures.clone(),
    };
    let disk = Disk::open(&folder.join("tallyd.redb")).unwrap();
    let store = EmbeddedStore::on_disk(rules, config.idle.clone(), disk, made_at).unwrap();
    let store = store.gathering(Gathering { versions_at_once: 2, ..Gathering::default() });
    // Late enough that they need not fill a row; nothing is due.
    store.fold(i64::MIN, made_at + LATER_MS).unwrap();
    store.checkpoint(made_at).unwrap();
    let rows = store.rows().unwrap();
    assert!(rows.gathered > 1 && rows.single > 1, "{rows:?}");
}

#[test]
fn every_layout_of_the_past_is_read() {
    let present = constant("src/store/embedded/layout.rs", "const FORMAT: u64 = ");
    if std::env::var_os("TALLYD_TEST_GOLDEN").is_some() && !archive(present).exists() {
        make(&archive(present));
    }
    for layout in 1..=present {
        let dir = tempfile::tempdir().unwrap();
        assert!(archive(layout).exists(), "no directory of layout {layout}: see the head of this file");
        tar(&["-xzf"], &archive(layout), dir.path());
        let made_at = fs::read_to_string(dir.path().join("made_at")).unwrap().parse().unwrap();
        assert!(
            fs::read_dir(dir.path().join("data/journal")).unwrap().count() > 0,
            "the journal is part of it"
        );
        let answers = answers(dir.path(), made_at);
        assert_true(&answers);
        let then: Vec<Value> =
            serde_json::from_str(&fs::read_to_string(dir.path().join("answers.json")).unwrap()).unwrap();
        assert_eq!(answers, then, "layout {layout}");
    }
}

/// Whoever raises one of these adds to what is read here, in `batch.rs` or in `encoding.rs`, first.
#[test]
fn there_are_golden_files_of_every_version() {
    assert_eq!(constant("src/store/embedded/layout.rs", "const FORMAT: u64 = "), 2);
    assert_eq!(constant("src/journal/segment.rs", "const VERSION: u32 = "), 1);
    assert_eq!(constant("src/wire/tally.rs", "const VERSION: u8 = "), 0x10);
}
