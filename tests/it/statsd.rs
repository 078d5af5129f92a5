//! The grammar: what must parse, what must be refused and why, and that the fast parser agrees with the
//! naive one on the committed corpus and on 200,000 seeded mutations of it.

use crate::naive::{Found, FoundValue, fast, naive};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tallyd::health::Refusal::{self, *};
use tallyd::wire::Dialect;
use tallyd::wire::statsd::{Grammar, UnknownType};

const NATIVE: Grammar = Grammar { dialect: Dialect::Native, unknown_type: UnknownType::Refuse };
const STATSD: Grammar = Grammar { dialect: Dialect::Statsd, unknown_type: UnknownType::Counter };
/// Mutations in `make test`, and in `make nightly`.
const MUTATIONS: u32 = 200_000;
const MUTATIONS_LONG: u32 = 20_000_000;

fn count(value: f64) -> FoundValue {
    FoundValue::Count(value)
}

fn values(found: &[Found]) -> Vec<FoundValue> {
    found
        .iter()
        .filter_map(|one| if let Found::Sample { value, .. } = one { Some(value.clone()) } else { None })
        .collect()
}

fn refusals(found: &[Found]) -> Vec<Refusal> {
    found
        .iter()
        .filter_map(|one| if let Found::Refused(reason) = one { Some(*reason) } else { None })
        .collect()
}

fn check(grammar: Grammar, line: &str, wanted: &[FoundValue], refused: &[Refusal]) {
    let found = fast(grammar, line.as_bytes());
    assert_eq!(values(&found), wanted, "{line:?}");
    assert_eq!(refusals(&found), refused, "{line:?}");
    assert_eq!(found, naive(grammar, line.as_bytes()), "{line:?}");
}

#[test]
fn native_lines_that_must_parse() {
    let member = |text: &str| FoundValue::Member(text.into());
    for (line, wanted) in [
        ("a:1|c", vec![count(1.0)]),
        ("a:-2.5|c|@0.1", vec![count(-2.5)]),
        ("a:1|c\r", vec![count(1.0)]),
        ("a:1:2:3|c", vec![count(1.0), count(2.0), count(3.0)]),
        ("a:1:2|ms|@0.5|#k:v", vec![FoundValue::Time(1.0), FoundValue::Time(2.0)]),
        ("a:1|c:2|ms", vec![count(1.0), FoundValue::Time(2.0)]),
        ("a:1|c|@0.5:2|g", vec![count(1.0), FoundValue::Set(2.0)]),
        ("a:320|h", vec![FoundValue::Time(320.0)]),
        ("a:-3|d", vec![FoundValue::Time(-3.0)]),
        ("a:5|g", vec![FoundValue::Set(5.0)]),
        ("a:+5|g", vec![FoundValue::Add(5.0)]),
        ("a:-5|g", vec![FoundValue::Add(-5.0)]),
        ("a:https://x.y/z|s", vec![member("https://x.y/z")]),
        ("a;k=v:1|c", vec![count(1.0)]),
        ("a:1|c|#k:v|T1700000000|c:ci-abc|e:it-false|card:low", vec![count(1.0)]),
        ("a:1|c|#k:v|@0.5", vec![count(1.0)]),
        ("a:1e3|c", vec![count(1000.0)]),
    ] {
        check(NATIVE, line, &wanted, &[]);
    }
}

#[test]
fn native_lines_that_must_be_refused() {
    for (line, reason) in [
        ("a", NoType),
        ("a:1", NoType),
        ("a:1|", NoType),
        (":1|c", EmptyName),
        ("a:|c", BadValue),
        ("a:x|c", BadValue),
        ("a:1,5|c", BadValue),
        ("a:0x10|c", BadValue),
        ("a: 1|c", BadValue),
        ("a:|s", BadValue),
        ("a:NaN|g", NotFinite),
        ("a:Infinity|c", NotFinite),
        ("a:1e400|c", NotFinite),
        ("a:-1|ms", NegativeTimer),
        ("a:1|q", UnknownType),
        ("a:1|c|@0", BadRate),
        ("a:1|c|@-1", BadRate),
        ("a:1|c|@x", BadRate),
        ("a:1|c|Tx", BadTimestamp),
        ("a:1|c|T1234567890123", BadTimestamp),
        ("_e{5,4}:title|tex", BadEvent),
        ("_sc|db|7", BadEvent),
    ] {
        check(NATIVE, line, &[], &[reason]);
    }
}

#[test]
fn one_bad_value_never_costs_its_neighbours() {
    check(NATIVE, "a:1:x:3|c", &[count(1.0), count(3.0)], &[BadValue]);
    check(NATIVE, "a:1|c:x|c:3|c", &[count(1.0), count(3.0)], &[BadValue]);
    check(STATSD, "a:1:2:3|c", &[count(3.0)], &[NoType, NoType]);
}

#[test]
fn events_and_checks_are_no_bad_lines_and_unknown_fields_are_passed_over() {
    assert_eq!(fast(NATIVE, b"_e{5,4}:title|text|#a:b"), [Found::Event]);
    assert_eq!(fast(NATIVE, b"_sc|db|0|#a:b"), [Found::ServiceCheck]);
    let found = fast(NATIVE, b"a:1|c|new:field|#k:v");
    assert_eq!(found[0], Found::FieldIgnored);
    assert!(matches!(&found[1], Found::Sample { tags, .. } if tags == b"k:v"), "{found:?}");
}

