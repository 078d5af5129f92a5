//! Vocabulary: values only, no sockets, no storage, no clock.
//!
//! Glossary. A *sample* is one observation; a *series* is kind + name + tags; a *tally* is the merged
//! samples of one series over one span of time; a *tick* is what one ingest thread hands over; a *batch*
//! carries tallies to the store under a name (producer, number); a *bucket* is a span of time in the store,
//! *sealed* once its grace is over; a *point* is one value for Graphite; what is *refused* was counted with
//! a reason and dropped. `merge` is said of tallies, `apply` of batches, `seal` of buckets.

pub mod bucket;
pub mod digest;
pub mod gauge;
pub mod glob;
pub mod hll;
pub mod ladder;
pub mod malformed;
pub mod name;
pub mod sketch;
pub mod sum;
pub mod tally;
pub mod unique;

pub use bucket::Width;
pub use digest::Digest;
pub use gauge::Gauge;
pub use ladder::{Class, Ladder};
pub use malformed::Malformed;
pub use name::{Kind, Series};
pub use sum::{Number, Sum};
pub use tally::{Bounds, Tally};
pub use unique::Unique;
