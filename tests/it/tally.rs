//! The laws of merge: associative, commutative, with an empty element, for every kind, and whatever way the
//! samples are cut into parts. Sketches are held against exact answers and against another implementation.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sketches_ddsketch::{Config, DDSketch};
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::sketch::{ERROR, Sketch};
use tallyd::metric::unique::{Hll, hash_member};
use tallyd::metric::{Bounds, Digest, Gauge, Kind, Number, Sum, Tally, Unique};

/// Small, so that every law is tried on both sides of it.
const BOUNDS: Bounds = Bounds { timer_exact_max: 8, set_exact_max: 8 };

#[derive(Clone, Debug)]
enum Sample {
    Count(i64, u8, f64),
    Time(u32, f64),
    Gauge(i64, Option<i32>, i32),
    Member(u16),
}

fn of_kind(kind: Kind) -> BoxedStrategy<Sample> {
    let weight = prop::sample::select(vec![1.0, 2.0, 10.0, 1.0 / 0.3]);
    match kind {
        Kind::Counter => {
            (-1_000_000_i64..1_000_000, 0_u8..6, weight).prop_map(|(m, p, w)| Sample::Count(m, p, w)).boxed()
        }
        Kind::Timer => (0_u32..100_000, weight).prop_map(|(v, w)| Sample::Time(v, w)).boxed(),
        Kind::Gauge => (0_i64..500, any::<Option<i8>>(), -50_i32..50)
            .prop_map(|(at, set, delta)| Sample::Gauge(at, set.map(i32::from), delta))
            .boxed(),
        Kind::Set => (0_u16..40).prop_map(Sample::Member).boxed(),
    }
}

fn samples() -> impl Strategy<Value = (Kind, Vec<Sample>)> {
    prop::sample::select(Kind::ALL.to_vec())
        .prop_flat_map(|kind| (Just(kind), prop::collection::vec(of_kind(kind), 0..40)))
}

/// A tally of some samples. A gauge's change is named by where it stands in the whole, so that no two are
/// the same.
fn tally(kind: Kind, samples: &[(usize, Sample)]) -> Tally {
    let mut tally = Tally::empty(kind);
    for (number, sample) in samples {
        let one = match *sample {
            Sample::Count(mantissa, places, weight) => {
                let mut sum = Sum::ZERO;
                sum.add_weighted(Number::Decimal { mantissa, places }, weight);
                Tally::Counter(sum)
            }
            Sample::Time(value, weight) => {
                let mut digest = Digest::default();
                digest.record(f64::from(value) / 16.0, weight, weight, BOUNDS.timer_exact_max);
                Tally::Timer(Box::new(digest))
            }
            Sample::Gauge(time, set, delta) => {
                let order = Order { time, producer: 7, number: *number as u64 };
                let change = Change { set: set.map(f64::from), delta: f64::from(delta) };
                Tally::Gauge(Gauge::once(order, change))
            }
            Sample::Member(member) => {
                let mut set = Unique::default();
                set.insert(hash_member(b"", &member.to_be_bytes()), BOUNDS.set_exact_max);
                Tally::Set(Box::new(set))
            }
        };
        tally.merge(one, &BOUNDS);
    }
    tally
}

fn merged(mut a: Tally, b: Tally) -> Tally {
    a.merge(b, &BOUNDS);
    a
}

