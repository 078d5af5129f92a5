//! The journal: batches on local disk before they go to a store, until the store has confirmed them.
//!
//! In come named records, bytes that this module does not look into; a sync; and confirmations. After a
//! crash the same records come out, as far as they had reached the disk: whole, in order, and counts of
//! whatever was not whole. It knows nothing of stores, of what a record says, or of time (callers pass it).
//!
//! ```text
//!  every tick   segment() ─▶ a number; where it is a new one, the writer begins a new dictionary
//!               append()     once for each batch: written to the segment's end
//!               sync()       once: fdatasync; only now are the tick's records safe
//!  sometimes    confirm()    "all of this producer's up to that number": segments that hold nothing else go
//!  at start     open()       counts what is there; read() gives a segment's records
//!
//!  0…07.journal   0…08.journal   0…09.journal          bytes() ≤ bytes_max
//!  ├─ closed ──┤  ├─ closed ──┤  ├─ open ──▶
//! ```
//!
//! **Failures.** The journal never tries to mend a segment. When a write or a sync fails the segment is
//! closed for good and the journal is *not durable*; after a pause another segment is begun, and when a sync
//! of records in that one has worked the journal is durable again. In particular an `fsync` that failed is
//! not asked again: Linux reports an error once and then holds the pages for clean, so a second one would
//! say yes to bytes that are nowhere. What was left of a record in the closed segment is its torn tail.
//!
//! **Names.** Records of one segment share a dictionary of names. After any error of `append` what the
//! writer last put into the dictionary is not on disk; that segment is closed, too, so the number that
//! `segment` gives next is another one, and a writer that starts afresh with each number is always right.
//!
//! **Replays.** A segment goes only when all that is in it is confirmed, so a start hands out records that
//! the store has had already. It applies each name once, and may forget a producer only after the journal
//! has dropped all of its records.

mod disk;
mod durability;
mod error;
mod reading;
mod recovery;
mod segment;

pub use disk::{Directory, Disk};
pub use durability::NotDurable;
pub use error::{JournalError, Reason};
pub use reading::Reading;
pub use recovery::{Contents, Damage, Findings, Record, Recovered, Skipped};

use crate::clock::WallMs;
use crate::limits;
use durability::Durability;
use segment::{HEADER_BYTES, Mark, RECORD_HEAD_BYTES, UnknownVersion};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::io;

/// When records are brought to the disk (`store.journal_sync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncWhen {
    /// Once a tick: a loss of power costs at most the tick that was being written.
    Tick,
    /// When the operating system does it by itself: a crash of the process costs nothing, a loss of power
    /// up to about half a minute.
    Off,
}

/// How large the journal may be, and how safe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of all segments together (`store.journal_max`).
    pub bytes_max: u64,
    /// Bytes after which another segment is begun; at most a quarter of `bytes_max` is used.
    pub segment_bytes: u64,
    /// When records are brought to the disk.
    pub sync: SyncWhen,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bytes_max: limits::JOURNAL_BYTES_MAX,
            segment_bytes: limits::JOURNAL_SEGMENT_BYTES,
            sync: SyncWhen::Tick,
        }
    }
}

impl Options {
    /// A segment goes as a whole: with fewer than four of them a full journal would have to be confirmed to
    /// the last record before it has room again. And what is written must be readable.
    fn segment_bytes_used(&self) -> u64 {
        self.segment_bytes.min(self.bytes_max / 4).min(limits::JOURNAL_SEGMENT_BYTES)
    }
}

/// The journal. One thread has it.
#[derive(Debug)]
pub struct Journal {
    disk: Box<dyn Disk>,
    options: Options,
    /// All that are on disk, the open one too.
    segments: BTreeMap<u64, Segment>,
    open: Option<Open>,
    next: u64,
    /// Bytes of all segments.
    bytes: u64,
    /// The highest number confirmed, of producers that have records here.
    confirmed: HashMap<u128, u64>,
    durability: Durability,
    /// A segment was closed whose last records did not reach the disk, and `sync` has not said so yet.
    abandoned: bool,
    /// Segments were removed, and that has not reached the disk.
    removal_unsynced: bool,
}

