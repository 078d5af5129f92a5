//! What a sealed bucket becomes: the bucket before it, what is pending, and the rules for idle series. No input or
//! output here.

use super::layout::Layout;
use super::packed::Part;
use crate::clock::WallMs;
use crate::metric::gauge::{Change, Order};
use crate::metric::{Bounds, Gauge, Kind, Series, Tally};
use crate::store::{Idle, IdleRules};
use std::collections::BTreeMap;

/// statsd's own counters are never deleted, whatever the rules (it looks for these words in the name).
const NEVER_DROPPED: [&str; 3] = ["packets_received", "metrics_received", "bad_lines_seen"];

/// Tallies of one bucket, by series.
pub(super) type Tallies = BTreeMap<Series, Tally>;

/// Adds entries of a batch.
pub(super) fn add(tallies: &mut Tallies, entries: Vec<(Series, Tally)>, bounds: &Bounds) {
    for (series, tally) in entries {
        // Not moved as it is: what is exact in a fine bucket may be too much in a coarse one.
        let kind = tally.kind();
        tallies.entry(series).or_insert_with(|| Tally::empty(kind)).merge(tally, bounds);
    }
}

/// A bucket that is newer than all sealed ones: samples, and what idle series of the one before send.
pub(super) fn newest(
    pending: &Tallies,
    before: Vec<Part>,
    buckets_since: u32,
    width_ms: i64,
    rules: &IdleRules,
) -> Vec<Part> {
    let mut parts = Vec::with_capacity(before.len() + pending.len() / 8);
    let mut pending = pending.iter().peekable();
    for old in before {
        while let Some((series, tally)) = pending.next_if(|(series, _)| **series < old.series) {
            parts.push(counted(series, tally, None));
        }
        match pending.next_if(|(series, _)| **series == old.series) {
            Some((series, tally)) => parts.push(counted(series, tally, old.stands())),
            None => parts.extend(idle(old, buckets_since, width_ms, rules)),
        }
    }
    parts.extend(pending.map(|(series, tally)| counted(series, tally, None)));
    parts
}

/// A bucket between sealed ones: what came and no more. `stood` are the gauges of the one before.
pub(super) fn between(pending: &Tallies, stood: &[Part]) -> Vec<Part> {
    let before = |series: &Series| {
        let at = stood.binary_search_by(|part| part.series.cmp(series)).ok()?;
        stood.get(at)?.stands()
    };
    pending.iter().map(|(series, tally)| counted(series, tally, before(series))).collect()
}

fn counted(series: &Series, tally: &Tally, before: Option<f64>) -> Part {
    Part { series: series.clone(), tally: tally.clone(), before, idle: 0, carry: None }
}

/// What a series without samples sends; `None` if it is forgotten.
fn idle(old: Part, buckets_since: u32, width_ms: i64, rules: &IdleRules) -> Option<Part> {
    let kind = old.series.kind();
    let own = kind == Kind::Counter && NEVER_DROPPED.iter().any(|word| old.series.key().contains(word));
    let idle = old.idle.saturating_add(buckets_since);
    let idle_ms = (i64::from(idle) + 1).saturating_mul(width_ms);
    if !own && rules.after_ms.is_some_and(|after| idle_ms > after) {
        return None;
    }
    let stands = old.stands();
    let (tally, before) = match (kind, rules.of(kind)) {
        (Kind::Gauge, Idle::Drop) if idle >= rules.gauges_ttl => return None,
        (Kind::Gauge, Idle::Zero) => (Tally::empty(kind), Some(0.0)),
        (Kind::Gauge, Idle::Keep | Idle::Drop) => (Tally::empty(kind), stands),
        (_, Idle::Drop) if !own => return None,
        (_, Idle::Keep) => (old.tally, None),
        (_, Idle::Zero | Idle::Drop) => (Tally::empty(kind), None),
    };
    Some(Part { series: old.series, tally, before, idle, carry: None })
}

/// Adds late tallies to sealed parts, which stay sorted. What an idle part kept from before is no sample.
pub(super) fn amend(parts: &mut Vec<Part>, late: Tallies, bounds: &Bounds) {
    for (series, tally) in late {
        match parts.binary_search_by(|part| part.series.cmp(&series)) {
            Ok(at) => {
                if let Some(part) = parts.get_mut(at) {
                    if part.idle > 0 {
                        part.tally = tally;
                        part.idle = 0;
                    } else {
                        part.tally.merge(tally, bounds);
                    }
                }
            }
            Err(at) => parts.insert(at, counted(&series, &tally, None)),
        }
    }
}

