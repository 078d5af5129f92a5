//! Tallies as bytes: what the journal keeps, what the embedded store packs and what Redis holds.
//!
//! A counter is its sum (see `decimal.rs`) and ends by itself. The others stand behind their length, so that a
//! reader may pass over them, and begin with their format: the version above, the form below.
//!
//! ```text
//!   counter   sum
//!   gauge     length | 1 f | changes | producers | each 16 bytes     [1] in a batch, see below
//!                    | for each change: time, less the one before (zigzag) | number, likewise (zigzag)
//!                                       | producer·4 + 2 if added + 1 if set | value set | value added
//!   timer     length | 1 f | [4] single | [4] sum of 1/rate of the others
//!                    | exact:      values | each value
//!                                  | [2] weights, equal ones together: weight | how many
//!                    | [1] sketch: single, if not [4] | zeros | least | largest | sum | sum of squares
//!                                  | positive bins | negative bins
//!             bins   how many·2 + 1 if in whole samples | first (zigzag) | weight of each
//!   set       length | 1 f | hashes, 8 bytes each, ascending     [1] a HyperLogLog in Redis's format
//! ```
//!
//! `f` is the sum of the numbers in brackets that hold. Numbers are varints, values and sums as in `decimal.rs`.
//! What stands behind [4] is left out where no value was sampled: then there are as many events as values.
//! A timer of 12.5 and 320 is
//!
//! ```text
//!   06 | 10 | 02 | c1 7d | 80 c0          6 bytes; version 1, exact; 2 values; 125/10; 128 + 192
//! ```
//!
//! A gauge in a batch says only how it differs: the batch's producer is the first of the table without being
//! written, and the first change's time and number are less the batch's bucket and number.
//!
//! Equal tallies are equal bytes, in whatever order they were merged: changes and hashes are sorted, bins have
//! one form. Only a timer's exact values stand as they came. What is read is checked as far as a wrong value
//! could do harm later; nothing takes more memory than some ten times the bytes it is read from, but for a
//! HyperLogLog's 12 KB.

use super::bytes::{Malformed, Reader, push_framed, push_varint, push_zigzag};
use super::decimal::{push_sum, read_sum};
pub use super::decimal::{push_value, read_value};
use crate::metric::digest::Content;
use crate::metric::gauge::{Change, Gauge, Order};
use crate::metric::sketch::{Bins, Sketch};
use crate::metric::unique::{Hll, Unique};
use crate::metric::{Digest, Kind, Sum, Tally};
use foldhash::fast::RandomState;
use hashbrown::HashSet;

/// The version of all formats here, where it stands in their first byte.
const VERSION: u8 = 0x10;
/// A timer is a sketch; a set is an estimate.
const ESTIMATED: u8 = 1;
/// A gauge is told from its batch.
const IN_BATCH: u8 = 1;
/// A timer's values have weights.
const WEIGHTED: u8 = 2;
/// Some of a timer's values stand for more events than one.
const SAMPLED: u8 = 4;

/// Units of a sketch's weight in one sample.
const SAMPLE_BITS: u32 = 20;

/// Appends a tally.
#[inline]
pub fn push_tally(out: &mut Vec<u8>, tally: &Tally) {
    push_tally_in(out, tally, None);
}

/// Appends a tally that stands in a batch, if there is one: its bucket, producer and number.
#[inline]
pub(super) fn push_tally_in(out: &mut Vec<u8>, tally: &Tally, batch: Option<&Order>) {
    match tally {
        Tally::Counter(sum) => push_sum(out, sum),
        Tally::Gauge(gauge) => push_framed(out, |out| push_gauge(out, gauge, batch)),
        Tally::Timer(digest) => push_framed(out, |out| push_digest(out, digest)),
        Tally::Set(unique) => push_framed(out, |out| push_unique(out, unique)),
    }
}

/// Reads a tally of a kind.
#[inline]
pub fn read_tally(kind: Kind, from: &mut Reader<'_>) -> Result<Tally, Malformed> {
    read_tally_in(kind, from, None)
}

/// Reads a tally that stands in a batch, if there is one.
#[inline]
pub(super) fn read_tally_in(
    kind: Kind,
    from: &mut Reader<'_>,
    batch: Option<&Order>,
) -> Result<Tally, Malformed> {
    if kind == Kind::Counter {
        return read_sum(from).map(Tally::Counter);
    }
    let mut body = framed(from)?;
    let format = body.u8()?;
    let form = format & 0x0f;
    if format & 0xf0 != VERSION {
        return Err(Malformed("a tally of an unknown version"));
    }
    let tally = match kind {
        Kind::Counter => return Err(UNKNOWN_FORM),
        Kind::Gauge => Tally::Gauge(read_gauge(form, &mut body, batch)?),
        Kind::Timer => Tally::Timer(Box::new(read_digest(form, &mut body)?)),
        Kind::Set => Tally::Set(Box::new(read_unique(form, &mut body)?)),
    };
    body.end()?;
    Ok(tally)
}

