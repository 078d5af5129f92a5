//! The embedded store against a naive one that keeps every sample, under random operations: batches of all kinds in
//! time, late and early, folds, strikes, forgetting, checkpoints, restarts, kills and losses of power, and reads of
//! anything at any moment. `TALLYD_TEST_LONG=N` plays N times as many.

mod damage;
pub(crate) mod file;
mod gathering;
mod looks;
mod model;

use chrono::{NaiveDate, NaiveTime};
use file::VirtualFile;
use model::{Model, Said, What};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd::calendar::Calendar;
use tallyd::limits;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::ladder::Step;
use tallyd::metric::{Bounds, Class, Kind, Ladder, Series, Width};
use tallyd::store::embedded::{EmbeddedStore, Gathered, Gathering, Rules};
use tallyd::store::{Applied, Confirmed, Idle, IdleRules, Outstanding, Reading, Store};

/// Random operations of a world, and worlds on each store.
const OPERATIONS: usize = 500;
const WORLDS: u64 = 100;
const BOUNDS: Bounds = Bounds { timer_exact_max: 8, set_exact_max: 6 };
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const GRACE_MS: i64 = 1_000;

/// Zones with days of changed clocks among what the worlds live through.
const PLACES: [(&str, (i32, u32, u32), u32); 6] = [
    ("UTC", (2026, 11, 23), 0),
    ("Europe/Berlin", (2026, 3, 28), 0),
    ("Europe/Berlin", (2026, 10, 24), 4),
    ("Asia/Kathmandu", (2026, 11, 23), 0),
    ("Australia/Lord_Howe", (2026, 4, 4), 0),
    ("Australia/Lord_Howe", (2026, 10, 3), 2),
];

/// Says how to see a failure again.
struct Told {
    seed: u64,
    on_disk: bool,
    operation: usize,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, on_disk, operation } = self;
            eprintln!("seed {seed} on_disk {on_disk} failed in operation {operation}");
        }
    }
}

struct World {
    random: StdRng,
    rules: Rules,
    pace: Gathering,
    /// What the stores before this one have gathered.
    gathered: Gathered,
    store: Option<EmbeddedStore>,
    file: Option<VirtualFile>,
    model: Model,
    /// The model as it was at the last checkpoint.
    checkpointed: Model,
    /// What a journal would hold, and what the checkpoint before lets it forget.
    journal: Vec<Said>,
    confirmed: Vec<Confirmed>,
    now: i64,
    /// Who counts, their last number, and when that was.
    producers: Vec<(u128, u64, i64)>,
    idle: IdleRules,
}

fn ladder(random: &mut StdRng) -> (Ladder, i64) {
    let (zone, (year, month, day), hour) = PLACES[random.random_range(0..PLACES.len())];
    let calendar = Calendar::new(zone, NaiveTime::from_hms_opt(hour, 0, 0).unwrap()).unwrap();
    let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
    let base =
        date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp_millis() + random.random_range(0..DAY_MS);
    let steps = |steps: &[(u64, i64)]| -> Vec<Step> {
        let step = |&(secs, keep_ms)| Step { width: Width::from_ms(secs * 1_000), keep_ms };
        steps.iter().map(step).collect()
    };
    let (bucket, keep, figures) = match random.random_range(0..8) {
        0 => (1, steps(&[(1, HOUR_MS), (5, 2 * HOUR_MS)]), steps(&[(5, DAY_MS), (86_400, 99 * DAY_MS)])),
        1 => {
            (10, steps(&[(30, 3 * HOUR_MS), (90, 9 * HOUR_MS)]), steps(&[(90, DAY_MS), (3_600, 9 * DAY_MS)]))
        }
        2 => (10, steps(&[(10, 2 * HOUR_MS)]), Vec::new()),
        _ => (
            10,
            steps(&[(10, 2 * HOUR_MS), (60, 6 * HOUR_MS), (900, 3 * DAY_MS)]),
            steps(&[(60, 12 * HOUR_MS), (900, 40 * DAY_MS), (86_400, 365 * DAY_MS)]),
        ),
    };
    (Ladder::new(Width::from_ms(bucket * 1_000), &keep, &figures, HOUR_MS, calendar), base)
}

