//! What reading the journal gave: whole records, and counts of everything that is not one.
//!
//! Nothing here is guessed. How many records a damaged stretch held cannot be known, as their lengths are
//! damaged with them; so stretches and bytes are counted. Which numbers are missing the store sees.

use super::JournalError;
use super::segment::Scan;
use std::fmt;

/// Why bytes of a segment were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The segment's header is damaged. Its records are whole unless counted elsewhere.
    Header,
    /// No record begins where one should.
    Mark,
    /// A record's length leads nowhere.
    Length,
    /// A record's checksum does not hold.
    Checksum,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Header, Self::Mark, Self::Length, Self::Checksum];

    /// The label of a counter.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Mark => "mark",
            Self::Length => "length",
            Self::Checksum => "checksum",
        }
    }
}

/// Bytes that are in no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Stretches of them, each up to the next whole record or the segment's end.
    pub stretches: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Skipped {
    fn add(&mut self, bytes: usize) {
        self.stretches += 1;
        self.bytes += bytes as u64;
    }
}

/// What is in no record, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Ends of segments that were never written whole: what a crash or a full disk leaves.
    pub torn: Skipped,
    damaged: [Skipped; Damage::ALL.len()],
}

impl Findings {
    /// What was skipped for one reason.
    #[must_use]
    pub fn damaged(&self, damage: Damage) -> Skipped {
        self.damaged.get(damage as usize).copied().unwrap_or_default()
    }

    /// What was skipped for any reason but a torn tail.
    #[must_use]
    pub fn damaged_in_all(&self) -> Skipped {
        self.damaged.iter().fold(Skipped::default(), |sum, one| Skipped {
            stretches: sum.stretches + one.stretches,
            bytes: sum.bytes + one.bytes,
        })
    }

    pub(super) fn skip(&mut self, damage: Damage, bytes: usize) {
        if let Some(skipped) = self.damaged.get_mut(damage as usize) {
            skipped.add(bytes);
        }
    }

    /// The end of a segment, behind which no whole record comes. It is torn if it was cut off, or if the
    /// file system had made it longer and not written it yet.
    pub(super) fn rest(&mut self, bytes: &[u8], damage: Damage, cut: bool) {
        if bytes.is_empty() {
            return;
        }
        if cut || bytes.iter().all(|&byte| byte == 0) {
            self.torn.add(bytes.len());
        } else {
            self.skip(damage, bytes.len());
        }
    }

    fn merge(&mut self, other: &Self) {
        let own = std::iter::once(&mut self.torn).chain(&mut self.damaged);
        for (sum, one) in own.zip(std::iter::once(&other.torn).chain(&other.damaged)) {
            sum.stretches += one.stretches;
            sum.bytes += one.bytes;
        }
    }
}

/// What the journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Segments that hold records, in order; `Journal::read` gives each one's.
    pub segments: Vec<u64>,
    /// Whole records in them.
    pub records: u64,
    /// What was skipped.
    pub findings: Findings,
    /// Segments that the disk would not give us. They are left alone and tried again at the next start.
    pub unreadable: Vec<JournalError>,
}

impl Recovered {
    pub(super) fn add(&mut self, number: u64, scan: &Scan) {
        if !scan.places.is_empty() {
            self.segments.push(number);
        }
        self.records += scan.places.len() as u64;
        self.findings.merge(&scan.findings);
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records in {} segments", self.records, self.segments.len())?;
        let Findings { torn, .. } = self.findings;
        if torn.stretches > 0 {
            write!(f, "; {} torn tails of {} bytes cut", torn.stretches, torn.bytes)?;
        }
        for damage in Damage::ALL {
            let skipped = self.findings.damaged(damage);
            if skipped.stretches > 0 {
                let label = damage.label();
                write!(
                    f,
                    "; {} damaged stretches of {} bytes skipped ({label})",
                    skipped.stretches, skipped.bytes
                )?;
            }
        }
        for error in &self.unreadable {
            write!(f, "; {error}")?;
        }
        Ok(())
    }
}

/// The records of one segment.
#[derive(Clone, Debug)]
pub struct Contents {
    bytes: Vec<u8>,
    scan: Scan,
}

/// One whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who counted.
    pub producer: u128,
    /// The batch's number.
    pub number: u64,
    /// What was appended.
    pub payload: &'a [u8],
    /// Something before it in this segment was damaged: names that were first written there are unknown.
    pub after_damage: bool,
}

impl Contents {
    pub(super) fn new(bytes: Vec<u8>, scan: Scan) -> Self {
        Self { bytes, scan }
    }

    pub(super) fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Whole records, in the order they were appended. A name may stand here twice, and in two segments,
    /// where a batch was appended again after a sync failed: who applies it counts it once, by its name, and
    /// needs both, as either may be where later records of its segment have their names from.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.scan.places.iter().map(|place| Record {
            producer: place.producer,
            number: place.number,
            payload: self.bytes.get(place.payload.clone()).unwrap_or_default(),
            after_damage: place.after_damage,
        })
    }

    /// What is in no record.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.scan.findings
    }
}
