//! Cut at every byte, flipped at every bit: all that is whole comes out, once, and the rest is counted.

use super::disk::{Faults, VirtualDisk};
use super::{Named, OPTIONS, append, open, records, records_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use tallyd::journal::{Damage, Directory, Journal, JournalError, Recovered};

const NAME: &str = "00000000000000000001.journal";
const HEADER_BYTES: usize = 24;
const HEAD_BYTES: usize = 40;

/// A segment with records of the given sizes: its bytes, the records, and where each one stands.
fn segment(sizes: &[usize]) -> (Vec<u8>, Vec<Named>, Vec<Range<usize>>) {
    let mut random = StdRng::seed_from_u64(7);
    let disk = VirtualDisk::new(0);
    let (mut journal, _) = open(&disk, OPTIONS);
    let (mut all, mut places) = (Vec::new(), Vec::new());
    let mut at = HEADER_BYTES;
    for (number, &size) in (1..).zip(sizes) {
        let mut payload = vec![0; size];
        random.fill(&mut payload[..]);
        assert!(append(&mut journal, 5, number, &payload, 0));
        all.push((5, number, payload));
        places.push(at..at + HEAD_BYTES + size);
        at += HEAD_BYTES + size;
    }
    journal.sync(0).unwrap();
    assert_eq!(disk.file_names(), [NAME]);
    let bytes = disk.bytes_of(NAME);
    assert_eq!(bytes.len(), at);
    (bytes, all, places)
}

fn recover(bytes: &[u8]) -> (Vec<Named>, Recovered, Journal) {
    let (journal, recovered) = open(&VirtualDisk::with_file(NAME, bytes), OPTIONS);
    (records(&journal, &recovered), recovered, journal)
}

/// Bytes in records, and bytes counted as torn or damaged: together the whole file, each byte once.
fn check_every_byte_is_counted_once(bytes: &[u8], records: &[Named], recovered: &Recovered) {
    let in_records: usize = records.iter().map(|(_, _, payload)| HEAD_BYTES + payload.len()).sum();
    let findings = recovered.findings;
    let skipped = (findings.torn.bytes + findings.damaged_in_all().bytes) as usize;
    let header = if findings.damaged(Damage::Header).stretches > 0 || bytes.len() < HEADER_BYTES {
        0
    } else {
        HEADER_BYTES
    };
    assert_eq!(header + in_records + skipped, bytes.len());
    assert_eq!(recovered.records, records.len() as u64);
    let names: HashSet<_> = records.iter().map(|(producer, number, _)| (producer, number)).collect();
    assert_eq!(names.len(), records.len(), "none is counted twice");
}

#[test]
fn cut_at_every_byte_all_whole_records_come_out() {
    let (bytes, all, places) = segment(&[3, 0, 100, 1, 57, 200, 13, 8]);
    for cut in 0..=bytes.len() {
        let (records, recovered, _) = recover(&bytes[..cut]);
        let whole = places.iter().filter(|place| place.end <= cut).count();
        assert_eq!(records, all[..whole], "cut at {cut}");
        let end = if whole > 0 { places[whole - 1].end } else { HEADER_BYTES.min(cut) };
        let torn = if cut < HEADER_BYTES { cut } else { cut - end };
        assert_eq!(recovered.findings.torn.bytes, torn as u64, "cut at {cut}");
        assert_eq!(recovered.findings.torn.stretches, u64::from(torn > 0), "cut at {cut}");
        assert_eq!(recovered.findings.damaged_in_all().stretches, 0, "cut at {cut}");
        check_every_byte_is_counted_once(&bytes[..cut], &records, &recovered);
    }
}

#[test]
fn cut_at_every_byte_of_a_real_file_the_rest_is_written_behind() {
    let (bytes, all, places) = segment(&[3, 0, 20]);
    for cut in 0..=bytes.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), &bytes[..cut]).unwrap();
        let open = || Journal::open(Box::new(Directory::open(folder.path()).unwrap()), OPTIONS).unwrap();
        let whole = places.iter().filter(|place| place.end <= cut).count();
        let (mut journal, recovered) = open();
        assert_eq!(records(&journal, &recovered), all[..whole], "cut at {cut}");
        assert!(append(&mut journal, 6, 1, b"behind", 0));
        journal.sync(0).unwrap();
        drop(journal);
        let (journal, recovered) = open();
        let expected: Vec<Named> = all[..whole].iter().cloned().chain([(6, 1, b"behind".to_vec())]).collect();
        assert_eq!(records(&journal, &recovered), expected, "cut at {cut}");
        assert_eq!(
            fs::read(folder.path().join(NAME)).unwrap(),
            bytes[..cut],
            "what was damaged is left alone"
        );
    }
}

