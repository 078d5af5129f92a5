//! A bucket of a block: the tallies of up to 256 series of one kind, packed.
//!
//! ```text
//!   crc32 of the rest:4 | form 1:1 | kind:1 | body
//!   body = slots:varint | present: 1 bit a slot | idle: 1 bit a slot | values
//!
//!   present  idle    the series
//!      0      0      has nothing here
//!      1      0      has samples: value
//!      0      1      was idle and sends nothing but zero
//!      1      1      was idle and sends the value
//!   value = tally (wire/tally.rs); of a gauge before it: 0, or 1 and the value it had before the bucket
//! ```
//!
//! Three counters, of which the first counted 5, the second was idle and the third counted 300, are 12 bytes: 4 of
//! checksum, 1 each of form, kind, slots and both sorts of bits, 1 of the 5 and 2 of the 300. Whatever does not read
//! back exactly is damage and is said to be. Gathered (gathered.rs), a bucket is its body.

use super::layout::BLOCK_SERIES;
use crate::calendar::Span;
use crate::metric::malformed::Malformed;
use crate::metric::{Kind, Tally};
use crate::wire::bytes::{Reader, push_varint};
use crate::wire::decimal::{push_value, read_value};
use crate::wire::tally::{push_tally, read_tally, skip_tally};

/// What stands first behind the checksum.
const FORM: u8 = 1;

/// One series in a bucket.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) tally: Tally,
    /// The value of a gauge before the bucket.
    pub(super) before: Option<f64>,
    pub(super) idle: bool,
}

impl Part {
    pub(super) fn counted(tally: Tally) -> Self {
        Self { tally, before: None, idle: false }
    }

    /// Whether it is what an empty value stands for.
    fn is_nothing(&self) -> bool {
        self.before.is_none()
            && match &self.tally {
                Tally::Counter(sum) => sum.to_f64() == 0.0 && sum.is_exact(),
                Tally::Gauge(gauge) => gauge.is_empty(),
                Tally::Timer(digest) => digest.is_empty(),
                Tally::Set(set) => set.is_empty(),
            }
    }
}

/// Told of each part: its bucket and slot.
pub(super) type Each<'a> = &'a mut dyn FnMut(Span, u8, Part);

/// Parts by slot.
pub(super) type Parts = Vec<Option<Part>>;

/// Packs a block.
pub(super) fn pack(kind: Kind, parts: &[Option<Part>]) -> Vec<u8> {
    let slots = parts.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let mut bits = [[0_u8; BLOCK_SERIES / 8]; 2];
    let mut values = Vec::with_capacity(4 * slots);
    for (slot, part) in parts.iter().enumerate() {
        let Some(part) = part else {
            continue;
        };
        let (at, bit) = (slot / 8, 1 << (slot % 8));
        let [present, idle] = &mut bits;
        if part.idle
            && let Some(byte) = idle.get_mut(at)
        {
            *byte |= bit;
        }
        if part.idle && part.is_nothing() {
            continue;
        }
        if let Some(byte) = present.get_mut(at) {
            *byte |= bit;
        }
        if kind == Kind::Gauge {
            values.push(u8::from(part.before.is_some()));
            if let Some(before) = part.before {
                push_value(&mut values, before);
            }
        }
        push_tally(&mut values, &part.tally);
    }
    let mut out = vec![0, 0, 0, 0, FORM, kind as u8];
    push_varint(&mut out, slots as u64);
    for bits in &bits {
        out.extend(bits.iter().take(slots.div_ceil(8)));
    }
    out.append(&mut values);
    let sum = crc32fast::hash(out.get(4..).unwrap_or_default());
    if let Some(head) = out.get_mut(..4) {
        head.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

/// A bucket of a block as its bytes, without what stands around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) kind: Kind,
    pub(super) body: &'a [u8],
}

impl<'a> Piece<'a> {
    /// A bucket that was packed by itself.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed("a block without a checksum"))?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*sum) {
            return Err(Malformed("a block whose checksum is wrong"));
        }
        let mut rest = Reader::new(rest);
        if rest.u8()? != FORM {
            return Err(Malformed("a block of an unknown form"));
        }
        let kind = read_kind(&mut rest)?;
        Ok(Self { kind, body: rest.rest() })
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.body.first().is_none_or(|slots| *slots == 0)
    }

    /// Unpacks all of it.
    pub(super) fn parts(self) -> Result<Parts, Malformed> {
        let mut packed = Packed::open(self)?;
        (0..packed.slots).map(|slot| packed.next(slot, true)).collect()
    }

    /// Unpacks some slots, which ascend, and passes over the others. `at` is told with each: a closure between here and
    /// who keeps the part would copy it once more, which a question of many points feels.
    pub(super) fn visit(self, at: Span, wanted: &[u8], each: Each<'_>) -> Result<(), Malformed> {
        let mut packed = Packed::open(self)?;
        let mut slot = 0;
        for &wanted in wanted {
            while slot < usize::from(wanted).min(packed.slots) {
                packed.next(slot, false)?;
                slot += 1;
            }
            if slot >= packed.slots {
                return Ok(());
            }
            // In one step, for the same reason.
            match packed.next(slot, true) {
                Ok(Some(part)) => each(at, wanted, part),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            slot += 1;
        }
        Ok(())
    }
}

