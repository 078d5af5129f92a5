//! The engine's memory: every figure at work, and what is said of all of them.

use super::days::Days;
use super::discover::{self, Found, guess, one_page};
use super::marks::Marks;
use super::options::{FigureRules, Options, PageRules};
use super::plain::Plain;
use super::slow::Look;
use super::state::{Figure, FigureKind, Mark, PageName, PageState, Slot, Unplaced};
use super::ticker::Ticker;
use super::tile::{Around, day_text};
use super::trust::Trust;
use super::watched::{Watched, kind_of};
use crate::clock::{self, WallMs};
use crate::health::Books;
use crate::limits;
use crate::metric::Series;
use crate::store::{Store, StoreError};
use chrono::NaiveDate;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A minute is closed when its last tick must have come, in milliseconds.
const SETTLE_MS: i64 = 2_000;
const MINUTE_MS: i64 = 60_000;
/// Series are looked through again when there are more, at most this often, and however it is once in a minute.
const SCAN_AFTER: Duration = Duration::from_secs(1);
const SCAN_AT_LEAST: Duration = Duration::from_secs(60);
/// A scan may take this part of the time.
const SCAN_SHARE: u32 = 50;
/// Seconds beside the hero.
const SECONDS: usize = 2;

/// What all pages share.
pub(super) struct Common {
    now: WallMs,
    cut: WallMs,
    marks: Vec<Mark>,
    guarantee: String,
    partial: Option<String>,
    cannot_tell: Option<&'static str>,
}

/// See the module.
pub(super) struct Work {
    options: Options,
    names: Vec<PageName>,
    guessed: bool,
    figures: Vec<Plain>,
    ratios: Vec<FigureRules>,
    found: Found,
    scanned: Option<(Instant, Duration, usize)>,
    trust: Trust,
    pub(super) marks: Marks,
    ticker: Ticker,
}

impl Work {
    pub(super) fn new(
        options: Options,
        names: Vec<PageName>,
        guessed: bool,
        books: Arc<Books>,
        started: WallMs,
    ) -> Self {
        Self {
            trust: Trust::new(books, started, options.kernel_drops()),
            options,
            names,
            guessed,
            figures: Vec::new(),
            ratios: Vec::new(),
            found: Found::default(),
            scanned: None,
            marks: Marks::default(),
            ticker: Ticker::default(),
        }
    }

    /// Looks at everything.
    pub(super) fn look(&mut self, store: &dyn Store, days: &Days, now: WallMs) -> Common {
        let day = days.calendar.day_of(now);
        let cut = ((now - SETTLE_MS).div_euclid(grain(store)) * grain(store)).clamp(day.start, day.end);
        let today = days.calendar.date(now);
        let look = Look { store, days, now, cut, today };
        let failed = self.look_at_all(&look).err();
        if let Some(error) = &failed {
            tracing::debug!(%error, "the figures stay as they were");
        }
        let marks = self.marks.look(store, days, &self.found.marks, (cut, now)).unwrap_or_default();
        self.trust.look(store, days, now, failed.as_ref());
        let left_out = self.figures.iter().find(|plain| plain.watched.left_out > 0);
        let left_out =
            left_out.map(|plain| format!("{} has more series than are shown", plain.watched.rules.label));
        Common {
            now,
            cut,
            marks,
            guarantee: self.trust.guarantee(&self.options.guarantee, store),
            partial: self.trust.partial().or(left_out),
            cannot_tell: self.trust.cannot_tell(now),
        }
    }

    /// Another one that has looked at nothing yet.
    pub(super) fn anew(&self) -> Self {
        let mut options = self.options.clone();
        if self.guessed {
            options.figures = self.figures.iter().map(|plain| plain.watched.rules.clone()).collect();
        }
        Self::new(options, self.names.clone(), false, Arc::default(), 0)
    }

    /// Every page as it stood at the end of a day that is over. What stands now was not written down.
    pub(super) fn closing(mut self, store: &dyn Store, days: &Days, date: NaiveDate) -> Vec<PageState> {
        self.options.figures.retain(|rules| rules.kind != FigureKind::Gauge);
        let day = days.calendar.day(date);
        let look = Look { store, days, now: day.end - 1, cut: day.end, today: date };
        if let Err(error) = self.look_at_all(&look) {
            tracing::warn!(%error, "a day that is over cannot be looked at");
        }
        let common = Common {
            now: look.now,
            cut: look.cut,
            marks: Vec::new(),
            guarantee: String::new(),
            partial: None,
            cannot_tell: None,
        };
        self.ticker = Ticker::default();
        let pages = 0..self.options.pages.len();
        pages.filter_map(|at| self.page(at, store, days, &common)).collect()
    }

    fn look_at_all(&mut self, look: &Look<'_>) -> Result<(), StoreError> {
        self.scan(look)?;
        let bounds = look.store.bounds();
        for plain in &mut self.figures {
            plain.look(look)?;
            for moved in plain.moved(&bounds, look.now) {
                if !Ticker::is_for(plain) {
                    continue;
                }
                let unit = plain.watched.units.get(moved.line);
                self.ticker.note(look, &plain.watched.rules, unit, moved.by);
            }
        }
        Ok(())
    }

