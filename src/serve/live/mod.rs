//! `GET /api/v1/live`: a page's state as server-sent events, and `/api/v1/live.json`: the same once.
//!
//! ```text
//!   figures ── a state ──▶ pump, one a page ── a frame ──▶ watch channel ──▶ every connection
//! ```
//!
//! A connection begins with `state`, everything. Then comes `change`, made against the version that is named in it,
//! or again `state` for whoever missed one, and `beat` each second that brings nothing else. A frame is written once
//! and shared; who is slow finds the newest one, so that a thousand stuck browsers cost what they cost when they came.

mod body;
mod frame;
mod places;

pub(super) use places::Guests;

use super::Server;
use super::access::Peer;
use crate::limits;
use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use body::LiveBody;
use frame::Frame;
use places::Places;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// All pages' streams.
pub(super) struct Live {
    pages: Vec<(String, watch::Sender<Arc<Frame>>)>,
    places: Places,
}

impl Live {
    /// Begins to follow the figures.
    pub(super) fn start(server: &Arc<Server>) -> Arc<Self> {
        let pages = server.figures.pages().filter_map(|page| {
            let states = server.figures.watch(&page.path)?;
            let frame = Arc::new(Frame::first(Arc::clone(&states.borrow()), server.clock.now()));
            let sender = watch::Sender::new(frame);
            tokio::spawn(pump(Arc::clone(server), states, sender.clone()));
            Some((page.path.clone(), sender))
        });
        Arc::new(Self { pages: pages.collect(), places: Places::new() })
    }

    /// The page that a request names; the first one where it names `/` or none.
    fn page(&self, query: Option<&str>) -> Option<&watch::Sender<Arc<Frame>>> {
        let path = super::query::pairs(query.unwrap_or("")).ok()?;
        let path = path.iter().find(|(name, _)| name == "page").map_or("/", |(_, path)| path.as_str());
        let own = self.pages.iter().find(|(known, _)| known == path);
        own.or_else(|| self.pages.first().filter(|_| path == "/")).map(|(_, sender)| sender)
    }
}

/// Makes a frame of each new state, and one each second that brings none while the figures are looked at.
async fn pump(
    server: Arc<Server>,
    mut states: watch::Receiver<Arc<crate::figures::PageState>>,
    frames: watch::Sender<Arc<Frame>>,
) {
    let beat = Duration::from_millis(limits::LIVE_BEAT_MS);
    loop {
        let changed = tokio::time::timeout(beat, states.changed()).await;
        let before = Arc::clone(&frames.borrow());
        let now = server.clock.now();
        let next = match changed {
            Ok(Ok(())) => before.changed(Arc::clone(&states.borrow_and_update()), now),
            Err(_) if server.is_looked_at(&states.borrow()) => before.beat(now),
            Err(_) => continue,
            Ok(Err(_)) => return,
        };
        frames.send_replace(Arc::new(next));
    }
}

/// `GET /api/v1/live?page=/`.
pub(super) async fn stream(
    Extension(live): Extension<Arc<Live>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(frames) = live.page(query.as_deref()) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let Some(place) = live.places.take(places::asker(peer.ip(), &headers)) else {
        let later = [(header::RETRY_AFTER, "30")];
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            later,
            "too many streams; /api/v1/live.json has the same\n",
        )
            .into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would gather events until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::new(LiveBody::new(frames.subscribe(), place))).into_response()
}

/// `GET /api/v1/live.json?page=/`.
pub(super) async fn once(
    State(server): State<Arc<Server>>,
    Extension(live): Extension<Arc<Live>>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(frames) = live.page(query.as_deref()) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let frame = Arc::clone(&frames.borrow());
    if !frame.is_fresh(server.clock.now()) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the figures stand still\n").into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, frame.json()).into_response()
}
