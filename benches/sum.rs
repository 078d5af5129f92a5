//! Question: what does it cost to count money exactly?
//!
//! Rivals, adding the same decimals: a plain double (`f64 +=`, statsd's way and wrong by cents), an error-free
//! sum of two doubles (Knuth's `TwoSum`: exact for a while, but not associative, so that nodes could disagree),
//! and ours, a 128-bit integer of 10⁻¹⁸. Expectation on paper: a multiplication and an addition with carry,
//! 1 to 2 ns, a few times the double's single addition and small against the 40 ns that a line may cost.
//!
//! Five alternating runs of each; the median is printed with its spread and its ratio to the plain double.
//! Answers are checked. `cargo bench --bench sum` measures; without `--bench` it runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints, and indexes what it made"
)]

use std::hint::black_box;
use std::time::Duration;
use tallyd::clock;
use tallyd::metric::{Number, Sum};

const RUNS: usize = 5;

/// Adds so many of the prices, in turn.
type Rival = fn(&[Number], usize) -> f64;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let adds = if full { 20_000_000 } else { 20_000 };
    let prices: Vec<Number> =
        (0..1_024).map(|i| Number::Decimal { mantissa: (i * 7_919) % 10_000, places: 2 }).collect();
    let rivals: [(&str, Rival); 3] = [("f64 +=", plain), ("TwoSum", two_sum), ("i128 of 1e-18", ours)];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        for ((name, rival), times) in rivals.iter().zip(&mut times) {
            let started = clock::monotonic_now();
            let answer = rival(black_box(&prices), adds);
            times.push(clock::elapsed(started));
            check(name, answer, &prices, adds);
        }
    }
    let base = median(&mut times[0]);
    for ((name, _), times) in rivals.iter().zip(&mut times) {
        let middle = median(times);
        let ns = |time: Duration| time.as_secs_f64() * 1e9 / adds as f64;
        println!(
            "{name:14} {:6.2} ns an addition ({:.2} to {:.2}), {:.2} × the plain double",
            ns(middle),
            ns(times[0]),
            ns(times[RUNS - 1]),
            middle.as_secs_f64() / base.as_secs_f64()
        );
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Ours must be exact; the plain double only near.
fn check(name: &str, answer: f64, prices: &[Number], adds: usize) {
    let cents = |number: &Number| match number {
        Number::Decimal { mantissa, .. } => *mantissa,
        Number::Float(_) => 0,
    };
    let truth: i64 = (0..adds).map(|i| cents(&prices[i % prices.len()])).sum();
    let truth = truth as f64 / 100.0;
    let near = (answer - truth).abs() <= 1e-6 * truth;
    assert!(near && (name == "f64 +=" || answer == truth), "{name}: {answer} for {truth}");
}

fn plain(prices: &[Number], adds: usize) -> f64 {
    (0..adds).fold(0.0, |sum, i| sum + prices[i % prices.len()].to_f64())
}

fn two_sum(prices: &[Number], adds: usize) -> f64 {
    let (mut high, mut low) = (0.0_f64, 0.0_f64);
    for i in 0..adds {
        let value = prices[i % prices.len()].to_f64();
        let sum = high + value;
        let part = sum - high;
        low += (high - (sum - part)) + (value - part);
        high = sum;
    }
    high + low
}

fn ours(prices: &[Number], adds: usize) -> f64 {
    let mut sum = Sum::ZERO;
    for i in 0..adds {
        sum.add(prices[i % prices.len()]);
    }
    sum.to_f64()
}
