//! The series known on this node, each held once however many threads count into it.
//!
//! Asked only when an ingest thread meets a raw name for the first time, so a mutex is enough; the hot path
//! never comes here. Bounded by `limits.series_max`: a new series beyond it is refused, known ones go on.

use crate::health::Refusal;
use crate::metric::{Kind, Series};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The set of known series.
#[derive(Debug)]
pub struct Registry {
    /// Written by ingest threads on a new name and by the flusher when it forgets; nobody waits long.
    series: Mutex<HashSet<Series, foldhash::fast::RandomState>>,
    series_max: usize,
}

impl Registry {
    /// A registry of at most `series_max` series.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        Self { series: Mutex::default(), series_max }
    }

    /// The one handle to a series, made if there is room for it.
    pub fn intern(&self, kind: Kind, key: &str) -> Result<Series, Refusal> {
        let series = Series::new(kind, key);
        let mut known = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&series) {
            return Ok(known.clone());
        }
        if known.len() >= self.series_max {
            return Err(Refusal::SeriesLimit);
        }
        known.insert(series.clone());
        Ok(series)
    }

    /// Forgets the series that nobody else holds.
    pub fn forget_unheld(&self) {
        let mut known = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|series| series.handles() > 1);
    }

    /// How many series are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no series is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_held_once_and_the_limit_holds() {
        let registry = Registry::new(2);
        let a = registry.intern(Kind::Counter, "a").unwrap();
        let again = registry.intern(Kind::Counter, "a").unwrap();
        assert_eq!(a, again);
        assert_eq!(a.handles(), 3);
        registry.intern(Kind::Timer, "a").unwrap();
        assert_eq!(registry.intern(Kind::Counter, "b"), Err(Refusal::SeriesLimit));
        assert!(registry.intern(Kind::Counter, "a").is_ok());
        registry.forget_unheld();
        assert_eq!(registry.len(), 1);
        assert!(registry.intern(Kind::Counter, "b").is_ok());
    }
}
