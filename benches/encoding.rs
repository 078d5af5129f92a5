//! Question: what do a tally and a batch cost to write and to read, and how many bytes do they take?
//!
//! A tick of 100,000 counters goes to the journal five times a second. Expectation on paper for a whole counter: a
//! shift and two multiplications to see that it is whole, one or two bytes to push, 5 ns; as many to read it. In a
//! batch its name is hashed and looked up, 5 ns and two or three cache misses: 60 ns. The rival takes no thought: 24
//! bytes of the sum, copied as they stand, and the floor under both is a copy of the bytes.
//!
//! Five alternating runs of each case; the median is printed with its spread. What is read is compared with what was
//! written. `cargo bench --bench encoding` measures; without `--bench` it runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

use std::hint::black_box;
use std::time::Duration;
use tallyd::clock;
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Digest, Kind, Number, Series, Sum, Tally, Unique};
use tallyd::wire::batch::{Dictionary, Names, push_batch, push_batch_with, read_batch, read_batch_with};
use tallyd::wire::bytes::Reader;
use tallyd::wire::tally::{push_tally, read_tally};

const RUNS: usize = 5;
const BUCKET: i64 = 1_763_881_200_000;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let (counters, timers) = if full { (100_000, 1_000) } else { (500, 5) };
    println!("{:34} {:>9} {:>28} {:>28}", "one of", "bytes", "ns to write (spread)", "ns to read (spread)");
    tallies("counter, whole below 10,000", (0..counters).map(whole));
    tallies("counter, money below 300.00", (0..counters).map(money));
    rival((0..counters).map(whole));
    tallies("timer, 512 whole values", (0..timers).map(|i| timer(i, 512, 1.0)));
    tallies("timer, 512 values of 3 places", (0..timers).map(|i| timer(i, 512, 1_000.0)));
    tallies("timer, 512 values of no decimals", (0..timers).map(|i| timer(i, 512, 7.0)));
    tallies("timer, sketch of 5,000", (0..timers).map(|i| timer(i, 5_000, 1.0)));
    tallies("set, 200 members", (0..timers).map(|i| set(i, 200)));
    tallies("set, estimate of 800", (0..timers).map(|i| set(i, 800)));
    tallies("set, estimate of 20,000", (0..timers / 5).map(|i| set(i, 20_000)));
    let name = |i: usize| Series::new(Kind::Counter, &format!("app.web.signups.of.the.day.{i:06}"));
    let entries: Vec<_> = (0..counters).map(|i| (name(i), whole(i))).collect();
    batches("counter in a batch, known name", &entries, &entries);
    batches("counter in a batch, name in full", &[], &entries);
    // Another order than that of the ids, as after some have gone and come.
    let scattered: Vec<_> = (0..counters).map(|i| entries[i * 7_919 % counters].clone()).collect();
    batches("the same scattered, known name", &entries, &scattered);
}

fn whole(i: usize) -> Tally {
    decimal(i * 7_919 % 10_000, 0)
}

fn money(i: usize) -> Tally {
    decimal(i * 7_919 % 30_000, 2)
}

fn decimal(mantissa: usize, places: u8) -> Tally {
    let mut sum = Sum::ZERO;
    sum.add(Number::Decimal { mantissa: mantissa as i64, places });
    Tally::Counter(sum)
}

fn timer(seed: usize, values: usize, divisor: f64) -> Tally {
    let mut digest = Digest::default();
    for i in 0..values {
        digest.record(((i + seed) * 7_919 % 10_007) as f64 / divisor, 1.0, 1.0, 512);
    }
    Tally::Timer(Box::new(digest))
}

fn set(seed: usize, members: usize) -> Tally {
    let mut set = Unique::default();
    for i in 0..members {
        set.insert(hash_member(b"", &(i + seed * 1_000_003).to_le_bytes()), 256);
    }
    Tally::Set(Box::new(set))
}

