//! What is true of a history: every sample, where it belongs, and whether it was promised.
//!
//! A sample is an event of a counter and a member of a set. The members say which samples are there and the counter
//! how often, so that in the end each that was promised is there once, in the finest buckets, at every level and at
//! Graphite, and none is anywhere twice.

use super::graphite::Graphite;
use super::process::DAY_MS;
use super::trace::Trace;
use super::world::SERIES;
use std::collections::{BTreeMap, BTreeSet};
use tallyd::config::Config;
use tallyd::forward::Rules;
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Kind, Ladder, Series, Tally, Unique};
use tallyd::store::Store;

/// A sample.
pub(super) type Id = u64;

/// Where a sample stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In an ingest thread: a kill loses it, and no tick has ended since.
    Counted,
    /// In a tick that the journal does not hold, or that a kill cut short.
    Unkept,
    /// In the journal or in a checkpoint: nothing may lose it.
    Promised,
    /// Of a tick that a kill cut short: it may be there.
    Unsure,
    /// A kill came before its tick.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    series: usize,
    /// Its own time, and with the tick its bucket.
    time: Option<i64>,
    state: State,
}

pub(super) struct Truth {
    salt: Vec<u8>,
    samples: BTreeMap<Id, Sample>,
    /// Of the running tick.
    tick: Vec<Id>,
    /// Kept in memory alone.
    unkept: Vec<Id>,
}

/// Of a bucket of a level: events, and whose.
type Found = BTreeMap<i64, (f64, BTreeSet<Id>)>;

fn pair_of(series: usize) -> [Series; 2] {
    [Series::new(Kind::Counter, &format!("c.{series}")), Series::new(Kind::Set, &format!("s.{series}"))]
}

impl Truth {
    pub(super) fn new(config: &Config) -> Self {
        let salt = config.aggregate.set_salt.clone();
        Self { salt, samples: BTreeMap::new(), tick: Vec::new(), unkept: Vec::new() }
    }

    pub(super) fn next(&self) -> Id {
        self.samples.len() as Id
    }

    pub(super) fn says(&mut self, id: Id, series: usize, time: Option<i64>) {
        self.samples.insert(id, Sample { series, time, state: State::Counted });
        self.tick.push(id);
    }

    fn set(&mut self, ids: &[Id], state: State) {
        for id in ids {
            self.samples.get_mut(id).unwrap().state = state;
        }
    }

    /// Samples without a time of their own belong to the bucket that holds `at`.
    pub(super) fn ends_tick(&mut self, at: i64) {
        for id in &self.tick {
            let sample = self.samples.get_mut(id).unwrap();
            sample.time.get_or_insert(at);
        }
    }

    /// Whether the tick is in the journal.
    pub(super) fn is_kept(&mut self, is_kept: bool) {
        let ids = std::mem::take(&mut self.tick);
        self.set(&ids, if is_kept { State::Promised } else { State::Unkept });
        if !is_kept {
            self.unkept.extend(ids);
        }
    }

    pub(super) fn is_checkpointed(&mut self) {
        let ids = std::mem::take(&mut self.unkept);
        self.set(&ids, State::Promised);
    }

    pub(super) fn is_killed(&mut self) {
        let (gone, unsure) = (std::mem::take(&mut self.tick), std::mem::take(&mut self.unkept));
        self.set(&gone, State::Gone);
        self.set(&unsure, State::Unsure);
    }

    /// The latest time of all.
    pub(super) fn last(&self) -> i64 {
        self.samples.values().filter_map(|sample| sample.time).max().unwrap_or(0)
    }

    pub(super) fn promised(&self) -> u64 {
        self.samples.values().filter(|sample| sample.state == State::Promised).count() as u64
    }

    /// Samples that a kill may have taken.
    pub(super) fn lost(&self) -> u64 {
        self.samples.len() as u64 - self.promised()
    }

    fn ids(&self, series: usize) -> BTreeMap<u64, Id> {
        let of = self.samples.iter().filter(|(_, sample)| sample.series == series);
        of.map(|(id, _)| (hash_member(&self.salt, id.to_string().as_bytes()), *id)).collect()
    }

