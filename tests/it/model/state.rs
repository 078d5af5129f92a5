//! Everything there is: Redis and what it may fall back to, nodes that count and nodes that hold, Graphite, and how
//! many faults may still come.

use super::slot::{COARSE, Fold, Rules, Slot, Tally, Version, bit};

pub(crate) const NODES: usize = 2;

/// How often each fault may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// The slot falls back to an earlier moment, and nobody's connection ends.
    pub(crate) restores: u8,
    /// A replica that was behind takes over, and the old master goes on in isolation.
    pub(crate) failovers: u8,
    pub(crate) lost_answers: u8,
    /// A batch arrives when its sender has long given up on it.
    pub(crate) delays: u8,
    /// A process that counts is killed; its journal is sent by the next.
    pub(crate) kills: u8,
    /// A holder is killed, or sleeps for too long and wakes up.
    pub(crate) pauses: u8,
    /// Graphite does not confirm, and what was sent arrives at once, later or never.
    pub(crate) doubts: u8,
    /// Carbon is killed with what it has not written.
    pub(crate) crashes: u8,
    /// First the fine buckets are past their keep, then all are past the window.
    pub(crate) ticks: u8,
}

/// Bounds of an exploration.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each widens the world on its own")]
pub(crate) struct World {
    pub(crate) name: &'static str,
    /// The fine bucket of each batch, by producer.
    pub(crate) plan: [&'static [u8]; NODES],
    pub(crate) holders: usize,
    /// Whether a bucket is read one command after another, with others in between, and not at one stroke.
    pub(crate) steps: bool,
    /// Whether batches leave the journal.
    pub(crate) journal: bool,
    /// Whether there is a Graphite.
    pub(crate) graphite: bool,
    pub(crate) faults: Faults,
    /// Whether Redis may forget more than the journal holds: then batches are lost, and counted.
    pub(crate) forgetful: bool,
    pub(crate) rules: Rules,
}

/// A process that counts, with its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Producer {
    pub(crate) made: u8,
    pub(crate) journalled: u8,
    /// The first number that the journal still has.
    pub(crate) first: u8,
    /// What Redis has, as far as is known on this connection.
    pub(crate) known: Option<u8>,
    /// How often the next batch was too late for a level.
    pub(crate) late: u8,
    pub(crate) confirmed: u8,
    /// A batch that is still under way, to which copy of the slot, and whether to the coarse bucket.
    pub(crate) delayed: Option<(u8, bool, bool)>,
    /// Its connection is to the old master.
    pub(crate) on_old: bool,
}

/// A bucket on its way to Graphite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) bucket: u8,
    pub(crate) version: Version,
    pub(crate) tally: Tally,
}

/// What a holder knows of the partition while it has the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) probation: bool,
    /// It began while another that is not over had begun before.
    pub(crate) second: bool,
    /// Confirmed by Graphite in these versions, and not settled.
    pub(crate) stated: [Version; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub(crate) fold: Option<Fold>,
    /// It has folded and not handed up yet, where that is not one thing.
    pub(crate) owes: Option<Fold>,
    pub(crate) tenure: Option<Tenure>,
    pub(crate) flight: Option<Flight>,
    /// What nobody waits for and may still arrive.
    pub(crate) stray: Option<Flight>,
    pub(crate) on_old: bool,
}

/// Version and value that Graphite has of each fine bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Graphite {
    pub(crate) cache: [(Version, Tally); 2],
    pub(crate) disk: [(Version, Tally); 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) main: Slot,
    /// The old master in its isolation.
    pub(crate) old: Option<Slot>,
    /// An earlier moment that the slot may fall back to.
    pub(crate) saved: Option<Slot>,
    pub(crate) producers: [Producer; NODES],
    pub(crate) holders: [Holder; NODES],
    pub(crate) graphite: Graphite,
    /// 0: all buckets are kept; 1: the fine ones are past their keep; 2: all are past the window.
    pub(crate) time: u8,
    pub(crate) left: Faults,
}