    /// Looks which series there are, when there may be others.
    fn scan(&mut self, look: &Look<'_>) -> Result<(), StoreError> {
        let count = look.store.series_count();
        if let Some((at, took, before)) = self.scanned {
            let since = clock::elapsed(at);
            let wait = if before == count { SCAN_AT_LEAST } else { SCAN_AFTER };
            if since < wait.max(took * SCAN_SHARE) {
                return Ok(());
            }
        }
        let started = clock::monotonic_now();
        let rules = |figures: &[Plain]| figures.iter().map(|plain| plain.watched.rules.clone()).collect();
        let mut wanted: Vec<FigureRules> =
            if self.guessed { rules(&self.figures) } else { self.options.figures.clone() };
        self.ratios = wanted.iter().filter(|rules| rules.kind == FigureKind::Ratio).cloned().collect();
        wanted.retain(|rules| rules.kind != FigureKind::Ratio);
        let mut found = discover::scan(look.store, &self.options, &wanted)?;
        if self.guessed && wanted.len() < limits::PAGE_FIGURES_MAX && !found.strangers.is_empty() {
            guess(&mut wanted, &mut found.strangers);
            let strangers = std::mem::take(&mut found.strangers);
            found = discover::scan(look.store, &self.options, &wanted)?;
            found.strangers = strangers;
            self.options.pages = vec![one_page(&wanted)];
        }
        let mut before = std::mem::take(&mut self.figures);
        for (rules, members) in wanted.into_iter().zip(std::mem::take(&mut found.members)) {
            let mut watched = Watched::new(&rules, members, &self.options.currency);
            watched.look_up(look.store, look.now);
            let known = before.iter().position(|plain| plain.watched.rules.id == rules.id);
            self.figures.push(match known {
                Some(at) => {
                    let mut plain = before.swap_remove(at);
                    plain.change(watched, look.today);
                    plain
                }
                None => Plain::new(watched),
            });
        }
        self.found = found;
        self.scanned = Some((clock::monotonic_now(), clock::elapsed(started), count));
        Ok(())
    }

    /// The state of a page, without its versions.
    pub(super) fn page(
        &self,
        at: usize,
        store: &dyn Store,
        days: &Days,
        common: &Common,
    ) -> Option<PageState> {
        let rules: &PageRules = self.options.pages.get(at)?;
        let today = days.calendar.date(common.now);
        let around = Around {
            look: Look { store, days, now: common.now, cut: common.cut, today },
            bounds: store.bounds(),
            partial: common.partial.is_some(),
            cannot_tell: common.cannot_tell,
            udp_port: self.options.udp_port,
        };
        let ids: Vec<&String> = std::iter::once(&rules.hero).chain(&rules.show).collect();
        let figures =
            ids.iter().filter_map(|id| self.figure(id, &around)).enumerate().map(|(at, mut figure)| {
                figure.slot = slot(at);
                figure
            });
        let figures: Vec<_> = figures.collect();
        let first = || format!("echo 'signups:1|c' | nc -u -w1 127.0.0.1 {}", self.options.udp_port);
        Some(PageState {
            version: 0,
            at_ms: common.now,
            build: env!("CARGO_PKG_VERSION"),
            page: self.names.get(at)?.clone(),
            zone: days.calendar.zone(),
            day: day_text(today),
            clock: days.calendar.local(common.now).format("%H:%M").to_string(),
            note: days.note(today),
            guarantee: common.guarantee.clone(),
            partial: common.partial.clone(),
            snippet: figures.is_empty().then(first),
            figures,
            ticker: self.ticker.events(&ids),
            marks: common.marks.clone(),
            unplaced: self.unplaced(),
            pages: self.names.clone(),
            guessed: self.guessed,
        })
    }

    /// What nothing is written about in the configuration: first what is on the page by guess, then what is on none.
    fn unplaced(&self) -> Vec<Unplaced> {
        let guesses = self.figures.iter().filter(|_| self.guessed).filter_map(|plain| {
            let rules = &plain.watched.rules;
            Some((kind_of(rules.kind)?, rules.metric.clone()))
        });
        let all = guesses.chain(self.found.strangers.iter().cloned());
        all.take(limits::UNPLACED_MAX).map(|series| discover::unplaced(&series)).collect()
    }

    fn figure(&self, id: &str, around: &Around<'_>) -> Option<Figure> {
        let plain = |id: &str| self.figures.iter().find(|plain| plain.watched.rules.id == id);
        if let Some(plain) = plain(id) {
            return Some(around.plain(plain));
        }
        let rules = self.ratios.iter().find(|rules| rules.id == id)?;
        let (part, whole) = rules.of.as_ref()?;
        Some(around.ratio(rules, plain(part)?, plain(whole)?))
    }
}

/// How large the figure at a place of a page is shown.
pub(super) fn slot(at: usize) -> Slot {
    match at {
        0 => Slot::Hero,
        at if at <= SECONDS => Slot::Second,
        _ => Slot::Third,
    }
}

/// From one cut to the next: a minute, or as many whole buckets as make one.
fn grain(store: &dyn Store) -> i64 {
    let width = store.ladder().bucket().ms();
    if MINUTE_MS % width == 0 { MINUTE_MS } else { (MINUTE_MS + width - 1) / width * width }
}

/// The series of a counter of our own.
pub(super) fn counter(name: &str) -> Series {
    Series::new(crate::metric::Kind::Counter, name)
}
