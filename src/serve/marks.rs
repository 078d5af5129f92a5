//! `POST /api/v1/marks`: a deploy, or anything else worth a line on today's figures.
//!
//! The body is the text, or JSON of `text` and `at_ms`. Asked as everything else here is: a stranger shows a token,
//! and a page of another origin is turned away.

use super::Server;
use crate::clock::WallMs;
use crate::figures::MarkRefused;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    text: String,
    at_ms: Option<WallMs>,
}

/// Puts a mark.
pub(super) async fn put(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = match read(&headers, &body) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error),
    };
    let now = server.clock.now();
    match server.figures.mark(&asked.text, asked.at_ms.unwrap_or(now), now) {
        Ok(mark) => {
            let body = serde_json::to_string(&mark).unwrap_or_default() + "\n";
            (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error @ MarkRefused::TooMany) => refused(StatusCode::TOO_MANY_REQUESTS, &error.to_string()),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Asked, String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return serde_json::from_slice(body).map_err(|error| {
            format!("{error}: send {{\"text\": \"deploy web\"}}, and at_ms where it was not now")
        });
    }
    let text = std::str::from_utf8(body).map_err(|_| "the text is not UTF-8".to_owned())?;
    Ok(Asked { text: text.trim().to_owned(), at_ms: None })
}

fn refused(status: StatusCode, error: &str) -> Response {
    let body = serde_json::json!({ "error": error }).to_string() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
