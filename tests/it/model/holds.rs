//! What must hold whatever happens.

use super::slot::{Answer, COARSE, Call, bit, doubles, tally};
use super::state::{NODES, State, World};
use super::world::{Action, Event};

/// What is wrong with what a script has just done.
pub(crate) fn wrong_step(before: &State, event: Event) -> Option<String> {
    match event {
        Event::Call(on_old, Call::Fold { fold, .. }, Answer::Ok) if fold.keep => {
            let slot = if on_old { before.old.as_ref()? } else { &before.main };
            let sealed = slot.sealed[usize::from(fold.bucket)].0;
            (fold.version <= sealed).then(|| "a version is not newer than the one before".to_owned())
        }
        Event::Call(false, Call::Strike { bucket, .. }, Answer::Ok) => {
            let (listed, told) = (before.main.out[bucket], before.graphite.cache[bucket].0);
            (listed != 0 && told < listed)
                .then(|| format!("bucket {bucket} is struck off, and Graphite has an older version"))
        }
        _ => None,
    }
}

/// What is wrong with what a holder is about to tell: of a batch that is lost Graphite may be the only one who knows.
pub(crate) fn wrong_telling(before: &State, action: Action, after: &State) -> Option<String> {
    let Action::Tell(at, bucket) = action else {
        return None;
    };
    let told = after.holders[at].flight?.tally;
    let only_there = before.graphite.cache[bucket].1 & !told & tally(before.main.lost);
    let is_less = !before.holders[at].on_old && only_there != 0;
    is_less.then(|| format!("Graphite is told less of bucket {bucket} than it has"))
}

impl World {
    /// What is wrong with a state that is so at any time.
    pub(crate) fn wrong(&self, state: &State) -> Option<String> {
        for slot in [Some(&state.main), state.old.as_ref()].into_iter().flatten() {
            if (0..=COARSE).any(|bucket| doubles(slot.read(bucket))) || doubles(slot.day) {
                return Some("a batch counts twice".to_owned());
            }
            for at in 0..NODES {
                for number in 1..=slot.watermarks[at] {
                    let batch = bit(at, number);
                    let passed = (slot.lost | slot.late) & batch != 0;
                    if slot.read(COARSE) & tally(batch) == 0 && !passed {
                        return Some(format!(
                            "batch {number} of producer {at} is neither there nor passed over"
                        ));
                    }
                }
            }
            if slot.lost != 0 && !self.forgetful {
                return Some("a batch is lost that the journal should have had".to_owned());
            }
            let pending = (0..=COARSE).filter(|bucket| slot.pending(*bucket) != 0);
            if pending.into_iter().any(|bucket| slot.due >> bucket & 1 == 0) {
                return Some("what is pending is not due".to_owned());
            }
        }
        None
    }

    /// What is wrong with a state in which nothing goes on by itself.
    pub(crate) fn wrong_at_rest(&self, state: &State) -> Option<String> {
        let slot = &state.main;
        for (at, one) in state.producers.iter().enumerate() {
            if one.known != Some(one.made) || slot.watermarks[at] != one.made {
                return Some(format!("producer {at} has not sent all it made"));
            }
        }
        if slot.due != 0 || state.old.is_some() || state.holders.iter().any(|one| one.fold.is_some()) {
            return Some("something is due for ever".to_owned());
        }
        let passed = slot.lost | slot.late;
        let all = state.counted(self, COARSE) & !passed;
        if slot.sealed[COARSE].1 != tally(all) || slot.day != tally(all) {
            return Some("the coarse bucket or the figure is not what was counted".to_owned());
        }
        for bucket in 0..COARSE {
            let all = tally(state.counted(self, bucket) & !passed & !slot.up);
            let (version, sealed) = slot.sealed[bucket];
            let is_gone = version == 0 && state.time > 0;
            if sealed != all && !is_gone {
                return Some(format!("bucket {bucket} is not what was counted"));
            }
            if self.graphite && bucket >= usize::from(slot.damaged) {
                let told = state.graphite.cache[bucket].1;
                if told != all && !(is_gone && slot.out[bucket] != 0) {
                    return Some(format!("Graphite has {told:b} of bucket {bucket} and not {all:b}"));
                }
                if slot.out[bucket] != 0 && !is_gone {
                    return Some(format!("bucket {bucket} stays on the list"));
                }
            }
        }
        None
    }
}
