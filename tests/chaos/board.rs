//! The scoreboard: plays rows, and keeps docs/reliability.md.

use crate::rows::ROWS;
use crate::support::{repository, time};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const DOCUMENT: &str = "docs/reliability.md";
/// Rows stand between these.
const HEAD: &str =
    "| # | fault | target | result | verdict | played |\n| --- | --- | --- | --- | --- | --- |\n";

/// One fault, what is promised, and how it is played.
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) target: &'static str,
    pub(crate) play: fn(&mut Outcome),
}

/// What came of a row.
#[derive(Default)]
pub(crate) struct Outcome {
    figures: Vec<String>,
    misses: Vec<String>,
    unexplained: i64,
    quiet: bool,
}

/// Says where a row has come to, for whoever waits.
pub(crate) fn step(words: &str) {
    println!("       {words}");
}

impl Outcome {
    /// A part of the result.
    pub(crate) fn figure(&mut self, words: impl Into<String>) {
        let words = words.into();
        step(&words);
        self.figures.push(words);
    }

    /// Misses the target unless this holds.
    pub(crate) fn require(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            let words = otherwise.into();
            step(&format!("MISSED: {words}"));
            self.misses.push(words);
        }
    }

    /// What nobody can say where it went, or where it came from: neither counted, nor refused, nor dropped by the
    /// kernel as it says, nor lost in a way that the target allows.
    pub(crate) fn unexplained(&mut self, count: i64) {
        self.unexplained += count.abs();
    }

    /// The row measures time, which neighbours on the machine take away.
    pub(crate) fn wants_a_quiet_machine(&mut self) {
        self.quiet = true;
    }

    fn is_met(&self) -> bool {
        self.misses.is_empty() && self.unexplained == 0
    }

    fn result(&self) -> String {
        let mut words = self.figures.clone();
        words.push(format!("unexplained {}", self.unexplained));
        words.join("; ")
    }

    fn verdict(&self) -> String {
        if self.is_met() {
            return "met".to_owned();
        }
        let mut words = format!("**missed**: {}", self.misses.join("; "));
        if self.quiet {
            words.push_str(" (this row wants a machine of its own)");
        }
        words
    }
}

/// Plays these rows, or all; ends the process with 1 if one misses its target.
pub(crate) fn play(wanted: &[usize]) {
    let started = time::now();
    let mut missed = Vec::new();
    for (number, row) in (1..).zip(&ROWS) {
        if !wanted.is_empty() && !wanted.contains(&number) {
            continue;
        }
        println!("row {number:>2}: {}\n       target: {}", row.fault, row.target);
        let (outcome, took) = played(row);
        println!(
            "row {number:>2}: {} ({} s)\n       {}\n",
            outcome.verdict(),
            took.as_secs(),
            outcome.result()
        );
        if !outcome.is_met() {
            missed.push(number);
        }
        // Read each time: other rows may be played beside this one.
        let mut lines = lines_of(&std::fs::read_to_string(repository(DOCUMENT)).unwrap_or_default());
        lines.insert(number, line(number, row, &outcome, took));
        std::fs::write(repository(DOCUMENT), document(&lines)).expect("the document is written");
    }
    println!("{} min in all; rows that missed their target: {missed:?}", started.elapsed().as_secs() / 60);
    if !missed.is_empty() {
        std::process::exit(1);
    }
}

fn played(row: &Row) -> (Outcome, Duration) {
    let started = time::now();
    let mut outcome = Outcome::default();
    let ended = catch_unwind(AssertUnwindSafe(|| (row.play)(&mut outcome)));
    if let Err(panic) = ended {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        let first = said.lines().next().unwrap_or_default();
        outcome.require(false, format!("ended early: {}", first.chars().take(200).collect::<String>()));
    }
    (outcome, started.elapsed())
}

fn line(number: usize, row: &Row, outcome: &Outcome, took: Duration) -> String {
    let (fault, target) = (row.fault, row.target);
    let (result, verdict) = (escaped(&outcome.result()), escaped(&outcome.verdict()));
    format!("| {number} | {fault} | {target} | {result} | {verdict} | {}, {} s |", today(), took.as_secs())
}

/// What would end a cell of the table, or the line, does not.
fn escaped(words: &str) -> String {
    words.replace(['\n', '\r'], " ").replace('|', "/")
}

fn today() -> String {
    let days = chrono::DateTime::from_timestamp(time::unix_secs(), 0).expect("a time of our days");
    days.format("%Y-%m-%d").to_string()
}

/// The lines that a document has, by row.
fn lines_of(document: &str) -> BTreeMap<usize, String> {
    let rows = document.lines().filter_map(|line| {
        let number = line.strip_prefix("| ")?.split(' ').next()?.parse().ok()?;
        Some((number, line.to_owned()))
    });
    rows.collect()
}

fn document(lines: &BTreeMap<usize, String>) -> String {
    let met = lines.values().filter(|line| line.contains(" | met | ")).count();
    let mut text = format!(
        "# Reliability\n\n\
         Faults, what is promised in each, and what came of it when it was last played: `make chaos` plays all of\n\
         them against the built program (`--release`) and real servers, and writes this page; `make chaos\n\
         ROWS=\"1 5\"` plays some. A row that misses its target stays here with its figure.\n\n\
         In every row the books balance: what was received is counted, or refused for a reason that is named, or\n\
         dropped by the kernel, which says how many. *Unexplained* is what is left, and *lost* what was received and\n\
         is not there in the end; *double* is what is there and was not sent.\n\n\
         Machine: {}. {met} of {} targets are met.\n\n",
        machine(),
        ROWS.len(),
    );
    text.push_str(HEAD);
    for line in lines.values() {
        writeln!(text, "{line}").expect("a string takes all");
    }
    text.push_str(
        "\nLines are counters of 1 unless the row says otherwise, thirty of them a datagram. Samples that a test sends\n\
         for a time in the past carry a timestamp, so that an hour need not be waited for. Power is not cut here: what\n\
         the disk was told to keep is tried by the simulation of row 21 alone.\n",
    );
    text
}

/// In general terms: what a reader needs to judge the figures.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    format!("{cores} cores, {} GB of memory, Linux {}", (kib + (1 << 19)) >> 20, kernel.join("."))
}

/// The document has a line for each row, with the fault and the target that stand here.
pub(crate) fn check() {
    let document = std::fs::read_to_string(repository(DOCUMENT)).expect("the document is there");
    let lines = lines_of(&document);
    for (number, row) in (1..).zip(&ROWS) {
        let wanted = format!("| {number} | {} | {} | ", row.fault, row.target);
        let line = lines.get(&number).unwrap_or_else(|| panic!("{DOCUMENT} has no row {number}"));
        assert!(line.starts_with(&wanted), "{DOCUMENT} says other things of row {number}: play it again");
    }
    assert_eq!(lines.len(), ROWS.len(), "{DOCUMENT} has other rows");
    println!("{DOCUMENT} has all {} rows; `make chaos` plays them", ROWS.len());
}
