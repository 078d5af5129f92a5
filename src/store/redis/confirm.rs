//! When batches may leave the journal: once a replica has them, or the disk of Redis, and a while after that.
//!
//! ```text
//!   applied ─▶ with replicas: WAIT on the same connection ≥ 1     ─┐
//!              AOF: two seconds later, and writing works           ├─▶ confirmed ─▶ journal_hold ─▶ the journal
//!              RDB: two snapshots completed since                  │                                lets go
//!              none of them: nothing can be known; the hold is all ┘
//! ```
//!
//! WAIT as the first command of a fresh connection answers at once and says nothing, so it is asked on the connection
//! that just answered. It never holds up sending.

use crate::clock;
use crate::store::Confirmed;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// After so long the append-only file has reached the disk.
const AOF_AGE: Duration = Duration::from_secs(2);

/// How a Redis keeps what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keeping {
    pub(super) replicas: u64,
    pub(super) aof: bool,
    pub(super) aof_works: bool,
    /// Snapshots are configured, or have been made.
    pub(super) snapshots: bool,
    /// When the last one was completed, in its own seconds.
    pub(super) last_save: i64,
    /// What is evicted when memory is full.
    pub(super) policy: String,
    pub(super) role: String,
}

type Upto = Vec<(u128, u64)>;

struct Mark {
    at: Instant,
    /// Snapshots completed before it.
    saves: u64,
    upto: Upto,
}

/// What was applied on the way to being confirmed.
#[derive(Default)]
pub(super) struct Confirmer {
    marks: VecDeque<Mark>,
    held: VecDeque<(Instant, Upto)>,
    /// Held for long enough.
    ripe: HashMap<u128, u64>,
    saves: u64,
    last_save: i64,
}

impl Confirmer {
    /// Everything up to these numbers is applied; `replicated` says how many replicas have it.
    ///
    /// Whether it was taken: without a replica that has it, it must be said again.
    pub(super) fn mark(&mut self, upto: Upto, keeping: &Keeping, replicated: u64) -> bool {
        let now = clock::monotonic_now();
        if keeping.last_save != self.last_save {
            self.saves += u64::from(self.last_save != 0);
            self.last_save = keeping.last_save;
        }
        if keeping.replicas > 0 {
            if replicated > 0 {
                self.held.push_back((now, upto));
            }
            return replicated > 0;
        }
        if !keeping.aof && !keeping.snapshots {
            self.held.push_back((now, upto));
            return true;
        }
        self.marks.push_back(Mark { at: now, saves: self.saves, upto });
        let saves = self.saves;
        let safe = |mark: &Mark| {
            if keeping.aof {
                keeping.aof_works && now.duration_since(mark.at) >= AOF_AGE
            } else {
                saves >= mark.saves + 2
            }
        };
        while self.marks.front().is_some_and(safe) {
            self.held.extend(self.marks.pop_front().map(|mark| (now, mark.upto)));
        }
        true
    }

    /// The connection ended: nobody knows what the server behind the next one has.
    pub(super) fn disconnected(&mut self) {
        self.marks.clear();
    }

    /// Redis has no more of these producers than this.
    pub(super) fn fell_back(&mut self, to: &BTreeMap<u128, u64>) {
        let marked = self.marks.iter_mut().map(|mark| &mut mark.upto);
        for (producer, number) in marked.chain(self.held.iter_mut().map(|(_, upto)| upto)).flatten() {
            *number = to.get(producer).map_or(*number, |to| *to.min(number));
        }
        self.ripe.retain(|producer, number| to.get(producer).is_none_or(|to| *number <= *to));
    }

    /// What was confirmed at least `hold` ago, of producers of whom it is known what Redis has.
    pub(super) fn ripe(&mut self, hold: Duration, is_known: impl Fn(u128) -> bool) -> Vec<Confirmed> {
        while self.held.front().is_some_and(|(at, _)| clock::elapsed(*at) >= hold) {
            for (producer, number) in self.held.pop_front().map(|(_, upto)| upto).unwrap_or_default() {
                let most = self.ripe.entry(producer).or_default();
                *most = number.max(*most);
            }
        }
        let ripe = self.ripe.extract_if(|producer, _| is_known(*producer));
        ripe.map(|(producer, number)| Confirmed { producer, number }).collect()
    }
}

