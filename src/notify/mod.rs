//! Notices: what founders are told when something happens that they would want to know.
//!
//! ```text
//!   states of all pages ─▶ scheduler.rs ─▶ notes on the board ─▶ courier.rs ─▶ webhooks
//!   (every node)           what is new     (each event once)     (one node)
//! ```
//!
//! In come the states of all pages and the time; out go messages: a figure that stands still and its all clear, goals,
//! record days, a digest of what has been, and marks for Graphite. The scheduler decides and is pure. What it decides stands on a board
//! before it is sent: in Redis, where all nodes see it and the one that folds the figures' partition sends, or in a
//! file (`file.rs`). To each receiver goes one message after the other, again and again until it is taken. Knows
//! figures as pages show them.
//!
//! A message is sent at least once: a process that dies between an answer and the note of it sends it again, under
//! the same `Idempotency-Key`.

mod courier;
mod digest;
mod file;
mod message;
mod note;
mod options;
mod scheduler;

pub use courier::{Refused, deliver};
pub use file::{FileBoard, NOTES_FILE};
pub use message::{Item, Message, Style, Topic, sample};
pub use note::{Ledger, Note};
pub use options::{Digest, Options, Rule, Webhook, Weekdays};
pub use scheduler::{Closing, New, Scheduler, YOUNG_MS};

use crate::clock::{Clock, WallMs};
use crate::figures::PageState;
use crate::health::NoticeCounts;
use crate::store::{Board, Notes, Store, StoreError};
use chrono::NaiveDate;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// So long a stop waits for answers that are under way: without them the same is sent again.
const FAREWELL: Duration = Duration::from_secs(2);
/// First pause after a failure in milliseconds; it doubles up to the longest.
const PAUSE_MS: i64 = 5_000;
const PAUSE_MS_MAX: i64 = 5 * 60_000;

/// Where the states come from, and where notes stand.
pub struct Source {
    /// All pages as they are now.
    pub pages: Box<dyn Fn() -> Vec<Arc<PageState>> + Send>,
    /// All pages as they were at the end of a day.
    pub closing: Box<dyn Fn(NaiveDate) -> Vec<Arc<PageState>> + Send>,
    /// Where notes stand.
    pub board: Arc<dyn Board>,
}

/// A message that was sent: the name of its note, and what came of it.
type Sent = (String, Result<(), Refused>);

/// What goes to one receiver.
struct Line {
    to: String,
    /// At most one at a time, so that order is kept.
    sending: JoinSet<Sent>,
    failures: u32,
    not_before: WallMs,
}

/// Looks, decides and sends.
pub struct Notifier {
    options: Options,
    clock: Clock,
    source: Source,
    status: Arc<NoticeCounts>,
    scheduler: Scheduler,
    notes: Ledger,
    /// Which state of the board the notes are of.
    seen: Option<u64>,
    lines: Vec<Line>,
    /// Whether the board was out of reach, so that it is said once.
    away: bool,
}

impl Notifier {
    /// A notifier of a process that starts now; what is seen of it is written to `status`.
    #[must_use]
    pub fn new(options: Options, clock: &Clock, source: Source, status: Arc<NoticeCounts>) -> Self {
        let line = |rule: &Rule| Line {
            to: rule.webhook.id(),
            sending: JoinSet::new(),
            failures: 0,
            not_before: WallMs::MIN,
        };
        Self {
            lines: options.rules.iter().map(line).collect(),
            scheduler: Scheduler::new(options.clone(), clock.now()),
            notes: Ledger::default(),
            seen: None,
            away: false,
            clock: clock.clone(),
            options,
            source,
            status,
        }
    }

