//! Places of stream connections: so many in all, and so many of one address.
//!
//! Where all places are taken, a newcomer gets that of the connection which has waited longest without a line, if that
//! has had a second; where its own address has all it may have, the same among those of that address. So who opens
//! connections and says nothing keeps nobody out, and who says something keeps out no more than `each_max` says.

use crate::clock;
use crate::health::Refusal;
use crate::limits;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Who has a place, and who might make room.
pub(super) struct Places {
    /// Connections of one address at a time (`limits.sender_connections`); 0 is as many as there are places.
    each_max: usize,
    all: usize,
    each: HashMap<IpAddr, usize>,
    /// Connections that have not ended a line yet, by their numbers.
    silent: BTreeMap<u64, Silent>,
    accepted: u64,
}

/// A connection that has not ended a line yet.
struct Silent {
    since: Instant,
    from: Option<IpAddr>,
    /// Tells it to make room, and what for.
    told: oneshot::Sender<Refusal>,
}

/// A connection's place, until it is given back.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) from: Option<IpAddr>,
    /// Says that the place has been given to another, and why.
    pub(super) given_away: oneshot::Receiver<Refusal>,
}

impl Places {
    /// None is taken.
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max, all: 0, each: HashMap::new(), silent: BTreeMap::new(), accepted: 0 }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.all
    }

    /// A place for a connection from there, or why there is none. `None` is a Unix socket's, under the total alone.
    pub(super) fn take(&mut self, from: Option<IpAddr>) -> Result<Place, Refusal> {
        let own = from.and_then(|from| self.each.get(&from)).copied().unwrap_or(0);
        if self.each_max > 0 && own >= self.each_max {
            self.make_room(from, Refusal::SenderConnections)?;
        } else if self.all >= limits::STREAM_CONNECTIONS_MAX {
            self.make_room(None, Refusal::ConnectionLimit)?;
        }
        self.all += 1;
        if let Some(from) = from {
            *self.each.entry(from).or_default() += 1;
        }
        let number = self.accepted;
        self.accepted += 1;
        let (told, given_away) = oneshot::channel();
        self.silent.insert(number, Silent { since: clock::monotonic_now(), from, told });
        Ok(Place { number, from, given_away })
    }

    /// It has ended a line: from now on its place is its own.
    pub(super) fn heard(&mut self, number: u64) {
        self.silent.remove(&number);
    }

    /// Its connection has ended. One whose place was given away has none to give back.
    pub(super) fn give_back(&mut self, number: u64, from: Option<IpAddr>) {
        self.silent.remove(&number);
        self.all -= 1;
        let Some(from) = from else { return };
        if let Some(own) = self.each.get_mut(&from) {
            *own -= 1;
            if *own == 0 {
                self.each.remove(&from);
            }
        }
    }

    /// Frees the place of whoever has waited longest without a line, of all or of one address.
    fn make_room(&mut self, of: Option<IpAddr>, reason: Refusal) -> Result<(), Refusal> {
        let patience = Duration::from_millis(limits::STREAM_SILENT_MS);
        let oldest = self.silent.iter().find(|(_, silent)| of.is_none() || silent.from == of);
        let oldest = oldest.filter(|(_, silent)| clock::elapsed(silent.since) >= patience);
        let number = oldest.map(|(number, _)| *number).ok_or(reason)?;
        let silent = self.silent.remove(&number).ok_or(reason)?;
        // An error is a connection that is ending: it gives its place back itself.
        silent.told.send(reason).map_err(|_| reason)?;
        self.give_back(number, silent.from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

    #[test]
    fn places_are_counted_for_each_address_and_given_back() {
        let mut places = Places::new(2);
        let [one, other] = ADDRESSES.map(|address| address.parse().ok());
        let first = places.take(one).ok().unwrap();
        let _second = places.take(one).ok().unwrap();
        assert_eq!(places.take(one).err(), Some(Refusal::SenderConnections));
        let elsewhere = places.take(other).ok().unwrap();
        assert!(places.take(None).is_ok() && places.take(None).is_ok());
        places.give_back(first.number, first.from);
        let _third = places.take(one).ok().unwrap();
        assert_eq!(places.take(one).err(), Some(Refusal::SenderConnections));
        assert_eq!((places.taken(), places.each.len()), (5, 2));
        places.give_back(elsewhere.number, elsewhere.from);
        assert_eq!(
            (places.taken(), places.each.len()),
            (4, 1),
            "an address without connections is forgotten"
        );
    }

    #[test]
    fn who_says_nothing_makes_room_for_its_own_address_and_for_all() {
        let patience = Duration::from_millis(limits::STREAM_SILENT_MS);
        let mut places = Places::new(2);
        let [one, other] = ADDRESSES.map(|address| address.parse().ok());
        let _elsewhere = places.take(other).ok().unwrap();
        let heard = places.take(one).ok().unwrap();
        let mut silent = places.take(one).ok().unwrap();
        places.heard(heard.number);
        for waiting in places.silent.values_mut() {
            waiting.since -= patience;
        }
        assert!(places.take(one).is_ok());
        assert_eq!(silent.given_away.try_recv(), Ok(Refusal::SenderConnections));
        assert_eq!(places.take(one).err(), Some(Refusal::SenderConnections), "it came just now");
        assert_eq!((places.taken(), places.silent.len()), (3, 2));
    }
}
