//! The protocol of the hand-over, whatever is handed over: a number, a time, and two rings.
//!
//! In come generations that an ingest thread has filled, out come the same ones at the flusher, each once and
//! in order, and back go the drained ones. It knows neither samples nor sockets. Its atomics, rings and
//! threads come from [`super::parts`]: tests/loom puts others in their place, which try every interleaving.

use super::parts::{Arc, AtomicBool, AtomicI64, AtomicU64, Consumer, Ordering, Producer, RingBuffer, Thread};
use crate::clock::WallMs;

/// Generations of one thread, and the room of its rings: a push always fits.
pub(super) const GENERATIONS: usize = 2;

/// The number of the tick, shared by the flusher and all ingest threads.
#[derive(Debug)]
pub struct Epoch {
    /// Written by the flusher only. Release there, acquire here: who sees the number sees `now_ms` too.
    number: AtomicU64,
    /// Wall time of the tick; written before `number`, so it may be newer than the number, never older.
    now_ms: AtomicI64,
    /// The flusher, to be unparked when a generation was pushed.
    flusher: Thread,
}

impl Epoch {
    /// An epoch whose ticks are collected by `flusher`.
    #[must_use]
    pub fn new(now: WallMs, flusher: Thread) -> Arc<Self> {
        Arc::new(Self { number: AtomicU64::new(0), now_ms: AtomicI64::new(now), flusher })
    }

    /// Begins a tick; returns its number.
    pub fn advance(&self, now: WallMs) -> u64 {
        self.now_ms.store(now, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Release) + 1
    }

    /// The number, then the time: who sees the newer number sees its time or a later one.
    fn read(&self) -> (u64, WallMs) {
        let number = self.number.load(Ordering::Acquire);
        (number, self.now_ms.load(Ordering::Relaxed))
    }
}

/// An ingest thread's end.
#[derive(Debug)]
pub(super) struct Giver<T> {
    epoch: Arc<Epoch>,
    seen: u64,
    now: WallMs,
    full: Producer<(u64, T)>,
    spares: Consumer<T>,
    /// Set by the flusher when the thread shall learn its names anew; read and cleared at a hand-over. It
    /// orders nothing: a tick sooner or later does not matter.
    renew: Arc<AtomicBool>,
}

/// The flusher's end.
#[derive(Debug)]
pub(super) struct Taker<T> {
    full: Consumer<(u64, T)>,
    spares: Producer<T>,
    renew: Arc<AtomicBool>,
}

/// Both ends; `spare` is the first to be counted into after a hand-over.
pub(super) fn ends<T>(epoch: Arc<Epoch>, spare: T) -> (Giver<T>, Taker<T>) {
    let (full_in, full_out) = RingBuffer::new(GENERATIONS);
    let (mut spares_in, spares_out) = RingBuffer::new(GENERATIONS);
    // The ring is new and holds two: there is room for one.
    let pushed = spares_in.push(spare).is_ok();
    debug_assert!(pushed, "a new ring has room");
    let renew = Arc::new(AtomicBool::new(false));
    let (seen, now) = epoch.read();
    let giver = Giver { epoch, seen, now, full: full_in, spares: spares_out, renew: Arc::clone(&renew) };
    (giver, Taker { full: full_out, spares: spares_in, renew })
}

impl<T> Giver<T> {
    /// Whether a tick has begun. One atomic load.
    #[inline]
    pub(super) fn tick_begun(&self) -> bool {
        self.epoch.number.load(Ordering::Acquire) != self.seen
    }

    /// Time of the tick that was seen last.
    #[inline]
    pub(super) fn now(&self) -> WallMs {
        self.now
    }

    /// Puts a spare in the place of `counting` and hands that over, if the one before it is back. `leave` is
    /// told what goes, and whether names are to be learned anew.
    pub(super) fn hand_over(&mut self, counting: &mut T, leave: impl FnOnce(&mut T, bool)) {
        let Ok(spare) = self.spares.pop() else {
            return;
        };
        (self.seen, self.now) = self.epoch.read();
        let mut full = std::mem::replace(counting, spare);
        leave(&mut full, self.renew.swap(false, Ordering::Relaxed));
        self.push(full);
    }

    /// Hands over what there is, spare or not; to be called once, and last.
    pub(super) fn hand_over_last(&mut self, last: T) {
        (self.seen, self.now) = self.epoch.read();
        self.push(last);
    }

    fn push(&mut self, full: T) {
        // Two generations, a ring of two: there is room.
        let pushed = self.full.push((self.seen, full)).is_ok();
        debug_assert!(pushed, "a thread has no more generations than its ring holds");
        self.epoch.flusher.unpark();
    }
}

impl<T> Taker<T> {
    /// What was handed over first, if anything was, with the number of the tick it was handed over in.
    pub(super) fn take(&mut self) -> Option<(u64, T)> {
        self.full.pop().ok()
    }

    /// Gives a drained one back. The thread is gone if it takes no more spares; its last needs none.
    pub(super) fn give_back(&mut self, spare: T) {
        drop(self.spares.push(spare));
    }

    /// Has the thread learn its names anew, at one of its next hand-overs.
    pub(super) fn renew(&self) {
        self.renew.store(true, Ordering::Relaxed);
    }
}
