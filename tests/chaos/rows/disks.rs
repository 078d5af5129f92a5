//! Rows 15 and 16: a disk that is full or read-only, and a torn journal.

#[path = "../../it/faults/durability.rs"]
#[expect(dead_code, unused_imports, reason = "its other users are in tests/it")]
mod durability;

use crate::board::{Outcome, step};
use crate::books::log;
use crate::support::{Launch, Tallyd, time, wait_until};
use durability::{SmallDisk, count, durable, fill, on_disk, sum};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is counted until the next tick is in the journal then.
const A_FEW_TICKS: Duration = Duration::from_millis(800);

/// Full while it runs, full when it starts, read-only: it counts on, says so, and resumes by itself.
pub(crate) fn full(outcome: &mut Outcome) {
    let Some(disk) = SmallDisk::mount() else {
        outcome.require(false, "not played: a small file system takes root");
        return;
    };
    let launch = on_disk(&disk.path().join("store"));
    let mut all = 0.0;
    let mut tallyd = launch.start();
    more(&tallyd, 10, &mut all);

    let filler = fill(&disk);
    let said = durable(&tallyd, false);
    outcome.require(said.contains("No space left"), format!("it says {said}"));
    more(&tallyd, 1_000, &mut all);
    resumes(outcome, "disk full", &tallyd, || fs::remove_file(&filler).expect("there is room again"));
    more(&tallyd, 10, &mut all);
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();

    let filler = fill(&disk);
    tallyd = launch.start();
    more(&tallyd, 1_000, &mut all);
    durable(&tallyd, false);
    resumes(outcome, "full at the start", &tallyd, || fs::remove_file(&filler).expect("there is room again"));
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();

    remount(&disk, "ro");
    tallyd = launch.start();
    more(&tallyd, 1_000, &mut all);
    let said = durable(&tallyd, false);
    outcome.require(said.contains("Read-only file system"), format!("it says {said}"));
    resumes(outcome, "read-only", &tallyd, || remount(&disk, "rw"));
    time::sleep(A_FEW_TICKS);
    tallyd.kill9();

    let tallyd = launch.start();
    let found = sum(&tallyd, "orders");
    outcome.figure(format!("{all} counted, {found} there after three kills"));
    outcome.unexplained((all - found) as i64);
    outcome.require(!log(&launch).contains("panicked"), "it panicked");
}

fn more(tallyd: &Tallyd, n: usize, all: &mut f64) {
    *all += n as f64;
    count(tallyd, n, *all);
}

fn remount(disk: &SmallDisk, how: &str) {
    let mut mount = Command::new("mount");
    let done = mount.args(["-o", &format!("remount,{how}")]).arg(disk.path()).status().expect("mount runs");
    assert!(done.success(), "remount,{how}");
}

fn resumes(outcome: &mut Outcome, what: &str, tallyd: &Tallyd, mend: impl FnOnce()) {
    mend();
    let mended = time::now();
    durable(tallyd, true);
    outcome.figure(format!(
        "{what}: \"not durable\" said, counted on, durable again after {:.0} s",
        mended.elapsed().as_secs_f64()
    ));
}

/// The files of a store, to be put back.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the store is there").map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).expect("it can be read")));
        }
    }
    found
}

/// A journal of some records, and what a start finds when it is damaged.
struct Journal {
    launch: Launch,
    store: PathBuf,
    whole: Vec<(PathBuf, Vec<u8>)>,
    segment: PathBuf,
    bytes: Vec<u8>,
    panics: u64,
    _dir: tempfile::TempDir,
}

impl Journal {
    /// One order a tick, and then a kill: checkpoints, which empty the journal, are ten seconds apart.
    fn filled(records: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = dir.path().join("store");
        let launch = on_disk(&store).env("TALLYD_FLUSH_TICK", "50ms");
        let tallyd = launch.start();
        for n in 1..=records {
            count(&tallyd, 1, n as f64);
        }
        tallyd.kill9();
        let whole = files(&store);
        let journal = store.join("journal");
        let of_journal = whole.iter().filter(|(path, _)| path.starts_with(&journal));
        let (segment, bytes) = of_journal.max_by_key(|(_, bytes)| bytes.len()).expect("a segment").clone();
        Self { launch, store, whole, segment, bytes, panics: 0, _dir: dir }
    }

    /// Ends of the header and of each record, as the head of `journal/segment.rs` draws them.
    fn ends(&self) -> Vec<usize> {
        let mut ends = vec![24];
        while let Some(length) = ends.last().and_then(|at| self.bytes.get(at + 12..at + 16)) {
            let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
            ends.push(ends[ends.len() - 1] + 40 + length);
        }
        ends
    }

    /// What is counted after a start with these bytes; nothing when it does not start.
    fn found(&mut self, bytes: &[u8]) -> Option<f64> {
        fs::remove_dir_all(&self.store).expect("it can be removed");
        for (path, bytes) in &self.whole {
            fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            fs::write(path, bytes).expect("it can be written");
        }
        fs::write(&self.segment, bytes).expect("it can be written");
        let before = log(&self.launch).len();
        let mut tallyd = self.launch.start_unready();
        let ready = || {
            let answer = crate::support::http::get(self.launch.ports.http, "/health/ready");
            answer.is_ok_and(|reply| reply.status == 200)
        };
        wait_until(Duration::from_secs(20), || ready() || !tallyd.process.is_running());
        let found = tallyd.process.is_running().then(|| sum(&tallyd, "orders"));
        tallyd.kill9();
        self.panics += u64::from(log(&self.launch)[before..].contains("panicked"));
        found
    }
}

/// Cut behind each byte, and a bit of every third byte turned over.
pub(crate) fn torn(outcome: &mut Outcome) {
    const RECORDS: usize = 10;
    let mut journal = Journal::filled(RECORDS);
    let (bytes, ends) = (journal.bytes.clone(), journal.ends());
    outcome.require(ends.last() == Some(&bytes.len()), "the journal is not as it is drawn");
    // What each number of whole records holds.
    let at_ends: Vec<Option<f64>> = ends.iter().map(|end| journal.found(&bytes[..*end])).collect();
    let all = at_ends.last().copied().flatten();
    outcome.require(all == Some(RECORDS as f64), format!("the whole journal holds {all:?} of {RECORDS}"));
    let rises = at_ends.windows(2).all(|pair| pair[0] <= pair[1]);
    outcome.require(rises, format!("fewer records hold more: {at_ends:?}"));
    let before = |at: usize| at_ends[ends.iter().rposition(|end| *end <= at).unwrap_or(0)];
    let mut wrong = 0;
    for cut in 0..bytes.len() {
        let found = journal.found(&bytes[..cut]);
        wrong += u64::from(found.is_none() || found != before(cut));
        if cut % 200 == 0 {
            step(&format!("cut at {cut} of {} bytes", bytes.len()));
        }
    }
    let mut turned = 0;
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let found = journal.found(&damaged);
        turned += 1;
        // All before it; behind it what is whole may be found too, and never more than there was.
        let least = before(at).unwrap_or(0.0);
        let right = found.is_some_and(|found| found >= least && found <= RECORDS as f64);
        wrong += u64::from(!right);
    }
    outcome.figure(format!(
        "{} cuts and {turned} bits in {} records: {wrong} wrong, {} panics",
        bytes.len(),
        ends.len() - 1,
        journal.panics
    ));
    outcome.unexplained(wrong as i64);
    outcome.require(wrong == 0, format!("{wrong} kinds of damage"));
    outcome.require(journal.panics == 0, format!("{} panics", journal.panics));
}
