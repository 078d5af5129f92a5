//! What a Redis store is made with, and what is checked of it and of Redis before anything is counted.

use super::confirm::keeping;
use super::layout;
use super::link::{Link, Pipe, array, text};
use super::shared::Shared;
use super::target::Target;
use crate::metric::{Bounds, Class, Ladder};
use crate::store::{IdleRules, StoreError};
use std::collections::BTreeMap;

/// The word under which the number of the layout stands among the settings.
pub(super) const LAYOUT: &str = "layout";

/// How a Redis store works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Redis is (`store.url`).
    pub url: String,
    /// What all keys begin with (`store.prefix`).
    pub prefix: String,
    /// Among how many partitions series are spread (`store.partitions`).
    pub partitions: usize,
    /// What is kept of everything, and how long.
    pub ladder: Ladder,
    /// Up to where tallies of the finest buckets are exact.
    pub bounds: Bounds,
    /// Globs of series that keep the ladder (`rollup.history`).
    pub history: Vec<String>,
    /// Globs of series that figures show.
    pub figures: Vec<String>,
    /// Names of the destinations that need buckets.
    pub destinations: Vec<String>,
    /// For how long buckets are stated again after a takeover or a failure (`graphite.resend`), in milliseconds.
    pub resend_ms: i64,
    /// How long after its end a bucket is sealed (`flush.grace`), in milliseconds.
    pub grace_ms: i64,
    /// How long batches stay in the journal after they were confirmed (`store.journal_hold`), in milliseconds.
    pub hold_ms: i64,
    /// What idle series send.
    pub idle: IdleRules,
}

impl Settings {
    /// What all nodes must agree on, by the key of the configuration that says it.
    pub(super) fn agreed(&self) -> BTreeMap<&'static str, String> {
        let ladder = |class| {
            let chain = self.ladder.chain(class);
            let steps = chain.map(|level| {
                format!("{}:{}", self.ladder.width(level).ms(), self.ladder.keep_ms(class, level))
            });
            steps.collect::<Vec<_>>().join(",")
        };
        let noon = self.ladder.calendar().day_of(43_200_000).start;
        BTreeMap::from([
            (LAYOUT, layout::FORMAT.to_string()),
            ("flush.bucket", format!("{} ms", self.ladder.bucket().ms())),
            ("flush.amend_window", format!("{} ms", self.ladder.amend_window_ms())),
            ("store.partitions", self.partitions.to_string()),
            ("rollup.keep", ladder(Class::History)),
            ("rollup.figures", ladder(Class::Figure)),
            ("rollup.history", self.history.join(",")),
            ("company.timezone", self.ladder.calendar().zone().to_owned()),
            ("company.day_starts", format!("{noon}")),
            ("figure.metric", self.figures.join(",")),
            ("timers.exact_max", self.bounds.timer_exact_max.to_string()),
            ("sets.exact_max", self.bounds.set_exact_max.to_string()),
        ])
    }
}

/// Whether an address has the form of one, and if not, why; nothing is connected to.
pub fn check_address(url: &str) -> Result<(), String> {
    Target::new(url, &[]).map(drop).map_err(|failure| failure.text)
}

/// Refuses what would count wrongly. A Redis that is away is asked later.
pub(super) fn check(shared: &Shared, link: &mut Link) -> Result<(), StoreError> {
    let agreed = shared.agree(link);
    if let Some((key, theirs, ours)) = shared.differs() {
        return Err(if key == LAYOUT {
            StoreError::Later { found: theirs, known: ours }
        } else {
            StoreError::Differs { key, theirs, ours }
        });
    }
    if let Err(failure) = agreed {
        shared.failed(&failure);
        return Ok(());
    }
    let mut pipe = Pipe::default();
    for section in ["replication", "persistence"] {
        pipe.cmd(redis::cmd("INFO").arg(section).clone());
    }
    for name in ["save", "maxmemory-policy"] {
        pipe.cmd(redis::cmd("CONFIG").arg("GET").arg(name).clone());
    }
    let Ok(answers) = link.call(shared.layout.figures(), &pipe) else {
        return Ok(());
    };
    let [replication, persistence, save, policy] = answers.as_slice() else {
        return Ok(());
    };
    let info = [replication, persistence].map(|info| text(info).unwrap_or_default().to_owned()).concat();
    let config = |value| array(value).get(1).and_then(text).unwrap_or_default().to_owned();
    let keeping = keeping(&info, &config(save), &config(policy));
    if !keeping.policy.is_empty() && keeping.policy != "noeviction" {
        return Err(StoreError::Evicts { policy: keeping.policy });
    }
    shared.keeps(&keeping);
    Ok(())
}
