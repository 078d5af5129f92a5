//! Timers: a distribution kept exactly up to a bound, and as a sketch beyond it.
//!
//! Below the bound every figure of statsd is exact; above it quantiles are within 1 %. A value sampled at a
//! rate weighs 1/rate in everything; in statsd's dialect it weighs one and only the count knows the rate,
//! which the caller says by recording it so. [`Distribution`] is what figures are computed from.

use super::Malformed;
use super::sketch::Sketch;
use super::sum::{MANTISSA_MAX, Number, Sum};

/// A distribution of measured values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    /// Values that stand for one event each.
    single: u64,
    /// Sum of 1/rate of the others.
    sampled: Sum,
    body: Body,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    /// Values as they came; `weights` is empty while all of them are one.
    Exact {
        values: Vec<f64>,
        weights: Vec<f64>,
    },
    Sketch(Box<Sketch>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Exact { values: Vec::new(), weights: Vec::new() }
    }
}

/// What a digest keeps of its values.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The values as they came, and their weights, which are none at all while each is one.
    Exact(&'a [f64], &'a [f64]),
    /// A sketch of them.
    Sketch(&'a Sketch),
}

impl Digest {
    /// A digest of values as they came, of which `single` stand for one event each and the others for `sampled`
    /// together; `weights` are as many, or none where each is one.
    pub fn exact(single: u64, sampled: Sum, values: Vec<f64>, weights: Vec<f64>) -> Result<Self, Malformed> {
        if single > values.len() as u64 {
            return Err(Malformed("more events than values"));
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Malformed("a value that is not finite"));
        }
        if !weights.is_empty() && weights.len() != values.len() {
            return Err(Malformed("weights without values"));
        }
        if !weights.iter().all(|weight| weight.is_finite() && *weight > 0.0) {
            return Err(Malformed("a weight that is not positive"));
        }
        Ok(Self { single, sampled, body: Body::Exact { values, weights } })
    }

    /// A digest of a sketch.
    pub fn sketched(single: u64, sampled: Sum, sketch: Sketch) -> Result<Self, Malformed> {
        // So that adding a few of them cannot overflow; no timer gets there.
        if single > MANTISSA_MAX {
            return Err(Malformed("more events than can be counted"));
        }
        Ok(Self { single, sampled, body: Body::Sketch(Box::new(sketch)) })
    }

    /// What it keeps of its values.
    #[must_use]
    pub fn content(&self) -> Content<'_> {
        match &self.body {
            Body::Exact { values, weights } => Content::Exact(values, weights),
            Body::Sketch(sketch) => Content::Sketch(sketch),
        }
    }

    /// How many values stand for one event each, and how many events the others stand for.
    #[must_use]
    pub fn counts(&self) -> (u64, &Sum) {
        (self.single, &self.sampled)
    }

    /// Adds a finite value which stands for `events` events and weighs `weight` in the distribution; beyond
    /// `exact_max` values a sketch takes over.
    #[inline]
    pub fn record(&mut self, value: f64, events: f64, weight: f64, exact_max: usize) {
        if events == 1.0 {
            self.single += 1;
        } else {
            self.sampled.add_weighted(Number::Decimal { mantissa: 1, places: 0 }, events);
        }
        match &mut self.body {
            Body::Exact { values, weights } if values.len() < exact_max => {
                if weight != 1.0 || !weights.is_empty() {
                    weights.resize(values.len(), 1.0);
                    weights.push(weight);
                }
                values.push(value);
            }
            Body::Sketch(sketch) => sketch.add(value, weight),
            Body::Exact { .. } => self.sketch().add(value, weight),
        }
    }

    /// Adds finite values which stand for one event each and weigh one: what [`Digest::record`] would make of
    /// them one by one, but quicker.
    pub fn record_all(&mut self, more: &[f64], exact_max: usize) {
        self.single += more.len() as u64;
        match &mut self.body {
            Body::Exact { values, weights } if values.len() + more.len() <= exact_max => {
                values.extend_from_slice(more);
                if !weights.is_empty() {
                    weights.resize(values.len(), 1.0);
                }
            }
            Body::Sketch(sketch) => sketch.add_all(more),
            Body::Exact { .. } if more.is_empty() => {}
            Body::Exact { .. } => self.sketch().add_all(more),
        }
    }

    /// Adds all that another digest holds.
    pub fn merge(&mut self, other: Self, exact_max: usize) {
        self.single += other.single;
        self.sampled.merge(&other.sampled);
        match (&mut self.body, other.body) {
            (Body::Exact { values, weights }, Body::Exact { values: more, weights: more_weights })
                if values.len() + more.len() <= exact_max =>
            {
                if !(weights.is_empty() && more_weights.is_empty()) {
                    weights.resize(values.len(), 1.0);
                    weights.extend(&more_weights);
                    weights.resize(values.len() + more.len(), 1.0);
                }
                if values.is_empty() { *values = more } else { values.extend(more) }
            }
            (_, Body::Exact { values, weights }) => {
                let sketch = self.sketch();
                for (value, weight) in pairs(&values, &weights) {
                    sketch.add(value, weight);
                }
            }
            (_, Body::Sketch(more)) => self.sketch().merge(&more),
        }
    }

    /// The body as a sketch, which it becomes if it is not one yet.
    fn sketch(&mut self) -> &mut Sketch {
        if let Body::Exact { values, weights } = &self.body {
            let mut sketch = Box::new(Sketch::default());
            for (value, weight) in pairs(values, weights) {
                sketch.add(value, weight);
            }
            self.body = Body::Sketch(sketch);
        }
        match &mut self.body {
            Body::Sketch(sketch) => sketch,
            Body::Exact { .. } => unreachable!("the body was made a sketch above"),
        }
    }

    /// Takes what is there and leaves an empty digest.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Takes a copy of what is there and leaves an empty digest that keeps its memory.
    #[must_use]
    pub fn copy_out(&mut self) -> Self {
        match &mut self.body {
            Body::Exact { values, weights } => {
                let body = Body::Exact { values: values.clone(), weights: weights.clone() };
                values.clear();
                weights.clear();
                Self {
                    single: std::mem::take(&mut self.single),
                    sampled: std::mem::take(&mut self.sampled),
                    body,
                }
            }
            Body::Sketch(_) => self.take(),
        }
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.body, Body::Exact { values, .. } if values.is_empty())
    }

    /// How many events there were: the sum of 1/rate.
    #[must_use]
    pub fn events(&self) -> f64 {
        let mut events = Sum::from_count(self.single);
        events.merge(&self.sampled);
        events.to_f64()
    }

    /// The values in the order they came, while they are kept exactly.
    #[must_use]
    pub fn values(&self) -> Option<&[f64]> {
        match &self.body {
            Body::Exact { values, .. } => Some(values),
            Body::Sketch(_) => None,
        }
    }

    /// What figures are computed from; `None` if nothing was recorded.
    #[must_use]
    pub fn distribution(&self) -> Option<Distribution> {
        match &self.body {
            Body::Exact { values, .. } if values.is_empty() => None,
            Body::Exact { values, weights } => {
                let mut points: Vec<_> = pairs(values, weights).collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
                let sum = points.iter().map(|(value, weight)| value * weight).sum();
                let sum_squares = points.iter().map(|(value, weight)| value * value * weight).sum();
                Some(Distribution::new(points, sum, sum_squares))
            }
            Body::Sketch(sketch) => Some(
                Distribution::new(sketch.points(), sketch.sum(), sketch.sum_squares())
                    .between(sketch.min(), sketch.max()),
            ),
        }
    }

    /// Bytes it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.body {
                Body::Exact { values, weights } => 8 * (values.capacity() + weights.capacity()),
                Body::Sketch(sketch) => sketch.bytes(),
            }
    }
}

