//! Who sends most: gathered from ticks and the registry, and entered in the books once a second.

use crate::aggregate::heavy::{Heavy, RecentlyHeavy};
use crate::aggregate::{Registry, Tick};
use crate::clock::WallMs;
use crate::health::{Books, Offender, Offenders, OffendingPrefixes, OffendingSenders};
use crate::limits;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// What senders have sent of late, each sum by itself: who has most of one may have little of another.
#[derive(Debug)]
pub(super) struct Senders {
    samples: RecentlyHeavy<IpAddr>,
    refused: RecentlyHeavy<IpAddr>,
    series_made: RecentlyHeavy<IpAddr>,
    entered_at: WallMs,
}

impl Senders {
    pub(super) fn new() -> Self {
        let heavy = || RecentlyHeavy::new(limits::OFFENDERS_KEPT);
        Self { samples: heavy(), refused: heavy(), series_made: heavy(), entered_at: WallMs::MIN }
    }

    pub(super) fn add(&mut self, tick: &Tick) {
        for (from, sent) in &tick.senders {
            self.samples.add(from, sent.samples);
            self.refused.add(from, sent.refused);
            self.series_made.add(from, sent.series_made);
        }
    }

    /// Enters who sends most in the books, if that is due.
    pub(super) fn enter(&mut self, registry: &Registry, books: &Books, now: WallMs) {
        if (0..limits::OFFENDERS_MS).contains(&(now.saturating_sub(self.entered_at))) {
            return;
        }
        self.entered_at = now;
        let makers = registry.makers(now);
        books.overflow_names.store(makers.names_shed, Ordering::Relaxed);
        let [samples, refused, new_series] = [&mut self.samples, &mut self.refused, &mut self.series_made]
            .map(|heavy| {
                heavy.turn(now);
                heavy.top(limits::OFFENDERS_SHOWN).iter().map(shown).collect()
            });
        books.set_offenders(Offenders {
            prefixes: OffendingPrefixes {
                new_series: makers.born.iter().map(shown).collect(),
                overflow: makers.shed.iter().map(shown).collect(),
            },
            senders: OffendingSenders { samples, refused, new_series },
        });
    }
}

fn shown<K: ToString>(heavy: &Heavy<K>) -> Offender {
    Offender { name: heavy.key.to_string(), count: heavy.count, at_least: heavy.at_least }
}
