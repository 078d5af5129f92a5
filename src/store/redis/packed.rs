//! Sealed buckets as bytes: chunks of about a thousand series, sorted, each name told from the one before it.
//!
//! ```text
//!   chunk   crc32 of the rest:4 | form 1:1 | entries:varint | entry…
//!   entry   flags:varint | bytes shared with the key before | bytes of its own | those | …
//!           | [4] buckets it has been idle | [16] gauge before | [32] gauge carried on | [8] tally (wire/tally.rs)
//!   flags   kind (0 to 3) + 4 idle + 8 has a tally + 16 has a value before + 32 carries another value on
//! ```
//!
//! After the counter `shop.orders` the counter `shop.visits` with 7 is `08 05 06 76 69 73 69 74 73` and the value's
//! byte. A bucket says all that the next one needs to know of the series that are idle there, so that whoever holds
//! the partition then needs nothing else. Chunk `0` begins with the least name; each following one with the name that
//! was its first when the bucket was sealed, and a later name goes to the last chunk that does not begin behind it.

use crate::metric::malformed::Malformed;
use crate::metric::{Kind, Series, Tally};
use crate::wire::bytes::{Reader, push_varint};
use crate::wire::tally::{push_tally, push_value, read_tally, read_value};

const FORM: u8 = 1;
const IDLE: u64 = 4;
const PRESENT: u64 = 8;
const BEFORE: u64 = 16;
const CARRY: u64 = 32;
/// Series of a chunk when a bucket is sealed.
pub(super) const CHUNK_SERIES: usize = 1_000;

/// A series in a sealed bucket.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) series: Series,
    pub(super) tally: Tally,
    /// The value of a gauge before the bucket.
    pub(super) before: Option<f64>,
    /// How many buckets ago it had its last samples; 0 has samples here.
    pub(super) idle: u32,
    /// What the next bucket starts from, where that is not the value at the end of this one: late changes.
    pub(super) carry: Option<f64>,
}

impl Part {
    /// Where a gauge stands for the next bucket.
    pub(super) fn stands(&self) -> Option<f64> {
        match &self.tally {
            Tally::Gauge(gauge) => self.carry.or_else(|| gauge.value(self.before)),
            _ => None,
        }
    }

    fn is_nothing(&self) -> bool {
        match &self.tally {
            Tally::Counter(sum) => sum.to_f64() == 0.0 && sum.is_exact(),
            Tally::Gauge(gauge) => gauge.is_empty(),
            Tally::Timer(digest) => digest.is_empty(),
            Tally::Set(set) => set.is_empty(),
        }
    }
}

