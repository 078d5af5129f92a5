//! From a tally to statsd's output names.
//!
//! In comes a sealed bucket and the rules; out go points, in statsd's order: counters, timers, gauges, sets,
//! then statsd's own figures. The maths is that of statsd's `process_metrics`, written over a distribution that
//! may be a sketch. It knows no sockets, and what carbon would choke on is counted here and left out.

use super::Stamp;
use crate::clock::WallMs;
use crate::metric::digest::Distribution;
use crate::metric::name::{clean, split_key};
use crate::metric::{Kind, Tally};
use crate::store::{Entry, Sealed};
use crate::wire::graphite::Point;

/// Where names are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `stats.counters.K.count`: statsd's new names (`legacyNamespace: false`).
    Statsd,
    /// `stats_counts.K`: statsd's old names (`legacyNamespace: true`); prefixes are fixed.
    Legacy,
    /// `prefix.K.count`: the name as it is. A gauge is `K` itself, a set is `K.uniques`, a timer's counts are
    /// `K.timings` and `K.timings_ps`, so that one name may be of every kind.
    Plain,
}

/// How paths are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// Which names.
    pub scheme: Scheme,
    /// `graphite.prefix` and statsd's `globalPrefix`.
    pub prefix: String,
    /// `graphite.prefix_counter`.
    pub prefix_counter: String,
    /// `graphite.prefix_timer`.
    pub prefix_timer: String,
    /// `graphite.prefix_gauge`.
    pub prefix_gauge: String,
    /// `graphite.prefix_set`.
    pub prefix_set: String,
    /// `graphite.suffix`, without its dot; `None` adds nothing.
    pub suffix: Option<String>,
    /// `graphite.own_prefix` and statsd's `prefixStats`.
    pub own_prefix: String,
}

/// Which figures of a timer are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct TimerRules {
    /// Percentiles, as written in the configuration (the text becomes part of the name).
    pub percentiles: Vec<(f64, String)>,
    /// Output names to keep; empty is all (statsd's `calculatedTimerMetrics`).
    pub outputs: Vec<String>,
    /// First match by substring wins.
    pub histogram: Vec<Histogram>,
}

/// Bins for the timers whose key contains `metric`.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Substring of the key; empty matches all.
    pub metric: String,
    /// Upper bounds, ascending, as written; `inf` is infinity.
    pub bins: Vec<(f64, String)>,
}

/// All that [`expand`] needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Paths.
    pub naming: Naming,
    /// Timers.
    pub timers: TimerRules,
    /// Whether counters send their count beside their rate (`graphite.counts`, statsd's `flush_counts`).
    pub counts: bool,
    /// Which moment points carry.
    pub stamp: Stamp,
    /// Names were cleaned at ingest; else the name part is cleaned here.
    pub names_clean: bool,
}

impl Rules {
    /// The moment that points of a bucket carry, in seconds.
    #[must_use]
    pub fn stamp_of(&self, start: WallMs, width_ms: i64) -> i64 {
        match self.stamp {
            Stamp::Start => start.div_euclid(1_000),
            Stamp::End => (start + width_ms + 500).div_euclid(1_000),
        }
    }
}

/// What came of expanding a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Points handed out.
    pub points: u64,
    /// Points left out because carbon would choke on them.
    pub unsendable: u64,
    /// Series in the bucket: statsd's `numStats`.
    pub series: u64,
}

/// Hands every point of a bucket to `emit`, which says whether it took it.
pub fn expand(rules: &Rules, sealed: &Sealed, emit: &mut dyn FnMut(&Point<'_>) -> bool) -> Expanded {
    let seconds = rules.stamp_of(sealed.start, sealed.width.ms());
    let mut writer = Writer { rules, seconds, path: String::new(), emit, expanded: Expanded::default() };
    for kind in Kind::ALL {
        for entry in sealed.entries.iter().filter(|entry| entry.series.kind() == kind) {
            writer.expanded.series += 1;
            writer.entry(entry, sealed.width.secs());
        }
    }
    writer.expanded
}

/// Our own figures beside the series: `name` under `own_prefix`, as statsd spells them.
pub fn own(
    rules: &Rules,
    seconds: i64,
    figures: &[(&str, f64)],
    emit: &mut dyn FnMut(&Point<'_>) -> bool,
) -> Expanded {
    let mut writer = Writer { rules, seconds, path: String::new(), emit, expanded: Expanded::default() };
    for (name, value) in figures {
        writer.own_figure(name, *value);
    }
    writer.expanded
}

/// A path under construction and where points go.
struct Writer<'a> {
    rules: &'a Rules,
    seconds: i64,
    path: String,
    emit: &'a mut dyn FnMut(&Point<'_>) -> bool,
    expanded: Expanded,
}

