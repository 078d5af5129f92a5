//! From bytes to the recorder: what every kind of socket does with what it read.
//!
//! In come whole datagrams, or whole lines of a stream, with their sender; out go samples into this thread's
//! recorder, and refusals with their reason. It knows no sockets.

use super::rate::SenderRate;
use crate::aggregate::Recorder;
use crate::clock;
use crate::health::Refusal;
use crate::wire::statsd::{self, Grammar, Sample, Visitor};
use memchr::{memchr, memchr_iter, memrchr};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

/// A recorder and the grammar that feeds it.
#[derive(Debug)]
pub struct Receiver {
    recorder: Recorder,
    grammar: Grammar,
    dump_lines: bool,
    rate: Option<Arc<SenderRate>>,
}

/// One line on its way into the recorder.
struct Line<'a> {
    recorder: &'a mut Recorder,
    sender: &'a dyn Display,
    text: &'a [u8],
}

impl Visitor for Line<'_> {
    #[inline]
    fn sample(&mut self, sample: &Sample<'_>) {
        match self.recorder.record(sample) {
            Ok(()) => self.recorder.intake().samples += 1,
            Err(reason) => self.refused(reason),
        }
    }

    fn refused(&mut self, reason: Refusal) {
        self.recorder.refuse(reason, self.sender, self.text);
    }

    fn field_ignored(&mut self) {
        self.recorder.intake().fields_ignored += 1;
    }

    fn event(&mut self) {
        self.recorder.intake().events += 1;
    }

    fn service_check(&mut self) {
        self.recorder.intake().service_checks += 1;
    }
}

impl Receiver {
    /// A receiver for one ingest thread.
    #[must_use]
    pub fn new(recorder: Recorder, grammar: Grammar, dump_lines: bool) -> Self {
        Self { recorder, grammar, dump_lines, rate: None }
    }

    /// The same, with a rate for each address.
    #[must_use]
    pub fn with_rate(self, rate: Option<Arc<SenderRate>>) -> Self {
        Self { rate, ..self }
    }

    /// The recorder, for the tick.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// Hands over for the last time.
    pub fn finish(self) {
        self.recorder.finish();
    }

    /// Reads a datagram of an address, or of somebody on this machine, if the address may send so much; `cut` if its
    /// end is missing.
    pub fn packet_from(&mut self, from: Option<IpAddr>, packet: &[u8], cut: bool, sender: &dyn Display) {
        let Some(from) = from else {
            return self.whole_or_cut(packet, cut, sender);
        };
        let before = self.recorder.sent();
        let lines = || memchr_iter(b'\n', packet).count() as u64 + u64::from(!packet.ends_with(b"\n"));
        if self.rate.as_ref().is_none_or(|rate| rate.admits(from, lines(), clock::monotonic_nanos())) {
            self.whole_or_cut(packet, cut, sender);
        } else {
            self.refuse_packet(Refusal::SenderRate, sender, packet);
        }
        self.recorder.sent_by(from, before);
    }

    fn whole_or_cut(&mut self, packet: &[u8], cut: bool, sender: &dyn Display) {
        if cut {
            self.cut_packet(packet, sender);
        } else {
            self.packet(packet, sender);
        }
    }

    /// Refuses every line of a datagram.
    #[cold]
    fn refuse_packet(&mut self, reason: Refusal, sender: &dyn Display, packet: &[u8]) {
        let mut lines = packet.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let first = lines.next();
        let count = lines.count() as u64 + u64::from(first.is_some());
        let intake = self.recorder.intake();
        intake.packets += 1;
        intake.bytes += packet.len() as u64;
        intake.lines += count;
        if let Some(first) = first {
            self.recorder.refuse_many(reason, count, sender, first);
        }
    }

    /// Reads a datagram, or the complete lines of one read from a stream.
    pub fn packet(&mut self, packet: &[u8], sender: &dyn Display) {
        let intake = self.recorder.intake();
        intake.packets += 1;
        intake.bytes += packet.len() as u64;
        let mut rest = packet;
        let mut lines = 0;
        while !rest.is_empty() {
            let (line, after) = match memchr(b'\n', rest) {
                Some(end) => (rest.get(..end).unwrap_or(rest), rest.get(end + 1..).unwrap_or(b"")),
                None => (rest, &b""[..]),
            };
            let mut visitor = Line { recorder: &mut self.recorder, sender, text: line };
            lines += u64::from(statsd::line(self.grammar, line, &mut visitor));
            if self.dump_lines && !line.is_empty() {
                tracing::info!(%sender, line = %line.escape_ascii(), "received");
            }
            rest = after;
        }
        self.recorder.intake().lines += lines;
    }

    /// Reads a datagram whose end was cut off: the last line is not whole, so it is refused, since
    /// `revenue:490` may have been `revenue:4900`.
    #[cold]
    pub fn cut_packet(&mut self, packet: &[u8], sender: &dyn Display) {
        let whole = memrchr(b'\n', packet).map_or(0, |at| at + 1);
        let (lines, tail) = packet.split_at(whole);
        self.packet(lines, sender);
        self.recorder.intake().lines += 1;
        self.refuse(Refusal::Truncated, sender, tail);
    }

    /// Counts something that is refused before it is read.
    pub fn refuse(&mut self, reason: Refusal, sender: &dyn Display, bytes: &[u8]) {
        self.recorder.refuse(reason, sender, bytes);
    }

    /// The same of an address.
    #[cold]
    pub fn refuse_from(&mut self, from: IpAddr, reason: Refusal, sender: &dyn Display, bytes: &[u8]) {
        let before = self.recorder.sent();
        self.recorder.refuse(reason, sender, bytes);
        self.recorder.sent_by(from, before);
    }
}
