//! Tallies as bytes: they come back as they were, whatever was merged into them; bytes that are no tally are
//! refused and cost nothing; and the bytes of today are read tomorrow.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::fmt::Write as _;
use tallyd::metric::digest::Content;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Bounds, Digest, Gauge, Kind, Number, Sum, Tally, Unique};
use tallyd::wire::bytes::{self, Reader};
use tallyd::wire::tally::{push_tally, push_value, read_tally, read_value, skip_tally};

/// Small, so that both forms of everything are tried.
const BOUNDS: Bounds = Bounds { timer_exact_max: 8, set_exact_max: 8 };

fn encoded(tally: &Tally) -> Vec<u8> {
    let mut out = Vec::new();
    push_tally(&mut out, tally);
    out
}

fn decoded(kind: Kind, bytes: &[u8]) -> Result<Tally, String> {
    let mut from = Reader::new(bytes);
    let tally = read_tally(kind, &mut from).map_err(|malformed| malformed.to_string())?;
    from.end().map_err(|malformed| malformed.to_string())?;
    Ok(tally)
}

fn value_bytes(value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    push_value(&mut out, value);
    out
}

fn counter(mantissa: i64, places: u8) -> Tally {
    let mut sum = Sum::ZERO;
    sum.add(Number::Decimal { mantissa, places });
    Tally::Counter(sum)
}

fn timer(values: &[(f64, f64)], exact_max: usize) -> Tally {
    let mut digest = Digest::default();
    for &(value, weight) in values {
        digest.record(value, weight, weight, exact_max);
    }
    Tally::Timer(Box::new(digest))
}

fn set(members: std::ops::Range<u32>, exact_max: usize) -> Tally {
    let mut set = Unique::default();
    for member in members {
        set.insert(hash_member(b"", &member.to_be_bytes()), exact_max);
    }
    Tally::Set(Box::new(set))
}

fn gauge(changes: &[(i64, u128, u64, Option<f64>, f64)]) -> Tally {
    let mut gauge = Gauge::default();
    for &(time, producer, number, set, delta) in changes {
        gauge.merge(Gauge::once(Order { time, producer, number }, Change { set, delta }));
    }
    Tally::Gauge(gauge)
}

/// Doubles of every sort: whole, money, measured, huge, tiny and odd.
fn double() -> BoxedStrategy<f64> {
    let finite = any::<f64>().prop_filter("finite", |value| value.is_finite());
    let decimal = (-10_000_000_i64..10_000_000, 0_i32..10).prop_map(|(m, p)| m as f64 / 10_f64.powi(p));
    let odd = prop::sample::select(vec![0.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, 0.1 + 0.2]);
    prop_oneof![3 => decimal, 2 => finite, 1 => odd].boxed()
}

fn one(kind: Kind) -> BoxedStrategy<Tally> {
    let weight = prop::sample::select(vec![1.0, 1.0, 2.0, 10.0, 1.0 / 0.3]);
    match kind {
        Kind::Counter => prop_oneof![
            (any::<i32>(), 0_u8..=18).prop_map(|(m, p)| counter(i64::from(m), p)),
            (any::<i64>(), 0_u8..=18).prop_map(|(m, p)| counter(m >> 10, p)),
            (double(), weight).prop_map(|(value, weight)| {
                let mut sum = Sum::ZERO;
                sum.add_weighted(Number::Float(value), weight);
                Tally::Counter(sum)
            }),
        ]
        .boxed(),
        Kind::Timer => {
            let value = prop_oneof![double(), (0_u32..100_000).prop_map(|v| f64::from(v) / 16.0)];
            prop::collection::vec((value, weight), 0..5)
                .prop_map(|values| timer(&values, BOUNDS.timer_exact_max))
                .boxed()
        }
        Kind::Gauge => (any::<i64>(), 0_u128..4, any::<u64>(), prop::option::of(double()), double())
            .prop_map(|(time, producer, number, set, delta)| {
                gauge(&[(time >> 20, producer << 100 | 7, number, set, delta)])
            })
            .boxed(),
        Kind::Set => {
            (0_u32..60, 0_u32..6).prop_map(|(from, n)| set(from..from + n, BOUNDS.set_exact_max)).boxed()
        }
    }
}

fn parts() -> impl Strategy<Value = (Kind, Vec<Tally>)> {
    prop::sample::select(Kind::ALL.to_vec())
        .prop_flat_map(|kind| (Just(kind), prop::collection::vec(one(kind), 0..8)))
}

