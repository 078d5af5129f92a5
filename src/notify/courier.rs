//! Brings one message to one webhook.

use super::message::{Message, Style};
use super::options::Webhook;
use crate::fetch::{self, Ask};
use std::time::Duration;
use thiserror::Error;

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much of a refusal is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// So many letters of it are shown.
const REFUSAL_SHOWN: usize = 100;

/// Why a message was not taken, in words that never hold the address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Another attempt may succeed.
    #[error("{0}")]
    ForNow(String),
    /// It is this message that the receiver does not want.
    #[error("{0}")]
    ForGood(String),
}

/// Sends a message once.
pub async fn deliver(webhook: &Webhook, style: Style, message: &Message) -> Result<(), Refused> {
    let target = webhook.resolve().map_err(Refused::ForNow)?;
    let body = message.body(style).to_string();
    // An id has the name of a metric in it, which may be in any script.
    let key = message.id.replace(|c: char| !(c.is_ascii_graphic() || c == ' '), "?");
    let headers = [("content-type", "application/json"), ("idempotency-key", &key)];
    let ask = Ask { method: "POST", path: "", headers: &headers, body: body.as_bytes(), patience: PATIENCE };
    let answer = fetch::ask(&target, ask).await.map_err(|error| Refused::ForNow(error.to_string()))?;
    let code = answer.code();
    if (200..300).contains(&code) {
        return Ok(());
    }
    // Slack says in a word what is wrong, such as no_service.
    let said = answer.whole(REFUSAL_BYTES_MAX, PATIENCE).await.unwrap_or_default();
    let said: String =
        String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).take(REFUSAL_SHOWN).collect();
    let words = format!("it answers {code} {said}").trim_end().to_owned();
    // What is too large or badly formed is so the next time, and would be in the way of what comes after it.
    Err(if matches!(code, 400 | 413 | 422) { Refused::ForGood(words) } else { Refused::ForNow(words) })
}
