//! Bytes on the wire, in both directions: no sockets, no storage, no clock.

pub mod batch;
pub mod bytes;
pub mod decimal;
mod event;
pub mod graphite;
pub mod number;
mod original;
mod sample;
pub mod statsd;
pub mod tally;

/// Whose rules hold where statsd and its successors differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: statsd and DogStatsD, refused where a line makes no sense.
    Native,
    /// The original's, to the letter; docs/differences-from-statsd.md lists what we do not follow.
    Statsd,
}
