//! A carbon that is not real, and the network before it.
//!
//! It keeps what a real one keeps: what it has read is in a cache, path by path, and goes to disk later; a kill takes
//! the cache. A connection is lost before, amid or after its bytes, or only its end is; whoever waits for the end of
//! one that stands still gives up, and carbon reads the rest when it moves again.

use super::trace::Trace;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tallyd::clock::Clock;
use tallyd::forward::{Flight, ForwardError, Link};
use tallyd::limits;

/// What carbon has read is on disk after this long: within what is stated again after it was lost.
const CACHED: Duration = Duration::from_secs(60);

/// How carbon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nobody answers.
    Away,
    /// It accepts connections and reads nothing.
    Stalls,
    /// Deliveries fail in all the ways there are.
    Flaky,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Carbon reads everything and closes.
    Closed,
    /// After so many bytes the connection is gone.
    Cut(usize),
    /// Carbon reads everything, and nobody hears of it.
    Unheard,
}

struct Connection {
    number: u64,
    bytes: Vec<u8>,
    read: usize,
    end: End,
    /// Nobody waits for its end any more.
    is_abandoned: bool,
}

#[derive(Default)]
struct Cached {
    since: Duration,
    points: BTreeMap<i64, f64>,
}

pub(super) struct Graphite {
    random: StdRng,
    clock: Clock,
    pub(super) trace: Trace,
    pub(super) mood: Mood,
    connections: Vec<Connection>,
    ended: BTreeMap<u64, bool>,
    opened: u64,
    cache: BTreeMap<String, Cached>,
    disk: BTreeMap<(String, i64), f64>,
    /// How often it was killed.
    pub(super) kills: u64,
    pub(super) failures: u64,
}

/// The one Graphite, shared by its user and the connections to it.
pub(super) type Shared = Arc<Mutex<Graphite>>;

pub(super) fn lock(graphite: &Shared) -> MutexGuard<'_, Graphite> {
    graphite.lock().unwrap()
}

impl Graphite {
    pub(super) fn new(seed: u64, clock: Clock) -> Shared {
        Arc::new(Mutex::new(Self {
            random: StdRng::seed_from_u64(seed),
            clock,
            trace: Trace::default(),
            mood: Mood::Well,
            connections: Vec::new(),
            ended: BTreeMap::new(),
            opened: 0,
            cache: BTreeMap::new(),
            disk: BTreeMap::new(),
            kills: 0,
            failures: 0,
        }))
    }

    fn accept(&mut self, bytes: &[u8]) -> Result<u64, ForwardError> {
        let away = || Err(ForwardError::Connect(io::ErrorKind::ConnectionRefused.into()));
        let broken = || Err(ForwardError::Write(io::ErrorKind::BrokenPipe.into()));
        let cut = self.random.random_range(0..=bytes.len());
        let (end, is_abandoned) = match (self.mood, self.random.random_range(0..10)) {
            (Mood::Away, _) | (Mood::Flaky, 0) => return away(),
            (Mood::Flaky, 1..3) => (End::Cut(cut), true),
            (Mood::Flaky, 3..5) => (End::Cut(cut), false),
            (Mood::Flaky, 5..7) => (End::Unheard, false),
            _ => (End::Closed, false),
        };
        self.opened += 1;
        let bytes = bytes.to_vec();
        self.connections.push(Connection { number: self.opened, bytes, read: 0, end, is_abandoned });
        if is_abandoned { broken() } else { Ok(self.opened) }
    }

    /// Carbon's next moment: every connection gets its turn, in any order. What nobody waits for any more lies in its
    /// buffers whole; of the others the network has brought a part.
    pub(super) fn work(&mut self) {
        let now = self.clock.passed();
        if self.mood != Mood::Stalls {
            let mut connections = std::mem::take(&mut self.connections);
            connections.shuffle(&mut self.random);
            connections.retain_mut(|connection| self.serve(connection));
            self.connections = connections;
        }
        let flushes = self.random.random_range(0..4) == 0;
        let cache = std::mem::take(&mut self.cache);
        for (path, cached) in cache {
            let is_due = now.saturating_sub(cached.since) >= CACHED;
            if is_due || (flushes && self.random.random()) {
                self.disk
                    .extend(cached.points.into_iter().map(|(time, value)| ((path.clone(), time), value)));
            } else {
                self.cache.insert(path, cached);
            }
        }
    }