/// Packs parts, which are sorted by series.
pub(super) fn pack(parts: &[Part]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, FORM];
    out.reserve(16 * parts.len());
    push_varint(&mut out, parts.len() as u64);
    let mut before = "";
    for part in parts {
        let key = part.series.key();
        let nothing = part.idle > 0 && part.is_nothing();
        let flags = part.series.kind() as u64
            | if part.idle > 0 { IDLE } else { 0 }
            | if nothing { 0 } else { PRESENT }
            | if part.before.is_some() { BEFORE } else { 0 }
            | if part.carry.is_some() { CARRY } else { 0 };
        push_varint(&mut out, flags);
        let shared = shared(before, key);
        push_varint(&mut out, shared as u64);
        let own = key.as_bytes().get(shared..).unwrap_or_default();
        push_varint(&mut out, own.len() as u64);
        out.extend_from_slice(own);
        if part.idle > 0 {
            push_varint(&mut out, u64::from(part.idle));
        }
        for value in [part.before, part.carry].into_iter().flatten() {
            push_value(&mut out, value);
        }
        if !nothing {
            push_tally(&mut out, &part.tally);
        }
        before = key;
    }
    let sum = crc32fast::hash(out.get(4..).unwrap_or_default());
    if let Some(head) = out.get_mut(..4) {
        head.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Whether a later version of tallyd wrote a chunk: whole, and in a form that we do not know.
pub(super) fn is_later(bytes: &[u8]) -> bool {
    let Some((sum, rest)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    rest.first().is_some_and(|form| *form > FORM) && crc32fast::hash(rest) == u32::from_le_bytes(*sum)
}

/// Unpacks a chunk.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<Part>, Malformed> {
    let mut parts = Vec::new();
    visit(bytes, &mut |_| true, &mut |part| parts.push(part))?;
    Ok(parts)
}

/// Visits the parts of a chunk whose series are wanted; the others are passed over.
pub(super) fn visit(
    bytes: &[u8],
    wanted: &mut dyn FnMut(&Series) -> bool,
    each: &mut dyn FnMut(Part),
) -> Result<(), Malformed> {
    let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed("a chunk without a checksum"))?;
    if crc32fast::hash(rest) != u32::from_le_bytes(*sum) {
        return Err(Malformed("a chunk whose checksum is wrong"));
    }
    let mut from = Reader::new(rest);
    if from.u8()? != FORM {
        return Err(Malformed("a chunk of an unknown form"));
    }
    let count = from.count(3)?;
    let mut key = Vec::new();
    for _ in 0..count {
        let flags = from.varint()?;
        let shared = from.varint()? as usize;
        let own = from.varint()? as usize;
        if shared > key.len() {
            return Err(Malformed("a name that shares more than there is"));
        }
        key.truncate(shared);
        key.extend_from_slice(from.take(own)?);
        let name = std::str::from_utf8(&key).map_err(|_| Malformed("a name that is not UTF-8"))?;
        let kind = Kind::ALL.get((flags & 3) as usize).copied().unwrap_or(Kind::Counter);
        let series = Series::new(kind, name);
        let idle = if flags & IDLE == 0 { 0 } else { u32::try_from(from.varint()?).unwrap_or(u32::MAX) };
        let mut value = |bit: u64| if flags & bit == 0 { Ok(None) } else { read_value(&mut from).map(Some) };
        let (before, carry) = (value(BEFORE)?, value(CARRY)?);
        let tally = if flags & PRESENT == 0 { Tally::empty(kind) } else { read_tally(kind, &mut from)? };
        if wanted(&series) {
            each(Part { series, tally, before, idle, carry });
        }
    }
    from.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::gauge::Order;
    use crate::metric::{Gauge, Sum};

    fn parts() -> Vec<Part> {
        let part = |kind, key: &str, tally, before, idle, carry| Part {
            series: Series::new(kind, key),
            tally,
            before,
            idle,
            carry,
        };
        let count = |n| Tally::Counter(Sum::from_whole(n));
        let order = Order { time: 5, producer: 1, number: 2 };
        vec![
            part(Kind::Counter, "shop.orders", count(5), None, 0, None),
            part(Kind::Counter, "shop.visits", count(0), None, 3, None),
            part(Kind::Counter, "shop.visits.kept", count(9), None, 70_000, None),
            part(Kind::Gauge, "shop.stock", Tally::Gauge(Gauge::held(order, 1.5)), Some(4.0), 0, Some(8.0)),
            part(Kind::Gauge, "shop.stocked", Tally::empty(Kind::Gauge), Some(4.0), 1, None),
            part(Kind::Timer, "t", Tally::empty(Kind::Timer), None, 2, None),
        ]
    }

    #[test]
    fn chunks_read_back() {
        let packed = pack(&parts());
        assert_eq!(unpack(&packed).unwrap(), parts());
        assert_eq!(unpack(&pack(&[])).unwrap(), []);
        let example = pack(&parts()[..1]).len();
        let both = pack(&[
            parts()[0].clone(),
            Part { idle: 0, tally: Tally::Counter(Sum::from_whole(7)), ..parts()[1].clone() },
        ]);
        assert_eq!(both[example..][..9], [8, 5, 6, b'v', b'i', b's', b'i', b't', b's'], "as in the header");
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let packed = pack(&parts());
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_idle_counter_costs_little_and_one_with_samples_not_much_more() {
        let series =
            |n: u64| Series::new(Kind::Counter, &format!("app.web{:02}.requests.route{n:04}.count", n % 20));
        let mut all: Vec<Part> = (0..CHUNK_SERIES as u64)
            .map(|n| Part {
                series: series(n),
                tally: Tally::Counter(Sum::from_whole(n as i64)),
                before: None,
                idle: 0,
                carry: None,
            })
            .collect();
        all.sort_by(|a, b| a.series.cmp(&b.series));
        let bytes = pack(&all).len() / all.len();
        assert!(bytes <= 16, "{bytes} bytes a point");
    }
}
