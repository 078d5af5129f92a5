//! The protocol of the Redis store as an executable model, and every state of it within small bounds.
//!
//! ```text
//!   slot.rs      what is in Redis of one partition, and what the scripts do to it
//!   state.rs     everything else: producers with journals, holders, Graphite, faults that may still come
//!   world.rs     what may happen next · step.rs what it does · holds.rs what must hold whatever happens
//!   explore.rs   every state, breadth first; random walks, which `redis/replay.rs` plays on the real scripts
//!   canaries.rs  without any one of its checks the protocol fails, and this finds how
//! ```
//!
//! One partition is enough: two share nothing but the processes. Times are no numbers here. What the protocol assumes
//! of them says when a step is possible: the hold is longer than Redis ever falls back (`lets_go`), and probation lasts
//! until what was under way before has arrived or never will (`Trust`).

pub(crate) mod canaries;
pub(crate) mod explore;
pub(crate) mod holds;
pub(crate) mod slot;
pub(crate) mod state;
pub(crate) mod step;
pub(crate) mod world;

use slot::Rules;
use state::{Faults, World};

/// No exploration has more states, or it has outgrown its bounds.
const STATES_MAX: usize = 8_000_000;

const NONE: Faults = Faults {
    restores: 0,
    failovers: 0,
    lost_answers: 0,
    delays: 0,
    kills: 0,
    pauses: 0,
    doubts: 0,
    crashes: 0,
    ticks: 0,
};

/// A world without faults, to be made worse.
const CALM: World = World {
    name: "calm",
    plan: [&[0, 1], &[]],
    holders: 1,
    steps: false,
    journal: false,
    graphite: false,
    forgetful: false,
    faults: NONE,
    rules: Rules::ALL,
};

/// Two holders read and fold the same bucket, step by step, and the slot falls back beneath them.
pub(crate) const FOLDING: World = World {
    name: "folding",
    plan: [&[0], &[0]],
    holders: 2,
    steps: true,
    faults: Faults { restores: 1, ..NONE },
    ..CALM
};

/// Answers that are lost, and requests that arrive when nobody waits for them any more.
pub(crate) const SENDING: World = World {
    name: "sending",
    holders: 2,
    faults: Faults { restores: 1, lost_answers: 1, delays: 1, ..NONE },
    ..CALM
};

/// The old master goes on in isolation, with whoever has not seen it.
pub(crate) const APART: World =
    World { name: "apart", plan: [&[0, 1], &[0]], faults: Faults { failovers: 1, ..NONE }, ..CALM };

/// Batches leave the journal, and the process is killed.
pub(crate) const JOURNAL: World = World {
    name: "journal",
    plan: [&[0], &[]],
    journal: true,
    faults: Faults { restores: 1, failovers: 1, kills: 1, lost_answers: 1, ..NONE },
    ..CALM
};

/// Redis forgets what the journal has let go of: that is counted, and Graphite not told less than it has.
pub(crate) const FORGETFUL: World = World {
    name: "forgetful",
    plan: [&[0, 0], &[]],
    journal: true,
    graphite: true,
    forgetful: true,
    faults: Faults { restores: 1, ..NONE },
    ..CALM
};

/// The same, where what the journal still has came late and is older than what is lost.
pub(crate) const HIDDEN: World = World { name: "hidden", plan: [&[1, 0], &[]], ..FORGETFUL };

/// Buckets are past their keep when batches come, and gone.
pub(crate) const LATE: World = World {
    name: "late",
    plan: [&[0, 0], &[]],
    holders: 2,
    faults: Faults { ticks: 2, restores: 1, lost_answers: 1, ..NONE },
    ..CALM
};

/// A lease that moves while a late batch amends what was stated, and a slot that falls back.
pub(crate) const STATING: World = World {
    name: "stating",
    plan: [&[0, 0], &[]],
    holders: 2,
    graphite: true,
    faults: Faults { restores: 1, pauses: 1, ..NONE },
    ..CALM
};

/// An old master on which a holder goes on folding and stating.
pub(crate) const ISOLATED: World = World {
    name: "isolated",
    plan: [&[0], &[]],
    faults: Faults { failovers: 1, pauses: 1, ..NONE },
    ..STATING
};

/// Deliveries that are not confirmed or arrive late, a carbon that is killed, a holder that sleeps.
pub(crate) const DOUBTING: World = World {
    name: "doubting",
    plan: [&[0, 1, 0], &[]],
    faults: Faults { pauses: 1, doubts: 1, crashes: 1, ..NONE },
    ..STATING
};

/// What `make test` explores whole.
pub(crate) const WORLDS: [World; 10] =
    [FOLDING, SENDING, APART, JOURNAL, FORGETFUL, HIDDEN, LATE, STATING, ISOLATED, DOUBTING];

/// The same with more of everything.
const LARGER: [World; 10] = [
    World { plan: [&[0, 0], &[0]], ..FOLDING },
    World { plan: [&[0, 1], &[0, 1]], holders: 1, ..SENDING },
    World { plan: [&[0, 1], &[1]], ..SENDING },
    World { plan: [&[0], &[0]], holders: 2, ..APART },
    World { plan: [&[0, 1, 0], &[]], faults: Faults { failovers: 1, kills: 1, ..NONE }, ..JOURNAL },
    World { plan: [&[0, 0, 1], &[]], ..FORGETFUL },
    World { plan: [&[0], &[0]], ..LATE },
    World { faults: Faults { restores: 1, pauses: 2, ..NONE }, ..STATING },
    World { plan: [&[0, 0], &[]], faults: Faults { failovers: 1, ..NONE }, ..ISOLATED },
    World { faults: Faults { pauses: 2, doubts: 2, crashes: 1, ..NONE }, ..DOUBTING },
];

fn holds_in(world: &World) {
    let found = world.explore(STATES_MAX);
    println!("{}: {} states, {} at rest", world.name, found.states, found.at_rest);
    if let Some((wrong, way)) = found.wrong {
        panic!("{}: {wrong}, by {way:?}", world.name);
    }
    assert!(!found.unfinished, "{} has outgrown its bounds", world.name);
    assert!(found.at_rest > 0 && found.states > 1_000, "{} is hardly a world", world.name);
}

#[test]
fn nothing_is_lost_or_counted_twice_in_any_order_of_events() {
    let more: &[World] = if std::env::var_os("TALLYD_TEST_LONG").is_some() { &LARGER } else { &[] };
    std::thread::scope(|scope| {
        let half = |n: usize| move || WORLDS.iter().chain(more).skip(n).step_by(2).for_each(holds_in);
        scope.spawn(half(0));
        scope.spawn(half(1));
    });
}
