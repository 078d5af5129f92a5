//! A ring for one producer and one consumer, with no more order than rtrb gives.

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

#[derive(Debug)]
struct Ring<T> {
    slots: Vec<Mutex<Option<T>>>,
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

impl<T> Ring<T> {
    /// The slot of the `number`th value, which only one side may be at: whoever had to wait here would have
    /// found a mistake in the ring.
    fn slot<R>(&self, number: usize, with: impl FnOnce(&mut Option<T>) -> R) -> R {
        with(&mut self.slots[number % self.slots.len()].try_lock().expect("nobody waits for a slot"))
    }
}

/// The ring itself, of which only the ends are seen.
pub(crate) enum RingBuffer {}

#[derive(Debug)]
pub(crate) struct Producer<T>(Arc<Ring<T>>);

#[derive(Debug)]
pub(crate) struct Consumer<T>(Arc<Ring<T>>);

impl RingBuffer {
    #[expect(clippy::new_ret_no_self, reason = "rtrb's own signature")]
    pub(crate) fn new<T>(room: usize) -> (Producer<T>, Consumer<T>) {
        let slots = (0..room).map(|_| Mutex::new(None)).collect();
        let ring = Arc::new(Ring { slots, pushed: AtomicUsize::new(0), popped: AtomicUsize::new(0) });
        (Producer(Arc::clone(&ring)), Consumer(ring))
    }
}

impl<T> Producer<T> {
    pub(crate) fn push(&mut self, value: T) -> Result<(), T> {
        let ring = &self.0;
        let pushed = ring.pushed.load(Ordering::Relaxed);
        if pushed - ring.popped.load(Ordering::Acquire) == ring.slots.len() {
            return Err(value);
        }
        ring.slot(pushed, |slot| *slot = Some(value));
        ring.pushed.store(pushed + 1, Ordering::Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    pub(crate) fn pop(&mut self) -> Result<T, ()> {
        let ring = &self.0;
        let popped = ring.popped.load(Ordering::Relaxed);
        if ring.pushed.load(Ordering::Acquire) == popped {
            return Err(());
        }
        let value = ring.slot(popped, Option::take).expect("a slot is filled before it is counted");
        ring.popped.store(popped + 1, Ordering::Release);
        Ok(value)
    }
}
