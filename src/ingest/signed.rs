//! Signed datagrams, in the format that brubeck's clients send: who does not know the key counts nothing.
//!
//! ```text
//!   ┌────────────────┬──────────────┬──────────┬───────────────────────────────┐
//!   │ signature (32) │ time (8, LE) │ nonce (4)│ lines, as in any datagram     │
//!   └────────────────┴──────────────┴──────────┴───────────────────────────────┘
//!     HMAC-SHA-256 of everything behind it; the time is in seconds since 1970
//! ```
//!
//! In comes a datagram; out come its lines, or why it is refused. The signature is looked at first, so that nobody who
//! cannot sign fills the memory of what was seen. A signature that was seen within the window is a replay. brubeck keeps
//! a Bloom filter of them, which refuses some that are new; here they are kept themselves, up to a bound.

use super::Options;
use crate::clock::Clock;
use crate::health::Refusal;
use crate::limits;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// Bytes of the signature.
const SIGNATURE_BYTES: usize = 32;
/// Bytes before the lines.
const HEAD_BYTES: usize = SIGNATURE_BYTES + 12;
/// Of a signature so many bytes are remembered: more than chance can meet.
const SEEN_BYTES: usize = 16;
/// Largest file of a key in bytes.
const FILE_BYTES_MAX: u64 = 4_096;

/// What signatures are made and checked with. It shows itself to nobody.
#[derive(Clone)]
pub struct SigningKey {
    mac: Hmac<Sha256>,
    /// Tells keys apart.
    name: [u8; 32],
}

impl SigningKey {
    /// A key from its text, as it stands in the configuration of both ends.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mac = Hmac::new_from_slice(text.as_bytes());
        let mac = mac.unwrap_or_else(|_| unreachable!("a key of HMAC may have any length"));
        Self { mac, name: Sha256::digest(text.as_bytes()).into() }
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(not shown)")
    }
}

/// The file of a key that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {cause} (from `ingest.signed_key_files`)", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    cause: io::Error,
}

fn read_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let failed = |cause| KeyFileError { path: path.to_owned(), cause };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)).map_err(failed)?;
    // An editor ends the file with a line break, which is no part of the key.
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it holds no key")));
    }
    Ok(SigningKey::new(text))
}

/// Checks datagrams. Shared by all signed sockets, so that what one has seen is a replay at every other.
#[derive(Debug)]
pub struct Signed {
    keys: Vec<SigningKey>,
    window_secs: u64,
    clock: Clock,
    seen: Mutex<Seen>,
}

/// Signatures by their second.
#[derive(Debug, Default)]
struct Seen {
    by_second: BTreeMap<u64, HashSet<[u8; SEEN_BYTES], foldhash::fast::RandomState>>,
    count: usize,
}

impl Signed {
    /// With the keys of the configuration and its files. Without any, nothing is let in.
    pub fn load(options: &Options, clock: Clock) -> Result<Self, KeyFileError> {
        let mut keys = options.signed_keys.clone();
        for path in &options.signed_key_files {
            keys.push(read_key(path)?);
        }
        Ok(Self { keys, window_secs: options.signed_window_secs, clock, seen: Mutex::default() })
    }

    /// The lines of a datagram.
    pub fn open<'a>(&self, datagram: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let (signature, signed) =
            datagram.split_first_chunk::<SIGNATURE_BYTES>().ok_or(Refusal::BadSignature)?;
        let (time, rest) = signed.split_first_chunk::<8>().ok_or(Refusal::BadSignature)?;
        let lines = rest.get(HEAD_BYTES - SIGNATURE_BYTES - 8..).ok_or(Refusal::BadSignature)?;
        let known = self.keys.iter().any(|key| {
            let mut mac = key.mac.clone();
            mac.update(signed);
            // In constant time.
            mac.verify(signature.into()).is_ok()
        });
        if !known {
            return Err(Refusal::BadSignature);
        }
        let now = self.clock.now().div_euclid(1_000).max(0) as u64;
        let time = u64::from_le_bytes(*time);
        if time > now.saturating_add(self.window_secs) {
            return Err(Refusal::SignedEarly);
        }
        let oldest = now.saturating_sub(self.window_secs);
        if time < oldest {
            return Err(Refusal::SignedLate);
        }
        let (short, _) = signature.split_first_chunk::<SEEN_BYTES>().unwrap_or((&[0; SEEN_BYTES], &[]));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(*short, time, oldest)?;
        Ok(lines)
    }
}

