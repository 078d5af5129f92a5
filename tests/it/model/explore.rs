//! Every state that can be reached, breadth first; and random walks.

use super::holds::{wrong_step, wrong_telling};
use super::state::{State, World};
use super::world::{Action, Event};
use foldhash::quality::FixedState;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

/// What an exploration came to.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Those in which nothing goes on by itself.
    pub(crate) at_rest: usize,
    /// What is wrong, and the shortest way there.
    pub(crate) wrong: Option<(String, Vec<Action>)>,
    /// There was more than fits.
    pub(crate) unfinished: bool,
}

impl World {
    /// Every state of it, or as many as `most`.
    pub(crate) fn explore(&self, most: usize) -> Explored {
        let hasher = FixedState::with_seed(5);
        let first = State::first(self).canonical(self);
        let mut seen = HashSet::from([hasher.hash_one(first)]);
        // How each state was reached: from which, by what.
        let mut ways: Vec<(usize, Action)> = vec![(0, Action::Save)];
        let mut queue = VecDeque::from([(0, first)]);
        let mut found = Explored { states: 1, at_rest: 0, wrong: None, unfinished: false };
        while let Some((at, state)) = queue.pop_front() {
            let actions = self.actions(&state);
            let wrong = if actions.iter().all(|action| action.is_fault()) {
                found.at_rest += 1;
                self.wrong_at_rest(&state)
            } else {
                None
            };
            if let Some(wrong) = wrong.or_else(|| self.wrong(&state)) {
                found.wrong = Some((wrong, way_to(&ways, at)));
                return found;
            }
            for action in actions {
                let mut wrong = None;
                let next = self.step(&state, action, &mut |event| wrong = wrong_step(&state, event));
                if let Some(wrong) = wrong.or_else(|| wrong_telling(&state, action, &next)) {
                    let mut way = way_to(&ways, at);
                    way.push(action);
                    found.wrong = Some((wrong, way));
                    return found;
                }
                let next = next.canonical(self);
                if seen.insert(hasher.hash_one(next)) {
                    if ways.len() >= most {
                        found.unfinished = true;
                        return found;
                    }
                    queue.push_back((ways.len(), next));
                    ways.push((at, action));
                    found.states += 1;
                }
            }
        }
        found
    }

    /// A random walk from the beginning until nothing more happens; what happened at each step.
    pub(crate) fn walk(&self, seed: u64, mut each: impl FnMut(&State, Action, &[Event], &State)) -> State {
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = State::first(self);
        loop {
            let actions = self.actions(&state);
            if actions.is_empty() {
                return state;
            }
            let action = actions[random.random_range(0..actions.len())];
            let mut events = Vec::new();
            let next = self.step(&state, action, &mut |event| events.push(event));
            each(&state, action, &events, &next);
            state = next;
        }
    }
}

fn way_to(ways: &[(usize, Action)], at: usize) -> Vec<Action> {
    let mut way = Vec::new();
    let mut at = at;
    while at > 0 {
        let (before, action) = ways[at];
        way.push(action);
        at = before;
    }
    way.reverse();
    way
}
