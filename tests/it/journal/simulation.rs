//! Seeded histories on a virtual disk: appends, syncs, confirmations, failures, crashes, losses of power and
//! flipped bits, against a naive model that is a list of records.

use super::disk::{Faults, VirtualDisk};
use super::open;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tallyd::journal::{Contents, Journal, Options, SyncWhen};

const HISTORIES: u64 = 1_000;
/// With `TALLYD_TEST_LONG`.
const HISTORIES_LONG: u64 = 50_000;

/// A record whose append succeeded.
#[derive(Clone, Debug)]
struct Modelled {
    name: (u128, u64),
    segment: u64,
    /// A sync succeeded after it, so it survives anything until it is confirmed.
    is_promised: bool,
    /// It was missing after a crash; its segment is still there.
    is_gone: bool,
}

/// What should be true of the journal, in the plainest form there is.
struct History {
    random: StdRng,
    disk: VirtualDisk,
    journal: Journal,
    options: Options,
    /// What was there at the start: more than is allowed, if segments came back with a loss of power whose
    /// removal had not been synced. Nothing is added to them then.
    bytes_opened: u64,
    now: i64,
    lying: bool,
    records: Vec<Modelled>,
    /// What was ever appended, or tried.
    payloads: HashMap<(u128, u64), Vec<u8>>,
    confirmed: HashMap<u128, u64>,
    last: HashMap<u128, u64>,
    producer: u128,
    /// Appended since the last sync, by index.
    unsynced: Vec<usize>,
    /// To be appended again under the same name.
    again: Vec<(u128, u64)>,
    seen: Seen,
}

/// What the histories came by, so that none of it is missed without notice.
#[derive(Debug, Default)]
struct Seen {
    failures: usize,
    recoveries: usize,
    losses: usize,
    torn: u64,
    damaged: u64,
    after_damage: usize,
    removed: u64,
}

impl History {
    fn new(seed: u64, lying: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let sync = if random.random_range(0..5) == 0 && !lying { SyncWhen::Off } else { SyncWhen::Tick };
        let options = Options {
            bytes_max: random.random_range(2_000..20_000),
            segment_bytes: random.random_range(200..2_000),
            sync,
        };
        let disk = VirtualDisk::new(seed);
        let (journal, _) = open(&disk, options);
        let mut history = Self {
            random,
            disk,
            journal,
            options,
            bytes_opened: 0,
            now: 0,
            lying,
            records: Vec::new(),
            payloads: HashMap::new(),
            confirmed: HashMap::new(),
            last: HashMap::new(),
            producer: 0,
            unsynced: Vec::new(),
            again: Vec::new(),
            seen: Seen::default(),
        };
        history.set(Faults::default());
        history.new_producer();
        history
    }

    fn run(mut self) -> Seen {
        for _ in 0..self.random.random_range(30..150) {
            self.now += 200;
            match self.random.random_range(0..100) {
                0..65 => self.tick(),
                65..78 => self.confirm(),
                78..84 => self.break_something(),
                84..91 => self.set(Faults::default()),
                91..94 => self.now += self.random.random_range(-20_000..20_000),
                94..97 => self.process_dies(),
                _ => self.power_is_lost(),
            }
            assert_eq!(self.journal.bytes(), self.disk.bytes());
            assert!(self.journal.bytes() <= self.options.bytes_max.max(self.bytes_opened));
        }
        self.all_is_well_in_the_end();
        self.seen
    }

    fn set(&self, faults: Faults) {
        self.disk.set(Faults { syncs_lie: self.lying, ..faults });
    }

    fn new_producer(&mut self) {
        self.producer = self.random.random();
    }

