//! Question: what does tallyd cost beyond the kernel's share, from a socket to the tally, and where does it lose?
//!
//! A real tallyd on CPU 0 (one ingest thread, its flusher and its HTTP on the same core) reads what a load generator
//! on CPU 1 sends over loopback: counters of 1,000 series, one line or 30 in a datagram, and all types mixed. Beside
//! it, in the same run and in alternation, the floor: a bare recvmmsg loop that only counts newlines.
//!
//! Expectation on paper: the sender's core pays for the way through the stack; taking a datagram out of the queue
//! costs 0.8 µs in a batch of 64, on both sides, and a line 35 ns (benches/ingest). So a single line comes to
//! 0.85 µs, barely above the floor, and 30 lines to 1.9 µs, twice the floor, so that one sending core can
//! outrun it. At moderate rates a datagram finds the thread asleep, and the wake-up, 3 to 5 µs, is most of
//! it on both sides. Idle: five ticks a second on two threads, under 1 ms.
//!
//! Five alternating pairs of each case; medians with their spread. After each run counted + dropped must be sent, to
//! the datagram. CPU is what the kernel charged to the threads (schedstat); interrupts that hit a core go to whoever
//! ran there. `cargo bench --bench udp` measures; without `--bench` it runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

mod load;
mod overload;
mod subject;

use load::{Limit, Payload, Sender};
use std::time::Duration;
use subject::{Kind, Subject};

/// One kind of traffic.
struct Case {
    name: &'static str,
    payload: fn(usize) -> Payload,
    /// Lines in a datagram.
    lines: usize,
    /// Datagrams a second; 0 is idle, none is as many as go out.
    rate: Option<f64>,
}

const CASES: [Case; 7] = [
    Case { name: "unpaced, 1 line a datagram", payload: Payload::counters, lines: 1, rate: None },
    Case { name: "unpaced, 30 lines a datagram", payload: Payload::counters, lines: 30, rate: None },
    Case { name: "unpaced, 30 lines, 100,000 series", payload: many, lines: 30, rate: None },
    Case { name: "unpaced, 30 mixed lines a datagram", payload: Payload::mixed, lines: 30, rate: None },
    Case { name: "40,000/s of 1 line", payload: Payload::counters, lines: 1, rate: Some(40_000.0) },
    Case { name: "5,000/s of 30 lines", payload: Payload::counters, lines: 30, rate: Some(5_000.0) },
    Case { name: "idle, 1,000 series known", payload: Payload::counters, lines: 1, rate: Some(0.0) },
];

fn many(lines: usize) -> Payload {
    Payload::of_series(100_000, lines)
}

/// How long and how often.
struct Size {
    runs: usize,
    unpaced: Duration,
    moderate: Duration,
    idle: Duration,
    probe: Duration,
    /// Halvings in the search for the highest rate; 0 is no search.
    halvings: usize,
    /// Each of the runs at four fifths of it.
    below: Duration,
    overload: Duration,
}

const FULL: Size = Size {
    runs: 5,
    unpaced: Duration::from_millis(350),
    moderate: Duration::from_millis(1_200),
    idle: Duration::from_secs(3),
    probe: Duration::from_millis(400),
    halvings: 6,
    below: Duration::from_secs(1),
    overload: Duration::from_secs(30),
};
const TOY: Size = Size {
    runs: 1,
    unpaced: Duration::from_millis(20),
    moderate: Duration::from_millis(60),
    idle: Duration::from_millis(100),
    probe: Duration::from_millis(20),
    halvings: 0,
    below: Duration::from_millis(20),
    overload: Duration::from_millis(100),
};

/// What one run came to.
struct Run {
    /// Datagrams sent.
    sent: u64,
    sent_per_second: f64,
    /// Datagrams read.
    read: f64,
    dropped: u64,
    seconds: f64,
    cpu_ns: f64,
    wakes: f64,
}

/// The two sides of a case, started for it.
struct Pair {
    sides: [Subject; 2],
    sender: Sender,
    payload: Payload,
}

