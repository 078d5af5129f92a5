//! What the threads of a Redis store share: where things stand, what the nodes agree on, and how Redis is doing.

use super::confirm::Keeping;
use super::layout::Layout;
use super::link::{Failure, Link, Pipe, pairs};
use super::settings::LAYOUT;
use crate::clock::{Clock, WallMs};
use crate::health::Books;
use crate::limits;
use crate::metric::Bounds;
use crate::store::IdleRules;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A difference of clocks that is worth a warning, in milliseconds.
pub(super) const SKEW_WARNED_MS: i64 = 500;

/// What the first node may change while no other counts: nothing that is kept depends on it.
const CHANGEABLE: [&str; 4] = ["figure.metric", "rollup.history", "timers.exact_max", "sets.exact_max"];
/// A node that was seen so lately is there, in milliseconds.
const ALIVE_MS: i64 = 5_000;

/// What all threads know.
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) clock: Clock,
    pub(super) books: Arc<Books>,
    pub(super) bounds: Bounds,
    pub(super) grace_ms: i64,
    /// Graphite's destinations, by name.
    pub(super) destinations: Vec<String>,
    /// How long after a takeover nothing is struck off.
    pub(super) resend_ms: i64,
    pub(super) idle: Mutex<IdleRules>,
    /// What nodes must agree on, by key.
    settings: BTreeMap<&'static str, String>,
    state: Mutex<State>,
    /// Relaxed: whoever misses it sees it with the next round.
    closed: AtomicBool,
    /// Our clock less that of Redis, in milliseconds.
    skew_ms: AtomicI64,
    skew_warned: AtomicBool,
    /// Known series by partition, as of a moment ago.
    pub(super) series: Vec<AtomicU64>,
    /// Buckets that are due, by partition, likewise.
    pub(super) due: Vec<AtomicU64>,
    due_warned: AtomicBool,
    /// Whether it was said that a later version's bytes were met.
    later_warned: AtomicBool,
    pub(super) sealed: AtomicU64,
    pub(super) amended: AtomicU64,
    pub(super) rolled: AtomicU64,
    pub(super) damaged: AtomicU64,
    /// Buckets that pages look at and that were let go of for want of room.
    pub(super) reread: AtomicU64,
}

