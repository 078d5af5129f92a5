//! The original statsd and ours side by side: same configuration, same datagrams, same points.
//!
//! Configurations and lines are drawn from seeds; what reaches Graphite is compared name by name and value
//! by value, and only what docs/differences-from-statsd.md lists may differ. `TALLYD_TEST_LONG=N` plays N
//! configurations instead of six, `TALLYD_TEST_SEED=N` starts with the one a failure named.

mod compare;
mod console;
mod documented;
mod exclusions;
mod generate;
mod javascript;
mod original;
mod rounds;
mod setup;
mod sink;

use exclusions::covered_line;
use generate::Generator;
use original::Program::{Original, Tallyd};
use rounds::Pair;
use setup::{Ports, Setup};
use std::sync::atomic::{AtomicU64, Ordering};

/// Configurations in an ordinary run: each takes about eight seconds of waiting and next to no work.
const SETUPS: u64 = 6;
/// The first of six that meet every option, which a test below holds on to.
const FIRST_SEED: u64 = 43_431;
/// A long run ends, whatever it was asked for.
const SETUPS_MAX: u64 = 2_000;
/// Pairs of programs that run at a time.
const PAIRS_AT_A_TIME: usize = 3;
const ROUNDS: u64 = 3;
const DATAGRAMS: usize = 40;
/// Of a failing pair so many differences are shown.
const SHOWN_MAX: usize = 20;

#[test]
fn random_lines_come_out_the_same() {
    let first = number_from_environment("TALLYD_TEST_SEED").unwrap_or(FIRST_SEED);
    let count = number_from_environment("TALLYD_TEST_LONG").unwrap_or(SETUPS).min(SETUPS_MAX);
    let next = AtomicU64::new(first);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            // Relaxed: the counter only deals out seeds, nothing is published with it.
            let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            seeds
                .take_while(|seed| *seed < first + count)
                .filter_map(compare_or_name_seed)
                .collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..PAIRS_AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a pair ran to its end")).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {count} configurations differ\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A pair that ends in a panic, for one because a program died, is a failure with a seed like any other.
fn compare_or_name_seed(seed: u64) -> Option<String> {
    let ended = std::panic::catch_unwind(|| compare_setup(seed));
    ended.unwrap_or_else(|_| Some(format!("TALLYD_TEST_SEED={seed}: panicked, see above")))
}

/// Plays one configuration and tells what differed.
fn compare_setup(seed: u64) -> Option<String> {
    let setup = Setup::random(seed);
    let mut pair = Pair::start(Original, &setup, Tallyd, &setup);
    let mut found = pair.compare_first_flushes();
    for round in 0..ROUNDS {
        let mut generator = Generator::new(seed * ROUNDS + round);
        let datagrams = generator.datagrams(DATAGRAMS, |line| covered_line(line, &setup).is_none());
        let differences = pair.compare_round(&datagrams);
        found.extend(differences.into_iter().map(|difference| format!("round {round}: {difference}")));
    }
    if u64::from(pair.repeats()) > ROUNDS {
        found.push(format!(
            "{} repeats: the programs take too long, or the machine is too busy",
            pair.repeats()
        ));
    }
    let ports = Ports { udp: 0, console: 0, graphite: 0 };
    let shown = found.get(..SHOWN_MAX).unwrap_or(&found);
    (!found.is_empty()).then(|| {
        format!(
            "TALLYD_TEST_SEED={seed}: {} differences\n{}\n{}",
            found.len(),
            setup.text(ports),
            shown.join("\n")
        )
    })
}

/// The alarm works: two programs that differ in one option of theirs are told apart.
#[test]
fn canary_a_different_configuration_is_noticed() {
    let (setup, other) = (Setup::plain(500), Setup::plain(500).with("percentThreshold", "80"));
    let mut pair = Pair::start(Original, &setup, Original, &other);
    assert_eq!(pair.compare_first_flushes(), [""; 0], "idle, the two are alike");
    let datagrams = [b"t:1|ms\nt:2|ms\nt:3|ms".to_vec()];
    let found = pair.compare_round(&datagrams);
    assert!(found.iter().any(|line| line.contains("upper_90: only the original")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("upper_80: only tallyd")), "{found:?}");
    let found = pair.compare_round(&[b"t:1|ms".to_vec()]);
    assert!(!found.is_empty(), "the difference is noticed in every round");
}

/// The classifiers take out what they must and leave nearly everything.
#[test]
fn most_lines_are_compared_and_every_classifier_of_lines_is_exercised() {
    let mut generator = Generator::new(7);
    let mut met = std::collections::BTreeSet::new();
    let (mut kept, mut dropped) = (0, 0);
    for seed in 1..=20 {
        let setup = Setup::random(seed);
        generator.datagrams(200, |line| {
            let id = covered_line(line, &setup);
            met.extend(id);
            *(if id.is_none() { &mut kept } else { &mut dropped }) += 1;
            id.is_none()
        });
    }
    assert!(dropped * 10 < kept, "{dropped} lines are not compared, {kept} are");
    for id in [
        "js-number-forms",
        "nan-infinity",
        "rate-forms",
        "prototype-names",
        "timestamps",
        "container-id",
        "unclean-tags",
    ] {
        assert!(met.contains(id), "no line met {id}");
    }
}

/// Six configurations are few, so their seeds are such that every option has its say.
#[test]
fn an_ordinary_run_meets_every_option() {
    let ports = Ports { udp: 0, console: 0, graphite: 0 };
    let texts: Vec<String> = (0..SETUPS).map(|index| Setup::random(FIRST_SEED + index).text(ports)).collect();
    for option in [
        "legacyNamespace: true",
        "legacyNamespace: false",
        "'pickle'",
        "'text'",
        "keyNameSanitize: false",
        "deleteIdleStats: true",
        "deleteCounters: true",
        "deleteTimers: true",
        "deleteSets: true",
        "deleteGauges: true",
        "deleteGauges: false",
        "flush_counts: false",
        "gaugesMaxTTL: 2",
        "prefixStats",
        "percentThreshold: [-",
        "percentThreshold: [",
        "99.9",
        "histogram: [ {",
        "calculatedTimerMetrics: ['",
        "globalPrefix",
        "prefixCounter",
        "prefixTimer",
        "prefixGauge",
        "prefixSet: ''",
        "globalSuffix: '",
    ] {
        assert!(texts.iter().any(|text| text.contains(option)), "no configuration has {option}");
    }
    // Some differences show only where two options meet.
    for (one, other) in [
        ("deleteGauges: true", "gaugesMaxTTL: 2"),
        ("99.9", "_percent'"),
        ("'pickle'", "keyNameSanitize: false"),
    ] {
        let meets = |text: &String| text.contains(one) && text.contains(other);
        assert!(texts.iter().any(meets), "no configuration has {one} and {other}");
    }
    let hides_idle_timers = ["deleteIdleStats: true", "deleteTimers: true", "calculatedTimerMetrics"];
    let shows_idle_timers = |text: &String| !hides_idle_timers.iter().any(|option| text.contains(option));
    assert!(texts.iter().any(shows_idle_timers), "no configuration shows what an idle timer sends");
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
