//! What the comparison may pass over: only what a row of docs/differences-from-statsd.md names.
//!
//! The published table is read here, and each of its ids has a classifier: for lines that are not sent to
//! the pair, for points whose values are not compared, or the reason why no test can meet the difference.
//! A row without a classifier fails a test, and so does a classifier without a row.

use super::javascript;
use super::setup::Setup;

/// How one row is recognised.
pub(super) enum Covers {
    /// These lines are read differently.
    Line(fn(&[u8], &Setup) -> bool),
    /// These points differ: name, the original's value, ours.
    Point(fn(&str, &str, &str) -> bool),
    /// Both.
    LineAndPoint(fn(&[u8], &Setup) -> bool, fn(&str, &str, &str) -> bool),
    /// Neither the generator nor the points can show it; the reason.
    Elsewhere(&'static str),
}

/// Every id of the table, with what it covers.
pub(super) const DIFFERENCES: &[(&str, Covers)] = &[
    ("js-number-forms", Covers::Line(|line, _| any_value(line, is_js_number_form))),
    (
        "nan-infinity",
        Covers::LineAndPoint(|line, _| any_value(line, is_infinite), |_, original, _| not_finite(original)),
    ),
    ("rate-forms", Covers::Line(|line, _| any_value(line, is_fatal_rate))),
    ("prototype-names", Covers::Line(|line, _| is_prototype_name(line))),
    ("timestamps", Covers::Line(|line, _| extension(line) == Some(Extension::Timestamp))),
    ("container-id", Covers::Line(|line, _| extension(line) == Some(Extension::Container))),
    ("long-names", Covers::Line(|line, _| is_beyond_limits(line))),
    ("unclean-tags", Covers::Line(has_unclean_tags)),
    ("exact-sums", Covers::Point(is_rounding)),
    ("own-timings", Covers::Point(|name, _, _| is_own_timing(name))),
    ("wall-clock", Covers::Point(|name, _, _| has_part(name, "timestamp_lag"))),
    ("large-buckets", Covers::Elsewhere("a round sends far fewer values")),
    ("series-limit", Covers::Elsewhere("a round sends far fewer names")),
    ("crashes", Covers::Elsewhere("the pair would not survive it")),
    ("losses", Covers::Elsewhere("Graphite is never away and nobody is stopped while points are compared")),
    ("tcp-text", Covers::Elsewhere("datagrams are compared")),
    ("console-commands", Covers::Elsewhere("the console is compared one command at a time")),
    ("console-addresses", Covers::Elsewhere("every address is written out")),
    ("console-config", Covers::Elsewhere("only what the file says is compared")),
    ("config-code", Covers::Elsewhere("the configurations are plain literals")),
    ("config-reload", Covers::Elsewhere("the configuration does not change")),
    ("other-modules", Covers::Elsewhere("only Graphite is configured")),
];

const TABLE: &str = include_str!("../../../docs/differences-from-statsd.md");
/// `limits.name_bytes_max`, `limits.tags_max` and the longest tag list by default.
const NAME_BYTES_MAX: usize = 512;
const TAGS_MAX: usize = 32;
const TAGS_BYTES_MAX: usize = 4_096;
/// Relative to the larger value: far above what rounding does, far below what anyone would miss.
const TOLERANCE: f64 = 1e-9;

/// The row that covers a line, if the two programs may read it differently.
pub(super) fn covered_line(line: &[u8], setup: &Setup) -> Option<&'static str> {
    let covers = |covers: &Covers| match covers {
        Covers::Line(matches) | Covers::LineAndPoint(matches, _) => matches(line, setup),
        Covers::Point(_) | Covers::Elsewhere(_) => false,
    };
    DIFFERENCES.iter().find(|(_, row)| covers(row)).map(|(id, _)| *id)
}

/// The row that covers a difference between two values of one name.
pub(super) fn covered_point(name: &str, original: &str, tallyd: &str) -> Option<&'static str> {
    let covers = |covers: &Covers| match covers {
        Covers::Point(matches) | Covers::LineAndPoint(_, matches) => matches(name, original, tallyd),
        Covers::Line(_) | Covers::Elsewhere(_) => false,
    };
    DIFFERENCES.iter().find(|(_, row)| covers(row)).map(|(id, _)| *id)
}

/// The ids of the published table, in its order.
pub(super) fn published_ids() -> Vec<&'static str> {
    TABLE
        .lines()
        .filter_map(|row| row.strip_prefix("| `"))
        .map(|row| row.split_once("` |").expect("an id ends its cell").0)
        .collect()
}

/// Whether a value of the line, as fields between bars, has the property.
fn any_value(line: &[u8], has: fn(&[&str]) -> bool) -> bool {
    let text = String::from_utf8_lossy(line);
    let head = text.split("|#").next().unwrap_or_default();
    head.split(':').skip(1).any(|value| has(&value.split('|').collect::<Vec<_>>()))
}

/// Where a number stands in a value's fields: the value itself, unless it is a set's, and the rate.
fn numbers<'a>(fields: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let value = fields.first().copied().filter(|_| fields.get(1).is_some_and(|ty| *ty != "s"));
    value.into_iter().chain(rate(fields))
}

fn rate<'a>(fields: &[&'a str]) -> Option<&'a str> {
    fields.get(2).and_then(|field| field.strip_prefix('@'))
}

fn is_js_number_form(fields: &[&str]) -> bool {
    numbers(fields).any(|text| javascript::number(text).is_some() && !javascript::is_decimal(text))
}

/// Too large for a double, or counted 1/0 times.
fn is_infinite(fields: &[&str]) -> bool {
    numbers(fields).any(|text| javascript::number(text).is_some_and(f64::is_infinite))
        || rate(fields).is_some_and(|rate| {
            javascript::number(rate).is_some() && javascript::number(leading_digits(rate)) == Some(0.0)
        })
}