fn any_idle(random: &mut StdRng) -> IdleRules {
    let mut any = || [Idle::Zero, Idle::Keep, Idle::Drop][random.random_range(0..3)];
    let (counters, timers, sets, gauges) = (any(), any(), any(), any());
    IdleRules { counters, timers, sets, gauges, gauges_ttl: random.random_range(1..4), after_ms: None }
}

impl World {
    fn new(seed: u64, on_disk: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (ladder, now) = ladder(&mut random);
        let width = ladder.bucket().ms();
        let rules = Rules {
            ladder,
            bounds: BOUNDS,
            bytes_max: usize::MAX,
            destinations: vec!["a:2003".to_owned(), "b:2003".to_owned()],
            history: vec!["h.*".to_owned()],
            figures: vec!["f.*".to_owned()],
        };
        let mut all = Vec::new();
        for kind in Kind::ALL {
            for (class, prefix) in Class::ALL.into_iter().zip(["p", "h", "f"]) {
                all.extend((0..2).map(|n| (Series::new(kind, &format!("{prefix}.{n}")), class)));
            }
        }
        let idle = any_idle(&mut random);
        // Rows of two to some twenty buckets, so that late samples come into gathered ones.
        let pace = Gathering {
            after_ms: random.random_range(0..20_000),
            row_bytes: random.random_range(60..600),
            bytes_at_once: random.random_range(0..20_000),
            versions_at_once: random.random_range(1..20),
        };
        let model = Model::new(all, idle.clone(), width, 2);
        let file = on_disk.then(|| VirtualFile::new(seed));
        let mut world = Self {
            producers: (0..3).map(|_| (random.random(), 0, now)).collect(),
            random,
            rules,
            pace,
            gathered: Gathered::default(),
            store: None,
            file,
            checkpointed: model.clone(),
            model,
            journal: Vec::new(),
            confirmed: Vec::new(),
            now,
            idle,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.store = Some(match &self.file {
            None => EmbeddedStore::in_memory(self.rules.clone(), self.idle.clone()),
            Some(file) => {
                let disk = file.open().unwrap();
                let store =
                    EmbeddedStore::on_disk(self.rules.clone(), self.idle.clone(), disk, self.now).unwrap();
                store.gathering(self.pace)
            }
        });
    }

    /// The process is over.
    fn close(&mut self) {
        if let Some(Gathered { rows, buckets, bytes, again }) =
            self.store.take().map(|store| store.gathered())
        {
            self.gathered.rows += rows;
            self.gathered.buckets += buckets;
            self.gathered.bytes += bytes;
            self.gathered.again += again;
        }
    }

    fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self) {
        self.now += self.random.random_range(0..2_500);
        match self.random.random_range(0..100) {
            0..45 => self.apply(),
            45..58 => self.fold(),
            58..61 => self.now += self.random.random_range(0..20 * 60_000),
            61 => self.leap(),
            62..76 => self.read(),
            76..82 => self.look_at_a_sealed_bucket(),
            82..87 => self.strike(),
            87 => self.state_again(),
            88..90 => self.look_at_the_present(),
            90 => self.forget(),
            91 => {
                // How long a gauge was idle is remembered only under a rule that counts it.
                let IdleRules { gauges, gauges_ttl, .. } = self.idle;
                self.idle = IdleRules { gauges, gauges_ttl, ..any_idle(&mut self.random) };
                self.store().set_idle_rules(self.idle.clone());
                self.model.idle = self.idle.clone();
            }
            92..96 => self.checkpoint(),
            96 if self.file.is_some() => {
                self.checkpoint();
                self.close();
                self.open();
            }
            97..100 if self.file.is_some() => self.crash(),
            _ => {}
        }
    }

    /// A long time passes; now and then so much that producers are forgotten.
    fn leap(&mut self) {
        let leap = if self.random.random_range(0..4) == 0 { 60 * HOUR_MS } else { 8 * HOUR_MS };
        self.now += self.random.random_range(HOUR_MS..leap);
    }

    fn any_bucket(&mut self) -> i64 {
        let time = match self.random.random_range(0..20) {
            0..13 => self.now,
            13..17 => self.now - self.random.random_range(0..120_000),
            17 => self.now - self.random.random_range(0..HOUR_MS + 60_000),
            _ => self.now + self.random.random_range(0..limits::TIMESTAMP_AHEAD_MS_MAX),
        };
        self.rules.ladder.bucket().start_of(time)
    }