    fn tick(&mut self) {
        let was_durable = self.journal.is_durable();
        for name in std::mem::take(&mut self.again) {
            self.append(name);
        }
        for _ in 0..self.random.random_range(1..4) {
            let last = self.last.entry(self.producer).or_default();
            *last += 1;
            let name = (self.producer, *last);
            let mut payload = vec![0; self.random.random_range(0..200)];
            self.random.fill(&mut payload[..]);
            self.payloads.insert(name, payload);
            self.append(name);
        }
        if self.random.random_range(0..10) > 0 {
            self.sync();
        }
        self.seen.failures += usize::from(was_durable && !self.journal.is_durable());
        self.seen.recoveries += usize::from(!was_durable && self.journal.is_durable());
    }

    fn append(&mut self, name: (u128, u64)) {
        let Some(segment) = self.journal.segment(self.now) else { return };
        match self.journal.append(name.0, name.1, &self.payloads[&name], self.now) {
            Ok(()) => {
                self.unsynced.push(self.records.len());
                self.records.push(Modelled { name, segment, is_promised: false, is_gone: false });
            }
            Err(_) => assert_ne!(self.journal.segment(self.now), Some(segment), "its dictionary is spoilt"),
        }
    }

    fn sync(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        if self.journal.sync(self.now).is_ok() {
            for index in unsynced {
                self.records[index].is_promised = true;
            }
        } else {
            assert!(!self.journal.is_durable() || self.options.sync == SyncWhen::Tick);
            if self.random.random() {
                self.again = unsynced.into_iter().map(|index| self.records[index].name).collect();
            }
        }
    }

    fn confirm(&mut self) {
        let mut producers: Vec<u128> = self.last.keys().copied().collect();
        producers.sort_unstable();
        let Some(&producer) = producers.get(self.random.random_range(0..producers.len().max(1))) else {
            return;
        };
        let number = self.random.random_range(0..=self.last[&producer]);
        let confirmed = self.confirmed.entry(producer).or_default();
        *confirmed = number.max(*confirmed);
        let before = self.journal.bytes();
        let removed = self.journal.confirm(producer, number);
        self.seen.removed += before - self.journal.bytes();
        if let Ok(bytes) = removed {
            assert_eq!(bytes, before - self.journal.bytes());
        }
    }

    fn break_something(&mut self) {
        let well = Faults::default();
        let room_bytes = Some(self.random.random_range(0..600));
        let syncs_fail = self.random.random();
        let faults = match self.random.random_range(0..6) {
            0 | 1 => Faults { room_bytes, ..well },
            2 => Faults { read_only: true, ..well },
            3 => Faults { writes_fail: true, syncs_fail, ..well },
            4 => Faults { syncs_fail: true, ..well },
            _ => Faults { writes_short: true, ..well },
        };
        self.set(faults);
    }

    fn process_dies(&mut self) {
        // Everything written is still in the system's memory.
        self.reopen(None, |_| true);
    }

    fn power_is_lost(&mut self) {
        self.seen.losses += 1;
        self.disk.lose_power();
        let flipped = if self.random.random_range(0..4) == 0 { self.disk.flip_a_bit() } else { None };
        let syncs = self.options.sync == SyncWhen::Tick;
        self.reopen(flipped.as_deref(), |record| record.is_promised && syncs);
        // What was found is on the disk.
        self.records.iter_mut().for_each(|record| record.is_promised = true);
    }

    /// A new process reads what is there; everything that `must_be_there` is, unless its segment was hit.
    fn reopen(&mut self, flipped: Option<&str>, must_be_there: impl Fn(&Modelled) -> bool) {
        let (journal, recovered) = open(&self.disk, self.options);
        self.journal = journal;
        self.bytes_opened = self.journal.bytes();
        self.unsynced.clear();
        self.again.clear();
        self.new_producer();
        self.seen.torn += recovered.findings.torn.stretches;
        self.seen.damaged += recovered.findings.damaged_in_all().stretches;
        let mut found = HashSet::new();
        for &segment in &recovered.segments {
            self.check_segment(segment, &self.journal.read(segment).unwrap(), &mut found);
        }
        let is_hit = |segment| flipped == Some(&format!("{segment:020}.journal"));
        for (index, record) in self.records.iter().enumerate() {
            let is_confirmed = self.confirmed.get(&record.name.0).is_some_and(|&last| record.name.1 <= last);
            let may_be_missing =
                is_confirmed || record.is_gone || is_hit(record.segment) || !must_be_there(record);
            assert!(found.contains(&index) || may_be_missing, "lost: {record:?}");
        }
        for (index, record) in self.records.iter_mut().enumerate() {
            record.is_gone = !found.contains(&index);
        }
        let segments: HashSet<u64> = self.journal.segments().collect();
        self.records.retain(|record| segments.contains(&record.segment));
    }

