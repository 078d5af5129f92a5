//! From sealed buckets to Graphite.

pub mod carbon;
pub mod destination;
pub mod expand;
mod lately;
mod newborn;
mod payload;
mod signal;

pub use carbon::{Flight, ForwardError, Link};
pub use destination::{Destination, Round};
pub use expand::{Histogram, Naming, Rules, Scheme, TimerRules};
pub use signal::{DestinationStatus, Signal};

/// Which of carbon's receivers is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Lines: `path value seconds\n`.
    Plaintext,
    /// Pickled lists behind a length.
    Pickle,
}

/// How connections to Graphite are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// One for each flush, confirmed by half-close and reading to the end.
    PerFlush,
    /// Kept open; confirmed as far as an empty send queue says.
    Kept,
}

/// Which moment of a bucket its points carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The start of the bucket, so that sums by day are right in Graphite.
    Start,
    /// The end, rounded to the second: statsd's.
    End,
}

/// Where and how buckets leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `host:port` of each destination (`graphite.address`); empty is none.
    pub addresses: Vec<String>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// How connections are used.
    pub connection: Connection,
    /// Span stated again after a connection was lost, in milliseconds.
    pub resend_ms: i64,
    /// Points a second at which a backlog is stated.
    pub backfill_rate: usize,
    /// Whether an idle connection tells that Graphite was restarted between two flushes.
    pub watch: bool,
}
