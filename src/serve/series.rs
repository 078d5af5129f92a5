//! The business series for Prometheus: `GET /metrics/series`.
//!
//! In come totals and the gauges of the store; out goes Prometheus' text form, so that nobody needs a second
//! exporter. Names are made of what Prometheus allows; where two series would then be one, or one name would be
//! of two types, the later one is left out and counted, since Prometheus would refuse the whole answer.
//!
//! ```text
//!   shop.orders:3|c|#plan:pro   # TYPE shop_orders_total counter     shop_orders_total{plan="pro"} 3
//!   shop.time:20|ms             # TYPE shop_time summary             shop_time_sum 20, shop_time_count 1
//!   shop.stock:4|g              # TYPE shop_stock gauge              shop_stock 4
//!   shop.visitors:x|s           # TYPE shop_visitors_uniques gauge   shop_visitors_uniques 1
//! ```

use crate::aggregate::{Total, Totals};
use crate::clock::WallMs;
use crate::metric::{Kind, Series, Tally};
use crate::store::Present;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Quantiles of a summary, with their percentiles.
const QUANTILES: [(&str, f64); 3] = [("0.5", 50.0), ("0.9", 90.0), ("0.99", 99.0)];

/// The text of all series.
pub(super) fn render(totals: &Totals, gauges: &[Present], now: WallMs) -> String {
    let mut page = Page::default();
    let limited = totals.each(now, &mut |series, total, complete| page.total(series, total, complete));
    let room = totals.series_max();
    for present in gauges.iter().take(room) {
        if let Some(value) = present.gauge {
            page.add(&present.series, "gauge", "", &[], &|out, name, labels| {
                sample(out, name, labels, value);
            });
        }
    }
    page.finish(limited + gauges.len().saturating_sub(room) as u64)
}

/// Writes the samples of one series under a name and labels.
type Samples<'a> = &'a dyn Fn(&mut String, &str, &[String]);

/// All families so far.
#[derive(Default)]
struct Page {
    families: BTreeMap<String, Family>,
    /// Names of samples and the family that has them.
    taken: BTreeMap<String, String>,
    exported: u64,
    clashes: u64,
}

struct Family {
    kind: &'static str,
    help: String,
    /// Labels of the series in it.
    members: BTreeSet<Vec<String>>,
    text: String,
}

impl Page {
    fn total(&mut self, series: &Series, total: &Total, complete: WallMs) {
        match total {
            Total::Counter(sum) => {
                let value = sum.to_f64();
                self.add(series, "counter", "_total", &[], &|out, name, labels| {
                    sample(out, name, labels, value);
                });
            }
            Total::Timer { count, sum, recent } => {
                let distribution = match recent.in_bucket(complete) {
                    Some(Tally::Timer(digest)) => digest.distribution(),
                    _ => None,
                };
                self.add(series, "summary", "", &["_sum", "_count"], &|out, name, labels| {
                    for (quantile, percent) in QUANTILES {
                        if let Some(part) = distribution.as_ref().and_then(|all| all.part(percent)) {
                            let labels = [labels, &[format!("quantile=\"{quantile}\"")]].concat();
                            sample(out, name, &labels, part.boundary);
                        }
                    }
                    sample(out, &format!("{name}_sum"), labels, *sum);
                    sample(out, &format!("{name}_count"), labels, *count);
                });
            }
            Total::Set(recent) => {
                let count = match recent.in_bucket(complete) {
                    Some(Tally::Set(set)) => set.count(),
                    _ => 0,
                };
                self.add(series, "gauge", "_uniques", &[], &|out, name, labels| {
                    sample(out, name, labels, count as f64);
                });
            }
        }
    }

    /// Adds a series, unless its name or its labels are taken.
    fn add(&mut self, series: &Series, kind: &'static str, ending: &str, more: &[&str], write: Samples<'_>) {
        let (name, tags) = series.split();
        let plain = metric_name(name);
        let family = if plain.ends_with(ending) { plain } else { plain + ending };
        let labels = labels(tags);
        let names: Vec<String> =
            std::iter::once("").chain(more.iter().copied()).map(|end| format!("{family}{end}")).collect();
        if names.iter().any(|name| self.taken.get(name).is_some_and(|owner| *owner != family)) {
            self.clashes += 1;
            return;
        }
        let entry = match self.families.entry(family.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let help = format!("The {} {name} of statsd.", word(series.kind()));
                entry.insert(Family { kind, help, members: BTreeSet::new(), text: String::new() })
            }
        };
        if entry.kind != kind || !entry.members.insert(labels.clone()) {
            self.clashes += 1;
            return;
        }
        write(&mut entry.text, &family, &labels);
        self.exported += 1;
        self.taken.extend(names.into_iter().map(|name| (name, family.clone())));
    }

    fn finish(self, limited: u64) -> String {
        let mut out = String::new();
        for (name, Family { kind, help, text, .. }) in self.families {
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            // Writing to a string cannot fail.
            write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{text}").ok();
        }
        let left_out = "tallyd_series_left_out";
        write!(
            out,
            "# HELP tallyd_series_exported Series shown here.\n# TYPE tallyd_series_exported gauge\n\
             tallyd_series_exported {}\n\
             # HELP {left_out} What is not shown here: tallies beyond http.series_max, series whose name is taken.\n\
             # TYPE {left_out} gauge\n{left_out}{{reason=\"limit\"}} {limited}\n\
             {left_out}{{reason=\"name\"}} {}\n",
            self.exported, self.clashes
        )
        .ok();
        out
    }
}

fn word(kind: Kind) -> &'static str {
    kind.word()
}

fn sample(out: &mut String, name: &str, labels: &[String], value: f64) {
    out.push_str(name);
    if !labels.is_empty() {
        write!(out, "{{{}}}", labels.join(",")).ok();
    }
    writeln!(out, " {value}").ok();
}

/// Letters, digits, `_` and `:`, not beginning with a digit.
fn metric_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' };
    let begins_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let first = if begins_with_digit || name.is_empty() { "_" } else { "" };
    first.chars().chain(name.chars().map(allowed)).collect()
}

/// The tags of a key (`;a=1;b=2`) as labels. Names that Prometheus keeps for itself get a `tag_` in front.
fn labels(tags: &str) -> Vec<String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in tags.split(';').filter_map(|tag| tag.split_once('=')) {
        let name = metric_name(key).replace(':', "_");
        let reserved =
            name.starts_with("__") || ["quantile", "le", "job", "instance"].contains(&name.as_str());
        let name = if reserved { format!("tag_{name}") } else { name };
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        labels.entry(name).or_insert(value);
    }
    labels.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_what_prometheus_allows() {
        for (name, allowed) in
            [("shop.orders-new", "shop_orders_new"), ("9", "_9"), ("", "_"), ("a:b", "a:b")]
        {
            assert_eq!(metric_name(name), allowed);
        }
        let found = labels(";a.b=1;a-b=2;le=3;__x=4;said=\"a\\b\"");
        assert_eq!(found, ["a_b=\"1\"", "said=\"\\\"a\\\\b\\\"\"", "tag___x=\"4\"", "tag_le=\"3\""]);
    }
}
