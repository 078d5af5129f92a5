//! The table of an ingest thread against a naive one: random lines, ticks, late collectors and renewals, and in
//! the end every series has what a plain map has, every value is counted or refused, and no bound is passed.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread;
use tallyd::aggregate::epoch::{Epoch, pair};
use tallyd::aggregate::table::Cell;
use tallyd::aggregate::{Collector, Registry, Tick};
use tallyd::clock::Clock;
use tallyd::config::Config;
use tallyd::flush::{self, Command, Flusher, Safe};
use tallyd::health::{Books, Refusal};
use tallyd::ingest::receive::Receiver;
use tallyd::limits;
use tallyd::metric::gauge::Change;
use tallyd::metric::unique::hash_member;
use tallyd::metric::{Kind, Ladder, Series, Sum, Unique, Width};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::sys::Waker;
use tallyd::wire::Dialect;

const NOW: i64 = 1_700_000_000_000;
const BUCKET_MS: i64 = 10_000;
/// Raw names, and what cleaning makes of them: some meet.
const NAMES: [(&str, &str); 5] =
    [("shop.a", "shop.a"), ("shop a", "shop_a"), ("shop_a", "shop_a"), ("shop/a", "shop-a"), ("x", "x")];
/// Raw tags, and what sorting makes of them.
const TAGS: [(&str, &str); 4] =
    [("", ""), ("b:2,a:1", ";a=1;b=2"), ("a:1,b:2", ";a=1;b=2"), ("solo", ";solo=true")];

#[derive(Clone, Debug)]
enum Step {
    Line {
        kind: usize,
        name: usize,
        tags: usize,
        values: Vec<i16>,
        form: u8,
        time: Option<i64>,
    },
    /// A tick begins, and the thread hands over if it has a spare.
    Tick,
    /// The flusher takes one generation, if there is one.
    Take,
    /// Names shall be learned anew.
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    // A second before the first of these is too late; they span two buckets.
    let time = prop::option::weighted(0.2, prop::sample::select(vec![-1_000_000_i64, -9, -1, 0, 1, 12]));
    let line =
        (0..4_usize, 0..NAMES.len(), 0..TAGS.len(), prop::collection::vec(any::<i16>(), 1..4), 0..3_u8)
            .prop_flat_map(move |line| (Just(line), time.clone()))
            .prop_map(|((kind, name, tags, values, form), time)| Step::Line {
                kind,
                name,
                tags,
                values,
                form,
                time: time.map(|offset| NOW / 1_000 + offset),
            });
    prop_oneof![20 => line, 2 => Just(Step::Tick), 2 => Just(Step::Take), 1 => Just(Step::Renew)]
}

/// What a series came to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Total {
    sum: f64,
    times: Vec<f64>,
    gauge: Option<f64>,
    members: BTreeSet<u64>,
}

type Totals = BTreeMap<(Kind, String, Option<i64>), Total>;

/// The table as one would write it without a thought for speed.
#[derive(Default)]
struct Naive {
    totals: Totals,
    series: BTreeSet<(Kind, String)>,
    raw: BTreeSet<(Kind, usize, usize)>,
    /// Gauges that have a cell: they need no further raw name to be known.
    gauges: BTreeSet<String>,
    series_max: usize,
    values: u64,
    limited: u64,
    late: u64,
    spares: u32,
    waiting: u32,
    renew: bool,
}

impl Naive {
    fn knows(&mut self, kind: Kind, name: usize, tags: usize) -> bool {
        let raw = (kind, name, tags);
        if self.raw.contains(&raw) {
            return true;
        }
        let series = (kind, format!("{}{}", NAMES[name].1, TAGS[tags].1));
        if self.raw.len() >= self.series_max * limits::RAW_NAMES_PER_SERIES {
            return kind == Kind::Gauge && self.gauges.contains(&series.1);
        }
        if !self.series.contains(&series) && self.series.len() >= self.series_max {
            return false;
        }
        if kind == Kind::Gauge {
            self.gauges.insert(series.1.clone());
        }
        self.series.insert(series);
        self.raw.insert(raw)
    }

