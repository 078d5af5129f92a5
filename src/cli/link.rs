//! `tallyd link`: a new share link for somebody, and what to write into the configuration.
//!
//! The table goes to stdout, so that it can be appended to a file; the link itself goes to stderr, since whoever has it
//! is let in and no file should hold it.

use super::args::Link;
use super::token::new_token;
use crate::clock::Clock;
use crate::serve::tokens::Token;
use anyhow::Context as _;
use chrono::DateTime;
use std::io::Write as _;
use toml::Value;

/// How long a link holds that does not say.
const HOLDS_MS: i64 = 90 * 86_400_000;

/// The table; the link is said besides.
pub fn link(arguments: &Link) -> anyhow::Result<String> {
    let token = new_token()?;
    let url = arguments.url.trim_end_matches('/');
    writeln!(
        std::io::stderr(),
        "The link, which is kept nowhere: who has it sees the page.\n\n    {url}/link/{token}\n\n\
         It holds once this stands in the configuration and tallyd was sent a SIGHUP; taken out again, it is revoked:\n"
    )
    .context("cannot write to stderr")?;
    let in_90_days = || {
        let at = DateTime::from_timestamp_millis(Clock::system().now() + HOLDS_MS).unwrap_or_default();
        at.date_naive().to_string()
    };
    let text = |text: &str| Value::String(text.to_owned());
    let hide = Value::Array(arguments.hide.iter().map(|id| text(id)).collect());
    Ok(format!(
        "\n[[link]]\nname = {}\npage = {}\ntoken = {}\nexpires = {}\nhide = {hide}\n",
        text(&arguments.name),
        text(&arguments.page),
        text(&Token::of(token.as_bytes()).hashed()),
        text(&arguments.expires.clone().unwrap_or_else(in_90_days)),
    ))
}