fn pairs<'a>(values: &'a [f64], weights: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    values.iter().copied().zip(weights.iter().copied().chain(std::iter::repeat(1.0)))
}

/// A distribution, sorted: values with their weights, and the sums over all of them.
#[derive(Clone, Debug)]
pub struct Distribution {
    points: Vec<(f64, f64)>,
    /// Total weight.
    pub weight: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Weighted sum.
    pub sum: f64,
    /// Weighted sum of squares.
    pub sum_squares: f64,
}

/// The part of a distribution on one side of a percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Weight inside.
    pub weight: f64,
    /// The value at the percentile.
    pub boundary: f64,
    /// Weighted sum inside.
    pub sum: f64,
    /// Weighted sum of squares inside.
    pub sum_squares: f64,
}

impl Distribution {
    fn new(points: Vec<(f64, f64)>, sum: f64, sum_squares: f64) -> Self {
        let weight = points.iter().map(|(_, weight)| weight).sum();
        let (min, max) =
            (points.first().map_or(0.0, |point| point.0), points.last().map_or(0.0, |point| point.0));
        Self { points, weight, min, max, sum, sum_squares }
    }

    fn between(mut self, min: f64, max: f64) -> Self {
        (self.min, self.max) = (min, max);
        self
    }

    /// Mean of all values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    /// Standard deviation of the population.
    #[must_use]
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 =
            self.points.iter().map(|(value, weight)| (value - mean) * (value - mean) * weight).sum();
        (squares / self.weight).sqrt()
    }

    /// The middle value, or the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        let half = self.weight / 2.0;
        let mut below = 0.0;
        for (at, (value, weight)) in self.points.iter().enumerate() {
            below += weight;
            if below > half {
                return *value;
            }
            if below == half {
                return self.points.get(at + 1).map_or(*value, |next| f64::midpoint(*value, next.0));
            }
        }
        self.max
    }

    /// statsd's percentile: above zero the lowest `percent` of the values and the largest of them, below
    /// zero the highest and the smallest of them. `None` where that share rounds to nothing.
    #[must_use]
    pub fn part(&self, percent: f64) -> Option<Part> {
        let share = if self.points.len() == 1 {
            self.weight
        } else {
            (percent.abs() / 100.0 * self.weight + 0.5).floor()
        };
        if share <= 0.0 {
            return None;
        }
        if percent > 0.0 {
            Some(take(self.points.iter(), share))
        } else {
            Some(take(self.points.iter().rev(), share))
        }
    }

    /// Weight of the values from where `from` points to below `bound`; moves `from` there. Bounds ascend.
    pub fn weight_below(&self, bound: f64, from: &mut usize) -> f64 {
        let mut inside = 0.0;
        while let Some((value, weight)) = self.points.get(*from) {
            if *value >= bound {
                break;
            }
            inside += weight;
            *from += 1;
        }
        inside
    }
}

