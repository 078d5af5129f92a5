//! Which buckets of the finest width are sealed, in which version, and how few bytes of that are on disk.
//!
//! A version has a row `v` of its own while late samples are likely. Then only that the bucket is sealed is kept: 1 bit
//! in a row `y`, which stands for 1,024 buckets, and a start gives it a new version. Nobody holds one for longer:
//! what a destination needs after a restart is stated in the version that it has then.

use super::layout;
use super::{Inner, Rules};
use crate::clock::WallMs;
use crate::metric::Width;
use crate::metric::malformed::Malformed;
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Deref;

/// Buckets of a row `y`.
const SPAN: i64 = 1_024;

/// Versions of sealed buckets.
#[derive(Debug, Default)]
pub(super) struct Versions {
    all: BTreeMap<WallMs, u64>,
    /// Those that have a row of their own.
    own: BTreeSet<WallMs>,
    /// Spans that have a row `y`.
    spans: BTreeSet<WallMs>,
    random: foldhash::quality::RandomState,
    given: u64,
}

/// It reads as a map of them by start.
impl Deref for Versions {
    type Target = BTreeMap<WallMs, u64>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Versions {
    /// A version that no bucket had. Random, never counted: redis-protocol rule 8.
    fn fresh(&mut self) -> u64 {
        self.given += 1;
        self.random.hash_one(self.given)
    }
}

/// The span of a bucket, and its place there; none where buckets are days of other lengths.
fn place(width: Width, start: WallMs) -> Option<(WallMs, usize)> {
    let span = Width::from_ms(width.ms().saturating_mul(SPAN) as u64).start_of(start);
    let at = start.checked_sub(span)?;
    (at % width.ms() == 0).then_some((span, (at / width.ms()) as usize))
}

impl Inner {
    /// Gives a bucket that is sealed or was amended a new version.
    pub(super) fn fresh_version(&mut self, start: WallMs) -> u64 {
        let version = self.sealed.fresh();
        self.sealed.all.insert(start, version);
        self.sealed.own.insert(start);
        self.archive.put(layout::version(start), version.to_be_bytes().to_vec());
        version
    }

    /// Buckets are not kept any more; returns how many of them a destination still needed.
    pub(super) fn unseal(&mut self, rules: &Rules, starts: &[WallMs]) -> u64 {
        let mut unstated = 0;
        let mut spans = BTreeSet::new();
        for &start in starts {
            self.sealed.all.remove(&start);
            if self.sealed.own.remove(&start) {
                self.archive.remove(layout::version(start));
            }
            spans.extend(place(rules.ladder.bucket(), start).map(|(span, _)| span));
            let mut needed = false;
            for needs in &mut self.needs {
                needed |= needs.out.remove(&start).is_some();
                self.archive.remove(layout::outstanding(&needs.name, start));
            }
            unstated += u64::from(needed);
        }
        for span in spans {
            if self.sealed.spans.contains(&span) {
                self.put_span(rules.ladder.bucket(), span);
            }
        }
        unstated
    }

    /// Writes which buckets of a span are sealed and have no version of their own.
    fn put_span(&mut self, width: Width, span: WallMs) {
        let mut bits: Vec<u8> = Vec::new();
        let end = span.saturating_add(width.ms().saturating_mul(SPAN));
        for (&start, _) in self.sealed.all.range(span..end) {
            if let Some((_, at)) = place(width, start).filter(|_| !self.sealed.own.contains(&start)) {
                if bits.len() <= at / 8 {
                    bits.resize(at / 8 + 1, 0);
                }
                if let Some(byte) = bits.get_mut(at / 8) {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        if bits.is_empty() {
            self.sealed.spans.remove(&span);
            self.archive.remove(layout::sealed(span));
        } else {
            self.sealed.spans.insert(span);
            self.archive.put(layout::sealed(span), bits);
        }
    }

    /// Gathers versions of buckets that start before `before`.
    pub(super) fn gather_versions(&mut self, width: Width, before: WallMs) {
        let (mut spans, at_once) = (BTreeSet::new(), self.gather.pace.versions_at_once);
        let quiet = self.sealed.own.range(..before).filter_map(|start| Some((*start, place(width, *start)?)));
        let quiet: Vec<_> = quiet.take(at_once).collect();
        if quiet.len() < at_once {
            return;
        }
        for (start, (span, _)) in quiet {
            self.sealed.own.remove(&start);
            self.archive.remove(layout::version(start));
            spans.insert(span);
        }
        for span in spans {
            self.put_span(width, span);
        }
    }

    /// Takes over what is on disk.
    pub(super) fn load_versions(&mut self, rules: &Rules) -> Result<(), StoreError> {
        let bad = || Malformed("a key or a version that is too short");
        let (mut spans, mut own) = (Vec::new(), Vec::new());
        super::persist::each(&self.archive, b'y', &mut |key, value| {
            spans.push((layout::sealed_of(key).ok_or_else(bad)?, value.to_vec()));
            Ok(())
        })?;
        super::persist::each(&self.archive, b'v', &mut |key, value| {
            let version = u64::from_be_bytes(value.try_into().map_err(|_| bad())?);
            own.push((layout::version_of(key).ok_or_else(bad)?, version));
            Ok(())
        })?;
        let width = rules.ladder.bucket().ms();
        for (span, bits) in spans {
            self.sealed.spans.insert(span);
            for (at, byte) in (0..).zip(bits) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    let start = span.saturating_add((at * 8 + bit) * width);
                    let version = self.sealed.fresh();
                    self.sealed.all.insert(start, version);
                }
            }
        }
        self.sealed.own.extend(own.iter().map(|(start, _)| *start));
        self.sealed.all.extend(own);
        Ok(())
    }
}
