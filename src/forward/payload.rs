//! What one delivery states, and what is under way.

use super::Protocol;
use super::carbon::Flight;
use super::newborn::Restating;
use crate::store::Outstanding;
use crate::wire::graphite::{Pickler, Point, push_line};
use std::time::Duration;

/// Bytes of one delivery and what they state.
#[derive(Default)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    /// Bytes that were sent; the bytes themselves are not kept.
    pub(super) length: u64,
    pub(super) stated: Vec<Outstanding>,
    /// It states new series again, of these buckets.
    pub(super) restates: Vec<Outstanding>,
    /// New series whose restatement this ends.
    pub(super) restated: Option<Restating>,
    pub(super) points: u64,
    pub(super) unsendable: u64,
}

impl Payload {
    /// All buckets that it states something of.
    pub(super) fn buckets(&self) -> impl Iterator<Item = &Outstanding> {
        self.stated.iter().chain(&self.restates)
    }
}

/// A delivery under way.
pub(super) struct InFlight {
    pub(super) flight: Box<dyn Flight>,
    pub(super) payload: Payload,
    /// By the clock's monotonic time.
    pub(super) started: Duration,
}

/// Plaintext or pickle, as one.
pub(super) enum Encoder {
    Plaintext(Vec<u8>),
    Pickle(Pickler),
}

impl Encoder {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Plaintext => Self::Plaintext(Vec::new()),
            Protocol::Pickle => Self::Pickle(Pickler::default()),
        }
    }

    pub(super) fn push(&mut self, point: &Point<'_>) -> bool {
        match self {
            Self::Plaintext(out) => push_line(out, point),
            Self::Pickle(pickler) => pickler.push(point),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Plaintext(out) => out,
            Self::Pickle(pickler) => pickler.finish(),
        }
    }
}
