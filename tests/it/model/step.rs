//! What a step does.

use super::slot::{Answer, COARSE, Call, Rules};
use super::state::{NODES, State, World};
use super::world::{Action, Delivery, Event, Way, begun, flight, read_on, tenure};

impl World {
    /// The state after an action, told as it happens.
    pub(crate) fn step(&self, state: &State, action: Action, tell: &mut impl FnMut(Event)) -> State {
        let mut next = *state;
        let mut call = |state: &mut State, on_old: bool, call: Call| {
            let is_old = on_old && state.old.is_some();
            let answer = state.at(on_old).call(&self.rules, call);
            tell(Event::Call(is_old, call, answer));
            answer
        };
        match action {
            Action::Send(at, way) => self.send(&mut next, at, way, &mut call),
            Action::Arrive(at) => {
                if let Some((number, on_old, coarse)) = next.producers[at].delayed.take() {
                    let request = self.apply(&next, at, number, coarse);
                    call(&mut next, on_old, request);
                }
            }
            Action::Pass(at, way) => self.pass(&mut next, at, way, &mut call),
            Action::Read(at, bucket) => {
                next.holders[at].fold = Some(begun(bucket));
                read_on(&self.rules, &mut next, at, self);
                if self.graphite {
                    self.write(&mut next, at, &mut call);
                    next.holders[at].fold = Some(begun(COARSE));
                    read_on(&self.rules, &mut next, at, self);
                    self.write(&mut next, at, &mut call);
                }
            }
            Action::ReadOn(at) => read_on(&self.rules, &mut next, at, self),
            Action::Write(at) => self.write(&mut next, at, &mut call),
            Action::HandUp(at) => {
                if let Some(fold) = next.holders[at].owes.take() {
                    let on_old = next.holders[at].on_old;
                    call(&mut next, on_old, Call::HandUp { fold });
                }
            }
            Action::Begin(at) => {
                next.holders[at].tenure = Some(tenure(&self.rules, &next, at));
                let on_old = next.holders[at].on_old;
                call(&mut next, on_old, Call::Lease { holder: at as u8 + 1 });
            }
            Action::RunOut(on_old) => {
                call(&mut next, on_old, Call::Release);
            }
            Action::Settle(at, bucket) => {
                let holder = &mut next.holders[at];
                let Some(tenure) = &mut holder.tenure else { return next };
                let version = std::mem::take(&mut tenure.stated[bucket]);
                let on_old = holder.on_old;
                call(&mut next, on_old, Call::Strike { bucket, version });
            }
            Action::Expire(bucket) => {
                call(&mut next, false, Call::Expire { bucket });
            }
            Action::Save | Action::Restore | Action::FailOver | Action::Heal => {
                slots(&mut next, action, tell);
            }
            _ => self.quiet(&mut next, action),
        }
        next
    }

    fn write(&self, next: &mut State, at: usize, call: &mut impl FnMut(&mut State, bool, Call) -> Answer) {
        let Some(fold) = next.holders[at].fold.take() else { return };
        let kept = usize::from(fold.bucket) == COARSE || next.time == 0;
        let on_old = next.holders[at].on_old;
        let answer = call(next, on_old, Call::Fold { fold, kept });
        let owes = answer == Answer::Ok && usize::from(fold.bucket) < COARSE && !self.rules.together;
        next.holders[at].owes = owes.then_some(fold);
    }

    fn apply(&self, state: &State, at: usize, number: u8, coarse: bool) -> Call {
        let fine = usize::from(self.plan[at][usize::from(number) - 1]);
        let (bucket, late) = if coarse { (COARSE, state.time > 1) } else { (fine, state.time > 0) };
        Call::Apply { producer: at, number, bucket, late }
    }

