//! Where buckets stand: the contract of a store, and the stores.

mod contract;
pub mod embedded;

pub use contract::{
    Applied, Batch, Cohort, Confirmed, Durability, Entry, Folded, Idle, IdleRules, Options, Outstanding,
    Present, Reading, Sealed, Store, StoreError, StoreUrl,
};
