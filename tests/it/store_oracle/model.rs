//! A store that keeps every sample in a list and works everything out when it is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tallyd::calendar::Span;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Bounds, Class, Digest, Gauge, Kind, Ladder, Number, Series, Sum, Tally, Unique};
use tallyd::store::{Idle, IdleRules};

/// What one sample says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// Hundredths.
    Count(i64),
    Time(f64),
    Change(Order, Change),
    Member(u64),
}

/// A sample of a series, by its number in the world's list.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) series: usize,
    pub(crate) bucket: i64,
    pub(crate) what: What,
    /// It is in a sealed bucket.
    pub(crate) sealed: bool,
}

/// A batch before it is one of the store's.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) producer: u128,
    pub(crate) number: u64,
    pub(crate) bucket: i64,
    pub(crate) samples: Vec<(usize, What)>,
}

impl Said {
    pub(crate) fn batch(&self, all: &[(Series, Class)], bounds: &Bounds) -> tallyd::store::Batch {
        let entry = |(series, what): &(usize, What)| {
            (all[*series].0.clone(), tally(all[*series].0.kind(), [what], bounds))
        };
        let entries = self.samples.iter().map(entry).collect();
        let Self { producer, number, bucket, .. } = *self;
        tallyd::store::Batch { producer, number, bucket, entries }
    }
}

/// The tally of some samples.
pub(crate) fn tally<'a>(kind: Kind, samples: impl IntoIterator<Item = &'a What>, bounds: &Bounds) -> Tally {
    let mut sum = Sum::ZERO;
    let (mut digest, mut set, mut gauge) = (Digest::default(), Unique::default(), Gauge::default());
    for what in samples {
        match what {
            What::Count(mantissa) => sum.add(Number::Decimal { mantissa: *mantissa, places: 2 }),
            What::Time(value) => digest.record(*value, 1.0, 1.0, bounds.timer_exact_max),
            What::Change(order, change) => gauge.merge(Gauge::once(*order, *change)),
            What::Member(member) => {
                set.insert(hash_member(b"", &member.to_le_bytes()), bounds.set_exact_max);
            }
        }
    }
    match kind {
        Kind::Counter => Tally::Counter(sum),
        Kind::Gauge => Tally::Gauge(gauge),
        Kind::Timer => Tally::Timer(Box::new(digest)),
        Kind::Set => Tally::Set(Box::new(set)),
    }
}

/// What a sealed bucket says of a series beside its samples.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    pub(crate) before: Option<f64>,
    /// It was idle, and these are the samples of what it keeps.
    pub(crate) idle: Option<Vec<What>>,
    /// It is there or it is not: the series came back in a later bucket, and may have been let go for good before.
    pub(crate) perhaps: bool,
}

#[derive(Clone, Debug)]
struct Known {
    live: bool,
    born: i64,
    /// The bucket by which it was live again after it had been forgotten.
    revived: i64,
    active: i64,
    idle_buckets: u32,
    carried: Option<f64>,
    kept: Vec<What>,
    /// A gauge's changes since it was last forgotten.
    changes: Vec<(Order, Change)>,
    /// A set came late, and what was added after it in time had come before: the store cannot know the present
    /// value from then on, until it is set again.
    unsure: bool,
}

impl Known {
    fn forget(&mut self) {
        (self.live, self.carried, self.unsure) = (false, None, false);
        self.kept.clear();
        self.changes.clear();
    }
}

/// The naive store. A crash is an older copy of it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) all: Vec<(Series, Class)>,
    pub(crate) idle: IdleRules,
    pub(crate) samples: Vec<Sample>,
    pub(crate) sealed: BTreeMap<i64, BTreeMap<usize, Stated>>,
    pub(crate) out: Vec<BTreeSet<i64>>,
    pub(crate) watermarks: HashMap<u128, u64>,
    pending: BTreeSet<i64>,
    known: HashMap<usize, Known>,
    width: i64,
    /// The latest moment of a fold, and what is kept of the finest buckets since.
    pub(crate) latest: i64,
    pub(crate) oldest: i64,
}

/// What a bucket should read as.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) span: Span,
    pub(crate) samples: Vec<What>,
    /// Of a gauge: the values it took, in order.
    pub(crate) values: Vec<f64>,
}

fn composed(before: Option<f64>, mut changes: Vec<(Order, Change)>) -> Vec<f64> {
    changes.sort_by_key(|(order, _)| *order);
    let mut value = before;
    let each = |(_, change): (Order, Change)| {
        value = Some(change.apply(value));
        value.unwrap()
    };
    changes.into_iter().map(each).collect()
}

