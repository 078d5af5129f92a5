//! Rows 10, 11 and 12: names without end, mutated datagrams, sizes that are too large.

#[path = "../../it/naive.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
mod naive;

use crate::board::{Outcome, step};
use crate::books::Books;
use crate::feed::{kernel, mb, resident};
use crate::judge::Judge;
use crate::support::{Launch, Tallyd, repository, time, wait_until};
use naive::Found;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tallyd::wire::Dialect;
use tallyd::wire::statsd::{Grammar, UnknownType};

/// A tallyd that is fed through a Unix socket, which loses nothing on the way: who is too fast waits.
fn through_a_file(toml: &str) -> (Launch, Tallyd, UnixDatagram) {
    let launch = Launch::native(toml);
    let path = launch.dir().join("in.sock");
    let launch = launch.env("TALLYD_INGEST_UNIX", path.to_str().expect("a path in UTF-8"));
    let tallyd = launch.start();
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(&path).expect("tallyd listens");
    (launch, tallyd, socket)
}

/// How much memory it had at most, looked at while something is done.
#[derive(Default)]
struct Peak(u64);

impl Peak {
    fn look(&mut self, tallyd: &Tallyd) {
        self.0 = self.0.max(resident(tallyd.process.id()));
    }
}

/// New names in a datagram of the flood.
const NAMES_EACH: u64 = 30;

/// Sends datagrams of names that nobody has seen, each with one that everybody knows.
fn flood(socket: &UnixDatagram, datagrams: u64, mut at: impl FnMut(u64)) {
    let mut random = fastrand::Rng::with_seed(10);
    let mut datagram = String::new();
    for n in 0..datagrams {
        datagram.clear();
        for _ in 0..NAMES_EACH {
            let name = random.u64(..);
            writeln!(datagram, "app{}.{name:016x}:1|c", name % 7).expect("a string takes all");
        }
        datagram.push_str("sentinel.orders:1|c");
        socket.send(datagram.as_bytes()).expect("it is sent");
        at(n);
    }
}

/// 10 million names that nobody has seen, and one that everybody knows.
pub(crate) fn names(outcome: &mut Outcome) {
    const DATAGRAMS: u64 = 10_000_000 / NAMES_EACH;
    const MEMORY: u64 = 512 << 20;
    let judge = Judge::watching(|path| {
        path.starts_with("stats.counters.sentinel.") || path.ends_with("tallyd_overflow.count")
    });
    let toml =
        format!("[limits]\nmemory_max = \"512MiB\"\n[graphite]\naddress = [\"{}\"]\n", judge.address());
    let (_launch, tallyd, socket) = through_a_file(&toml);
    let mut peak = Peak::default();
    flood(&socket, DATAGRAMS, |n| {
        if n % 5_000 == 0 {
            peak.look(&tallyd);
        }
        if n % 50_000 == 0 {
            step(&format!("{} names; {}", n * NAMES_EACH, mb(peak.0)));
        }
    });
    let (sentinel, lines) = (DATAGRAMS, DATAGRAMS * (NAMES_EACH + 1));
    let entered = |books: &Books| books.counted + books.refused_total();
    wait_until(Duration::from_secs(60), || entered(&Books::read(&tallyd)) >= lines);
    let over = time::now();
    let books = Books::read(&tallyd);
    outcome.unexplained(lines as i64 - entered(&books) as i64);
    outcome.figure(format!(
        "{} names: counted {}, refused {:?}",
        lines - sentinel,
        books.counted,
        books.refused
    ));
    let folded = books.json["overflow"]["samples"].as_u64();
    // Nothing at all adds up to -0.
    let stated = || judge.sum("tallyd_overflow.count") + 0.0;
    let all_stated = || folded.is_none_or(|samples| samples as f64 == stated());
    let exact = wait_until(Duration::from_secs(180), || {
        peak.look(&tallyd);
        judge.sum("sentinel.orders.count") == sentinel as f64 && all_stated()
    });
    let normal = over.elapsed();
    outcome.figure(format!("RSS {} at most, memory_max {}", mb(peak.0), mb(MEMORY)));
    outcome.figure(format!(
        "sentinel {} of {sentinel}, {} s after the last name",
        judge.sum("sentinel.orders.count"),
        normal.as_secs()
    ));
    outcome.figure(format!(
        "overflow series {} of {}",
        stated(),
        folded.map_or("none".to_owned(), |samples| samples.to_string())
    ));
    outcome.require(exact, "the sentinel is not exact");
    outcome.require(peak.0 <= MEMORY, format!("RSS {}", mb(peak.0)));
    let whole = folded.is_some_and(|samples| samples as f64 == stated());
    outcome.require(whole, "the overflow's total is not right");
    outcome
        .require(books.refused_total() == 0, "names were refused rather than folded into an overflow series");
    outcome
        .require(normal <= Duration::from_secs(20 + 2), format!("normal after {} s only", normal.as_secs()));
    let (bad, example) = judge.refused();
    outcome.require(bad == 0, format!("carbon would refuse {example:?}"));
}