impl Writer<'_> {
    fn entry(&mut self, entry: &Entry, secs: f64) {
        let key = entry.series.key();
        match &entry.tally {
            Tally::Counter(sum) => self.counter(key, sum.to_f64(), secs),
            Tally::Timer(digest) => {
                let events = digest.events();
                self.timer(key, digest.distribution().as_ref(), events, secs);
            }
            Tally::Gauge(gauge) => {
                if let Some(value) = gauge.value(entry.before) {
                    let prefix = &self.rules.naming.prefix_gauge;
                    self.point(Kind::Gauge, prefix, key, &[], value);
                }
            }
            Tally::Set(set) => {
                let stat = if self.rules.naming.scheme == Scheme::Plain { "uniques" } else { "count" };
                self.point(Kind::Set, &self.rules.naming.prefix_set, key, &[stat], set.count() as f64);
            }
        }
    }

    fn counter(&mut self, key: &str, count: f64, secs: f64) {
        let naming = &self.rules.naming;
        if naming.scheme == Scheme::Legacy {
            self.named(&["stats"], key, &[], count / secs);
            if self.rules.counts {
                self.named(&["stats_counts"], key, &[], count);
            }
        } else {
            self.point(Kind::Counter, &naming.prefix_counter, key, &["rate"], count / secs);
            if self.rules.counts {
                self.point(Kind::Counter, &naming.prefix_counter, key, &["count"], count);
            }
        }
    }

    fn timer(&mut self, key: &str, distribution: Option<&Distribution>, events: f64, secs: f64) {
        let rules = self.rules;
        if let Some(distribution) = distribution {
            for (percent, text) in &rules.timers.percentiles {
                self.percentile(key, distribution, *percent, text);
            }
            self.figure(key, "std", distribution.std());
            self.figure(key, "upper", distribution.max);
            self.figure(key, "lower", distribution.min);
        }
        self.figure(key, "count", events);
        self.figure(key, "count_ps", events / secs);
        if let Some(distribution) = distribution {
            self.figure(key, "sum", distribution.sum);
            self.figure(key, "sum_squares", distribution.sum_squares);
            self.figure(key, "mean", distribution.mean());
            self.figure(key, "median", distribution.median());
            self.histogram(key, distribution);
        }
    }

    fn percentile(&mut self, key: &str, distribution: &Distribution, percent: f64, text: &str) {
        let Some(part) = distribution.part(percent) else {
            return;
        };
        let name = text.replacen('.', "_", 1).replacen('-', "top", 1);
        let boundary = if percent > 0.0 { "upper" } else { "lower" };
        for (stat, value) in [
            ("count", part.weight),
            ("mean", part.sum / part.weight),
            (boundary, part.boundary),
            ("sum", part.sum),
            ("sum_squares", part.sum_squares),
        ] {
            self.figure(key, &format!("{stat}_{name}"), value);
        }
    }

    fn histogram(&mut self, key: &str, distribution: &Distribution) {
        let rules = self.rules;
        let Some(histogram) = rules.timers.histogram.iter().find(|entry| key.contains(&entry.metric)) else {
            return;
        };
        if !is_listed(&rules.timers.outputs, "histogram") {
            return;
        }
        let mut from = 0;
        for (bound, text) in &histogram.bins {
            let inside = distribution.weight_below(*bound, &mut from);
            let bin = format!("bin_{}", text.replacen('.', "_", 1));
            self.point(Kind::Timer, &rules.naming.prefix_timer, key, &["histogram", &bin], inside);
        }
    }

    /// One figure of a timer, if it is wanted.
    fn figure(&mut self, key: &str, stat: &str, value: f64) {
        if !is_listed(&self.rules.timers.outputs, stat) {
            return;
        }
        let stat = match (self.rules.naming.scheme, stat) {
            (Scheme::Plain, "count") => "timings",
            (Scheme::Plain, "count_ps") => "timings_ps",
            _ => stat,
        };
        self.point(Kind::Timer, &self.rules.naming.prefix_timer, key, &[stat], value);
    }

    fn point(&mut self, kind: Kind, kind_prefix: &str, key: &str, stats: &[&str], value: f64) {
        let prefix = self.rules.naming.prefix.as_str();
        match (self.rules.naming.scheme, kind) {
            (Scheme::Statsd, _) => self.named(&[prefix, kind_prefix], key, stats, value),
            (Scheme::Legacy, Kind::Timer) => self.named(&["stats", "timers"], key, stats, value),
            (Scheme::Legacy, Kind::Gauge) => self.named(&["stats", "gauges"], key, stats, value),
            (Scheme::Legacy, Kind::Set) => self.named(&["stats", "sets"], key, stats, value),
            (Scheme::Legacy, Kind::Counter) => self.named(&["stats"], key, stats, value),
            (Scheme::Plain, _) => self.named(&[prefix], key, stats, value),
        }
    }

    fn own_figure(&mut self, name: &str, value: f64) {
        let naming = &self.rules.naming;
        match naming.scheme {
            // The original leaves the suffix's place and the empty prefix's dot as they fall.
            Scheme::Legacy if name == "numStats" => self.named(&[], &naming.own_prefix, &[name], value),
            Scheme::Legacy => self.named(&["stats"], &naming.own_prefix, &[name], value),
            Scheme::Statsd | Scheme::Plain => {
                self.named(&[&naming.prefix], &naming.own_prefix, &[name], value);
            }
        }
    }

    /// Prefixes, name, stats, suffix, tags. Empty prefixes leave no dot.
    fn named(&mut self, prefixes: &[&str], key: &str, stats: &[&str], value: f64) {
        let (name, tags) = split_key(key);
        self.path.clear();
        for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty()) {
            self.path.extend([prefix, "."]);
        }
        if self.rules.names_clean {
            self.path.push_str(name);
        } else {
            self.path.push_str(&clean(name));
        }
        for stat in stats.iter().copied().chain(self.rules.naming.suffix.as_deref()) {
            self.path.extend([".", stat]);
        }
        self.path.push_str(tags);
        let point = Point { path: &self.path, value, seconds: self.seconds };
        if value.is_finite() && (self.emit)(&point) {
            self.expanded.points += 1;
        } else {
            self.expanded.unsendable += 1;
        }
    }
}

/// Whether an output is wanted: by its name, where a trailing `_90` or `_top10` counts as `_percent`. Empty
/// is all.
fn is_listed(outputs: &[String], stat: &str) -> bool {
    if outputs.is_empty() {
        return true;
    }
    let digits = stat.trim_end_matches(|c: char| c.is_ascii_digit());
    let stem = digits.strip_suffix("top").unwrap_or(digits);
    match stem.strip_suffix('_') {
        Some(stem) if digits.len() < stat.len() => {
            outputs.iter().any(|output| output.strip_suffix("_percent") == Some(stem))
        }
        _ => outputs.iter().any(|output| output == stat),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_listed_by_their_general_name() {
        let outputs = ["upper_percent".to_owned(), "count".to_owned(), "mean_99_percent".to_owned()];
        for wanted in ["upper_90", "upper_top10", "count", "mean_99_9"] {
            assert!(is_listed(&outputs, wanted), "{wanted}");
        }
        for unwanted in ["upper", "upper_99_9", "count_90", "count_ps", "lower_90", "histogram"] {
            assert!(!is_listed(&outputs, unwanted), "{unwanted}");
        }
        assert!(is_listed(&[], "anything"));
    }
}
