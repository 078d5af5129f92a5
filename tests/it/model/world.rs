//! What may happen next.

use super::slot::{Answer, COARSE, Call, Fold, Rules};
use super::state::{Flight, NODES, State, Tenure, World};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Answered,
    AnswerLost,
    /// Its sender has given up, and it will arrive some time.
    Delayed,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Confirmed,
    /// It arrived, and nobody said so.
    Unconfirmed,
    /// Nobody said so, and it may still arrive.
    Stray,
}

/// One step. The numbers are those of producers, holders and buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Make(usize),
    Journal(usize),
    Kill(usize),
    /// Reads its watermark, on a new connection or since it has been idle.
    Look(usize),
    Send(usize, Way),
    Arrive(usize),
    Pass(usize, Way),
    Confirm(usize),
    LetGo(usize),
    Save,
    Restore,
    FailOver,
    Heal,
    /// A producer, or a holder, sees that its connection is to the old master.
    ProducerSees(usize),
    HolderSees(usize),
    /// A holder reads a bucket that is due, reads on, writes.
    Read(usize, usize),
    ReadOn(usize),
    Write(usize),
    HandUp(usize),
    Begin(usize),
    /// A tenure ends because the lease is another's, or by a pause.
    End(usize),
    Pause(usize),
    /// The lease of somebody who is gone runs out, here or at the old master.
    RunOut(bool),
    Tell(usize, usize),
    Deliver(usize, Delivery),
    StrayArrives(usize),
    StrayVanishes(usize),
    Trust(usize),
    Settle(usize, usize),
    Flush(usize),
    Crash,
    Tick,
    Expire(usize),
}

/// What others may want to see of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// At the old master, or not.
    Call(bool, Call, Answer),
    Save,
    Restore,
    FailOver,
    Heal,
}

impl Action {
    /// Whether it comes from outside, and only so often.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Send(_, Way::AnswerLost | Way::Delayed)
                | Self::Pass(_, Way::AnswerLost)
                | Self::Save
                | Self::Restore
                | Self::FailOver
                | Self::Pause(_)
                | Self::Deliver(_, Delivery::Unconfirmed | Delivery::Stray)
                | Self::Crash
                | Self::Tick
                | Self::Expire(_)
        )
    }
}

