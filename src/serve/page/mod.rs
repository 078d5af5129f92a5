//! The page of figures: drawn here as it is now, kept alive by its own scripts.
//!
//! In comes a page's state, out goes a document that is right before any script runs and readable without. The
//! browser is told to run nothing but our own files, and to let no text become code.

mod assets;
mod element;
mod spark;
mod tiles;
mod url;

pub(super) use assets::asset;

use super::Server;
use super::access::Who;
use super::live::Live;
use crate::clock::WallMs;
use crate::figures::PageState;
use axum::Extension;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
pub(super) use element::escaped;
use element::html;
use std::sync::Arc;
use tiles::Scene;

/// Nothing from anywhere but our own files, and no way from text to code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// `GET /` and `GET /live/NAME`.
pub(super) async fn page(
    State(server): State<Arc<Server>>,
    Extension(who): Extension<Who>,
    Extension(live): Extension<Arc<Live>>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    server.figures.first_look(uri.path()).await;
    let Some(state) = live.state(&server, &who, uri.path()) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    // Guests are not told where the house keeps its dashboards.
    let grafana = server.grafana.as_deref().filter(|_| !matches!(who, Who::Guest(_)));
    let scene = Scene { state: &state, now: server.clock.now(), grafana };
    let mut response = fill(&assets::template(), &scene, &uri).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page as it is drawn for a state, whosever it is: tests hold the page's own scripts against it.
///
/// # Panics
/// If `uri` is none.
#[must_use]
pub fn drawn(state: &PageState, now: WallMs, grafana: Option<&str>, uri: &'static str) -> String {
    fill(&assets::template(), &Scene { state, now, grafana }, &Uri::from_static(uri))
}

/// Puts the state into the template's places, `{{name}}`.
fn fill(template: &str, scene: &Scene<'_>, uri: &Uri) -> String {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut page = String::with_capacity(template.len() * 8);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        page.push_str(before);
        page.push_str(&place(name, scene, uri.path(), &query));
        rest = after;
    }
    page + rest
}

fn place(name: &str, scene: &Scene<'_>, path: &str, query: &str) -> String {
    let state = scene.state;
    let asked = |pair: &str| query.trim_start_matches('?').split('&').any(|part| part == pair);
    match name {
        "classes" if asked("tv=1") => " tv".to_owned(),
        "theme" if asked("dark=1") => " data-theme=\"dark\"".to_owned(),
        "theme" if asked("dark=0") => " data-theme=\"light\"".to_owned(),
        "path" => escaped(path),
        "build" => escaped(state.build),
        "grafana" => {
            scene.grafana.map(|address| format!(" data-grafana=\"{}\"", escaped(address))).unwrap_or_default()
        }
        "heading" => escaped(&heading(state)),
        "title" => escaped(&state.page.title),
        "assets" => assets::base().to_owned(),
        "pages" => html(&scene.pages(query)),
        "figures" => html(&scene.figures()),
        // Whether it is live is for a script to say, which has a clock.
        "health" => escaped(&format!("as of {}", state.clock)),
        "no-events" if state.ticker.is_empty() => " hidden".to_owned(),
        "ticker" => html(&scene.ticker()),
        "about" => html(&scene.about()),
        _ => String::new(),
    }
}

/// What a tab is called: the hero, so that it is seen without looking at the page.
fn heading(state: &PageState) -> String {
    let hero = state.figures.first().and_then(|figure| {
        let value = figure.values.first()?;
        let text = match (value.unit.is_empty(), value.unit_first) {
            (true, _) => value.text.clone(),
            (false, true) => format!("{} {}", value.unit, value.text),
            (false, false) => format!("{} {}", value.text, value.unit),
        };
        Some(format!("{text} {} · ", figure.label))
    });
    hero.unwrap_or_default() + &state.page.title
}
