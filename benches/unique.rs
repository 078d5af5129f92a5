//! Question: what does a member of a set cost, while every one is kept and after a HyperLogLog has taken over?
//!
//! Members are hashed (`MurmurHash64A`, as Redis does it) and inserted through [`Unique`]: below the bound into
//! sets of 200 members, beyond it into one of 100,000. Then sets of 100,000 are merged, and counted. Beside the
//! first stands the standard library's set of the texts themselves.
//!
//! Expectation on paper: hashing a member of 11 bytes takes 3 ns; a small set in the cache 5 more; a register 3: the
//! 12 KiB fit the first cache. Merging compares 16,384 registers of 6 bits, 40 µs; counting makes a histogram of
//! them, 15 µs. Sizes are checked: exact below the bound, within 3 % beyond it.
//!
//! Five alternating runs; medians with spread. `cargo bench --bench unique` measures; without `--bench` it runs at
//! toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

mod common;

use common::{Case, alternate, is_full};
use std::collections::HashSet;
use std::hint::black_box;
use tallyd::limits::SET_EXACT_MAX;
use tallyd::metric::Unique;
use tallyd::metric::unique::hash_member;

const FEW: usize = 200;
const MANY: usize = 100_000;

fn main() {
    let (inserts, merges) = if is_full() { (4_000_000, 5_000) } else { (200_000, 10) };
    println!("{:44} {:>12} {:24} {:>8}", "case", "ns", "(spread)", "ratio");
    let members: Vec<Vec<u8>> =
        (0..MANY).map(|i| format!("user-{:06}", i * 7_919 % MANY).into_bytes()).collect();
    println!("inserting a member");
    let cases = [
        Case { name: "  HashSet<Vec<u8>>, 200 members", run: &|inserts| plain(&members[..FEW], inserts) },
        Case { name: "  exact, 200 members", run: &|inserts| ours(&members[..FEW], inserts) },
        Case { name: "  estimate, 100,000 members", run: &|inserts| ours(&members, inserts) },
    ];
    alternate(inserts, &cases, |name, count| {
        let truth = if name.contains("200") { FEW } else { MANY } as f64;
        let allowed = if name.contains("200") { 0.0 } else { 0.03 };
        assert!((count as f64 / truth - 1.0).abs() <= allowed, "{name}: {count} for {truth}");
    });
    println!("of two sets of {MANY}");
    let (mut left, mut right) = (Unique::default(), Unique::default());
    for (i, member) in members.iter().enumerate() {
        let side = if i % 2 == 0 { &mut left } else { &mut right };
        side.insert(hash_member(b"", member), SET_EXACT_MAX);
    }
    let cases = [
        Case {
            name: "  counting one",
            run: &|times| {
                let count = (0..times).fold(0, |_, _| black_box(&left).count());
                2 * count
            },
        },
        Case {
            name: "  merging a copy of one into the other",
            run: &|times| {
                let mut into = left.clone();
                for _ in 0..times {
                    into.merge(black_box(&right).clone(), SET_EXACT_MAX);
                }
                into.count()
            },
        },
    ];
    alternate(merges, &cases, |name, count| {
        assert!((count as f64 / MANY as f64 - 1.0).abs() <= 0.03, "{name}: {count}");
    });
}

/// The texts themselves, copied where they are new.
fn plain(members: &[Vec<u8>], inserts: usize) -> u64 {
    let mut set: HashSet<Vec<u8>> = HashSet::new();
    for member in members.iter().cycle().take(inserts) {
        if !set.contains(black_box(member)) {
            set.insert(member.clone());
        }
    }
    set.len() as u64
}

fn ours(members: &[Vec<u8>], inserts: usize) -> u64 {
    let mut set = Unique::default();
    for member in members.iter().cycle().take(inserts) {
        set.insert(hash_member(b"", black_box(member)), SET_EXACT_MAX);
    }
    set.count()
}