    /// Reads of a connection; returns whether there is more to come.
    fn serve(&mut self, connection: &mut Connection) -> bool {
        let length = match connection.end {
            End::Cut(length) => length,
            End::Closed | End::Unheard => connection.bytes.len(),
        };
        let some = if connection.is_abandoned || self.random.random() {
            length
        } else {
            self.random.random_range(connection.read..=length)
        };
        let whole = |upto: usize| {
            connection.bytes[..upto].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
        };
        let (from, to) = (whole(connection.read), whole(some));
        let text = std::str::from_utf8(&connection.bytes[from..to]).unwrap();
        self.trace.note(text);
        for line in text.lines() {
            self.read(line);
        }
        connection.read = some;
        if some == length {
            self.ended.insert(connection.number, connection.end == End::Closed);
        }
        some < length
    }

    fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
        let (path, value, time) = (word(), word().parse().unwrap(), word().parse().unwrap());
        let now = self.clock.passed();
        let fresh = || Cached { since: now, ..Cached::default() };
        self.cache.entry(path.to_owned()).or_insert_with(fresh).points.insert(time, value);
    }

    /// Nobody waits for the end of a connection any more.
    fn abandon(&mut self, number: u64) {
        if let Some(ours) = self.connections.iter_mut().find(|one| one.number == number) {
            ours.is_abandoned = true;
        }
    }

    /// Carbon is killed, and another one starts.
    pub(super) fn kill(&mut self) {
        self.kills += 1;
        self.cache.clear();
        for connection in self.connections.drain(..) {
            self.ended.insert(connection.number, false);
        }
    }

    /// What it has of a path at a time, in seconds.
    pub(super) fn get(&self, path: &str, time: i64) -> Option<f64> {
        let cached = self.cache.get(path).and_then(|cached| cached.points.get(&time));
        cached.or_else(|| self.disk.get(&(path.to_owned(), time))).copied()
    }

    /// All points of paths that begin so.
    pub(super) fn points(&self, prefix: &str) -> BTreeSet<(&str, i64)> {
        let cached = self
            .cache
            .iter()
            .flat_map(|(path, cached)| cached.points.keys().map(|time| (path.as_str(), *time)));
        let on_disk = self.disk.keys().map(|(path, time)| (path.as_str(), *time));
        cached.chain(on_disk).filter(|(path, _)| path.starts_with(prefix)).collect()
    }
}

/// A destination's way to it.
pub(super) struct Wire {
    pub(super) graphite: Shared,
    /// The idle connection, with the carbon it leads to.
    pub(super) watching: Option<u64>,
}

struct Sent {
    graphite: Shared,
    number: u64,
    deadline: Duration,
}

impl Link for Wire {
    fn send(&mut self, bytes: &[u8], _: Duration) -> Result<Box<dyn Flight>, ForwardError> {
        let mut graphite = lock(&self.graphite);
        let deadline = graphite.clock.passed() + Duration::from_millis(limits::CARBON_CONFIRM_MS);
        let sent = graphite.accept(bytes);
        graphite.failures += u64::from(sent.is_err());
        let number = sent?;
        Ok(Box::new(Sent { graphite: Arc::clone(&self.graphite), number, deadline }))
    }

    fn watch(&mut self) {
        let graphite = lock(&self.graphite);
        if self.watching.is_none() && graphite.mood != Mood::Away {
            self.watching = Some(graphite.kills);
        }
    }

    fn unwatch(&mut self) {
        self.watching = None;
    }

    fn watch_ended(&mut self) -> bool {
        let kills = lock(&self.graphite).kills;
        self.watching.take_if(|of| *of != kills).is_some()
    }
}

/// Its process may be gone; the system goes on to bring what it had sent.
impl Drop for Sent {
    fn drop(&mut self) {
        // A history that has failed is on its way out.
        if let Ok(mut graphite) = self.graphite.lock() {
            graphite.abandon(self.number);
        }
    }
}

impl Flight for Sent {
    fn settled(&mut self) -> Option<Result<(), ForwardError>> {
        let mut graphite = lock(&self.graphite);
        let settled = match graphite.ended.remove(&self.number) {
            Some(true) => Some(Ok(())),
            Some(false) => Some(Err(ForwardError::Unconfirmed("the connection was reset"))),
            None if graphite.clock.passed() >= self.deadline => {
                graphite.abandon(self.number);
                Some(Err(ForwardError::Unconfirmed("it did not close in time")))
            }
            None => None,
        };
        graphite.failures += u64::from(matches!(settled, Some(Err(_))));
        settled
    }
}
