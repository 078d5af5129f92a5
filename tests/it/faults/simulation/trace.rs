//! What happened, as one number: two histories that have the same are the same.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Everything noted so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(DefaultHasher);

impl Trace {
    pub(super) fn note(&mut self, what: impl Hash) {
        what.hash(&mut self.0);
    }

    pub(super) fn digest(&self) -> u64 {
        self.0.finish()
    }
}
