//! Row 21: the simulation of the whole road on a virtual clock, disks and network.

#[path = "../../it/faults/simulation/mod.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
mod simulation;

use crate::board::Outcome;
use crate::support::time;

/// The product's own code, and not the built program: nothing else repeats bit for bit.
pub(crate) fn seeds(outcome: &mut Outcome) {
    let count = if super::is_full() { 100_000 } else { 1_000 };
    let started = time::now();
    simulation::play_range(&(0..count));
    let differ = (0..20).filter(|seed| !simulation::repeats(*seed)).count();
    let took = started.elapsed().as_secs();
    outcome.figure(format!("{count} seeds in {took} s, 0 failed; {differ} of 20 differ when played again"));
    outcome.unexplained(differ as i64);
    outcome.require(differ == 0, format!("{differ} seeds are another history when played again"));
}
