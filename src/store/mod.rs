//! Where buckets stand: the contract of a store, and the stores.

mod contract;
mod known;
pub mod memory;

pub use contract::{
    Applied, Batch, Entry, Folded, Idle, IdleRules, Options, Outstanding, Present, Sealed, Store, StoreError,
    StoreUrl,
};