impl Seen {
    fn note(&mut self, signature: [u8; SEEN_BYTES], time: u64, oldest: u64) -> Result<(), Refusal> {
        while let Some(entry) = self.by_second.first_entry().filter(|entry| *entry.key() < oldest) {
            self.count -= entry.remove().len();
        }
        let second = self.by_second.entry(time).or_default();
        if second.contains(&signature) {
            return Err(Refusal::Replayed);
        }
        // What could not be told from a replay later is not let in now.
        if self.count >= limits::SIGNATURES_MAX {
            return Err(Refusal::SignatureLimit);
        }
        second.insert(signature);
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(clock: &Clock, keys: &[&str]) -> Signed {
        let keys = keys.iter().map(|key| SigningKey::new(key)).collect();
        Signed { keys, window_secs: 30, clock: clock.clone(), seen: Mutex::default() }
    }

    fn sign(key: &str, time: u64, nonce: u32, lines: &[u8]) -> Vec<u8> {
        let rest = [&time.to_le_bytes()[..], &nonce.to_le_bytes(), lines].concat();
        let mut mac = SigningKey::new(key).mac;
        mac.update(&rest);
        [&mac.finalize().into_bytes()[..], &rest].concat()
    }

    /// Two datagrams that a published client of brubeck's prints in its documents, with the key `mysecret`.
    #[test]
    fn a_clients_own_datagrams_are_understood() {
        let published: [&[u8]; 2] = [
            b"\xD7\x8D?a9\xCB\xD5H\xFB\xA2?\xFE\x18\xFF9P\xB3\x9EY\x1B\xD9H\x86H\xEC\x84(N7B\xF7\x85\x04\\mV\0\0\0\0\x17\xFEq\x90prefix.requests:1|c",
            b"A\x94\x07\xBD\x8C9\0\tU\xD0\x87\x8F\x9A\xCD\xC5\xA2l\xCA&\xA7T7\xEFT8\x9F\\b\xF7\xEB\x10\xD2\x06\\mV\0\0\0\0j\x86\xCD\xCBprefix.numOfFilesCreated:5|h",
        ];
        let clock = Clock::manual(0x566d_5c04 * 1_000);
        let signed = signed(&clock, &["another", "mysecret"]);
        assert_eq!(signed.open(published[0]), Ok(&b"prefix.requests:1|c"[..]));
        assert_eq!(signed.open(published[1]), Ok(&b"prefix.numOfFilesCreated:5|h"[..]));
        assert_eq!(signed.open(published[0]), Err(Refusal::Replayed));
    }

    #[test]
    fn only_what_is_signed_in_time_and_new_is_let_in() {
        let clock = Clock::manual(1_000_000);
        let signed = signed(&clock, &["key"]);
        let good = sign("key", 1_000, 7, b"a:1|c");
        // Every bit and every length counts.
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(signed.open(&bad), Err(Refusal::BadSignature), "bit {at}");
        }
        for length in 0..good.len() {
            assert_eq!(signed.open(&good[..length]), Err(Refusal::BadSignature), "{length} bytes");
        }
        assert_eq!(signed.open(&sign("other", 1_000, 7, b"a:1|c")), Err(Refusal::BadSignature));
        assert_eq!(signed.open(&good), Ok(&b"a:1|c"[..]));
        assert_eq!(signed.open(&good), Err(Refusal::Replayed));
        assert_eq!(signed.open(&sign("key", 1_000, 8, b"a:1|c")), Ok(&b"a:1|c"[..]));
        assert_eq!(signed.open(&sign("key", 1_000, 8, b"")), Ok(&b""[..]));
        for (time, expected) in [
            (970, Ok(&b"a:1|c"[..])),
            (969, Err(Refusal::SignedLate)),
            (1_030, Ok(&b"a:1|c"[..])),
            (1_031, Err(Refusal::SignedEarly)),
            (0, Err(Refusal::SignedLate)),
            (u64::MAX, Err(Refusal::SignedEarly)),
        ] {
            assert_eq!(signed.open(&sign("key", time, 9, b"a:1|c")), expected, "{time}");
        }
        // What is forgotten is too late by then.
        clock.set(1_031_000);
        assert_eq!(signed.open(&good), Err(Refusal::SignedLate));
        assert_eq!(signed.open(&sign("key", 1_030, 9, b"a:1|c")), Err(Refusal::Replayed));
        assert_eq!(signed.open(&sign("key", 1_030, 10, b"a:1|c")), Ok(&b"a:1|c"[..]));
        let seen = signed.seen.lock().unwrap();
        assert_eq!((seen.count, seen.by_second.len()), (2, 1));
    }

    #[test]
    fn beyond_the_bound_nothing_is_let_in_that_could_come_again() {
        let mut seen = Seen::default();
        let signature = |n: usize| (n as u128).to_le_bytes();
        for n in 0..limits::SIGNATURES_MAX {
            seen.note(signature(n), 5, 0).unwrap();
        }
        assert_eq!(seen.note(signature(0), 5, 0), Err(Refusal::Replayed));
        assert_eq!(seen.note(signature(limits::SIGNATURES_MAX), 5, 0), Err(Refusal::SignatureLimit));
        assert_eq!(seen.note(signature(limits::SIGNATURES_MAX), 6, 6), Ok(()));
        assert_eq!(seen.count, 1);
    }

    #[test]
    fn without_a_key_nothing_is_let_in() {
        let signed = signed(&Clock::manual(1_000_000), &[]);
        assert_eq!(signed.open(&sign("", 1_000, 7, b"a:1|c")), Err(Refusal::BadSignature));
    }
}