    /// What a series is counted for that is not known.
    fn overflow(name: usize, tags: usize) -> String {
        match (NAMES[name].1.split_once('.'), TAGS[tags].1) {
            (Some((first, _)), _) => format!("{first}.tallyd_overflow"),
            (None, "") => "tallyd_overflow".to_owned(),
            (None, _) => format!("{}.tallyd_overflow", NAMES[name].1),
        }
    }

    /// Counts one line of values and returns the line.
    fn line(&mut self, step: &Step) -> String {
        let Step::Line { kind, name, tags, values, form, time } = step else {
            unreachable!("asked for lines")
        };
        let (kind, form) = (Kind::ALL[*kind], *form);
        let weight = if form == 1 { 10.0 } else { 1.0 };
        // Sets cannot be packed, and a timer is not negative.
        let values: Vec<f64> = match kind {
            Kind::Set => vec![f64::from(values[0] % 50)],
            Kind::Timer => values.iter().map(|value| f64::from(value.unsigned_abs())).collect(),
            _ => values.iter().map(|value| f64::from(*value)).collect(),
        };
        for &value in &values {
            self.values += 1;
            let known = self.knows(kind, *name, *tags);
            let bucket = time.map(|time| match kind {
                Kind::Gauge => time * 1_000,
                _ => time * 1_000 / BUCKET_MS * BUCKET_MS,
            });
            if bucket.is_some_and(|bucket| bucket < NOW - 500_000) {
                self.late += 1;
                continue;
            }
            let series = if known {
                format!("{}{}", NAMES[*name].1, TAGS[*tags].1)
            } else {
                self.limited += 1;
                Self::overflow(*name, *tags)
            };
            let key = (kind, series, bucket);
            let total = self.totals.entry(key).or_default();
            match kind {
                Kind::Counter => total.sum += value * weight,
                Kind::Timer => {
                    total.sum += weight;
                    total.times.push(value);
                }
                Kind::Gauge if form == 2 || value < 0.0 => {
                    total.gauge = Some(total.gauge.unwrap_or(0.0) + value);
                }
                Kind::Gauge => total.gauge = Some(value),
                Kind::Set => {
                    total.members.insert(hash_member(b"", value.to_string().as_bytes()));
                }
            }
        }
        let plus = |value: &f64| if kind == Kind::Gauge && form == 2 && *value >= 0.0 { "+" } else { "" };
        let values: Vec<_> = values.iter().map(|value| format!("{}{value}", plus(value))).collect();
        let rate = if form == 1 { "|@0.1" } else { "" };
        let tags = if *tags > 0 { format!("|#{}", TAGS[*tags].0) } else { String::new() };
        let time = time.map_or(String::new(), |time| format!("|T{time}"));
        let ty = ["c", "ms", "g", "s"][kind as usize];
        format!("{}:{}|{ty}{rate}{tags}{time}", NAMES[*name].0, values.join(":"))
    }
}

/// What the ticks came to.
#[derive(Default)]
struct Taken {
    totals: Totals,
    samples: u64,
    overflow: u64,
    refused: [u64; Refusal::COUNT],
    number: u64,
}

impl Taken {
    fn enter(&mut self, tick: &Tick) {
        assert!(tick.number >= self.number, "ticks come in their order");
        self.number = tick.number;
        self.samples += tick.intake.samples;
        self.overflow += tick.intake.overflow;
        for (mine, more) in self.refused.iter_mut().zip(tick.intake.refused) {
            *mine += more;
        }
    }

    fn add(&mut self, series: &Series, time: Option<i64>, cell: Cell) {
        let total = self.totals.entry((series.kind(), series.key().to_owned(), time)).or_default();
        match cell {
            Cell::Counter(sum) => total.sum += Sum::to_f64(&sum),
            Cell::Timer(digest) => {
                total.sum += digest.events();
                total.times.extend(digest.values().expect("kept exactly"));
            }
            Cell::Gauge(change, _) => total.gauge = Some(Change::apply(&change, total.gauge)),
            Cell::Set(set) => match *set {
                Unique::Exact(hashes) => total.members.extend(hashes),
                Unique::Estimate(_) => panic!("the set was to be kept exactly"),
            },
        }
    }

