//! Disks that fill up, are read-only, fail or lose power; confirmation; the lock.

use super::disk::{Faults, VirtualDisk};
use super::{Named, OPTIONS, append, found, open, records, records_of};
use std::fs;
use std::sync::Arc;
use tallyd::journal::{Directory, Journal, JournalError, Options, Reason, SyncWhen};
use tallyd::metric::{Bounds, Kind, Ladder, Number, Series, Sum, Tally, Width};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Idle, IdleRules, Store};

const WELL: Faults = Faults {
    room_bytes: None,
    read_only: false,
    writes_fail: false,
    syncs_fail: false,
    writes_short: false,
    syncs_lie: false,
    reads_fail: false,
};

fn numbers(all: &[Named]) -> Vec<u64> {
    all.iter().map(|(_, number, _)| *number).collect()
}

#[test]
fn what_was_synced_survives_a_loss_of_power_and_only_the_rest_may_be_missing() {
    let mut lost = 0;
    for seed in 0..200 {
        let disk = VirtualDisk::new(seed);
        let (mut journal, _) = open(&disk, OPTIONS);
        for number in 1..=5 {
            assert!(append(&mut journal, 1, number, b"safe", 0));
        }
        journal.sync(0).unwrap();
        for number in 6..=10 {
            assert!(append(&mut journal, 1, number, &[7; 90], 0));
        }
        drop(journal);
        assert_eq!(numbers(&found(&disk)), (1..=10).collect::<Vec<_>>(), "the process died: all is there");
        disk.lose_power();
        let left = numbers(&found(&disk));
        assert_eq!(left[..5], [1, 2, 3, 4, 5], "seed {seed}");
        lost += usize::from(left.len() < 10);
    }
    assert!(lost > 100, "power was lost to no effect in all but {lost} of 200 histories");
}

#[test]
fn a_full_disk_degrades_and_space_again_recovers() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    assert!(append(&mut journal, 1, 1, &[1; 50], 0));
    journal.sync(0).unwrap();
    disk.set(Faults { room_bytes: Some(150), ..WELL });
    assert_eq!(journal.segment(200), Some(1));
    assert!(journal.append(1, 2, &[2; 50], 200).is_ok(), "90 of 150 bytes");
    let error = journal.append(1, 3, &[3; 50], 200).unwrap_err();
    assert!(matches!(error, JournalError::Write { .. }) && error.is_transient());
    assert_eq!(
        error.to_string(),
        "virtual/00000000000000000001.journal cannot be written: no storage space; free some space on that disk"
    );
    let trouble = journal.not_durable().unwrap();
    assert_eq!((trouble.reason, trouble.since, &trouble.cause), (Reason::DiskFull, 200, &error.to_string()));
    // What was whole before the failure is safe; the caller goes on without, at once and later.
    journal.sync(200).unwrap();
    assert_eq!(journal.segment(400), None);
    assert!(matches!(journal.append(1, 4, b"", 400), Err(JournalError::NoSegment)));
    assert!(!journal.is_durable());
    // The first pause is over; the disk is full still, and no empty file is left behind.
    assert_eq!(journal.segment(1_200), None);
    assert_eq!(disk.file_names().len(), 1);
    disk.set(WELL);
    assert_eq!(journal.segment(3_199), None, "the pause has doubled");
    let segment = journal.segment(3_200).unwrap();
    assert_ne!(segment, 1, "a dictionary may have learnt what was never written");
    assert!(!journal.is_durable(), "a file could be made; nothing has reached the disk yet");
    assert_eq!(journal.not_durable().unwrap().since, 200);
    journal.append(1, 5, &[5; 50], 3_200).unwrap();
    journal.sync(3_200).unwrap();
    assert!(journal.is_durable());
    drop(journal);
    disk.lose_power();
    let (journal, recovered) = open(&disk, OPTIONS);
    assert_eq!(numbers(&records(&journal, &recovered)), [1, 2, 5]);
    assert_eq!(recovered.findings.torn.bytes, 60);
    assert_eq!(recovered.findings.damaged_in_all().bytes, 0);
}