impl Model {
    pub(crate) fn new(all: Vec<(Series, Class)>, idle: IdleRules, width: i64, destinations: usize) -> Self {
        Self {
            all,
            idle,
            samples: Vec::new(),
            sealed: BTreeMap::new(),
            out: vec![BTreeSet::new(); destinations],
            watermarks: HashMap::new(),
            pending: BTreeSet::new(),
            known: HashMap::new(),
            width,
            latest: i64::MIN,
            oldest: i64::MIN,
        }
    }

    pub(crate) fn apply(&mut self, said: &Said) {
        self.watermarks.insert(said.producer, said.number);
        self.pending.insert(said.bucket);
        for (series, what) in &said.samples {
            self.note(*series, said.bucket, what);
            let (series, bucket, what) = (*series, said.bucket, what.clone());
            self.samples.push(Sample { series, bucket, what, sealed: false });
        }
    }

    fn note(&mut self, series: usize, bucket: i64, what: &What) {
        let known = self.known.entry(series).or_insert_with(|| Known {
            live: false,
            born: bucket,
            revived: i64::MIN,
            active: bucket,
            idle_buckets: 0,
            carried: None,
            kept: Vec::new(),
            changes: Vec::new(),
            unsure: false,
        });
        if !known.live {
            (known.live, known.idle_buckets, known.revived) = (true, 0, bucket);
        }
        known.born = known.born.min(bucket);
        known.active = known.active.max(bucket);
        if let What::Change(order, change) = what {
            let later = || known.changes.iter().filter(|(other, _)| other > order);
            if change.set.is_some() && later().all(|(_, later)| later.set.is_none()) {
                known.unsure = later().next().is_some();
            }
            known.changes.push((*order, *change));
        }
    }

    pub(crate) fn fold(&mut self, due: i64, now: i64) -> (u64, u64) {
        self.latest = self.latest.max(now);
        let due: Vec<i64> = self.pending.range(..=due - self.width).copied().collect();
        let (mut sealed, mut amended) = (0, 0);
        for bucket in due {
            self.pending.remove(&bucket);
            if self.sealed.contains_key(&bucket) {
                amended += 1;
            } else {
                sealed += 1;
                self.seal(bucket);
            }
            let stated = self.sealed.get_mut(&bucket).unwrap();
            for sample in self.samples.iter_mut().filter(|sample| sample.bucket == bucket) {
                sample.sealed = true;
                stated
                    .entry(sample.series)
                    .or_insert(Stated { before: None, idle: None, perhaps: false })
                    .idle = None;
            }
            for out in &mut self.out {
                out.insert(bucket);
            }
        }
        (sealed, amended)
    }

    fn seal(&mut self, bucket: i64) {
        let in_order = self.sealed.last_key_value().is_none_or(|(last, _)| *last < bucket);
        let mut stated = BTreeMap::new();
        for series in 0..self.all.len() {
            let counted = self.of(series, bucket, true);
            let before = self.before(series, bucket);
            let kind = self.all[series].0.kind();
            let Some(known) = self.known.get_mut(&series).filter(|known| known.live) else {
                continue;
            };
            if !counted.is_empty() {
                if in_order {
                    known.idle_buckets = 0;
                    if kind == Kind::Gauge {
                        known.carried = composed(before, changes(&counted)).last().copied();
                    } else if self.idle.of(kind) == Idle::Keep {
                        known.kept = counted;
                    }
                }
                stated.insert(series, Stated { before, idle: None, perhaps: false });
            } else if in_order && known.born < bucket {
                let later = known.active > bucket;
                known.idle_buckets += u32::from(!later);
                let rule = self.idle.of(kind);
                let gone = match kind {
                    Kind::Gauge => rule == Idle::Drop && known.idle_buckets >= self.idle.gauges_ttl,
                    _ => rule == Idle::Drop,
                };
                if gone {
                    if !later {
                        known.forget();
                    }
                    continue;
                }
                let before = match (kind, rule) {
                    (Kind::Gauge, Idle::Zero) => Some(0.0),
                    (Kind::Gauge, _) => known.carried,
                    _ => None,
                };
                let keeps = kind != Kind::Gauge && rule == Idle::Keep;
                let kept = if keeps { known.kept.clone() } else { Vec::new() };
                let perhaps = known.revived > bucket;
                stated.insert(series, Stated { before, idle: Some(kept), perhaps });
            }
        }
        self.sealed.insert(bucket, stated);
    }

    /// The samples of a series in a bucket, those of a sealed one that are in it and perhaps the others.
    pub(crate) fn of(&self, series: usize, bucket: i64, all: bool) -> Vec<What> {
        let of = |one: &&Sample| one.series == series && one.bucket == bucket && (all || one.sealed);
        self.samples.iter().filter(of).map(|one| one.what.clone()).collect()
    }

