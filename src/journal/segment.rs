//! The bytes of a segment: header, records, and what can be read of them after damage.
//!
//! A segment is a file `00000000000000000001.journal`: a header, then records end to end. Numbers are
//! little-endian.
//!
//! ```text
//! header, 24 bytes            record, 40 bytes and its payload
//! ┌────────────┬─────────┐    ┌──────┬──────────┬────────┬──────────┬────────┬─────────┐
//! │ "tallyd\nj"│ version │    │ mark │ checksum │ length │ producer │ number │ payload │
//! │ 8          │ 4       │    │ 8    │ 4        │ 4      │ 16       │ 8      │ length  │
//! ├────────────┼─────────┤    └──────┴──────────┴────────┴──────────┴────────┴─────────┘
//! │ mark       │ checksum│       └── CRC-32 of the mark ─┴── and of everything from here to the end
//! │ 8          │ 4       │
//! └────────────┴─────────┘    the header's checksum is the CRC-32 of the 20 bytes before it
//! ```
//!
//! A record of producer 7, number 3, payload `hi`, in a segment whose mark is `a1 b2 c3 d4 e5 f6 07 18`:
//!
//! ```text
//! 74 61 6c 6c 79 64 0a 6a  01 00 00 00  a1 b2 c3 d4 e5 f6 07 18  a7 b4 fb ae
//! a1 b2 c3 d4 e5 f6 07 18  74 fb 74 12  02 00 00 00
//! 07 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  03 00 00 00 00 00 00 00  68 69
//! ```
//!
//! The mark is drawn at random for each segment. It is what a reader searches for behind damage, whose
//! length field cannot be trusted; and as nobody can know it, neither a name that somebody sends us nor an
//! old segment's bytes in a block that the disk gave us again will pass for a record. A header that is
//! damaged costs nothing while the first record holds: it begins with the same mark.

use super::recovery::{Damage, Findings};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;
use memchr::memmem;
use std::ops::Range;

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 24;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEAD_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"tallyd\nj";
const VERSION: u32 = 1;
const SUFFIX: &str = ".journal";
const DIGITS: usize = 20;

/// What the records of one segment begin with.
pub(super) type Mark = [u8; 8];

/// A whole record, and where its payload stands in the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) producer: u128,
    pub(super) number: u64,
    pub(super) payload: Range<usize>,
    /// Something before it in the segment was damaged.
    pub(super) after_damage: bool,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) places: Vec<Place>,
    pub(super) findings: Findings,
}

/// The header says a version that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownVersion(pub(super) u32);

/// A segment's file name.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

/// The number in a segment's file name; other files are none of our business.
pub(super) fn number_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// The header of a segment.
pub(super) fn header(mark: Mark) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    fill(&mut bytes, &[&MAGIC, &VERSION.to_le_bytes(), &mark, &header_checksum(VERSION, mark)]);
    bytes
}

/// What stands before a record's payload.
pub(super) fn record_head(
    mark: Mark,
    producer: u128,
    number: u64,
    payload: &[u8],
) -> [u8; RECORD_HEAD_BYTES] {
    let length = (payload.len() as u32).to_le_bytes();
    let (producer, number) = (producer.to_le_bytes(), number.to_le_bytes());
    let checksum = checksum(&[&mark, &length, &producer, &number, payload]);
    let mut bytes = [0; RECORD_HEAD_BYTES];
    fill(&mut bytes, &[&mark, &checksum, &length, &producer, &number]);
    bytes
}

fn fill(bytes: &mut [u8], parts: &[&[u8]]) {
    for (byte, value) in bytes.iter_mut().zip(parts.iter().copied().flatten()) {
        *byte = *value;
    }
}

fn header_checksum(version: u32, mark: Mark) -> [u8; 4] {
    checksum(&[&MAGIC, &version.to_le_bytes(), &mark])
}

fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

/// Reads a segment, from its first byte to its last. Every byte is in one record, or counted once as torn
/// or damaged, or in the header.
pub(super) fn scan(bytes: &[u8]) -> Result<Scan, UnknownVersion> {
    let mut scan = Scan::default();
    let stated = mark_of_header(bytes)?;
    let Some(mark) = stated.or_else(|| mark_of_first_record(bytes)) else {
        scan.findings.rest(bytes, Damage::Header, bytes.len() < HEADER_BYTES);
        return Ok(scan);
    };
    if stated.is_none() {
        scan.findings.skip(Damage::Header, HEADER_BYTES);
    }
    let finder = memmem::Finder::new(&mark);
    let mut after_damage = false;
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let fault = match record_at(bytes, at, mark) {
            Ok(place) => {
                at = place.payload.end;
                scan.places.push(Place { after_damage, ..place });
                continue;
            }
            Err(fault) => fault,
        };
        let rest = bytes.get(at..).unwrap_or_default();
        // From the next byte on: the length that stands here says nothing.
        let behind = rest.get(1..).unwrap_or_default();
        let mut found = finder.find_iter(behind).map(|found| at + 1 + found);
        let Some(next) = found.find(|&found| record_at(bytes, found, mark).is_ok()) else {
            scan.findings.rest(rest, fault.damage(), fault == Fault::Cut);
            break;
        };
        scan.findings.skip(fault.damage(), next - at);
        after_damage = true;
        at = next;
    }
    Ok(scan)
}

