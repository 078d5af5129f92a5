//! One round: the same datagrams to both programs, inside one flush of each, and the idle flushes after it.
//!
//! Each program is fed right after a flush of its own was seen, so that a whole interval is left. The first
//! and the last datagram carry a marker; if both do not arrive in one flush, a slow machine has split the
//! round, and it is played again for both, which keeps their states alike.

use super::compare::differences;
use super::original::{Program, Server};
use super::setup::Setup;
use super::sink::Flush;

/// The original and ours, under one configuration.
pub(super) struct Pair {
    original: Server,
    tallyd: Server,
    repeats: u32,
}

/// Idle flushes that are compared after a round: enough for a gauge of two lives to go.
const IDLE_FLUSHES: usize = 2;
/// A round that is split as often as this is the programs' fault, not the machine's.
const REPEATS_MAX: u32 = 4;
/// A marker that has not come within so many flushes is lost.
const FLUSHES_WAITED: usize = 4;

impl Pair {
    pub(super) fn start(first: Program, first_setup: &Setup, second: Program, second_setup: &Setup) -> Self {
        std::thread::scope(|scope| {
            let original = scope.spawn(|| Server::start(first, first_setup));
            let tallyd = Server::start(second, second_setup);
            Self { original: original.join().expect("the first program starts"), tallyd, repeats: 0 }
        })
    }

    /// The first two flushes of a program that has seen nothing; the second has one gauge more.
    pub(super) fn compare_first_flushes(&self) -> Vec<String> {
        let mut found = differences(&self.original.next_flush(), &self.tallyd.next_flush());
        found.extend(differences(&self.original.next_flush(), &self.tallyd.next_flush()));
        found
    }

    /// Plays the datagrams to both, and says what differs in the flush that holds them and those after it.
    pub(super) fn compare_round(&mut self, datagrams: &[Vec<u8>]) -> Vec<String> {
        for _ in 0..REPEATS_MAX {
            let (original, tallyd) = (&mut self.original, &mut self.tallyd);
            let (original, tallyd) = std::thread::scope(|scope| {
                let original = scope.spawn(|| play(original, datagrams));
                let tallyd = play(tallyd, datagrams);
                (original.join().expect("the first program plays its round"), tallyd)
            });
            if let (Some(original), Some(tallyd)) = (original, tallyd) {
                return compare_flushes(&original, &tallyd);
            }
            self.repeats += 1;
        }
        let dead = |server: &mut Server| if server.is_dead() { "dead" } else { "alive" };
        vec![format!(
            "no round fell into one flush (original {}, tallyd {})",
            dead(&mut self.original),
            dead(&mut self.tallyd)
        )]
    }

    /// How often the machine split a round.
    pub(super) fn repeats(&self) -> u32 {
        self.repeats
    }
}

fn compare_flushes(original: &[Flush], tallyd: &[Flush]) -> Vec<String> {
    let titles = ["", "idle: ", "idle again: "];
    let pairs = original.iter().zip(tallyd).zip(titles);
    pairs
        .flat_map(|((original, tallyd), title)| {
            differences(original, tallyd).into_iter().map(move |difference| format!("{title}{difference}"))
        })
        .collect()
}

/// The flush with the samples and the idle ones after it; `None` if the samples came in two.
pub(super) fn play(server: &mut Server, datagrams: &[Vec<u8>]) -> Option<Vec<Flush>> {
    server.sink.skip_old();
    server.next_flush();
    server.send(b"diff.first:1|c");
    for datagram in datagrams {
        server.send(datagram);
    }
    server.send(b"diff.last:1|c");
    let mut whole = None;
    for _ in 0..FLUSHES_WAITED {
        let flush = server.next_flush();
        let (first, last) = (has_marker(&flush, "diff.first"), has_marker(&flush, "diff.last"));
        if first && last {
            whole = Some(flush);
        }
        if last {
            break;
        }
    }
    // The idle flushes are waited for in any case, so that short-lived gauges are gone before a repeat.
    let idle: Vec<Flush> = (0..IDLE_FLUSHES).map(|_| server.next_flush()).collect();
    whole.map(|flush| [vec![flush], idle].concat())
}

/// The marker's name depends on the configuration, but no other name holds it, and it is 0 when idle.
fn has_marker(flush: &Flush, marker: &str) -> bool {
    flush.iter().any(|point| point.name.contains(marker) && point.value != "0")
}
