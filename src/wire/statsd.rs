//! The grammar of lines: bytes to samples, without copying or allocating.
//!
//! ```text
//!   checkout.time:320:290|ms|@0.1|#page:cart,lang:de|T1700000000
//!   └─── name ──┘ └values┘ ty  rate └───── tags ────┘ timestamp
//! ```
//!
//! Ours is statsd's and DogStatsD's grammar in one: packed values (v1.1), fields in any order behind the
//! type, `|T` (v1.3), events and service checks, Graphite's `name;tag=value`, and statsd's chains
//! (`a:1|c:2|ms`). Unknown later fields are passed over and counted. The original's own rules stand in
//! [`super::original`]. A bad value is refused with its reason and costs its neighbours nothing.

pub use super::sample::{Grammar, Sample, UnknownType, Value, Visitor};

use super::Dialect;
use super::event::{self, Other, split_once};
use super::number::{number, short_decimal};
use super::original;
use super::sample::{gauge_change, timestamp};
use crate::health::Refusal;
use memchr::{memchr, memchr2};

/// Reads one line, without its newline; `false` if it was empty.
#[inline]
pub fn line<V: Visitor>(grammar: Grammar, line: &[u8], visitor: &mut V) -> bool {
    match grammar.dialect {
        _ if line.is_empty() => return false,
        Dialect::Statsd => original::line(grammar.unknown_type, line, visitor),
        Dialect::Native => {
            if !plain(line, visitor) {
                return any(grammar.unknown_type, line, visitor);
            }
        }
    }
    true
}

/// One good value, one type and nothing behind it, as most lines are: read in one go, and `false` for
/// everything else, which is then read from the start. Three departures from the full grammar make it quick:
/// bytes are looked for with two searches only; a number that is not short, or packed, is not looked into
/// here; and nothing is refused here.
#[inline]
fn plain<V: Visitor>(line: &[u8], visitor: &mut V) -> bool {
    let Some((name, rest)) = split_once(line, b':') else {
        return false;
    };
    let Some((text, ty)) = split_once(rest, b'|') else {
        return false;
    };
    if matches!(name, [] | [b'_', ..]) {
        return false;
    }
    let value = match (ty, short_decimal(text)) {
        (b"c", Some(number)) => Value::Count(number),
        (b"ms", Some(number)) if !text.starts_with(b"-") => Value::Time(number.to_f64()),
        (b"g", Some(number)) => gauge_change(text, number),
        (b"h" | b"d", Some(number)) => Value::Time(number.to_f64()),
        (b"s", _) if !text.is_empty() => Value::Member(text),
        _ => return false,
    };
    visitor.sample(&Sample { name, tags: b"", value, weight: 1.0, timestamp: None });
    true
}

/// The whole grammar.
#[cold]
fn any<V: Visitor>(unknown: UnknownType, line: &[u8], visitor: &mut V) -> bool {
    let line = line.trim_ascii_end();
    if line.is_empty() {
        return false;
    }
    if let Some(other) = event::other(line) {
        match other {
            Ok(Other::Event) => visitor.event(),
            Ok(Other::ServiceCheck) => visitor.service_check(),
            Err(()) => visitor.refused(Refusal::BadEvent),
        }
        return true;
    }
    match split_once(line, b':') {
        None => visitor.refused(Refusal::NoType),
        Some((b"", _)) => visitor.refused(Refusal::EmptyName),
        Some((name, rest)) => chain(unknown, name, rest, visitor),
    }
    true
}

/// Groups of values, one after another: `1:2|c|@0.1` is one, `1|c:2|ms` are two. Tags hold for all.
fn chain<V: Visitor>(unknown: UnknownType, name: &[u8], mut rest: &[u8], visitor: &mut V) {
    let tags = tags(rest);
    loop {
        let Some((values, after)) = split_once(rest, b'|') else {
            return visitor.refused(Refusal::NoType);
        };
        let end = memchr2(b'|', b':', after).unwrap_or(after.len());
        let (ty, tail) = after.split_at(end);
        let (fields, next) = match tail.split_first() {
            Some((b':', next)) => (Fields::NONE, Some(next)),
            Some((_, tail)) => Fields::read(tail, visitor),
            None => (Fields::NONE, None),
        };
        Group { name, tags, values, ty, fields }.visit(unknown, visitor);
        match next {
            Some(next) => rest = next,
            None => return,
        }
    }
}

