//! The series known on this node, each held once however many threads count into it.
//!
//! Asked only when an ingest thread meets a raw name for the first time, so mutexes are enough; the hot path never
//! comes here. There are several, so that forgetting the idle among a million series holds nobody up for long.
//! Places are bounded by `limits.series_max`, and what names take by a share of `limits.memory_max`: a new series
//! beyond either finds no place, known ones go on. Series that the configuration's figures name always find one: each
//! figure has some of its own, which nobody else takes.

use super::Options;
use super::heavy::Heavy;
use super::overflow::{Overflow, Prefixes};
use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Bounds, Kind, Series, glob};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of the registry, each behind a lock of its own.
const PARTS: usize = 16;

/// The set of known series.
#[derive(Debug)]
pub struct Registry {
    /// Written by ingest threads on a new name and by the flusher when it forgets; nobody waits long.
    parts: [Mutex<HashTable<Series>>; PARTS],
    hasher: foldhash::fast::RandomState,
    /// Places taken. Raised before a series is put into its part, so that it is never below the truth.
    taken: AtomicUsize,
    series_max: usize,
    /// What names and their series take, in bytes: about. Ingest threads add what their own index takes.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// What is given up, as [`Scarcity`]; set by the flusher while memory is short. It orders nothing.
    scarcity: AtomicU8,
    /// Globs of names that figures show.
    figures: Vec<String>,
    /// Series in the places of figures, each with the figure's number.
    reserved: Mutex<HashMap<Series, usize, foldhash::fast::RandomState>>,
    overflow: Mutex<Overflow>,
    prefixes: Mutex<Prefixes>,
}

/// What is given up while memory is short, each with what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scarcity {
    /// Nothing.
    None,
    /// Timers and sets are exact up to few values only.
    Exactness,
    /// New series find no place.
    NewNames,
    /// Series that are known find none either, when their names are learned anew.
    Names,
}

/// A series that has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which.
    pub series: Series,
    /// The configuration's figures name it: it is counted for itself, whatever else is short.
    pub declared: bool,
    /// It was not known before.
    pub made: bool,
}

/// Who makes series, and whose samples found no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Makers {
    /// Prefixes under which series were made, the one with most first.
    pub born: Vec<Heavy<String>>,
    /// Prefixes whose samples were counted in overflow series.
    pub shed: Vec<Heavy<String>>,
    /// How many names those samples had since the start, about.
    pub names_shed: u64,
}

