//! Questions about what is stored, against a naive store: every sample in a list, looked through for each answer.
//!
//! Batches with random samples go into the store and into the list; then random questions are put to both. What
//! is exact must be equal, sketched percentiles within 1 %, estimated uniques within 3 %. `TALLYD_TEST_LONG=N`
//! plays N times as many rounds.

mod limits;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tallyd::calendar::Calendar;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::ladder::Step;
use tallyd::metric::unique::{Unique, hash_member};
use tallyd::metric::{Bounds, Digest, Gauge, Kind, Ladder, Number, Series, Sum, Tally, Width};
use tallyd::query::{Answer, Asked, Line, Num, Problem, QueryError, answer};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Idle, IdleRules, Store};

const WIDTH: i64 = 10_000;
/// Monday, 23 November 2026, 00:00 UTC.
const START: i64 = 1_795_392_000_000;
/// Timers are sketched early, so that many are. Of fewer than some 250 members an estimate may miss 3 % by a
/// handful of hashes that fall together.
const BOUNDS: Bounds = Bounds { timer_exact_max: 64, set_exact_max: 256 };
/// Rounds of one store each; with what a round does this makes 100,000 operations.
const ROUNDS: u64 = 20;
const SAMPLES: usize = 4_850;
const QUESTIONS: usize = 150;
/// How far a round goes, in buckets.
const BUCKETS: i64 = 240;

/// Every store, empty.
fn stores() -> Vec<(&'static str, Arc<dyn Store>)> {
    let idle = IdleRules {
        counters: Idle::Zero,
        timers: Idle::Zero,
        sets: Idle::Zero,
        gauges: Idle::Keep,
        gauges_ttl: 1,
        after_ms: None,
    };
    let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
    let keep = [step(60, 7 * 86_400_000), step(900, 90 * 86_400_000), step(86_400, 365 * 86_400_000)];
    let rules = |keep: &[Step]| Rules {
        ladder: Ladder::new(Width::from_ms(WIDTH as u64), keep, &[], 3_600_000, Calendar::default()),
        bounds: BOUNDS,
        bytes_max: usize::MAX,
        destinations: Vec::new(),
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    };
    let store = |keep: &[Step]| Arc::new(EmbeddedStore::in_memory(rules(keep), idle.clone()));
    vec![("one level", store(&[])), ("a ladder", store(&keep))]
}

