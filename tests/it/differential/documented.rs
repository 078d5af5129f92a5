//! The published differences are true: examples of each, played to both programs.
//!
//! A row that the original does not bear out any more is stale, and a row that tallyd does not follow is
//! wrong. In come the examples below; what is checked is the count of bad lines and the points sent.

use super::exclusions::{Covers, DIFFERENCES, covered_line};
use super::original::Program::{self, Original, Tallyd};
use super::original::Server;
use super::rounds::play;
use super::setup::Setup;
use super::sink::Flush;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Example {
    id: &'static str,
    lines: String,
    original: Fate,
    tallyd: Fate,
}

/// What becomes of an example's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// So many bad lines, and no point.
    Bad(u32),
    /// No bad line; which point is not asked.
    Accepted,
    /// This point, and no bad line.
    Sent(&'static str, &'static str),
    /// The process ends.
    Dies,
}

use Fate::{Accepted, Bad, Dies, Sent};

/// A round that is split by a slow machine is played again so often.
const ATTEMPTS: u32 = 4;

fn examples() -> Vec<Example> {
    let now = seconds_now();
    let example =
        |id, lines: &str, original, tallyd| Example { id, lines: lines.to_owned(), original, tallyd };
    let (name, tags) = ("n".repeat(513), vec!["k:v"; 33].join(","));
    vec![
        example("js-number-forms", "d.hex:0x10|c", Sent("stats.counters.d.hex.count", "16"), Bad(1)),
        example("js-number-forms", "d.octal:0o17|g", Sent("stats.gauges.d.octal", "15"), Bad(1)),
        example("js-number-forms", "d.binary:0b11|ms", Sent("stats.timers.d.binary.upper", "3"), Bad(1)),
        example(
            "js-number-forms",
            "d.infinity:Infinity|g",
            Sent("stats.gauges.d.infinity", "Infinity"),
            Bad(1),
        ),
        example("nan-infinity", "d.zero:1|c|@0", Sent("stats.counters.d.zero.count", "Infinity"), Bad(1)),
        example("nan-infinity", "d.large:1e400|g", Sent("stats.gauges.d.large", "Infinity"), Bad(1)),
        example(
            "nan-infinity",
            "d.top:1|ms\nd.top:3|ms",
            Sent("stats.timers.d.top.mean_top90", "NaN"),
            Sent("stats.timers.d.top.mean_top90", "2"),
        ),
        example("rate-forms", "d.plus:1|c|@+0.5", Dies, Bad(1)),
        example("rate-forms", "d.blank:1|c|@ 0.5", Dies, Bad(1)),
        example("rate-forms", "d.word:1|c|@Infinity", Dies, Bad(1)),
        example("prototype-names", "constructor:1|ms", Dies, Sent("stats.timers.constructor.count", "1")),
        example(
            "prototype-names",
            "d.proto:__proto__|s",
            Sent("stats.sets.d.proto.count", "0"),
            Sent("stats.sets.d.proto.count", "1"),
        ),
        example("timestamps", &format!("d.stamp:1|c|T{now}"), Bad(1), Accepted),
        example(
            "timestamps",
            &format!("d.rated:1|c|@0.5|T{now}"),
            Sent("stats.counters.d.rated.count", "2"),
            Accepted,
        ),
        example(
            "container-id",
            "d.container:1|c|c:abc",
            Bad(2),
            Sent("stats.counters.d.container.count", "1"),
        ),
        example(
            "container-id",
            "d.tagged:1|c|#k:v|c:abc",
            Sent("stats.counters.d.tagged.count;k=vcabc", "1"),
            Sent("stats.counters.d.tagged.count;k=v", "1"),
        ),
        example("long-names", &format!("{name}:1|c"), Accepted, Bad(1)),
        example("long-names", &format!("d.tags:1|c|#{tags}"), Accepted, Bad(1)),
        example(
            "exact-sums",
            "d.sum:0.1|c\nd.sum:0.2|c",
            Sent("stats.counters.d.sum.count", "0.30000000000000004"),
            Sent("stats.counters.d.sum.count", "0.3"),
        ),
    ]
}

