//! `GET /n/FIGURE.svg`: one number as a picture, for a wiki or a page elsewhere. Off unless `http.numbers` names it.
//!
//! Whoever asks sees it, since a picture in a page elsewhere shows neither token nor cookie. Its states are the page's:
//! a dash for what was never seen, ≈ for what may be too low, grey for what stands still. Text is escaped, and the
//! picture may load and run nothing.

use super::Server;
use super::page::escaped;
use crate::figures::state::{Figure, FigureState, Value};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// How long a browser or a proxy shows it without asking again.
const CACHED: &str = "public, max-age=10";
/// Width of a letter of the label and of the number, in pixels, and of what stands around.
const LABEL_PX: usize = 8;
const NUMBER_PX: usize = 19;
const MARGIN_PX: usize = 24;

/// See the module.
pub(super) async fn number(
    State(server): State<Arc<Server>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(id) = file.strip_suffix(".svg").filter(|id| server.numbers.iter().any(|known| known == id))
    else {
        return (StatusCode::NOT_FOUND, "off: http.numbers names the figures that may be embedded\n")
            .into_response();
    };
    let states = server.figures.pages().filter_map(|page| server.figures.state(&page.path));
    let found = states.filter_map(|state| {
        let figure = state.figures.iter().find(|figure| figure.id == id)?.clone();
        Some((figure, server.is_looked_at(&state)))
    });
    let Some((figure, live)) = found.into_iter().next() else {
        return (StatusCode::NOT_FOUND, "this figure stands on no page\n").into_response();
    };
    let picture = drawn(&figure, live);
    let tag = format!("\"{:08x}\"", crc32fast::hash(picture.as_bytes()));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { picture.into_response() };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, CACHED),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn drawn(figure: &Figure, live: bool) -> String {
    let partial = figure.state == FigureState::Partial;
    let number = match figure.values.as_slice() {
        [] => "–".to_owned(),
        values => values.iter().map(|value| text(value, partial)).collect::<Vec<_>>().join(" · "),
    };
    let words = match (live, figure.state) {
        (false, _) => "not live".to_owned(),
        (true, FigureState::Never) => "waiting for the first one".to_owned(),
        (true, FigureState::Partial) => format!("{}, may be too low", figure.period),
        (true, _) => figure.period.to_owned(),
    };
    let letters = |text: &str| text.chars().count();
    let widest = (letters(&figure.label).max(letters(&words)) * LABEL_PX).max(letters(&number) * NUMBER_PX);
    let (width, ink) = (widest + MARGIN_PX, if live { "#1a1a1a" } else { "#8a8a8a" });
    let struck = if live { "" } else { " text-decoration=\"line-through\"" };
    let (label, number, words) = (escaped(&figure.label), escaped(&number), escaped(&words));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"92\" viewBox=\"0 0 {width} 92\" \
         role=\"img\" aria-label=\"{label} {number}, {words}\" font-family=\"Inter, system-ui, sans-serif\">\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#ffffff\"/>\
         <text x=\"12\" y=\"22\" font-size=\"14\" fill=\"#4a4a4a\">{label}</text>\
         <text x=\"12\" y=\"58\" font-size=\"32\" font-weight=\"600\" fill=\"{ink}\"{struck}>{number}</text>\
         <text x=\"12\" y=\"80\" font-size=\"12\" fill=\"#6a6a6a\">{words}</text></svg>\n"
    )
}

fn text(value: &Value, partial: bool) -> String {
    let about = if partial { "≈ " } else { "" };
    match (value.unit.as_str(), value.unit_first) {
        ("", _) => format!("{about}{}", value.text),
        (unit, true) => format!("{about}{unit}{}", value.text),
        (unit, false) => format!("{about}{} {unit}", value.text),
    }
}