fn merged(kind: Kind, parts: impl IntoIterator<Item = Tally>) -> Tally {
    let mut whole = Tally::empty(kind);
    parts.into_iter().for_each(|part| whole.merge(part, &BOUNDS));
    whole
}

/// Whether the order of merging is part of a tally: the values of a timer stand as they came, doubles add up to
/// what their order makes of them, and zero may have a sign or none.
fn keeps_order(tally: &Tally) -> bool {
    match tally {
        Tally::Counter(sum) => !sum.is_exact(),
        Tally::Gauge(_) | Tally::Set(_) => false,
        Tally::Timer(digest) => match digest.content() {
            Content::Exact(..) => true,
            Content::Sketch(sketch) => {
                !sketch.sums().iter().all(|sum| sum.is_exact()) || sketch.min() * sketch.max() == 0.0
            }
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_tally_comes_back_as_it_was((kind, parts) in parts(), behind in prop::collection::vec(any::<u8>(), 0..4)) {
        let tally = merged(kind, parts);
        let mut bytes = encoded(&tally);
        let len = bytes.len();
        bytes.extend(&behind);
        let mut from = Reader::new(&bytes);
        let read = read_tally(kind, &mut from).unwrap();
        prop_assert_eq!(from.rest(), &behind[..]);
        // Infinities may add up to what does not equal itself.
        prop_assert!(read == tally || tally != tally.clone(), "{:?} became {:?}", tally, read);
        // Doubles that are equal and yet differ, such as -0.0, show in the bytes.
        prop_assert_eq!(&encoded(&read), &bytes[..len]);
        let mut from = Reader::new(&bytes);
        skip_tally(kind, &mut from).unwrap();
        prop_assert_eq!(from.rest(), &behind[..]);
    }

    #[test]
    fn equal_tallies_are_equal_bytes((kind, parts) in parts()) {
        let (forward, backward) = (merged(kind, parts.clone()), merged(kind, parts.into_iter().rev()));
        if !keeps_order(&forward) && !keeps_order(&backward) {
            prop_assert_eq!(encoded(&forward), encoded(&backward));
        }
    }

    #[test]
    fn every_double_comes_back_bit_for_bit(bits in any::<u64>(), near in double()) {
        for value in [f64::from_bits(bits), near] {
            let bytes = value_bytes(value);
            prop_assert!(bytes.len() <= 9);
            let mut from = Reader::new(&bytes);
            prop_assert_eq!(read_value(&mut from).unwrap().to_bits(), value.to_bits());
            prop_assert!(from.is_empty());
        }
    }

    #[test]
    fn numbers_come_back(small in any::<u64>(), large in any::<u128>(), cut in 0_u32..128) {
        let (small, large) = (small >> (cut / 2), large >> cut);
        let mut out = Vec::new();
        bytes::push_varint(&mut out, small);
        bytes::push_varint128(&mut out, large);
        bytes::push_zigzag(&mut out, small as i64);
        bytes::push_zigzag(&mut out, !(small as i64));
        let mut from = Reader::new(&out);
        prop_assert_eq!(from.varint().unwrap(), small);
        prop_assert_eq!(from.varint128().unwrap(), large);
        prop_assert_eq!(from.zigzag().unwrap(), small as i64);
        prop_assert_eq!(from.zigzag().unwrap(), !(small as i64));
        prop_assert!(from.is_empty());
    }
}

#[test]
fn sketches_of_everyday_timers_merge_to_equal_bytes() {
    let values: Vec<(f64, f64)> = (1..=600).map(|i| (f64::from(i * 37 % 1_000) + 0.5, 1.0)).collect();
    let parts: Vec<Tally> = values.chunks(50).map(|some| timer(some, 8)).collect();
    let forward = merged(Kind::Timer, parts.clone());
    let backward = merged(Kind::Timer, parts.into_iter().rev());
    assert_eq!(encoded(&forward), encoded(&backward));
    assert_eq!(encoded(&forward), encoded(&timer(&values, 8)));
}

#[test]
fn numbers_of_more_than_one_form_are_refused() {
    for overlong in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00]] {
        assert!(Reader::new(overlong).varint().is_err());
        assert!(Reader::new(overlong).varint128().is_err());
    }
    let mut most = vec![0xff; 9];
    most.push(0x01);
    assert_eq!(Reader::new(&most).varint(), Ok(u64::MAX));
    most[9] = 0x02;
    assert!(Reader::new(&most).varint().is_err());
    assert!(Reader::new(&[0xff; 10]).varint().is_err());
    let mut most = vec![0xff; 18];
    most.push(0x03);
    assert_eq!(Reader::new(&most).varint128(), Ok(u128::MAX));
    most[18] = 0x04;
    assert!(Reader::new(&most).varint128().is_err());
    assert!(Reader::new(&[0xff; 19]).varint128().is_err());
}