    fn any_sample(&mut self, series: usize, said: &Said) -> What {
        let random = &mut self.random;
        match self.model.all[series].0.kind() {
            Kind::Counter => What::Count(random.random_range(-5_000..50_000)),
            Kind::Timer => What::Time(f64::from(random.random_range(1..100_000_u32)) / 8.0),
            Kind::Set => What::Member(random.random_range(0..40)),
            Kind::Gauge => {
                let time = said.bucket + random.random_range(0..self.rules.ladder.bucket().ms());
                let order = Order { time, producer: said.producer, number: said.number };
                let value = f64::from(random.random_range(-1_000..1_000));
                let (set, delta) = if random.random() { (Some(value), 0.0) } else { (None, value) };
                What::Change(order, Change { set, delta })
            }
        }
    }

    fn apply(&mut self) {
        let which = self.random.random_range(0..self.producers.len());
        let bucket = self.any_bucket();
        let (producer, number, last) = &mut self.producers[which];
        if self.now - *last > DAY_MS {
            // Who counts does so all the time, or has begun anew.
            (*producer, *number) = (self.random.random(), 0);
        }
        *number += 1;
        *last = self.now;
        let mut said = Said { producer: *producer, number: *number, bucket, samples: Vec::new() };
        for _ in 0..self.random.random_range(1..8) {
            let series = self.random.random_range(0..self.model.all.len());
            let is_gauge = self.model.all[series].0.kind() == Kind::Gauge;
            // The flusher makes one change of all that a gauge had at one time.
            if !(is_gauge && said.samples.iter().any(|(other, _)| *other == series)) {
                let what = self.any_sample(series, &said);
                said.samples.push((series, what));
            }
        }
        let batch = said.batch(&self.model.all, &BOUNDS);
        let applied = self.store().apply(batch.clone(), self.now).unwrap();
        let end = bucket + self.rules.ladder.bucket().ms();
        let window = self.rules.ladder.amend_window_ms();
        match applied {
            Applied::Done => {
                assert!(end + window + limits::LATE_MARGIN_MS > self.now, "too late to be taken");
                self.model.apply(&said);
            }
            Applied::Late => {
                assert!(end + window + limits::LATE_MARGIN_MS <= self.now, "{bucket} at {}", self.now);
                self.model.watermarks.insert(said.producer, said.number);
            }
            other => panic!("{other:?}"),
        }
        if self.random.random_range(0..8) == 0 {
            assert_eq!(self.store().apply(batch, self.now).unwrap(), Applied::Duplicate);
        }
        self.journal.push(said);
    }

    fn fold(&mut self) {
        let folded = self.store().fold(self.now - GRACE_MS, self.now).unwrap();
        let expected = self.model.fold(self.now - GRACE_MS, self.now);
        let oldest = Class::ALL.map(|class| self.rules.ladder.oldest(class, 0, self.now));
        self.model.oldest = self.model.oldest.max(oldest.into_iter().max().unwrap());
        assert_eq!((folded.sealed, folded.amended, folded.shed), (expected.0, expected.1, 0));
    }

    fn checkpoint(&mut self) {
        let confirmed = self.store().checkpoint(self.now).unwrap();
        if self.file.is_none() {
            return assert_eq!(confirmed, []);
        }
        // The journal is a checkpoint behind: what it has twice must not count twice.
        let before = std::mem::replace(&mut self.confirmed, confirmed);
        self.journal.retain(|said| {
            !before.iter().any(|one| one.producer == said.producer && one.number >= said.number)
        });
        self.checkpointed = self.model.clone();
    }

    fn crash(&mut self) {
        let file = self.file.clone().unwrap();
        if self.random.random() {
            file.kill();
        } else {
            file.lose_power();
        }
        self.close();
        self.open();
        self.model = self.checkpointed.clone();
        self.model.idle = self.idle.clone();
        for said in std::mem::take(&mut self.journal) {
            self.replay(&said);
            self.journal.push(said);
        }
    }