    fn send(
        &self,
        next: &mut State,
        at: usize,
        way: Way,
        call: &mut impl FnMut(&mut State, bool, Call) -> Answer,
    ) {
        let one = next.producers[at];
        let number = one.known.unwrap_or(0) + 1;
        let coarse = one.late > 0;
        if way == Way::Delayed {
            next.left.delays -= 1;
            next.producers[at].delayed = Some((number, one.on_old, coarse));
            forget(next, at);
            return;
        }
        let request = self.apply(next, at, number, coarse);
        let answer = call(next, one.on_old, request);
        self.answered(next, at, way, answer, number);
    }

    fn pass(
        &self,
        next: &mut State,
        at: usize,
        way: Way,
        call: &mut impl FnMut(&mut State, bool, Call) -> Answer,
    ) {
        let one = next.producers[at];
        let first = one.known.unwrap_or(0) + 1;
        let is_lost = first < one.first;
        let last = if is_lost { one.first - 1 } else { first };
        let damaged = if self.rules.newest {
            self.plan[at][..usize::from(last)].iter().max().map_or(0, |bucket| bucket + 1)
        } else {
            // The bucket of the first batch that is still there, or the present one.
            let held = self.plan[at].get(usize::from(last)).filter(|_| last < one.journalled);
            held.map_or(COARSE as u8, |bucket| bucket + 1)
        };
        let answer = call(next, one.on_old, Call::Pass { producer: at, first, last, lost: is_lost, damaged });
        self.answered(next, at, way, answer, last);
    }

    /// The answer arrives, or nobody knows any more what Redis has.
    fn answered(&self, next: &mut State, at: usize, way: Way, answer: Answer, number: u8) {
        if way == Way::AnswerLost {
            next.left.lost_answers -= 1;
            forget(next, at);
            return;
        }
        let late = next.producers[at].late;
        match answer {
            Answer::Late(known) => self.learn(next, at, known, late + 1),
            Answer::Dup(known) | Answer::Gap(known) => self.learn(next, at, known, 0),
            _ => self.learn(next, at, number, 0),
        }
    }

    /// What Redis has is known. What it fell back behind is not confirmed any more.
    fn learn(&self, next: &mut State, at: usize, known: u8, late: u8) {
        let one = &mut next.producers[at];
        (one.known, one.late) = (Some(known), late);
        if self.rules.still_there {
            one.confirmed = one.confirmed.min(known);
        }
    }

    /// Steps that ask nothing of Redis, or read from it.
    fn quiet(&self, next: &mut State, action: Action) {
        match action {
            Action::Make(at) => {
                let one = &mut next.producers[at];
                one.made += 1;
                if self.rules.journal_first {
                    one.journalled = one.made;
                }
            }
            Action::Journal(at) => next.producers[at].journalled = next.producers[at].made,
            Action::Kill(at) => kill(next, at),
            Action::Look(at) => {
                let on_old = next.producers[at].on_old;
                let watermark = next.at(on_old).watermarks[at];
                self.learn(next, at, watermark, 0);
            }
            Action::Confirm(at) => {
                next.producers[at].confirmed = next.producers[at].known.unwrap_or(0);
            }
            Action::LetGo(at) => next.producers[at].first = next.producers[at].confirmed + 1,
            Action::ProducerSees(at) => {
                next.producers[at].on_old = false;
                forget(next, at);
            }
            Action::HolderSees(at) => {
                next.holders[at].on_old = false;
                self.end(next, at);
            }
            Action::End(at) => self.end(next, at),
            Action::Pause(at) => {
                next.left.pauses -= 1;
                self.end(next, at);
            }
            Action::Tick => {
                next.left.ticks -= 1;
                next.time += 1;
            }
            _ => self.graphite(next, action),
        }
    }

    fn end(&self, next: &mut State, at: usize) {
        let holder = &mut next.holders[at];
        holder.tenure = None;
        if !self.rules.together {
            holder.owes = None;
        }
        holder.stray = holder.flight.take().or(holder.stray);
        for other in next.holders.iter_mut().filter_map(|other| other.tenure.as_mut()) {
            other.second = false;
        }
    }