/// The original checks that the rate is a number, then finds no digits where it looks for them.
fn is_fatal_rate(fields: &[&str]) -> bool {
    rate(fields).is_some_and(|rate| {
        !rate.starts_with('-') && javascript::number(rate).is_some() && leading_digits(rate).is_empty()
    })
}

fn leading_digits(rate: &str) -> &str {
    rate.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default()
}

/// Names that every JavaScript object has from birth, as a key or as a set's member.
fn is_prototype_name(line: &[u8]) -> bool {
    const NAMES: &[&str] = &[
        "constructor",
        "toString",
        "toLocaleString",
        "valueOf",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    ];
    let text = String::from_utf8_lossy(line);
    let name = text.split([':', '|']).next().unwrap_or_default();
    let cleaned: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).collect();
    NAMES.contains(&cleaned.as_str()) || any_value(line, |fields| fields.first() == Some(&"__proto__"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    Timestamp,
    Container,
}

/// DogStatsD's later fields, which stand at the end of a line, behind a value and a type.
fn extension(line: &[u8]) -> Option<Extension> {
    let text = String::from_utf8_lossy(line);
    let (head, field) = text.rsplit_once('|')?;
    let typed = head.split_once(':').is_some_and(|(_, rest)| rest.contains('|'));
    let field = field.trim_matches(javascript::is_space);
    let id = ["c:", "e:", "card:"].iter().find_map(|mark| field.strip_prefix(mark));
    if !typed {
        None
    } else if field.strip_prefix('T').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        Some(Extension::Timestamp)
    } else if id.is_some_and(|id| !id.is_empty() && javascript::number(id).is_none()) {
        Some(Extension::Container)
    } else {
        None
    }
}

fn is_beyond_limits(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.split("|#");
    let name = parts.next().and_then(|head| head.split(':').next()).unwrap_or_default();
    let tags = parts.next().unwrap_or_default();
    name.len() > NAME_BYTES_MAX || tags.len() > TAGS_BYTES_MAX || tags.split(',').count() > TAGS_MAX
}

/// With cleaning off, tags go to Graphite as they are, and these would break its line or its pickle.
fn has_unclean_tags(line: &[u8], setup: &Setup) -> bool {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.split("|#");
    let name = parts.next().and_then(|head| head.split(':').next()).unwrap_or_default();
    let inline = name.split_once(';').map_or("", |(_, tags)| tags);
    let listed = parts.next().unwrap_or_default();
    let breaks = |c: char| c.is_control() || javascript::is_space(c) || (setup.pickle && !is_pickle_safe(c));
    !setup.sanitize && (inline.contains(breaks) || listed.contains(breaks))
}

/// The original counts characters where carbon counts bytes, and does not escape quotes.
fn is_pickle_safe(c: char) -> bool {
    c.is_ascii() && !matches!(c, '\'' | '\\')
}

fn not_finite(value: &str) -> bool {
    value.parse::<f64>().is_ok_and(|value| !value.is_finite())
}

/// The same number but for its last digits. Sums of squares of a round reach some tens of millions and
/// the original takes one from another, so that what is left may be wrong by more than others are.
fn is_rounding(name: &str, original: &str, tallyd: &str) -> bool {
    let (Ok(original), Ok(tallyd)) = (original.parse::<f64>(), tallyd.parse::<f64>()) else { return false };
    let cancelled = if name.contains("sum_squares_top") { 1e-6 } else { 1e-9 };
    let allowed = (TOLERANCE * original.abs().max(tallyd.abs())).max(cancelled);
    original != tallyd && (original - tallyd).abs() <= allowed
}

fn is_own_timing(name: &str) -> bool {
    has_part(name, "graphiteStats") || has_part(name, "processing_time")
}

fn has_part(name: &str, part: &str) -> bool {
    name.split('.').any(|candidate| candidate == part)
}

#[test]
fn the_table_and_the_classifiers_name_the_same_differences() {
    let mut published = published_ids();
    let mut classified: Vec<&str> = DIFFERENCES.iter().map(|(id, _)| *id).collect();
    published.sort_unstable();
    classified.sort_unstable();
    assert_eq!(published, classified);
    assert!(published.windows(2).all(|pair| pair[0] != pair[1]), "an id stands for one difference");
    for (id, covers) in DIFFERENCES {
        if let Covers::Elsewhere(reason) = covers {
            assert!(reason.len() > 20, "{id} says why it cannot be met");
        }
    }
}

#[test]
fn rounding_is_told_from_difference() {
    assert!(is_rounding("a", "0.30000000000000004", "0.3"));
    assert!(is_rounding("a", "5.551115123125783e-17", "0"));
    for (original, tallyd) in [
        ("0.3", "0.3000001"),
        ("1000", "1000.00001"),
        ("0", "0.001"),
        ("1e21", "1000000000000000000000"),
        ("1", "x"),
    ] {
        assert!(!is_rounding("a", original, tallyd), "{original} {tallyd}");
    }
}

#[test]
fn ordinary_lines_are_never_excluded() {
    let setup = Setup::plain(500);
    for line in [
        "a:1|c",
        "a:1|c|@0.1|#k:v",
        "a:-0.5|ms ",
        "a:1|c|@2e-1",
        "a:1|c:2|ms",
        "a:1|c|c:5",
        "a:1|c:x",
        "a:|s",
        "a:1|c|",
        "a:1|c|@.",
        "a: 7 |g",
        "a:NaN|c",
        "a:1|c|Tomorrow",
        "constructors:1|c",
        "a:0x10|s",
        "a:1|c|@-1",
    ] {
        assert_eq!(covered_line(line.as_bytes(), &setup), None, "{line}");
    }
}