/// Passes over a tally of a kind.
pub fn skip_tally(kind: Kind, from: &mut Reader<'_>) -> Result<(), Malformed> {
    match kind {
        Kind::Counter => read_sum(from).map(drop),
        Kind::Gauge | Kind::Timer | Kind::Set => framed(from).map(drop),
    }
}

const UNKNOWN_FORM: Malformed = Malformed("a tally of an unknown form");

fn framed<'a>(from: &mut Reader<'a>) -> Result<Reader<'a>, Malformed> {
    let len = from.count(1)?;
    from.take(len).map(Reader::new)
}

fn push_gauge(out: &mut Vec<u8>, gauge: &Gauge, batch: Option<&Order>) {
    let changes = gauge.changes();
    let mut producers: Vec<u128> = batch.iter().map(|batch| batch.producer).collect();
    let known = producers.len();
    for (order, _) in changes {
        if !producers.contains(&order.producer) {
            producers.push(order.producer);
        }
    }
    out.push(VERSION | if batch.is_some() { IN_BATCH } else { 0 });
    push_varint(out, changes.len() as u64);
    push_varint(out, (producers.len() - known) as u64);
    for producer in producers.iter().skip(known) {
        out.extend_from_slice(&producer.to_le_bytes());
    }
    let (mut time, mut number) = batch.map_or((0, 0), |batch| (batch.time, batch.number));
    for (order, change) in changes {
        push_zigzag(out, order.time.wrapping_sub(time));
        push_zigzag(out, order.number.wrapping_sub(number) as i64);
        (time, number) = (order.time, order.number);
        let producer = producers.iter().position(|producer| *producer == order.producer).unwrap_or(0);
        let added = change.delta.to_bits() != 0;
        let flags = u64::from(change.set.is_some()) | u64::from(added) << 1;
        push_varint(out, (producer as u64) << 2 | flags);
        if let Some(value) = change.set {
            push_value(out, value);
        }
        if added {
            push_value(out, change.delta);
        }
    }
}

fn read_gauge(form: u8, from: &mut Reader<'_>, batch: Option<&Order>) -> Result<Gauge, Malformed> {
    let batch = match (form, batch) {
        (0, _) => None,
        (IN_BATCH, Some(batch)) => Some(batch),
        (IN_BATCH, None) => return Err(Malformed("a gauge that was told from its batch")),
        _ => return Err(UNKNOWN_FORM),
    };
    let count = from.count(3)?;
    let written = from.count(16)?;
    let (written, _) = from.take(16 * written)?.as_chunks::<16>();
    let written = written.iter().map(|bytes| u128::from_le_bytes(*bytes));
    let producers: Vec<u128> = batch.iter().map(|batch| batch.producer).chain(written).collect();
    let mut changes = Vec::with_capacity(count.min(from.len() / 3));
    let (mut time, mut number) = batch.map_or((0, 0), |batch| (batch.time, batch.number));
    for _ in 0..count {
        time = time.wrapping_add(from.zigzag()?);
        number = number.wrapping_add(from.zigzag()? as u64);
        let head = from.varint()?;
        let producer = usize::try_from(head >> 2).ok().and_then(|at| producers.get(at));
        let producer = *producer.ok_or(Malformed("a gauge's producer is not in its table"))?;
        let set = if head & 1 != 0 { Some(read_value(from)?) } else { None };
        let delta = if head & 2 != 0 { read_value(from)? } else { 0.0 };
        changes.push((Order { time, producer, number }, Change { set, delta }));
    }
    Gauge::from_changes(changes)
}

fn push_digest(out: &mut Vec<u8>, digest: &Digest) {
    let (single, sampled) = digest.counts();
    let unsampled = sampled.decimal().0 == 0 && sampled.float().to_bits() == 0;
    let mut form = 0;
    let all_single = match digest.content() {
        Content::Exact(values, weights) => {
            form |= if weights.is_empty() { 0 } else { WEIGHTED };
            single == values.len() as u64
        }
        Content::Sketch(_) => {
            form |= ESTIMATED;
            true
        }
    };
    form |= if unsampled && all_single { 0 } else { SAMPLED };
    out.push(VERSION | form);
    if form & SAMPLED != 0 {
        push_varint(out, single);
        push_sum(out, sampled);
    }
    match digest.content() {
        Content::Exact(values, weights) => push_exact(out, values, weights),
        Content::Sketch(sketch) => {
            if form & SAMPLED == 0 {
                push_varint(out, single);
            }
            push_sketch(out, sketch);
        }
    }
}

