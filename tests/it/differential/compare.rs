//! Two flushes, name by name and value by value.
//!
//! In come the points of both programs for the same samples; out go the differences that no row of the
//! published table covers, as sentences. Stamps are left out, names are compared as a multiset (with
//! cleaning off, two series may clean to one name), and equal numbers must be written alike.

use super::exclusions::covered_point;
use super::sink::Flush;
use std::collections::BTreeMap;

/// What differs and should not; empty if the flushes agree.
pub(super) fn differences(original: &Flush, tallyd: &Flush) -> Vec<String> {
    let (original, tallyd) = (by_name(original), by_name(tallyd));
    let mut found = Vec::new();
    for (name, values) in &original {
        match tallyd.get(name) {
            None if values.iter().all(|value| covered_point(name, value, "").is_some() && !is_own(name)) => {}
            None => found.push(format!("{name}: only the original sends it, {values:?}")),
            Some(ours) if ours.len() != values.len() => {
                found.push(format!("{name}: original {values:?}, tallyd {ours:?}"));
            }
            Some(ours) => found.extend(
                values
                    .iter()
                    .zip(ours)
                    .filter(|(a, b)| !agree(name, a, b))
                    .map(|(a, b)| format!("{name}: original {a}, tallyd {b}")),
            ),
        }
    }
    for (name, values) in &tallyd {
        if !original.contains_key(name) {
            found.push(format!("{name}: only tallyd sends it, {values:?}"));
        }
        found.extend(
            values
                .iter()
                .filter(|value| !is_finite(value))
                .map(|value| format!("{name}: tallyd sends {value}")),
        );
    }
    found
}

/// Each name with its values, smallest first, so that equal multisets look equal.
fn by_name(flush: &Flush) -> BTreeMap<&str, Vec<&str>> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for point in flush {
        names.entry(&point.name).or_default().push(&point.value);
    }
    for values in names.values_mut() {
        values.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    names
}

fn agree(name: &str, original: &str, tallyd: &str) -> bool {
    original == tallyd || covered_point(name, original, tallyd).is_some()
}

/// The names of the program's own timings must be there, though their values are its own affair.
fn is_own(name: &str) -> bool {
    covered_point(name, "1", "2").is_some()
}

fn number(value: &str) -> f64 {
    value.parse().unwrap_or(f64::NAN)
}

fn is_finite(value: &str) -> bool {
    number(value).is_finite()
}

#[cfg(test)]
mod tests {
    use super::super::sink::Point;
    use super::*;

    fn flush(points: &[(&str, &str)]) -> Flush {
        let point = |(name, value): &(&str, &str)| Point {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            stamp: "1700000000".to_owned(),
        };
        points.iter().map(point).collect()
    }

    #[test]
    fn equal_flushes_agree_in_any_order() {
        let one = flush(&[("a", "1"), ("b", "0.30000000000000004"), ("b", "7"), ("s.processing_time", "3")]);
        let two = flush(&[("s.processing_time", "0"), ("b", "7"), ("b", "0.3"), ("a", "1")]);
        assert_eq!(differences(&one, &two), [""; 0]);
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let base = flush(&[("a", "1"), ("b", "2"), ("s.graphiteStats.flush_time", "0")]);
        for other in [
            &[("a", "1"), ("b", "3"), ("s.graphiteStats.flush_time", "0")][..],
            &[("a", "1"), ("s.graphiteStats.flush_time", "0")],
            &[("a", "1"), ("b", "2"), ("b", "2"), ("s.graphiteStats.flush_time", "0")],
            &[("a", "1"), ("b", "2.0"), ("s.graphiteStats.flush_time", "0")],
            &[("a", "1"), ("b", "NaN"), ("s.graphiteStats.flush_time", "0")],
            &[("a", "1"), ("b", "2"), ("c", "0"), ("s.graphiteStats.flush_time", "0")],
            &[("a", "1"), ("b", "2")],
        ] {
            assert!(!differences(&base, &flush(other)).is_empty(), "{other:?}");
        }
    }

    #[test]
    fn what_the_original_cannot_compute_may_be_right_or_missing_here_and_nothing_else() {
        let original = flush(&[("a.mean_top90", "NaN")]);
        assert!(differences(&original, &flush(&[("a.mean_top90", "5")])).is_empty());
        assert!(differences(&original, &flush(&[])).is_empty());
        assert!(!differences(&original, &flush(&[("a.mean_top90", "Infinity")])).is_empty());
    }
}