    /// As `flush::recover` does it.
    fn replay(&mut self, said: &Said) {
        let then = said.bucket + self.rules.ladder.bucket().ms();
        loop {
            let applied = self.store().apply(said.batch(&self.model.all, &BOUNDS), then).unwrap();
            let had = self.model.watermarks.get(&said.producer).copied().unwrap_or(0);
            match applied {
                Applied::Done => {
                    assert!(had < said.number, "a batch counts twice");
                    self.model.apply(said);
                }
                Applied::Duplicate => assert!(had >= said.number, "a batch is lost"),
                Applied::Late => drop(self.model.watermarks.insert(said.producer, said.number)),
                Applied::Gap { watermark } => {
                    self.store().pass(said.producer, watermark + 1, said.number - 1).unwrap();
                    continue;
                }
            }
            return;
        }
    }

    fn strike(&mut self) {
        let destination = self.random.random_range(0..2);
        for one in self.outstanding(destination) {
            let other = Outstanding { version: one.version ^ 1, ..one };
            assert!(!self.store().strike(destination, other).unwrap());
            if self.random.random_range(0..4) > 0 {
                assert!(self.store().strike(destination, one).unwrap());
                self.model.strike(destination, one.bucket);
                if self.random.random() {
                    self.store().settle(destination, &[one.bucket]);
                }
            }
        }
    }

    fn state_again(&mut self) {
        let since = self.now - self.random.random_range(0..HOUR_MS);
        let destination = self.random.random_range(0..2);
        let buckets: Vec<i64> = self.model.sealed.range(since..).map(|(start, _)| *start).collect();
        self.store().state_again(destination, &buckets);
        self.model.state_again(destination, &buckets);
    }

    fn forget(&mut self) {
        let kind = Kind::ALL[self.random.random_range(0..4)];
        let end = self.random.random_range(0..2_u8).to_string();
        let mut gone = self.store().forget(kind, &|key| key.ends_with(&end)).unwrap();
        gone.sort();
        assert_eq!(gone, self.model.forget(kind, |key| key.ends_with(&end)));
    }

    /// Days later everything is at its level and nothing finer than it should be.
    fn finish(&mut self) {
        for hours in [96, 96, 5, 5, 5, 0] {
            self.now += hours * HOUR_MS;
            for destination in 0..2 {
                for one in self.store().outstanding(destination).unwrap() {
                    self.store().strike(destination, one).unwrap();
                    self.model.strike(destination, one.bucket);
                }
            }
            self.apply();
            self.fold();
        }
        self.fold();
        let finest = Class::ALL.map(|class| self.rules.ladder.oldest(class, 0, self.now));
        let finest = finest.into_iter().min().unwrap();
        for level in 0..self.rules.ladder.levels().len() {
            for number in 0..self.model.all.len() {
                let series = [self.model.all[number].0.clone()];
                let range = (0, self.now + 2 * DAY_MS);
                let found = self.store().read(&series, level, range.0, range.1).unwrap().remove(0);
                self.compare(number, level, range, &found);
                let old = |reading: &&Reading| level == 0 && reading.start < finest;
                assert_eq!(found.iter().find(old), None, "past its keep, which begins at {finest}");
            }
        }
    }
}

/// Plays a world; returns what was gathered in it.
fn play(seed: u64, on_disk: bool) -> Gathered {
    let mut told = Told { seed, on_disk, operation: 0 };
    let mut world = World::new(seed, on_disk);
    for operation in 0..OPERATIONS {
        told.operation = operation;
        world.step();
    }
    world.finish();
    world.close();
    world.gathered
}

pub(crate) fn times() -> u64 {
    std::env::var("TALLYD_TEST_LONG").ok().map_or(1, |long| long.parse().unwrap_or(10))
}

#[test]
fn the_store_in_memory_answers_as_the_naive_one() {
    let gathered = (0..WORLDS * times()).map(|seed| play(seed, false).rows).sum::<u64>();
    assert_eq!(gathered, 0, "what is in memory stays where it is");
}

#[test]
fn the_store_on_disk_answers_as_the_naive_one_over_crashes() {
    let (mut rows, mut again, mut worlds) = (0, 0, 0);
    for seed in 0..WORLDS * times() {
        let gathered = play(seed, true);
        rows += gathered.rows;
        again += gathered.again;
        worlds += u64::from(gathered.again > 0);
    }
    println!(
        "{rows} rows gathered, {again} of them again since something came late, that in {worlds} worlds"
    );
    assert!(rows > 10 * WORLDS && worlds > WORLDS / 2, "{rows} {again} {worlds}");
}