/// Times writing and reading in turn, and prints both for one of `count`.
fn measure<R>(
    name: &str,
    count: usize,
    mut write: impl FnMut(&mut Vec<u8>),
    mut read: impl FnMut(&[u8]) -> R,
    check: impl Fn(&R) -> bool,
) {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    let mut out = Vec::new();
    // The first round grows the buffers and is not counted.
    for _ in 0..=RUNS {
        out.clear();
        let started = clock::monotonic_now();
        write(&mut out);
        writes.push(clock::elapsed(started));
        let started = clock::monotonic_now();
        let answer = read(black_box(&out));
        reads.push(clock::elapsed(started));
        assert!(check(&answer), "{name}: what was read is not what was written");
    }
    let show = |times: &mut Vec<Duration>| {
        times.remove(0);
        times.sort_unstable();
        let ns = |time: Duration| time.as_secs_f64() * 1e9 / count as f64;
        format!("{:.1} ({:.1} to {:.1})", ns(times[RUNS / 2]), ns(times[0]), ns(times[RUNS - 1]))
    };
    let bytes = out.len() as f64 / count as f64;
    println!("{name:34} {bytes:9.2} {:>28} {:>28}", show(&mut writes), show(&mut reads));
}

fn tallies(name: &str, tallies: impl Iterator<Item = Tally>) {
    let tallies: Vec<Tally> = tallies.collect();
    let kind = tallies[0].kind();
    measure(
        name,
        tallies.len(),
        |out| tallies.iter().for_each(|tally| push_tally(out, black_box(tally))),
        |bytes| {
            let mut from = Reader::new(bytes);
            let mut read = Vec::with_capacity(tallies.len());
            while !from.is_empty() {
                read.push(read_tally(kind, &mut from).expect("what was just written"));
            }
            read
        },
        |read| *read == tallies,
    );
}

/// A counter as its 24 bytes.
fn rival(tallies: impl Iterator<Item = Tally>) {
    let sums: Vec<(i128, f64)> = tallies
        .map(|tally| match tally {
            Tally::Counter(sum) => (sum.decimal().0, sum.float()),
            _ => (0, 0.0),
        })
        .collect();
    measure(
        "rival: counter, 24 bytes copied",
        sums.len(),
        |out| {
            for (fixed, float) in black_box(&sums) {
                out.extend_from_slice(&fixed.to_le_bytes());
                out.extend_from_slice(&float.to_le_bytes());
            }
        },
        |bytes| {
            let mut from = Reader::new(bytes);
            let mut read = Vec::with_capacity(sums.len());
            while let (Ok(fixed), Ok(float)) = (from.array(), from.f64()) {
                read.push((i128::from_le_bytes(fixed), float));
            }
            read
        },
        |read| *read == sums,
    );
}

/// `known` are the names that have ids already, in the order of these.
fn batches(name: &str, known: &[(Series, Tally)], entries: &[(Series, Tally)]) {
    let (mut dictionary, mut names) = (Dictionary::default(), Names::default());
    let by_id = !known.is_empty();
    let mut first = Vec::new();
    push_batch_with(&mut dictionary, &mut first, 7, 1, BUCKET, pairs(known));
    read_batch_with(&mut names, &first).expect("what was just written");
    measure(
        name,
        entries.len(),
        |out| {
            if by_id {
                push_batch_with(&mut dictionary, out, 7, 2, BUCKET, pairs(entries));
            } else {
                push_batch(out, 7, 2, BUCKET, pairs(entries));
            }
        },
        |bytes| if by_id { read_batch_with(&mut names, bytes) } else { read_batch(bytes) },
        |read| read.as_ref().is_ok_and(|read| read.entries == entries),
    );
}

fn pairs(entries: &[(Series, Tally)]) -> impl ExactSizeIterator<Item = (&Series, &Tally)> {
    entries.iter().map(|(series, tally)| (series, tally))
}
