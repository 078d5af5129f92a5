//! What a world looks at, and what it must see there by the naive store.

use super::model::{Expected, Model, What, changes, tally};
use super::{BOUNDS, DAY_MS, HOUR_MS, World};
use rand::RngExt;
use std::collections::BTreeMap;
use tallyd::limits;
use tallyd::metric::{Bounds, Class, Kind, Series, Tally};
use tallyd::store::{Outstanding, Reading, Store};

impl World {
    pub(super) fn read(&mut self) {
        let ladder = self.rules.ladder.clone();
        let level = self.random.random_range(0..=ladder.levels().len());
        let span = [60_000, HOUR_MS, 2 * DAY_MS][self.random.random_range(0..3)];
        let from = self.now - self.random.random_range(0..span);
        let to = from + self.random.random_range(1..span + 60_000);
        let all: Vec<usize> =
            (0..self.model.all.len()).filter(|_| self.random.random_range(0..4) == 0).collect();
        let series: Vec<Series> = all.iter().map(|&n| self.model.all[n].0.clone()).collect();
        let found = self.store().read(&series, level, from, to).unwrap();
        assert_eq!(found.len(), all.len());
        for (found, number) in found.into_iter().zip(all) {
            self.compare(number, level, (from, to), &found);
        }
    }

    pub(super) fn compare(&self, number: usize, level: usize, (from, to): (i64, i64), found: &[Reading]) {
        let ladder = &self.rules.ladder;
        let (series, class) = &self.model.all[number];
        let level = ladder.chain(*class).rfind(|of| *of <= level).unwrap();
        let expected = self.model.read(ladder, number, level, from, to);
        let mut expected: BTreeMap<i64, Expected> =
            expected.into_iter().map(|one| (one.span.start, one)).collect();
        let what = || format!("{series:?} at level {level} in {from}..{to}, now {}", self.now);
        let nothing = |reading: &&Reading| {
            matches!(&reading.tally, Tally::Gauge(gauge) if gauge.is_empty()) && reading.before.is_none()
        };
        assert!(found.is_sorted_by(|a, b| a.start < b.start), "{}", what());
        for reading in found.iter().filter(|reading| !nothing(reading)) {
            let Some(expected) = expected.remove(&reading.start) else {
                panic!("{}: nothing was counted in {reading:?}", what());
            };
            assert_eq!((reading.start, reading.end), (expected.span.start, expected.span.end), "{}", what());
            same(&reading.tally, &expected.samples, level > 0, &what);
            if let Tally::Gauge(gauge) = &reading.tally {
                if expected.values.iter().any(|value| value.is_nan()) {
                    continue;
                }
                let value = gauge.value(reading.before);
                assert_eq!(value, expected.values.last().copied(), "{}: {reading:?} {expected:?}", what());
                if level > 0 {
                    let sets = || gauge.changes().iter().map(|(_, change)| change.set.unwrap());
                    let values = || expected.values.iter().copied();
                    assert_eq!(sets().reduce(f64::min), values().reduce(f64::min), "{}", what());
                    assert_eq!(sets().reduce(f64::max), values().reduce(f64::max), "{}", what());
                }
            }
        }
        let oldest = ladder.oldest(*class, level, self.model.latest.max(self.now));
        let must = |one: &&Expected| {
            let unsure = one.samples.is_empty() && one.values.iter().all(|value| value.is_nan());
            one.span.start >= oldest && !(unsure && matches!(series.kind(), Kind::Gauge))
        };
        if let Some(lost) = expected.values().find(must) {
            panic!("{}: lost {lost:?}", what());
        }
    }

    pub(super) fn look_at_a_sealed_bucket(&mut self) {
        let oldest = Class::ALL.map(|class| self.rules.ladder.oldest(class, 0, self.now)).into_iter().min();
        let starts: Vec<i64> = self.model.sealed.range(oldest.unwrap()..).map(|(start, _)| *start).collect();
        if starts.is_empty() {
            return;
        }
        let start = starts[self.random.random_range(0..starts.len())];
        let sealed = self.store().sealed(start).unwrap().expect("it was sealed");
        assert_eq!((sealed.start, sealed.width), (start, self.rules.ladder.bucket()));
        let mut stated = self.model.sealed[&start].clone();
        for entry in &sealed.entries {
            let number = self.model.all.iter().position(|(series, _)| *series == entry.series).unwrap();
            let what = || format!("{:?} in the sealed bucket {start}", entry.series);
            let expected = stated.remove(&number).unwrap_or_else(|| panic!("{} {entry:?}", what()));
            assert_eq!(entry.idle, expected.idle.is_some(), "{}", what());
            if expected.before.is_none_or(|before| !before.is_nan()) {
                assert_eq!(entry.before, expected.before, "{}", what());
            }
            let samples = expected.idle.unwrap_or_else(|| self.model.of(number, start, false));
            same(&entry.tally, &samples, false, &what);
        }
        stated.retain(|_, stated| !stated.perhaps);
        assert!(stated.is_empty(), "{start} lacks {stated:?}");
    }