/// The mark that a whole header states.
fn mark_of_header(bytes: &[u8]) -> Result<Option<Mark>, UnknownVersion> {
    let parts = || {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (mark, rest) = rest.split_first_chunk::<8>()?;
        Some((magic, u32::from_le_bytes(*version), *mark, rest.first_chunk::<4>()?))
    };
    match parts() {
        Some((magic, version, mark, checksum))
            if *magic == MAGIC && *checksum == header_checksum(version, mark) =>
        {
            if version == VERSION {
                Ok(Some(mark))
            } else {
                Err(UnknownVersion(version))
            }
        }
        _ => Ok(None),
    }
}

/// Where the header is damaged: the mark of the first record, if that holds.
fn mark_of_first_record(bytes: &[u8]) -> Option<Mark> {
    let mark = *bytes.get(HEADER_BYTES..)?.first_chunk::<8>()?;
    record_at(bytes, HEADER_BYTES, mark).ok().map(|_| mark)
}

/// Why there is no whole record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The segment ends before the record does.
    Cut,
    Mark,
    Length,
    Checksum,
}

impl Fault {
    fn damage(self) -> Damage {
        match self {
            Self::Mark => Damage::Mark,
            // With whole records behind it the segment does not end there: the length is wrong.
            Self::Cut | Self::Length => Damage::Length,
            Self::Checksum => Damage::Checksum,
        }
    }
}

/// The record that begins at a place.
fn record_at(bytes: &[u8], at: usize, mark: Mark) -> Result<Place, Fault> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.len() < RECORD_HEAD_BYTES {
        return Err(Fault::Cut);
    }
    let (found_mark, rest) = rest.split_first_chunk::<8>().ok_or(Fault::Cut)?;
    let (found_checksum, checked) = rest.split_first_chunk::<4>().ok_or(Fault::Cut)?;
    let (length, rest) = checked.split_first_chunk::<4>().ok_or(Fault::Cut)?;
    let (producer, rest) = rest.split_first_chunk::<16>().ok_or(Fault::Cut)?;
    let (number, rest) = rest.split_first_chunk::<8>().ok_or(Fault::Cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    if *found_mark != mark {
        return Err(Fault::Mark);
    }
    if length > JOURNAL_RECORD_BYTES_MAX {
        return Err(Fault::Length);
    }
    if rest.len() < length {
        return Err(Fault::Cut);
    }
    // Length, producer and number are checked with the payload.
    let checked = checked.get(..checked.len() - rest.len() + length).ok_or(Fault::Cut)?;
    if checksum(&[&mark, checked]) != *found_checksum {
        return Err(Fault::Checksum);
    }
    let start = at + RECORD_HEAD_BYTES;
    Ok(Place {
        producer: u128::from_le_bytes(*producer),
        number: u64::from_le_bytes(*number),
        payload: start..start + length,
        after_damage: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = [0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18];

    fn segment(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = header(MARK).to_vec();
        for (number, payload) in (3..).zip(payloads) {
            bytes.extend(record_head(MARK, 7, number, payload));
            bytes.extend(*payload);
        }
        bytes
    }

    #[test]
    fn the_drawn_example_is_what_is_written() {
        let head = include_str!("segment.rs");
        let drawn: Vec<u8> = head
            .lines()
            .filter_map(|line| line.strip_prefix("//! "))
            .skip_while(|line| !line.starts_with("A record of producer 7"))
            .filter(|line| line.split_whitespace().all(|word| word.len() == 2))
            .flat_map(|line| line.split_whitespace().filter_map(|word| u8::from_str_radix(word, 16).ok()))
            .collect();
        assert_eq!(drawn, segment(&[b"hi"]));
    }

    #[test]
    fn an_unknown_version_is_told_from_damage() {
        let mut bytes = segment(&[b"hi"]);
        bytes[8] = 2;
        assert_eq!(scan(&bytes).unwrap().places.len(), 1, "a flipped bit is damage");
        let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
        bytes[20..24].copy_from_slice(&checksum);
        assert_eq!(scan(&bytes), Err(UnknownVersion(2)));
    }

    #[test]
    fn only_our_files_have_numbers() {
        assert_eq!(file_name(1), "00000000000000000001.journal");
        assert_eq!(number_of("00000000000000000001.journal"), Some(1));
        assert_eq!(number_of(&file_name(u64::MAX)), Some(u64::MAX));
        for other in [
            "1.journal",
            "+0000000000000000001.journal",
            "00000000000000000001.old",
            "99999999999999999999.journal",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_in_a_payload_is_no_record() {
        // The very bytes of a record of this segment cannot be sent by who does not know the mark; those of
        // another segment can.
        let mut other = record_head([1; 8], 7, 9, b"forged").to_vec();
        other.extend(b"forged");
        let mut bytes = segment(&[&other, b"after"]);
        bytes[HEADER_BYTES + 12] ^= 1;
        let scan = scan(&bytes).unwrap();
        assert_eq!(scan.places.iter().map(|place| place.number).collect::<Vec<_>>(), [4]);
        assert!(scan.places[0].after_damage);
    }
}