fn pairs(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn ask(store: &dyn Store, now: i64, parameters: &[(&str, &str)]) -> Result<Answer, Problem> {
    let asked = Asked::read(&pairs(parameters), now, store.ladder().calendar())?;
    answer(store, &asked, now).map_err(|error| match error {
        QueryError::Asked(problem) => problem,
        QueryError::Store(error) => panic!("{error}"),
    })
}

/// One sample as the naive store keeps it.
#[derive(Clone, Debug)]
struct Sample {
    kind: Kind,
    name: &'static str,
    plan: Option<&'static str>,
    country: &'static str,
    bucket: i64,
    /// A counter's and a timer's value in cents, a gauge's new value, a set's member.
    value: i64,
    order: u64,
}

impl Sample {
    fn key(&self) -> String {
        let plan = self.plan.map_or(String::new(), |plan| format!(";plan={plan}"));
        format!("{};country={}{plan}", self.name, self.country)
    }

    fn tag(&self, tag: &str) -> Option<&str> {
        match tag {
            "name" => Some(self.name),
            "plan" => self.plan,
            "country" => Some(self.country),
            _ => None,
        }
    }

    fn entry(&self) -> (Series, Tally) {
        let mut tally = Tally::empty(self.kind);
        match &mut tally {
            Tally::Counter(sum) => {
                let mut more = Sum::ZERO;
                more.add(Number::Decimal { mantissa: self.value, places: 2 });
                sum.merge(&more);
            }
            Tally::Gauge(gauge) => {
                let order = Order { time: self.bucket, producer: 1, number: self.order };
                *gauge = Gauge::once(order, Change { set: Some(self.value as f64), delta: 0.0 });
            }
            Tally::Timer(digest) => {
                let mut more = Digest::default();
                more.record(self.value as f64 / 100.0, 1.0, 1.0, BOUNDS.timer_exact_max);
                **digest = more;
            }
            Tally::Set(unique) => {
                let mut more = Unique::default();
                more.insert(hash_member(b"", &self.value.to_le_bytes()), BOUNDS.set_exact_max);
                **unique = more;
            }
        }
        (Series::new(self.kind, &self.key()), tally)
    }
}

const NAMES: [(&str, Kind); 7] = [
    ("shop.signups", Kind::Counter),
    ("shop.de.orders", Kind::Counter),
    ("shop.fr.orders", Kind::Counter),
    ("web.time", Kind::Timer),
    ("web.visitors", Kind::Set),
    ("carts", Kind::Gauge),
    // One name of two kinds.
    ("carts", Kind::Counter),
];

fn sample(random: &mut StdRng, bucket: i64, order: u64) -> Sample {
    let (name, kind) = *NAMES.choose(random).unwrap();
    Sample {
        kind,
        name,
        plan: *[None, Some("free"), Some("pro")].choose(random).unwrap(),
        country: ["de", "fr"].choose(random).unwrap(),
        bucket,
        value: match kind {
            Kind::Counter => random.random_range(-500..10_000),
            Kind::Timer => random.random_range(1..100_000),
            Kind::Gauge => random.random_range(-50..50),
            Kind::Set => random.random_range(0..2_000),
        },
        order,
    }
}

/// Feeds samples into a store, folding as time goes by; ends within the last bucket, where each gauge is set once
/// more. Some samples come late.
fn feed(store: &dyn Store, random: &mut StdRng) -> (Vec<Sample>, i64) {
    let (mut samples, mut batches) = (Vec::new(), 0);
    for at in 0..BUCKETS {
        let bucket = START + at * WIDTH;
        let now = bucket + 4_000;
        store.fold(bucket, bucket).unwrap();
        // Some stretches are almost silent: our own counters, at least, come in every bucket.
        let count = if at % 60 > 50 { 1 } else { SAMPLES * 6 / 5 / BUCKETS as usize };
        let mut fresh: Vec<Sample> =
            (0..count).map(|n| sample(random, bucket, (at * 10_000 + n as i64) as u64)).collect();
        for late in fresh.iter_mut().filter(|sample| sample.kind != Kind::Gauge) {
            if count > 1 && random.random_bool(0.1) {
                late.bucket = (bucket - random.random_range(0..30) * WIDTH).max(START);
            }
        }
        if at == BUCKETS - 1 {
            let gauges: BTreeMap<String, Sample> = samples
                .iter()
                .filter(|sample: &&Sample| sample.kind == Kind::Gauge)
                .map(|sample| (sample.key(), sample.clone()))
                .collect();
            let last = gauges.into_values().map(|sample| Sample { bucket, order: u64::MAX >> 1, ..sample });
            fresh.extend(last);
        }
        let buckets: BTreeSet<i64> = fresh.iter().map(|sample| sample.bucket).collect();
        for bucket in buckets {
            batches += 1;
            let entries = fresh.iter().filter(|sample| sample.bucket == bucket).map(Sample::entry).collect();
            let batch = Batch { producer: 1, number: batches, bucket, entries };
            assert_eq!(store.apply(batch, now).unwrap(), Applied::Done);
        }
        samples.extend(fresh);
    }
    (samples, START + (BUCKETS - 1) * WIDTH + 5_000)
}

/// A question in both forms.
struct Question {
    pattern: &'static str,
    means: fn(&Sample) -> bool,
    from: i64,
    to: i64,
    step: Option<i64>,
    stat: Option<&'static str>,
    by: Option<Vec<&'static str>>,
    zero: bool,
}

/// A pattern, and what it means.
type Meaning = (&'static str, fn(&Sample) -> bool);

const PATTERNS: [Meaning; 12] = [
    ("**", |_| true),
    ("*", |sample| sample.name == "carts"),
    ("carts", |sample| sample.name == "carts"),
    ("shop.*", |sample| sample.name == "shop.signups"),
    ("shop.*.orders", |sample| sample.name.ends_with(".orders")),
    ("shop.{de,fr}.orders;plan=pro", |s| s.name.ends_with(".orders") && s.plan == Some("pro")),
    ("shop.**;country!=de", |sample| sample.name.starts_with("shop.") && sample.country != "de"),
    ("web.ti??", |sample| sample.name == "web.time"),
    ("web.*;plan=", |sample| sample.name.starts_with("web.") && sample.plan.is_none()),
    ("web.visitors;plan=*", |sample| sample.name == "web.visitors" && sample.plan.is_some()),
    ("[s-w]*.**;plan!=pro", |sample| sample.name != "carts" && sample.plan != Some("pro")),
    ("nothing", |_| false),
];

const STATS: [&str; 14] = [
    "count", "rate", "sum", "min", "max", "mean", "last", "uniques", "median", "std", "p0", "p50", "p99.9",
    "p100",
];

fn question(random: &mut StdRng, now: i64) -> Question {
    let (pattern, means) = *PATTERNS.choose(random).unwrap();
    let from = START + random.random_range(0..BUCKETS * WIDTH - 10_000);
    let to = if random.random_bool(0.3) { now + 1 } else { random.random_range(from + 1..=now + 1) };
    let by: [&[&str]; 5] = [&[], &["plan"], &["country", "plan"], &["name"], &["nowhere"]];
    Question {
        pattern,
        means,
        from,
        to,
        step: [None, Some(1), Some(10), Some(25), Some(60), Some(600), Some(86_400)]
            .choose(random)
            .copied()
            .unwrap(),
        stat: if random.random_bool(0.3) { None } else { STATS.choose(random).copied() },
        by: if random.random_bool(0.5) { None } else { Some(by.choose(random).unwrap().to_vec()) },
        zero: random.random_bool(0.3),
    }
}

/// The key of a line: kind, name (empty for groups that share none), tags.
type LineKey = (&'static str, String, BTreeMap<String, String>);

/// The samples that each line of an answer is made of.
fn lines<'a>(question: &Question, samples: &'a [Sample]) -> BTreeMap<LineKey, Vec<&'a Sample>> {
    let mut lines: BTreeMap<LineKey, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| (question.means)(sample)) {
        let grouped = |by: &Vec<&str>| {
            let tags = by.iter().filter(|by| **by != "name");
            tags.filter_map(|by| Some(((*by).to_owned(), sample.tag(by)?.to_owned()))).collect()
        };
        let by_name = question.by.as_ref().is_none_or(|by| by.contains(&"name"));
        let tags = question.by.as_ref().map_or_else(
            || {
                let all = ["plan", "country"].into_iter();
                all.filter_map(|tag| Some((tag.to_owned(), sample.tag(tag)?.to_owned()))).collect()
            },
            grouped,
        );
        let name = if by_name { sample.name.to_owned() } else { String::new() };
        lines.entry((sample.kind.word(), name, tags)).or_default().push(sample);
    }
    lines
}

