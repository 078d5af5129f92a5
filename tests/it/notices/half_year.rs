//! Half a year of a company in Paris, told to two webhooks by two nodes: exactly the messages of a list of all events.
//!
//! ```text
//!   events ─▶ store ─▶ two engines ─▶ two notifiers ─▶ one board ─▶ two real receivers
//!      └──────────▶ the oracle, which adds up days by hand ─▶ what must have been told
//! ```
//!
//! It runs through both changes of clocks. Nodes are restarted, the one that sends changes, receivers fail for an hour,
//! and a day is partial. `TALLYD_TEST_LONG` takes shorter steps.

use super::receiver::{Receiver, Taken};
use crate::page::world::{HOUR, MINUTE, Sample, World, long};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike};
use chrono_tz::{Europe::Paris, Tz};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tallyd::clock::Clock;
use tallyd::config;
use tallyd::figures::Engine;
use tallyd::health::Books;
use tallyd::notify::{FileBoard, Notifier, Source};
use tallyd::store::{Board, Notes, StoreError};

const ZONE: Tz = Paris;
/// The first Monday; for four weeks nothing is judged, since nothing is usual yet.
const FIRST: &str = "2026-08-31";
const LEARNT_WEEKS: u64 = 4;
const PLAYED_WEEKS: u64 = 26;
const GOAL_DAY: i64 = 80;
const GOAL_WEEK: i64 = 445;
const GOAL_MONTH: i64 = 1_800;

fn moment(date: NaiveDate, hour: u32, minute: u32) -> i64 {
    let local = NaiveDateTime::new(date, NaiveTime::from_hms_opt(hour, minute, 0).unwrap());
    ZONE.from_local_datetime(&local).earliest().unwrap().timestamp_millis()
}

fn local(at: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at).unwrap().with_timezone(&ZONE).naive_local()
}

fn day(number: u64) -> NaiveDate {
    FIRST.parse::<NaiveDate>().unwrap() + Days::new(number)
}

/// Something that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// No sign-ups from one time to another, which may be of the next day.
    Stop { from: (u64, u32), to: (u64, u32) },
    /// So many more sign-ups at three in the afternoon.
    More(u64, i64),
}

use Plan::{More, Stop};

/// Days count from the first one.
const PLANS: [Plan; 15] = [
    More(30, 10),
    Stop { from: (38, 9), to: (38, 15) },
    More(45, 30),
    // Not the best any more.
    More(50, 20),
    // Over the night; the first events of the morning end it.
    Stop { from: (52, 14), to: (53, 9) },
    // The clocks went back on day 55, a Sunday.
    More(55, 50),
    Stop { from: (59, 10), to: (59, 16) },
    Stop { from: (59, 17), to: (60, 11) },
    More(73, 31),
    Stop { from: (80, 9), to: (80, 18) },
    More(94, 29),
    More(120, 32),
    Stop { from: (150, 9), to: (150, 14) },
    // To the end of a Friday, so that the next one comes on Saturday.
    Stop { from: (207, 8), to: (207, 20) },
    // On Sunday the clocks go forward.
    More(209, 60),
];
/// The receiver of JSON fails for an hour from here: when a stop is told, when goals are reached, and at the hour of a digest.
const OUTAGES: [(u64, u32, u32); 4] = [(38, 10, 30), (45, 16, 0), (59, 8, 0), (94, 16, 45)];
/// From noon on datagrams are dropped, and at three o'clock a goal is reached.
const PARTIAL: (u64, u32) = (120, 12);

