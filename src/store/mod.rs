//! Where buckets stand: the contract of a store, and the stores.

mod contract;
pub mod embedded;
pub mod redis;

pub use contract::{
    Applied, Batch, Board, Cohort, Confirmed, Durability, Entry, Folded, Idle, IdleRules, KEYED, Kept, Notes,
    Options, Outstanding, Present, Reading, Sealed, Sharing, Store, StoreError, StoreUrl,
};