/// The figure of a step, and how far an answer may be from it.
fn figure(kind: Kind, stat: &str, step: &[&Sample], seconds: f64) -> Option<(f64, f64)> {
    if step.is_empty() {
        return None;
    }
    let cents: i64 = step.iter().map(|sample| sample.value).sum();
    let exact = |value| Some((value, 0.0));
    match kind {
        Kind::Counter if stat == "rate" => exact(cents as f64 / 100.0 / seconds),
        Kind::Counter => exact(cents as f64 / 100.0),
        Kind::Set => {
            let members: BTreeSet<i64> = step.iter().map(|sample| sample.value).collect();
            let tolerance = if members.len() > BOUNDS.set_exact_max { 0.03 } else { 0.0 };
            Some((members.len() as f64, tolerance))
        }
        Kind::Timer => {
            let mut values: Vec<f64> = step.iter().map(|sample| sample.value as f64 / 100.0).collect();
            values.sort_by(f64::total_cmp);
            let count = values.len();
            let rank = |percent: f64| {
                values[((percent / 100.0 * count as f64).round() as usize).clamp(1, count) - 1]
            };
            let mean = values.iter().sum::<f64>() / count as f64;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let sketched = if count > BOUNDS.timer_exact_max { 0.0101 } else { 1e-12 };
            match stat {
                "count" => exact(count as f64),
                "rate" => exact(count as f64 / seconds),
                "sum" => Some((values.iter().sum(), 1e-12)),
                "min" => exact(values[0]),
                "max" => exact(values[count - 1]),
                "median" => Some((f64::midpoint(values[(count - 1) / 2], values[count / 2]), sketched)),
                "std" => Some(((squares / count as f64).sqrt(), if sketched < 0.01 { 1e-9 } else { 0.05 })),
                percentile if percentile.starts_with('p') => {
                    Some((rank(percentile[1..].parse().unwrap()), sketched))
                }
                _ => Some((mean, 1e-12)),
            }
        }
        Kind::Gauge => unreachable!("gauges are looked at by themselves"),
    }
}

