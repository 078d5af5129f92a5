//! The journal: damage at every place, disks that fail, and seeded histories against a naive model.

mod damage;
pub(crate) mod disk;
mod failures;
mod simulation;

use disk::VirtualDisk;
use tallyd::journal::{Journal, Options, Recovered, SyncWhen};

const OPTIONS: Options = Options { bytes_max: 16 << 20, segment_bytes: 4 << 20, sync: SyncWhen::Tick };

/// Producer, number, payload.
type Named = (u128, u64, Vec<u8>);

fn open(disk: &VirtualDisk, options: Options) -> (Journal, Recovered) {
    Journal::open(Box::new(disk.clone()), options).unwrap()
}

fn records_of(journal: &Journal, segment: u64) -> Vec<Named> {
    let contents = journal.read(segment).unwrap();
    contents.records().map(|record| (record.producer, record.number, record.payload.to_vec())).collect()
}

/// All whole records, in order.
fn records(journal: &Journal, recovered: &Recovered) -> Vec<Named> {
    recovered.segments.iter().flat_map(|&segment| records_of(journal, segment)).collect()
}

/// What a new process would find.
fn found(disk: &VirtualDisk) -> Vec<Named> {
    let (journal, recovered) = open(disk, OPTIONS);
    records(&journal, &recovered)
}

/// Appends a record where the journal takes one.
fn append(journal: &mut Journal, producer: u128, number: u64, payload: &[u8], now: i64) -> bool {
    journal.segment(now).is_some() && journal.append(producer, number, payload, now).is_ok()
}