fn main() {
    if let Some(port) = std::env::args().skip_while(|argument| argument != "--bare").nth(1) {
        return subject::bare(port.parse().expect("a port"));
    }
    if std::env::args().any(|argument| argument == "--spin") {
        return overload::spin();
    }
    let size = if std::env::args().any(|argument| argument == "--bench") { FULL } else { TOY };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores == 1 {
        println!(
            "one core only: sender and receiver share it, so rates say little and CPU costs a little more"
        );
    }
    println!("{:44} {:>30} {:>30} {:>7}", "case", "tallyd (spread)", "bare loop (spread)", "ratio");
    // `cargo bench --bench udp -- unpaced` runs the cases with that word in their names.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for case in CASES.into_iter().filter(|case| wanted.as_ref().is_none_or(|word| case.name.contains(word))) {
        println!("{}", case.name);
        match case.rate {
            None => unpaced((case.payload)(case.lines), &size),
            Some(0.0) => idle((case.payload)(case.lines), &size),
            Some(rate) => moderate((case.payload)(case.lines), rate, &size),
        }
    }
    if wanted.as_ref().is_none_or(|word| "overload".contains(word.as_str())) {
        overload::overload(size.overload);
    }
    if wanted.as_ref().is_none_or(|word| "memory".contains(word.as_str())) {
        overload::memory(if size.runs == FULL.runs { 1_000_000 } else { 10_000 });
    }
}

impl Pair {
    fn new(payload: Payload) -> Self {
        // Children inherit the core; the load generator then moves to the other one.
        load::pin(0);
        let sides = [Subject::start(Kind::Tallyd), Subject::start(Kind::Bare)];
        load::pin(1);
        let mut pair = Self { sides, sender: Sender::new(), payload };
        // Every series is known before anything is measured.
        for side in 0..2 {
            pair.run(side, Limit::count(pair.payload.round(), 20_000.0));
        }
        pair
    }

    fn run(&mut self, side: usize, limit: Limit) -> Run {
        let (subject, lines) = (&mut self.sides[side], self.payload.lines);
        let before = (subject.books(), subject.usage());
        let sent = self.sender.send(subject.port, &self.payload, limit);
        subject.wait_drained();
        let after = subject.usage();
        let books = subject.settled(before.0, sent.datagrams, lines);
        Run {
            sent: sent.datagrams,
            sent_per_second: sent.datagrams as f64 / sent.time.as_secs_f64(),
            read: (books.lines - before.0.lines) as f64 / lines as f64,
            dropped: books.drops - before.0.drops,
            seconds: (after.at - before.1.at).as_secs_f64(),
            cpu_ns: (after.cpu_ns - before.1.cpu_ns) as f64,
            wakes: (after.wakes - before.1.wakes) as f64,
        }
    }

    /// Alternating runs of both sides.
    fn runs(&mut self, count: usize, limit: Limit) -> [Vec<Run>; 2] {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..count {
            for (side, runs) in runs.iter_mut().enumerate() {
                runs.push(self.run(side, limit));
            }
        }
        runs
    }

    /// The highest rate, in lines a second, of which nothing is lost; a rate fails if it loses twice.
    fn search(&mut self, side: usize, ceiling: f64, effort: &Size) -> f64 {
        let (mut good, mut bad) = (0.0, ceiling);
        for _ in 0..effort.halvings {
            let rate = f64::midpoint(good, bad);
            let run = (0..2)
                .map(|_| self.run(side, Limit::paced(rate, effort.probe)))
                .find(|run| run.dropped == 0)
                .map(|run| run.sent_per_second.min(rate));
            match run {
                Some(reached) => good = reached.max(good),
                None => bad = rate,
            }
        }
        good * self.payload.lines as f64
    }
}