/// What gauges stood at when the buckets of a step ended.
fn gauge_figure(
    stat: &str,
    line: &[&Sample],
    (from, to): (i64, i64),
    width: i64,
    now: i64,
) -> Option<(f64, f64)> {
    let mut gauges: BTreeMap<String, Vec<(i64, u64, i64)>> = BTreeMap::new();
    for sample in line {
        gauges.entry(sample.key()).or_default().push((sample.bucket, sample.order, sample.value));
    }
    let (mut ends, mut standing) = (Vec::new(), Vec::new());
    for changes in gauges.values_mut() {
        changes.sort_unstable();
        let mut last = None;
        for bucket in (from..to.min(now + 1)).step_by(width as usize) {
            let before = changes.partition_point(|change| change.0 < bucket + width);
            let value = changes[..before].last().map(|change| change.2 as f64);
            ends.extend(value);
            last = value.or(last);
        }
        standing.extend(last);
    }
    let (first, rest) = ends.split_first()?;
    Some(match stat {
        "min" => (rest.iter().fold(*first, |a, b| a.min(*b)), 0.0),
        "max" => (rest.iter().fold(*first, |a, b| a.max(*b)), 0.0),
        "mean" => (ends.iter().sum::<f64>() / ends.len() as f64, 1e-12),
        _ => (standing.iter().sum(), 0.0),
    })
}

const fn default_stat(kind: Kind, grouped: bool) -> &'static str {
    match (kind, grouped) {
        (Kind::Counter, _) | (Kind::Gauge, true) => "sum",
        (Kind::Gauge, false) => "last",
        (Kind::Timer, _) => "mean",
        (Kind::Set, _) => "uniques",
    }
}

fn has(kind: Kind, stat: &str, grouped: bool) -> bool {
    match kind {
        Kind::Counter => ["sum", "count", "rate"].contains(&stat),
        Kind::Gauge => ["sum", "min", "max", "mean"].contains(&stat) || (stat == "last" && !grouped),
        Kind::Timer => !["last", "uniques"].contains(&stat),
        Kind::Set => ["uniques", "count"].contains(&stat),
    }
}

fn is_close((expected, tolerance): (f64, f64), shown: f64) -> bool {
    (shown - expected).abs() <= tolerance * expected.abs().max(if tolerance > 0.0 { 1e-6 } else { 0.0 })
}

fn points(line: &Line) -> Vec<(Num, Option<Num>)> {
    line.points.iter().collect()
}