#[test]
fn pauses_double_to_their_longest_and_a_clock_set_back_does_not_prolong_them() {
    let disk = VirtualDisk::new(1);
    disk.set(Faults { read_only: true, ..WELL });
    let (mut journal, _) = open(&disk, OPTIONS);
    let mut attempts = Vec::new();
    let mut causes = 0;
    for now in (0..60_000).step_by(200) {
        let next_before = journal.not_durable().cloned();
        assert_eq!(journal.segment(now), None);
        // Each attempt is at a segment of another number, which the cause names.
        if journal.not_durable().cloned() != next_before {
            attempts.push(now);
            causes += 1;
        }
    }
    assert_eq!(attempts, [0, 1_000, 3_000, 7_000, 15_000, 30_000, 45_000]);
    assert_eq!(causes, 7);
    assert_eq!(journal.not_durable().unwrap().reason, Reason::ReadOnly);
    assert_eq!(journal.not_durable().unwrap().since, 0);
    disk.set(WELL);
    assert!(journal.segment(20_000).is_some(), "an hour back must not be an hour's pause");
}

#[test]
fn a_sync_that_failed_is_not_asked_again() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    assert!(append(&mut journal, 1, 1, b"safe", 0));
    journal.sync(0).unwrap();
    assert!(append(&mut journal, 1, 2, b"at risk", 200));
    disk.set(Faults { syncs_fail: true, ..WELL });
    assert!(matches!(journal.sync(200), Err(JournalError::Sync { .. })));
    assert!(!journal.is_durable());
    disk.set(WELL);
    // The system would say yes now, to bytes that it has dropped. They are written again, elsewhere.
    assert_eq!(journal.segment(1_200), Some(2));
    journal.append(1, 2, b"at risk", 1_200).unwrap();
    journal.append(1, 3, b"next", 1_200).unwrap();
    journal.sync(1_200).unwrap();
    assert!(journal.is_durable());
    assert_eq!(numbers(&records_of(&journal, 1)), [1, 2], "what is there can be read");
    drop(journal);
    for seed in 0..50 {
        let disk = disk.copy(seed);
        disk.lose_power();
        let left = numbers(&found(&disk));
        assert!(left == [1, 2, 3] || left == [1, 2, 2, 3], "{left:?}");
    }
}

#[test]
fn records_of_a_segment_that_was_given_up_unsynced_are_not_passed_off_as_safe() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    assert!(append(&mut journal, 1, 1, b"one", 0));
    disk.set(Faults { writes_fail: true, syncs_fail: true, ..WELL });
    assert!(!append(&mut journal, 1, 2, b"two", 0));
    disk.set(WELL);
    assert!(append(&mut journal, 1, 3, b"three", 5_000), "in another segment");
    assert!(matches!(journal.sync(5_000), Err(JournalError::Abandoned)), "the first is nowhere");
    assert!(journal.sync(5_200).is_ok(), "and that is said once");
}

#[test]
fn over_its_size_it_is_not_durable_until_confirmations_make_room() {
    let options = Options { bytes_max: 2_050, segment_bytes: 1 << 20, sync: SyncWhen::Tick };
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, options);
    let mut number = 0;
    while append(&mut journal, 1, number + 1, &[0; 60], 0) {
        number += 1;
    }
    assert_eq!(number, 19, "100 bytes each, and 24 for each of four segments");
    journal.sync(0).unwrap();
    assert_eq!(journal.not_durable().unwrap().reason, Reason::Full);
    assert!(journal.bytes() <= 2_050 && journal.bytes() == disk.bytes());
    assert_eq!(journal.segment(60_000), None, "time makes no room, nor does room for a header alone");
    assert_eq!(journal.confirm(1, 4).unwrap(), 0, "the first segment holds five");
    assert_eq!(journal.segment(60_000), None);
    assert_eq!(journal.confirm(1, 5).unwrap(), 524);
    assert!(append(&mut journal, 1, 20, &[0; 60], 60_000), "at once: the disk is well");
    journal.sync(60_000).unwrap();
    assert!(journal.is_durable());
    assert_eq!(numbers(&found(&disk)), (6..=20).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_can_never_fit_is_refused_and_costs_only_itself() {
    let options = Options { bytes_max: 1_000, segment_bytes: 1 << 20, sync: SyncWhen::Tick };
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, options);
    assert!(append(&mut journal, 1, 1, b"one", 0));
    let first = journal.segment(0);
    let error = journal.append(1, 2, &[0; 1_000], 0).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { bytes: 1_040, bytes_max: 976 }), "{error}");
    assert_eq!(journal.not_durable().unwrap().reason, Reason::TooLarge);
    assert_ne!(journal.segment(0), first, "its names may be in the dictionary");
    assert!(append(&mut journal, 1, 3, b"three", 0));
    journal.sync(0).unwrap();
    assert!(journal.is_durable());
    disk.lose_power();
    assert_eq!(numbers(&found(&disk)), [1, 3]);
}

