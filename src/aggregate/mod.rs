//! From samples to ticks: one table per ingest thread, handed over at the tick without a lock.

mod columns;
pub mod epoch;
mod handover;
pub mod heavy;
mod index;
pub mod overflow;
pub mod registry;
pub mod request;
pub mod senders;
pub mod table;
pub mod totals;

pub use epoch::{Collector, Recorder, Tick};
pub use registry::{Makers, Placed, Registry, Scarcity};
pub use senders::Sent;
pub use totals::{Total, Totals};

/// What the hand-over is made of; tests/loom has another one.
mod parts {
    pub(super) use rtrb::{Consumer, Producer, RingBuffer};
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
    pub(super) use std::thread::Thread;
}

use crate::metric::{Bounds, Width, glob, name};
use crate::wire::Dialect;

/// How samples become tallies.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Whether sampled timer values weigh one (statsd's dialect) or 1/rate.
    pub dialect: Dialect,
    /// How raw names become series.
    pub names: name::Rules,
    /// Up to where timers and sets are exact.
    pub bounds: Bounds,
    /// Put before set members before they are hashed (`sets.salt`).
    pub set_salt: Vec<u8>,
    /// Most series known on this node.
    pub series_max: usize,
    /// Bytes that names and what is known of their series may take: a share of `limits.memory_max`.
    pub names_bytes_max: usize,
    /// Globs of names that figures show: their series always find a place.
    pub figures: Vec<String>,
    /// Globs of the only names that are counted, where `names.declared_only` says so; no tags.
    pub declared: Option<Vec<String>>,
    /// Width of a bucket: where a sample's own timestamp leads.
    pub bucket: Width,
    /// How old a sample's own timestamp may be, in milliseconds.
    pub amend_window_ms: i64,
}

impl Options {
    /// Whether a key may be counted at all.
    fn is_declared(&self, key: &str) -> bool {
        let Some(globs) = &self.declared else {
            return true;
        };
        let (name, _) = name::split_key(key);
        globs.iter().any(|glob| glob::matches(glob, name))
    }
}

/// Room for `more` in a list that holds something of every series: such lists grow by an eighth, not to twice
/// their size, for half a list of a million is much to leave empty.
fn make_room<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8));
    }
}
