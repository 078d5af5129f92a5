//! Row 10 of the scoreboard: millions of names that nobody has sent before, and what the process takes meanwhile as
//! the system measures it. A sentinel is counted exactly, the total of what overflowed is right, and afterwards all is
//! as it was.

use crate::books::{Books, seconds};
use crate::support::{Launch, Tallyd, long, time};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const LINES_A_WRITE: u64 = 500;
/// Ten million names, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Two buckets of a second, and a busy machine.
const ROOM: Duration = Duration::from_secs(60);

/// A store, a bound and a flood.
struct Flood {
    memory_mib: u64,
    names: u64,
    /// The line of a name.
    line: fn(u64) -> String,
}

impl Flood {
    fn launch(&self) -> Launch {
        let config = format!(
            "[[figure]]\nmetric = \"signups\"\n[limits]\nmemory_max = \"{}MiB\"\n[rollup]\nkeep = {{ \"1s\" = \"1h\", \"1m\" = \"1d\" }}",
            self.memory_mib
        );
        seconds("", &config).env("TALLYD_GRAPHITE_ADDRESS", "").with_tcp()
    }

    /// Sends the names from two threads, and with each write a sentinel, and lines of a series that is known.
    fn send(&self, tallyd: &Tallyd) -> u64 {
        let mut one = tallyd.connect();
        one.write_all(b"known.before:1|c\n").unwrap();
        Books::wait_total(tallyd, 1);
        let writes = self.names / 2 / LINES_A_WRITE;
        let sender = |mut stream: TcpStream, first: u64| {
            for write in 0..writes {
                let from = first + write * LINES_A_WRITE;
                let mut text: String =
                    (from..from + LINES_A_WRITE).map(|number| (self.line)(mixed(number))).collect();
                text.push_str("signups:1|c\nknown.before:1|c\n");
                stream.write_all(text.as_bytes()).unwrap();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| sender(tallyd.connect(), 0));
            scope.spawn(|| sender(one, self.names / 2));
        });
        2 * writes
    }

    fn play(&self, launch: &Launch) {
        let tallyd = launch.start();
        let writes = self.send(&tallyd);
        let sent = writes * (LINES_A_WRITE + 2) + 1;
        let mut books = Books::read(&tallyd);
        assert!(
            time::wait_until(PATIENCE, || {
                time::sleep(Duration::from_millis(100));
                books = Books::read(&tallyd);
                books.counted + books.refused_total() >= sent
            }),
            "{:#}",
            books.json
        );
        books.assert_refused(&[]);
        assert_eq!((books.counted, books.kernel_drops), (sent, 0));
        let overflow = books.json["overflow"]["samples"].as_u64().unwrap();
        assert!(overflow > 0, "{:#}", books.json);
        let peak = peak_mib(&tallyd);
        println!(
            "{} names: at most {peak} of {} MiB; {:#}",
            self.names, self.memory_mib, books.json["memory"]
        );
        assert!(peak <= self.memory_mib, "{peak} of {} MiB: {:#}", self.memory_mib, books.json["memory"]);
        comes_to(&tallyd, &["signups"], writes);
        comes_to(&tallyd, &["flood.tallyd_overflow", "known.tallyd_overflow"], overflow);
        comes_to(&tallyd, &["known.before", "known.tallyd_overflow"], writes + 1);
        self.is_normal_again(&tallyd, overflow, writes);
    }

    /// What is known goes on by itself, and nothing is given up any more.
    fn is_normal_again(&self, tallyd: &Tallyd, overflow: u64, writes: u64) {
        let rested = Books::wait_for(tallyd, Duration::from_secs(120), |books| {
            books.json["memory"]["giving_up"].as_array().unwrap().iter().all(|step| step == "history")
        });
        let before = rested.counted;
        for _ in 0..20 {
            tallyd.send_udp(b"signups:1|c\nknown.before:1|c");
            time::sleep(Duration::from_millis(50));
        }
        let books = Books::wait(tallyd, |books| books.counted >= before + 40);
        assert_eq!(books.json["overflow"]["samples"].as_u64(), Some(overflow), "{:#}", books.json);
        comes_to(tallyd, &["signups"], writes + 20);
        // Names that are new find places again, since those that came once have made room.
        let started = time::now();
        let (mut counted, mut beyond) = (books.counted, overflow);
        let found = time::wait_until(ROOM, || {
            let fresh = mixed(u64::MAX - counted);
            tallyd.send_udp(format!("fresh.n{fresh}:1|c").as_bytes());
            let books = Books::wait(tallyd, |books| books.counted > counted);
            counted = books.counted;
            let now = books.json["overflow"]["samples"].as_u64().unwrap();
            std::mem::replace(&mut beyond, now) == now
        });
        let books = Books::read(tallyd);
        println!("new names have places after {:?}: {:#}", started.elapsed(), books.json["overflow"]);
        assert!(found && books.json["overflow"]["made_room"].as_u64() > Some(0), "{:#}", books.json);
        assert!(peak_mib(tallyd) <= self.memory_mib);
    }
}

/// A number that looks like chance, and a different one for each.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The most that the process has taken of the machine's memory.
fn peak_mib(tallyd: &Tallyd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tallyd.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap().div_ceil(1_024)
}

/// Waits until the store has so much of some names together: the books are a moment ahead of it.
fn comes_to(tallyd: &Tallyd, names: &[&str], wanted: u64) {
    let mut found = 0.0;
    let reached = time::wait_until(Duration::from_secs(60), || {
        found = names.iter().map(|name| total(tallyd, name)).sum();
        found == wanted as f64
    });
    assert!(reached, "{names:?}: {found} of {wanted}");
}

/// All that the store has of a name.
fn total(tallyd: &Tallyd, name: &str) -> f64 {
    let reply = tallyd.http_get(&format!("/api/v1/query?name={name}&from=-1h&step=1m&stat=count"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let series = answer["series"].as_array().unwrap();
    series
        .iter()
        .flat_map(|one| one["points"].as_array().unwrap())
        .filter_map(|point| point[1].as_f64())
        .sum()
}

fn counter(number: u64) -> String {
    format!("flood.{number:016x}.hits:1|c\n")
}

fn timer(number: u64) -> String {
    format!("flood.{:x}.time:{}|ms\n", number, number % 1_000)
}

#[test]
fn names_without_end_stay_within_their_memory() {
    let names = if long() { 10_000_000 } else { 400_000 };
    let memory_mib = if long() { 512 } else { 96 };
    let flood = Flood { memory_mib, names, line: counter };
    flood.play(&flood.launch());
}

#[test]
fn so_do_timers_on_a_store_on_disk() {
    let names = if long() { 10_000_000 } else { 300_000 };
    let memory_mib = if long() { 512 } else { 160 };
    let flood = Flood { memory_mib, names, line: timer };
    flood.play(&flood.launch().with_store());
}