/// The tag list: from the first `|#` behind the type to the next `|`.
fn tags(rest: &[u8]) -> &[u8] {
    let mut rest = split_once(rest, b'|').map_or(&b""[..], |(_, ty)| ty);
    while let Some((_, after)) = split_once(rest, b'|') {
        if let Some(tags) = after.strip_prefix(b"#") {
            return split_once(tags, b'|').map_or(tags, |(tags, _)| tags);
        }
        rest = after;
    }
    b""
}

/// What stands behind a type.
#[derive(Clone, Copy)]
struct Fields {
    weight: Result<f64, Refusal>,
    timestamp: Result<Option<i64>, Refusal>,
}

impl Fields {
    const NONE: Self = Self { weight: Ok(1.0), timestamp: Ok(None) };

    /// Reads fields up to the end, or up to a colon behind a rate, where the next group begins.
    fn read<'a, V: Visitor>(mut tail: &'a [u8], visitor: &mut V) -> (Self, Option<&'a [u8]>) {
        let mut fields = Self::NONE;
        loop {
            let (field, after) = match split_once(tail, b'|') {
                Some((field, after)) => (field, Some(after)),
                None => (tail, None),
            };
            match field {
                [b'@', rate @ ..] => {
                    if let Some(colon) = memchr(b':', rate) {
                        let (rate, _) = rate.split_at(colon);
                        fields.weight = weight(rate);
                        return (fields, tail.get(colon + 2..));
                    }
                    fields.weight = weight(rate);
                }
                [b'T', seconds @ ..] => fields.timestamp = timestamp(seconds).map(Some),
                [b'#', ..] | [b'c' | b'e', b':', ..] | [b'c', b'a', b'r', b'd', b':', ..] => {}
                _ => visitor.field_ignored(),
            }
            match after {
                Some(after) => tail = after,
                None => return (fields, None),
            }
        }
    }
}

fn weight(rate: &[u8]) -> Result<f64, Refusal> {
    let weight = 1.0 / number(rate).map_err(|_| Refusal::BadRate)?.to_f64();
    if weight.is_finite() && weight > 0.0 { Ok(weight) } else { Err(Refusal::BadRate) }
}

/// Values of one type.
struct Group<'a> {
    name: &'a [u8],
    tags: &'a [u8],
    values: &'a [u8],
    ty: &'a [u8],
    fields: Fields,
}

impl Group<'_> {
    fn visit<V: Visitor>(&self, unknown: UnknownType, visitor: &mut V) {
        let read: fn(&[u8]) -> Result<Value<'_>, Refusal> = match self.ty {
            b"c" => count,
            b"ms" => |text| time(text).and_then(not_negative),
            b"g" => gauge,
            b"h" | b"d" => time,
            // A member may hold a colon, a web address for one, so sets cannot be packed.
            b"s" => return self.value(member(self.values), visitor),
            b"" => |_| Err(Refusal::NoType),
            _ if unknown == UnknownType::Counter => count,
            _ => |_| Err(Refusal::UnknownType),
        };
        if memchr(b':', self.values).is_none() {
            return self.value(read(self.values), visitor);
        }
        for value in self.values.split(|&byte| byte == b':') {
            self.value(read(value), visitor);
        }
    }

    fn value<V: Visitor>(&self, value: Result<Value<'_>, Refusal>, visitor: &mut V) {
        match (value, self.fields.weight, self.fields.timestamp) {
            (Ok(value), Ok(weight), Ok(timestamp)) => {
                visitor.sample(&Sample { name: self.name, tags: self.tags, value, weight, timestamp });
            }
            (Err(reason), _, _) | (_, Err(reason), _) | (_, _, Err(reason)) => visitor.refused(reason),
        }
    }
}

fn count(text: &[u8]) -> Result<Value<'_>, Refusal> {
    number(text).map(Value::Count)
}

fn time(text: &[u8]) -> Result<Value<'_>, Refusal> {
    number(text).map(|number| Value::Time(number.to_f64()))
}

fn not_negative(value: Value<'_>) -> Result<Value<'_>, Refusal> {
    match value {
        Value::Time(time) if time < 0.0 => Err(Refusal::NegativeTimer),
        value => Ok(value),
    }
}

fn gauge(text: &[u8]) -> Result<Value<'_>, Refusal> {
    number(text).map(|number| gauge_change(text, number))
}

fn member(text: &[u8]) -> Result<Value<'_>, Refusal> {
    if text.is_empty() { Err(Refusal::BadValue) } else { Ok(Value::Member(text)) }
}
