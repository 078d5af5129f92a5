//! One destination's decisions, over a link whose ends the test decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallyd::clock::Clock;
use tallyd::config::Config;
use tallyd::forward::{self, Destination, Flight, ForwardError, Link, Round, Signal};
use tallyd::metric::{Kind, Ladder, Number, Series, Sum, Tally, Width};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Batch, Store};

const WIDTH: i64 = 10_000;
const HOUR_MS: i64 = 3_600_000;

/// What was sent, and which deliveries have ended how.
#[derive(Default)]
struct Wire {
    sent: Vec<String>,
    ended: BTreeMap<usize, bool>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Wire>>);

struct Sent(Shared, usize);

impl Link for Shared {
    fn send(&mut self, bytes: &[u8], _: Duration) -> Result<Box<dyn Flight>, ForwardError> {
        let mut wire = self.0.lock().unwrap();
        wire.sent.push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(Box::new(Sent(self.clone(), wire.sent.len() - 1)))
    }
    fn watch(&mut self) {}
    fn unwatch(&mut self) {}
    fn watch_ended(&mut self) -> bool {
        false
    }
}

impl Flight for Sent {
    fn settled(&mut self) -> Option<Result<(), ForwardError>> {
        let ended = self.0.0.lock().unwrap().ended.get(&self.1).copied()?;
        Some(if ended { Ok(()) } else { Err(ForwardError::Unconfirmed("it was cut")) })
    }
}

struct Case {
    store: Arc<dyn Store>,
    clock: Clock,
    destination: Destination,
    wire: Shared,
    batches: u64,
}

impl Case {
    fn new() -> Self {
        let config = Config::default();
        let rules = Rules {
            ladder: Ladder::single(Width::from_ms(WIDTH as u64), 6 * HOUR_MS),
            bounds: config.aggregate.bounds,
            bytes_max: usize::MAX,
            destinations: vec!["carbon:2003".to_owned()],
            history: Vec::new(),
            figures: Vec::new(),
        };
        let options = forward::Options { addresses: rules.destinations.clone(), ..config.graphite.clone() };
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(rules, config.idle.clone()));
        let (clock, wire) = (Clock::manual(2 * HOUR_MS), Shared::default());
        let expand = Arc::new(arc_swap::ArcSwap::from_pointee(config.expand.clone()));
        let (signal, options) = (Arc::new(Signal::default()), Arc::new(options));
        let destination = Destination::new(0, options, expand, Arc::clone(&store), clock.clone(), signal)
            .over(Box::new(wire.clone()));
        Self { store, clock, destination, wire, batches: 0 }
    }

    /// Something is counted in a bucket, which is sealed, or amended if it was.
    fn count(&mut self, bucket: i64) {
        self.batches += 1;
        let mut sum = Sum::ZERO;
        sum.add(Number::Decimal { mantissa: 1, places: 0 });
        let entries = vec![(Series::new(Kind::Counter, "a"), Tally::Counter(sum))];
        let now = self.clock.now();
        self.store.apply(Batch { producer: 1, number: self.batches, bucket, entries }, now).unwrap();
        self.store.fold(now + HOUR_MS, now).unwrap();
        // New series would be stated again for a reason of their own.
        for cohort in self.store.cohorts(0) {
            self.store.restated(0, cohort, true);
        }
    }

    /// The next moment; returns what was sent of `a` in it, by second.
    fn round(&mut self) -> (Round, Vec<(i64, String)>) {
        self.clock.pass(10);
        let before = self.wire.0.lock().unwrap().sent.len();
        let round = self.destination.round(None);
        let wire = self.wire.0.lock().unwrap();
        let lines = wire.sent[before..].iter().flat_map(|text| text.lines());
        let counts = lines.filter_map(|line| {
            let [path, value, time] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            path.ends_with("counters.a.count").then(|| (time.parse().unwrap(), value.to_owned()))
        });
        (round, counts.collect())
    }

    fn end(&self, delivery: usize, is_confirmed: bool) {
        self.wire.0.lock().unwrap().ended.insert(delivery, is_confirmed);
    }
}

#[test]
fn no_other_version_of_a_bucket_leaves_while_one_is_in_flight() {
    let mut case = Case::new();
    case.count(HOUR_MS);
    assert_eq!(case.round().1, [(3_600, "1".to_owned())]);
    case.count(HOUR_MS);
    assert_eq!(case.round(), (Round::Waiting, vec![]), "carbon may read the older one last");
    case.end(0, true);
    assert_eq!(case.round().1, [(3_600, "2".to_owned())]);
}

#[test]
fn after_a_failure_what_was_confirmed_lately_goes_again_however_old_it_is() {
    let mut case = Case::new();
    case.count(HOUR_MS);
    case.round();
    case.end(0, true);
    assert_eq!(case.round(), (Round::Done, vec![]));
    // The clock steps, which makes nothing older or newer.
    case.clock.set(case.clock.now() + HOUR_MS);
    case.count(2 * HOUR_MS);
    case.round();
    case.end(1, false);
    assert_eq!(case.round().0, Round::Failed);
    assert_eq!(case.round().1, [(7_200, "1".to_owned())]);
    case.end(2, true);
    let again = case.round().1;
    assert_eq!(again.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [7_200, 3_600]);
    case.end(3, true);
    assert_eq!(case.round(), (Round::Done, vec![]));
}
