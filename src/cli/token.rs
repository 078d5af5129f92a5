//! `tallyd token`: a new token, and the hash that takes its place in the configuration.

use crate::serve::tokens::Token;
use anyhow::Context;
use std::fs::File;
use std::io::Read as _;

/// Two lines: the token, which is kept nowhere, and its hash.
pub fn token() -> anyhow::Result<String> {
    let token = new_token()?;
    Ok(format!("token {token}\nhash  {}\n", Token::of(token.as_bytes()).hashed()))
}

/// A token that nobody can guess.
pub(super) fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("the system gives us nothing random")?;
    Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}