#[test]
fn sums_at_the_edges_come_back() {
    let edges = [i128::MAX, i128::MIN, i128::MAX - 7, i128::from(i64::MAX) + 1, -(1 << 64), 10_i128.pow(37)];
    for mantissa in edges {
        for float in [0.0, 1e300, -1e-30] {
            let tally = Tally::Counter(Sum::from_parts(mantissa, 18, float).unwrap());
            assert_eq!(decoded(Kind::Counter, &encoded(&tally)), Ok(tally), "{mantissa} with {float}");
        }
    }
    assert!(Sum::from_parts(i128::MAX, 17, 0.0).is_none());
    assert!(Sum::from_parts(1, 19, 0.0).is_none());
}

#[test]
fn everyday_tallies_are_small() {
    let size = |tally: &Tally| encoded(tally).len();
    for whole in 0..128 {
        assert_eq!(size(&counter(whole, 0)), 1, "{whole}");
    }
    for whole in 0..=16_511 {
        assert!(size(&counter(whole, 0)) <= 2, "{whole}");
    }
    for cents in 0..=16_383 {
        assert!(size(&counter(cents, 2)) <= 3, "{cents} cents");
        assert!(size(&counter(-cents, 2)) <= 3, "-{cents} cents");
        assert!(value_bytes(cents as f64 / 100.0).len() <= 3, "{cents} cents");
    }
    assert!(value_bytes(0.123_456).len() <= 4);
    assert!(value_bytes(1_234_567.89).len() <= 6);
    assert!(size(&timer(&[(320.0, 1.0)], 512)) <= 5);
    let latencies: Vec<(f64, f64)> = (0..512).map(|i| (f64::from(i * 7_919 % 10_007), 1.0)).collect();
    assert!(size(&timer(&latencies, 512)) <= 5 + 2 * 512);
    let many: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i % 1_000 + 1), 1.0)).collect();
    assert!(size(&timer(&many, 512)) < 1_000, "{}", size(&timer(&many, 512)));
    assert_eq!(size(&set(0..100, 256)), 2 + 1 + 800);
    assert!(size(&gauge(&[(1_763_881_200_000, u128::MAX, 70_000, Some(49.9), 0.0)])) <= 35);
}

