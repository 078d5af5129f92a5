//! The demo's five weeks before: what the shop would have counted, put into the real store before it starts.
//!
//! A day has its curve and a week its weekend, and no two days are alike; the shop's traffic follows the same curve
//! while the demo runs, so that what is shown by now can be compared. A slot is one bucket: five minutes on days that
//! are compared by the minute, half an hour on the others, so that the demo starts at once.

use super::Rates;
use crate::calendar::{Calendar, DAY_MS};
use crate::clock::WallMs;
use crate::metric::gauge::{Change, Order};
use crate::metric::unique::{Unique, hash_member};
use crate::metric::{Bounds, Digest, Gauge, Kind, Number, Series, Sum, Tally};
use crate::store::Batch;
use chrono::{Datelike, Timelike};

/// Days before today: four whole weeks, and some more for those that are compared with their first.
pub(super) const DAYS: i64 = 36;
/// One bucket stands for so long, on days that are compared by the minute and on others.
const FINE_MS: i64 = 300_000;
const COARSE_MS: i64 = 1_800_000;
/// Visitors of a slot that are looked at: few enough to be kept exactly.
const VISITORS_MAX: u32 = 100;
/// Values of a timer in a slot: enough for a percentile.
const TIMES_MAX: u64 = 40;
/// Who counted it; any number that is not random.
const PRODUCER: u128 = 1;
/// Deploys are made at these hours, on weekdays.
const DEPLOY_HOURS: [u32; 2] = [10, 15];

/// How busy the shop is at a moment: 1 around noon of a weekday.
pub(super) fn curve(calendar: &Calendar, at: WallMs) -> f64 {
    let local = calendar.local(at);
    let hour = f64::from(local.hour()) + f64::from(local.minute()) / 60.0;
    // A wide hill with its top in the early afternoon, which is never quite left.
    let hill = (-((hour - 14.0) / 4.5).powi(2)).exp();
    let weekend = if local.weekday().num_days_from_monday() >= 5 { 0.7 } else { 1.0 };
    (0.25 + 0.75 * hill) * weekend
}

/// What the shop sold until a moment, a batch for each slot.
pub(super) struct History<'a> {
    pub(super) calendar: &'a Calendar,
    pub(super) rates: Rates,
    pub(super) bounds: Bounds,
    pub(super) salt: &'a [u8],
    pub(super) bucket_ms: i64,
    pub(super) random: fastrand::Rng,
}

impl History<'_> {
    /// All batches, oldest first.
    pub(super) fn until(mut self, now: WallMs) -> impl Iterator<Item = Batch> {
        let mut start = (now - DAYS * DAY_MS).div_euclid(COARSE_MS) * COARSE_MS;
        let (mut today, mut number) = ((0, 1.0), 0);
        std::iter::from_fn(move || {
            let (at, ended) = (start, start > now);
            let ago = (now - at).div_euclid(DAY_MS);
            let compared = ago < 2 || [6, 0].contains(&(ago % 7));
            start += if compared && at % FINE_MS == 0 { FINE_MS } else { COARSE_MS };
            let day = self.calendar.day_of(at).start;
            if today.0 != day {
                // No two days are alike.
                today = (day, 0.88 + 0.24 * self.random.f64());
            }
            let seconds = (now.min(start) - at) as f64 / 1_000.0;
            let busy = today.1 * curve(self.calendar, at);
            number += 1;
            (!ended).then(|| Batch {
                producer: PRODUCER,
                number,
                bucket: at.div_euclid(self.bucket_ms) * self.bucket_ms,
                entries: self.slot(at, (busy, seconds), number),
            })
        })
    }

    /// What came in so many seconds of a shop that was as busy as this.
    fn slot(&mut self, start: WallMs, (curve, seconds): (f64, f64), number: u64) -> Vec<(Series, Tally)> {
        let busy = curve * seconds;
        let rates = self.rates;
        let mut entries = Vec::new();
        let mut count = |name: &str, sum: Tally| entries.push((Series::new(Kind::Counter, name), sum));
        count("page_views", whole(self.arrivals(rates.views * busy)));
        let signups = self.arrivals(rates.signups * busy);
        for _ in 0..signups {
            count(&format!("plans.{}", super::plan(&mut self.random)), whole(1));
        }
        let orders = self.arrivals(rates.orders * busy);
        count("signups", whole(signups));
        count("orders", whole(orders));
        for (name, share) in [("revenue", 0.85), ("revenue.usd", 0.15)] {
            // So many orders are close to their mean.
            let mean = 58.0 * (0.9 + 0.2 * self.random.f64());
            let cents = (orders as f64 * share * mean * 100.0).round() as i64;
            count(name, sum(Number::Decimal { mantissa: cents, places: 2 }));
        }
        if self.random.f64() < orders as f64 / 60.0 {
            count("refunds", whole(1));
        }
        let local = self.calendar.local(start);
        let weekday = local.weekday().num_days_from_monday() < 5;
        if weekday && local.minute() < 5 && DEPLOY_HOURS.contains(&local.hour()) {
            count("deploys.shop", whole(1));
        }
        let mut visitors = Unique::default();
        for _ in 0..((rates.views * busy / 80.0) as u32).min(VISITORS_MAX) {
            let visitor = super::visitor(&mut self.random);
            visitors.insert(hash_member(self.salt, visitor.as_bytes()), self.bounds.set_exact_max);
        }
        entries.push((Series::new(Kind::Set, "visitors"), Tally::Set(Box::new(visitors))));
        for (name, count, median, spread) in
            [("checkout.time", orders, 240.0, 0.4), ("page.time", TIMES_MAX, 38.0, 0.5)]
        {
            let mut times = Digest::default();
            for _ in 0..count.min(TIMES_MAX) {
                let time = super::log_normal(&mut self.random, median, spread).round();
                times.record(time, 1.0, 1.0, self.bounds.timer_exact_max);
            }
            entries.push((Series::new(Kind::Timer, name), Tally::Timer(Box::new(times))));
        }
        let carts = (super::usual_carts(curve) + 5.0 * (self.random.f64() - 0.5)).round();
        let order = Order { time: start, producer: PRODUCER, number };
        let carts = Gauge::once(order, Change { set: Some(carts), delta: 0.0 });
        entries.push((Series::new(Kind::Gauge, "carts.open"), Tally::Gauge(carts)));
        entries
    }

    fn arrivals(&mut self, mean: f64) -> u64 {
        super::arrivals(&mut self.random, mean)
    }
}

fn sum(number: Number) -> Tally {
    let mut sum = Sum::ZERO;
    sum.add(number);
    Tally::Counter(sum)
}

fn whole(count: u64) -> Tally {
    Tally::Counter(Sum::from_count(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_in_order_and_ends_now() {
        let history = History {
            calendar: &Calendar::default(),
            rates: Rates::SHOP,
            bounds: Bounds { timer_exact_max: 512, set_exact_max: 256 },
            salt: b"",
            bucket_ms: 10_000,
            random: fastrand::Rng::with_seed(3),
        };
        let now = 1_795_433_521_250;
        let batches: Vec<Batch> = history.until(now).collect();
        assert!((3_000..6_000).contains(&batches.len()), "{}", batches.len());
        assert!(now - batches[batches.len() - 1].bucket < FINE_MS);
        assert!(
            batches.windows(2).all(|two| two[0].bucket < two[1].bucket && two[0].number + 1 == two[1].number)
        );
        assert!(batches.iter().all(|batch| batch.bucket <= now && batch.bucket % 10_000 == 0));
    }
}