/// Puts a question and compares; how many points were compared.
fn check(store: &dyn Store, samples: &[Sample], now: i64, question: &Question) -> usize {
    let (from, to) = (format!("{}", question.from as f64 / 1e3), format!("{}", question.to as f64 / 1e3));
    let by = question.by.as_ref().map(|by| by.join(","));
    let step = question.step.map(|step| step.to_string());
    let mut parameters = vec![("name", question.pattern), ("from", &from), ("to", &to)];
    parameters.extend(step.as_ref().map(|step| ("step", step.as_str())));
    parameters.extend(question.stat.map(|stat| ("stat", stat)));
    parameters.extend(by.as_ref().map(|by| ("by", by.as_str())));
    parameters.extend(question.zero.then_some(("fill", "zero")));
    let grouped = question.by.is_some();
    let mut expected = lines(question, samples);
    let matched = expected.len();
    expected.retain(|(kind, ..), _| {
        let kind = Kind::ALL.into_iter().find(|own| own.word() == *kind).unwrap();
        question.stat.is_none_or(|stat| has(kind, stat, grouped))
    });
    let answer = match ask(store, now, &parameters) {
        Ok(answer) => answer,
        Err(problem) => {
            assert!(matched > 0 && expected.is_empty(), "{parameters:?}: {problem:?}");
            assert_eq!(problem.parameter, "stat");
            return 0;
        }
    };
    assert_eq!(answer.series.len(), expected.len(), "{parameters:?}");
    let step = (answer.step.0 * 1e3) as i64;
    assert!(step >= question.step.unwrap_or(10) * 1_000 && step % WIDTH == 0, "{parameters:?}: {step}");
    let start = question.from.div_euclid(step) * step;
    assert_eq!(answer.from.0, start as f64 / 1e3);
    let mut compared = 0;
    for line in &answer.series {
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == line.kind).unwrap();
        let name = if question.by.as_ref().is_none_or(|by| by.contains(&"name")) { &line.name } else { "" };
        let own = &expected[&(line.kind, name.to_owned(), line.tags.clone())];
        let asked = question.stat.unwrap_or(default_stat(kind, grouped));
        assert_eq!(line.stat, asked);
        let mut inside: BTreeMap<i64, Vec<&Sample>> = BTreeMap::new();
        for sample in own {
            inside.entry(sample.bucket.div_euclid(step) * step).or_default().push(sample);
        }
        let points = points(line);
        assert_eq!(points.len() as i64, (question.to - start + step - 1) / step, "{parameters:?}");
        for (at, (time, shown)) in points.iter().enumerate() {
            let from = start + at as i64 * step;
            assert_eq!(time.0, from as f64 / 1e3);
            let span = if (from..from + step).contains(&now) { (now - from).max(1_000) } else { step };
            let resolution = (line.resolution.0 * 1e3) as i64;
            let mut truth = if kind == Kind::Gauge {
                gauge_figure(asked, own, (from, from + step), resolution, now)
            } else {
                figure(kind, asked, inside.get(&from).map_or(&[], Vec::as_slice), span as f64 / 1e3)
            };
            let counts = ["count", "rate", "sum", "uniques"].contains(&asked) && kind != Kind::Gauge;
            if question.zero && counts {
                truth = truth.or(Some((0.0, 0.0)));
            }
            if from < (line.kept_from.0 * 1e3) as i64 {
                truth = None;
            }
            let equal = match (truth, shown) {
                (Some(truth), Some(shown)) => is_close(truth, shown.0),
                (None, None) => true,
                _ => false,
            };
            assert!(equal, "{parameters:?}\n{line:?}\nat {from}: {shown:?} for {truth:?}");
            compared += usize::from(truth.is_some());
        }
    }
    compared
}

#[test]
fn random_questions_are_answered_as_a_list_of_all_samples_would() {
    let times: u64 = std::env::var("TALLYD_TEST_LONG").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for round in 0..ROUNDS * times {
        let mut random = StdRng::seed_from_u64(round);
        for (name, store) in stores() {
            let (samples, now) = feed(&*store, &mut random);
            let questions = (0..QUESTIONS).map(|_| question(&mut random, now));
            let compared: usize = questions.map(|question| check(&*store, &samples, now, &question)).sum();
            assert!(compared > QUESTIONS * 10, "{name} round {round}: {compared} points");
        }
    }
}