/// A datagram, and what the slow reader finds in it.
struct Mutant {
    bytes: Vec<u8>,
    values: u64,
    events: u64,
}

const GRAMMAR: Grammar = Grammar { dialect: Dialect::Native, unknown_type: UnknownType::Refuse };

/// The lines that fuzzing starts from, their `\xHH` read as bytes.
fn corpus() -> Vec<Vec<u8>> {
    let text =
        std::fs::read_to_string(repository("tests/fuzz/corpus/lines.txt")).expect("the corpus is there");
    let unescaped = |line: &str| {
        let mut bytes = Vec::new();
        let mut rest = line;
        while let Some(at) = rest.find("\\x") {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            bytes.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"));
            rest = &rest[at + 4..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    };
    text.lines().filter(|line| !line.starts_with("//")).map(unescaped).collect()
}

/// One to three lines of the corpus, of which bytes are turned, added, taken out and put elsewhere.
fn mutant(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Mutant {
    const SPICE: &[u8] = b":|@#,\n\r\0+-.0123456789eEcgmshdT_{} \xff\xc3";
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..4) {
        bytes.extend_from_slice(&corpus[random.usize(..corpus.len())]);
        bytes.push(b'\n');
    }
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match random.u8(..5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.u8(..8),
            1 if !bytes.is_empty() => bytes[at] = SPICE[random.usize(..SPICE.len())],
            2 => bytes.insert(at, SPICE[random.usize(..SPICE.len())]),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {
                let end = (at + random.usize(..12)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.usize(..=bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    let found: Vec<Found> =
        bytes.split(|byte| *byte == b'\n').flat_map(|line| naive::naive(GRAMMAR, line)).collect();
    let count = |wanted: fn(&Found) -> bool| found.iter().filter(|found| wanted(found)).count() as u64;
    let values = count(|found| matches!(found, Found::Sample { .. } | Found::Refused(_)));
    let events = count(|found| matches!(found, Found::Event | Found::ServiceCheck));
    Mutant { bytes, values, events }
}

/// Mutants in chunks, made beside the sender.
fn mutants(count: usize, seed: u64) -> Receiver<Vec<Mutant>> {
    const CHUNK: usize = 10_000;
    let (into, from) = sync_channel(8);
    for half in 0..2 {
        let into = into.clone();
        std::thread::spawn(move || {
            let corpus = corpus();
            let mut random = fastrand::Rng::with_seed(seed ^ half << 32);
            for _ in 0..count / CHUNK / 2 {
                let chunk = (0..CHUNK).map(|_| mutant(&corpus, &mut random)).collect();
                if into.send(chunk).is_err() {
                    return;
                }
            }
        });
    }
    from
}

/// Every line of them is accounted for as the slow reader of tests/it/naive.rs reads it.
pub(crate) fn mutated(outcome: &mut Outcome) {
    let count = if super::is_full() { 100_000_000 } else { 10_000_000 };
    let seed = time::unix_secs() as u64;
    let judge = Judge::watching(|_| false);
    let toml = format!(
        "[flush]\nbucket = \"1s\"\n[limits]\nseries_max = 50000\n[rollup]\nkeep = {{ \"1s\" = \"1m\" }}\nfigures = {{ \"1s\" = \"1m\" }}\n[idle]\ncounters = \"drop\"\ntimers = \"drop\"\nsets = \"drop\"\ngauges = \"drop\"\n[graphite]\naddress = [\"{}\"]\n",
        judge.address()
    );
    let (_launch, mut tallyd, socket) = through_a_file(&toml);
    let (mut values, mut events, mut sent, mut peak) = (0, 0, 0_u64, Peak::default());
    for chunk in mutants(count, seed) {
        for mutant in chunk {
            if mutant.bytes.is_empty() {
                continue;
            }
            socket.send(&mutant.bytes).expect("tallyd reads on");
            values += mutant.values;
            events += mutant.events;
            sent += 1;
        }
        peak.look(&tallyd);
        if sent % 1_000_000 < 10_000 {
            step(&format!("{sent} datagrams"));
        }
    }
    let total = |books: &Books| books.counted + books.refused_total();
    wait_until(Duration::from_secs(30), || total(&Books::read(&tallyd)) >= values);
    time::sleep(Duration::from_secs(1));
    let books = Books::read(&tallyd);
    let number = |key: &str| books.json["received"][key].as_u64().expect("a number");
    let heard = number("events") + number("service_checks");
    let runs = tallyd.process.is_running() && !tallyd.process.stderr().contains("panicked");
    tallyd.sigterm();
    let (bad, example) = judge.refused();
    outcome.figure(format!(
        "{sent} datagrams (seed {seed}), {values} values: counted {}, refused {}; {} events",
        books.counted,
        books.refused_total(),
        heard
    ));
    outcome.figure(format!(
        "{bad} of {} lines that carbon would refuse; RSS {} at most",
        judge.lines(),
        mb(peak.0)
    ));
    outcome.unexplained(values as i64 - total(&books) as i64);
    outcome.unexplained(events as i64 - heard as i64);
    outcome.require(runs, "it crashed or panicked");
    outcome.require(bad == 0, format!("{bad} lines, such as {example:?}"));
    outcome.require(judge.lines() > 0, "nothing came to Graphite");
}

/// Waits until the kernel holds nothing for it any more.
fn read_up(tallyd: &Tallyd) {
    let empty = || kernel(tallyd.ports.statsd).1 == 0;
    assert!(wait_until(Duration::from_secs(30), empty), "tallyd does not read");
}

/// Every size that UDP has, cut tails, and a line of 64 MB.
pub(crate) fn sizes(outcome: &mut Outcome) {
    const LARGEST: usize = 65_507;
    let tallyd = Launch::native("[graphite]\naddress = []\n").start();
    let line = "size.all:1|c\n";
    let most = line.repeat(LARGEST / line.len() + 1);
    let (mut wanted, mut waiting, mut peak) = (0, 0, Peak::default());
    for size in 1..=LARGEST {
        // Whole lines, and blanks up to the size: they belong to no line.
        let whole = size / line.len();
        let mut datagram = most.as_bytes()[..whole * line.len()].to_vec();
        datagram.resize(size, b'\n');
        tallyd.send_udp(&datagram);
        wanted += whole as u64;
        waiting += size;
        if waiting > 1 << 20 || size % 500 == 0 {
            read_up(&tallyd);
            peak.look(&tallyd);
            waiting = 0;
        }
    }
    read_up(&tallyd);
    wait_until(Duration::from_secs(10), || Books::read(&tallyd).counted >= wanted);
    let books = Books::read(&tallyd);
    outcome.figure(format!(
        "{LARGEST} sizes: counted {} of {wanted} lines, refused {}, dropped by the kernel {}",
        books.counted,
        books.refused_total(),
        books.kernel_drops
    ));
    outcome.unexplained(wanted as i64 - books.counted as i64);
    outcome.require(books.refused_total() == 0 && books.counted == wanted, "lines are missing or refused");
    outcome.require(books.packets == LARGEST as u64, format!("{} datagrams", books.packets));
    outcome.figure(format!("RSS {} at most", mb(peak.0)));
    outcome.require(peak.0 < 256 << 20, "memory grows");
    tails(outcome);
    long_line(outcome);
}

/// Datagrams of all sizes from one beyond the largest that is allowed: what was cut is refused, never counted.
fn tails(outcome: &mut Outcome) {
    const ALLOWED: usize = 512;
    let tallyd = Launch::native("[limits]\ndatagram_bytes_max = 512\n[graphite]\naddress = []\n").start();
    let text = "revenue:4900|c\n".repeat(400);
    let (mut counted, mut cut) = (0, 0);
    for size in ALLOWED + 1..=4 * ALLOWED {
        tallyd.send_udp(&text.as_bytes()[..size]);
        counted += text[..ALLOWED].matches('\n').count() as u64;
        cut += 1;
        if size % 100 == 0 {
            read_up(&tallyd);
        }
    }
    read_up(&tallyd);
    wait_until(Duration::from_secs(10), || Books::read(&tallyd).counted >= counted);
    let books = Books::read(&tallyd);
    let refused = books.refused_for("truncated");
    let reply = tallyd.http_get("/api/v1/query?name=revenue&from=-1h&step=1h&stat=sum").body;
    let answer: serde_json::Value = serde_json::from_str(&reply).expect("JSON");
    let points = answer["series"][0]["points"].as_array().expect("points");
    let sum: f64 = points.iter().filter_map(|point| point[1].as_f64()).sum();
    outcome.figure(format!(
        "{cut} datagrams cut by the kernel: {} whole lines counted, {refused} tails refused",
        books.counted
    ));
    outcome.unexplained(counted as i64 - books.counted as i64);
    outcome.unexplained(cut - refused as i64);
    outcome.require(sum == 4_900.0 * counted as f64, format!("a cut number was counted: {sum}"));
}

fn long_line(outcome: &mut Outcome) {
    let tallyd = Launch::native("[graphite]\naddress = []\n").with_tcp().start();
    let before = resident(tallyd.process.id());
    let mut peak = Peak::default();
    let mut stream = tallyd.connect();
    stream.write_all(b"first:1|c\n").expect("tallyd reads");
    for _ in 0..64 {
        stream.write_all(&vec![b'x'; 1 << 20]).expect("tallyd reads");
        peak.look(&tallyd);
    }
    stream.write_all(b":1|c\nlast:1|c\n").expect("tallyd reads");
    let books = Books::wait(&tallyd, |books| books.counted >= 2);
    peak.look(&tallyd);
    let grown = peak.0.saturating_sub(before);
    outcome.figure(format!(
        "a line of 64 MB over TCP: refused {:?}, both its neighbours counted, RSS + {}",
        books.refused,
        mb(grown)
    ));
    outcome.require(books.refused_total() == 1 && books.counted == 2, format!("{:?}", books.refused));
    outcome.require(grown < 8 << 20, format!("memory grew by {}", mb(grown)));
}
