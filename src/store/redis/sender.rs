//! Sending: from the queues of the flusher, or from the journal, to Redis, until Redis has everything.
//!
//! ```text
//!   flusher ─▶ push ─▶ streams ─▶ round: watermarks that are unknown are read
//!                                        batches from watermark + 1 on, pipelined
//!                                        what is not in memory comes from the journal; what is nowhere is passed over
//!                                 ─▶ confirmed ─▶ the journal lets go (confirm.rs)
//! ```
//!
//! No answer, an error, a new connection, a new master: the watermark is read again, and sending goes on behind it.
//! Nothing here ever waits in the flusher's thread.

use super::confirm::{Keeping, keeping};
use super::link::{Failure, Link, Pipe, array, failure, int, text};
use super::outbox::Outbox;
use super::scripts::Script;
use super::shared::Shared;
use super::stream::{Next, Packet, Stream};
use crate::clock::{self, WallMs};
use crate::limits;
use crate::store::{KEYED, Kept};
use redis::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one round.
const ROUND_BYTES: usize = 8 << 20;
/// Batches of one stream in a round.
const ROUND_BATCHES: u64 = 256;
/// Without work a round comes this often.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// After a failure.
const FAILED_PAUSE: Duration = Duration::from_millis(50);
/// How often what is applied is marked, to be confirmed.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// What of Redis' own settings matters, and how often it is asked; of a new connection at once.
const SETTINGS: [&str; 2] = ["save", "maxmemory-policy"];
const SETTINGS_EVERY: Duration = Duration::from_secs(10);
/// One look in so many renews how long an idle stream is remembered.
const RENEWED_LOOKS: u32 = 1_000;

/// The thread that sends.
pub(super) struct Sender {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    link: Link,
    /// Any of its partitions: all of them share the connection.
    partition: usize,
    connection: Option<u64>,
    kept: Option<Arc<Mutex<Box<dyn Kept>>>>,
    marked_at: Instant,
    keeping: Keeping,
    /// What [`SETTINGS`] are, and when they were asked.
    settings: [String; 2],
    settings_at: Option<Instant>,
}

/// What one command of a round was for.
enum Sent {
    Watermark(u128),
    Apply(u128, Packet),
    Pass(u128),
}

impl Sender {
    pub(super) fn new(
        shared: Arc<Shared>,
        outbox: Arc<Outbox>,
        link: Link,
        partition: usize,
        kept: Option<Arc<Mutex<Box<dyn Kept>>>>,
    ) -> Self {
        Self {
            shared,
            outbox,
            link,
            partition,
            connection: None,
            kept,
            marked_at: clock::monotonic_now(),
            keeping: Keeping::default(),
            settings: Default::default(),
            settings_at: None,
        }
    }

    /// Sends until the store is closed.
    pub(super) fn run(mut self) {
        while !self.shared.is_closed() {
            match self.round() {
                Ok(true) => {}
                Ok(false) => self.wait(IDLE_PAUSE),
                Err(failure) => {
                    self.shared.failed(&failure);
                    for stream in self.outbox.lock().values_mut() {
                        stream.watermark = None;
                    }
                    self.wait(FAILED_PAUSE);
                }
            }
        }
    }

    fn wait(&self, pause: Duration) {
        let streams = self.outbox.lock();
        let idle = streams.values().all(Stream::is_done);
        if idle || pause == FAILED_PAUSE {
            drop(self.outbox.news.wait_timeout(streams, pause));
        }
    }

    /// One exchange; whether something was sent.
    fn round(&mut self) -> Result<bool, Failure> {
        self.shared.agree(&mut self.link)?;
        if self.link.id(self.partition).is_none() || self.link.id(self.partition) != self.connection {
            self.connected()?;
        }
        let (pipe, sent) = self.pipe()?;
        if sent.is_empty() {
            self.mark()?;
            return Ok(false);
        }
        let answers = self.link.call(self.partition, &pipe)?;
        let mut refused = None;
        {
            let mut streams = self.outbox.lock();
            for (sent, answer) in sent.iter().zip(&answers) {
                refused = self.take(&mut streams, sent, answer).or(refused);
            }
        }
        self.outbox.fall_back();
        if let Some(failure) = refused {
            return Err(failure);
        }
        self.shared.works();
        self.mark()?;
        Ok(true)
    }

