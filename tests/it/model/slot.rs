//! What is in Redis of one partition, and what the scripts do to it.
//!
//! A batch is a *lane* of two bits in a number, and the number a tally: merging is adding, and a lane says how often a
//! batch counts. Fine buckets are 0 and 1, the coarse one around them is 2.

/// Two bits for each batch.
pub(crate) type Tally = u16;
/// 0 is none.
pub(crate) type Version = u8;

/// Batches of one producer at most.
pub(crate) const BATCHES: u8 = 3;
/// The bucket around the fine ones.
pub(crate) const COARSE: usize = 2;
pub(crate) const BUCKETS: usize = 3;
/// What fine buckets hand up and is not folded there.
const DELTAS: usize = 4;

/// The protective checks. Each can be taken away, and then something must go wrong.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a check of its own")]
pub(crate) struct Rules {
    /// apply: what is at or below the watermark is not added.
    pub(crate) watermark: bool,
    /// apply: what leaves a gap is not added.
    pub(crate) gap: bool,
    /// fold: the bucket has the version that was read.
    pub(crate) version: bool,
    /// fold: every batch that is consumed is still there.
    pub(crate) presence: bool,
    /// The sealed bucket that was read has the version that was read first.
    pub(crate) same_read: bool,
    /// Versions are never handed out twice.
    pub(crate) fresh: bool,
    /// The coarser level gets its part in the same script.
    pub(crate) together: bool,
    /// What is past its keep is not written again.
    pub(crate) keep: bool,
    /// A batch is in the journal before it is sent.
    pub(crate) journal_first: bool,
    /// The journal holds what is confirmed for a while.
    pub(crate) hold: bool,
    /// What Redis falls back behind is not confirmed any more, and nothing leaves the journal while it is not known.
    pub(crate) still_there: bool,
    /// An idle producer looks at its watermark.
    pub(crate) looks: bool,
    /// After a takeover nothing is settled until what was under way has arrived, and then all is stated again.
    pub(crate) probation: bool,
    /// The same after a delivery that was not confirmed.
    pub(crate) doubt: bool,
    /// When probation is over all is stated again.
    pub(crate) once_more: bool,
    /// A bucket is struck off in the version that was stated.
    pub(crate) strike: bool,
    /// It is struck off when carbon must have it on disk.
    pub(crate) settled: bool,
    /// What may lack batches is not stated.
    pub(crate) damaged: bool,
    /// What may lack batches goes up to the newest bucket of those passed over, not to that of the first one still held.
    pub(crate) newest: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        watermark: true,
        gap: true,
        version: true,
        presence: true,
        same_read: true,
        fresh: true,
        together: true,
        keep: true,
        journal_first: true,
        hold: true,
        still_there: true,
        looks: true,
        probation: true,
        doubt: true,
        once_more: true,
        strike: true,
        settled: true,
        damaged: true,
        newest: true,
    };
}

/// The keys of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// Highest number applied, by producer.
    pub(crate) watermarks: [u8; 2],
    /// Batches pending in each bucket, a bit for each.
    pub(crate) pending: [u8; BUCKETS],
    /// What is pending in the coarse bucket by the version of the fold that handed it up; sorted, those that are none
    /// at the end.
    pub(crate) deltas: [(Version, Tally); DELTAS],
    pub(crate) sealed: [(Version, Tally); BUCKETS],
    /// Buckets with something pending, a bit for each.
    pub(crate) due: u8,
    /// The version that Graphite needs of each fine bucket.
    pub(crate) out: [Version; 2],
    /// The holder, counted from 1.
    pub(crate) lease: u8,
    /// The figure of the day.
    pub(crate) day: Tally,
    /// Batches passed over, a bit for each.
    pub(crate) lost: u8,
    pub(crate) late: u8,
    /// Fine buckets up to this one may lack batches; 0 is none.
    pub(crate) damaged: u8,
    /// Batches that are not in a fine bucket, since it was past its keep. Not in Redis: what is to be expected.
    pub(crate) up: u8,
}

/// What a script answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Dup(u8),
    Gap(u8),
    Late(u8),
    Changed,
}

/// A bucket that is being folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fold {
    pub(crate) bucket: u8,
    /// How far it has come.
    pub(crate) stage: u8,
    /// The version that was read first.
    pub(crate) expected: Version,
    /// The batches that were read, and the parts from below.
    pub(crate) batches: u8,
    pub(crate) names: [Version; DELTAS],
    /// What they add up to.
    pub(crate) sum: Tally,
    /// What was sealed.
    pub(crate) base: Tally,
    pub(crate) version: Version,
    pub(crate) keep: bool,
}

/// A call of a script, or a command that stands alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// A batch to its bucket or to the coarse one.
    Apply {
        producer: usize,
        number: u8,
        bucket: usize,
        late: bool,
    },
    Pass {
        producer: usize,
        first: u8,
        last: u8,
        lost: bool,
        damaged: u8,
    },
    Fold {
        fold: Fold,
        kept: bool,
    },
    HandUp {
        fold: Fold,
    },
    Lease {
        holder: u8,
    },
    Release,
    Strike {
        bucket: usize,
        version: Version,
    },
    Expire {
        bucket: usize,
    },
}

/// The bit of a batch.
pub(crate) fn bit(producer: usize, number: u8) -> u8 {
    1 << (producer as u8 * BATCHES + number - 1)
}

/// What batches add up to.
pub(crate) fn tally(batches: u8) -> Tally {
    (0..8).filter(|lane| batches >> lane & 1 == 1).map(|lane| 1 << (2 * lane)).sum()
}