/// What a tally says, in numbers that do not depend on the order inside it.
fn figures(tally: &Tally) -> Vec<f64> {
    match tally {
        Tally::Counter(sum) => vec![sum.to_f64()],
        Tally::Gauge(gauge) => vec![gauge.value(Some(3.0)).unwrap_or(f64::NAN), gauge.len() as f64],
        Tally::Set(set) => vec![set.count() as f64],
        Tally::Timer(digest) => {
            let mut figures = vec![digest.events()];
            if let Some(all) = digest.distribution() {
                figures.extend([
                    all.weight,
                    all.min,
                    all.max,
                    all.sum,
                    all.sum_squares,
                    all.mean(),
                    all.std(),
                    all.median(),
                ]);
                for percent in [90.0, 50.0, 99.9, -10.0] {
                    figures.extend(
                        all.part(percent)
                            .map(|part| [part.weight, part.boundary, part.sum])
                            .into_iter()
                            .flatten(),
                    );
                }
            }
            figures
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn merging_in_any_order_and_grouping_is_the_same((kind, samples) in samples(), cut in any::<[prop::sample::Index; 2]>()) {
        let numbered: Vec<_> = samples.into_iter().enumerate().collect();
        let mut cuts = cut.map(|cut| cut.index(numbered.len() + 1));
        cuts.sort_unstable();
        let parts = [&numbered[..cuts[0]], &numbered[cuts[0]..cuts[1]], &numbered[cuts[1]..]].map(|part| tally(kind, part));
        let [a, b, c] = parts;
        let whole = figures(&tally(kind, &numbered));
        let left = merged(merged(a.clone(), b.clone()), c.clone());
        let right = merged(a.clone(), merged(b.clone(), c.clone()));
        let turned = merged(c, merged(b, a.clone()));
        prop_assert_eq!(&figures(&left), &whole);
        prop_assert_eq!(&figures(&right), &whole);
        prop_assert_eq!(&figures(&turned), &whole);
        let with_nothing = merged(Tally::empty(kind), merged(a.clone(), Tally::empty(kind)));
        prop_assert_eq!(figures(&with_nothing), figures(&a));
    }

    #[test]
    fn decimal_sums_are_exact(values in prop::collection::vec((-1_000_000_000_i64..1_000_000_000, 0_u8..=9), 0..200)) {
        let mut sum = Sum::ZERO;
        // The oracle counts in billionths.
        let mut truth = 0_i128;
        for (mantissa, places) in values {
            sum.add(Number::Decimal { mantissa, places });
            truth += i128::from(mantissa) * 10_i128.pow(9 - u32::from(places));
        }
        let text = format!("{}{}.{:09}", if truth < 0 { "-" } else { "" }, truth.unsigned_abs() / 1_000_000_000, truth.unsigned_abs() % 1_000_000_000);
        prop_assert_eq!(sum.to_f64(), text.parse::<f64>().unwrap());
        prop_assert!(sum.is_exact());
    }
}

/// Quantile by rank, as the sketch defines it: the smallest value with at least that share at or below it.
fn exact(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64 + 0.5).floor().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

fn quantile(sketch: &Sketch, percent: f64) -> f64 {
    let points = sketch.points();
    let total: f64 = points.iter().map(|(_, weight)| weight).sum();
    let rank = (percent / 100.0 * total + 0.5).floor().max(1.0);
    let mut below = 0.0;
    points
        .iter()
        .find(|(_, weight)| {
            below += weight;
            below >= rank
        })
        .unwrap()
        .0
}

#[test]
fn sketched_quantiles_are_within_one_percent_on_every_shape() {
    let mut random = StdRng::seed_from_u64(11);
    let mut normal = || {
        let (u, v): (f64, f64) = (random.random::<f64>().max(1e-300), random.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let log_normal: Vec<f64> = (0..50_000).map(|_| (3.5 + 1.2 * normal()).exp()).collect();
    let uniform: Vec<f64> = (0..50_000).map(|_| random.random::<f64>() * 1_000.0).collect();
    let pareto: Vec<f64> = (0..50_000).map(|_| random.random::<f64>().max(1e-9).powf(-1.0 / 1.1)).collect();
    let signed: Vec<f64> = uniform.iter().map(|value| value - 500.0).collect();
    let spikes: Vec<f64> = (0..50_000).map(|i| [1e-9, 1.0, 1.0 + 1e-12, 1e9, 3.3e15][i % 5]).collect();
    for (name, values) in [
        ("log-normal", log_normal),
        ("uniform", uniform),
        ("Pareto", pareto),
        ("signed", signed),
        ("spikes", spikes),
    ] {
        let mut sketch = Sketch::default();
        let mut other = DDSketch::new(Config::new(ERROR, 8_192, 1e-9));
        for &value in &values {
            sketch.add(value, 1.0);
            other.add(value);
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for percent in [0.1, 1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 100.0] {
            let (shown, truth) = (quantile(&sketch, percent), exact(&sorted, percent));
            assert!(
                (shown - truth).abs() <= ERROR * truth.abs() * 1.000_001 + 1e-12,
                "{name} p{percent}: {shown} for {truth}"
            );
            let rival = other.quantile(percent / 100.0).unwrap().unwrap();
            assert!(
                (shown - rival).abs() <= 3.0 * ERROR * truth.abs() + 1e-9,
                "{name} p{percent}: {shown}, and {rival} by another"
            );
        }
    }
}

#[test]
fn estimates_of_uniques_merge_to_the_same_registers() {
    let hashes: Vec<u64> =
        (0..30_000_u32).map(|member| hash_member(b"", format!("user-{member}").as_bytes())).collect();
    let mut whole = Hll::default();
    for &hash in &hashes {
        whole.insert(hash);
    }
    let mut merged = Hll::default();
    for part in hashes.rchunks(7_001) {
        let mut one = Hll::default();
        for &hash in part {
            one.insert(hash);
        }
        merged.merge(&one);
    }
    assert_eq!(whole, merged);
    assert_eq!(whole.to_dense(), merged.to_dense());
    let error = whole.count() as f64 / 30_000.0 - 1.0;
    assert!(error.abs() < 0.025, "{}", whole.count());
}