    /// A connection is new: nothing is known of the server behind it.
    fn connected(&mut self) -> Result<(), Failure> {
        let mut pipe = Pipe::default();
        pipe.cmd(redis::cmd("PING"));
        let answers = self.link.call(self.partition, &pipe)?;
        if let Some(failure) = answers.first().and_then(failure) {
            return Err(failure);
        }
        self.connection = self.link.id(self.partition);
        self.shared.compare_again();
        self.settings_at = None;
        for stream in self.outbox.lock().values_mut() {
            stream.watermark = None;
            stream.marked = false;
        }
        self.outbox.confirmed().disconnected();
        Ok(())
    }

    /// What is to be sent now.
    fn pipe(&mut self) -> Result<(Pipe, Vec<Sent>), Failure> {
        let layout = &self.shared.layout;
        let (mut pipe, mut sent) = (Pipe::default(), Vec::new());
        let mut wants = BTreeMap::new();
        let mut bytes = 0;
        {
            let streams = self.outbox.lock();
            for (&producer, stream) in streams.iter() {
                let Some(watermark) = stream.watermark else {
                    let mut get = redis::cmd("GET");
                    get.arg(layout.watermark(stream.partition, producer));
                    pipe.cmd(get);
                    sent.push(Sent::Watermark(producer));
                    continue;
                };
                for number in watermark + 1..=(watermark + ROUND_BATCHES).min(stream.last) {
                    match stream.get(number) {
                        Next::Packet(packet) if bytes < ROUND_BYTES => {
                            bytes += packet.bytes.len();
                            self.push_packet(&mut pipe, producer, stream.partition, &packet);
                            let ends = packet.level != Some(0);
                            sent.push(Sent::Apply(producer, packet));
                            if ends {
                                break;
                            }
                        }
                        Next::Elsewhere if number == watermark + 1 => {
                            wants.insert(producer, number);
                            break;
                        }
                        _ => break,
                    }
                }
            }
        }
        if !wants.is_empty() {
            self.refill(&wants, &mut pipe, &mut sent)?;
        }
        Ok((pipe, sent))
    }

    fn push_packet(&self, pipe: &mut Pipe, producer: u128, partition: usize, packet: &Packet) {
        let layout = &self.shared.layout;
        let watermark = layout.watermark(partition, producer);
        let number = packet.number.to_string();
        let ttl = self.remembered_ms(producer).to_string();
        let Some(bucket) = packet.bucket(layout) else {
            let numbers = packet.number..=packet.number;
            return self.push_pass(pipe, producer, partition, &numbers, "late", packet.start);
        };
        let mut keys = vec![watermark, layout.pending(partition, bucket), layout.key(partition, "todo")];
        if !packet.figures.is_empty() {
            keys.push(layout.day(packet.start));
        }
        let field = format!("{producer:032x}:{number}");
        let name = layout.name(bucket);
        let due = (layout.end(bucket) + self.shared.grace_ms).to_string();
        let until = layout.taken_until(partition, packet.start, bucket.level).to_string();
        let deltas: Vec<String> = packet.figures.iter().map(|(_, delta)| delta.to_string()).collect();
        let mut args: Vec<&[u8]> = vec![
            number.as_bytes(),
            field.as_bytes(),
            &packet.bytes,
            name.as_bytes(),
            due.as_bytes(),
            until.as_bytes(),
            ttl.as_bytes(),
        ];
        for ((figure, _), delta) in packet.figures.iter().zip(&deltas) {
            args.extend([b"4".as_slice(), figure.as_bytes(), delta.as_bytes()]);
        }
        pipe.script(Script::Apply, &keys, &args);
    }

    /// How long Redis remembers what it has of a producer. Those of requests are many.
    fn remembered_ms(&self, producer: u128) -> i64 {
        let margin = if producer & KEYED == 0 {
            limits::REDIS_WATERMARK_MARGIN_MS
        } else {
            limits::REQUEST_KEY_MARGIN_MS
        };
        self.shared.layout.ladder.amend_window_ms() + margin
    }

    fn push_pass(
        &self,
        pipe: &mut Pipe,
        producer: u128,
        partition: usize,
        numbers: &RangeInclusive<u64>,
        reason: &str,
        newest: WallMs,
    ) {
        let layout = &self.shared.layout;
        let keys = [
            layout.watermark(partition, producer),
            layout.key(partition, "books"),
            layout.key(partition, "damaged"),
        ];
        let ttl = self.remembered_ms(producer);
        let (first, last) = (numbers.start(), numbers.end());
        let args =
            [first.to_string(), last.to_string(), reason.to_owned(), newest.to_string(), ttl.to_string()];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        pipe.script(Script::Pass, &keys, &args);
    }

