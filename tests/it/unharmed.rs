//! What must hold for any bytes at the doors behind the parser's: batches, journal, configuration, queries, console.
//!
//! Each function takes what somebody may send or a disk may give back, and panics where tallyd would do harm with it.
//! Shared by the tests (seeded mutations, `mutations.rs`) and the fuzz targets.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once, OnceLock};
use tallyd::calendar::Calendar;
use tallyd::clock::Clock;
use tallyd::config::{self, Config};
use tallyd::console::Console;
use tallyd::health::Books;
use tallyd::journal::{Disk, Journal, Options};
use tallyd::metric::{Kind, Number, Series, Sum, Tally};
use tallyd::query::{Asked, ListAsked, answer, list};
use tallyd::store::embedded::{EmbeddedStore, Rules};
use tallyd::store::{Applied, Batch, Store};
use tallyd::wire::batch::{Names, push_batch, read_batch, read_batch_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Monday, 23 November 2026, 00:00 UTC, in milliseconds.
const NOW: i64 = 1_795_392_000_000;
const PATTERNS_READ: usize = 4_096;

/// A batch is refused, or is what its bytes say: written again and read again it is the same.
pub(crate) fn batch(bytes: &[u8]) {
    for decoded in [read_batch(bytes), read_batch_with(&mut Names::default(), bytes)].into_iter().flatten() {
        let write = |decoded: &tallyd::wire::batch::Decoded| {
            let mut out = Vec::new();
            let entries = decoded.entries.iter().map(|(series, tally)| (series, tally));
            push_batch(&mut out, decoded.producer, decoded.number, decoded.bucket, entries);
            out
        };
        let again = write(&decoded);
        let read = read_batch(&again).unwrap_or_else(|error| panic!("our own bytes are refused: {error:?}"));
        assert_eq!(write(&read), again, "a batch changes by being read");
    }
}

/// A disk with one file on it, which nobody writes to.
#[derive(Debug)]
struct OneFile(Vec<u8>);

impl Disk for OneFile {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(vec![("00000000000000000001.journal".to_owned(), self.0.len() as u64)])
    }
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }
    fn create_new(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn append(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn close(&mut self) {}
    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A segment is refused as a later version's, or read: records and what was skipped fit into it, and each record's
/// bytes stand in it.
pub(crate) fn journal(bytes: &[u8]) {
    let Ok((journal, _)) = Journal::open(Box::new(OneFile(bytes.to_vec())), Options::default()) else {
        return;
    };
    let Ok(contents) = journal.read(1) else {
        return;
    };
    let mut told = 0;
    for record in contents.records() {
        told += 40 + record.payload.len() as u64;
        assert!(
            bytes.windows(record.payload.len().max(1)).any(|part| part == record.payload)
                || record.payload.is_empty()
        );
        batch(record.payload);
    }
    let findings = contents.findings();
    told += findings.torn.bytes + findings.damaged_in_all().bytes;
    assert!(told <= bytes.len() as u64, "{told} of {} bytes are told of: {findings:?}", bytes.len());
}

/// A file of statsd's is a configuration, or its mistakes are named.
pub(crate) fn statsd_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = config::statsd(&text, std::iter::empty()) {
        assert!(!error.mistakes.is_empty() && !error.to_string().trim().is_empty(), "{text}");
    }
}

/// The same for a file of ours.
pub(crate) fn native_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = config::native(&text, std::iter::empty()) {
        assert!(!error.mistakes.is_empty() && !error.to_string().trim().is_empty(), "{text}");
    }
}

/// A store in memory with a few series of a few buckets.
fn store() -> Arc<dyn Store> {
    let config = Config::default();
    let rules = Rules {
        ladder: config.store.ladder.clone(),
        bounds: config.aggregate.bounds,
        bytes_max: usize::MAX,
        destinations: Vec::new(),
        history: vec!["*".to_owned()],
        figures: Vec::new(),
    };
    let store = EmbeddedStore::in_memory(rules, config.idle);
    for number in 1..=12 {
        let bucket = NOW - 200_000 + number as i64 * 10_000;
        let entry = |name: &&str| {
            let mut sum = Sum::ZERO;
            sum.add(Number::Decimal { mantissa: number as i64, places: 0 });
            (Series::new(Kind::Counter, name), Tally::Counter(sum))
        };
        let entries = ["shop.orders", "shop.paid", "web.hits"].iter().map(entry).collect();
        assert_eq!(
            store.apply(Batch { producer: 1, number, bucket, entries }, bucket).ok(),
            Some(Applied::Done)
        );
        store.fold(bucket, bucket).ok();
    }
    Arc::new(store)
}

fn shared_store() -> &'static Arc<dyn Store> {
    static STORE: OnceLock<Arc<dyn Store>> = OnceLock::new();
    STORE.get_or_init(store)
}

/// `name=value&name=value` is answered, or refused in words; what is answered can be written as JSON.
pub(crate) fn query(bytes: &[u8]) {
    let text: String = String::from_utf8_lossy(bytes).chars().take(PATTERNS_READ).collect();
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name.to_owned(), value.to_owned())
    };
    let pairs: Vec<(String, String)> = text.split('&').map(pair).collect();
    match Asked::read(&pairs, NOW, &Calendar::default()) {
        Ok(asked) => {
            if let Ok(answer) = answer(&**shared_store(), &asked, NOW) {
                serde_json::from_str::<serde_json::Value>(&answer.json()).expect("an answer is JSON");
                assert!(answer.csv().is_char_boundary(0));
            }
        }
        Err(problem) => assert!(!problem.error.is_empty() && !problem.cure.is_empty(), "{text}"),
    }
    if let Ok(asked) = ListAsked::read(&pairs) {
        list(&**shared_store(), &asked).expect("a store in memory answers");
    }
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// A panic in a task is the task's own; this makes it ours, on this thread.
fn notice_panics() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            before(panic);
        }));
    });
    PANICKED.set(false);
}

/// Whatever is said to the console, it answers or hangs up, and goes on for the next one; it changes nothing but by
/// the three commands that do.
pub(crate) fn console(bytes: &[u8]) {
    notice_panics();
    let deletes = [&b"delcounters"[..], b"deltimers", b"delgauges"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = store();
        let console = Arc::new(Console {
            clock: Clock::manual(NOW),
            started: NOW / 1_000,
            books: Arc::new(Books::default()),
            store: Arc::clone(&store),
            tick_now: Arc::new(|| {}),
            sender: Arc::new(Vec::new),
            config_lines: Vec::new(),
            healthy: AtomicBool::new(true),
        });
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(console.serve(listener));
        converse(address, bytes).await;
        let after = converse(address, b"counters\n").await;
        if !deletes.iter().any(|word| bytes.windows(word.len()).any(|part| part == *word)) {
            assert!(after.contains("shop.orders"), "the counters are gone after {bytes:?}: {after}");
        }
        assert!(after.ends_with("END\n\n"), "the console does not go on after {bytes:?}: {after}");
        serving.abort();
    });
    assert!(!PANICKED.get(), "the console panicked at {bytes:?}");
}

async fn converse(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the console listens");
    stream.write_all(bytes).await.ok();
    stream.shutdown().await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}