impl World {
    /// All that may happen next.
    pub(crate) fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::with_capacity(32);
        for at in 0..NODES {
            self.producer_actions(state, at, &mut actions);
        }
        for at in 0..self.holders {
            self.fold_actions(state, at, &mut actions);
            if self.graphite {
                self.tenure_actions(state, at, &mut actions);
            }
        }
        self.fault_actions(state, &mut actions);
        actions
    }

    fn producer_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let (one, left) = (&state.producers[at], &state.left);
        if usize::from(one.made) < self.plan[at].len() {
            actions.push(Action::Make(at));
        }
        if one.journalled < one.made {
            actions.push(Action::Journal(at));
        }
        if left.kills > 0 {
            actions.push(Action::Kill(at));
        }
        if one.on_old {
            actions.push(Action::ProducerSees(at));
        }
        if one.delayed.is_some() {
            actions.push(Action::Arrive(at));
        }
        let slot = if one.on_old { state.old.as_ref().unwrap_or(&state.main) } else { &state.main };
        let Some(known) = one.known else {
            actions.push(Action::Look(at));
            return;
        };
        if self.rules.looks && known != slot.watermarks[at] {
            actions.push(Action::Look(at));
        }
        let may_send = if self.rules.journal_first { one.journalled } else { one.made };
        if known < may_send {
            let (send, pass) = (Action::Send, Action::Pass);
            let is_kept = known + 1 >= one.first;
            let what = if is_kept && one.late < 2 { send } else { pass };
            actions.push(what(at, Way::Answered));
            if left.lost_answers > 0 {
                actions.push(what(at, Way::AnswerLost));
            }
            if left.delays > 0 && is_kept && one.late < 2 && one.delayed.is_none() {
                actions.push(what(at, Way::Delayed));
            }
        }
        if self.journal && known > one.confirmed {
            actions.push(Action::Confirm(at));
        }
        if self.lets_go(state, at) {
            actions.push(Action::LetGo(at));
        }
    }

    /// Whether the journal may lose what is confirmed. The hold is longer than any fall of Redis reaches back, and than
    /// an old master goes on.
    fn lets_go(&self, state: &State, at: usize) -> bool {
        let one = &state.producers[at];
        let upto = one.confirmed;
        if upto < one.first {
            return false;
        }
        let is_over = state.old.is_none() && state.saved.is_none_or(|saved| saved.watermarks[at] >= upto);
        // An idle producer looks far more often than that.
        let slot = if one.on_old { state.old.as_ref().unwrap_or(&state.main) } else { &state.main };
        let has_looked = !self.rules.looks || one.known.is_none_or(|known| known == slot.watermarks[at]);
        let is_over = is_over && has_looked;
        let is_known = one.known.is_some() || !self.rules.still_there;
        (is_over || !self.rules.hold || self.forgetful) && is_known
    }

    fn fold_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let one = &state.holders[at];
        if one.on_old {
            actions.push(Action::HolderSees(at));
        }
        if one.owes.is_some() {
            actions.push(Action::HandUp(at));
            return;
        }
        let slot = if one.on_old { state.old.as_ref().unwrap_or(&state.main) } else { &state.main };
        match one.fold {
            // Where it is about Graphite a fold is one step, and anybody's.
            None if self.graphite && at > 0 && state.holders[0].on_old == one.on_old => {}
            None => {
                let due = (0..=COARSE).filter(|bucket| slot.due >> bucket & 1 == 1);
                actions.extend(due.map(|bucket| Action::Read(at, bucket)));
            }
            Some(fold) if fold.stage < 3 => actions.push(Action::ReadOn(at)),
            Some(_) => actions.push(Action::Write(at)),
        }
    }

    fn tenure_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let (one, left) = (&state.holders[at], &state.left);
        let slot = if one.on_old { state.old.as_ref().unwrap_or(&state.main) } else { &state.main };
        if one.stray.is_some() {
            actions.push(Action::StrayArrives(at));
            actions.push(Action::StrayVanishes(at));
        }
        let Some(tenure) = one.tenure else {
            if slot.lease == 0 {
                actions.push(Action::Begin(at));
            }
            return;
        };
        if usize::from(slot.lease) != at + 1 {
            actions.push(Action::End(at));
        }
        if left.pauses > 0 && one.stray.is_none() {
            actions.push(Action::Pause(at));
        }
        if one.flight.is_some() {
            actions.push(Action::Deliver(at, Delivery::Confirmed));
            if left.doubts > 0 {
                actions.push(Action::Deliver(at, Delivery::Unconfirmed));
                if one.stray.is_none() {
                    actions.push(Action::Deliver(at, Delivery::Stray));
                }
            }
        }
        for bucket in (0..COARSE).filter(|_| one.flight.is_none()) {
            let needed = slot.out[bucket] != 0 && slot.out[bucket] != tenure.stated[bucket];
            let whole = !self.rules.damaged || bucket >= usize::from(slot.damaged);
            if needed && whole && slot.sealed[bucket].0 != 0 {
                actions.push(Action::Tell(at, bucket));
            }
        }
        // The assumption about time: by then nothing of before is under way, and nobody else goes on.
        let alone = (0..NODES).all(|other| {
            let theirs = &state.holders[other];
            theirs.stray.is_none() && (other == at || theirs.tenure.is_none() || !tenure.second)
        });
        if tenure.probation && alone && (state.old.is_none() || one.on_old) {
            actions.push(Action::Trust(at));
        }
        for bucket in 0..COARSE {
            let (cache, disk) = (state.graphite.cache[bucket], state.graphite.disk[bucket]);
            // So long after it was confirmed that carbon has written it, and that whoever has lost the lease knows.
            let safe = cache == disk && usize::from(slot.lease) == at + 1 || !self.rules.settled;
            if tenure.stated[bucket] != 0 && safe && !tenure.probation {
                actions.push(Action::Settle(at, bucket));
            }
        }
    }

    fn fault_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        if left.restores + left.failovers > 0 && state.saved.is_none() {
            actions.push(Action::Save);
        }
        if state.saved.is_some() && left.restores > 0 {
            actions.push(Action::Restore);
        }
        if state.saved.is_some() && left.failovers > 0 && state.old.is_none() {
            actions.push(Action::FailOver);
        }
        if let Some(old) = &state.old {
            actions.push(Action::Heal);
            if self.graphite && runs_out(state, old.lease, true) {
                actions.push(Action::RunOut(true));
            }
        }
        if self.graphite && runs_out(state, state.main.lease, false) {
            actions.push(Action::RunOut(false));
        }
        for bucket in 0..COARSE {
            if self.graphite && state.graphite.cache[bucket] != state.graphite.disk[bucket] {
                actions.push(Action::Flush(bucket));
            }
            if state.time > 0 && state.main.sealed[bucket].0 != 0 && left.ticks == 0 {
                actions.push(Action::Expire(bucket));
            }
        }
        if left.crashes > 0 && state.graphite.cache != state.graphite.disk {
            actions.push(Action::Crash);
        }
        if left.ticks > 0 {
            actions.push(Action::Tick);
        }
    }
}