fn setup() -> Setup {
    Setup::plain(1_000).with("percentThreshold", "-90")
}

/// Plays all examples that a program survives, and says where it does not do what the table says.
fn departures(program: Program, fate: fn(&Example) -> Fate) -> Vec<String> {
    let examples: Vec<Example> = examples().into_iter().filter(|example| fate(example) != Dies).collect();
    let datagrams: Vec<Vec<u8>> = examples.iter().map(|example| example.lines.clone().into_bytes()).collect();
    let mut server = Server::start(program, &setup());
    let flushes =
        (0..ATTEMPTS).find_map(|_| play(&mut server, &datagrams)).expect("a round falls into one flush");
    let flush = flushes.first().expect("the flush with the samples");
    let expected: u32 =
        examples.iter().map(|example| if let Bad(count) = fate(example) { count } else { 0 }).sum();
    let bad = value(flush, "stats.counters.statsd.bad_lines_seen.count");
    let mut found = Vec::new();
    if bad != Some(&expected.to_string()) {
        found.push(format!("{program:?}: {bad:?} bad lines, {expected} expected"));
    }
    for example in &examples {
        let name = example.lines.split(':').next().unwrap_or_default();
        let sent = flush.iter().any(|point| point.name.contains(name));
        let departs = match fate(example) {
            Sent(name, expected) => value(flush, name).is_none_or(|value| value != expected),
            Bad(_) => sent,
            Accepted | Dies => false,
        };
        if departs {
            found.push(format!("{program:?}: {} {:.80}: not {:?}", example.id, example.lines, fate(example)));
        }
    }
    found
}

fn value<'a>(flush: &'a Flush, name: &str) -> Option<&'a str> {
    flush.iter().find(|point| point.name == name).map(|point| point.value.as_str())
}

#[expect(clippy::disallowed_methods, reason = "a sample is given the present second, as a client gives it")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

#[test]
fn the_original_does_what_the_table_says() {
    assert_eq!(departures(Original, |example| example.original), [""; 0]);
}

#[test]
fn tallyd_does_what_the_table_says() {
    assert_eq!(departures(Tallyd, |example| example.tallyd), [""; 0]);
}

#[test]
fn what_kills_the_original_kills_it() {
    for example in examples().iter().filter(|example| example.original == Dies) {
        let mut server = Server::start(Original, &setup());
        let died = (0..100).any(|_| {
            server.send(example.lines.as_bytes());
            std::thread::sleep(Duration::from_millis(50));
            server.is_dead()
        });
        assert!(died, "the original survives {:?}", example.lines);
    }
}

#[test]
fn tags_that_would_break_a_line_never_reach_graphite() {
    let mut server = Server::start(Tallyd, &Setup::plain(500).with("keyNameSanitize", "false"));
    let datagrams = [b"d.unclean:1|c|#t:x y\nd.unclean:1|g|#t:x\r\nd.clean:1|c|#t:z".to_vec()];
    // The sink refuses what is not a line of three words, so that a flush is proof enough.
    let flushes =
        (0..ATTEMPTS).find_map(|_| play(&mut server, &datagrams)).expect("a round falls into one flush");
    assert_eq!(value(&flushes[0], "stats.counters.d.clean.count;t=z"), Some("1"));
}

#[test]
fn examples_are_covered_and_every_row_about_lines_has_one() {
    let setup = setup();
    for example in examples()
        .iter()
        .filter(|example| !["exact-sums"].contains(&example.id) && !example.lines.contains('\n'))
    {
        let id = covered_line(example.lines.as_bytes(), &setup);
        assert!(id.is_some(), "no classifier covers {:.80}", example.lines);
    }
    // Unclean tags need another configuration and have a test of their own.
    for (id, covers) in DIFFERENCES.iter().filter(|(id, _)| *id != "unclean-tags") {
        if matches!(covers, Covers::Line(_) | Covers::LineAndPoint(..)) {
            assert!(examples().iter().any(|example| example.id == *id), "{id} has no example");
        }
    }
}
