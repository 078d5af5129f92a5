//! One history: a process on a machine with a clock, two disks and a network, and what befalls them.

use super::graphite::{Graphite, Mood, lock};
use super::process::{DAY_MS, HOUR_MS, Machine, Process, Settings, TICK_MS};
use super::sabotage::Sabotage;
use super::seen::Seen;
use super::trace::Trace;
use super::truth::Truth;
use crate::journal::disk::{Fate, Faults, VirtualDisk};
use crate::store_oracle::file::{FileFaults, VirtualFile};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tallyd::clock::{self, Clock};
use tallyd::flush::Command;
use tallyd::forward::Round;
use tallyd::health::read;

/// Two days before Lord Howe Island turns its clocks by half an hour.
const START: i64 = 1_774_872_000_000;
/// Series of each kind.
pub(super) const SERIES: usize = 3;

pub(super) struct World {
    random: StdRng,
    machine: Machine,
    settings: Settings,
    fate: Fate,
    process: Option<Process>,
    truth: Truth,
    /// The clock has jumped, or much time has passed, since the last tick.
    has_leapt: bool,
    /// Since the last start that went well.
    lost_power: bool,
    /// Records that the last start could not read.
    torn: u64,
    trace: Trace,
    seen: Seen,
}

/// Everything well, but for what is wrong on purpose.
fn well(sabotage: Sabotage) -> Faults {
    Faults { syncs_lie: sabotage == Sabotage::JournalLies, ..Faults::default() }
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = Clock::manual(START + random.random_range(0..4 * DAY_MS));
        let settings = Settings::new(&mut random, sabotage);
        let graphite = Graphite::new(random.random(), clock.clone());
        let mut world = Self {
            truth: Truth::new(&settings.config),
            machine: Machine {
                clock,
                disk: VirtualDisk::new(random.random()),
                file: VirtualFile::new(random.random()),
                graphite,
            },
            random,
            settings,
            fate: Fate::default(),
            process: None,
            has_leapt: false,
            lost_power: false,
            torn: 0,
            trace: Trace::default(),
            seen: Seen::default(),
        };
        // The real file is made under another name, and so is whole when it is there.
        drop(world.machine.file.open().unwrap());
        world.start();
        world
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// A process begins; it may be killed before it has.
    fn start(&mut self) {
        loop {
            self.heal();
            self.fate = Fate::default();
            if self.random.random_range(0..8) == 0 {
                self.fate.meet_after(self.random.random_range(1..60));
            }
            self.machine.disk.serve(&self.fate);
            self.machine.file.serve(&self.fate);
            match Process::start(&self.machine, &self.settings, self.random.random()) {
                Ok((process, replayed)) => {
                    // Of a tick that was not synced a part may be left, which refers to names in the rest; it stays
                    // there until a checkpoint lets go of its segment. Nothing but a loss of power leaves such parts.
                    let is_whole = self.lost_power || replayed.unreadable <= self.torn;
                    assert!(replayed.late == 0 && is_whole, "{replayed:?}, torn {}", self.torn);
                    (self.torn, self.lost_power) = (replayed.unreadable, false);
                    self.seen.replayed += replayed.applied;
                    self.process = Some(process);
                    return;
                }
                Err(error) => assert!(self.fate.is_met(), "it does not start: {error}"),
            }
            self.die();
        }
    }

    fn heal(&self) {
        self.machine.file.set(FileFaults::default());
        self.machine.disk.set(well(self.settings.sabotage));
    }

    /// Something befalls, samples come, a tick ends, and the destination works.
    pub(super) fn step(&mut self) {
        self.befall();
        for _ in 0..self.random.random_range(0..4) {
            self.sample();
        }
        if self.random.random_range(0..3) > 0 {
            self.machine.clock.pass(self.random.random_range(0..4_000));
        }
        self.tick();
        if self.random.random_range(0..5) == 0 {
            self.checkpoint();
        }
        for _ in 0..self.random.random_range(1..4) {
            self.machine.clock.pass(self.random.random_range(1..200));
            self.forward();
        }
        if self.fate.is_met() {
            self.die();
            self.start();
        }
        self.trace.note((
            self.machine.clock.now(),
            self.machine.clock.passed(),
            self.machine.disk.bytes(),
            self.machine.file.length(),
        ));
    }

    fn befall(&mut self) {
        let what = self.random.random_range(0..100);
        self.trace.note(what);
        match what {
            0..4 => self.fail_journal(),
            4..8 => self.fail_store(),
            8..18 => self.heal(),
            18..24 => self.fate.meet_after(self.random.random_range(1..60)),
            24..26 => self.fate.meet_after(0),
            26..28 => self.stop(),
            28..32 => self.jump(),
            32..34 => {
                self.machine.clock.pass(self.random.random_range(0..HOUR_MS));
                self.has_leapt = true;
            }
            34..40 => {
                let moods = [Mood::Away, Mood::Stalls, Mood::Flaky, Mood::Flaky];
                lock(&self.machine.graphite).mood = moods[self.random.random_range(0..4)];
            }
            40..50 => lock(&self.machine.graphite).mood = Mood::Well,
            50..53 => lock(&self.machine.graphite).kill(),
            _ => {}
        }
    }

    fn fail_journal(&mut self) {
        let faults = match self.random.random_range(0..5) {
            0 => Faults { writes_fail: true, ..well(self.settings.sabotage) },
            1 => Faults { syncs_fail: true, ..well(self.settings.sabotage) },
            2 => {
                Faults { room_bytes: Some(self.random.random_range(0..400)), ..well(self.settings.sabotage) }
            }
            3 => Faults { read_only: true, ..well(self.settings.sabotage) },
            _ => Faults { writes_short: true, ..well(self.settings.sabotage) },
        };
        self.machine.disk.set(faults);
    }

    fn fail_store(&mut self) {
        self.machine.file.set(match self.random.random_range(0..3) {
            0 => FileFaults { writes_left: Some(self.random.random_range(0..20)), ..FileFaults::default() },
            1 => FileFaults { syncs_fail: true, ..FileFaults::default() },
            _ => FileFaults { reads_fail: true, ..FileFaults::default() },
        });
    }

    fn jump(&mut self) {
        self.seen.jumps += 1;
        self.has_leapt = true;
        let far = match self.random.random_range(0..4) {
            0 => HOUR_MS,
            1 => 90_000,
            2 => self.random.random_range(1_000..5_000),
            _ => self.random.random_range(1..1_000),
        };
        self.machine.clock.set(self.machine.clock.now() + if self.random.random() { far } else { -far });
    }

    /// A packet of one event and one member of a set, the same for both; it may carry a time of its own.
    fn sample(&mut self) {
        let (id, series) = (self.truth.next(), self.random.random_range(0..SERIES));
        let time = match self.random.random_range(0..6) {
            0 => Some(self.machine.clock.now() - self.random.random_range(0..60_000)),
            1 => Some(self.machine.clock.now() - self.random.random_range(0..HOUR_MS)),
            _ => None,
        };
        let time = time.map(|time| time / 1_000);
        let stamp = time.map_or_else(String::new, |time| format!("|T{time}"));
        let receiver = &mut self.process.as_mut().unwrap().receiver;
        let before = receiver.recorder().intake().samples;
        receiver.packet(format!("c.{series}:1|c{stamp}\ns.{series}:{id}|s{stamp}").as_bytes(), &"simulated");
        let taken = receiver.recorder().intake().samples - before;
        if taken == 2 {
            self.truth.says(id, series, time.map(|time| time * 1_000));
        } else {
            // After a jump a thread holds times for early until its next tick: then it says so.
            assert!(taken == 0 && time.is_some() && self.has_leapt, "{taken} of two are taken");
            self.seen.refused += 1;
        }
    }

    /// Time passes to the next tick and a little more, or much more, and the tick ends.
    fn tick(&mut self) {
        let now = self.machine.clock.now();
        let due = self.process().flusher.next_tick(now);
        let late = if self.random.random_range(0..20) == 0 { 3_000 } else { 3 };
        self.machine.clock.pass(due - now + self.random.random_range(0..late));
        let now = self.machine.clock.now();
        self.truth.ends_tick(if now - due > TICK_MS { now } else { due - 1 });
        let Process { flusher, receiver, books, .. } = self.process.as_mut().unwrap();
        flusher.tick(due, || receiver.recorder().hand_over());
        assert_eq!((read(&books.hand_overs_late), read(&books.batches_late)), (0, 0));
        let is_kept = books.journal.failing().is_none() && !self.fate.is_met();
        self.seen.not_durable += u64::from(!is_kept);
        self.truth.is_kept(is_kept);
        self.has_leapt = false;
    }

    /// As the thread that writes checkpoints does it.
    fn checkpoint(&mut self) {
        let now = self.machine.clock.now();
        let process = self.process.as_mut().unwrap();
        match process.store.checkpoint(now) {
            Ok(confirmed) if !self.fate.is_met() => {
                process.written.leave(confirmed);
                self.truth.is_checkpointed();
            }
            _ => self.seen.checkpoints_failed += 1,
        }
    }

    /// A moment of carbon's, and one of the destination's thread.
    fn forward(&mut self) {
        lock(&self.machine.graphite).work();
        let (is_gone, now) = (self.fate.is_met(), self.machine.clock.passed());
        let process = self.process.as_mut().unwrap();
        if is_gone || now < process.rests_until {
            return;
        }
        let round = process.destination.round(None);
        if round == Round::Failed {
            process.rests_until = now + Duration::from_millis(self.random.random_range(250..8_000));
        }
        self.trace.note(round as u8);
    }

    /// The process is gone, and perhaps the machine.
    fn die(&mut self) {
        self.fate.meet_after(0);
        let process = self.process.take();
        if let Some(process) = &process {
            self.seen.amended += read(&process.books.buckets_amended);
            self.seen.gathered += process.embedded.gathered().rows;
        }
        drop(process);
        let loses_power = self.random.random();
        self.lost_power |= loses_power;
        if loses_power {
            self.seen.power_losses += 1;
            self.machine.file.lose_power();
            self.machine.disk.lose_power();
        } else {
            self.seen.kills += 1;
            self.machine.file.kill();
        }
        self.machine.disk = self.machine.disk.copy(self.random.random());
        self.truth.is_killed();
        if self.random.random() {
            self.machine.clock.pass(self.random.random_range(0..HOUR_MS));
        }
        for _ in 0..self.random.random_range(0..3) {
            lock(&self.machine.graphite).work();
        }
    }

    /// A stop in order, as `Service::stop` does it, and another start: often inside the same bucket.
    fn stop(&mut self) {
        self.seen.stops += 1;
        let Process { store, flusher, receiver, mut destination, books, .. } = self.process.take().unwrap();
        self.truth.ends_tick(self.machine.clock.now());
        receiver.finish();
        let (commands, inbox) = std::sync::mpsc::sync_channel(1);
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        commands.send(Command::Drain(done)).unwrap();
        flusher.run(&inbox);
        is_done.recv().unwrap();
        assert_eq!(read(&books.batches_late), 0);
        self.truth.is_kept(books.journal.failing().is_none() && !self.fate.is_met());
        if store.durability().failing.is_none() && !self.fate.is_met() {
            self.truth.is_checkpointed();
        }
        let stop_at = Some(clock::monotonic_now() + Duration::from_secs(60));
        for _ in 0..20 {
            self.machine.clock.pass(50);
            lock(&self.machine.graphite).work();
            if self.fate.is_met() || matches!(destination.round(stop_at), Round::Done | Round::Failed) {
                break;
            }
        }
        drop((destination, store));
        if self.fate.is_met() {
            self.die();
        } else {
            self.machine.file.kill();
            self.machine.disk = self.machine.disk.copy(self.random.random());
            self.truth.is_killed();
        }
        self.start();
    }

    /// All is well again, for so long that everything is told.
    pub(super) fn finish(mut self) -> (u64, Seen) {
        self.heal();
        self.fate.meet_after(u64::MAX);
        lock(&self.machine.graphite).mood = Mood::Well;
        // The clock may have run back: what was in the future then is over when it is later than all of it.
        let last = self.truth.last();
        self.machine.clock.pass((last - self.machine.clock.now()).max(0) + 30_000);
        for _ in 0..16 {
            self.machine.clock.pass(10_000);
            self.tick();
            (0..2).for_each(|_| self.forward());
        }
        self.checkpoint();
        self.die();
        self.start();
        self.fate.meet_after(u64::MAX);
        self.machine.clock.pass(3 * DAY_MS);
        self.tick();
        for _ in 0..10_000 {
            self.machine.clock.pass(1_000);
            self.forward();
            if self.process().store.outstanding(0).unwrap().is_empty() {
                break;
            }
        }
        self.check()
    }

    fn check(mut self) -> (u64, Seen) {
        let graphite = lock(&self.machine.graphite);
        let store = &self.process.as_ref().unwrap().store;
        assert_eq!(store.outstanding(0).unwrap(), [], "everything is told");
        let Settings { config, rules, .. } = &self.settings;
        self.truth.check(&**store, &rules.ladder, &mut self.trace);
        self.truth.check_graphite(&**store, &rules.ladder, &config.expand, &graphite);
        self.seen.promised = self.truth.promised();
        self.seen.lost = self.truth.lost();
        self.seen.carbons_killed = graphite.kills;
        self.seen.deliveries_failed = graphite.failures;
        self.trace.note(graphite.trace.digest());
        (self.trace.digest(), self.seen.clone())
    }
}