    /// Looks for batches in the journal; what is neither there nor in memory is passed over.
    fn refill(
        &mut self,
        wants: &BTreeMap<u128, u64>,
        pipe: &mut Pipe,
        sent: &mut Vec<Sent>,
    ) -> Result<(), Failure> {
        let found = match &self.kept {
            None => Vec::new(),
            Some(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.next(wants)
                    .map_err(|error| Failure::away(format!("the journal cannot be read: {error}")))?
            }
        };
        let nowhere = found.is_empty();
        let mut by_producer: BTreeMap<u128, Vec<Packet>> = BTreeMap::new();
        for batch in &found {
            by_producer.entry(batch.producer).or_default().push(Packet::new(&self.shared.layout, batch));
        }
        let mut lost = Vec::new();
        let mut streams = self.outbox.lock();
        for (&producer, &number) in wants {
            let Some(stream) = streams.get_mut(&producer) else {
                continue;
            };
            let packets = by_producer.remove(&producer);
            let here = packets.is_some();
            stream.refill(packets.into_iter().flatten());
            if here || nowhere {
                let first = stream.first_after(number - 1).unwrap_or(stream.last + 1);
                if first > number {
                    // What is still held may be late, and older than what was lost.
                    let newest = stream.newest_up_to(first - 1);
                    let present = || self.shared.layout.ladder.bucket().start_of(self.shared.now());
                    let newest = newest.unwrap_or_else(present);
                    lost.push((producer, stream.partition, number..=first - 1, newest));
                }
            }
        }
        drop(streams);
        for (producer, partition, numbers, newest) in lost {
            let count = numbers.end() + 1 - numbers.start();
            tracing::error!(
                partition = self.shared.layout.tag(partition),
                batches = count,
                "batches are neither in Redis nor in the journal any more and are lost"
            );
            self.shared.books.batches_lost.fetch_add(count, Ordering::Relaxed);
            self.push_pass(pipe, producer, partition, &numbers, "lost", newest);
            sent.push(Sent::Pass(producer));
        }
        Ok(())
    }