/// As fast as one core sends: cost of a datagram, and where loss begins. Where the sender is the slower one the
/// reader still sleeps now and then, and that is in its cost.
fn unpaced(payload: Payload, size: &Size) {
    let lines = payload.lines as f64;
    let mut pair = Pair::new(payload);
    let runs = pair.runs(size.runs, Limit::time(size.unpaced));
    row("  CPU ns a datagram read", &runs, 0, |run| run.cpu_ns / run.read.max(1.0));
    row("  CPU ns a line read", &runs, 1, |run| run.cpu_ns / (run.read * lines).max(1.0));
    row("  million lines/s sent", &runs, 2, |run| run.sent_per_second * lines / 1e6);
    row("  million lines/s read", &runs, 2, |run| run.read * lines / run.seconds / 1e6);
    row("  lost, % of datagrams", &runs, 2, |run| 100.0 * run.dropped as f64 / run.sent as f64);
    if size.halvings == 0 {
        return;
    }
    let highest = [0, 1].map(|side| {
        let sent = median(&runs[side], |run| run.sent_per_second).0;
        if runs[side].iter().all(|run| run.dropped == 0) {
            (sent * lines, "sender-bound")
        } else {
            (pair.search(side, sent, size), "by bisection")
        }
    });
    let [ours, bare] = highest.map(|(rate, how)| format!("{:.2} ({how})", rate / 1e6));
    println!(
        "{:44} {ours:>30} {bare:>30} {:7.2}",
        "  million lines/s without loss",
        highest[0].0 / highest[1].0.max(1.0)
    );
    let below = [0, 1].map(|side| {
        let limit = Limit::paced(0.8 * highest[side].0 / lines, size.below);
        (0..size.runs).map(|_| pair.run(side, limit)).collect()
    });
    row("  lost at 80 % of that, datagrams", &below, 0, |run| run.dropped as f64);
}

/// An even stream that leaves the thread time to sleep after every datagram.
fn moderate(payload: Payload, rate: f64, size: &Size) {
    let lines = payload.lines as f64;
    let mut pair = Pair::new(payload);
    let runs = pair.runs(size.runs, Limit::paced(rate, size.moderate));
    row("  lines/s sent", &runs, 0, |run| run.sent_per_second * lines);
    row("  CPU ms per 1,000 lines", &runs, 3, |run| run.cpu_ns / 1e6 / (run.read * lines / 1e3).max(1.0));
    row("  CPU % of a core", &runs, 1, |run| run.cpu_ns / 1e7 / run.seconds);
    row("  wake-ups per second", &runs, 0, |run| run.wakes / run.seconds);
    row("  lost, datagrams", &runs, 0, |run| run.dropped as f64);
}

/// Nothing arrives; 1,000 series are known.
fn idle(payload: Payload, size: &Size) {
    let pair = Pair::new(payload);
    let before = pair.sides.each_ref().map(Subject::usage);
    std::thread::sleep(size.idle);
    let runs = [0, 1].map(|side| {
        let after = pair.sides[side].usage();
        vec![Run {
            sent: 0,
            sent_per_second: 0.0,
            read: 0.0,
            dropped: 0,
            seconds: (after.at - before[side].at).as_secs_f64(),
            cpu_ns: (after.cpu_ns - before[side].cpu_ns) as f64,
            wakes: (after.wakes - before[side].wakes) as f64,
        }]
    });
    row("  CPU ms per second", &runs, 2, |run| run.cpu_ns / 1e6 / run.seconds);
    row("  wake-ups per second", &runs, 1, |run| run.wakes / run.seconds);
}

/// Median, least and largest.
fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn row(name: &str, runs: &[Vec<Run>; 2], places: usize, figure: impl Fn(&Run) -> f64) {
    let cell = |(middle, low, high): (f64, f64, f64)| {
        if low == high {
            return format!("{middle:.places$}");
        }
        format!("{middle:.places$} ({low:.places$} to {high:.places$})")
    };
    let [ours, bare] = [0, 1].map(|side| median(&runs[side], &figure));
    let ratio = if bare.0 > 0.0 { format!("{:7.2}", ours.0 / bare.0) } else { format!("{:>7}", "-") };
    println!("{name:44} {:>30} {:>30} {ratio}", cell(ours), cell(bare));
}