/// Sums the first `share` of the weight; a value on the border counts in part.
fn take<'a>(points: impl Iterator<Item = &'a (f64, f64)>, share: f64) -> Part {
    let mut part = Part { weight: 0.0, boundary: 0.0, sum: 0.0, sum_squares: 0.0 };
    for &(value, weight) in points {
        let inside = weight.min(share - part.weight);
        // Fractional weights add up with an error; a remainder that small is nobody's.
        if inside <= share * 1e-12 {
            break;
        }
        part.weight += inside;
        part.sum += value * inside;
        part.sum_squares += value * value * inside;
        part.boundary = value;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(values: &[f64], exact_max: usize) -> Digest {
        let mut digest = Digest::default();
        for &value in values {
            digest.record(value, 1.0, 1.0, exact_max);
        }
        digest
    }

    #[test]
    fn statsd_s_figures_of_a_small_timer() {
        let distribution = digest(&[30.0, 10.0, 20.0, 40.0, 50.0], 512).distribution().unwrap();
        assert_eq!((distribution.min, distribution.max, distribution.sum), (10.0, 50.0, 150.0));
        assert_eq!((distribution.mean(), distribution.median()), (30.0, 30.0));
        assert!((distribution.std() - 200.0_f64.sqrt()).abs() < 1e-12);
        let part = distribution.part(80.0).unwrap();
        assert_eq!((part.weight, part.boundary, part.sum), (4.0, 40.0, 100.0));
        let part = distribution.part(-40.0).unwrap();
        assert_eq!((part.weight, part.boundary, part.sum), (2.0, 40.0, 90.0));
        assert!(distribution.part(5.0).is_none());
        assert_eq!(digest(&[7.0], 512).distribution().unwrap().part(0.0).unwrap().boundary, 7.0);
        let both = digest(&[1.0, 2.0], 512).distribution().unwrap();
        assert_eq!(both.part(-90.0).unwrap().sum, 3.0);
        assert_eq!(both.median(), 1.5);
    }

    #[test]
    fn sampled_values_weigh_what_they_stand_for() {
        let mut sampled = Digest::default();
        sampled.record(10.0, 1.0, 1.0, 512);
        sampled.record(100.0, 10.0, 10.0, 512);
        assert_eq!(sampled.events(), 11.0);
        let distribution = sampled.distribution().unwrap();
        assert_eq!((distribution.sum, distribution.median()), (1_010.0, 100.0));
        assert_eq!(distribution.part(50.0).unwrap().boundary, 100.0);
    }

    #[test]
    fn a_sketch_takes_over_beyond_the_bound() {
        let values: Vec<f64> = (1..=2_000).map(f64::from).collect();
        let sketched = digest(&values, 512);
        assert!(sketched.values().is_none());
        let distribution = sketched.distribution().unwrap();
        assert_eq!((distribution.min, distribution.max, distribution.sum), (1.0, 2_000.0, 2_001_000.0));
        assert_eq!(distribution.weight, 2_000.0);
        for percent in [1.0, 50.0, 90.0, 99.0] {
            let truth = 2_000.0 * percent / 100.0;
            let shown = distribution.part(percent).unwrap().boundary;
            assert!((shown / truth - 1.0).abs() <= 0.0101, "{percent}: {shown} for {truth}");
        }
    }
}