/// Tallies that together use every form there is.
fn examples() -> Vec<(&'static str, Tally)> {
    let mut beside = Sum::ZERO;
    beside.add_f64(1e300);
    beside.add(Number::Decimal { mantissa: 4_990, places: 2 });
    let two = [(1_763_881_200_000, 7, 41, Some(49.9), 0.0), (1_763_881_200_200, 1 << 127, 3, None, -2.5)];
    vec![
        ("3f", counter(63, 0)),
        ("a690", counter(10_000, 0)),
        ("c1f303", counter(4_990, 2)),
        ("e1f303", counter(-4_990, 2)),
        ("c080897a", counter(2_000_000, 0)),
        ("df9c7500883ce4377e c1f303", Tally::Counter(beside)),
        (
            "34 10 02 02 07000000000000000000000000000000 00000000000000000000000000000080 \
             80a699f8d566 52 01 c1f303 9003 4b 06 e119",
            gauge(&two),
        ),
        ("03 10 00 00", gauge(&[])),
        ("06 10 02 c17d 80c0", timer(&[(12.5, 1.0), (320.0, 1.0)], 512)),
        ("0c 16 01 0a 02 c17d80c0 0a01 0101", timer(&[(12.5, 10.0), (320.0, 1.0)], 512)),
        (
            "32 11 04 808040 e003 02 00 0e 47 00 01 000000000000000000000000000000000000000000000000000000000000000000 \
             01 03 6e 01",
            timer(&[(1.0, 1.0), (2.0, 1.0), (-3.0, 1.0), (0.0, 1.0)], 2),
        ),
        (
            "51 15 02 d280acb59a98a098a12e 00 01 02 d280d8d2c8c2d8a29b7f d2c0afe9e9deb9f591e601 46 00 808040 \
             00000000000000000000000000000000000000 808040 00000000000000000000000000 d5aad501 01",
            timer(&[(1.0, 1.0), (2.0, 1.0 / 0.3), (1.5, 1.0)], 2),
        ),
        ("11 10 460b5c2ca785b9b4 b53b7bc4a67decfb", set(0..2, 256)),
    ]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_bytes_are_those_of_the_first_version() {
    for (golden, tally) in examples() {
        let bytes = encoded(&tally);
        let hex = hex(&bytes);
        assert_eq!(hex, golden.replace(' ', ""), "{tally:?}");
        assert_eq!(decoded(tally.kind(), &bytes), Ok(tally));
    }
}

/// Everything above, and what is too long to be written out.
fn valid() -> Vec<(Kind, Vec<u8>)> {
    let mut all: Vec<Tally> = examples().into_iter().map(|(_, tally)| tally).collect();
    all.push(timer(&(1..700).map(|i| (f64::from(i), 1.0)).collect::<Vec<_>>(), 512));
    all.push(set(0..300, 256));
    all.push(set(0..20_000, 256));
    all.push(gauge(&(0..40).map(|i| (i, i as u128 % 3, 5, Some(0.1), 1.0)).collect::<Vec<_>>()));
    all.iter().map(|tally| (tally.kind(), encoded(tally))).collect()
}

#[test]
fn what_is_cut_short_is_refused() {
    for (kind, bytes) in valid() {
        assert!(decoded(kind, &bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(decoded(kind, &bytes[..end]).is_err(), "{kind:?} of {} bytes cut at {end}", bytes.len());
            assert!(skip_tally(kind, &mut Reader::new(&bytes[..end])).is_err());
            // The same with a length that is right: nothing but a set of fewer members may come of it.
            let mut body = Reader::new(&bytes);
            if kind != Kind::Counter && body.varint().unwrap() as usize > end {
                let mut cut = Vec::new();
                bytes::push_bytes(&mut cut, &body.rest()[..end]);
                assert!(decoded(kind, &cut).is_err() || kind == Kind::Set && end % 8 == 1);
            }
        }
    }
}

#[test]
fn a_timer_of_more_events_than_there_can_be_is_refused() {
    let sketched = encoded(&timer(&[(1.0, 1.0), (2.0, 1.0), (-3.0, 1.0), (0.0, 1.0)], 2));
    assert_eq!(sketched[1..3], [0x11, 4], "four events, the format before them");
    for (events, good) in [(1 << 53, true), ((1 << 53) + 1, false), (u64::MAX, false)] {
        let (mut body, mut bytes) = (vec![0x11], Vec::new());
        bytes::push_varint(&mut body, events);
        body.extend(&sketched[3..]);
        bytes::push_bytes(&mut bytes, &body);
        assert_eq!(decoded(Kind::Timer, &bytes).is_ok(), good, "{events}");
    }
}

#[test]
fn versions_and_forms_to_come_are_refused() {
    for (kind, bytes) in valid().into_iter().filter(|(kind, _)| *kind != Kind::Counter) {
        let format = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        for flipped in [0x10, 0x20, 0xf0, 0x08] {
            let mut changed = bytes.clone();
            changed[format] ^= flipped;
            assert!(decoded(kind, &changed).is_err(), "{kind:?} of format {:x}", changed[format]);
            assert!(
                skip_tally(kind, &mut Reader::new(&changed)).is_ok(),
                "what is not known can be passed over"
            );
        }
    }
    for head in 0xd3..=0xff_u8 {
        if !(0xdf..=0xf2).contains(&head) {
            assert!(decoded(Kind::Counter, &[head, 1]).is_err(), "{head:x}");
        }
    }
}

#[test]
fn no_change_of_bytes_makes_more_of_them_than_they_are() {
    let mut random = StdRng::seed_from_u64(5);
    let valid = valid();
    let examples = examples().len();
    let mut read = 0;
    for round in 0..100_000 {
        // The long ones take long, and are one thing after another.
        let (kind, bytes) = &valid[if round % 20 == 0 { round / 20 % valid.len() } else { round % examples }];
        let mut changed = bytes.clone();
        for _ in 0..random.random_range(1..4) {
            let end = if random.random_bool(0.7) { changed.len().min(40) } else { changed.len() };
            changed[random.random_range(0..end)] = random.random();
        }
        if let Ok(tally) = decoded(*kind, &changed) {
            read += 1;
            assert!(tally.bytes() <= 13_000 + 64 * changed.len(), "{} of {}", tally.bytes(), changed.len());
            // Whatever was read can be used and written again.
            let again = encoded(&tally);
            assert_eq!(encoded(&decoded(*kind, &again).unwrap()), again);
            if let Tally::Timer(digest) = &tally {
                assert!(digest.distribution().is_some() || digest.is_empty());
            }
            merged(*kind, [tally.clone(), tally]);
        }
    }
    assert!(read > 1_000, "only {read} of the changed encodings were read at all");
}