    /// Where a gauge stood before a bucket; not a number where that cannot be known.
    fn before(&self, series: usize, bucket: i64) -> Option<f64> {
        if self.all[series].0.kind() != Kind::Gauge {
            return None;
        }
        if let Some(stated) = self.sealed.get(&bucket) {
            return stated.get(&series).and_then(|stated| stated.before);
        }
        let newest = self.sealed.last_key_value().map_or(i64::MIN, |(last, _)| *last);
        if bucket < newest {
            // Between sealed buckets: where it stood at the end of the one before.
            let (&earlier, stated) = self.sealed.range(..bucket).next_back()?;
            if earlier < self.oldest {
                // That may be gone, and then nobody knows.
                return Some(f64::NAN);
            }
            let before = stated.get(&series)?.before;
            let values = composed(before, changes(&self.of(series, earlier, false)));
            return values.last().copied().or(before);
        }
        let mut value = self.known.get(&series)?.carried;
        for &earlier in self.pending.range(..bucket).filter(|&&earlier| earlier > newest) {
            value = composed(value, changes(&self.of(series, earlier, true))).last().copied().or(value);
        }
        value
    }

    pub(crate) fn forget(&mut self, kind: Kind, matches: impl Fn(&str) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        for (number, (series, _)) in self.all.iter().enumerate() {
            let Some(known) = self.known.get_mut(&number) else { continue };
            if series.kind() != kind || !known.live || !matches(series.key()) {
                continue;
            }
            gone.push(series.key().to_owned());
            known.forget();
            let Self { samples, sealed, .. } = self;
            samples.retain(|one| one.series != number || sealed.contains_key(&one.bucket));
        }
        gone.sort();
        gone
    }

    pub(crate) fn live(&self) -> usize {
        self.known.values().filter(|known| known.live).count()
    }

    /// Live gauges with their values, as far as a store can know them.
    #[expect(clippy::option_option, reason = "the outer one is whether a store can know it")]
    pub(crate) fn present(&self) -> BTreeMap<String, Option<Option<f64>>> {
        let mut present = BTreeMap::new();
        for (number, known) in self.known.iter().filter(|(_, known)| known.live) {
            let (series, _) = &self.all[*number];
            if series.kind() == Kind::Gauge {
                let value = composed(None, known.changes.clone()).last().copied();
                present.insert(series.key().to_owned(), (!known.unsure).then_some(value));
            }
        }
        present
    }

    /// Marks what a strike takes off.
    pub(crate) fn strike(&mut self, destination: usize, bucket: i64) {
        self.out[destination].remove(&bucket);
    }

    pub(crate) fn state_again(&mut self, destination: usize, buckets: &[i64]) {
        self.out[destination].extend(buckets);
    }

    /// The buckets of a series at a level that overlap `[from, to)`.
    pub(crate) fn read(
        &self,
        ladder: &Ladder,
        series: usize,
        level: usize,
        from: i64,
        to: i64,
    ) -> Vec<Expected> {
        let kind = self.all[series].0.kind();
        let mut starts: BTreeSet<i64> =
            self.samples.iter().filter(|one| one.series == series).map(|one| one.bucket).collect();
        if kind == Kind::Gauge {
            let idle = |(_, of): &(&i64, &BTreeMap<usize, Stated>)| {
                of.get(&series).is_some_and(|stated| stated.before.is_some())
            };
            starts.extend(self.sealed.iter().filter(idle).map(|(start, _)| *start));
        }
        let mut found: BTreeMap<i64, Expected> = BTreeMap::new();
        for start in starts {
            let span = ladder.span_of(level, start);
            if span.end <= from || span.start >= to {
                continue;
            }
            let samples = self.of(series, start, true);
            let mut values = Vec::new();
            if kind == Kind::Gauge {
                let before = self.before(series, start);
                values = composed(before, changes(&samples));
                if samples.is_empty() {
                    let perhaps =
                        self.sealed.get(&start).and_then(|of| of.get(&series)).is_some_and(|one| one.perhaps);
                    values.extend(if perhaps { Some(f64::NAN) } else { before });
                }
            }
            let one = Expected { span, samples: Vec::new(), values: Vec::new() };
            let one = found.entry(span.start).or_insert(one);
            one.samples.extend(samples);
            one.values.extend(values);
        }
        found.into_values().collect()
    }

    /// Distinct members among samples.
    pub(crate) fn members(samples: &[What]) -> HashSet<u64> {
        let hash = |what: &What| match what {
            What::Member(member) => Some(hash_member(b"", &member.to_le_bytes())),
            _ => None,
        };
        samples.iter().filter_map(hash).collect()
    }
}

pub(crate) fn changes(samples: &[What]) -> Vec<(Order, Change)> {
    let change = |what: &What| match what {
        What::Change(order, change) => Some((*order, *change)),
        _ => None,
    };
    samples.iter().filter_map(change).collect()
}