/// What goes up to the coarser level: the tallies consumed, of series that are kept there. Of a gauge the least, the
/// greatest and the last value of them; with the first seal also where idle ones stood.
pub(super) fn delta(
    layout: &Layout,
    start: WallMs,
    consumed: &Tallies,
    parts: Option<&[Part]>,
    coarser: usize,
    first: bool,
) -> Vec<(Series, Tally)> {
    let kept = |series: &Series| layout.is_kept(series, coarser);
    let part_of = |series: &Series| {
        let parts = parts?;
        parts.get(parts.binary_search_by(|part| part.series.cmp(series)).ok()?)
    };
    let mut entries = Vec::new();
    for (series, tally) in consumed.iter().filter(|(series, _)| kept(series)) {
        let tally = match tally {
            Tally::Gauge(gauge) => {
                // Values, not additions: those of the whole bucket, as far as they were consumed now.
                let values = match part_of(series) {
                    Some(Part { tally: Tally::Gauge(all), before, .. }) => all.values(*before),
                    _ => gauge.values(None),
                };
                let ours = values.changes().iter().filter(|(order, _)| {
                    gauge.changes().binary_search_by_key(order, |(order, _)| *order).is_ok()
                });
                let ours = Gauge::from_changes(ours.copied().collect()).unwrap_or_default();
                Tally::Gauge(ours.extremes())
            }
            other => other.clone(),
        };
        entries.push((series.clone(), tally));
    }
    for part in parts.filter(|_| first).into_iter().flatten() {
        if let (true, Kind::Gauge, Some(value)) = (part.idle > 0, part.series.kind(), part.before)
            && kept(&part.series)
        {
            let order = Order { time: start, producer: 0, number: 0 };
            let stood = Gauge::once(order, Change { set: Some(value), delta: 0.0 });
            entries.push((part.series.clone(), Tally::Gauge(stood)));
        }
    }
    entries
}

/// Gauges that changed late in the bucket that starts at `at`: what the newest bucket, `buckets` later, carries on.
/// Returns whether anything changed there.
pub(super) fn carry_on(newest: &mut [Part], late: &Tallies, amended: &[Part], buckets: u32) -> bool {
    let mut changed = false;
    for (series, tally) in late {
        let Tally::Gauge(late) = tally else {
            continue;
        };
        let Ok(at) = newest.binary_search_by(|part| part.series.cmp(series)) else {
            continue;
        };
        let Some(part) = newest.get_mut(at) else {
            continue;
        };
        let Tally::Gauge(own) = &part.tally else {
            continue;
        };
        // Nothing happened to it since the late bucket; else a late set is overtaken, and an addition counts as
        // long as no set came after it.
        let untouched = part.idle >= buckets;
        let carry = if untouched {
            let at = amended.binary_search_by(|part| part.series.cmp(series)).ok();
            at.and_then(|at| amended.get(at)).and_then(Part::stands)
        } else if late.last_set().is_none() && own.last_set().is_none() {
            late.value(part.stands())
        } else {
            continue;
        };
        if carry.is_some() && carry != part.stands() {
            part.carry = carry;
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sum;

    const RULES: IdleRules = IdleRules {
        counters: Idle::Zero,
        timers: Idle::Zero,
        sets: Idle::Zero,
        gauges: Idle::Keep,
        gauges_ttl: 1,
        after_ms: Some(60_000),
    };

    fn count(name: &str, n: i64) -> (Series, Tally) {
        (Series::new(Kind::Counter, name), Tally::Counter(Sum::from_whole(n)))
    }

    #[test]
    fn idle_series_stay_as_long_as_their_rule_says() {
        let bounds = Bounds { timer_exact_max: 5, set_exact_max: 5 };
        let mut first = Tallies::new();
        add(&mut first, vec![count("a", 1), count("b", 2), count("a", 3)], &bounds);
        let mut parts = newest(&first, Vec::new(), 1, 10_000, &RULES);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].tally, Tally::Counter(Sum::from_whole(4)));
        for bucket in 1..=5 {
            parts = newest(&Tallies::new(), parts, 1, 10_000, &RULES);
            assert_eq!((parts.len(), parts[0].idle), (2, bucket));
            assert_eq!(parts[0].tally, Tally::Counter(Sum::ZERO));
        }
        let again = Tallies::from([count("b", 5)]);
        let last = newest(&again, parts, 1, 10_000, &RULES);
        assert_eq!((last.len(), last[0].series.key(), last[0].idle), (1, "b", 0));
    }
}