/// All sign-ups, in order.
fn signups() -> Vec<i64> {
    let mut events = Vec::new();
    for number in 0..(LEARNT_WEEKS + PLAYED_WEEKS) * 7 {
        let date = day(number);
        let every = if number % 7 < 5 { 10 } else { 20 };
        for minute in (8 * 60..20 * 60).step_by(every) {
            // A little past the ten minutes, as life is.
            events.push(moment(date, minute / 60, minute % 60) + 3_000);
        }
        for plan in PLANS {
            if let More(on, count) = plan
                && on == number
            {
                events.extend((0..count).map(|n| moment(date, 15, 0) + n * 7_000));
            }
        }
    }
    for plan in PLANS {
        if let Stop { from, to } = plan {
            let stop = moment(day(from.0), from.1, 0)..moment(day(to.0), to.1, 0);
            events.retain(|event| !stop.contains(event));
        }
    }
    events.sort_unstable();
    events
}

/// What must be told, by id, with when it may come at the earliest and at the latest.
#[derive(Debug, Default)]
struct Expected(BTreeMap<String, (i64, i64)>);

/// Until when it is told: that may take a step, a restart with its quarter of an hour, or an hour's failure with the
/// pause after it; at night steps are long.
fn late(at: i64) -> i64 {
    at + if (5..20).contains(&local(at).hour()) { 100 * MINUTE } else { 7 * HOUR }
}

impl Expected {
    fn goal(&mut self, id: String, at: i64) {
        self.0.entry(id).or_insert((at, late(at)));
    }

    /// Adds up by hand.
    fn of(events: &[i64], began: i64) -> Self {
        let mut this = Self::default();
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        let mut best: Vec<i64> = Vec::new();
        let mut days: BTreeMap<NaiveDate, Vec<i64>> = BTreeMap::new();
        for event in events {
            days.entry(local(*event).date()).or_default().push(*event);
        }
        for (date, events) in &days {
            let monday = *date - Days::new(u64::from(date.weekday().num_days_from_monday()));
            let month = date.with_day(1).unwrap();
            for (n, event) in events.iter().enumerate() {
                for (id, goal) in [
                    (format!("goal signups day {date}"), GOAL_DAY),
                    (format!("goal signups week {monday}"), GOAL_WEEK),
                    (format!("goal signups month {month}"), GOAL_MONTH),
                ] {
                    let sum = sums.entry(id.clone()).or_default();
                    *sum += 1;
                    if *sum == goal {
                        this.goal(id, *event);
                    }
                }
                let most = best.iter().copied().max().unwrap_or(i64::MAX);
                if best.len() >= 14 && n as i64 + 1 == most + 1 {
                    this.goal(format!("record signups {date}"), *event);
                }
            }
            best.push(events.len() as i64);
        }
        // Of what is told during the partial day, on the next one.
        let noon = moment(day(PARTIAL.0), PARTIAL.1, 0);
        let midnight = moment(day(PARTIAL.0 + 1), 0, 0);
        for (earliest, latest) in this.0.values_mut() {
            if (noon..midnight).contains(earliest) {
                (*earliest, *latest) = (midnight, late(midnight));
            }
        }
        let mut number = 0;
        for plan in PLANS {
            if let Stop { from, to } = plan {
                number += 1;
                let (from, to) = (moment(day(from.0), from.1, 0), moment(day(to.0), to.1, 0));
                this.0.insert(
                    format!("stalled signups {number}"),
                    (from + HOUR, late(to.max(from + 5 * HOUR))),
                );
                let next = events.iter().copied().find(|event| *event >= to).unwrap();
                this.0.insert(format!("clear signups {number}"), (next, late(next)));
            }
        }
        let all = (LEARNT_WEEKS + PLAYED_WEEKS) * 7;
        for date in (0..all).map(day).filter(|date| date.weekday().num_days_from_monday() < 5) {
            let at = moment(date, 8, 30);
            if at > began {
                this.0.insert(format!("digest {date}"), (at, late(at)));
            }
        }
        this
    }
}

/// One node's view of the board.
struct Seat {
    board: Arc<FileBoard>,
    node: usize,
    sender: Arc<AtomicUsize>,
}

