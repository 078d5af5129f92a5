//! How many at a time: connections and streams, in all and of one address.
//!
//! A proxy on this machine brings everybody's requests from one address; those count by the address that the proxy
//! names. This machine itself is under the total alone.

use crate::limits;
use axum::http::HeaderMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts of one kind.
#[derive(Clone)]
pub(in crate::serve) struct Guests(Arc<Counts>);

struct Counts {
    all_max: usize,
    each_max: usize,
    here: Mutex<Here>,
}

#[derive(Default)]
struct Here {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Full {
    /// All are taken.
    All,
    /// This address has all it may have.
    Address,
}

/// One of them; its place is free again when this is dropped.
pub(in crate::serve) struct Guest {
    counts: Arc<Counts>,
    asker: Option<IpAddr>,
}

impl Guests {
    pub(in crate::serve) fn new(all_max: usize, each_max: usize) -> Self {
        Self(Arc::new(Counts { all_max, each_max, here: Mutex::default() }))
    }

    /// Takes a place, if there is one; `None` counts for no address.
    pub(in crate::serve) fn admit(&self, asker: Option<IpAddr>) -> Result<Guest, Full> {
        // A thread that panicked left whole numbers behind.
        let mut here = self.0.here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.all >= self.0.all_max {
            return Err(Full::All);
        }
        if let Some(address) = asker {
            let own = here.each.entry(address).or_default();
            if *own >= self.0.each_max {
                return Err(Full::Address);
            }
            *own += 1;
        }
        here.all += 1;
        Ok(Guest { counts: Arc::clone(&self.0), asker })
    }

    /// How many are here.
    pub(in crate::serve) fn count(&self) -> usize {
        self.0.here.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut here = self.counts.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.all -= 1;
        let Some(address) = self.asker else { return };
        if let Some(own) = here.each.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                here.each.remove(&address);
            }
        }
    }
}

/// Places of streams.
pub(super) struct Places(Guests);

/// A stream's place.
pub(super) struct Place(#[expect(dead_code, reason = "what counts is when it is dropped")] Guest);

impl Places {
    pub(super) fn new() -> Self {
        Self(Guests::new(limits::LIVE_STREAMS_MAX, limits::LIVE_STREAMS_PER_ADDRESS_MAX))
    }

    pub(super) fn take(&self, asker: Option<IpAddr>) -> Option<Place> {
        self.0.admit(asker).ok().map(Place)
    }
}

/// Whom a request counts for: whoever connected, or whom a proxy on this machine names as the last one before it.
pub(in crate::serve) fn asker(peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_in_all_and_for_each_address() {
        let guests = Guests::new(3, 2);
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().ok());
        let first = guests.admit(one).unwrap();
        let second = guests.admit(one).unwrap();
        assert_eq!(guests.admit(one).err(), Some(Full::Address), "the third of one address");
        let third = guests.admit(None).unwrap();
        assert_eq!(guests.admit(other).err(), Some(Full::All), "the fourth of all");
        drop(third);
        let _third = guests.admit(other).unwrap();
        assert_eq!(guests.admit(None).err(), Some(Full::All));
        drop(first);
        let fourth = guests.admit(one).unwrap();
        assert_eq!(guests.0.here.lock().unwrap().each.len(), 2);
        drop((fourth, second));
        assert_eq!(guests.0.here.lock().unwrap().each.len(), 1, "an address without streams is forgotten");
    }

    #[test]
    fn who_asks_is_whom_our_own_proxy_names_and_nobody_elses() {
        let mut headers = HeaderMap::new();
        let [loopback, away]: [IpAddr; 2] = ["::ffff:127.0.0.1", "192.0.2.7"].map(|ip| ip.parse().unwrap());
        assert_eq!(asker(loopback, &headers), None);
        headers.append("x-forwarded-for", "203.0.113.9, 198.51.100.4".parse().unwrap());
        assert_eq!(asker(loopback, &headers), "198.51.100.4".parse().ok());
        assert_eq!(asker(away, &headers), Some(away));
    }
}