    pub(super) fn outstanding(&self, destination: usize) -> Vec<Outstanding> {
        let out = self.store().outstanding(destination).unwrap();
        assert!(out.is_sorted_by(|a, b| a.bucket > b.bucket), "newest first");
        let model = &self.model.out[destination];
        let week = self.model.latest.max(self.now) - limits::OUTSTANDING_MS_MAX;
        for start in model.range(week..) {
            assert!(out.iter().any(|one| one.bucket == *start), "{start} is not on the list");
        }
        for one in &out {
            assert!(self.model.sealed.contains_key(&one.bucket));
            let sealed = self.store().sealed(one.bucket).unwrap().expect("what is needed is there");
            assert_eq!(sealed.version, one.version);
        }
        out
    }

    pub(super) fn look_at_the_present(&mut self) {
        assert_eq!(self.store().series_count(), self.model.live());
        let mut expected = self.model.present();
        for present in self.store().present(Kind::Gauge).unwrap() {
            let known = expected.remove(present.series.key()).expect("it is live");
            if let Some(value) = known {
                assert_eq!(present.gauge, value, "{:?}", present.series);
            }
        }
        assert!(expected.is_empty(), "{expected:?}");
    }
}

/// Whether a tally is that of the samples: exactly while it is kept so, else within one percent.
fn same(tally_found: &Tally, samples: &[What], rolled: bool, what: &dyn Fn() -> String) {
    let expected = tally(
        tally_found.kind(),
        samples,
        &Bounds { timer_exact_max: usize::MAX, set_exact_max: usize::MAX },
    );
    match (tally_found, &expected) {
        (Tally::Counter(found), Tally::Counter(expected)) => assert_eq!(found, expected, "{}", what()),
        (Tally::Gauge(found), Tally::Gauge(_)) if !rolled => {
            let mut expected = changes(samples);
            expected.sort_by_key(|(order, _)| *order);
            assert_eq!(found.changes(), expected, "{}", what());
        }
        (Tally::Gauge(_), Tally::Gauge(_)) => {}
        (Tally::Timer(found), Tally::Timer(expected)) => {
            assert_eq!(found.events(), expected.events(), "{}", what());
            let sorted = |values: &[f64]| {
                let mut values = values.to_vec();
                values.sort_by(f64::total_cmp);
                values
            };
            let truth = sorted(expected.values().unwrap());
            if let Some(values) = found.values() {
                assert_eq!(sorted(values), truth, "{}", what());
            } else {
                assert!(truth.len() > BOUNDS.timer_exact_max, "{}: sketched too soon", what());
                let found = found.distribution().unwrap();
                let sum: f64 = truth.iter().sum();
                assert!((found.sum - sum).abs() <= sum * 1e-12, "{}", what());
                assert_eq!((found.min, found.max), (truth[0], truth[truth.len() - 1]), "{}", what());
                for percent in [10.0_f64, 50.0, 90.0] {
                    let found = found.part(percent).unwrap().boundary;
                    let rank = (percent / 100.0 * truth.len() as f64 + 0.5).floor() as usize;
                    let truth = truth[rank - 1];
                    assert!((found / truth - 1.0).abs() <= 0.0101, "{}: {found} for {truth}", what());
                }
            }
        }
        (Tally::Set(found), Tally::Set(_)) => {
            let members = Model::members(samples);
            if members.len() <= BOUNDS.set_exact_max {
                let tallyd::metric::Unique::Exact(found) = &**found else {
                    panic!("{}: estimated too soon", what());
                };
                assert!(
                    found.len() == members.len() && found.iter().all(|hash| members.contains(hash)),
                    "{}",
                    what()
                );
            } else {
                let (found, truth) = (found.count() as f64, members.len() as f64);
                // Two of few members share a register now and then.
                assert!((found - truth).abs() <= 1.0 + 0.03 * truth, "{}: {found} for {truth}", what());
            }
        }
        (found, expected) => panic!("{}: {found:?} for {expected:?}", what()),
    }
}