/// Whether nobody renews a lease.
fn runs_out(state: &State, lease: u8, on_old: bool) -> bool {
    let Some(at) = usize::from(lease).checked_sub(1) else {
        return false;
    };
    let holder = &state.holders[at];
    holder.tenure.is_none() || holder.on_old != on_old
}

/// What a fold reads, as far as it has come.
pub(crate) fn read_on(rules: &Rules, state: &mut State, at: usize, world: &World) {
    let holder = state.holders[at];
    let Some(mut fold) = holder.fold else { return };
    let bucket = usize::from(fold.bucket);
    let time = state.time;
    let slot = *state.at(holder.on_old);
    loop {
        match fold.stage {
            0 => fold.expected = slot.sealed[bucket].0,
            1 => {
                fold.batches = slot.pending[bucket];
                fold.sum = slot.pending(bucket);
                if bucket == COARSE {
                    fold.names = slot.deltas.map(|(name, _)| name);
                }
            }
            _ => {
                let (version, base) = slot.sealed[bucket];
                if rules.same_read && version != fold.expected {
                    state.holders[at].fold = None;
                    return;
                }
                // A bucket that was not sealed yet has nothing to be merged with.
                fold.base = if fold.expected == 0 { 0 } else { base };
                fold.keep = bucket == COARSE || time == 0 || !rules.keep;
                fold.version = if rules.fresh { state.new_version() } else { fold.expected + 1 };
            }
        }
        fold.stage += 1;
        if fold.stage == 3 || world.steps {
            break;
        }
    }
    let is_empty = fold.stage == 3 && fold.sum == 0;
    state.holders[at].fold = (!is_empty).then_some(fold);
}

/// A bucket as a holder reads it for Graphite.
pub(crate) fn flight(state: &mut State, at: usize, bucket: usize) -> Flight {
    let on_old = state.holders[at].on_old;
    let (version, tally) = state.at(on_old).sealed[bucket];
    Flight { bucket: bucket as u8, version, tally }
}

/// A holder's knowledge when it begins.
pub(crate) fn tenure(rules: &Rules, state: &State, at: usize) -> Tenure {
    let second = (0..NODES).any(|other| other != at && state.holders[other].tenure.is_some());
    Tenure { probation: rules.probation, second, stated: [0; 2] }
}

/// A fold that begins.
pub(crate) fn begun(bucket: usize) -> Fold {
    Fold {
        bucket: bucket as u8,
        stage: 0,
        expected: 0,
        batches: 0,
        names: [0; 4],
        sum: 0,
        base: 0,
        version: 0,
        keep: true,
    }
}