impl Board for Seat {
    fn read(&self, seen: Option<u64>) -> Result<Option<Notes>, StoreError> {
        self.board.read(seen)
    }
    fn post(&self, name: &str, text: &str) -> Result<bool, StoreError> {
        self.board.post(name, text)
    }
    fn change(&self, name: &str, text: Option<&str>) -> Result<(), StoreError> {
        self.board.change(name, text)
    }
    fn is_ours(&self) -> bool {
        self.sender.load(Ordering::SeqCst) == self.node
    }
}

struct Node {
    engine: Arc<Engine>,
    books: Arc<Books>,
    notifier: Notifier,
}

struct Company {
    world: World,
    config: config::Config,
    clock: Clock,
    board: Arc<FileBoard>,
    sender: Arc<AtomicUsize>,
    dropped: u64,
}

impl Company {
    fn node(&self, node: usize) -> Node {
        let (now, books) = (self.clock.now(), Arc::new(Books::default()));
        let store = Arc::clone(&self.world.store);
        let count = Box::new(|_, _| true);
        let engine =
            Arc::new(Engine::new(self.config.figures.clone(), store, Arc::clone(&books), now, count));
        let (pages, closing) = (Arc::clone(&engine), Arc::clone(&engine));
        let source = Source {
            pages: Box::new(move || pages.pages().filter_map(|page| pages.state(&page.path)).collect()),
            closing: Box::new(move |date| closing.closing(date)),
            board: Arc::new(Seat { board: Arc::clone(&self.board), node, sender: Arc::clone(&self.sender) }),
        };
        let notifier = Notifier::new(self.config.notify.clone(), &self.clock, source, Arc::default());
        Node { engine, books, notifier }
    }
}

fn configuration(json: &Receiver, slack: &Receiver) -> String {
    format!(
        "[company]\ntimezone = '{}'\n\
         [[figure]]\nid = 'signups'\nmetric = 'signups'\nlabel = 'Sign-ups'\nalarm = 'stalled'\n\
         goal = {{ day = {GOAL_DAY}, week = {GOAL_WEEK}, month = {GOAL_MONTH} }}\n\
         [[figure]]\nid = 'revenue'\nmetric = 'revenue.*'\nkind = 'money'\n\
         [[notify]]\nwebhook = '{}'\nstyle = 'json'\ndigest = '08:30 mon-fri'\n\
         [[notify]]\nwebhook = '{}'\ndigest = '08:30 mon-fri'\n",
        ZONE.name(),
        json.url(),
        slack.url()
    )
}

