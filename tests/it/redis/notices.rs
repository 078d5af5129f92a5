//! Notices of two nodes over one Redis: one board, and whoever folds the figures' partition sends.

use super::contract::{STATSD_IDLE, open};
use super::server::{APPEND, Server};
use crate::notices::receiver::Receiver;
use crate::support::wait_until;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallyd::clock::Clock;
use tallyd::config;
use tallyd::figures::PageState;
use tallyd::figures::state::{Figure, Goal, Period, Value};
use tallyd::notify::{Notifier, SharedBoard, Source, YOUNG_MS};
use tallyd::store::Store;
use tallyd::store::redis::RedisStore;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(30);
/// Monday, 23 November 2026, 14:05:21 UTC.
const NOW: i64 = 1_795_442_721_250;

fn node(redis: &Server) -> Arc<RedisStore> {
    Arc::new(open(&redis.url(), "t", &STATSD_IDLE, None))
}

fn sends(store: &RedisStore) -> bool {
    store.board().unwrap().is_ours()
}

#[test]
fn a_note_is_put_up_once_and_all_nodes_see_it() {
    let redis = Server::start(&APPEND);
    let stores = [node(&redis), node(&redis)];
    let [one, other] = [0, 1].map(|at| stores[at].board().unwrap());
    let begun = one.read(None).unwrap().unwrap();
    assert!(begun.notes.is_empty());
    assert!(one.post("goal a", "{\"n\":1}").unwrap());
    assert!(!other.post("goal a", "{\"n\":2}").unwrap());
    let seen = other.read(Some(begun.state)).unwrap().unwrap();
    assert_eq!(seen.notes["goal a"], "{\"n\":1}");
    assert_eq!(one.read(Some(seen.state)).unwrap(), None, "nothing new");
    other.change("goal a", Some("{}")).unwrap();
    assert_eq!(one.read(Some(seen.state)).unwrap().unwrap().notes["goal a"], "{}");
    one.change("goal a", None).unwrap();
    assert!(other.read(None).unwrap().unwrap().notes.is_empty());
    // One of them sends, and the other when that one goes.
    assert!(wait_until(PATIENCE, || stores.iter().filter(|store| sends(store)).count() == 1));
    let sender = stores.iter().position(|store| sends(store)).unwrap();
    stores[sender].close();
    assert!(wait_until(PATIENCE, || sends(&stores[1 - sender])));
    assert!(!sends(&stores[sender]));
}

/// A page on which one figure has reached its goals.
fn page(goals: &[Period]) -> Arc<PageState> {
    let goals = goals.iter().map(|period| Goal {
        period: *period,
        target: "100".to_owned(),
        text: "101".to_owned(),
        number: 101.0,
        done: 1.01,
        pace: None,
        words: "reached".to_owned(),
    });
    let value = Value { text: "101".to_owned(), number: 101.0, ..Value::default() };
    let figure = Figure {
        id: "signups".to_owned(),
        version: 1,
        label: "Sign-ups".to_owned(),
        kind: tallyd::figures::state::FigureKind::Count,
        slot: tallyd::figures::state::Slot::Hero,
        group: None,
        state: tallyd::figures::state::FigureState::Live,
        lower_is_better: false,
        values: vec![value],
        period: "today",
        also: Vec::new(),
        last_ms: Some(NOW),
        last_words: None,
        compare: Vec::new(),
        compare_words: None,
        usual: None,
        spark: None,
        goals: goals.collect(),
        quiet: None,
        record: None,
        corrected: None,
        breakdown: Vec::new(),
        snippet: None,
        query: Vec::new(),
    };
    Arc::new(PageState { figures: vec![figure], ..PageState::default() })
}

struct Node {
    store: Arc<RedisStore>,
    notifier: Notifier,
}

impl Node {
    fn start(redis: &Server, toml: &str, clock: &Clock, shown: &Arc<Mutex<Arc<PageState>>>) -> Self {
        let store = node(redis);
        let shown = Arc::clone(shown);
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let source = Source {
            pages: Box::new(move || vec![Arc::clone(&shown.lock().unwrap())]),
            closing: Box::new(|_| Vec::new()),
            board: Arc::new(SharedBoard(shared)),
        };
        let options = config::native(toml, std::iter::empty()).unwrap().config.notify;
        Self { store, notifier: Notifier::new(options, clock, source, Arc::default()) }
    }
}

fn step(runtime: &Runtime, nodes: &mut [Node]) {
    runtime.block_on(async {
        for node in nodes {
            node.notifier.step();
            node.notifier.settle().await;
        }
    });
}

fn keys(receiver: &Receiver) -> Vec<String> {
    receiver.taken().into_iter().map(|taken| taken.key).collect()
}

#[test]
fn whoever_sends_and_goes_leaves_nothing_untold_and_nothing_twice() {
    let redis = Server::start(&APPEND);
    let receiver = Receiver::start();
    let toml = format!("[[notify]]\nwebhook = '{}'\nstyle = 'json'\n", receiver.url());
    let clock = Clock::manual(NOW);
    let shown = Arc::new(Mutex::new(page(&[])));
    let mut nodes =
        vec![Node::start(&redis, &toml, &clock, &shown), Node::start(&redis, &toml, &clock, &shown)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    step(&runtime, &mut nodes);
    *shown.lock().unwrap() = page(&[Period::Day]);
    step(&runtime, &mut nodes);
    assert!(receiver.taken().is_empty(), "they are too young");
    clock.pass(YOUNG_MS);
    let told = |nodes: &mut [Node], expected: &[&str]| {
        let told = wait_until(PATIENCE, || {
            step(&runtime, nodes);
            clock.pass(60_000);
            keys(&receiver).len() >= expected.len()
        });
        // Whoever would tell it again has the time to.
        step(&runtime, nodes);
        assert!(told && keys(&receiver) == expected, "{:?}", keys(&receiver));
    };
    told(&mut nodes, &["goal signups day 2026-11-23"]);
    // The receiver is away, and so is then whoever sends.
    receiver.answer("503 Service Unavailable");
    *shown.lock().unwrap() = page(&[Period::Day, Period::Week]);
    let asked = receiver.asked();
    assert!(wait_until(PATIENCE, || {
        step(&runtime, &mut nodes);
        receiver.asked() > asked
    }));
    let sender = nodes.iter().position(|node| sends(&node.store)).unwrap();
    let gone = nodes.remove(sender);
    gone.store.close();
    drop(gone);
    receiver.answer("200 OK");
    told(&mut nodes, &["goal signups day 2026-11-23", "goal signups week 2026-11-23"]);
    // A node that is new repeats nothing, though it is the only one and knows only what Redis does.
    nodes.remove(0).store.close();
    nodes.push(Node::start(&redis, &toml, &clock, &shown));
    clock.pass(YOUNG_MS);
    *shown.lock().unwrap() = page(&[Period::Day, Period::Week, Period::Month]);
    let all =
        ["goal signups day 2026-11-23", "goal signups week 2026-11-23", "goal signups month 2026-11-01"];
    told(&mut nodes, &all);
}
