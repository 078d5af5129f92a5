//! `GET /api/v1/live`: a page's state as server-sent events, and `/api/v1/live.json`: the same once.
//!
//! ```text
//!   figures ── a state ──▶ pump, one a page ── a frame ──▶ watch channel ──▶ every connection
//! ```
//!
//! A connection begins with `state`, everything. Then comes `change`, made against the version that is named in it,
//! or again `state` for whoever missed one, and `beat` each second that brings nothing else. A frame is written once
//! and shared; who is slow finds the newest one, so that a thousand stuck browsers cost what they cost when they came.
//! A share link in use has a pump of its own, which makes frames of what the link shows.

mod body;
mod frame;
mod places;

pub(super) use places::{Full, Guest, Guests};

use super::Server;
use super::access::{Peer, Who};
use super::links::Link;
use crate::figures::{PageState, versioned};
use crate::limits;
use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use body::LiveBody;
use frame::Frame;
use places::Places;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

type Frames = watch::Sender<Arc<Frame>>;

/// All pages' streams.
pub(super) struct Live {
    pages: Vec<(String, Frames)>,
    /// Pages as share links show them, from the first time that one is used to its end.
    shared: Mutex<Vec<(Arc<Link>, Frames)>>,
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
        Arc::new(Self { pages: pages.collect(), shared: Mutex::default(), places: Places::new() })
    }

    /// The page that the query of a request names, as whoever asks sees it; the first one where it names `/` or none.
    fn asked(self: &Arc<Self>, server: &Arc<Server>, who: &Who, query: Option<&str>) -> Option<Frames> {
        let path = super::query::pairs(query.unwrap_or("")).ok()?;
        let path = path.iter().find(|(name, _)| name == "page").map_or("/", |(_, path)| path.as_str());
        self.page(server, who, path)
    }

    /// A page as whoever asks sees it; without a link to it a guest sees none.
    fn page(self: &Arc<Self>, server: &Arc<Server>, who: &Who, path: &str) -> Option<Frames> {
        let own = self.pages.iter().find(|(known, _)| known == path);
        let (path, frames) = own.or_else(|| self.pages.first().filter(|_| path == "/"))?;
        match who {
            Who::Admin | Who::Stranger => Some(frames.clone()),
            Who::Guest(links) => self.shared(server, links.iter().find(|link| link.is_of(path))?),
        }
    }

    /// The state of a page as whoever asks sees it.
    pub(super) fn state(
        self: &Arc<Self>,
        server: &Arc<Server>,
        who: &Who,
        path: &str,
    ) -> Option<Arc<PageState>> {
        match who {
            Who::Admin | Who::Stranger => server.figures.state(path),
            Who::Guest(_) => Some(Arc::clone(self.page(server, who, path)?.borrow().state())),
        }
    }

    /// The page of a link, which begins to be followed when it is used first.
    fn shared(self: &Arc<Self>, server: &Arc<Server>, link: &Arc<Link>) -> Option<Frames> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frames)) = shared.iter().find(|(known, _)| Arc::ptr_eq(known, link)) {
            return Some(frames.clone());
        }
        let states = server.figures.watch(link.page())?;
        let (first, _) = versioned(link.view(&states.borrow()), &PageState::default());
        let frames = watch::Sender::new(Arc::new(Frame::first(Arc::new(first), server.clock.now())));
        shared.push((Arc::clone(link), frames.clone()));
        let (live, server, link) = (Arc::clone(self), Arc::clone(server), Arc::clone(link));
        let ours = frames.clone();
        tokio::spawn(async move {
            pump_shared(&server, states, &ours, &link).await;
            // With the last sender the streams end.
            live.shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|(known, _)| !Arc::ptr_eq(known, &link));
        });
        Some(frames)
    }
}

/// The same for a link, until it does not hold any more. What a guest does not see makes no frame, and no beat either:
/// those come by the clock.
async fn pump_shared(
    server: &Arc<Server>,
    mut states: watch::Receiver<Arc<PageState>>,
    frames: &Frames,
    link: &Arc<Link>,
) {
    let mut beats = tokio::time::interval(Duration::from_millis(limits::LIVE_BEAT_MS));
    loop {
        let news = tokio::select! {
            changed = states.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            _ = beats.tick() => false,
        };
        let now = server.clock.now();
        if !server.links.hold(link, now) {
            return;
        }
        let before = Arc::clone(&frames.borrow());
        if news {
            let view = link.view(&states.borrow_and_update());
            let (next, changed) = versioned(view, before.state());
            if changed {
                frames.send_replace(Arc::new(before.changed(Arc::new(next), now)));
            }
        } else if server.is_looked_at(&states.borrow()) {
            frames.send_replace(Arc::new(before.beat(now)));
        }
    }
}

/// Makes a frame of each new state, and one each second that brings none while the figures are looked at.
async fn pump(server: Arc<Server>, mut states: watch::Receiver<Arc<PageState>>, frames: Frames) {
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
    State(server): State<Arc<Server>>,
    Extension(who): Extension<Who>,
    Extension(live): Extension<Arc<Live>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(frames) = live.asked(&server, &who, query.as_deref()) else {
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
    Extension(who): Extension<Who>,
    Extension(live): Extension<Arc<Live>>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(frames) = live.asked(&server, &who, query.as_deref()) else {
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
