//! Figures that are asked for, which kinds have them, and how they are taken from merged buckets.

use crate::metric::{Kind, Tally};
use std::fmt;

/// What is asked of each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stat {
    /// Events: a counter's sum, a timer's values, a set's members.
    Count,
    /// Count by the second.
    Rate,
    /// Of a counter, of a timer's values, or of what gauges stand at.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The mean.
    Mean,
    /// What a gauge stands at when the step ends.
    Last,
    /// Distinct members.
    Uniques,
    /// The middle value, or the mean of the two in the middle.
    Median,
    /// Standard deviation of the population.
    Std,
    /// The value at a percentile, from 0 to 100, by statsd's rank.
    Percentile(f64),
}

/// Those with a fixed word.
const WORDS: [(&str, Stat); 10] = [
    ("count", Stat::Count),
    ("rate", Stat::Rate),
    ("sum", Stat::Sum),
    ("min", Stat::Min),
    ("max", Stat::Max),
    ("mean", Stat::Mean),
    ("last", Stat::Last),
    ("uniques", Stat::Uniques),
    ("median", Stat::Median),
    ("std", Stat::Std),
];

impl Stat {
    /// Reads a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        if let Some((_, stat)) = WORDS.iter().find(|(own, _)| *own == word) {
            return Some(*stat);
        }
        let digits = word.strip_prefix('p')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent: f64 = digits.parse().ok().filter(|_| plain)?;
        (percent <= 100.0).then_some(Self::Percentile(percent))
    }

    /// What a series of a kind, or a group of them, is asked for where nothing is said.
    #[must_use]
    pub fn default_of(kind: Kind, grouped: bool) -> Self {
        match kind {
            Kind::Counter => Self::Sum,
            Kind::Timer => Self::Mean,
            Kind::Gauge if grouped => Self::Sum,
            Kind::Gauge => Self::Last,
            Kind::Set => Self::Uniques,
        }
    }

    /// Whether series of a kind have this figure.
    #[must_use]
    pub fn fits(self, kind: Kind) -> bool {
        match kind {
            Kind::Counter => matches!(self, Self::Count | Self::Rate | Self::Sum),
            Kind::Timer => !matches!(self, Self::Last | Self::Uniques),
            Kind::Gauge => matches!(self, Self::Last | Self::Sum | Self::Min | Self::Max | Self::Mean),
            Kind::Set => matches!(self, Self::Uniques | Self::Count),
        }
    }

    /// What a kind has, in words.
    #[must_use]
    pub fn choice(kind: Kind) -> &'static str {
        match kind {
            Kind::Counter => "counters have sum, count and rate",
            Kind::Timer => "timers have count, rate, sum, min, max, mean, median, std and p0 to p100",
            Kind::Gauge => "gauges have last, sum, min, max and mean",
            Kind::Set => "sets have uniques and count",
        }
    }

    /// Whether it is 0 where nothing was counted.
    #[must_use]
    pub fn is_zero_of_nothing(self, kind: Kind) -> bool {
        kind != Kind::Gauge && matches!(self, Self::Count | Self::Rate | Self::Sum | Self::Uniques)
    }

    /// The figure of merged buckets that span `seconds`; `None` if nothing was counted.
    pub(crate) fn of_tally(self, tally: &Tally, seconds: f64) -> Option<f64> {
        match tally {
            Tally::Counter(sum) => {
                let sum = sum.to_f64();
                Some(if self == Self::Rate { sum / seconds } else { sum })
            }
            Tally::Timer(digest) => {
                let distribution = digest.distribution()?;
                Some(match self {
                    Self::Count => digest.events(),
                    Self::Rate => digest.events() / seconds,
                    Self::Sum => distribution.sum,
                    Self::Min => distribution.min,
                    Self::Max => distribution.max,
                    Self::Median => distribution.median().clamp(distribution.min, distribution.max),
                    Self::Std => distribution.std(),
                    Self::Percentile(percent) => {
                        let value = distribution.part(percent).map_or(distribution.min, |part| part.boundary);
                        value.clamp(distribution.min, distribution.max)
                    }
                    Self::Mean | Self::Last | Self::Uniques => distribution.mean(),
                })
            }
            Tally::Set(unique) => (!unique.is_empty()).then(|| unique.count() as f64),
            Tally::Gauge(_) => None,
        }
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percent) => write!(f, "p{percent}"),
            other => f.write_str(WORDS.iter().find(|(_, stat)| stat == other).map_or("", |(word, _)| word)),
        }
    }
}

/// What is known of one step of a series or group.
#[derive(Clone, Debug, Default)]
pub(super) enum Part {
    /// Nothing was counted.
    #[default]
    Nothing,
    /// Merged buckets.
    Merged(Tally),
    /// Of gauges.
    Gauges(Gauges),
}

/// The values of gauges in a step: what each stood at when each of its buckets ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauges {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    /// What all of them together stand at when the step ends.
    standing: f64,
}

impl Part {
    /// A bucket of a gauge ended at `value`.
    pub(super) fn gauge(&mut self, value: f64) {
        match self {
            Self::Gauges(gauges) => {
                gauges.count += 1;
                gauges.sum += value;
                gauges.min = gauges.min.min(value);
                gauges.max = gauges.max.max(value);
            }
            other => {
                *other = Self::Gauges(Gauges { count: 1, sum: value, min: value, max: value, standing: 0.0 });
            }
        }
    }

    /// When the step ends, one of its gauges stands at `value`.
    pub(super) fn stands(&mut self, value: f64) {
        if let Self::Gauges(gauges) = self {
            gauges.standing += value;
        }
    }

    /// The figure of a step that spans `seconds`.
    pub(super) fn figure(&self, stat: Stat, seconds: f64) -> Option<f64> {
        match self {
            Self::Nothing => None,
            Self::Merged(tally) => stat.of_tally(tally, seconds),
            Self::Gauges(gauges) => Some(match stat {
                Stat::Min => gauges.min,
                Stat::Max => gauges.max,
                Stat::Mean => gauges.sum / gauges.count as f64,
                _ => gauges.standing,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_as_they_went_in() {
        for word in ["count", "rate", "sum", "min", "max", "mean", "last", "uniques", "median", "std"] {
            assert_eq!(Stat::parse(word).unwrap().to_string(), word);
        }
        for word in ["p0", "p50", "p99.9", "p100"] {
            assert_eq!(Stat::parse(word).unwrap().to_string(), word);
        }
        for word in ["", "p", "p-1", "p101", "p1e1", "pnan", "upper_90", "P99", "avg", "p+5", "p."] {
            assert_eq!(Stat::parse(word), None, "{word}");
        }
    }

    #[test]
    fn every_kind_has_its_default() {
        for kind in Kind::ALL {
            assert!(Stat::default_of(kind, false).fits(kind) && Stat::default_of(kind, true).fits(kind));
        }
    }
}