    /// Works until `stop` is notified. What is not sent by then stands on the board.
    pub fn run(mut self, stop: &Notify) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            loop {
                self.step();
                tokio::select! {
                    () = stop.notified() => break,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
            tokio::time::timeout(FAREWELL, self.settle()).await.ok();
        });
        // A look-up of a name may still be under way, which knows no limit.
        runtime.shutdown_background();
        Ok(())
    }

    /// One look: decides, and begins to send what is due. To be called within a runtime.
    pub fn step(&mut self) {
        let stepped = self.try_step();
        if let Err(error) = &stepped
            && !self.away
        {
            tracing::warn!(%error, "no notices are decided or sent until the store is back");
        }
        self.away = stepped.is_err();
    }

    fn try_step(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.look_at_board()?;
        let pages = (self.source.pages)();
        let mut new = self.scheduler.decide(&pages, now, &self.notes, &*self.source.closing);
        if self.source.board.is_ours() {
            new.extend(self.scheduler.marks(&pages, now, &self.notes));
        }
        let any = !new.is_empty();
        for (name, note) in new {
            self.source.board.post(&name, &text(&note))?;
        }
        if any {
            self.look_at_board()?;
        }
        for at in 0..self.lines.len() {
            if let Some(sent) = self.lines.get_mut(at).and_then(|line| line.sending.try_join_next()) {
                self.answered(at, sent.ok())?;
            }
        }
        if self.source.board.is_ours() {
            self.tidy(now)?;
            self.send(now);
        }
        let waiting: usize = self.lines.iter().map(|line| self.notes.waiting_count(&line.to)).sum();
        self.status.waiting.store(waiting as u64, Ordering::Relaxed);
        Ok(())
    }

    fn look_at_board(&mut self) -> Result<(), StoreError> {
        if let Some(notes) = self.source.board.read(self.seen)? {
            self.notes = Ledger::read(&notes.notes);
            self.seen = Some(notes.state);
        }
        Ok(())
    }

    /// Begins to send the next message to each receiver that none is on its way to.
    fn send(&mut self, now: WallMs) {
        for (line, rule) in self.lines.iter_mut().zip(&self.options.rules) {
            if !line.sending.is_empty() || now < line.not_before {
                continue;
            }
            if let Some((name, message)) = self.notes.next(&line.to) {
                let (webhook, style) = (rule.webhook.clone(), rule.style);
                line.sending.spawn(async move { (name, deliver(&webhook, style, &message).await) });
            }
        }
    }

    /// Notes what came of a message; a panic on the way there is a failure like others.
    fn answered(&mut self, at: usize, sent: Option<Sent>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(at) else { return Ok(()) };
        let problem = match &sent {
            Some((_, Ok(()))) => None,
            Some((_, Err(problem))) => Some(problem.to_string()),
            None => Some("it could not be sent".to_owned()),
        };
        let to = self.options.rules.get(at).map(|rule| &rule.webhook);
        let to = to.map_or_else(String::new, ToString::to_string);
        match (sent, problem) {
            (Some((name, Err(Refused::ForGood(_)))), Some(problem)) => {
                self.status.given_up.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(to, name, problem, "a notice is given up: it is not wanted");
                self.take_off(&name, at)
            }
            (Some((name, Ok(()))), _) => {
                line.failures = 0;
                line.not_before = WallMs::MIN;
                self.status.sent.fetch_add(1, Ordering::Relaxed);
                self.take_off(&name, at)
            }
            (_, problem) => {
                let pause = pause(line.failures);
                line.failures += 1;
                line.not_before = now + pause;
                self.status.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(to, pause_s = pause / 1_000, problem, "a notice is not taken yet");
                Ok(())
            }
        }
    }

    /// A receiver does not wait for a note any more.
    fn take_off(&mut self, name: &str, at: usize) -> Result<(), StoreError> {
        // Another node may have changed it since.
        self.look_at_board()?;
        let Some((line, note)) = self.lines.get(at).zip(self.notes.0.get(name)) else { return Ok(()) };
        let mut note = note.clone();
        note.waiting.retain(|waiting| *waiting != line.to);
        self.source.board.change(name, Some(&text(&note.settled())))?;
        self.look_at_board()
    }

    /// Gives up what nobody takes, and forgets what is old.
    fn tidy(&mut self, now: WallMs) -> Result<(), StoreError> {
        let receivers: Vec<String> = self.lines.iter().map(|line| line.to.clone()).collect();
        for name in self.notes.hopeless(now, &receivers) {
            tracing::warn!(name, "a notice is given up: nobody took it");
            self.status.given_up.fetch_add(1, Ordering::Relaxed);
            if let Some(note) = self.notes.0.get(&name) {
                let note = Note { waiting: Vec::new(), ..note.clone() };
                self.source.board.change(&name, Some(&text(&note.settled())))?;
            }
        }
        for name in self.notes.forgettable(self.options.calendar.date(now)) {
            self.source.board.change(&name, None)?;
        }
        self.look_at_board()
    }

    /// Waits for the answers that are under way, and notes them.
    pub async fn settle(&mut self) {
        for at in 0..self.lines.len() {
            while let Some(line) = self.lines.get_mut(at)
                && let Some(sent) = line.sending.join_next().await
            {
                if let Err(error) = self.answered(at, sent.ok()) {
                    tracing::warn!(%error, "a notice was sent and this cannot be noted: it may be sent again");
                }
            }
        }
    }
}

fn text(note: &Note) -> String {
    serde_json::to_string(note).unwrap_or_default()
}

/// Longer after each failure, and not to the moment: nodes that failed together do not come back together.
fn pause(failures: u32) -> i64 {
    let pause = PAUSE_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
    (pause as f64 * (0.75 + fastrand::f64() / 2.0)) as i64
}

/// The board of a store that many nodes share.
pub struct SharedBoard(pub Arc<dyn Store>);

impl SharedBoard {
    fn board(&self) -> Result<&dyn Board, StoreError> {
        self.0.board().ok_or_else(|| StoreError::Away("this store has no board".to_owned()))
    }
}

impl Board for SharedBoard {
    fn read(&self, seen: Option<u64>) -> Result<Option<Notes>, StoreError> {
        self.board()?.read(seen)
    }

    fn post(&self, name: &str, text: &str) -> Result<bool, StoreError> {
        self.board()?.post(name, text)
    }

    fn change(&self, name: &str, text: Option<&str>) -> Result<(), StoreError> {
        self.board()?.change(name, text)
    }

    fn is_ours(&self) -> bool {
        self.board().is_ok_and(Board::is_ours)
    }
}