impl State {
    pub(crate) fn first(world: &World) -> Self {
        // Where nothing leaves the journal, what was made and not sent is as good as not made.
        let made = |batches: &[u8]| if world.journal { 0 } else { batches.len() as u8 };
        let producer = |batches| Producer {
            made: made(batches),
            journalled: made(batches),
            first: 1,
            known: None,
            late: 0,
            confirmed: 0,
            delayed: None,
            on_old: false,
        };
        Self {
            main: Slot::default(),
            old: None,
            saved: None,
            producers: world.plan.map(producer),
            holders: [Holder::default(); NODES],
            graphite: Graphite::default(),
            time: 0,
            left: world.faults,
        }
    }

    /// The copy of the slot that a connection is to.
    pub(crate) fn at(&mut self, on_old: bool) -> &mut Slot {
        if let (true, Some(old)) = (on_old, &mut self.old) { old } else { &mut self.main }
    }

    /// A version that is greater than all there are.
    pub(crate) fn new_version(&self) -> Version {
        let mut most = 0;
        let mut copy = *self;
        copy.versions(&mut |version| most = most.max(*version));
        most + 1
    }

    /// Every version that stands somewhere.
    fn versions(&mut self, each: &mut impl FnMut(&mut Version)) {
        for slot in [Some(&mut self.main), self.old.as_mut(), self.saved.as_mut()].into_iter().flatten() {
            slot.sealed.iter_mut().for_each(|(version, _)| each(version));
            slot.deltas.iter_mut().for_each(|(version, _)| each(version));
            slot.out.iter_mut().for_each(&mut *each);
        }
        for holder in &mut self.holders {
            for fold in [&mut holder.fold, &mut holder.owes].into_iter().flatten() {
                each(&mut fold.expected);
                each(&mut fold.version);
                fold.names.iter_mut().for_each(&mut *each);
            }
            for flight in [&mut holder.flight, &mut holder.stray].into_iter().flatten() {
                each(&mut flight.version);
            }
            if let Some(tenure) = &mut holder.tenure {
                tenure.stated.iter_mut().for_each(&mut *each);
            }
        }
        let graphite = &mut self.graphite;
        for (version, _) in graphite.cache.iter_mut().chain(&mut graphite.disk) {
            each(version);
        }
    }

    /// The same, told in fewer words: versions are numbered anew in their order, and holders that only fold have none.
    pub(crate) fn canonical(mut self, world: &World) -> Self {
        for at in 0..NODES {
            if world.plan[at].is_empty() {
                (self.producers[at].known, self.producers[at].on_old) = (Some(0), false);
            }
            if at >= world.holders {
                self.holders[at].on_old = false;
            }
        }
        let left = self.left;
        if self.saved.is_some() && left.restores + left.failovers == 0 {
            self.saved = None;
        }
        // Counted versions mean something by their size.
        if world.rules.fresh {
            let mut seen = 0_u64;
            self.versions(&mut |version| seen |= 1 << *version);
            let below = |version: Version| (seen >> 1 & ((1 << version) - 1)).count_ones() as Version;
            self.versions(&mut |version| *version = below(*version));
        }
        if world.holders == NODES && !world.graphite && !self.holders.iter().any(|holder| holder.on_old) {
            let [a, b] = &mut self.holders;
            if (a.fold, a.owes) > (b.fold, b.owes) {
                std::mem::swap(a, b);
            }
        }
        self
    }

    /// The batches that a journal has had, a bit for each.
    pub(crate) fn counted(&self, world: &World, bucket: usize) -> u8 {
        let mut batches = 0;
        for (at, producer) in self.producers.iter().enumerate() {
            for number in 1..=producer.made {
                let fine = usize::from(world.plan[at][usize::from(number) - 1]);
                if bucket == COARSE || fine == bucket {
                    batches |= bit(at, number);
                }
            }
        }
        batches
    }
}