/// Merges, and stays below what would spill into the next lane.
pub(crate) fn merge(a: Tally, b: Tally) -> Tally {
    if !doubles(a | b) {
        return a + b;
    }
    let mut sum = 0;
    let mut lane = 0;
    while lane < 16 {
        sum |= ((a >> lane & 3) + (b >> lane & 3)).min(3) << lane;
        lane += 2;
    }
    sum
}

/// Whether some batch counts twice.
pub(crate) fn doubles(tally: Tally) -> bool {
    tally & 0b1010_1010_1010_1010 != 0
}

impl Slot {
    pub(crate) fn call(&mut self, rules: &Rules, call: Call) -> Answer {
        match call {
            Call::Apply { producer, number, bucket, late } => {
                self.apply(rules, producer, number, bucket, late)
            }
            Call::Pass { producer, first, last, lost, damaged } => {
                self.pass(producer, first..=last, lost, damaged)
            }
            Call::Fold { fold, kept } => self.fold(rules, &fold, kept),
            Call::HandUp { fold } => {
                self.hand_up(&fold);
                Answer::Ok
            }
            Call::Lease { holder } => {
                self.lease = holder;
                Answer::Ok
            }
            Call::Release => {
                self.lease = 0;
                Answer::Ok
            }
            Call::Strike { bucket, version } => {
                if rules.strike && self.out[bucket] != version {
                    return Answer::Changed;
                }
                self.out[bucket] = 0;
                Answer::Ok
            }
            Call::Expire { bucket } => {
                self.sealed[bucket] = (0, 0);
                Answer::Ok
            }
        }
    }

    fn apply(&mut self, rules: &Rules, producer: usize, number: u8, bucket: usize, late: bool) -> Answer {
        let watermark = self.watermarks[producer];
        if rules.watermark && number <= watermark {
            return Answer::Dup(watermark);
        }
        if rules.gap && number > watermark + 1 {
            return Answer::Gap(watermark);
        }
        if late {
            return Answer::Late(watermark);
        }
        let batch = bit(producer, number);
        self.pending[bucket] |= batch;
        self.due |= 1 << bucket;
        self.day = merge(self.day, tally(batch));
        self.watermarks[producer] = number;
        if bucket == COARSE {
            self.up |= batch;
        }
        Answer::Ok
    }

    fn pass(
        &mut self,
        producer: usize,
        numbers: std::ops::RangeInclusive<u8>,
        lost: bool,
        damaged: u8,
    ) -> Answer {
        let watermark = self.watermarks[producer];
        if watermark >= *numbers.end() {
            return Answer::Dup(watermark);
        }
        if watermark != numbers.start() - 1 {
            return Answer::Gap(watermark);
        }
        self.watermarks[producer] = *numbers.end();
        for number in numbers {
            *if lost { &mut self.lost } else { &mut self.late } |= bit(producer, number);
        }
        if lost {
            self.damaged = self.damaged.max(damaged);
        }
        Answer::Ok
    }

    fn fold(&mut self, rules: &Rules, fold: &Fold, kept: bool) -> Answer {
        let bucket = usize::from(fold.bucket);
        if rules.version && self.sealed[bucket].0 != fold.expected {
            return Answer::Changed;
        }
        let there = |name: &Version| *name == 0 || self.deltas.iter().any(|(of, _)| of == name);
        let present = self.pending[bucket] & fold.batches == fold.batches && fold.names.iter().all(there);
        if rules.presence && !present || rules.keep && kept != fold.keep {
            return Answer::Changed;
        }
        self.pending[bucket] &= !fold.batches;
        if bucket == COARSE {
            for (name, tally) in &mut self.deltas {
                if fold.names.contains(name) {
                    (*name, *tally) = (0, 0);
                }
            }
            self.sort();
        }
        if fold.keep {
            self.sealed[bucket] = (fold.version, merge(fold.base, fold.sum));
            if bucket < COARSE {
                self.out[bucket] = fold.version;
            }
        } else {
            self.up |= fold.batches;
        }
        if bucket < COARSE && rules.together {
            self.hand_up(fold);
        }
        if self.pending[bucket] == 0 && (bucket < COARSE || self.deltas[0].0 == 0) {
            self.due &= !(1 << bucket);
        }
        Answer::Ok
    }

    fn hand_up(&mut self, fold: &Fold) {
        let at = self.deltas.iter().position(|(name, _)| *name == fold.version || *name == 0);
        self.deltas[at.expect("there is room for what is handed up")] = (fold.version, fold.sum);
        self.sort();
        self.due |= 1 << COARSE;
    }

    pub(crate) fn sort(&mut self) {
        self.deltas.sort_unstable_by_key(|(name, _)| name.wrapping_sub(1));
    }

    /// What is pending in a bucket itself.
    pub(crate) fn pending(&self, bucket: usize) -> Tally {
        let own = tally(self.pending[bucket]);
        if bucket < COARSE {
            return own;
        }
        self.deltas.iter().fold(own, |sum, (_, tally)| merge(sum, *tally))
    }

    /// What a reader sees: sealed and pending, at the bucket's level and at every finer one.
    pub(crate) fn read(&self, bucket: usize) -> Tally {
        let own = merge(self.sealed[bucket].1, self.pending(bucket));
        if bucket < COARSE {
            return own;
        }
        (0..COARSE).fold(own, |sum, fine| merge(sum, self.pending(fine)))
    }
}
