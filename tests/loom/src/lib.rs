//! The hand-over of src/aggregate/handover.rs under loom: every interleaving of an ingest thread and the
//! flusher, with every value that the memory orderings allow to be read.
//!
//! The ring is a crate's own business (rtrb), so one with the same promises stands in for it: what is popped
//! happened after it was pushed, and room happened after the pop; a failed pop or push promises nothing.

#![cfg(test)]

/// In the place of tallyd's own.
mod clock {
    pub(crate) type WallMs = i64;
}

#[path = "../../../src/aggregate/handover.rs"]
mod handover;

/// In the place of src/aggregate/mod.rs's.
mod parts {
    pub(crate) use crate::ring::{Consumer, Producer, RingBuffer};
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
    pub(crate) use std::sync::Arc;

    use loom::sync::Notify;

    /// A thread that can be unparked; its own park is `0.wait()`. Loom's park cannot be told from its join.
    #[derive(Clone)]
    pub(crate) struct Thread(pub(crate) Arc<Notify>);

    impl Thread {
        pub(crate) fn unpark(&self) {
            self.0.notify();
        }
    }

    impl std::fmt::Debug for Thread {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Thread")
        }
    }
}

mod ring;
mod tests;
