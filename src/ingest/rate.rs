//! `limits.sender_rate`: how many lines a second one address may send.
//!
//! ```text
//!   slot of a sender: the moment up to which it has used what it may send        (one number, 64 bits)
//!   a datagram of n lines comes at `now`:
//!     more than a second ahead of now: refused, all of it
//!     else: moment = max(moment, now) + n / rate
//! ```
//!
//! That is the leaky bucket as the virtual scheduling algorithm of ITU-T I.371 puts it. A sender that is not ahead of
//! now is like one that was never seen, so its slot is free for another: a fixed table of slots needs no clearing.
//! All ingest threads share it without a lock. Where all slots that a sender may have are taken by others that are
//! ahead of now, they share the last of them: a rate that many addresses get around would be none.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;

/// Slots that a sender may have.
const WAYS: usize = 8;
/// How far ahead of now a sender may be.
const BURST_NANOS: u64 = 1_000_000_000;

/// How far each sender is.
#[derive(Debug)]
pub struct SenderRate {
    slots: Box<[Slot]>,
    hasher: foldhash::quality::RandomState,
    line_nanos: u64,
}

/// Both are written by every thread, and each is right by itself: a slot that two threads claim at a time, or that
/// is claimed between two looks, costs one of them a datagram's worth of its rate.
#[derive(Debug, Default)]
struct Slot {
    /// Hash of its sender; 0 is nobody.
    sender: AtomicU64,
    /// The moment up to which it has used its rate, in monotonic nanoseconds.
    used_to: AtomicU64,
}

impl SenderRate {
    /// So many lines a second for each address.
    #[must_use]
    pub fn new(lines_a_second: usize) -> Self {
        Self {
            slots: (0..limits::SENDER_SLOTS).map(|_| Slot::default()).collect(),
            hasher: foldhash::quality::RandomState::default(),
            line_nanos: (BURST_NANOS / lines_a_second.max(1) as u64).max(1),
        }
    }

    /// Whether a sender may send so many lines now.
    #[must_use]
    pub fn admits(&self, from: IpAddr, lines: u64, now: u64) -> bool {
        let Some(slot) = self.slot(self.hasher.hash_one(from) | 1, now) else {
            return true;
        };
        let cost = lines.saturating_mul(self.line_nanos);
        // Relaxed: the number is all there is to know, and nothing else is read by it.
        slot.used_to
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used_to| {
                let used_to = used_to.max(now);
                (used_to - now <= BURST_NANOS).then(|| used_to.saturating_add(cost))
            })
            .is_ok()
    }

    /// The slot of a sender: its own, one that is free, or one that it shares.
    fn slot(&self, sender: u64, now: u64) -> Option<&Slot> {
        let sets = self.slots.len() / WAYS;
        let first = (sender >> 32) as usize % sets * WAYS;
        let set = self.slots.get(first..first + WAYS)?;
        if let Some(own) = set.iter().find(|slot| slot.sender.load(Ordering::Relaxed) == sender) {
            return Some(own);
        }
        for slot in set {
            let before = slot.sender.load(Ordering::Relaxed);
            let free = before == 0 || slot.used_to.load(Ordering::Relaxed) <= now;
            let claimed = free
                && slot.sender.compare_exchange(before, sender, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if claimed {
                return Some(slot);
            }
        }
        set.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SECOND: u64 = 1_000_000_000;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_sender_gets_its_rate_and_a_second_of_it_ahead() {
        let rate = SenderRate::new(100);
        let mut admitted = 0;
        // Ten thousand lines a second for ten seconds, from one; and one line a second from another.
        for at in 0..100_000_u64 {
            let now = 5 * SECOND + at * SECOND / 10_000;
            admitted += u64::from(rate.admits(address(1), 1, now));
            if at % 10_000 == 0 {
                assert!(rate.admits(address(2), 1, now), "the other one is not held up");
            }
        }
        assert!((1_100..=1_102).contains(&admitted), "{admitted}");
        assert!(rate.admits(address(1), 1, 17 * SECOND), "and it may again when it has waited");
    }

    #[test]
    fn large_datagrams_are_paid_for_afterwards() {
        let rate = SenderRate::new(100);
        assert!(rate.admits(address(1), 500, SECOND));
        assert!(!rate.admits(address(1), 1, SECOND));
        assert!(!rate.admits(address(1), 1, 4 * SECOND));
        assert!(rate.admits(address(1), 1, 6 * SECOND));
    }

    #[test]
    fn many_addresses_do_not_get_around_it() {
        let rate = SenderRate::new(10);
        let all = 20 * limits::SENDER_SLOTS as u32;
        let admitted =
            (0..all).map(|number| (0..100).filter(|_| rate.admits(address(number), 1, SECOND)).count());
        let admitted: usize = admitted.sum();
        // Those that found a slot have a second of theirs and one line; what shares a slot has hardly any.
        assert!(admitted <= 11 * limits::SENDER_SLOTS, "{admitted}");
        // When they have waited they are strangers again, whoever comes first.
        assert!((0..1_000).all(|number| rate.admits(address(number), 1, 4 * SECOND)));
    }
}
