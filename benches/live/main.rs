//! Question: what does a viewer of the page cost, and how long is an event on its way to it, with how many looking?
//!
//! A real tallyd with one page of four figures; so many streams are held open, and one event after another is sent
//! over UDP. Each stream's reader notes when it sees the new number. Then a thousand more connect that read nothing,
//! beside a thousand that do, and at last everybody leaves. Readers and tallyd share the machine.
//!
//! Expectation on paper: figures are looked at every 250 ms and ticks come every 200 ms, so that an event waits 225 ms
//! on average and 450 ms at most before it is sent; a write to a socket on loopback costs 10 µs, so that ten
//! thousand of them add 100 ms, shared with their readers. A connection is a task, hyper's buffers (8 KiB for a
//! request's head) and a few hundred bytes of ours: 11 KiB.
//!
//! Latencies are over all readers and rounds. RSS is the process's own (`VmRSS`), less what it had before the first
//! reader came. `cargo bench --bench live` measures; without `--bench` it runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench prints, indexes what it made, and may end"
)]

mod readers;
mod subject;

use readers::{Latencies, Readers};
use std::time::Duration;
use subject::Subject;
use tallyd::clock;

/// How many, and how often.
struct Size {
    viewers: &'static [usize],
    rounds: usize,
    stuck: usize,
    beside: usize,
    /// From when those that read nothing have come until they must be gone.
    cut: Duration,
}

const FULL: Size = Size {
    viewers: &[1, 1_000, 10_000],
    rounds: 60,
    stuck: 1_000,
    beside: 1_000,
    cut: Duration::from_secs(30),
};
const TOY: Size = Size { viewers: &[1, 50], rounds: 3, stuck: 0, beside: 0, cut: Duration::ZERO };

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let size = if full { FULL } else { TOY };
    let allowed = tallyd::sys::raise_descriptor_limit();
    assert!(!full || allowed.is_none_or(|allowed| allowed > 12_000), "`ulimit -n` is too low: {allowed:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!(
        "{} rounds; ms from datagram to reader: median, 99th percentile, most; RSS of a reader",
        size.rounds
    );
    for &count in size.viewers {
        let subject = Subject::start();
        let before = subject.rss_bytes();
        let readers = Readers::connect(&runtime, &subject, count);
        let latencies = readers.rounds(&subject, size.rounds);
        let grown = subject.rss_bytes().saturating_sub(before);
        let each = grown / count as u64;
        println!("{count:>6} viewers   {latencies}   {each:>6} bytes each, {:.1} MB in all", mb(grown));
        assert!(!full || count < 1_000 || each <= 12 << 10, "more than 12 KiB each");
        drop(readers);
        if count > 1_000 {
            std::thread::sleep(2 * Duration::from_millis(tallyd::limits::HTTP_GONE_MS));
            let left = subject.rss_bytes().saturating_sub(before);
            println!("              after they left: {:.1} MB more than before they came", mb(left));
        }
    }
    if size.stuck > 0 {
        beside_stuck(&runtime, &size);
    }
}

/// Those who read nothing take nothing from those who do, and are gone in time.
fn beside_stuck(runtime: &tokio::runtime::Runtime, size: &Size) {
    let subject = Subject::start();
    let readers = Readers::connect(runtime, &subject, size.beside);
    let before = subject.rss_bytes();
    let stuck = readers::stuck(&subject, size.stuck);
    let started = clock::monotonic_now();
    assert_eq!(subject.connections(), size.beside + size.stuck);
    let (mut latencies, mut most) = (Vec::new(), 0);
    while subject.connections() > size.beside && clock::elapsed(started) < 2 * size.cut {
        latencies.extend(readers.round(&subject));
        most = most.max(subject.rss_bytes().saturating_sub(before));
    }
    let (gone, left) = (clock::elapsed(started), subject.connections());
    let latencies = Latencies::of(latencies);
    println!("{:>6} viewers beside {} that read nothing   {latencies}", size.beside, size.stuck);
    // What they cost is given back a little later.
    std::thread::sleep(2 * Duration::from_millis(tallyd::limits::HTTP_GONE_MS));
    println!(
        "              these cost {:.1} MB at most; {} were cut within {:.1} s; then {:.1} MB more than before",
        mb(most),
        size.beside + size.stuck - left,
        gone.as_secs_f64(),
        mb(subject.rss_bytes().saturating_sub(before)),
    );
    assert!(left == size.beside && gone <= size.cut, "{left} are left after {gone:?}");
    drop(stuck);
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
