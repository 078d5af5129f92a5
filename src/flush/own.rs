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
}

impl Own {
    /// statsd's three counters, always; in our dialect also what it does not count, once there is any.
    pub(super) fn counters(&self, intake: &Intake) -> Vec<(Series, Tally)> {
        let counter = |name: &str, count: u64| {
            let series = Series::new(Kind::Counter, &format!("{}.{name}", self.prefix));
            (series, Tally::Counter(Sum::from_count(count)))
        };
        let mut counters = vec![
            counter("bad_lines_seen", intake.bad_lines()),
            counter("packets_received", intake.packets),
            counter("metrics_received", intake.lines),
        ];
        if self.dialect == Dialect::Native {
            counters.push(counter("kernel_drops", intake.kernel_drops));
            if intake.overflow > 0 {
                counters.push(counter("overflow", intake.overflow));
            }
            let refused = Refusal::ALL.iter().zip(intake.refused).filter(|(_, count)| *count > 0);
            counters.extend(
                refused.map(|(reason, count)| counter(&format!("refused.{}", reason.label()), count)),
            );
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