    /// Takes a generation, if there is one.
    fn take(&mut self, collector: &mut Collector) -> bool {
        let tick = collector.take(|series, time, cell| self.add(series, time, cell));
        if let Some(tick) = &tick {
            self.enter(tick);
        }
        tick.is_some()
    }

    fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }
}

fn play(series_max: usize, steps: &[Step]) {
    let mut options = Config::default().aggregate;
    options.dialect = Dialect::Native;
    options.series_max = series_max;
    options.bucket = Width::from_ms(BUCKET_MS as u64);
    options.amend_window_ms = 400_000;
    (options.bounds.timer_exact_max, options.bounds.set_exact_max) = (100_000, 100_000);
    let grammar = Config::default().ingest.grammar;
    let registry = Arc::new(Registry::new(series_max));
    let epoch = Epoch::new(NOW, thread::current());
    let waker = Arc::new(Waker::new().unwrap());
    let (recorder, mut collector) = pair(Arc::new(options), Arc::clone(&registry), Arc::clone(&epoch), waker);
    let mut receiver = Receiver::new(recorder, grammar, false);
    let mut naive = Naive { series_max, spares: 1, ..Naive::default() };
    let mut taken = Taken::default();
    for step in steps {
        match step {
            Step::Line { .. } => receiver.packet(naive.line(step).as_bytes(), &"test"),
            Step::Tick => tick(&epoch, &mut receiver, &mut naive),
            Step::Take => take(&mut collector, &mut naive, &mut taken),
            Step::Renew => {
                assert!(collector.renew_after(NOW, 0));
                naive.renew = true;
            }
        }
        assert!(registry.len() <= series_max);
    }
    receiver.finish();
    while taken.take(&mut collector) {}
    for total in naive.totals.values_mut().chain(taken.totals.values_mut()) {
        total.times.sort_by(f64::total_cmp);
    }
    assert_eq!(taken.totals, naive.totals);
    assert_eq!(taken.samples + taken.refused.iter().sum::<u64>(), naive.values, "counted or refused");
    assert_eq!(taken.overflow, naive.limited);
    assert_eq!(taken.refused(Refusal::SeriesLimit), 0);
    assert_eq!(taken.refused(Refusal::TooLate), naive.late);
    assert_eq!(registry.len(), naive.series.len());
}

fn tick(epoch: &Epoch, receiver: &mut Receiver, naive: &mut Naive) {
    epoch.advance(NOW);
    assert!(receiver.recorder().tick_begun());
    receiver.recorder().hand_over();
    // Without a spare the tick is still to come for this thread.
    assert_eq!(receiver.recorder().tick_begun(), naive.spares == 0);
    if naive.spares > 0 {
        naive.spares -= 1;
        naive.waiting += 1;
        if std::mem::take(&mut naive.renew) {
            naive.raw.clear();
            naive.gauges.clear();
        }
    }
}