impl Registry {
    /// A registry of at most `series_max` series, and as many bytes as they take.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: foldhash::fast::RandomState::default(),
            taken: AtomicUsize::new(0),
            series_max,
            bytes: AtomicUsize::new(0),
            bytes_max: usize::MAX,
            scarcity: AtomicU8::new(Scarcity::None as u8),
            figures: Vec::new(),
            reserved: Mutex::default(),
            overflow: Mutex::new(Overflow::new()),
            prefixes: Mutex::new(Prefixes::new()),
        }
    }

    /// The one that the configuration asks for.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        Self {
            bytes_max: options.names_bytes_max,
            figures: options.figures.clone(),
            ..Self::new(options.series_max)
        }
    }

    /// The one handle to a series, made if there is room for it; `None` if there is not, or if whoever asks has no
    /// room of its own. Series of figures are made in any case.
    pub fn intern(&self, kind: Kind, key: &str, room: bool) -> Option<Placed> {
        let figure = self.figure_of(key);
        if figure.is_none() && self.is_scarce(Scarcity::Names) {
            return None;
        }
        let hash = self.hash(kind, key);
        let mut part = lock(self.part(hash));
        let (series, made) = if let Some(known) = part.find(hash, |known| is(known, kind, key)) {
            (known.clone(), false)
        } else if room && self.take_place(series_bytes(kind, key)) {
            let series = Series::new(kind, key);
            part.insert_unique(hash, series.clone(), |known| self.hash(known.kind(), known.key()));
            drop(part);
            lock(&self.prefixes).born(key);
            (series, true)
        } else {
            drop(part);
            self.intern_reserved(Series::new(kind, key), figure?)?
        };
        Some(Placed { series, declared: figure.is_some(), made })
    }

    /// The number of the figure that names a key.
    fn figure_of(&self, key: &str) -> Option<usize> {
        let (name, _) = crate::metric::name::split_key(key);
        self.figures.iter().position(|glob| glob::matches(glob, name))
    }

    /// A place of a figure's own. The name that it gives, without tags, needs none that others could have taken.
    fn intern_reserved(&self, series: Series, figure: usize) -> Option<(Series, bool)> {
        let mut reserved = lock(&self.reserved);
        if let Some((known, _)) = reserved.get_key_value(&series) {
            return Some((known.clone(), false));
        }
        let is_itself = self.figures.get(figure).is_some_and(|name| name == series.key());
        let room = limits::FIGURE_SERIES_MAX;
        if !is_itself && reserved.values().filter(|&&taken| taken == figure).count() >= room {
            return None;
        }
        reserved.insert(series.clone(), figure);
        drop(reserved);
        lock(&self.prefixes).born(series.key());
        Some((series, true))
    }

    fn take_place(&self, bytes: usize) -> bool {
        if self.is_scarce(Scarcity::NewNames)
            || self.bytes.load(Ordering::Relaxed) + bytes > self.bytes_max / 4 * 3
        {
            return false;
        }
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.series_max).then_some(taken + 1)
            })
            .is_ok();
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Room for what an ingest thread notes of a raw name. Known series may take what new ones may not.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let room = self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max;
        if room {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        room
    }

    /// An ingest thread has dropped its notes.
    pub(super) fn discharge(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The series that counts for those of a first component which have no place, and whether it counts for no others.
    pub fn overflow(&self, kind: Kind, first: Option<&str>) -> (Series, bool) {
        let mut overflow = lock(&self.overflow);
        match first {
            Some(first) => overflow.of(kind, first),
            None => (overflow.for_all(kind), true),
        }
    }

    /// A sample of a key found no place.
    pub(super) fn shed(&self, key: &str) {
        lock(&self.prefixes).shed(key);
    }

    /// What is given up from now on.
    pub fn set_scarcity(&self, scarcity: Scarcity) {
        self.scarcity.store(scarcity as u8, Ordering::Relaxed);
    }

    /// Whether so much is given up.
    fn is_scarce(&self, scarcity: Scarcity) -> bool {
        self.scarcity.load(Ordering::Relaxed) >= scarcity as u8
    }

    /// Up to where timers and sets are exact now.
    pub(super) fn bounds(&self, usual: Bounds) -> Bounds {
        if !self.is_scarce(Scarcity::Exactness) {
            return usual;
        }
        let few = |usual: usize| usual.min(limits::SCARCE_EXACT_MAX);
        Bounds { timer_exact_max: few(usual.timer_exact_max), set_exact_max: few(usual.set_exact_max) }
    }

    /// How many series there are too many for new ones to find places: none while there is some room.
    pub fn excess(&self) -> usize {
        let (taken, bytes) = (self.len(), self.bytes.load(Ordering::Relaxed));
        let full = taken > self.series_max / 8 * 7
            || bytes > self.bytes_max / 32 * 21
            || self.is_scarce(Scarcity::NewNames);
        if full { taken / 4 } else { 0 }
    }

    /// Forgets the series that nobody else holds.
    pub fn forget_unheld(&self) {
        for part in &self.parts {
            let (mut gone, mut bytes) = (0, 0);
            lock(part).retain(|series| {
                let held = series.handles() > 1;
                if !held {
                    gone += 1;
                    bytes += series_bytes(series.kind(), series.key());
                }
                held
            });
            self.taken.fetch_sub(gone, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        lock(&self.reserved).retain(|series, _| series.handles() > 1);
        lock(&self.overflow).forget_unheld();
    }

    /// Who makes series, of late.
    pub fn makers(&self, now: WallMs) -> Makers {
        let mut prefixes = lock(&self.prefixes);
        prefixes.turn(now);
        let [born, shed] = prefixes.top();
        Makers { born, shed, names_shed: prefixes.names_shed() }
    }

    /// How many places are taken, those of figures not among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether no place is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, kind: Kind, key: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.write_u8(kind as u8);
        hasher.finish()
    }

    /// The part a series is in; a table takes its own bits from the two ends of the hash.
    fn part(&self, hash: u64) -> &Mutex<HashTable<Series>> {
        let [first, ..] = &self.parts;
        self.parts.get((hash >> 40) as usize % PARTS).unwrap_or(first)
    }
}

fn is(known: &Series, kind: Kind, key: &str) -> bool {
    known.kind() == kind && known.key() == key
}

/// What a series takes wherever it is known, about.
fn series_bytes(kind: Kind, key: &str) -> usize {
    limits::SERIES_BYTES.get(kind as usize).copied().unwrap_or_default() + key.len()
}

/// A panic while one is held ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(registry: &Registry, kind: Kind, key: &str) -> Option<Series> {
        registry.intern(kind, key, true).map(|placed| placed.series)
    }

    #[test]
    fn a_series_is_held_once_and_the_limit_holds() {
        let registry = Registry::new(2);
        let a = placed(&registry, Kind::Counter, "a").unwrap();
        let again = placed(&registry, Kind::Counter, "a").unwrap();
        assert_eq!(a, again);
        assert_eq!(a.handles(), 3);
        placed(&registry, Kind::Timer, "a").unwrap();
        assert_eq!(placed(&registry, Kind::Counter, "b"), None);
        assert!(placed(&registry, Kind::Counter, "a").is_some());
        assert!(Registry::new(100).excess() == 0);
        registry.forget_unheld();
        assert_eq!(registry.len(), 1);
        assert!(placed(&registry, Kind::Counter, "b").is_some());
    }

    #[test]
    fn names_have_a_limit_in_bytes_too() {
        let each = limits::SERIES_BYTES[Kind::Counter as usize];
        let bytes_max = 40 * each;
        let registry = Registry { bytes_max, ..Registry::new(1_000) };
        let held: Vec<_> =
            (0..100).map_while(|i| registry.intern(Kind::Counter, &format!("n{i:02}"), true)).collect();
        assert_eq!(held.len(), 30 * each / (each + 3));
        assert!(registry.charge(bytes_max / 8), "what is known may take the rest");
        assert!(!registry.charge(bytes_max / 4));
        registry.discharge(bytes_max / 8);
        drop(held);
        registry.forget_unheld();
        assert!(registry.is_empty());
        assert_eq!(registry.bytes.load(Ordering::Relaxed), 0);
        registry.set_scarcity(Scarcity::Exactness);
        let known = registry.intern(Kind::Counter, "known", true);
        registry.set_scarcity(Scarcity::NewNames);
        assert_eq!(registry.intern(Kind::Counter, "n", true), None);
        assert_eq!(placed(&registry, Kind::Counter, "known"), known.map(|known| known.series));
        assert_eq!(registry.excess(), registry.len() / 4);
        registry.set_scarcity(Scarcity::Names);
        assert_eq!(registry.intern(Kind::Counter, "known", true), None);
        registry.set_scarcity(Scarcity::None);
        assert!(registry.intern(Kind::Counter, "n", true).is_some());
    }

    #[test]
    fn what_figures_name_always_has_a_place() {
        let figures = vec!["signups".to_owned(), "paid.*".to_owned()];
        let registry = Registry { figures, ..Registry::new(1) };
        let other = registry.intern(Kind::Counter, "other", true).unwrap();
        assert!(!other.declared);
        // Somebody floods a figure with tags: it is full, and the other one is not; nor is its own name.
        let room = limits::FIGURE_SERIES_MAX;
        let flood: Vec<_> = (0..2 * room)
            .map_while(|i| registry.intern(Kind::Counter, &format!("signups;user={i}"), true))
            .collect();
        assert_eq!(flood.len(), room);
        assert!(flood.iter().all(|placed| placed.declared));
        for key in ["signups", "paid.eur", "paid.usd", "signups;user=3"] {
            let placed = registry.intern(Kind::Counter, key, false).unwrap();
            assert_eq!((placed.series.key(), placed.declared), (key, true));
        }
        assert_eq!(registry.intern(Kind::Counter, "signups.more", true), None);
        assert_eq!(registry.len(), 1);
        drop(flood);
        registry.forget_unheld();
        assert!(registry.intern(Kind::Counter, "signups;user=9999", true).is_some());
    }
}
