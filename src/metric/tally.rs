//! The tally: merged samples of one series over one span of time, and its one operation.
//!
//! `merge` is associative and commutative, with an empty tally for each kind. Counting a sample, closing a
//! tick, adding a batch to a bucket and rolling buckets up are this operation in different places.

use super::digest::Digest;
use super::gauge::Gauge;
use super::name::Kind;
use super::sum::Sum;
use super::unique::Unique;
use crate::limits;

/// Up to where distributions and sets are kept exactly. The same for all merges of a process, else merging
/// would depend on its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Timer values per series and span.
    pub timer_exact_max: usize,
    /// Set members per series and span.
    pub set_exact_max: usize,
}

impl Bounds {
    /// Those of a level of a ladder: an hour of statsd's exact timers would be too much.
    #[must_use]
    pub fn at(self, level: usize) -> Self {
        if level == 0 {
            return self;
        }
        Self {
            timer_exact_max: self.timer_exact_max.min(limits::TIMER_EXACT_MAX),
            set_exact_max: self.set_exact_max.min(limits::SET_EXACT_MAX),
        }
    }
}

/// Merged samples of one series. Most series are counters, and a million of them shall not pay for the size of a
/// timer: the larger kinds are boxed.
#[derive(Clone, Debug, PartialEq)]
pub enum Tally {
    /// The sum of a counter.
    Counter(Sum),
    /// The changes of a gauge.
    Gauge(Gauge),
    /// The distribution of a timer.
    Timer(Box<Digest>),
    /// The members of a set.
    Set(Box<Unique>),
}

impl Tally {
    /// The tally of no samples.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Sum::ZERO),
            Kind::Gauge => Self::Gauge(Gauge::default()),
            Kind::Timer => Self::Timer(Box::default()),
            Kind::Set => Self::Set(Box::default()),
        }
    }

    /// What kind of series it belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Timer(_) => Kind::Timer,
            Self::Set(_) => Kind::Set,
        }
    }

    /// Adds another tally of the same series.
    ///
    /// # Panics
    /// If the other tally is of another kind: a series has one kind, so that is a bug of ours.
    pub fn merge(&mut self, other: Self, bounds: &Bounds) {
        match (self, other) {
            (Self::Counter(mine), Self::Counter(theirs)) => mine.merge(&theirs),
            (Self::Gauge(mine), Self::Gauge(theirs)) => mine.merge(theirs),
            (Self::Timer(mine), Self::Timer(theirs)) => mine.merge(*theirs, bounds.timer_exact_max),
            (Self::Set(mine), Self::Set(theirs)) => mine.merge(*theirs, bounds.set_exact_max),
            (mine, theirs) => panic!("a {:?} cannot be merged into a {:?}", theirs.kind(), mine.kind()),
        }
    }

    /// Bytes it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Counter(_) => size_of::<Self>(),
            Self::Gauge(gauge) => size_of::<Self>() + 64 * gauge.len(),
            Self::Timer(digest) => size_of::<Self>() + digest.bytes(),
            Self::Set(unique) => size_of::<Self>() + unique.bytes(),
        }
    }
}
