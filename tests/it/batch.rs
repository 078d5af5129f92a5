//! Batches as bytes, in full and with a dictionary: they come back whole, and a record that is lost or refused
//! takes nothing with it but what it held itself.

use crate::encoding::hex;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::{Digest, Gauge, Kind, Number, Series, Sum, Tally, Unique};
use tallyd::wire::batch::{
    Decoded, Dictionary, Names, push_batch, push_batch_with, read_batch, read_batch_with,
};

const PRODUCER: u128 = 7 << 120 | 7;

fn tally(kind: Kind, value: u32) -> Tally {
    match kind {
        Kind::Counter => {
            let mut sum = Sum::ZERO;
            sum.add(Number::Decimal { mantissa: i64::from(value), places: 2 });
            Tally::Counter(sum)
        }
        Kind::Timer => {
            let mut digest = Digest::default();
            (0..value % 5).for_each(|i| digest.record(f64::from(value + i) / 8.0, 1.0, 1.0, 3));
            Tally::Timer(Box::new(digest))
        }
        Kind::Gauge => {
            let change = Change { set: Some(f64::from(value)), delta: 0.0 };
            let producer = if value.is_multiple_of(3) { 9 } else { PRODUCER };
            let order = Order { time: i64::from(value), producer, number: u64::from(value % 7) };
            Tally::Gauge(Gauge::once(order, change))
        }
        Kind::Set => {
            let mut set = Unique::default();
            (1..=u64::from(value % 5))
                .for_each(|hash| set.insert(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15), 3));
            Tally::Set(Box::new(set))
        }
    }
}

fn batches() -> impl Strategy<Value = Vec<Decoded>> {
    let name = prop_oneof![Just(String::new()), "[a-z.;=]{1,4}", "\\PC{1,3}", Just("x".repeat(200))];
    let series = (prop::sample::select(Kind::ALL.to_vec()), name, any::<u16>());
    let entry = series.prop_map(|(kind, name, value)| (Series::new(kind, &name), tally(kind, value.into())));
    let batch = (any::<u64>(), any::<i64>(), prop::collection::vec(entry, 0..12));
    let batch =
        batch.prop_map(|(number, bucket, entries)| Decoded { producer: PRODUCER, number, bucket, entries });
    prop::collection::vec(batch, 1..5)
}

fn in_full(batch: &Decoded) -> Vec<u8> {
    let mut out = Vec::new();
    let entries = batch.entries.iter().map(|(series, tally)| (series, tally));
    push_batch(&mut out, batch.producer, batch.number, batch.bucket, entries);
    out
}

fn by_id(dictionary: &mut Dictionary, batch: &Decoded) -> Vec<u8> {
    let mut out = Vec::new();
    let entries = batch.entries.iter().map(|(series, tally)| (series, tally));
    push_batch_with(dictionary, &mut out, batch.producer, batch.number, batch.bucket, entries);
    out
}

