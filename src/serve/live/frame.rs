//! One state of a page as bytes: whole, as a change of the one before, and as a beat.
//!
//! Each is written when the first connection wants it, and shared by all.

use crate::clock::WallMs;
use crate::figures::PageState;
use crate::figures::state::{Event, Figure, Mark, Unplaced};
use crate::limits;
use bytes::Bytes;
use serde::Serialize;
use std::sync::{Arc, OnceLock};

/// What a connection may be sent.
pub(super) struct Frame {
    news: Arc<News>,
    at: WallMs,
    beat: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
}

struct News {
    state: Arc<PageState>,
    before: Option<Arc<PageState>>,
    whole: OnceLock<Bytes>,
    change: OnceLock<Bytes>,
}

impl Frame {
    fn new(news: Arc<News>, at: WallMs) -> Self {
        Self { news, at, beat: OnceLock::new(), json: OnceLock::new() }
    }

    /// The first one of a page.
    pub(super) fn first(state: Arc<PageState>, now: WallMs) -> Self {
        Self::new(News::new(state, None).into(), now)
    }

    /// The one after it, when something changed.
    pub(super) fn changed(&self, state: Arc<PageState>, now: WallMs) -> Self {
        let before = Arc::clone(&self.news.state);
        Self::new(News::new(state, Some(before)).into(), now)
    }

    /// The one after it, when nothing did.
    pub(super) fn beat(&self, now: WallMs) -> Self {
        Self::new(Arc::clone(&self.news), now)
    }

    /// Whether it was made lately: there is one each second while the figures are looked at.
    pub(super) fn is_fresh(&self, now: WallMs) -> bool {
        now - self.at < limits::LIVE_STILL_MS
    }

    /// The state.
    pub(in crate::serve) fn state(&self) -> &Arc<PageState> {
        &self.news.state
    }

    /// Version of the state.
    pub(super) fn version(&self) -> u64 {
        self.news.state.version
    }

    /// What to send to whom the state of version `seen` was sent last.
    pub(super) fn after(&self, seen: Option<u64>) -> Bytes {
        let news = &*self.news;
        let before = news.before.as_ref().filter(|before| seen == Some(before.version));
        match before {
            _ if seen == Some(self.version()) => {
                self.beat.get_or_init(|| event("beat", &Beat { at_ms: self.at })).clone()
            }
            Some(before) => {
                news.change.get_or_init(|| event("change", &Change::of(before, &news.state))).clone()
            }
            None => news.whole.get_or_init(|| event("state", &*news.state)).clone(),
        }
    }

    /// The state by itself. Its time is that of the frame, which is a beat old at most.
    pub(super) fn json(&self) -> Bytes {
        let write = || {
            let state = PageState { at_ms: self.at, ..PageState::clone(&self.news.state) };
            Bytes::from(serde_json::to_string(&state).unwrap_or_default() + "\n")
        };
        self.json.get_or_init(write).clone()
    }
}

impl News {
    fn new(state: Arc<PageState>, before: Option<Arc<PageState>>) -> Self {
        Self { state, before, whole: OnceLock::new(), change: OnceLock::new() }
    }
}

#[derive(Serialize)]
struct Beat {
    at_ms: WallMs,
}

/// JSON has no line breaks of its own, so that one line of data holds it.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// What differs from the state of version `since`. A field that is not there is as it was; of figures only those
/// stand here that changed, and `order` where the ids are others than before.
#[derive(Serialize)]
struct Change<'a> {
    since: u64,
    version: u64,
    at_ms: WallMs,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guarantee: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<&'a Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guessed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<&'a Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticker: Option<&'a [Event]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marks: Option<&'a [Mark]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unplaced: Option<&'a [Unplaced]>,
}

impl<'a> Change<'a> {
    fn of(before: &PageState, now: &'a PageState) -> Self {
        let ids = |state: &'a PageState| state.figures.iter().map(|figure| figure.id.as_str());
        let same_order = before.figures.iter().map(|figure| figure.id.as_str()).eq(ids(now));
        let known = |figure: &&Figure| before.figures.iter().all(|old| old != *figure);
        Self {
            since: before.version,
            version: now.version,
            at_ms: now.at_ms,
            day: (before.day != now.day).then_some(now.day.as_str()),
            clock: (before.clock != now.clock).then_some(now.clock.as_str()),
            note: (before.note != now.note).then_some(&now.note),
            guarantee: (before.guarantee != now.guarantee).then_some(now.guarantee.as_str()),
            partial: (before.partial != now.partial).then_some(&now.partial),
            guessed: (before.guessed != now.guessed).then_some(now.guessed),
            order: (!same_order).then(|| ids(now).collect()),
            figures: now.figures.iter().filter(known).collect(),
            ticker: (before.ticker != now.ticker).then_some(now.ticker.as_slice()),
            marks: (before.marks != now.marks).then_some(now.marks.as_slice()),
            unplaced: (before.unplaced != now.unplaced).then_some(now.unplaced.as_slice()),
        }
    }
}
