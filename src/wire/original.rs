//! The original's grammar, as its parser in fact behaves (statsd 0.9 to 0.10).
//!
//! ```text
//!   name:value|type[|@rate[|ignored…]][:value|type…]…[|#tag:value,…[|#ignored…]]
//! ```
//!
//! It cuts tags off at the first `|#`, then splits the rest at colons; a value's checks look at its type as
//! sent, and only then is the type trimmed, which has consequences that clients rely on. What it crashes on
//! is refused here, and DogStatsD's container ids and timestamps at the end of a line, which it takes for
//! bad values, are understood. Every deliberate difference is listed in docs/differences-from-statsd.md.

use super::number::{number_with_blanks, trim};
use super::sample::{Sample, UnknownType, Value, Visitor, gauge_change, timestamp};
use crate::health::Refusal;
use memchr::{memchr, memmem, memrchr};

/// Reads one line that is not empty.
pub(super) fn line<V: Visitor>(unknown: UnknownType, line: &[u8], visitor: &mut V) {
    let (line, stamp) = strip_extensions(line);
    let (head, tags) = match memmem::find(line, b"|#") {
        Some(at) => (line.get(..at).unwrap_or(line), line.get(at + 2..).unwrap_or(b"")),
        None => (line, &b""[..]),
    };
    let tags = memmem::find(tags, b"|#").and_then(|at| tags.get(..at)).unwrap_or(tags);
    let mut parts = head.split(|&byte| byte == b':');
    let name = parts.next().unwrap_or(b"");
    let mut any = false;
    for part in parts {
        any = true;
        let sample = value(unknown, part)
            .and_then(|(value, weight)| Ok(Sample { name, tags, value, weight, timestamp: stamp? }));
        match sample {
            Ok(sample) => visitor.sample(&sample),
            Err(reason) => visitor.refused(reason),
        }
    }
    if !any {
        visitor.refused(Refusal::NoType);
    }
}

/// Cuts DogStatsD's `|c:`, `|e:`, `|card:` and `|T` fields off the end, and says what timestamp they held.
fn strip_extensions(mut line: &[u8]) -> (&[u8], Result<Option<i64>, Refusal>) {
    let mut stamp = Ok(None);
    while let Some(at) = memrchr(b'|', line) {
        let (head, field) = (line.get(..at).unwrap_or(b""), line.get(at + 1..).unwrap_or(b""));
        // The type must still be there: `a:1|c:3` is a counter and a value without a type, not a container.
        let typed =
            memchr(b':', head).and_then(|colon| head.get(colon..)).is_some_and(|rest| rest.contains(&b'|'));
        match trim(field) {
            [b'T', seconds @ ..] if typed && seconds.first().is_some_and(u8::is_ascii_digit) => {
                stamp = timestamp(seconds).map(Some);
            }
            [b'c' | b'e', b':', id @ ..] | [b'c', b'a', b'r', b'd', b':', id @ ..] if typed && is_id(id) => {}
            _ => break,
        }
        line = head;
    }
    (line, stamp)
}

/// Not a number: `a:1|c:2|c:3` is a chain.
fn is_id(id: &[u8]) -> bool {
    !id.is_empty() && number_with_blanks(id).is_err()
}

/// `value|type[|@rate[|ignored…]]`
fn value(unknown: UnknownType, part: &[u8]) -> Result<(Value<'_>, f64), Refusal> {
    let mut fields = part.split(|&byte| byte == b'|');
    let text = fields.next().unwrap_or(b"");
    let ty = fields.next().ok_or(Refusal::NoType)?;
    let weight = fields.next().map_or(Ok(1.0), weight)?;
    let number = || number_with_blanks(text);
    // The checks see the type untrimmed, so a negative `ms ` passes and a member of `s ` must be a number.
    if ty == b"ms" && number()?.to_f64() < 0.0 {
        return Err(Refusal::NegativeTimer);
    }
    if ty != b"s" {
        number()?;
    }
    let value = match trim(ty) {
        b"ms" => Value::Time(number()?.to_f64()),
        b"g" => gauge_change(text, number()?),
        b"s" => Value::Member(if text.is_empty() { b"0" } else { text }),
        b"c" => Value::Count(number()?),
        _ if unknown == UnknownType::Counter => Value::Count(number()?),
        b"h" | b"d" => Value::Time(number()?.to_f64()),
        b"" => return Err(Refusal::NoType),
        _ => return Err(Refusal::UnknownType),
    };
    Ok((value, weight))
}

/// The original checks that a number stands behind the `@`, then reads only its leading digits and points,
/// so that `@2e-1` is 2. Where that leaves nothing it crashes, and zero makes it count infinity: refused.
fn weight(field: &[u8]) -> Result<f64, Refusal> {
    let rate = field.strip_prefix(b"@").ok_or(Refusal::BadRate)?;
    number_with_blanks(rate).map_err(|_| Refusal::BadRate)?;
    let end = rate.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.')).unwrap_or(rate.len());
    let digits = rate.get(..end).unwrap_or(b"");
    let weight = 1.0 / number_with_blanks(digits).map_err(|_| Refusal::BadRate)?.to_f64();
    if weight.is_finite() && weight > 0.0 { Ok(weight) } else { Err(Refusal::BadRate) }
}
