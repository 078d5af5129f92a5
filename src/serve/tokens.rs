//! Tokens: what a stranger shows to be let in, known by its hash alone.
//!
//! A token comes from the configuration, the environment or a file, as it is or as `sha256:` and 64 hexadecimal
//! digits. It is hashed when it is read, and nothing keeps it: not the settings, not a log, not a core dump of ours.
//! One round of SHA-256 is enough for what nobody can guess; a short token is warned of, since it can be.

use super::Options;
use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// What stands before a hash that is written in place of its token.
const HASHED: &str = "sha256:";
/// Largest file of tokens in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Fewer characters than this can be guessed.
pub const CHARACTERS_MIN: usize = 16;

/// A token by its SHA-256. It shows itself to nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoToken {
    /// A header could not carry it.
    #[error("a token is visible ASCII without spaces")]
    Characters,
    /// `sha256:` and something else than a hash.
    #[error("behind sha256: stand 64 hexadecimal digits")]
    Hash,
}

impl Token {
    /// The token of this text, whatever it is.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// A token as it is written in a configuration: as it is, or its hash.
    pub fn read(text: &str) -> Result<Self, NoToken> {
        if let Some(digits) = text.strip_prefix(HASHED) {
            return from_hex(digits).map(Self).ok_or(NoToken::Hash);
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoToken::Characters);
        }
        Ok(Self::of(text.as_bytes()))
    }

    /// The hash as it may be written in place of the token.
    #[must_use]
    pub fn hashed(&self) -> String {
        self.0.iter().fold(HASHED.to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Whether a text stands for a token without being one.
#[must_use]
pub fn is_hashed(text: &str) -> bool {
    text.starts_with(HASHED)
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A file of tokens that cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("{}: {cause} (from `http.token_files`)", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A line of it is no token. The line itself is not shown.
    #[error("{} line {line}: {cause} (from `http.token_files`)", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which of its lines, from 1.
        line: usize,
        /// Why not.
        cause: NoToken,
    },
    /// There is no token in it.
    #[error("{} holds no token (from `http.token_files`): one stands on each line", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// The lines of a file of tokens: one on each, blank lines and those that begin with `#` passed over.
pub fn read_file(path: &Path) -> Result<Vec<String>, TokenFileError> {
    let unreadable = |cause| TokenFileError::Unreadable { path: path.to_owned(), cause };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    let mut found = Vec::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if !text.is_empty() && !text.starts_with('#') {
            let wrong = |cause| TokenFileError::Line { path: path.to_owned(), line, cause };
            Token::read(text).map_err(wrong)?;
            found.push(text.to_owned());
        }
    }
    if found.is_empty() {
        return Err(TokenFileError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

/// The tokens that hold now: a reload replaces all of them, so that one that is left out is worth nothing any more.
#[derive(Debug, Default)]
pub struct Tokens(ArcSwap<Vec<Token>>);

impl Tokens {
    /// Those of the configuration and its files.
    pub fn load(options: &Options) -> Result<Self, TokenFileError> {
        let tokens = Self::default();
        tokens.reload(options)?;
        Ok(tokens)
    }

    /// Reads all of them anew. After an error the old ones stay.
    pub fn reload(&self, options: &Options) -> Result<(), TokenFileError> {
        let mut tokens = options.tokens.clone();
        for path in &options.token_files {
            // What a file holds was checked when it was read.
            tokens.extend(read_file(path)?.iter().filter_map(|text| Token::read(text).ok()));
        }
        self.0.store(tokens.into());
        Ok(())
    }

    /// Whether there are any.
    pub(super) fn are_set(&self) -> bool {
        !self.0.load().is_empty()
    }

    /// Whether this is one of them. All are compared, so that the time does not tell which one was near.
    pub(super) fn know(&self, shown: &[u8]) -> bool {
        let shown = Token::of(shown);
        self.0.load().iter().fold(false, |any, token| any | token.is(&shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is the one that `printf %s open-sesame | sha256sum` prints.
    const SESAME: &str = "sha256:d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

    #[test]
    fn a_token_and_its_hash_are_the_same_and_neither_is_shown() {
        let token = Token::read("open-sesame").unwrap();
        assert_eq!(token.hashed(), SESAME);
        assert!(token.is(&Token::read(SESAME).unwrap()));
        assert!(token.is(&Token::read(&SESAME.replace("ec", "EC")).unwrap()));
        assert!(!token.is(&Token::read("open-sesamf").unwrap()));
        assert_eq!(format!("{token:?}"), "Token(not shown)");
        for wrong in ["", "two words", "tab\t", "gr\u{fc}n"] {
            assert_eq!(Token::read(wrong), Err(NoToken::Characters), "{wrong}");
        }
        for wrong in ["sha256:", "sha256:41ef", &SESAME.replace("ec", "eg"), &format!("{SESAME}0")] {
            assert_eq!(Token::read(wrong), Err(NoToken::Hash), "{wrong}");
        }
    }

    #[test]
    fn files_hold_a_token_a_line_and_errors_show_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let mut options = Options { token_files: vec![path.clone()], ..Options::default() };
        options.tokens = vec![Token::of(b"written")];
        assert!(matches!(Tokens::load(&options), Err(TokenFileError::Unreadable { .. })));
        std::fs::write(&path, format!("# the builder\n one \n\n{SESAME}\n")).unwrap();
        let tokens = Tokens::load(&options).unwrap();
        for right in ["one", "open-sesame", "written"] {
            assert!(tokens.know(right.as_bytes()), "{right}");
        }
        for wrong in ["", "two", "# the builder", SESAME] {
            assert!(!tokens.know(wrong.as_bytes()), "{wrong}");
        }
        // One that is left out is revoked; a file that cannot be used changes nothing.
        std::fs::write(&path, "two\n").unwrap();
        tokens.reload(&options).unwrap();
        assert!(tokens.know(b"two") && !tokens.know(b"one"));
        std::fs::write(&path, "two\nhunter 2\n").unwrap();
        let error = tokens.reload(&options).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter"), "{error}");
        std::fs::write(&path, "# none\n").unwrap();
        assert!(matches!(tokens.reload(&options), Err(TokenFileError::Empty { .. })));
        assert!(tokens.know(b"two"));
    }
}
