//! Who sent what in a tick: noted for each datagram by its ingest thread, handed over with the tick.
//!
//! So many senders a tick are told apart, the first that come. Whoever sends a good part of everything is among them,
//! however many others there are: of those who send a hundredth of all datagrams one in a hundred thousand would be
//! missed in a tick.

use crate::limits;
use hashbrown::HashMap;
use std::net::IpAddr;

/// What came of one sender's datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Values counted.
    pub samples: u64,
    /// Values, lines or datagrams refused.
    pub refused: u64,
    /// Series that it was the first to send.
    pub series_made: u64,
}

/// What the senders of a tick have sent.
#[derive(Debug, Default)]
pub(super) struct Senders {
    places: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
    sent: Vec<(IpAddr, Sent)>,
    /// Datagrams often come several at a time from one sender.
    last: usize,
}

impl Senders {
    /// Adds what came of a datagram: the books after it less the books before it.
    #[inline]
    pub(super) fn add(&mut self, from: IpAddr, before: Sent, after: Sent) {
        let place = match self.sent.get(self.last) {
            Some((last, _)) if *last == from => self.last,
            _ => match self.place(from) {
                Some(place) => place,
                None => return,
            },
        };
        self.last = place;
        if let Some((_, sent)) = self.sent.get_mut(place) {
            sent.samples += after.samples - before.samples;
            sent.refused += after.refused - before.refused;
            sent.series_made += after.series_made - before.series_made;
        }
    }

    fn place(&mut self, from: IpAddr) -> Option<usize> {
        if let Some(&place) = self.places.get(&from) {
            return Some(place);
        }
        let place = self.sent.len();
        if place >= limits::SENDERS_A_TICK {
            return None;
        }
        self.places.insert(from, place);
        self.sent.push((from, Sent::default()));
        Some(place)
    }

    /// Gives what there is, and is empty again with its memory kept.
    pub(super) fn drain(&mut self) -> Vec<(IpAddr, Sent)> {
        self.places.clear();
        self.last = 0;
        let sent = self.sent.clone();
        self.sent.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    #[test]
    fn senders_are_told_apart_up_to_a_limit() {
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        let (mut senders, mut books) = (Senders::default(), Sent::default());
        for _ in 0..2 {
            let mut plain: BTreeMap<IpAddr, Sent> = BTreeMap::new();
            for i in 0..3_000_u32 {
                // One sends a lot, and many a little.
                let from = address(if i % 3 == 0 { 7 } else { i * i % 1_009 });
                let before = books;
                books.samples += u64::from(i % 5);
                books.refused += u64::from(i % 2);
                books.series_made += u64::from(i % 7);
                senders.add(from, before, books);
                let known = plain.len() < limits::SENDERS_A_TICK || plain.contains_key(&from);
                if known {
                    let sent = plain.entry(from).or_default();
                    sent.samples += u64::from(i % 5);
                    sent.refused += u64::from(i % 2);
                    sent.series_made += u64::from(i % 7);
                }
            }
            assert!(plain.len() <= limits::SENDERS_A_TICK);
            assert_eq!(senders.drain().into_iter().collect::<BTreeMap<_, _>>(), plain);
            assert!(senders.drain().is_empty());
        }
    }
}
