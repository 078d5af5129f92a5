//! A store in memory with a figures' engine over it, and a clock that only moves when it is told to.

use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tallyd::config;
use tallyd::figures::state::Figure;
use tallyd::figures::{Engine, PageState};
use tallyd::health::Books;
use tallyd::metric::gauge::{Change, Order};
use tallyd::metric::unique::{Unique, hash_member};
use tallyd::metric::{Bounds, Digest, Gauge, Kind, Number, Series, Sum, Tally};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Batch, Store};

pub(crate) const DAY: i64 = 86_400_000;
pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const MINUTE: i64 = 60_000;
const WIDTH: i64 = 10_000;
pub(crate) const BOUNDS: Bounds = Bounds { timer_exact_max: 512, set_exact_max: 256 };

/// A sample on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sample {
    Count(i64),
    Gauge(f64),
    Timer(f64),
    Member(u64),
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) engine: Engine,
    pub(crate) books: Arc<Books>,
    /// What the engine asked to be counted.
    pub(crate) asked: Arc<Mutex<Vec<Series>>>,
    pending: BTreeMap<i64, Vec<(Series, Tally)>>,
    number: u64,
    changes: u64,
}

impl World {
    /// A world with this configuration, in which time begins at `now`.
    pub(crate) fn new(toml: &str, now: i64) -> Self {
        let config =
            config::native(toml, std::iter::empty()).unwrap_or_else(|error| panic!("{error}")).config;
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(
            Rules {
                ladder: config.store.ladder.clone(),
                bounds: BOUNDS,
                bytes_max: usize::MAX,
                destinations: Vec::new(),
                history: config.store.history.clone(),
                figures: config.store.figures.clone(),
            },
            config.idle.clone(),
        ));
        let books = Arc::new(Books::default());
        let asked: Arc<Mutex<Vec<Series>>> = Arc::default();
        let ours = Arc::clone(&asked);
        let count = Box::new(move |series, _| {
            ours.lock().unwrap().push(series);
            true
        });
        let engine = Engine::new(config.figures, Arc::clone(&store), Arc::clone(&books), now, count);
        Self { store, engine, books, asked, pending: BTreeMap::new(), number: 0, changes: 0 }
    }

    /// Something happened; the store hears of it at the next flush.
    pub(crate) fn send(&mut self, at: i64, key: &str, sample: &Sample) {
        let (kind, tally) = match sample {
            Sample::Count(units) => {
                let mut sum = Sum::ZERO;
                sum.add(Number::Decimal { mantissa: *units, places: 0 });
                (Kind::Counter, Tally::Counter(sum))
            }
            Sample::Gauge(value) => {
                self.changes += 1;
                let order = Order { time: at, producer: 1, number: self.changes };
                (Kind::Gauge, Tally::Gauge(Gauge::once(order, Change { set: Some(*value), delta: 0.0 })))
            }
            Sample::Timer(value) => {
                let mut digest = Digest::default();
                digest.record(*value, 1.0, 1.0, BOUNDS.timer_exact_max);
                (Kind::Timer, Tally::Timer(Box::new(digest)))
            }
            Sample::Member(member) => {
                let mut unique = Unique::default();
                unique.insert(hash_member(b"", &member.to_le_bytes()), BOUNDS.set_exact_max);
                (Kind::Set, Tally::Set(Box::new(unique)))
            }
        };
        let bucket = at.div_euclid(WIDTH) * WIDTH;
        self.pending.entry(bucket).or_default().push((Series::new(kind, key), tally));
    }

    /// Everything that was sent is in the store, and what is due is sealed.
    pub(crate) fn flush(&mut self, now: i64) {
        for (bucket, entries) in std::mem::take(&mut self.pending) {
            self.number += 1;
            let batch = Batch { producer: 1, number: self.number, bucket, entries };
            assert_eq!(self.store.apply(batch, now).unwrap(), tallyd::store::Applied::Done);
        }
        self.store.fold(now - 1_000, now).unwrap();
    }

    /// The first page as it is at a moment.
    pub(crate) fn look(&mut self, now: i64) -> Arc<PageState> {
        self.flush(now);
        self.engine.refresh(now);
        self.engine.state("/").unwrap()
    }
}

/// The figure of an id.
pub(crate) fn figure<'a>(state: &'a PageState, id: &str) -> &'a Figure {
    state.figures.iter().find(|figure| figure.id == id).unwrap_or_else(|| panic!("no {id} on the page"))
}

/// So many arrivals, where `mean` are usual.
pub(crate) fn arrivals(random: &mut StdRng, mean: f64) -> u32 {
    let (limit, mut product, mut count) = ((-mean).exp(), random.random::<f64>(), 0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}

/// How many times the long version of a test is as long.
pub(crate) fn long() -> i64 {
    std::env::var("TALLYD_TEST_LONG").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