/// Reads `INFO`.
pub(super) fn keeping(info: &str, save: &str, policy: &str) -> Keeping {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    };
    let number = |name: &str| field(name).parse().unwrap_or(0);
    Keeping {
        replicas: number("connected_slaves") as u64,
        aof: number("aof_enabled") == 1,
        aof_works: field("aof_last_write_status") == "ok",
        snapshots: !save.is_empty(),
        last_save: number("rdb_last_save_time"),
        policy: policy.to_owned(),
        role: field("role").to_owned(),
    }
}

impl Keeping {
    /// What this Redis promises, in words.
    pub(super) fn words(&self) -> String {
        let disk = match (self.aof, self.snapshots) {
            (true, _) if !self.aof_works => "its append-only file cannot be written".to_owned(),
            (true, _) => "it writes an append-only file".to_owned(),
            (false, true) => {
                "it keeps snapshots only: what came since the last one is sent again from the journal"
                    .to_owned()
            }
            (false, false) => "it keeps nothing over a restart (appendonly and save are off)".to_owned(),
        };
        let replicas = match self.replicas {
            0 => "it has no replica".to_owned(),
            1 => "one replica follows it".to_owned(),
            n => format!("{n} replicas follow it"),
        };
        format!("{disk}, and {replicas}")
    }

    /// What is wrong with it, if something is.
    pub(super) fn trouble(&self) -> Option<String> {
        if !self.policy.is_empty() && self.policy != "noeviction" {
            return Some(format!(
                "maxmemory-policy is {}: Redis may throw counts away; set it to noeviction",
                self.policy
            ));
        }
        if self.role == "slave" {
            return Some("this Redis is a replica and takes no writes: give store.url its master".to_owned());
        }
        (self.aof && !self.aof_works)
            .then(|| "Redis cannot write its append-only file: look at its disk".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_decides_when_the_journal_may_let_go() {
        let hold = Duration::ZERO;
        let number = |confirmer: &mut Confirmer| confirmer.ripe(hold, |_| true).first().map(|one| one.number);
        let none = keeping("role:master\r\nconnected_slaves:0\r\naof_enabled:0\r\n", "", "noeviction");
        let mut confirmer = Confirmer::default();
        confirmer.mark(vec![(1, 5)], &none, 0);
        assert_eq!(number(&mut confirmer), Some(5), "nothing more can be known");

        let replicated = Keeping { replicas: 1, ..none.clone() };
        confirmer.mark(vec![(1, 6)], &replicated, 0);
        assert_eq!(number(&mut confirmer), None, "the replica lags");
        confirmer.mark(vec![(1, 7)], &replicated, 1);
        assert_eq!(number(&mut confirmer), Some(7));

        let mut rdb = Keeping { snapshots: true, last_save: 100, ..none.clone() };
        for (save, expected) in [(100, None), (101, None), (102, Some(8)), (103, Some(9))] {
            rdb.last_save = save;
            confirmer.mark(vec![(1, 8 + (save as u64 - 100))], &rdb, 0);
            assert_eq!(number(&mut confirmer), expected, "{save}");
        }
    }

    #[test]
    fn what_redis_falls_back_behind_stays_in_the_journal() {
        let none = keeping("role:master\r\nconnected_slaves:0\r\naof_enabled:0\r\n", "", "noeviction");
        let mut confirmer = Confirmer::default();
        confirmer.mark(vec![(1, 9), (2, 5)], &none, 0);
        assert!(confirmer.ripe(Duration::ZERO, |_| false).is_empty(), "nobody knows what Redis has");
        confirmer.fell_back(&BTreeMap::from([(1, 4)]));
        let numbers =
            |ripe: Vec<Confirmed>| ripe.iter().map(|one| (one.producer, one.number)).collect::<Vec<_>>();
        assert_eq!(numbers(confirmer.ripe(Duration::ZERO, |_| true)), [(2, 5)]);
        confirmer.mark(vec![(1, 9)], &none, 0);
        confirmer.fell_back(&BTreeMap::from([(1, 4)]));
        assert_eq!(numbers(confirmer.ripe(Duration::ZERO, |_| true)), [(1, 4)]);
    }
}
