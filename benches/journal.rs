//! Question: what does it cost a tick to be on disk before it goes to the store?
//!
//! A tick's batches as one record of 100 KB (5,000 series or so) or 1 MB, appended and synced, as the flusher
//! does every 200 ms. Rivals on the same disk, alternating with it: the same bytes written to a file and
//! synced with nothing around them, which is the disk's own price, and the journal with syncs left to the
//! system (`store.journal_sync = "off"`). Expectation on paper: the checksum of 1 MB takes 0.1 ms and two
//! writes into the system's memory 0.3 ms, so with syncs the journal costs what the disk costs; a virtual
//! disk takes 1 to 5 ms for a small sync. 20 ms is a tenth of a tick.
//!
//! The directory is `TALLYD_BENCH_DIR`, or `target` of this repository: a temporary directory may be memory.
//! What was written is read back and compared. `cargo bench --bench journal` measures; without `--bench` it
//! runs at toy size.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench prints, indexes what it made, and ends where the disk fails"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tallyd::clock;
use tallyd::journal::{Directory, Journal, Options, SyncWhen};

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let ticks = if full { 101 } else { 3 };
    let folder = std::env::var_os("TALLYD_BENCH_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    println!(
        "{ticks} ticks of each; ms a tick: median (tenth and ninetieth percentile); bytes written a tick"
    );
    for payload_bytes in [100_000, 1_000_000] {
        let payload: Vec<u8> =
            (0..payload_bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let synced = JournalRival::new(&folder.path().join(format!("tick-{payload_bytes}")), SyncWhen::Tick);
        let unsynced = JournalRival::new(&folder.path().join(format!("off-{payload_bytes}")), SyncWhen::Off);
        let bare = File::create(folder.path().join(format!("bare-{payload_bytes}"))).unwrap();
        measure(ticks, &payload, synced, unsynced, bare);
    }
}

/// A journal and the number of its last record.
struct JournalRival {
    path: PathBuf,
    journal: Journal,
    number: u64,
}

impl JournalRival {
    fn new(path: &Path, sync: SyncWhen) -> Self {
        let disk = Directory::open(path).unwrap();
        let (journal, _) = Journal::open(Box::new(disk), Options { sync, ..Options::default() }).unwrap();
        Self { path: path.to_owned(), journal, number: 0 }
    }

    fn tick(&mut self, payload: &[u8]) {
        self.number += 1;
        self.journal.segment(0).unwrap();
        self.journal.append(7, self.number, payload, 0).unwrap();
        self.journal.sync(0).unwrap();
    }

    /// Reads everything back as a new process would, and returns the bytes written and the time it took.
    fn check(self, payload: &[u8]) -> (u64, Duration) {
        let Self { path, journal, number } = self;
        drop(journal);
        let started = clock::monotonic_now();
        let disk = Directory::open(&path).unwrap();
        let (journal, recovered) = Journal::open(Box::new(disk), Options::default()).unwrap();
        let took = clock::elapsed(started);
        let same = |segment: &u64| {
            journal.read(*segment).unwrap().records().filter(|record| record.payload == payload).count()
                as u64
        };
        assert_eq!(recovered.segments.iter().map(same).sum::<u64>(), number);
        let on_disk: u64 =
            fs::read_dir(&path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(on_disk, journal.bytes());
        (on_disk, took)
    }
}

fn measure(
    ticks: usize,
    payload: &[u8],
    mut synced: JournalRival,
    mut unsynced: JournalRival,
    mut bare: File,
) {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ticks {
        let mut run = |which: usize, tick: &mut dyn FnMut()| {
            let started = clock::monotonic_now();
            tick();
            times[which].push(clock::elapsed(started));
        };
        run(0, &mut || {
            bare.write_all(payload).unwrap();
            bare.sync_data().unwrap();
        });
        run(1, &mut || synced.tick(payload));
        run(2, &mut || unsynced.tick(payload));
    }
    let (bytes, reading) = synced.check(payload);
    unsynced.check(payload);
    let written = [payload.len() as u64, bytes / ticks as u64, bytes / ticks as u64];
    for ((name, times), written) in
        ["write and fdatasync", "journal, tick", "journal, off"].iter().zip(&mut times).zip(written)
    {
        times.sort_unstable();
        let ms = |part: usize| times[(times.len() - 1) * part / 10].as_secs_f64() * 1e3;
        println!(
            "{:7} bytes  {name:20} {:7.2} ({:.2} to {:.2})  {written}",
            payload.len(),
            ms(5),
            ms(1),
            ms(9)
        );
    }
    println!(
        "{:7} bytes  read at start        {:7.2} for {:.1} MB",
        payload.len(),
        reading.as_secs_f64() * 1e3,
        bytes as f64 / 1e6
    );
}
