//! What must hold however the two threads run.

use crate::handover::{Epoch, Giver, Taker, ends};
use crate::parts::Thread;
use loom::sync::Notify;
use loom::thread;
use std::sync::Arc;

/// Samples are numbers here, and a generation is the list of those it counted.
type Generation = Vec<u32>;

/// Runs `ingest` on a thread of its own and `flush` on this one, in every way, and takes what is left:
/// every sample that was counted must have come, once and in order.
fn every_way(
    ingest: impl Fn(&mut Ingest) + Clone + Send + Sync + 'static,
    flush: impl Fn(&Epoch, &mut Flusher) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(move || {
        let unparked = Arc::new(Notify::new());
        let epoch = Epoch::new(0, Thread(Arc::clone(&unparked)));
        let (giver, taker) = ends(epoch.clone(), Generation::new());
        let ingest = ingest.clone();
        let thread = thread::spawn(move || {
            let mut thread = Ingest { giver, counting: Generation::new(), counted: 0, renewals: 0 };
            ingest(&mut thread);
            thread.giver.hand_over_last(std::mem::take(&mut thread.counting));
            (thread.counted, thread.renewals)
        });
        let mut flusher = Flusher { taker, unparked, taken: Vec::new(), number: 0 };
        flush(&epoch, &mut flusher);
        let (counted, renewals) = thread.join().unwrap();
        while flusher.take().is_some() {}
        assert_eq!(flusher.taken, (1..=counted).collect::<Vec<_>>(), "lost, doubled or out of order");
        assert!(renewals <= 1, "asked once, done {renewals} times");
    });
}

struct Ingest {
    giver: Giver<Generation>,
    counting: Generation,
    counted: u32,
    renewals: u32,
}

impl Ingest {
    fn count(&mut self) {
        self.counted += 1;
        self.counting.push(self.counted);
    }

    /// What the loop of an ingest thread does once for each batch. Tick `n` is at `10 · n`.
    fn between_batches(&mut self) -> bool {
        let begun = self.giver.tick_begun();
        if begun {
            let Self { giver, counting, renewals, .. } = self;
            giver.hand_over(counting, |_, renew| *renewals += u32::from(renew));
        }
        begun
    }
}

struct Flusher {
    taker: Taker<Generation>,
    unparked: Arc<Notify>,
    taken: Vec<u32>,
    number: u64,
}

impl Flusher {
    fn take(&mut self) -> Option<u64> {
        let (number, mut generation) = self.taker.take()?;
        assert!(number >= self.number, "handed over in tick {number} after {}", self.number);
        self.number = number;
        self.taken.append(&mut generation);
        self.taker.give_back(generation);
        Some(number)
    }
}

#[test]
fn who_sees_a_number_sees_its_time_or_a_later_one() {
    loom::model(|| {
        let epoch = Epoch::new(0, Thread(Arc::new(Notify::new())));
        let flusher = epoch.clone();
        let thread = thread::spawn(move || {
            flusher.advance(10);
            flusher.advance(20);
        });
        // A thread that begins between two ticks, and one that was there.
        let (mut giver, mut taker) = ends(epoch.clone(), Generation::new());
        for _ in 0..2 {
            giver.hand_over(&mut Generation::new(), |_, _| {});
            let now = giver.now();
            let handed_over = taker.take();
            let (number, generation) = handed_over.expect("there was a spare");
            assert!(now >= 10 * number as i64, "tick {number} at {now}");
            taker.give_back(generation);
        }
        let (late, _) = ends(epoch, Generation::new());
        thread.join().unwrap();
        assert!(late.tick_begun() || late.now() == 20, "the second tick at {}", late.now());
    });
}

#[test]
fn no_sample_is_lost_or_counted_twice_whether_the_spare_is_back_or_not() {
    every_way(
        |thread| {
            for _ in 0..3 {
                thread.count();
                thread.between_batches();
            }
        },
        |epoch, flusher| {
            for tick in 1..=2 {
                epoch.advance(10 * tick);
                flusher.take();
            }
        },
    );
}

#[test]
fn the_last_hand_over_may_meet_a_tick() {
    every_way(Ingest::count, |epoch, flusher| {
        flusher.taker.renew();
        epoch.advance(10);
        flusher.take();
        flusher.take();
    });
}

/// The flusher never takes: a thread that waited for it anywhere would stop the model.
#[test]
fn a_thread_never_waits_for_the_flusher() {
    every_way(
        |thread| {
            for _ in 0..3 {
                thread.count();
                thread.between_batches();
            }
        },
        |epoch, _| {
            for tick in 1..=3 {
                epoch.advance(10 * tick);
            }
        },
    );
}

/// A hand-over unparks the flusher: were it to sleep on, the model would find nobody able to run.
#[test]
fn a_tick_wakes_the_flusher_and_names_are_renewed_once() {
    every_way(
        |thread| {
            for _ in 0..2 {
                thread.count();
                while !thread.between_batches() {
                    thread::yield_now();
                }
            }
        },
        |epoch, flusher| {
            flusher.taker.renew();
            for now in [10, 20] {
                let tick = epoch.advance(now);
                while flusher.take() != Some(tick) {
                    flusher.unparked.wait();
                }
            }
        },
    );
}
