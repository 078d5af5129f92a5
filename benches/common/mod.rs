//! What several benches have in common: alternating runs, their medians, and a table.

use std::time::Duration;
use tallyd::clock;

const RUNS: usize = 5;

/// Something to be timed: does so many operations, and what it returns is checked outside the time.
pub(crate) struct Case<'a, T> {
    pub(crate) name: &'a str,
    pub(crate) run: &'a dyn Fn(usize) -> T,
}

/// Whether this is a measurement and not a trial run at toy size.
pub(crate) fn is_full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Five alternating runs of each case, of so many operations each; prints the median of each in nanoseconds an
/// operation with its spread, and its ratio to the first. Every result goes to `check`.
pub(crate) fn alternate<T>(operations: usize, cases: &[Case<'_, T>], check: impl Fn(&str, T)) {
    let mut times: Vec<Vec<Duration>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (case, times) in cases.iter().zip(&mut times) {
            let started = clock::monotonic_now();
            let result = (case.run)(operations);
            times.push(clock::elapsed(started));
            check(case.name, result);
        }
    }
    let mut base = None;
    for (case, times) in cases.iter().zip(&mut times) {
        times.sort_unstable();
        let ns = |at: usize| times[at].as_secs_f64() * 1e9 / operations as f64;
        let base = *base.get_or_insert(ns(RUNS / 2));
        let spread = format!("({:.1} to {:.1})", ns(0), ns(RUNS - 1));
        println!("{:44} {:12.1} {spread:24} {:8.2}", case.name, ns(RUNS / 2), ns(RUNS / 2) / base);
    }
}
