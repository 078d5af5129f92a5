//! `GET /api/v1/query` and `/api/v1/series`: a question in a URL, its answer as JSON or CSV.
//!
//! What is asked and answered is the business of `crate::query`; this file knows URLs, headers and status codes.
//! Work is done off the worker, a few questions at a time, so that health and status are answered meanwhile.

use super::access::Who;
use super::{Server, guest};
use crate::limits;
use crate::query::{Asked, Format, ListAsked, Problem, QueryError, answer, list};
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Room for the questions that are worked on at a time.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(limits::QUERIES_AT_ONCE)))
    }

    /// Does work on a thread of its own, once there is room.
    async fn run(self, work: impl FnOnce() -> Response + Send + 'static) -> Response {
        // The semaphore is never closed. The place is kept until the work ends, even if nobody waits any more.
        let place = self.0.acquire_owned().await.ok();
        let work = tokio::task::spawn_blocking(move || {
            let response = work();
            drop(place);
            response
        });
        work.await.unwrap_or_else(|_| {
            failed(StatusCode::INTERNAL_SERVER_ERROR, "the query failed, and this is a bug")
        })
    }
}

/// Points of series.
pub(super) async fn query(
    State(server): State<Arc<Server>>,
    Extension(who): Extension<Who>,
    Extension(room): Extension<Room>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    room.run(move || {
        let now = server.clock.now();
        let mut asked = match pairs(query.as_deref().unwrap_or("")) {
            Ok(asked) => asked,
            Err(problem) => return refused(&problem),
        };
        if let Who::Guest(links) = &who {
            let states: Vec<_> = links.iter().filter_map(|link| server.figures.state(link.page())).collect();
            match guest::restricted(asked, links, &states) {
                Some(restricted) => asked = restricted,
                None => return failed(StatusCode::FORBIDDEN, guest::REFUSED),
            }
        }
        let asked = match Asked::read(&asked, now, server.store.ladder().calendar()) {
            Ok(asked) => asked,
            Err(problem) => return refused(&problem),
        };
        let answer = answer(&*server.store, &asked, now);
        let answer = if matches!(who, Who::Guest(_)) { answer.map(guest::plain) } else { answer };
        match answer {
            Ok(answer) if is_csv(asked.format, &headers) => csv(answer.csv()),
            Ok(answer) => json(StatusCode::OK, answer.json()),
            Err(QueryError::Asked(problem)) => refused(&problem),
            Err(QueryError::Store(error)) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    })
    .await
}

/// Which series there are.
pub(super) async fn series(
    State(server): State<Arc<Server>>,
    Extension(room): Extension<Room>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    room.run(move || {
        let asked = pairs(query.as_deref().unwrap_or("")).and_then(|pairs| ListAsked::read(&pairs));
        let asked = match asked {
            Ok(asked) => asked,
            Err(problem) => return refused(&problem),
        };
        match list(&*server.store, &asked) {
            Ok(listing) if is_csv(asked.format, &headers) => csv(listing.csv()),
            Ok(listing) => json(StatusCode::OK, listing.json()),
            Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    })
    .await
}

fn refused(problem: &Problem) -> Response {
    let body = serde_json::to_string(problem).unwrap_or_default();
    json(StatusCode::BAD_REQUEST, body + "\n")
}

fn failed(status: StatusCode, error: &str) -> Response {
    #[derive(Serialize)]
    struct Failure<'a> {
        error: &'a str,
    }
    json(status, serde_json::to_string(&Failure { error }).unwrap_or_default() + "\n")
}

fn json(status: StatusCode, body: String) -> Response {
    (status, headers_of("application/json"), body).into_response()
}

fn csv(body: String) -> Response {
    (headers_of("text/csv; charset=utf-8; header=present"), body).into_response()
}

/// Names come from whoever sends lines: a browser must not take an answer for a page.
fn headers_of(content_type: &'static str) -> [(header::HeaderName, &'static str); 4] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept"),
    ]
}

/// Names and values of a query string, decoded.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bad = |parameter: &str| Problem {
                error: format!("`{part}` is not percent-encoded UTF-8"),
                parameter: parameter.to_owned(),
                cure: "write % as %25, & as %26, + as %2B, and other signs as their UTF-8 bytes".to_owned(),
            };
            let name = decoded(name).ok_or_else(|| bad(name))?;
            let value = decoded(value).ok_or_else(|| bad(&name))?;
            Ok((name, value))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn is_csv(asked: Option<Format>, headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    asked.map_or_else(|| prefers_csv(accept), |format| format == Format::Csv)
}

/// Whether `Accept` likes CSV better than JSON; where it likes both the same, what it names more exactly wins, and
/// JSON if that is the same too.
fn prefers_csv<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut csv, mut json) = ((0, 0.0), (0, 0.0));
    for range in accept.flat_map(|accept| accept.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let q: f64 = q.map_or(Some(1.0), |q| q.trim().parse().ok()).unwrap_or(0.0);
        for (exact, family, best) in
            [("text/csv", "text/*", &mut csv), ("application/json", "application/*", &mut json)]
        {
            let names = [exact, family, "*/*"].iter().position(|name| *name == media);
            let exactness = names.map_or(0, |at| 3 - at);
            if exactness > best.0 {
                *best = (exactness, q);
            }
        }
    }
    csv.1 > json.1 || (csv.1 > 0.0 && csv.1 == json.1 && csv.0 > json.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_strings_are_decoded() {
        let read = |query| pairs(query).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("name=a%3Bb%3dc&from=-1h&by="),
            [pair("name", "a;b=c"), pair("from", "-1h"), pair("by", "")]
        );
        assert_eq!(read("&&x&caf%C3%A9=a+b%2Bc"), [pair("x", ""), pair("café", "a b+c")]);
        assert_eq!(read(""), []);
        for (query, parameter) in [("name=%", "name"), ("name=%4", "name"), ("a=%zz", "a"), ("b=%ff", "b")] {
            assert_eq!(pairs(query).unwrap_err().parameter, parameter, "{query}");
        }
    }

    #[test]
    fn csv_is_given_where_it_is_liked_better() {
        for accept in [
            "text/csv",
            "text/csv; q=0.9, application/json; q=0.1",
            "text/csv, */*",
            "Text/CSV,*/*;q=0.1",
            "text/*",
            "application/json;q=0, */*",
        ] {
            assert!(prefers_csv([accept].into_iter()), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "application/json",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/csv;q=0.1, application/json",
            "text/csv, application/json",
            "text/csv;q=0",
            "text/csv;q=x",
            "image/png",
        ] {
            assert!(!prefers_csv([accept].into_iter()), "{accept}");
        }
    }
}