#[test]
fn lines_that_the_original_takes() {
    let member = |text: &str| FoundValue::Member(text.into());
    for (line, wanted) in [
        ("a:1|c", vec![count(1.0)]),
        (":1|c", vec![count(1.0)]),
        ("a:1|", vec![count(1.0)]),
        ("a:1|h", vec![count(1.0)]),
        ("a:1|C", vec![count(1.0)]),
        ("a:1|c\r", vec![count(1.0)]),
        ("a: 1 |c", vec![count(1.0)]),
        ("a: |c", vec![count(0.0)]),
        ("a:-1|ms\r", vec![FoundValue::Time(-1.0)]),
        ("a:|s", vec![member("0")]),
        ("a:x|s", vec![member("x")]),
        ("a:5|s ", vec![member("5")]),
        ("a:1|c|@0.5|whatever", vec![count(1.0)]),
        ("a:1|c|#t:1|@0.5", vec![count(1.0)]),
        ("a:1|c|T1700000000", vec![count(1.0)]),
        ("a:1|c|#t:1|c:ci-abc", vec![count(1.0)]),
        ("a:1|c:2|ms", vec![count(1.0), FoundValue::Time(2.0)]),
        ("a:1|c:2|c:3|c", vec![count(1.0), count(2.0), count(3.0)]),
    ] {
        check(STATSD, line, &wanted, &[]);
    }
}

#[test]
fn lines_that_the_original_calls_bad() {
    for (line, reason) in [
        ("a", NoType),
        ("\r", NoType),
        ("a:1", NoType),
        ("a:1|c|", BadRate),
        ("a:1|c|0.5", BadRate),
        ("a:1|c|@", BadRate),
        ("a:1|c|@x", BadRate),
        ("a:1|c|@-1", BadRate),
        ("a:1|c|@+0.5", BadRate),
        ("a:1|c|@ 0.5", BadRate),
        ("a:1|c|@0", BadRate),
        ("a:|c", BadValue),
        ("a:x|s ", BadValue),
        ("a:1,5|c", BadValue),
        ("a:-1|ms", NegativeTimer),
        ("a:NaN|c", NotFinite),
    ] {
        check(STATSD, line, &[], &[reason]);
    }
    check(STATSD, "a:b:c|s", &[FoundValue::Member(b"c".to_vec())], &[NoType]);
}

#[test]
fn sample_rates_weigh_as_the_original_weighs_them() {
    for (line, weight) in
        [("a:1|c|@0.1", 10.0), ("a:1|c|@2e-1", 0.5), ("a:1|c|@1e-1", 1.0), ("a:1|c|@2", 0.5)]
    {
        let found = fast(STATSD, line.as_bytes());
        assert!(matches!(found[..], [Found::Sample { weight: w, .. }] if w == weight), "{line}: {found:?}");
    }
    assert!(matches!(fast(NATIVE, b"a:1|c|@2e-1")[..], [Found::Sample { weight: 5.0, .. }]));
}

/// One seed a line; NUL, CR and bytes that are not UTF-8 are written as Rust escapes them.
fn corpus() -> Vec<Vec<u8>> {
    let text = include_str!("../fuzz/corpus/lines.txt");
    text.lines().filter(|line| !line.starts_with("//")).map(unescape).collect()
}

fn unescape(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let hex = u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap();
        out.push(hex);
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[test]
fn the_fast_parser_agrees_with_the_naive_one() {
    let corpus = corpus();
    assert!(corpus.len() > 100, "the corpus is {} lines", corpus.len());
    let grammars = [
        NATIVE,
        STATSD,
        Grammar { unknown_type: UnknownType::Counter, ..NATIVE },
        Grammar { unknown_type: UnknownType::Refuse, ..STATSD },
    ];
    let mut random = StdRng::seed_from_u64(0x7a11_4d5e_ed00);
    let mutations = if std::env::var_os("TALLYD_TEST_LONG").is_some() { MUTATIONS_LONG } else { MUTATIONS };
    for number in 0..mutations {
        let mut line = corpus[random.random_range(0..corpus.len())].clone();
        if number as usize >= corpus.len() {
            mutate(&mut line, &corpus, &mut random);
        } else {
            line.clone_from(&corpus[number as usize]);
        }
        line.retain(|&byte| byte != b'\n');
        for grammar in grammars {
            let (fast, naive) = (fast(grammar, &line), naive(grammar, &line));
            assert_eq!(fast, naive, "{grammar:?} of {:?}", line.escape_ascii().to_string());
        }
    }
}

/// A few random edits, biased to the bytes that mean something.
fn mutate(line: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    const MEANING: &[u8] = b"::||@@##..--++019eE,;=Tcgsmhd_{} \t\r\0\xff\xc3\xa0xNI";
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=line.len());
        let byte = MEANING[random.random_range(0..MEANING.len())];
        match random.random_range(0..6) {
            0 => line.insert(at, byte),
            1 if at < line.len() => drop(line.remove(at)),
            2 if at < line.len() => line[at] = byte,
            3 if at < line.len() => line[at] = random.random(),
            4 => line.truncate(at),
            _ => {
                let other = &corpus[random.random_range(0..corpus.len())];
                let from = random.random_range(0..=other.len());
                let tail = other[from..].to_vec();
                line.splice(at..at, tail);
            }
        }
    }
}
