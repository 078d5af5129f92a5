//! The series a store knows, and what each sends when it is idle.
//!
//! A series is known from its first sample until its idle rule forgets it. At the seal of a bucket each known
//! series without samples there gets an idle entry, or goes. Gauges carry their value from bucket to bucket.

use super::contract::{Entry, Idle, IdleRules};
use crate::clock::WallMs;
use crate::metric::gauge::Order;
use crate::metric::{Gauge, Kind, Series, Tally};
use std::collections::HashMap;

/// statsd's own counters are never deleted, whatever the rules (it looks for these words in the name).
const NEVER_DROPPED: [&str; 3] = ["packets_received", "metrics_received", "bad_lines_seen"];

/// What is known of one series. There may be a million, most of them counters: what only gauges need is boxed.
#[derive(Clone, Debug)]
struct Known {
    /// Start of the last bucket with samples.
    active: WallMs,
    /// Sealed buckets since then.
    idle_buckets: u32,
    /// Of a gauge.
    gauge: Option<Box<Level>>,
    /// What it sent last, where the rule is to keep that.
    kept: Option<Box<Tally>>,
}

/// Where a gauge stands.
#[derive(Clone, Debug, Default)]
struct Level {
    /// At the end of the last sealed bucket.
    carried: Option<f64>,
    /// Now.
    present: Option<f64>,
    /// Its last set, and its last change of any sort.
    last_set: Option<Order>,
    last_change: Option<Order>,
}

/// All known series.
#[derive(Debug)]
pub(super) struct KnownSeries {
    series: HashMap<Series, Known, foldhash::fast::RandomState>,
    pub(super) rules: IdleRules,
}

impl KnownSeries {
    pub(super) fn new(rules: IdleRules) -> Self {
        Self { series: HashMap::default(), rules }
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// A batch has samples of the series.
    pub(super) fn note(&mut self, series: &Series, bucket: WallMs, tally: &Tally) {
        let known = self.series.entry(series.clone()).or_insert(Known {
            active: bucket,
            idle_buckets: 0,
            gauge: None,
            kept: None,
        });
        known.active = known.active.max(bucket);
        if let Tally::Gauge(gauge) = tally {
            known.gauge.get_or_insert_default().change(gauge);
        }
    }

    fn level(&self, series: &Series) -> Option<&Level> {
        self.series.get(series)?.gauge.as_deref()
    }

    /// A gauge's value at the end of the last sealed bucket.
    pub(super) fn carried(&self, series: &Series) -> Option<f64> {
        self.level(series)?.carried
    }

    /// A gauge's value now.
    pub(super) fn present(&self, series: &Series) -> Option<f64> {
        self.level(series)?.present
    }

    /// All series of a kind.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Series> {
        self.series.keys().filter(move |series| series.kind() == kind)
    }

    pub(super) fn remove(&mut self, series: &Series) {
        self.series.remove(series);
    }

    /// The bucket that starts at `start` is being sealed with `entries`: remembers what active series sent,
    /// adds idle entries, and forgets.
    pub(super) fn seal(&mut self, start: WallMs, end: WallMs, entries: &mut Vec<Entry>) {
        for entry in entries.iter() {
            if let Some(known) = self.series.get_mut(&entry.series) {
                known.idle_buckets = 0;
                known.active = known.active.max(start);
                if let Tally::Gauge(gauge) = &entry.tally {
                    known.gauge.get_or_insert_default().carried = gauge.value(entry.before);
                } else if self.rules.of(entry.series.kind()) == Idle::Keep {
                    known.kept = Some(Box::new(entry.tally.clone()));
                }
            }
        }
        let rules = &self.rules;
        self.series.retain(|series, known| {
            if known.active >= start {
                return true;
            }
            known.idle_buckets += 1;
            let entry = known.idle_entry(series, rules, end);
            let stays = entry.is_some();
            entries.extend(entry);
            stays
        });
    }
}

impl Known {
    /// What the series sends in a bucket without samples; `None` if it is forgotten.
    fn idle_entry(&self, series: &Series, rules: &IdleRules, end: WallMs) -> Option<Entry> {
        let kind = series.kind();
        let own = kind == Kind::Counter && NEVER_DROPPED.iter().any(|word| series.key().contains(word));
        if !own && rules.after_ms.is_some_and(|after| end - self.active > after) {
            return None;
        }
        let (tally, before) = match (kind, rules.of(kind)) {
            (Kind::Gauge, Idle::Drop) if self.idle_buckets >= rules.gauges_ttl => return None,
            (Kind::Gauge, Idle::Zero) => (Tally::empty(kind), Some(0.0)),
            (Kind::Gauge, Idle::Keep | Idle::Drop) => {
                (Tally::empty(kind), self.gauge.as_ref().and_then(|gauge| gauge.carried))
            }
            (_, Idle::Drop) if !own => return None,
            (_, Idle::Keep) => (self.kept.as_deref().cloned().unwrap_or(Tally::empty(kind)), None),
            (_, Idle::Zero | Idle::Drop) => (Tally::empty(kind), None),
        };
        Some(Entry { series: series.clone(), tally, before, idle: true })
    }
}

impl Level {
    /// A change to the present value: a late one counts only as far as nothing came after it.
    fn change(&mut self, gauge: &Gauge) {
        let Some(order) = gauge.last() else {
            return;
        };
        if self.last_change.is_none_or(|last| last < order) {
            self.present = gauge.value(self.present);
            self.last_change = Some(order);
        } else if let Some(set) = gauge.last_set() {
            // Late: a set counts if no set came after it; then what was added after it is lost to us here,
            // but not in the buckets, which compose in order.
            if self.last_set.is_none_or(|last| last < set) {
                self.present = gauge.value(None);
            }
        } else if self.last_set.is_none_or(|last| last < order) {
            self.present = gauge.value(self.present);
        }
        self.last_set = self.last_set.max(gauge.last_set());
    }
}
