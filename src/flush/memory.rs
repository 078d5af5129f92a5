//! What is given up while memory is short, and in which order: always detail before counts.
//!
//! ```text
//!   of limits.memory_max   in use by the process as a whole
//!     75 %   history     the oldest buckets in memory that every destination has; their roll-ups stay
//!     80 %   exactness   timers and sets become sketches after few values
//!     84 %   new names   are counted in overflow series, as beyond limits.series_max
//!     90 %   names       of series that are known are counted there too, but for those of figures
//!     96 %   buckets     the oldest in memory that a destination still needs: the one loss there is, and counted
//! ```
//!
//! Each step ends when there is room again for a while. What the process takes is asked of the system, since nothing
//! else is the truth about it; where that cannot be asked, only history has its bound. Names have a bound of their own
//! besides (`registry.rs`), which does not wait for the next tick.

use crate::aggregate::{Registry, Scarcity};
use crate::clock::WallMs;
use crate::health::{Books, MEMORY_STEPS};
use crate::limits;
use crate::store::Store;
use crate::sys;
use std::sync::atomic::Ordering;

/// From which percentage on each step is taken, in the order of [`MEMORY_STEPS`].
const STEPS: [usize; MEMORY_STEPS.len()] = [75, 80, 84, 90, 96];
/// A step ends this much below where it begins, in percent.
const EASE: usize = 6;

/// How short memory is.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: usize,
    /// Steps that are taken now.
    taken: usize,
    /// Since when it could be one less.
    eased_at: Option<WallMs>,
    /// When memory was last given back to the system.
    given_back_at: WallMs,
    /// What was in use when the system was last asked, and when that was.
    used: usize,
    asked_at: WallMs,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            taken: 0,
            eased_at: None,
            given_back_at: WallMs::MIN,
            used: 0,
            asked_at: WallMs::MIN,
        }
    }

    /// Looks at what is in use, and takes or ends steps. Says whether the threads are to learn their names anew.
    pub(super) fn look(
        &mut self,
        store: &dyn Store,
        registry: &Registry,
        books: &Books,
        now: WallMs,
    ) -> bool {
        // Far from the limit it is asked once a second: it is the greater part of what a tick without samples costs.
        let since = now.saturating_sub(self.asked_at);
        if self.used < self.bytes_max / 4 && (0..limits::MEMORY_ASKED_MS).contains(&since) {
            return false;
        }
        let Some(used) = sys::resident_bytes() else {
            return false;
        };
        (self.used, self.asked_at) = (used, now);
        let before = self.taken;
        self.judge(used, now);
        for step in before..self.taken {
            if let Some(count) = books.memory.taken.get(step) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        if before != self.taken {
            say(before, self.taken, used, self.bytes_max);
            registry.set_scarcity(self.scarcity());
        }
        books.memory.used.store(used as u64, Ordering::Relaxed);
        books.memory.bytes_max.store(self.bytes_max as u64, Ordering::Relaxed);
        books.memory.steps.store(self.taken as u64, Ordering::Relaxed);
        self.hold_history(store, used);
        // What was freed counts as used until the system has it back.
        let since = now.saturating_sub(self.given_back_at);
        if self.taken > 0 && !(0..limits::MEMORY_BACK_MS).contains(&since) {
            self.given_back_at = now;
            sys::give_memory_back();
        }
        before < NAMES && self.taken >= NAMES
    }

    /// How many steps are to be taken with so much in use.
    fn judge(&mut self, used: usize, now: WallMs) {
        let percent = used as f64 * 100.0 / self.bytes_max.max(1) as f64;
        let from = |step: &&usize| percent >= **step as f64;
        let wanted = STEPS.iter().take_while(from).count();
        if wanted >= self.taken {
            self.taken = wanted;
            self.eased_at = None;
            return;
        }
        let last = STEPS.get(self.taken - 1).copied().unwrap_or_default();
        if percent > (last - EASE) as f64 {
            self.eased_at = None;
            return;
        }
        let since = *self.eased_at.get_or_insert(now);
        let patience = if self.taken >= NAMES { limits::MEMORY_NAMES_MS } else { limits::MEMORY_EASED_MS };
        if !(0..patience).contains(&(now - since)) {
            self.taken -= 1;
            self.eased_at = None;
        }
    }

    fn scarcity(&self) -> Scarcity {
        match self.taken {
            0 | 1 => Scarcity::None,
            2 => Scarcity::Exactness,
            3 => Scarcity::NewNames,
            _ => Scarcity::Names,
        }
    }

    /// Tells the store how much history it may hold: what there is, less what is too much.
    fn hold_history(&self, store: &dyn Store, used: usize) {
        let Some(held) = store.history_bytes() else {
            return;
        };
        let room_at = |percent: usize| {
            let target = self.bytes_max / 100 * percent;
            (held + target).saturating_sub(used).clamp(self.bytes_max / HISTORY_PART, self.bytes_max)
        };
        let [history, .., buckets] = STEPS;
        store.hold_history(room_at(history), room_at(buckets));
    }
}

/// The number of steps with which the names of known series are given up.
const NAMES: usize = 4;
/// History is never made less than one in so many parts of all memory.
const HISTORY_PART: usize = 16;

fn say(before: usize, taken: usize, used: usize, bytes_max: usize) {
    let words = |steps: usize| {
        let words: Vec<&str> = MEMORY_STEPS.iter().take(steps).copied().collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    let (used, most) = (used >> 20, bytes_max >> 20);
    if taken > before {
        tracing::warn!("memory is short ({used} of {most} MiB): giving up {}", words(taken));
    } else {
        tracing::info!("there is memory again ({used} of {most} MiB): giving up {}", words(taken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_at_once_and_ended_one_at_a_time() {
        let mut memory = Memory::new(1_000);
        let mut at = |used: usize, now: WallMs| {
            memory.judge(used, now);
            memory.taken
        };
        assert_eq!([at(0, 0), at(749, 1), at(750, 2), at(845, 3)], [0, 0, 1, 3]);
        // Just below where it began it is not over, nor if it goes up and down.
        assert_eq!([at(800, 4), at(780, 5), at(785, 6), at(779, 7)], [3, 3, 3, 3]);
        let later = 7 + limits::MEMORY_EASED_MS;
        assert_eq!([at(779, later - 1), at(779, later), at(779, later + 1)], [3, 2, 2]);
        assert_eq!(at(1_200, later + 2), 5);
        let (mut now, mut seen) = (later + 2, vec![5]);
        while seen.last() != Some(&0) {
            now += 100;
            let taken = at(100, now);
            if seen.last() != Some(&taken) {
                seen.push(taken);
            }
        }
        assert_eq!(seen, [5, 4, 3, 2, 1, 0]);
        assert!(now - later > 2 * limits::MEMORY_NAMES_MS);
        // A clock that is set back does not hold it up.
        assert_eq!([at(850, 0), at(0, 0), at(0, -1)], [3, 3, 2]);
    }
}
