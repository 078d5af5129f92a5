//! Question: what does a counter series of a 30-byte name take on the way from the socket to the batch?
//!
//! Counted are the bytes asked of the allocator and not given back by one ingest thread and its collector after
//! every series was counted in three ticks: the series itself, the registry of names, the collector's list, the
//! index, and both generations. Expectation on paper, for a table of which seven eighths are used: 47 bytes for the
//! series, 10 and 8 for registry and list, 20 for the index's entry and 30 for its name, 8 in each generation: 131.
//! A table that has just grown is not half full: 30 more.
//!
//! It fails beyond [`BYTES_MAX`]. `cargo bench --bench memory` measures; without `--bench` it runs at toy size.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::fmt::Write;
use std::sync::Arc;
use std::thread;
use tallyd::aggregate::Registry;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::config::Config;
use tallyd::ingest::receive::Receiver;
use tallyd::sys::Waker;

const LINES_A_PACKET: usize = 30;
const TICKS: usize = 3;
const NOW: i64 = 1_700_000_000_000;
/// What a series may take where there are many.
const BYTES_MAX: f64 = 160.0;
/// The same for as many series as make a table grow: it is then not half full.
const BYTES_MAX_GROWN: f64 = 165.0;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    // Between two growths, just before one and just after it, and the default limit.
    let sizes: &[(usize, f64)] = if full {
        &[
            (100_000, BYTES_MAX),
            (229_000, BYTES_MAX),
            (230_000, BYTES_MAX_GROWN),
            (300_000, BYTES_MAX),
            (1_000_000, BYTES_MAX),
        ]
    } else {
        &[(20_000, BYTES_MAX_GROWN)]
    };
    println!("{:>10} {:>16}", "series", "bytes a series");
    for &(series, bytes_max) in sizes {
        let bytes = bytes_of(series) as f64 / series as f64;
        println!("{series:10} {bytes:16.1}");
        assert!(bytes <= bytes_max, "{bytes} bytes for each of {series} series");
    }
}

/// Bytes held once so many series are known and counted.
fn bytes_of(series: usize) -> i64 {
    let config = Config::default();
    let mut kept = None;
    let used = allocation_counter::measure(|| {
        let waker = Arc::new(Waker::new().expect("a socket pair"));
        let epoch = Epoch::new(NOW, thread::current());
        let registry = Arc::new(Registry::new(series));
        let options = Arc::new(config.aggregate.clone());
        let (recorder, mut collector) = pair(options, Arc::clone(&registry), Arc::clone(&epoch), waker);
        let mut receiver = Receiver::new(recorder, config.ingest.grammar, false);
        for _ in 0..TICKS {
            let mut packet = String::new();
            for number in 0..series {
                // Thirty bytes of name.
                writeln!(packet, "app.web.checkout.signups.{number:05x}:1|c")
                    .expect("a string takes anything");
                if (number + 1) % LINES_A_PACKET == 0 || number + 1 == series {
                    receiver.packet(packet.as_bytes(), &"bench");
                    packet.clear();
                }
            }
            epoch.advance(NOW);
            receiver.recorder().hand_over();
            let mut touched = 0;
            let tick = collector.take(|_, _, _| touched += 1).expect("the generation just handed over");
            assert_eq!((touched, tick.intake.samples), (series, series as u64));
        }
        kept = Some((receiver, collector, registry, epoch));
    });
    drop(kept);
    used.bytes_current
}
