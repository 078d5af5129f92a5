//! Question: has a line become dearer? The gate that noise does not move: instructions, not nanoseconds.
//!
//! Each case runs under valgrind's callgrind once with few lines and once with many; the difference is what a line
//! takes, without start and warm-up. It fails where that is more than [`GROWTH_MAX`] above the figure of record in
//! benches/record/instructions.txt, and where a deliberately dearer case, the canary, passes. Figures belong to a
//! compiler: where it is not the one of record they are shown and compared, but not judged.
//!
//! Instructions are not time: a miss of the cache is none. What they catch is a branch, a copy or a call that nobody
//! meant to add. Plain callgrind and not gungraun, whose runner would have to be installed in the version that its
//! library asks for; four lines of output are all that is needed of it.
//!
//! `cargo bench --bench instructions` judges, `-- --record` writes the figures of record; without `--bench`
//! (unoptimised) it only shows that it can count.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::fmt::Write;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tallyd::aggregate::Registry;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::config::Config;
use tallyd::health::Refusal;
use tallyd::ingest::receive::Receiver;
use tallyd::sys::Waker;
use tallyd::wire::statsd::{self, Sample, Visitor};

const SERIES: usize = 1_000;
const LINES_A_PACKET: usize = 30;
/// Packets in the two runs of a case.
const PACKETS: [usize; 2] = [500, 1_500];
/// How far above the record is too far. Seeds of hashes differ from run to run; that is less than 1 %.
const GROWTH_MAX: f64 = 0.03;
/// Not judged by its own figure, but by that of the case it repeats.
const CANARY: &str = "canary";
const CANARY_OF: &str = "counter";

const CASES: [&str; 7] = ["parse", "counter", "tagged", "sampled", "timer", "member", CANARY];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let Some("--count") = arguments.next().as_deref() {
        let case = arguments.next().expect("a case");
        return count(&case, arguments.next().and_then(|word| word.parse().ok()).expect("packets"));
    }
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(!has("--bench"), "there is no valgrind: tests/setup installs it");
        println!("left out: there is no valgrind");
        return;
    }
    if !has("--bench") {
        println!("counter: {:.0} instructions a line, unoptimised", instructions(CANARY_OF, [10, 20]));
        return;
    }
    let found: Vec<(&str, f64)> = CASES.map(|case| (case, instructions(case, PACKETS))).into();
    if has("--record") {
        return write_record(&found);
    }
    judge(&found);
}

/// Instructions a line.
fn instructions(case: &str, packets: [usize; 2]) -> f64 {
    let [few, many] = packets.map(|packets| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--count", case, &packets.to_string()])
            .output()
            .expect("valgrind runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {text}");
        let collected = text.lines().find_map(|line| line.split_once("Collected : ")).expect("a count").1;
        collected.trim().parse::<f64>().expect("a number")
    });
    (many - few) / ((packets[1] - packets[0]) * LINES_A_PACKET) as f64
}

/// Compares with the record.
fn judge(found: &[(&str, f64)]) {
    let record = std::fs::read_to_string(record_path()).expect("the record");
    let figure = |case: &str| {
        let line = record.lines().find_map(|line| line.strip_prefix(case)?.strip_prefix(' '));
        line.and_then(|figure| figure.trim().parse::<f64>().ok()).expect("a figure of record")
    };
    let same = record.lines().any(|line| line == compiler());
    println!("{:10} {:>12} {:>12} {:>8}", "case", "instructions", "of record", "ratio");
    let mut dearer = Vec::new();
    for &(case, found) in found {
        let record = figure(if case == CANARY { CANARY_OF } else { case });
        println!("{case:10} {found:12.1} {record:12.1} {:8.3}", found / record);
        if found > record * (1.0 + GROWTH_MAX) {
            dearer.push(case);
        }
    }
    if same {
        assert_eq!(dearer, [CANARY], "only the canary may be dearer than the record");
    } else {
        println!("not judged: the record is of another compiler than {}", compiler());
    }
}

fn write_record(found: &[(&str, f64)]) {
    let mut text =
        "Instructions a line, by `cargo bench --bench instructions -- --record`; x86-64 with AVX2.\n"
            .to_owned();
    writeln!(text, "{}", compiler()).expect("a string takes anything");
    for (case, figure) in found.iter().filter(|(case, _)| *case != CANARY) {
        writeln!(text, "{case} {figure:.1}").expect("a string takes anything");
    }
    std::fs::write(record_path(), text).expect("write the record");
}

fn record_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record/instructions.txt")
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What is counted: so many packets of a case, after every series is known.
fn count(case: &str, packets: usize) {
    let line: fn(usize, usize) -> String = match case {
        "tagged" => |series, _| format!("app.web.orders.{series:06}:1|c|#country:de,tier:pro\n"),
        "sampled" => |series, _| format!("app.web.hits.{series:06}:1|c|@0.1\n"),
        "timer" => |series, i| format!("app.web.latency.{series:06}:{}|ms\n", i * 7_919 % 10_007),
        "member" => |series, i| format!("app.web.visits.{:06}:user-{}|s\n", series % 50, i * 7_919 % 9_973),
        _ => |series, _| format!("app.web.signups.{series:06}:1|c\n"),
    };
    let text = |packet: usize| -> String {
        (0..LINES_A_PACKET)
            .map(|i| packet * LINES_A_PACKET + i)
            .map(|i| line(i * 7_919 % SERIES, i))
            .collect()
    };
    let traffic: Vec<String> = (0..200).map(text).collect();
    let config = Config::default();
    let grammar = config.ingest.grammar;
    if case == "parse" {
        let lines: Vec<&[u8]> = traffic.iter().flat_map(|packet| packet.lines()).map(str::as_bytes).collect();
        let mut sink = Sink(0);
        for line in lines.iter().cycle().take(packets * LINES_A_PACKET) {
            statsd::line(grammar, black_box(line), &mut sink);
        }
        assert_eq!(sink.0, packets * LINES_A_PACKET);
        return;
    }
    let epoch = Epoch::new(0, std::thread::current());
    let registry = Arc::new(Registry::new(SERIES));
    let waker = Arc::new(Waker::new().expect("a socket pair"));
    let (recorder, _collector) = pair(Arc::new(config.aggregate), registry, epoch, waker);
    let mut receiver = Receiver::new(recorder, grammar, false);
    for packet in &traffic {
        receiver.packet(packet.as_bytes(), &"bench");
    }
    for packet in traffic.iter().cycle().take(packets) {
        if case == CANARY {
            // What somebody might add without a thought: a copy of every packet.
            black_box(packet.split('\n').map(str::to_owned).collect::<Vec<_>>());
        }
        receiver.packet(black_box(packet.as_bytes()), &"bench");
    }
    let samples = receiver.recorder().intake().samples;
    assert_eq!(samples, ((packets + traffic.len()) * LINES_A_PACKET) as u64);
}

/// Looks at every sample and keeps nothing.
struct Sink(usize);

impl Visitor for Sink {
    fn sample(&mut self, sample: &Sample<'_>) {
        black_box(sample);
        self.0 += 1;
    }

    fn refused(&mut self, reason: Refusal) {
        panic!("refused: {reason:?}");
    }

    fn field_ignored(&mut self) {}

    fn event(&mut self) {}

    fn service_check(&mut self) {}
}