    /// What is read of a segment was appended to it, in that order, once each; and where something before a
    /// record is missing, the record says so.
    fn check_segment(&self, segment: u64, contents: &Contents, found: &mut HashSet<usize>) {
        let modelled: Vec<usize> =
            (0..self.records.len()).filter(|&index| self.records[index].segment == segment).collect();
        let mut left = modelled.iter().copied().peekable();
        let mut is_missing = false;
        for record in contents.records() {
            let name = (record.producer, record.number);
            let payload = self.payloads.get(&name).map(Vec::as_slice);
            assert_eq!(payload, Some(record.payload), "never appended: {name:?}");
            // A segment that was removed may come back with a loss of power; of that the model has nothing.
            if modelled.is_empty() {
                continue;
            }
            loop {
                let index =
                    left.next().expect("a record is read that was not appended here, or out of order");
                if self.records[index].name == name {
                    assert!(!self.records[index].is_gone, "back from nowhere: {name:?}");
                    found.insert(index);
                    break;
                }
                is_missing = true;
            }
            assert_eq!(record.after_damage, is_missing, "segment {segment}, {name:?}");
        }
    }

    fn all_is_well_in_the_end(&mut self) {
        self.set(Faults::default());
        self.seen.after_damage += self
            .journal
            .segments()
            .filter(|&segment| {
                self.journal.read(segment).unwrap().records().any(|record| record.after_damage)
            })
            .count();
        for (&producer, &last) in &self.last {
            self.journal.confirm(producer, last).unwrap();
        }
        // Over the longest pause and the furthest that the clock was set back.
        self.now += 40_000;
        self.again.clear();
        self.tick();
        self.sync();
        assert!(self.journal.is_durable(), "{:?}", self.journal.not_durable());
        self.journal.finish(self.now).unwrap();
        for (&producer, &last) in &self.last {
            self.journal.confirm(producer, last).unwrap();
        }
        assert_eq!((self.journal.bytes(), self.disk.file_names()), (0, vec![]));
    }
}

#[test]
fn histories_with_failures_lose_nothing_that_was_promised_and_invent_nothing() {
    let mut all = Seen::default();
    let histories = if std::env::var_os("TALLYD_TEST_LONG").is_some() { HISTORIES_LONG } else { HISTORIES };
    for seed in 0..histories {
        let history = catch_unwind(AssertUnwindSafe(|| History::new(seed, false).run()));
        let seen = history.unwrap_or_else(|_| panic!("seed {seed}"));
        all.failures += seen.failures;
        all.recoveries += seen.recoveries;
        all.losses += seen.losses;
        all.torn += seen.torn;
        all.damaged += seen.damaged;
        all.after_damage += seen.after_damage;
        all.removed += seen.removed;
    }
    println!("{all:?}");
    let few = HISTORIES as usize / 20;
    assert!(all.failures > few && all.recoveries > few && all.losses > few, "{all:?}");
    assert!(all.torn as usize > few && all.damaged as usize > few && all.after_damage > 0, "{all:?}");
    assert!(all.removed > HISTORIES, "{all:?}");
}

#[test]
fn the_simulation_notices_a_disk_that_lies_about_syncs() {
    let noticed = (0..50)
        .filter(|&seed| catch_unwind(AssertUnwindSafe(|| History::new(seed, true).run())).is_err())
        .count();
    assert!(noticed > 10, "only {noticed} of 50");
}
