//! From samples to ticks: one table per ingest thread, handed over at the tick without a lock.

mod columns;
pub mod epoch;
mod handover;
mod index;
pub mod registry;
pub mod request;
pub mod table;
pub mod totals;

pub use epoch::{Collector, Recorder, Tick};
pub use registry::Registry;
pub use totals::{Total, Totals};

/// What the hand-over is made of; tests/loom has another one.
mod parts {
    pub(super) use rtrb::{Consumer, Producer, RingBuffer};
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
    pub(super) use std::thread::Thread;
}

use crate::metric::{Bounds, Width, name};
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
    /// Width of a bucket: where a sample's own timestamp leads.
    pub bucket: Width,
    /// How old a sample's own timestamp may be, in milliseconds.
    pub amend_window_ms: i64,
}

/// Room for `more` in a list that holds something of every series: such lists grow by an eighth, not to twice
/// their size, for half a list of a million is much to leave empty.
fn make_room<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8));
    }
}
