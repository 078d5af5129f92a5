//! `POST /api/v1/samples`: lines as over UDP, that are counted once and answered when no crash can undo it.
//!
//! Each request carries an `Idempotency-Key` of its own. Who gets no answer, or 503, sends the same again: what was
//! counted is not counted again, by this process or the next one, and in front of Redis by no other node either. The
//! answer lists what was refused and why; it is the same however often the request comes.

use super::Server;
use crate::aggregate::request::{Gathered, Key, Outcome, Request, TooManyBuckets};
use crate::health::{Intake, Refusal};
use crate::limits;
use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

const KEY: &str = "idempotency-key";
/// Says that what was asked for had been done before.
const REPLAYED: &str = "idempotency-replayed";

/// Places for the requests that are worked on at a time: each holds its body in memory.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(limits::REQUESTS_AT_ONCE)))
    }
}

/// Counts lines.
pub(super) async fn put(
    State(server): State<Arc<Server>>,
    Extension(places): Extension<Places>,
    request: HttpRequest,
) -> Response {
    if !server.store.durability().on_disk {
        let error =
            "store.url is memory: nothing can be promised here; give it a file:DIRECTORY or a redis://…";
        return refused(StatusCode::SERVICE_UNAVAILABLE, error);
    }
    let Ok(_place) = places.0.try_acquire() else {
        return busy("too many requests at a time");
    };
    let (head, body) = request.into_parts();
    let key = match key(&head.headers) {
        Ok(key) => key.to_owned(),
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    match read(body).await {
        Ok(lines) => count(&server, &key, lines).await,
        Err(response) => response,
    }
}

fn key(headers: &HeaderMap) -> Result<&[u8], &'static str> {
    let mut all = headers.get_all(KEY).iter();
    let (Some(key), None) = (all.next(), all.next()) else {
        return Err(
            "a request needs one Idempotency-Key: text that no other request has, such as a UUID or the \
                    number of an order; the same again when the request is sent again",
        );
    };
    let key = key.as_bytes();
    if key.is_empty() || key.len() > limits::REQUEST_KEY_BYTES_MAX || !key.iter().all(u8::is_ascii_graphic) {
        return Err("an Idempotency-Key is 1 to 255 visible characters of ASCII");
    }
    Ok(key)
}

/// All of a body; how long it may take is every body's limit (`connections.rs`).
async fn read(body: Body) -> Result<Bytes, Response> {
    to_bytes(body, limits::REQUEST_BYTES_MAX).await.map_err(|error| {
        if !error.into_inner().is::<LengthLimitError>() {
            return refused(StatusCode::BAD_REQUEST, "the body did not come whole");
        }
        let most = limits::REQUEST_BYTES_MAX;
        let error = format!(
            "the body has more than {most} bytes: send the lines as several requests, each with a key of its own"
        );
        refused(StatusCode::PAYLOAD_TOO_LARGE, &error)
    })
}

async fn count(server: &Arc<Server>, key: &[u8], lines: Bytes) -> Response {
    let (counting, now) = (server.lines.clone(), server.clock.now());
    let key = Key::new(key, &lines);
    let gathered = tokio::task::spawn_blocking(move || counting.gather(&lines, now)).await;
    let gathered = match gathered {
        Ok(Ok(gathered)) => gathered,
        Ok(Err(TooManyBuckets)) => {
            let most = limits::REQUEST_BUCKETS_MAX;
            let error =
                format!("the timestamps name more than {most} buckets: send the lines as several requests");
            return refused(StatusCode::BAD_REQUEST, &error);
        }
        Err(_) => {
            return refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the lines could not be read, and this is a bug",
            );
        }
    };
    let answer = answer(&gathered);
    if gathered.intake.samples == 0 {
        return reply(StatusCode::BAD_REQUEST, &with_error(answer, "no line of it can be counted"));
    }
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |outcome| {
        // Who asked may have gone; the key answers when they come again.
        tell.send(outcome).ok();
    });
    if !(server.count)(Request { key, gathered, done }) {
        return busy("the flusher is behind");
    }
    match told.await {
        Ok(Outcome::Counted { before }) => {
            let mut response = reply(StatusCode::ACCEPTED, &answer);
            if before {
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            response
        }
        Ok(Outcome::OtherRequest) => refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this Idempotency-Key was another request's: nothing was counted",
        ),
        Ok(Outcome::NotDurable(cause)) => {
            busy(&format!("send it again, for now it would not be durable: {cause}"))
        }
        Ok(Outcome::TooManyKeys) => {
            busy("too many keys within flush.amend_window: put more lines into a request")
        }
        Err(_) => busy("tallyd stops"),
    }
}

/// What came of the lines: a function of the request, so that the same one is answered alike.
fn answer(gathered: &Gathered) -> Value {
    let Intake { samples, lines, events, service_checks, .. } = gathered.intake;
    let reasons = Refusal::ALL.iter().zip(gathered.intake.refused).filter(|(_, count)| *count > 0);
    let reasons: Map<String, Value> =
        reasons.map(|(reason, count)| (reason.label().to_owned(), count.into())).collect();
    let shown =
        gathered.refused.iter().map(|(line, reason)| json!({ "line": line, "reason": reason.label() }));
    json!({
        "counted": samples,
        "lines": lines,
        "events": events + service_checks,
        "refused": reasons,
        "refused_lines": shown.collect::<Vec<_>>(),
    })
}

fn with_error(mut answer: Value, error: &str) -> Value {
    if let Value::Object(fields) = &mut answer {
        fields.insert("error".to_owned(), error.into());
    }
    answer
}

/// Not now, but soon.
fn busy(error: &str) -> Response {
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refused(status: StatusCode, error: &str) -> Response {
    reply(status, &json!({ "error": error }))
}

fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string() + "\n").into_response()
}