fn take(collector: &mut Collector, naive: &mut Naive, taken: &mut Taken) {
    let took = taken.take(collector);
    assert_eq!(took, naive.waiting > 0);
    if took {
        naive.waiting -= 1;
        naive.spares += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_table_counts_what_a_plain_map_counts(
        series_max in prop::sample::select(vec![0_usize, 3, 12, 36, 1_000]),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        play(series_max, &steps);
    }
}

/// One series under ever new orders of its tags: each is a raw name, and a thread learns only so many.
#[test]
fn raw_names_are_bounded_and_a_renewal_makes_room() {
    let registry = Arc::new(Registry::new(3));
    let epoch = Epoch::new(NOW, thread::current());
    let mut options = Config::default().aggregate;
    options.series_max = 3;
    let (recorder, mut collector) =
        pair(Arc::new(options), registry, Arc::clone(&epoch), Arc::new(Waker::new().unwrap()));
    let mut receiver = Receiver::new(recorder, Config::default().ingest.grammar, false);
    let bound = 3 * limits::RAW_NAMES_PER_SERIES as u64;
    // A tag given twice has the last of its values: all of these are the same series.
    let lines = |orders: std::ops::Range<u32>| {
        orders.map(|i| format!("x:1|c|#t:{i},t:0")).collect::<Vec<_>>().join("\n")
    };
    for _ in 0..2 {
        receiver.packet(lines(0..20).as_bytes(), &"test");
        epoch.advance(NOW);
        receiver.recorder().hand_over();
        let tick = collector.take(|_, _, _| {}).unwrap();
        assert_eq!((tick.intake.samples, tick.intake.overflow), (20, 20 - bound));
    }
    collector.renew_after(NOW, 0);
    epoch.advance(NOW);
    receiver.recorder().hand_over();
    collector.take(|_, _, _| {}).unwrap();
    receiver.packet(lines(10..14).as_bytes(), &"test");
    receiver.finish();
    let intake = collector.take(|_, _, _| {}).unwrap().intake;
    assert_eq!((intake.samples, intake.overflow), (4, 0), "there is room again");
}

/// What a figure names is counted for itself, whatever else comes: other names, its own name under ever new tags, or
/// more raw names than a thread learns.
#[test]
fn what_figures_name_is_counted_for_itself_in_any_flood() {
    let mut options = Config::default().aggregate;
    options.series_max = 4;
    options.figures = vec!["signups".to_owned(), "paid.*".to_owned()];
    let registry = Arc::new(Registry::of(&options));
    let epoch = Epoch::new(NOW, thread::current());
    let waker = Arc::new(Waker::new().unwrap());
    let (recorder, mut collector) = pair(Arc::new(options), registry, Arc::clone(&epoch), waker);
    let mut receiver = Receiver::new(recorder, Config::default().ingest.grammar, false);
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let (mut samples, mut overflow) = (0, 0);
    for round in 0..40_u64 {
        for number in 0..50 {
            let unique = round * 50 + number;
            let lines = format!(
                "flood.n{unique}:1|c\nsignups:1|c|#user:{unique}\nother:1|c|#t:{unique},t:0\npaid.x{unique}:1|c"
            );
            receiver.packet(lines.as_bytes(), &"test");
        }
        receiver.packet(b"signups:1|c\nsignups:2|g\npaid.eur:4900|c\nsignups:7|ms", &"test");
        epoch.advance(NOW);
        receiver.recorder().hand_over();
        let tick = collector
            .take(|series, _, cell| {
                if let Cell::Counter(sum) = cell {
                    *sums.entry(series.key().to_owned()).or_default() += sum.to_f64();
                }
            })
            .unwrap();
        samples += tick.intake.samples;
        overflow += tick.intake.overflow;
        assert_eq!(tick.intake.refused_total, 0);
        if round == 20 {
            collector.renew_after(NOW, 0);
        }
    }
    assert_eq!((samples, sums.values().sum::<f64>()), (40 * 204, 40.0 * (4_903.0 + 200.0 - 2.0)));
    assert_eq!((sums["signups"], sums["paid.eur"]), (40.0, 40.0 * 4_900.0));
    let beyond: f64 = ["flood", "signups", "other", "paid"]
        .iter()
        .filter_map(|first| sums.get(&format!("{first}.tallyd_overflow")))
        .sum();
    assert_eq!(beyond, overflow as f64);
    let tagged = sums.keys().filter(|key| key.starts_with("signups;")).count();
    // Its own name, once for each kind, is among those that have a place of the figure's.
    let room = limits::FIGURE_SERIES_MAX - 4..=limits::FIGURE_SERIES_MAX + 4;
    assert!(room.contains(&tagged), "{tagged}");
}

/// Where only declared names are counted, all others are refused, however often they come.
#[test]
fn names_that_nobody_declared_are_refused() {
    let mut options = Config::default().aggregate;
    options.declared = Some(vec!["signups".to_owned(), "shop.*".to_owned()]);
    let epoch = Epoch::new(NOW, thread::current());
    let waker = Arc::new(Waker::new().unwrap());
    let registry = Arc::new(Registry::of(&options));
    let (recorder, mut collector) = pair(Arc::new(options), Arc::clone(&registry), epoch, waker);
    let mut receiver = Receiver::new(recorder, Config::default().ingest.grammar, false);
    for _ in 0..3 {
        receiver.packet(b"signups:1|c|#a:b\nshop.x:1|g\nsignups.x:1|c\nshopx:1|c\nother:1|c", &"test");
    }
    receiver.finish();
    let intake = collector.take(|_, _, _| {}).unwrap().intake;
    assert_eq!(
        (intake.samples, intake.refused[Refusal::NotDeclared as usize], intake.refused_total),
        (6, 9, 9)
    );
    assert_eq!(registry.len(), 2);
}

/// A hand-over that came too late for its tick comes with the next one, and only with that one: from then on the
/// thread is in step again, and a tick in which nobody is late holds everything that came before it.
#[test]
fn a_thread_that_was_late_once_is_in_step_again() {
    let config = Config::default();
    let (give, take) = sync_channel::<flush::Parts>(1);
    let (commands, inbox) = sync_channel(1);
    let flusher = thread::spawn(move || Flusher::new(take.recv().unwrap()).run(&inbox));
    let epoch = Epoch::new(NOW, flusher.thread().clone());
    let registry = Arc::new(Registry::new(10));
    let options = Arc::new(config.aggregate.clone());
    let waker = Arc::new(Waker::new().unwrap());
    let (recorder, collector) = pair(options, Arc::clone(&registry), Arc::clone(&epoch), waker);
    let mut receiver = Receiver::new(recorder, config.ingest.grammar, false);
    let books = Arc::new(Books::default());
    let rules = Rules {
        ladder: Ladder::single(config.flush.bucket, 3_600_000),
        bounds: config.aggregate.bounds,
        bytes_max: usize::MAX,
        destinations: Vec::new(),
        history: Vec::new(),
        figures: Vec::new(),
    };
    let parts = flush::Parts {
        options: flush::Options { memory_bytes_max: usize::MAX, ..config.flush },
        clock: Clock::manual(NOW),
        epoch,
        collectors: vec![collector],
        registry,
        store: Arc::new(EmbeddedStore::in_memory(rules, config.idle.clone())),
        safe: Safe::default(),
        books: Arc::clone(&books),
        own_prefix: "own".to_owned(),
        dialect: Dialect::Native,
        on_sealed: Box::new(|| {}),
        producer: 1,
        totals: None,
    };
    give.send(parts).unwrap();
    let mut sent = 0;
    for tick in 0..6 {
        receiver.packet(b"a:1|c", &"test");
        sent += 1;
        let late_before = books.hand_overs_late.load(Ordering::Relaxed);
        let (done, answer) = sync_channel(1);
        commands.send(Command::Tick(done)).unwrap();
        while tick > 0 && answer.try_recv().is_err() {
            if receiver.recorder().tick_begun() {
                receiver.recorder().hand_over();
            }
            thread::yield_now();
        }
        if tick == 0 {
            // The thread is held up elsewhere until the tick is over.
            answer.recv().unwrap();
            receiver.recorder().hand_over();
        }
        let late = books.hand_overs_late.load(Ordering::Relaxed) > late_before;
        assert!(late || tick > 0);
        let counted = books.samples.load(Ordering::Relaxed);
        assert!(late || counted == sent, "tick {tick}: nobody was late, and {counted} of {sent} are counted");
    }
    receiver.finish();
    let (done, answer) = sync_channel(1);
    commands.send(Command::Drain(done)).unwrap();
    answer.recv().unwrap();
    flusher.join().unwrap();
    assert_eq!(books.samples.load(Ordering::Relaxed), sent);
}
