//! Seeded histories of the whole road of a sample, on a clock, disks and a network that are not real.
//!
//! ```text
//!   lines ─▶ Receiver ─▶ Flusher ─▶ Journal ─▶ EmbeddedStore ─▶ Destination ─▶ a carbon
//!                            │     (disk.rs)     (file.rs)           │        (graphite.rs)
//!                            └────────── Clock::manual ──────────────┘
//! ```
//!
//! All of it but what stands in brackets is the product's own code, driven from one thread: processes are killed at
//! any write, machines lose power, disks fail and fill up, clocks jump, carbons stall, break off and are killed.
//! *Conservation* is what `truth.rs` checks in the end. A seed is a history, and the same one every time.

mod graphite;
mod process;
mod sabotage;
mod seen;
mod trace;
mod truth;
mod world;

use sabotage::Sabotage;
use seen::Seen;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use world::World;

/// Seeds in `make test` and, with `TALLYD_TEST_LONG`, in `make nightly`.
const SEEDS: u64 = 1_000;
const SEEDS_LONG: u64 = 100_000;
const STEPS: usize = 45;
/// So many histories are made to go wrong in each way; three of them must be noticed.
const SEEDS_SABOTAGED: u64 = 30;

/// Plays a history; returns its trace and what befell in it.
fn play(seed: u64, sabotage: Sabotage) -> (u64, Seen) {
    let mut world = World::new(seed, sabotage);
    for _ in 0..STEPS {
        world.step();
    }
    world.finish()
}

/// The seeds to play. `TALLYD_TEST_SEED=N` plays that one alone, with `TALLYD_TEST_LONG=M` that many from there on.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("TALLYD_TEST_SEED"), number("TALLYD_TEST_LONG")) {
        (Some(from), count) => from..from + count.unwrap_or(1),
        (None, Some(_)) => 0..SEEDS_LONG,
        (None, None) => 0..SEEDS,
    }
}

/// Plays histories until one fails, which is named.
fn play_all(seeds: impl Iterator<Item = u64>) -> Seen {
    let mut all = Seen::default();
    for seed in seeds {
        let Ok((_, seen)) = catch_unwind(AssertUnwindSafe(|| play(seed, Sabotage::None))) else {
            panic!("seed {seed} failed: TALLYD_TEST_SEED={seed} plays it again, the same every time");
        };
        all.add(&seen);
    }
    all
}

/// Plays all of them on two threads. Where there are many, every kind of fault must have been among them.
pub(crate) fn play_range(played: &std::ops::Range<u64>) {
    let (even, odd) = (|seed: &u64| seed.is_multiple_of(2), |seed: &u64| !seed.is_multiple_of(2));
    let all = std::thread::scope(|scope| {
        let other = scope.spawn(|| play_all(played.clone().filter(odd)));
        let mut all = play_all(played.clone().filter(even));
        all.add(&other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        all
    });
    if played.end - played.start >= SEEDS {
        all.is_everything();
    }
}

/// Whether a seed is the same history when it is played again.
pub(crate) fn repeats(seed: u64) -> bool {
    play(seed, Sabotage::None) == play(seed, Sabotage::None)
}

#[test]
fn what_was_promised_is_everywhere_once() {
    play_range(&seeds());
}

#[test]
fn a_seed_is_the_same_history_every_time() {
    for seed in 0..20 {
        assert!(repeats(seed), "seed {seed}");
    }
    assert_ne!(play(0, Sabotage::None).0, play(1, Sabotage::None).0);
}

/// The alarm rings: whatever is lost or repeated on purpose is noticed.
#[test]
fn what_is_done_wrong_on_purpose_is_noticed() {
    use Sabotage::{JournalLies, StoreLosesOne, StoreRepeatsOne, StrikesEarly};
    for sabotage in [StoreLosesOne, StoreRepeatsOne, JournalLies, StrikesEarly] {
        let is_noticed = |seed: &u64| catch_unwind(AssertUnwindSafe(|| play(*seed, sabotage))).is_err();
        let noticed = (0..SEEDS_SABOTAGED).filter(is_noticed).take(3).count();
        assert_eq!(noticed, 3, "{sabotage:?} goes unnoticed");
    }
}