#[test]
fn half_a_year_is_told_exactly_once() {
    let (json, slack) = (Receiver::start(), Receiver::start());
    let toml = configuration(&json, &slack);
    let began = moment(day(0), 7, 0);
    let end = moment(day((LEARNT_WEEKS + PLAYED_WEEKS) * 7), 0, 0);
    let events = signups();
    let expected = Expected::of(&events, began);
    let mut company = Company {
        world: World::new(&toml, began),
        config: config::native(&toml, std::iter::empty()).unwrap().config,
        clock: Clock::manual(began),
        board: Arc::new(FileBoard::open(None)),
        sender: Arc::default(),
        dropped: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = StdRng::seed_from_u64(26);
    let mut nodes = [0, 1].map(|node| company.node(node));
    let mut sent = 0;
    let mut told: [BTreeMap<String, i64>; 2] = Default::default();
    let mut now = began;
    while now < end {
        let step = step(now);
        now += step;
        company.clock.set(now);
        while let Some(event) = events.get(sent).filter(|event| **event <= now) {
            company.world.send(*event, "signups", &Sample::Count(1));
            sent += 1;
        }
        if local(now).hour() == 10 && local(now).minute() < (step / MINUTE) as u32 {
            company.world.send(now, "revenue.eur", &Sample::Count(4_900));
        }
        company.world.flush(now);
        let outage = OUTAGES.iter().any(|(number, hour, minute)| {
            let from = moment(day(*number), *hour, *minute);
            (from..from + HOUR).contains(&now)
        });
        json.answer(if outage { "503 Service Unavailable" } else { "200 OK" });
        mishaps(&mut company, &mut nodes, &mut random, now);
        runtime.block_on(async {
            for node in &mut nodes {
                node.engine.refresh(now);
                node.notifier.step();
                node.notifier.settle().await;
            }
        });
        for (receiver, told) in [&json, &slack].into_iter().zip(&mut told) {
            for message in receiver.taken_after(told.len()) {
                assert!(told.insert(message.key.clone(), now).is_none(), "twice: {message:?}");
            }
        }
    }
    for (told, (name, receiver)) in told.iter().zip([("json", &json), ("slack", &slack)]) {
        compare(name, &expected, told, &receiver.taken());
    }
    assert!(json.asked() >= json.taken().len() + 3, "it failed, and was asked again");
    digests_say_what_was(&events, &json.taken());
}

/// From one look to the next; at night little happens.
fn step(now: i64) -> i64 {
    let by_day = (6..21).contains(&local(now).hour());
    ((if by_day { 30 } else { 180 }) * MINUTE / long()).max(MINUTE)
}

/// Restarts, and changes of who sends; never both nodes at once, and not on the day that is partial.
fn mishaps(company: &mut Company, nodes: &mut [Node; 2], random: &mut StdRng, now: i64) {
    let date = local(now).date();
    if now >= moment(day(PARTIAL.0), PARTIAL.1, 0) && company.dropped == 0 {
        company.dropped = 3;
        for node in nodes.iter() {
            node.books.kernel_drops.store(3, Ordering::Relaxed);
        }
    }
    if date == day(PARTIAL.0) {
        return;
    }
    match random.random_range(0..200) {
        // The other one sends from now on, or for a while nobody does.
        0..4 => company.sender.store(random.random_range(0..3), Ordering::SeqCst),
        4..8 => {
            let at = random.random_range(0..2);
            nodes[at] = company.node(at);
        }
        _ if company.sender.load(Ordering::SeqCst) == 2 => {
            company.sender.store(random.random_range(0..2), Ordering::SeqCst);
        }
        _ => {}
    }
}

fn compare(name: &str, expected: &Expected, told: &BTreeMap<String, i64>, taken: &[Taken]) {
    assert_eq!(told.len(), taken.len(), "{name}: none twice");
    let missing: Vec<_> = expected.0.keys().filter(|id| !told.contains_key(*id)).collect();
    let odd: Vec<_> = taken.iter().filter(|message| !expected.0.contains_key(&message.key)).collect();
    assert!(missing.is_empty() && odd.is_empty(), "{name}: missing {missing:?}, not expected {odd:?}");
    for (id, at) in told {
        let (earliest, latest) = expected.0[id];
        assert!(
            (earliest..=latest).contains(at),
            "{name}: {id} at {}, and not from {} to {}",
            local(*at),
            local(earliest),
            local(latest)
        );
    }
    println!("{name}: {} messages", told.len());
}

/// The figures of every digest are those of the list of events, each day in one digest.
fn digests_say_what_was(events: &[i64], taken: &[Taken]) {
    let mut days: BTreeSet<String> = BTreeSet::new();
    for message in taken.iter().filter(|message| message.body["topic"] == "digest") {
        for item in message.body["figures"].as_array().unwrap() {
            let day = item["day"].as_str().unwrap();
            let text = item["text"].as_str().unwrap();
            assert!(message.text().contains(text));
            if item["figure"] == "revenue" {
                assert_eq!(text, "€49.00", "{day}");
                continue;
            }
            assert!(days.insert(day.to_owned()), "{day} is in two digests");
            let date: NaiveDate = day.parse().unwrap();
            let count = events.iter().filter(|event| local(**event).date() == date).count();
            assert_eq!(text, count.to_string(), "{day}");
        }
    }
    // From the day before the first digest to the day before the last.
    assert_eq!(days.len() as u64, (LEARNT_WEEKS + PLAYED_WEEKS) * 7 - 3, "{days:?}");
}