#[derive(Default)]
struct State {
    away: Option<(String, WallMs)>,
    keeping: Option<Keeping>,
    trouble: Option<(String, WallMs)>,
    agreed: bool,
    /// The key in which we differ, what it says there and what here.
    differs: Option<(String, String, String)>,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "it is made in one place")]
    pub(super) fn new(
        layout: Layout,
        clock: Clock,
        books: Arc<Books>,
        bounds: Bounds,
        grace_ms: i64,
        destinations: Vec<String>,
        resend_ms: i64,
        idle: IdleRules,
        settings: BTreeMap<&'static str, String>,
    ) -> Self {
        let partitions = layout.partitions();
        Self {
            layout,
            clock,
            books,
            bounds,
            grace_ms,
            destinations,
            resend_ms,
            idle: Mutex::new(idle),
            settings,
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            skew_ms: AtomicI64::new(0),
            skew_warned: AtomicBool::new(false),
            series: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            due: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            due_warned: AtomicBool::new(false),
            later_warned: AtomicBool::new(false),
            sealed: AtomicU64::new(0),
            amended: AtomicU64::new(0),
            rolled: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            reread: AtomicU64::new(0),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The time by the clock of Redis, as far as we know it.
    pub(super) fn now(&self) -> WallMs {
        self.clock.now() - self.skew_ms.load(Ordering::Relaxed)
    }

    pub(super) fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
        let far = skew_ms.abs() > SKEW_WARNED_MS;
        if far && !self.skew_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                skew_ms,
                "this machine's clock and that of Redis differ: samples count in buckets of this machine's time; set \
                 the clock (chrony, systemd-timesyncd)"
            );
        } else if !far {
            self.skew_warned.store(false, Ordering::Relaxed);
        }
    }

    /// Buckets that are over and not sealed yet, all in all.
    pub(super) fn buckets_due(&self) -> u64 {
        self.due.iter().map(|due| due.load(Ordering::Relaxed)).sum()
    }

    /// Says once when folding falls behind, and when it has caught up.
    pub(super) fn look_at_due(&self) {
        let (due, many) = (self.buckets_due(), limits::REDIS_DUE_WARNED * self.due.len() as u64);
        if due > many && !self.due_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                buckets = due,
                "buckets are over and not sealed: Redis, or the way to it, does not keep up, and queries are slow; \
                 nothing is lost. A longer flush.tick is less work"
            );
        } else if due == 0 && self.due_warned.swap(false, Ordering::Relaxed) {
            tracing::info!("all buckets that are over are sealed again");
        }
    }

    /// The first node writes what all must agree on, and may change some of it; any other compares. Until that is done nothing is written.
    pub(super) fn agree(&self, link: &mut Link) -> Result<(), Failure> {
        {
            let state = self.state();
            if let Some((key, theirs, ours)) = &state.differs {
                return Err(differing(key, theirs, ours));
            }
            if state.agreed {
                return Ok(());
            }
        }
        let figures = self.layout.figures();
        let key = self.layout.key(figures, "settings");
        let mut pipe = Pipe::default();
        for (name, value) in &self.settings {
            pipe.cmd(redis::cmd("HSETNX").arg(&key).arg(*name).arg(value).clone());
        }
        let since = self.now() - ALIVE_MS;
        pipe.cmd(redis::cmd("ZCOUNT").arg(self.layout.key(figures, "nodes")).arg(since).arg("+inf").clone());
        pipe.cmd(redis::cmd("HGETALL").arg(&key).clone());
        let answers = link.call(figures, &pipe)?;
        if let Some(failure) = answers.iter().find_map(super::link::failure) {
            return Err(failure);
        }
        let found: BTreeMap<String, String> = answers
            .last()
            .into_iter()
            .flat_map(pairs)
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into())
            })
            .collect();
        let alone = answers.iter().rev().nth(1).and_then(super::link::int) == Some(0);
        let mut changes = Pipe::default();
        let differs = self.settings.iter().find_map(|(name, ours)| {
            let theirs = found.get(*name).filter(|theirs| *theirs != ours)?;
            if alone && CHANGEABLE.contains(name) {
                changes.cmd(redis::cmd("HSET").arg(&key).arg(*name).arg(ours).clone());
                return None;
            }
            Some(((*name).to_owned(), theirs.clone(), ours.clone()))
        });
        if differs.is_none() {
            link.call(figures, &changes)?;
        }
        let mut state = self.state();
        if let Some((key, theirs, ours)) = differs {
            let failure = differing(&key, &theirs, &ours);
            tracing::error!("{}", failure.text);
            state.differs = Some((key, theirs, ours));
            return Err(failure);
        }
        state.agreed = true;
        Ok(())
    }

    /// They are compared again before the next write: on a new connection a later version may have changed the layout.
    pub(super) fn compare_again(&self) {
        self.state().agreed = false;
    }

    /// A batch or a chunk is of a later version; said once.
    pub(super) fn met_later(&self, bucket: &str) {
        if !self.later_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bucket,
                "Redis holds what a later version of tallyd wrote: it is left for a node of that version"
            );
        }
    }

    /// The setting in which this node differs from the others: key, theirs, ours.
    pub(super) fn differs(&self) -> Option<(String, String, String)> {
        self.state().differs.clone()
    }

    /// A call came to nothing.
    pub(super) fn failed(&self, failure: &Failure) {
        let mut state = self.state();
        if state.away.is_none() {
            tracing::warn!("Redis takes no counts: {}; they wait in the journal", cure(failure));
        }
        let since = state.away.as_ref().map_or_else(|| self.clock.now(), |(_, since)| *since);
        state.away = Some((cure(failure), since));
    }

    /// Calls work again.
    pub(super) fn works(&self) {
        let mut state = self.state();
        if let Some((_, since)) = state.away.take() {
            tracing::info!(away_ms = self.clock.now() - since, "Redis takes counts again");
        }
    }

    pub(super) fn away(&self) -> Option<(String, WallMs)> {
        self.state().away.clone()
    }

    /// How Redis keeps what it is told.
    pub(super) fn keeps(&self, keeping: &Keeping) {
        let mut state = self.state();
        match keeping.trouble() {
            None => state.trouble = None,
            Some(text) if state.trouble.as_ref().is_none_or(|(before, _)| *before != text) => {
                tracing::error!("{text}");
                state.trouble = Some((text, self.clock.now()));
            }
            Some(_) => {}
        }
        if state.keeping.as_ref().is_none_or(|before| before.words() != keeping.words()) {
            tracing::info!("Redis: {}", keeping.words());
        }
        state.keeping = Some(keeping.clone());
    }

    pub(super) fn keeping(&self) -> Option<Keeping> {
        self.state().keeping.clone()
    }

    pub(super) fn trouble(&self) -> Option<(String, WallMs)> {
        self.state().trouble.clone()
    }
}

fn differing(key: &str, theirs: &str, ours: &str) -> Failure {
    if key == LAYOUT {
        return Failure::away(format!(
            "a later version of tallyd counts into this Redis (its layout is {theirs}, this one knows {ours}): run that one"
        ));
    }
    Failure::away(format!(
        "{key} is {ours} here, and {theirs} on the nodes that use this Redis: all nodes must have the same"
    ))
}

/// What a refusal means, in plain words.
pub(super) fn cure(failure: &Failure) -> String {
    let meaning = match failure.code.as_str() {
        "OOM" => "it is out of memory (maxmemory): give it more",
        "READONLY" => "it is a replica and takes no writes",
        "LOADING" => "it is reading its file, and takes counts when that is done",
        "MISCONF" => "it cannot write its snapshots: look at its disk",
        "NOAUTH" | "WRONGPASS" | "NOPERM" => "it does not accept our user and password",
        "CLUSTERDOWN" => "the cluster has no master for some of its slots",
        "MASTERDOWN" => "it is a replica whose master is away",
        _ => return failure.text.clone(),
    };
    format!("{meaning} ({})", failure.text)
}
