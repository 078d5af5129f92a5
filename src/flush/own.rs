//! Our own series: statsd's three counters and its gauge, and natively what we refuse and what overflows.

use crate::clock::WallMs;
use crate::health::{Intake, Refusal};
use crate::metric::gauge::Order;
use crate::metric::{Gauge, Kind, Series, Sum, Tally, Width};
use crate::wire::Dialect;

/// Our own series.
pub(super) struct Own {
    pub(super) prefix: String,
    pub(super) dialect: Dialect,
    pub(super) stamped: Option<i64>,
    /// The bucket in which those that are always there were stated.
    pub(super) stated: Option<WallMs>,
}

impl Own {
    /// statsd's three counters, in every bucket; in our dialect also what it does not count, once there is any. What
    /// is nothing is said once a bucket and not at every tick: a process at rest writes nothing.
    pub(super) fn counters(&mut self, intake: &Intake, bucket: WallMs) -> Vec<(Series, Tally)> {
        let first = self.stated.replace(bucket) != Some(bucket);
        let native = self.dialect == Dialect::Native;
        let mut counters = Vec::new();
        let mut counter = |name: &str, count: u64, always: bool| {
            if count > 0 || always {
                let series = Series::new(Kind::Counter, &format!("{}.{name}", self.prefix));
                counters.push((series, Tally::Counter(Sum::from_count(count))));
            }
        };
        counter("bad_lines_seen", intake.bad_lines(), first);
        counter("packets_received", intake.packets, first);
        counter("metrics_received", intake.lines, first);
        if native {
            counter("kernel_drops", intake.kernel_drops, first);
            counter("overflow", intake.overflow, false);
            for (reason, count) in Refusal::ALL.iter().zip(intake.refused) {
                if count > 0 {
                    counter(&format!("refused.{}", reason.label()), count, false);
                }
            }
        }
        counters
    }

    /// statsd's gauge from the second bucket on: how far the stamps of two buckets are apart beyond their
    /// width.
    pub(super) fn timestamp_lag(&mut self, end: WallMs, width: Width) -> Vec<(Series, Tally)> {
        if self.dialect == Dialect::Native {
            return Vec::new();
        }
        let stamp = (end + 500).div_euclid(1_000);
        let Some(before) = self.stamped.replace(stamp) else {
            return Vec::new();
        };
        let lag = (stamp - before) as f64 - width.secs();
        let series = Series::new(Kind::Gauge, &format!("{}.timestamp_lag", self.prefix));
        let order = Order { time: end, producer: 0, number: 0 };
        vec![(series, Tally::Gauge(Gauge::held(order, lag)))]
    }
}