fn push_exact(out: &mut Vec<u8>, values: &[f64], weights: &[f64]) {
    push_varint(out, values.len() as u64);
    for &value in values {
        push_value(out, value);
    }
    for equal in weights.chunk_by(|a, b| a.to_bits() == b.to_bits()) {
        push_value(out, equal.first().copied().unwrap_or(1.0));
        push_varint(out, equal.len() as u64);
    }
}

fn read_digest(form: u8, from: &mut Reader<'_>) -> Result<Digest, Malformed> {
    if form & !(ESTIMATED | WEIGHTED | SAMPLED) != 0 || form & ESTIMATED != 0 && form & WEIGHTED != 0 {
        return Err(UNKNOWN_FORM);
    }
    let (mut single, mut sampled) = (None, Sum::ZERO);
    if form & SAMPLED != 0 {
        single = Some(from.varint()?);
        sampled = read_sum(from)?;
    }
    if form & ESTIMATED != 0 {
        let single = single.map_or_else(|| from.varint(), Ok)?;
        return Digest::sketched(single, sampled, read_sketch(from)?);
    }
    let count = from.count(1)?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(read_value(from)?);
    }
    let mut weights = Vec::new();
    if form & WEIGHTED != 0 {
        weights.reserve_exact(count);
        while weights.len() < count {
            let weight = read_value(from)?;
            let equal = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
            if equal == 0 || equal > count - weights.len() {
                return Err(Malformed("more weights than values"));
            }
            weights.extend(std::iter::repeat_n(weight, equal));
        }
    }
    Digest::exact(single.unwrap_or(count as u64), sampled, values, weights)
}

fn push_sketch(out: &mut Vec<u8>, sketch: &Sketch) {
    push_varint(out, sketch.zero());
    push_value(out, sketch.min());
    push_value(out, sketch.max());
    for sum in sketch.sums() {
        push_sum(out, sum);
    }
    for bins in sketch.bins() {
        push_bins(out, bins);
    }
}

fn read_sketch(from: &mut Reader<'_>) -> Result<Sketch, Malformed> {
    let zero = from.varint()?;
    let range = [read_value(from)?, read_value(from)?];
    let sums = [read_sum(from)?, read_sum(from)?];
    let bins = [read_bins(from)?, read_bins(from)?];
    Sketch::from_parts(bins, zero, range, sums)
}

fn push_bins(out: &mut Vec<u8>, bins: &Bins) {
    let weights = bins.weights();
    let whole = weights.iter().all(|weight| weight.trailing_zeros() >= SAMPLE_BITS);
    push_varint(out, (weights.len() as u64) << 1 | u64::from(whole));
    if !weights.is_empty() {
        push_zigzag(out, i64::from(bins.first()));
    }
    let shift = if whole { SAMPLE_BITS } else { 0 };
    for weight in weights {
        push_varint(out, weight >> shift);
    }
}

fn read_bins(from: &mut Reader<'_>) -> Result<Bins, Malformed> {
    let head = from.varint()?;
    let count = usize::try_from(head >> 1).unwrap_or(usize::MAX);
    if count > from.len() {
        return Err(Malformed("more bins than bytes"));
    }
    let first = if count == 0 { 0 } else { from.zigzag()? };
    let first = i32::try_from(first).map_err(|_| Malformed("a bin that no value falls into"))?;
    let shift = if head & 1 != 0 { SAMPLE_BITS } else { 0 };
    let mut weights = Vec::with_capacity(count);
    for _ in 0..count {
        let weight = from.varint()?;
        if weight.leading_zeros() < shift {
            return Err(Malformed("a weight that is too large"));
        }
        weights.push(weight << shift);
    }
    Bins::new(first, weights)
}

fn push_unique(out: &mut Vec<u8>, unique: &Unique) {
    match unique {
        Unique::Exact(hashes) => {
            out.push(VERSION);
            let mut sorted: Vec<u64> = hashes.iter().copied().collect();
            sorted.sort_unstable();
            out.extend(sorted.iter().flat_map(|hash| hash.to_le_bytes()));
        }
        Unique::Estimate(hll) => {
            out.push(VERSION | ESTIMATED);
            out.extend_from_slice(&hll.to_redis());
        }
    }
}

fn read_unique(form: u8, from: &mut Reader<'_>) -> Result<Unique, Malformed> {
    let bytes = from.take(from.len())?;
    match form {
        0 => {
            let (hashes, rest) = bytes.as_chunks::<8>();
            let hash = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
            if !rest.is_empty() || !hashes.is_sorted_by(|a, b| hash(a) < hash(b)) {
                return Err(Malformed("the members of a set are out of order"));
            }
            let mut set = HashSet::with_capacity_and_hasher(hashes.len(), RandomState::default());
            set.extend(hashes.iter().map(hash));
            Ok(Unique::Exact(set))
        }
        ESTIMATED => Hll::from_redis(bytes).map(Unique::Estimate),
        _ => Err(UNKNOWN_FORM),
    }
}