/// The kind of the series of a block.
pub(super) fn read_kind(from: &mut Reader<'_>) -> Result<Kind, Malformed> {
    let kind = from.u8()?;
    Kind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or(Malformed("a block of an unknown kind"))
}

/// Where values begin, and which slots have them.
struct Packed<'a> {
    kind: Kind,
    slots: usize,
    present: &'a [u8],
    idle: &'a [u8],
    values: Reader<'a>,
}

impl<'a> Packed<'a> {
    fn open(piece: Piece<'a>) -> Result<Self, Malformed> {
        let Piece { kind, body } = piece;
        let mut values = Reader::new(body);
        let slots = values.varint()? as usize;
        if slots > BLOCK_SERIES {
            return Err(Malformed("a block of too many series"));
        }
        let present = values.take(slots.div_ceil(8))?;
        let idle = values.take(slots.div_ceil(8))?;
        Ok(Self { kind, slots, present, idle, values })
    }

    #[inline]
    fn is_set(bits: &[u8], slot: usize) -> bool {
        bits.get(slot / 8).is_some_and(|byte| byte >> (slot % 8) & 1 == 1)
    }

    /// The part of the next slot, whose value comes next; passed over if it is not wanted.
    #[inline]
    fn next(&mut self, slot: usize, wanted: bool) -> Result<Option<Part>, Malformed> {
        let idle = Self::is_set(self.idle, slot);
        if !Self::is_set(self.present, slot) {
            let nothing = || Part { tally: Tally::empty(self.kind), before: None, idle };
            return Ok((idle && wanted).then(nothing));
        }
        let mut before = None;
        if self.kind == Kind::Gauge && self.values.u8()? != 0 {
            before = Some(read_value(&mut self.values)?);
        }
        if !wanted {
            skip_tally(self.kind, &mut self.values)?;
            return Ok(None);
        }
        Ok(Some(Part { tally: read_tally(self.kind, &mut self.values)?, before, idle }))
    }
}

/// Unpacks a whole block.
pub(super) fn unpack(bytes: &[u8]) -> Result<Parts, Malformed> {
    Piece::open(bytes)?.parts()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::gauge::Order;
    use crate::metric::{Gauge, Number, Sum};

    fn counter(mantissa: i64) -> Tally {
        let mut sum = Sum::ZERO;
        sum.add(Number::Decimal { mantissa, places: 0 });
        Tally::Counter(sum)
    }

    #[test]
    fn blocks_read_back_whole_and_in_parts() {
        let idle = |tally| Some(Part { tally, before: None, idle: true });
        let parts = vec![
            Some(Part::counted(counter(5))),
            idle(counter(0)),
            None,
            Some(Part::counted(counter(0))),
            idle(counter(7)),
            Some(Part::counted(counter(300))),
        ];
        let bytes = pack(Kind::Counter, &parts);
        assert_eq!(unpack(&bytes).unwrap(), parts);
        for wanted in [&[0_u8, 5][..], &[1, 2, 3], &[4], &[5, 9, 255], &[]] {
            let mut found = Vec::new();
            let at = Span { start: 0, end: 10 };
            let mut each = |_, slot, part| found.push((slot, part));
            Piece::open(&bytes).unwrap().visit(at, wanted, &mut each).unwrap();
            let expected: Vec<_> = wanted
                .iter()
                .filter_map(|&slot| Some((slot, parts.get(usize::from(slot))?.clone()?)))
                .collect();
            assert_eq!(found, expected);
        }
        assert_eq!(unpack(&pack(Kind::Set, &[None, None])).unwrap(), Vec::new());
    }

    #[test]
    fn gauges_keep_the_value_before() {
        let order = Order { time: 5, producer: 1, number: 2 };
        let parts = vec![
            Some(Part { tally: Tally::empty(Kind::Gauge), before: Some(4.25), idle: true }),
            Some(Part { tally: Tally::Gauge(Gauge::held(order, 1.0)), before: None, idle: false }),
            Some(Part { tally: Tally::empty(Kind::Gauge), before: None, idle: true }),
        ];
        assert_eq!(unpack(&pack(Kind::Gauge, &parts)).unwrap(), parts);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let parts: Parts = (0..40).map(|n| Some(Part::counted(counter(n * n)))).collect();
        let bytes = pack(Kind::Counter, &parts);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(unpack(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