/// A segment on disk.
#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// The disk would not give us its bytes, so nobody knows what is in it, and nobody may remove it.
    unreadable: bool,
    /// The highest number of each producer in it.
    last: HashMap<u128, u64>,
}

impl Segment {
    fn note(&mut self, producer: u128, number: u64) {
        let last = self.last.entry(producer).or_default();
        *last = number.max(*last);
    }
}

/// The segment that is written to.
#[derive(Clone, Copy, Debug)]
struct Open {
    number: u64,
    mark: Mark,
    /// Records were appended since the last sync.
    unsynced: bool,
}

impl Journal {
    /// Reads what is there, a segment at a time. Nothing is written: that begins with the first record.
    pub fn open(disk: Box<dyn Disk>, options: Options) -> Result<(Self, Recovered), JournalError> {
        let listed = disk.list().map_err(|source| JournalError::Directory { path: disk.path(""), source })?;
        let mut journal = Self {
            disk,
            options,
            segments: BTreeMap::new(),
            open: None,
            next: 1,
            bytes: 0,
            confirmed: HashMap::new(),
            durability: Durability::default(),
            abandoned: false,
            removal_unsynced: false,
        };
        for (number, bytes) in
            listed.iter().filter_map(|(name, bytes)| Some((segment::number_of(name)?, *bytes)))
        {
            journal.segments.insert(number, Segment { bytes, ..Segment::default() });
            journal.bytes += bytes;
            journal.next = journal.next.max(number.saturating_add(1));
        }
        let mut recovered = Recovered::default();
        let numbers: Vec<u64> = journal.segments.keys().copied().collect();
        for number in numbers {
            let read = journal.read(number);
            let Some(segment) = journal.segments.get_mut(&number) else { continue };
            match read {
                Ok(contents) => {
                    contents.records().for_each(|record| segment.note(record.producer, record.number));
                    recovered.add(number, contents.scan());
                }
                Err(error @ JournalError::Version { .. }) => return Err(error),
                Err(error) => {
                    segment.unreadable = true;
                    recovered.unreadable.push(error);
                }
            }
        }
        Ok((journal, recovered))
    }

    /// The records of a segment: one that was recovered, or one written since.
    pub fn read(&self, number: u64) -> Result<Contents, JournalError> {
        let name = segment::file_name(number);
        let failed = |source| JournalError::Read { path: self.disk.path(&name), source };
        if self.segments.get(&number).is_some_and(|segment| segment.bytes > limits::JOURNAL_READ_BYTES_MAX) {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = self.disk.read(&name).map_err(failed)?;
        match segment::scan(&bytes) {
            Ok(scan) => Ok(Contents::new(bytes, scan)),
            Err(UnknownVersion(version)) => {
                Err(JournalError::Version { path: self.disk.path(&name), version })
            }
        }
    }

    /// The segments on disk, oldest first, the one that is written to among them.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.keys().copied()
    }

    /// The segment that the next record goes to; to be asked before each record is encoded. Begins one where
    /// there is none, where the last one has its size, or where the pause after a failure is over. `None`
    /// while the journal takes nothing; `not_durable` says why.
    pub fn segment(&mut self, now: WallMs) -> Option<u64> {
        if let Some(open) = self.open {
            let bytes = self.segments.get(&open.number).map_or(0, |segment| segment.bytes);
            if bytes < self.options.segment_bytes_used() {
                return Some(open.number);
            }
        }
        let bytes_free = self.options.bytes_max.saturating_sub(self.bytes + HEADER_BYTES as u64);
        if !self.durability.may_try(now, bytes_free) {
            return None;
        }
        match self.begin_segment() {
            Ok(number) => Some(number),
            Err(error) => {
                self.fail(&error, now);
                None
            }
        }
    }