/// One bit flipped: the record it stands in is gone, and no other.
fn check_flip(bytes: &mut [u8], bit: usize, all: &[Named], places: &[Range<usize>]) {
    bytes[bit / 8] ^= 1 << (bit % 8);
    let (records, recovered, journal) = recover(bytes);
    check_every_byte_is_counted_once(bytes, &records, &recovered);
    let hit = places.iter().position(|place| place.contains(&(bit / 8)));
    let expected: Vec<Named> =
        all.iter().enumerate().filter(|&(i, _)| Some(i) != hit).map(|(_, one)| one.clone()).collect();
    assert_eq!(records, expected, "bit {bit}");
    let findings = recovered.findings;
    let skipped = hit.map_or(HEADER_BYTES, |hit| places[hit].len()) as u64;
    assert_eq!(findings.torn.bytes + findings.damaged_in_all().bytes, skipped, "bit {bit}");
    assert_eq!(findings.torn.stretches + findings.damaged_in_all().stretches, 1, "bit {bit}");
    assert_eq!(findings.damaged(Damage::Header).stretches, u64::from(hit.is_none()), "bit {bit}");
    // Only a length that leads beyond the end looks like a record that was cut off.
    let last = &places[places.len() - 1];
    let may_look_torn = (last.start + 12..last.start + 16).contains(&(bit / 8));
    assert!(findings.torn.stretches == 0 || may_look_torn, "bit {bit}");
    for record in journal.read(1).unwrap().records() {
        let damaged = hit.is_some_and(|hit| record.number > all[hit].1);
        assert_eq!(record.after_damage, damaged, "bit {bit}, record {}", record.number);
    }
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn any_one_bit_flipped_costs_the_record_it_stands_in() {
    let (mut bytes, all, places) = segment(&[3, 0, 30, 1, 17]);
    for bit in 0..bytes.len() * 8 {
        check_flip(&mut bytes, bit, &all, &places);
    }
}

#[test]
fn every_thousandth_bit_of_a_larger_segment_flipped_one_at_a_time() {
    let sizes: Vec<usize> = (0..200).map(|i| (i * 7_919) % 1_000).collect();
    let (mut bytes, all, places) = segment(&sizes);
    for bit in (0..bytes.len() * 8).step_by(1_000) {
        check_flip(&mut bytes, bit, &all, &places);
    }
}

#[test]
fn every_thousandth_bit_flipped_at_once() {
    let sizes: Vec<usize> = (0..2_000).map(|i| (i * 7_919) % 300).collect();
    let (mut bytes, all, places) = segment(&sizes);
    for bit in (0..bytes.len() * 8).step_by(1_000) {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let (records, recovered, _) = recover(&bytes);
    check_every_byte_is_counted_once(&bytes, &records, &recovered);
    let is_whole = |place: &Range<usize>| place.clone().all(|byte| byte % 125 != 0);
    let expected: Vec<Named> =
        all.iter().zip(&places).filter(|(_, place)| is_whole(place)).map(|(one, _)| one.clone()).collect();
    assert!(expected.len() > 150, "{} are whole", expected.len());
    assert_eq!(records, expected);
}

#[test]
fn junk_is_never_a_record() {
    let mut random = StdRng::seed_from_u64(3);
    let (bytes, all, _) = segment(&[3, 0, 30]);
    for _ in 0..2_000 {
        let mut junk = vec![0; random.random_range(0..300)];
        random.fill(&mut junk[..]);
        let (records, recovered, _) = recover(&junk);
        assert_eq!(records, []);
        check_every_byte_is_counted_once(&junk, &records, &recovered);
        // And behind whole records it costs none of them.
        junk.splice(0..0, bytes.iter().copied());
        let (records, recovered, _) = recover(&junk);
        assert_eq!(records, all);
        check_every_byte_is_counted_once(&junk, &records, &recovered);
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    // What a file system leaves that had made the file longer and not written it yet.
    let (mut bytes, all, _) = segment(&[3, 0, 30]);
    bytes.extend([0; 500]);
    let (records, recovered, _) = recover(&bytes);
    assert_eq!(records, all);
    assert_eq!((recovered.findings.torn.stretches, recovered.findings.torn.bytes), (1, 500));
    assert_eq!(recovered.to_string(), "3 records in 1 segments; 1 torn tails of 500 bytes cut");
}

#[test]
fn a_header_of_a_later_version_stops_the_start_and_touches_nothing() {
    let (mut bytes, ..) = segment(&[3]);
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&checksum);
    let disk = VirtualDisk::with_file(NAME, &bytes);
    let error = Journal::open(Box::new(disk.clone()), OPTIONS).unwrap_err();
    assert!(matches!(error, JournalError::Version { version: 2, .. }) && !error.is_transient(), "{error}");
    assert_eq!(disk.bytes_of(NAME), bytes);
}

#[test]
fn a_segment_that_cannot_be_read_is_counted_and_kept() {
    let (bytes, all, _) = segment(&[3, 0, 30]);
    let disk = VirtualDisk::with_file(NAME, &bytes);
    disk.set(Faults { reads_fail: true, ..Faults::default() });
    let (mut journal, recovered) = open(&disk, OPTIONS);
    assert_eq!((recovered.records, recovered.unreadable.len()), (0, 1));
    disk.set(Faults::default());
    assert!(append(&mut journal, 5, 4, b"more", 0));
    assert_eq!(journal.confirm(5, 100).unwrap(), 0, "nobody knows whether that is all that is in it");
    drop(journal);
    let (journal, recovered) = open(&disk, OPTIONS);
    assert_eq!(recovered.segments, [1, 2]);
    assert_eq!(records_of(&journal, 1), all);
}

#[test]
fn other_files_are_none_of_our_business() {
    let disk = VirtualDisk::with_file("notes.txt", b"precious");
    let (mut journal, recovered) = open(&disk, OPTIONS);
    assert_eq!((recovered.records, recovered.unreadable.len(), journal.bytes()), (0, 0, 0));
    assert!(append(&mut journal, 1, 1, b"x", 0));
    journal.confirm(1, 1).unwrap();
    journal.finish(0).unwrap();
    assert_eq!(disk.file_names(), ["notes.txt"]);
}