#[test]
fn a_segment_goes_when_every_producer_in_it_is_confirmed() {
    let options = Options { segment_bytes: 100, ..OPTIONS };
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, options);
    // Two records a segment: (1,1) (2,1) | (1,2) (1,3) | (2,2) (3,1) | (3,2), which is open.
    for (producer, number) in [(1, 1), (2, 1), (1, 2), (1, 3), (2, 2), (3, 1), (3, 2)] {
        assert!(append(&mut journal, producer, number, b"0123", 0));
    }
    journal.sync(0).unwrap();
    let on_disk = |journal: &Journal| journal.segments().collect::<Vec<_>>();
    assert_eq!(on_disk(&journal), [1, 2, 3, 4]);
    journal.confirm(1, 2).unwrap();
    assert_eq!(on_disk(&journal), [1, 2, 3, 4], "the first waits for another producer, the second for 3");
    journal.confirm(1, 3).unwrap();
    assert_eq!(on_disk(&journal), [1, 3, 4], "not only from the front");
    journal.confirm(1, 0).unwrap();
    journal.confirm(2, 2).unwrap();
    assert_eq!(on_disk(&journal), [3, 4], "a confirmation of less took nothing back");
    journal.confirm(9, u64::MAX).unwrap();
    journal.confirm(3, 2).unwrap();
    assert_eq!(on_disk(&journal), [4], "the open one stays");
    assert!(append(&mut journal, 3, 3, b"more", 0));
    journal.finish(0).unwrap();
    assert_eq!(on_disk(&journal), [4], "3 is not confirmed");
    journal.confirm(3, 3).unwrap();
    assert_eq!((on_disk(&journal), journal.bytes(), disk.bytes()), (vec![], 0, 0));
}

#[test]
fn an_older_name_behind_a_newer_one_does_not_let_the_newer_go() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    // As after a failure: what the disk may have lost is appended again, under its name.
    for number in [3, 2] {
        assert!(append(&mut journal, 1, number, b"", 0));
    }
    journal.finish(0).unwrap();
    assert_eq!(journal.confirm(1, 2).unwrap(), 0);
    assert_eq!(journal.confirm(1, 3).unwrap(), 104);
}

#[test]
fn writes_that_are_interrupted_or_take_a_part_are_no_failure() {
    let disk = VirtualDisk::new(1);
    disk.set(Faults { writes_short: true, ..WELL });
    let (mut journal, _) = open(&disk, OPTIONS);
    for number in 1..=50 {
        assert!(append(&mut journal, 1, number, &[number as u8; 100], 0));
    }
    journal.sync(0).unwrap();
    assert!(journal.is_durable());
    assert_eq!(found(&disk), (1..=50).map(|number| (1, number, vec![number as u8; 100])).collect::<Vec<_>>());
}

#[test]
fn recovered_segments_go_by_the_same_rule() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    assert!(append(&mut journal, 1, 1, b"", 0) && append(&mut journal, 2, 7, b"", 0));
    drop(journal);
    let (mut journal, recovered) = open(&disk, OPTIONS);
    assert_eq!((recovered.segments, recovered.records), (vec![1], 2));
    assert_eq!(journal.confirm(1, 1).unwrap(), 0);
    assert_eq!(journal.confirm(2, 7).unwrap(), 24 + 2 * 40);
    assert_eq!(disk.bytes(), 0);
}

#[test]
fn what_cannot_be_removed_is_tried_again() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    assert!(append(&mut journal, 1, 1, b"", 0));
    journal.finish(0).unwrap();
    disk.set(Faults { read_only: true, ..WELL });
    assert!(matches!(journal.confirm(1, 1), Err(JournalError::Remove { .. })));
    assert_eq!(journal.bytes(), disk.bytes());
    disk.set(WELL);
    assert_eq!(journal.confirm(1, 1).unwrap(), 64);
    assert_eq!((journal.bytes(), disk.bytes()), (0, 0));
}