    /// Writes a record to the segment's end. It is safe after the next [`Journal::sync`] that succeeds.
    ///
    /// After an error the record is not in the journal, and neither is any other until `segment` gives
    /// another number.
    pub fn append(
        &mut self,
        producer: u128,
        number: u64,
        payload: &[u8],
        now: WallMs,
    ) -> Result<(), JournalError> {
        let Some(open) = self.open else { return Err(JournalError::NoSegment) };
        let written = self.write_record(open, producer, number, payload);
        if let Err(error) = &written {
            self.fail(error, now);
        }
        written
    }

    /// Brings what was appended to the disk. With success every record is there whose `append` succeeded
    /// since the sync before. After an error none of them can be counted on; once the journal is durable
    /// they may be appended again, under the same names.
    pub fn sync(&mut self, now: WallMs) -> Result<(), JournalError> {
        let abandoned = std::mem::take(&mut self.abandoned);
        if let Some(open) = self.open.as_mut().filter(|open| open.unsynced) {
            open.unsynced = false;
            if let Err(error) = self.sync_data() {
                self.fail(&error, now);
                return Err(error);
            }
            self.durability.proved();
        }
        if abandoned { Err(JournalError::Abandoned) } else { Ok(()) }
    }

    /// Does work whose records reach the disk even where `SyncWhen` leaves that to the system, with the file's name.
    pub fn synced<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, Result<(), JournalError>) {
        let sync = std::mem::replace(&mut self.options.sync, SyncWhen::Tick);
        let done = work(self);
        let named = if sync == SyncWhen::Off { self.sync_directory("") } else { Ok(()) };
        self.options.sync = sync;
        (done, named)
    }

    /// The store has everything of a producer up to a number, for good. Segments that hold nothing else are
    /// removed. What cannot be removed now is tried again at the next confirmation. Returns the bytes freed.
    pub fn confirm(&mut self, producer: u128, number: u64) -> Result<u64, JournalError> {
        self.confirm_all([(producer, number)])
    }

    /// The same of many producers.
    pub fn confirm_all(&mut self, all: impl IntoIterator<Item = (u128, u64)>) -> Result<u64, JournalError> {
        for (producer, number) in all {
            let confirmed = self.confirmed.entry(producer).or_default();
            *confirmed = number.max(*confirmed);
        }
        let removed = self.remove_confirmed();
        let segments = &self.segments;
        self.confirmed.retain(|producer, _| segments.values().any(|one| one.last.contains_key(producer)));
        removed
    }

    /// Closes the open segment, so that a confirmation can remove it, too. For an orderly stop.
    pub fn finish(&mut self, now: WallMs) -> Result<(), JournalError> {
        let synced = self.sync(now);
        self.close_segment().and(synced)?;
        self.remove_confirmed().map(|_| ())
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the last records reached the disk, or nothing has failed yet.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.not_durable().is_none()
    }

    /// Since when the journal is not durable, and why.
    #[must_use]
    pub fn not_durable(&self) -> Option<&NotDurable> {
        self.durability.trouble()
    }

    fn begin_segment(&mut self) -> Result<u64, JournalError> {
        self.close_segment()?;
        self.check_room(HEADER_BYTES)?;
        let number = self.next;
        // The number is used even if this fails: whether there is a file now, only the disk knows.
        self.next = number.saturating_add(1);
        let name = segment::file_name(number);
        let write_failed = |disk: &dyn Disk, source| JournalError::Write { path: disk.path(&name), source };
        self.disk.create_new(&name).map_err(|source| write_failed(&*self.disk, source))?;
        self.segments.insert(number, Segment::default());
        let mark: Mark = std::hash::RandomState::new().hash_one(number).to_le_bytes();
        let begun = self
            .write(number, &segment::header(mark))
            .map_err(|source| write_failed(&*self.disk, source))
            .and_then(|()| self.sync_directory(&name));
        if let Err(error) = begun {
            self.disk.close();
            // A disk that takes no header may still take an empty file at every attempt.
            self.remove(number).ok();
            return Err(error);
        }
        self.open = Some(Open { number, mark, unsynced: false });
        Ok(number)
    }

    fn write_record(
        &mut self,
        open: Open,
        producer: u128,
        number: u64,
        payload: &[u8],
    ) -> Result<(), JournalError> {
        let bytes = (RECORD_HEAD_BYTES + payload.len()) as u64;
        let room = self.options.bytes_max.saturating_sub(HEADER_BYTES as u64);
        let bytes_max = room.min((RECORD_HEAD_BYTES + limits::JOURNAL_RECORD_BYTES_MAX) as u64);
        if bytes > bytes_max {
            return Err(JournalError::TooLarge { bytes, bytes_max });
        }
        self.check_room(RECORD_HEAD_BYTES + payload.len())?;
        let head = segment::record_head(open.mark, producer, number, payload);
        self.write(open.number, &head).and_then(|()| self.write(open.number, payload)).map_err(|source| {
            JournalError::Write { path: self.disk.path(&segment::file_name(open.number)), source }
        })?;
        if let Some(segment) = self.segments.get_mut(&open.number) {
            segment.note(producer, number);
        }
        self.open = Some(Open { unsynced: true, ..open });
        Ok(())
    }

    fn check_room(&self, bytes: usize) -> Result<(), JournalError> {
        let Options { bytes_max, .. } = self.options;
        let record_bytes = bytes as u64;
        if self.bytes + record_bytes > bytes_max {
            return Err(JournalError::Full { bytes: self.bytes, record_bytes, bytes_max });
        }
        Ok(())
    }

    /// Writes all of it, and counts what was written even if that is not all.
    fn write(&mut self, number: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.disk.append(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    self.bytes += written as u64;
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.bytes += written as u64;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), JournalError> {
        let name = self.open.map(|open| segment::file_name(open.number)).unwrap_or_default();
        match self.options.sync {
            SyncWhen::Off => Ok(()),
            SyncWhen::Tick => self
                .disk
                .sync_data()
                .map_err(|source| JournalError::Sync { path: self.disk.path(&name), source }),
        }
    }

    fn sync_directory(&mut self, name: &str) -> Result<(), JournalError> {
        match self.options.sync {
            SyncWhen::Off => Ok(()),
            SyncWhen::Tick => self
                .disk
                .sync_directory()
                .map_err(|source| JournalError::Sync { path: self.disk.path(name), source }),
        }
    }

    fn fail(&mut self, error: &JournalError, now: WallMs) {
        self.durability.fail(error, now);
        if let Err(error) = self.close_segment() {
            self.durability.fail(&error, now);
        }
    }

    /// Ends the open segment. Records before the one that failed are as good as any: they are brought to the
    /// disk, unless it was that which failed.
    fn close_segment(&mut self) -> Result<(), JournalError> {
        let Some(open) = self.open else { return Ok(()) };
        let synced = if open.unsynced { self.sync_data() } else { Ok(()) };
        self.abandoned |= synced.is_err();
        self.open = None;
        self.disk.close();
        synced
    }

    fn remove_confirmed(&mut self) -> Result<u64, JournalError> {
        let open = self.open.map(|open| open.number);
        let is_confirmed = |segment: &Segment| {
            let confirmed =
                |(producer, last)| self.confirmed.get(producer).is_some_and(|number| number >= last);
            !segment.unreadable && segment.last.iter().all(confirmed)
        };
        let old: Vec<u64> = self
            .segments
            .iter()
            .filter(|&(&number, segment)| Some(number) != open && is_confirmed(segment))
            .map(|(&number, _)| number)
            .collect();
        let before = self.bytes;
        let mut result = Ok(());
        for &number in &old {
            result = result.and(self.remove(number));
        }
        self.removal_unsynced |= self.bytes < before;
        if self.removal_unsynced {
            // A file that came back with a loss of power could hold what the store has long forgotten.
            let synced = self.sync_directory("");
            self.removal_unsynced = synced.is_err();
            result = result.and(synced);
        }
        result.map(|()| before - self.bytes)
    }

    fn remove(&mut self, number: u64) -> Result<(), JournalError> {
        let name = segment::file_name(number);
        match self.disk.remove(&name) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::Remove { path: self.disk.path(&name), source });
            }
            _ => {}
        }
        if let Some(segment) = self.segments.remove(&number) {
            self.bytes -= segment.bytes;
        }
        Ok(())
    }
}
