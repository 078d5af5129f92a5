//! What a message says, and the two forms in which it travels.
//!
//! All figures stand in the text: whoever reads it on a telephone need not open anything.

use crate::clock::WallMs;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `{"text": …}`, as Slack, Mattermost and others take it.
    Slack,
    /// All that is known, as fields.
    Json,
    /// An event of Graphite's, as graphite-web takes it at `/events/`.
    Graphite,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// A figure stands still for longer than chance explains.
    Stalled,
    /// It moves again.
    Clear,
    /// A goal is reached.
    Goal,
    /// The best day so far.
    Record,
    /// What has been.
    Digest,
    /// A deploy, or another thin line on today's figures.
    Mark,
    /// Asked for by hand.
    Sample,
}

/// A figure in a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The day, `2026-11-22`.
    pub day: String,
    /// Whose id.
    pub figure: String,
    /// What people call it.
    pub label: String,
    /// `€3,412.00 · $260.00`
    pub text: String,
    /// `+21 (+13 %) against 163 on Mon 16 Nov`
    pub compared: Option<String>,
    /// What else is to be said.
    pub remarks: Vec<String>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same over restarts and repetitions, and never the same for two events.
    pub id: String,
    /// What it is about.
    pub topic: Topic,
    /// Whose id; of a digest none.
    pub figure: Option<String>,
    /// When it was decided, and of a mark when it is; in milliseconds since 1970.
    pub at_ms: WallMs,
    /// All of it in words.
    pub text: String,
    /// Of a digest, the figures.
    pub figures: Vec<Item>,
}

impl Message {
    /// The body of the request.
    #[must_use]
    pub fn body(&self, style: Style) -> Value {
        match style {
            Style::Slack => json!({ "text": escaped(&self.text) }),
            // Tags as text with blanks between them: lists came with graphite-web 1.1.
            Style::Graphite => json!({
                "what": self.text,
                "tags": "tallyd mark",
                "when": self.at_ms.div_euclid(1_000),
                "data": "",
            }),
            Style::Json => {
                let at = DateTime::from_timestamp_millis(self.at_ms).unwrap_or_default();
                json!({
                    "id": self.id,
                    "topic": self.topic,
                    "figure": self.figure,
                    "at": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                    "text": self.text,
                    "figures": self.figures,
                })
            }
        }
    }
}

/// Slack reads `<…>` as a link or a command, and `&` as the beginning of an entity.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A message that says that it is none.
#[must_use]
pub fn sample(now: WallMs) -> Message {
    Message {
        id: format!("sample-{now}"),
        topic: Topic::Sample,
        figure: None,
        at_ms: now,
        text: "This is a sample from tallyd: notices arrive here.".to_owned(),
        figures: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_gets_text_that_is_no_command() {
        let mut message = sample(1_795_439_121_250);
        message.text = "<!channel> a & b".to_owned();
        assert_eq!(message.body(Style::Slack), json!({"text": "&lt;!channel&gt; a &amp; b"}));
        let body = message.body(Style::Json);
        assert_eq!(
            (body["topic"].as_str(), body["at"].as_str()),
            (Some("sample"), Some("2026-11-23T13:05:21Z"))
        );
    }
}