fn counters(number: u64, keys: &[&str]) -> Decoded {
    let entry = |key: &&str| (Series::new(Kind::Counter, key), tally(Kind::Counter, 6_300));
    Decoded { producer: 7, number, bucket: 0, entries: keys.iter().map(entry).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn batches_come_back_whole(batches in batches()) {
        let (mut dictionary, mut names) = (Dictionary::default(), Names::default());
        for batch in &batches {
            prop_assert_eq!(&read_batch(&in_full(batch)).unwrap(), batch);
            prop_assert_eq!(&read_batch_with(&mut names, &by_id(&mut dictionary, batch)).unwrap(), batch);
        }
    }

    /// Whichever records are lost or changed on their way, the others hold what was put into them, or are refused
    /// because a name was lost.
    #[test]
    fn no_record_reads_another_s_names(batches in batches(), damage in prop::collection::vec(0_u8..4, 5), at in any::<prop::sample::Index>()) {
        let (mut dictionary, mut names) = (Dictionary::default(), Names::default());
        for (batch, damage) in batches.iter().zip(damage) {
            let mut bytes = by_id(&mut dictionary, batch);
            match damage {
                // Lost.
                0 => {}
                // Cut, which is always seen.
                1 => {
                    bytes.truncate(at.index(bytes.len()));
                    prop_assert!(read_batch_with(&mut names, &bytes).is_err());
                }
                _ => if let Ok(read) = read_batch_with(&mut names, &bytes) {
                    prop_assert_eq!(&read, batch);
                }
            }
        }
    }
}

#[test]
fn known_names_cost_a_byte_and_gauges_say_only_how_they_differ() {
    let keys: Vec<String> = (0..1_000).map(|i| format!("app.web.signups.{i:06}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut dictionary = Dictionary::default();
    let batch = counters(1, &keys);
    assert!(by_id(&mut dictionary, &batch).len() > 22_000);
    assert_eq!(dictionary.len(), 1_000);
    assert_eq!(by_id(&mut dictionary, &batch).len(), 17 + 1 + 1 + 2 + 2 * 1_000);
    let (bucket, number) = (1_763_881_200_000, 70_000);
    let order = Order { time: bucket + 200, producer: PRODUCER, number };
    let gauge = (Series::new(Kind::Gauge, "g"), Tally::Gauge(Gauge::held(order, 49.9)));
    let batch = Decoded { producer: PRODUCER, number, bucket, entries: vec![gauge] };
    let bytes = in_full(&batch);
    assert_eq!(bytes.len(), 17 + 3 + 6 + 1 + 2 + 11, "{}", hex(&bytes));
    assert_eq!(read_batch(&bytes), Ok(batch));
}

#[test]
fn the_bytes_are_those_of_the_first_version() {
    let two = |number| Decoded {
        entries: [("a", 6_300), ("b", 12_800)]
            .map(|(key, cents)| (Series::new(Kind::Counter, key), tally(Kind::Counter, cents)))
            .to_vec(),
        ..counters(number, &[])
    };
    let mut dictionary = Dictionary::default();
    let head = "07000000000000000000000000000000";
    assert_eq!(hex(&by_id(&mut dictionary, &two(1))), format!("11{head}0100020104613f0104628000"));
    assert_eq!(hex(&by_id(&mut dictionary, &two(2))), format!("11{head}020002003f008000"));
    assert_eq!(hex(&in_full(&two(1))), format!("10{head}01000204613f04628000"));
    let kinds = Kind::ALL.map(|kind| (Series::new(kind, "k"), tally(kind, 5_001))).to_vec();
    let kinds = Decoded { producer: PRODUCER, number: 9, bucket: -1, entries: kinds };
    assert_eq!(
        hex(&in_full(&kinds)),
        [
            "10 07000000000000000000000000000007 09 01 04",
            "04 6b c28927",
            "05 6b 06 10 01 c3e59326",
            "06 6b 19 11 01 01 09000000000000000000000000000000 944e 0b 05 9309",
            "07 6b 09 10 157c4a7fb979379e",
        ]
        .concat()
        .replace(' ', "")
    );
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    let batch = Decoded {
        entries: Kind::ALL.iter().map(|kind| (Series::new(*kind, "key"), tally(*kind, 63))).collect(),
        ..counters(1, &[])
    };
    let full = in_full(&batch);
    let by_id = by_id(&mut Dictionary::default(), &batch);
    for end in 0..full.len() {
        assert!(read_batch(&full[..end]).is_err(), "cut at {end}");
    }
    for end in 0..by_id.len() {
        let mut names = Names::default();
        assert!(read_batch_with(&mut names, &by_id[..end]).is_err(), "cut at {end}");
        assert_eq!(format!("{names:?}"), format!("{:?}", Names::default()), "cut at {end}");
    }
    assert!(read_batch(&[&full[..], &[0]].concat()).is_err());
    assert!(read_batch(&by_id).is_err() && read_batch_with(&mut Names::default(), &full).is_err());
    assert!(read_batch(&[&[0x20], &full[1..]].concat()).is_err(), "a version to come");
}

#[test]
fn ids_are_defined_once_and_before_they_are_used() {
    let (mut dictionary, mut names) = (Dictionary::default(), Names::default());
    let first = by_id(&mut dictionary, &counters(1, &["a", "b"]));
    let second = by_id(&mut dictionary, &counters(2, &["b", "c"]));
    let third = by_id(&mut dictionary, &counters(3, &["c"]));
    // The first was lost: the second is refused for `b`, and what it says of `c` is not kept by halves.
    assert!(read_batch_with(&mut names, &second).is_err());
    assert!(read_batch_with(&mut names, &third).is_err());
    assert_eq!(read_batch_with(&mut names, &first), Ok(counters(1, &["a", "b"])));
    assert_eq!(read_batch_with(&mut names, &second), Ok(counters(2, &["b", "c"])));
    assert_eq!(read_batch_with(&mut names, &third), Ok(counters(3, &["c"])));
    // A record may be read twice, and never give an id another meaning.
    assert_eq!(read_batch_with(&mut names, &first), Ok(counters(1, &["a", "b"])));
    let other = by_id(&mut Dictionary::default(), &counters(4, &["d"]));
    assert!(read_batch_with(&mut names, &other).is_err());
    assert_eq!(read_batch_with(&mut names, &first), Ok(counters(1, &["a", "b"])));
}

#[test]
fn names_of_a_record_that_was_not_kept_are_written_again() {
    let (mut dictionary, mut names) = (Dictionary::default(), Names::default());
    let kept = by_id(&mut dictionary, &counters(1, &["a"]));
    let mark = dictionary.mark();
    let lost = by_id(&mut dictionary, &counters(2, &["a", "b"]));
    dictionary.forget_since(mark);
    assert_eq!(dictionary.len(), 1);
    let again = by_id(&mut dictionary, &counters(3, &["c", "b"]));
    assert_eq!(read_batch_with(&mut names, &kept), Ok(counters(1, &["a"])));
    assert_eq!(read_batch_with(&mut names, &again), Ok(counters(3, &["c", "b"])));
    // Nor is it in the way where it got there after all.
    assert_eq!(read_batch_with(&mut names, &lost), Ok(counters(2, &["a", "b"])));
}

#[test]
fn no_change_of_bytes_does_harm() {
    let mut random = StdRng::seed_from_u64(6);
    let entries = (0..12).map(|i| Kind::ALL[i % 4]).zip(40..);
    let entries = entries.map(|(kind, i)| (Series::new(kind, &format!("key-{i}")), tally(kind, i))).collect();
    let batch = Decoded { entries, ..counters(1, &[]) };
    let mut dictionary = Dictionary::default();
    let records = [in_full(&batch), by_id(&mut dictionary, &batch), by_id(&mut dictionary, &batch)];
    let mut read = 0;
    for round in 0..100_000 {
        let mut changed = records[round % 3].clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..changed.len());
            changed[at] = random.random();
        }
        let mut names = Names::default();
        if round % 3 == 2 {
            read_batch_with(&mut names, &records[1]).unwrap();
        }
        let decoded =
            if round % 3 == 0 { read_batch(&changed) } else { read_batch_with(&mut names, &changed) };
        if let Ok(decoded) = decoded {
            read += 1;
            assert_eq!(read_batch(&in_full(&decoded)).map(|again| in_full(&again)), Ok(in_full(&decoded)));
        }
    }
    assert!(read > 1_000, "only {read} were read");
}