#[test]
fn what_was_removed_does_not_come_back_with_a_loss_of_power() {
    for seed in 0..20 {
        let disk = VirtualDisk::new(seed);
        let (mut journal, _) = open(&disk, OPTIONS);
        assert!(append(&mut journal, 1, 1, b"", 0));
        journal.finish(0).unwrap();
        disk.set(Faults { syncs_fail: true, ..WELL });
        assert!(journal.confirm(1, 1).is_err(), "it is removed, and could come back");
        disk.set(WELL);
        assert_eq!(journal.confirm(1, 1).unwrap(), 0, "nothing is left to remove; the disk is told");
        drop(journal);
        disk.lose_power();
        assert_eq!(disk.file_names(), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn nothing_is_synced_where_the_system_is_to_do_it() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, Options { sync: SyncWhen::Off, ..OPTIONS });
    assert!(append(&mut journal, 1, 1, b"one", 0));
    journal.sync(0).unwrap();
    assert_eq!(disk.syncs(), 0);
    assert!(journal.is_durable());
    assert_eq!(numbers(&found(&disk)), [1]);
}

/// A tick's counter as a batch, from a payload of eight bytes.
fn batch((producer, number, payload): Named) -> Batch {
    let mut sum = Sum::ZERO;
    let value = i64::from_le_bytes(payload.try_into().unwrap());
    sum.add(Number::Decimal { mantissa: value, places: 0 });
    Batch {
        producer,
        number,
        bucket: 0,
        entries: vec![(Series::new(Kind::Counter, "orders"), Tally::Counter(sum))],
    }
}

#[test]
fn what_was_journalled_twice_is_counted_once() {
    let disk = VirtualDisk::new(1);
    let (mut journal, _) = open(&disk, OPTIONS);
    let payload = |number: u64| (number as i64).to_le_bytes();
    for number in 1..=3 {
        assert!(append(&mut journal, 1, number, &payload(number), 0));
    }
    disk.set(Faults { syncs_fail: true, ..WELL });
    journal.sync(0).unwrap_err();
    disk.set(WELL);
    // Nobody knows whether they are there, so they are appended again, and another behind them.
    for number in 1..=4 {
        assert!(append(&mut journal, 1, number, &payload(number), 9_000));
    }
    journal.sync(9_000).unwrap();
    drop(journal);
    let all = found(&disk);
    assert_eq!(numbers(&all), [1, 2, 3, 1, 2, 3, 4], "both are handed out: either may have taught names");
    let rules = Rules {
        ladder: Ladder::single(Width::from_ms(10_000), 3_600_000),
        bounds: Bounds { timer_exact_max: 1, set_exact_max: 1 },
        bytes_max: usize::MAX,
        destinations: vec!["a:2003".to_owned()],
        history: Vec::new(),
        figures: Vec::new(),
    };
    let zero = Idle::Zero;
    let idle =
        IdleRules { counters: zero, timers: zero, sets: zero, gauges: zero, gauges_ttl: 1, after_ms: None };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(rules, idle));
    let applied: Vec<Applied> = all.into_iter().map(|one| store.apply(batch(one), 0).unwrap()).collect();
    let done = applied.iter().filter(|applied| **applied == Applied::Done).count();
    assert_eq!(done, 4, "{applied:?}");
    store.fold(10_000, 10_000).unwrap();
    let sealed = store.sealed(0).unwrap().unwrap();
    let Tally::Counter(sum) = &sealed.entries[0].tally else { panic!("a counter") };
    assert_eq!(sum.to_f64(), 10.0);
}

#[test]
fn a_second_process_is_refused_and_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let first = Directory::open(&path).unwrap();
    let error = Directory::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }) && !error.is_transient());
    let expected = format!(
        "the journal {} is in use by another process: stop the other tallyd, or give each a directory of its \
         own in `store.journal`",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    drop(first);
    Directory::open(&path).unwrap();
}

#[test]
fn a_file_in_place_of_the_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, "").unwrap();
    let error = Directory::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Directory { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_written_is_read_and_recovers_by_itself() {
    use nix::unistd::{Gid, Uid, chown, geteuid, setfsuid};
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("journal");
    {
        let disk = Directory::open(&path).unwrap();
        let (mut journal, _) = Journal::open(Box::new(disk), OPTIONS).unwrap();
        assert!(append(&mut journal, 1, 1, b"one", 0));
        journal.sync(0).unwrap();
    }
    // Root may write anywhere; on files alone, and in this thread alone, it can be somebody else.
    let user = if geteuid().is_root() { Uid::from_raw(65_534) } else { geteuid() };
    if geteuid().is_root() {
        for one in [path.clone(), path.join("00000000000000000001.journal")] {
            chown(&one, Some(user), Some(Gid::from_raw(65_534))).unwrap();
        }
    }
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            setfsuid(user);
            let (mut journal, recovered) =
                Journal::open(Box::new(Directory::open(&path).unwrap()), OPTIONS).unwrap();
            assert_eq!(records(&journal, &recovered), [(1, 1, b"one".to_vec())]);
            assert_eq!(journal.segment(0), None);
            assert_eq!(journal.not_durable().unwrap().reason, Reason::ReadOnly);
            journal
        });
        let mut journal = writer.join().unwrap();
        mode(0o700);
        assert!(append(&mut journal, 1, 2, b"two", 1_000));
        journal.sync(1_000).unwrap();
        assert!(journal.is_durable());
    });
}