    fn graphite(&self, next: &mut State, action: Action) {
        match action {
            Action::Tell(at, bucket) => next.holders[at].flight = Some(flight(next, at, bucket)),
            Action::Deliver(at, delivery) => deliver(&self.rules, next, at, delivery),
            Action::StrayArrives(at) => {
                if let Some(stray) = next.holders[at].stray.take() {
                    next.graphite.cache[usize::from(stray.bucket)] = (stray.version, stray.tally);
                }
            }
            Action::StrayVanishes(at) => next.holders[at].stray = None,
            Action::Trust(at) => {
                if let Some(tenure) = &mut next.holders[at].tenure {
                    tenure.probation = false;
                    if self.rules.once_more {
                        tenure.stated = [0; 2];
                    }
                }
            }
            Action::Flush(bucket) => next.graphite.disk[bucket] = next.graphite.cache[bucket],
            Action::Crash => {
                next.left.crashes -= 1;
                next.graphite.cache = next.graphite.disk;
                for holder in &mut next.holders {
                    (holder.flight, holder.stray) = (None, None);
                    // Whoever is there sees its connection end, and states anew what is not settled.
                    if let Some(tenure) = &mut holder.tenure {
                        tenure.stated = [0; 2];
                    }
                }
            }
            _ => {}
        }
    }
}

fn kill(next: &mut State, at: usize) {
    next.left.kills -= 1;
    let there = next.main.watermarks[at];
    let one = &mut next.producers[at];
    if there > one.journalled {
        // It is in Redis and counts, and nobody has it any more.
        (one.made, one.journalled, one.first) = (there, there, there + 1);
    }
    one.made = one.journalled;
    one.confirmed = 0;
    forget(next, at);
}

fn deliver(rules: &Rules, next: &mut State, at: usize, delivery: Delivery) {
    let holder = &mut next.holders[at];
    let (Some(flight), Some(tenure)) = (holder.flight.take(), &mut holder.tenure) else { return };
    let bucket = usize::from(flight.bucket);
    if delivery == Delivery::Confirmed {
        tenure.stated[bucket] = flight.version;
    } else {
        next.left.doubts -= 1;
        tenure.probation |= rules.doubt;
    }
    if delivery == Delivery::Stray {
        holder.stray = Some(flight);
    } else {
        next.graphite.cache[bucket] = (flight.version, flight.tally);
    }
}

/// The slot as a whole falls back, or is there twice.
fn slots(next: &mut State, action: Action, tell: &mut impl FnMut(Event)) {
    match action {
        Action::Save => {
            next.saved = Some(next.main);
            tell(Event::Save);
        }
        Action::Restore => {
            next.left.restores -= 1;
            next.main = next.saved.take().unwrap_or_default();
            tell(Event::Restore);
        }
        Action::FailOver => {
            next.left.failovers -= 1;
            next.old = Some(next.main);
            next.main = next.saved.take().unwrap_or_default();
            next.producers.iter_mut().for_each(|one| one.on_old = true);
            next.holders.iter_mut().for_each(|one| one.on_old = true);
            tell(Event::FailOver);
        }
        _ => {
            next.old = None;
            for at in 0..NODES {
                if std::mem::take(&mut next.producers[at].on_old) {
                    forget(next, at);
                }
                next.producers[at].delayed.take_if(|(_, on_old, _)| *on_old);
                let holder = &mut next.holders[at];
                if std::mem::take(&mut holder.on_old) {
                    holder.tenure = None;
                    holder.stray = holder.flight.take().or(holder.stray);
                }
            }
            for other in next.holders.iter_mut().filter_map(|other| other.tenure.as_mut()) {
                other.second = false;
            }
            tell(Event::Heal);
        }
    }
}

/// What Redis has of a producer is not known any more.
fn forget(next: &mut State, at: usize) {
    (next.producers[at].known, next.producers[at].late) = (None, 0);
}