    /// Takes an answer; what Redis refused, if it did.
    fn take(&self, streams: &mut BTreeMap<u128, Stream>, sent: &Sent, answer: &Value) -> Option<Failure> {
        if let Some(failure) = failure(answer) {
            return Some(failure);
        }
        match sent {
            Sent::Watermark(producer) => {
                let watermark = int(answer).unwrap_or(0) as u64;
                let stream = streams.get_mut(producer)?;
                stream.applied(watermark);
            }
            Sent::Apply(producer, packet) => {
                let stream = streams.get_mut(producer)?;
                let [word, number, ..] = array(answer) else {
                    return Some(Failure::away("an answer that no script of ours gives"));
                };
                let number = int(number).unwrap_or(0) as u64;
                match text(word) {
                    Some("ok") => {
                        stream.applied(number);
                        match packet.level {
                            None => self.shared.books.batches_late.fetch_add(1, Ordering::Relaxed),
                            Some(_) => self.shared.books.batches_applied.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                    Some("late") => {
                        stream.late(&self.shared.layout, packet.number);
                        stream.watermark = Some(number);
                    }
                    // Behind a late one there are gaps, and the late one says where to go on.
                    _ => stream.applied(number),
                }
            }
            Sent::Pass(producer) => {
                let stream = streams.get_mut(producer)?;
                let number = array(answer).get(1).and_then(int).unwrap_or(0) as u64;
                stream.applied(number);
            }
        }
        None
    }

    /// Looks whether Redis still has what it had of streams that are idle: a slot falls back, or a master becomes a
    /// replica, without anybody's connection ending.
    fn look(&mut self) -> Result<(), Failure> {
        let (mut get, mut renew) = (redis::cmd("MGET"), Pipe::default());
        let mut producers = Vec::new();
        for (&producer, stream) in self.outbox.lock().iter_mut() {
            let is_idle = !std::mem::take(&mut stream.seen) && !stream.marked && stream.watermark.is_some();
            if is_idle {
                let key = self.shared.layout.watermark(stream.partition, producer);
                get.arg(&key);
                producers.push(producer);
                // As long as this process lives the watermark must not expire, or all of it would pass for lost.
                if fastrand::u32(..RENEWED_LOOKS) == 0 {
                    let ttl = self.remembered_ms(producer);
                    renew.cmd(redis::cmd("PEXPIRE").arg(key).arg(ttl).clone());
                }
            }
        }
        if producers.is_empty() {
            return Ok(());
        }
        self.link.call(self.partition, &renew)?;
        let mut pipe = Pipe::default();
        pipe.cmd(get);
        let answers = self.link.call(self.partition, &pipe)?;
        let answer = answers.first().ok_or_else(|| Failure::away("an empty answer"))?;
        if let Some(failure) = failure(answer) {
            return Err(failure);
        }
        let answers = array(answer);
        let mut streams = self.outbox.lock();
        for (producer, answer) in producers.into_iter().zip(answers) {
            self.take(&mut streams, &Sent::Watermark(producer), answer).map_or(Ok(()), Err)?;
        }
        drop(streams);
        self.outbox.fall_back();
        Ok(())
    }

    /// Marks what is applied, and looks how it is kept.
    fn mark(&mut self) -> Result<(), Failure> {
        if clock::elapsed(self.marked_at) < MARK_EVERY {
            return Ok(());
        }
        self.marked_at = clock::monotonic_now();
        self.look()?;
        let upto: Vec<(u128, u64)> = {
            let mut streams = self.outbox.lock();
            let unmarked = streams.iter_mut().filter(|(_, stream)| !stream.marked);
            let applied = unmarked.filter_map(|(&producer, stream)| {
                stream.confirming = stream.watermark?.max(stream.confirming);
                Some((producer, stream.watermark?))
            });
            applied.collect()
        };
        self.look_at_settings()?;
        let mut pipe = Pipe::default();
        // One section after another: only Redis 7 takes several at once.
        for section in ["replication", "persistence"] {
            pipe.cmd(redis::cmd("INFO").arg(section).clone());
        }
        pipe.cmd(redis::cmd("TIME"));
        if self.keeping.replicas > 0 {
            pipe.cmd(redis::cmd("WAIT").arg(1).arg(limits::REDIS_WAIT_MS).clone());
        }
        let before = self.shared.clock.now();
        let answers = self.link.call(self.partition, &pipe)?;
        let after = self.shared.clock.now();
        let [replication, persistence, time, rest @ ..] = answers.as_slice() else {
            return Ok(());
        };
        let info = [replication, persistence].map(|info| text(info).unwrap_or_default().to_owned()).concat();
        let replicated = rest.first().and_then(int).unwrap_or(0) as u64;
        if let Some(time) = super::link::time(time) {
            // WAIT makes the way back long; then only the way there is known.
            let half = if rest.is_empty() { (after - before) / 2 } else { 0 };
            self.shared.set_skew(before + half - time);
        }
        let whole: Vec<(u128, u64)> =
            upto.iter().copied().filter(|(producer, _)| producer & KEYED != 0).collect();
        let taken = self.outbox.confirmed().mark(upto, &self.keeping, replicated);
        if taken {
            // There may be thousands of requests within the hold, and nothing more comes for them.
            let mut streams = self.outbox.lock();
            for (producer, number) in whole {
                if let Some(stream) = streams.get_mut(&producer) {
                    stream.marked = stream.last <= number;
                }
            }
        }
        let [save, policy] = &self.settings;
        self.keeping = keeping(&info, save, policy);
        self.shared.keeps(&self.keeping);
        Ok(())
    }

    /// How Redis is set up, which hardly ever changes.
    fn look_at_settings(&mut self) -> Result<(), Failure> {
        if self.settings_at.is_some_and(|at| clock::elapsed(at) < SETTINGS_EVERY) {
            return Ok(());
        }
        let mut pipe = Pipe::default();
        for name in SETTINGS {
            pipe.cmd(redis::cmd("CONFIG").arg("GET").arg(name).clone());
        }
        let answers = self.link.call(self.partition, &pipe)?;
        for (setting, answer) in self.settings.iter_mut().zip(&answers) {
            array(answer).get(1).and_then(text).unwrap_or_default().clone_into(setting);
        }
        self.settings_at = Some(clock::monotonic_now());
        Ok(())
    }
}
