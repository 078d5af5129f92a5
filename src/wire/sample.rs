//! What a line holds, in words that both grammars share.

use super::Dialect;
use crate::health::Refusal;
use crate::metric::{Kind, Number};

/// What a type letter nobody knows means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownType {
    /// The value is refused; `h` and `d` are timers.
    Refuse,
    /// The value is a counter, as for statsd, which then holds for `h` and `d` too in statsd's dialect.
    Counter,
}

/// Whose lines are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grammar {
    /// Whose rules.
    pub dialect: Dialect,
    /// `names.unknown_type`.
    pub unknown_type: UnknownType,
}

/// One observation, borrowed from its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name as it was sent.
    pub name: &'a [u8],
    /// The tag list as it was sent, without `|#`; empty if there is none.
    pub tags: &'a [u8],
    /// What was observed.
    pub value: Value<'a>,
    /// How many events it stands for: 1/rate.
    pub weight: f64,
    /// Its own timestamp in seconds, if it has one.
    pub timestamp: Option<i64>,
}

/// What was observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Add to a counter.
    Count(Number),
    /// A measured value.
    Time(f64),
    /// Set a gauge.
    Set(f64),
    /// Add to a gauge.
    Add(f64),
    /// A member of a set.
    Member(&'a [u8]),
}

impl Value<'_> {
    /// The kind of series it belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Count(_) => Kind::Counter,
            Self::Time(_) => Kind::Timer,
            Self::Set(_) | Self::Add(_) => Kind::Gauge,
            Self::Member(_) => Kind::Set,
        }
    }
}

/// Who is told what a line holds.
pub trait Visitor {
    /// A good value.
    fn sample(&mut self, sample: &Sample<'_>);
    /// A value that is refused, and why.
    fn refused(&mut self, reason: Refusal);
    /// A field behind the type that is not known.
    fn field_ignored(&mut self) {}
    /// A DogStatsD event.
    fn event(&mut self) {}
    /// A DogStatsD service check.
    fn service_check(&mut self) {}
}

/// Seconds since 1970, digits only.
pub(super) fn timestamp(seconds: &[u8]) -> Result<i64, Refusal> {
    if seconds.is_empty() || seconds.len() > 12 {
        return Err(Refusal::BadTimestamp);
    }
    seconds.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i64::from(byte - b'0')),
        _ => Err(Refusal::BadTimestamp),
    })
}

/// A sign makes an addition of it.
pub(super) fn gauge_change(text: &[u8], number: Number) -> Value<'static> {
    match text.first() {
        Some(b'+' | b'-') => Value::Add(number.to_f64()),
        _ => Value::Set(number.to_f64()),
    }
}