    /// What a store holds of a series at a level.
    fn found(&self, store: &dyn Store, series: usize, level: usize) -> Found {
        let ids = self.ids(series);
        let read = store.read(&pair_of(series), level, 0, self.last() + 2 * DAY_MS).unwrap();
        let mut found = Found::new();
        for reading in read.iter().flatten() {
            let one = found.entry(reading.start).or_default();
            match &reading.tally {
                Tally::Counter(sum) => one.0 += sum.to_f64(),
                Tally::Set(set) => match &**set {
                    Unique::Exact(members) => one.1.extend(members.iter().map(|hash| ids[hash])),
                    Unique::Estimate(_) => panic!("estimated"),
                },
                other => panic!("{other:?}"),
            }
        }
        found.retain(|_, (events, members)| *events != 0.0 || !members.is_empty());
        found
    }

    /// Every level holds the same samples, each once and in its place, and all that were promised.
    pub(super) fn check(&self, store: &dyn Store, ladder: &Ladder, trace: &mut Trace) {
        for series in 0..SERIES {
            let mut finest = BTreeSet::new();
            for level in 0..ladder.levels().len() {
                let what = format!("series {series} at level {level}");
                let mut there = BTreeSet::new();
                for (start, (events, members)) in self.found(store, series, level) {
                    assert_eq!(
                        events,
                        members.len() as f64,
                        "{what}, bucket {start}: not each once: {members:?}"
                    );
                    for id in members {
                        let sample = self.samples[&id];
                        let place = ladder.span_of(level, sample.time.unwrap()).start;
                        assert_eq!(place, start, "{what}: {id} {sample:?} is in the wrong bucket");
                        assert_ne!(sample.state, State::Gone, "{what}: {id} came back");
                        assert!(there.insert(id), "{what}: {id} is there twice");
                    }
                    trace.note((series, level, start, events.to_bits()));
                }
                let promised = self
                    .samples
                    .iter()
                    .filter(|(_, one)| one.series == series && one.state == State::Promised);
                let lost: Vec<_> = promised.filter(|(id, _)| !there.contains(id)).collect();
                assert!(lost.is_empty(), "{what} lost {lost:?}");
                if level == 0 {
                    finest = there;
                } else {
                    assert_eq!(there, finest, "{what} is not what the finest is");
                }
            }
        }
    }

    /// How many samples of a series, in the bucket that Graphite has at a time, nobody had promised when a kill came
    /// and the store has not.
    fn taken(&self, series: usize, time: i64, there: &BTreeSet<Id>, rules: &Rules, ladder: &Ladder) -> f64 {
        let width = ladder.bucket().ms();
        let is_taken = |(id, one): &(&Id, &Sample)| {
            let stamp = one.time.map(|at| rules.stamp_of(ladder.bucket().start_of(at), width));
            one.series == series && one.state == State::Unsure && stamp == Some(time) && !there.contains(id)
        };
        self.samples.iter().filter(is_taken).count() as f64
    }

    /// Graphite has of every bucket what the store has. Where a kill took samples that nobody had promised, it may
    /// have been told of them before, and nothing in the bucket tells it otherwise.
    pub(super) fn check_graphite(
        &self,
        store: &dyn Store,
        ladder: &Ladder,
        rules: &Rules,
        graphite: &Graphite,
    ) {
        let width = ladder.bucket().ms();
        for series in 0..SERIES {
            let found = self.found(store, series, 0);
            let seconds: BTreeMap<i64, i64> =
                found.keys().map(|start| (rules.stamp_of(*start, width), *start)).collect();
            let (events, members) = (format!("c.{series}.count"), format!("s.{series}.uniques"));
            for (time, start) in &seconds {
                let (had, whose) = &found[start];
                for (path, had) in [(&events, *had), (&members, whose.len() as f64)] {
                    let told = graphite.get(path, *time);
                    // What a kill took may have been told, and a bucket older than `resend` is not told again.
                    let taken = self.taken(series, *time, whose, rules, ladder);
                    let right = told.is_some_and(|told| (had..=had + taken).contains(&told));
                    assert!(
                        right,
                        "Graphite's {path} of bucket {start} is {told:?}, not {had} of {whose:?}; {taken} were taken"
                    );
                }
            }
            for (path, time) in graphite.points(&events).into_iter().chain(graphite.points(&members)) {
                let told = graphite.get(path, time).unwrap();
                let is_known = seconds.contains_key(&time)
                    || told <= self.taken(series, time, &BTreeSet::new(), rules, ladder);
                assert!(is_known, "Graphite's {path} at {time} is {told}, and nobody said that");
            }
        }
    }
}
