//! Sets against a real Redis: the same members give the same registers, and each reads what the other wrote.

use crate::support::{free_port, process::Process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;
use tallyd::metric::hll::{HLL_BYTES, Hll, SPARSE_BYTES_MAX};
use tallyd::metric::unique::hash_member;

const READY: Duration = Duration::from_secs(20);
/// Bytes of the header that say nothing of the members: the count that Redis caches.
const CACHED_COUNT: std::ops::Range<usize> = 8..16;

/// A server of its own, in a temporary directory, and one connection to it.
struct Redis {
    stream: BufReader<TcpStream>,
    _server: Process,
    _dir: tempfile::TempDir,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Text(String),
    Number(u64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
}

impl Redis {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("redis-server");
        let port_text = port.to_string();
        command.args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(dir.path());
        let mut server = Process::start("redis", &command, dir.path());
        let mut stream = None;
        server.wait_ready(READY, |_| {
            stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(READY)).unwrap();
        Self { stream: BufReader::new(stream), _server: server, _dir: dir }
    }

    /// From now on it writes small ones dense too, one byte after another as ours are.
    fn dense(mut self) -> Self {
        let set = self.ask(&[b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"0"]);
        assert_eq!(set, Reply::Text("OK".to_owned()));
        self
    }

    /// One command in Redis's protocol: its parts, each with its length.
    fn ask(&mut self, parts: &[&[u8]]) -> Reply {
        let mut text = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            text.extend(format!("${}\r\n", part.len()).bytes());
            text.extend(*part);
            text.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&text).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (sign, rest) = line.trim_end().split_at(1);
        match sign {
            "+" => Reply::Text(rest.to_owned()),
            ":" => Reply::Number(rest.parse().unwrap()),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            "*" => Reply::List((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            _ => panic!("Redis says {line:?}"),
        }
    }

    fn add(&mut self, key: &str, members: &[Vec<u8>]) {
        for some in members.chunks(1_000) {
            let mut parts: Vec<&[u8]> = vec![b"PFADD", key.as_bytes()];
            parts.extend(some.iter().map(Vec::as_slice));
            assert!(matches!(self.ask(&parts), Reply::Number(_)));
        }
    }

    fn get(&mut self, key: &str) -> Vec<u8> {
        let Reply::Bytes(bytes) = self.ask(&[b"GET", key.as_bytes()]) else { panic!("{key} is not there") };
        bytes
    }

    fn registers(&mut self, key: &str) -> Vec<u8> {
        let bytes = self.get(key);
        assert_eq!(bytes.len(), HLL_BYTES, "{key} is not dense");
        without_count(&bytes)
    }

    fn count(&mut self, keys: &[&str]) -> u64 {
        let mut parts: Vec<&[u8]> = vec![b"PFCOUNT"];
        parts.extend(keys.iter().map(|key| key.as_bytes()));
        let Reply::Number(count) = self.ask(&parts) else { panic!("PFCOUNT gives a number") };
        count
    }

    fn set(&mut self, key: &str, hll: &Hll) {
        let set = self.ask(&[b"SET", key.as_bytes(), &hll.to_redis()]);
        assert_eq!(set, Reply::Text("OK".to_owned()));
    }
}

fn without_count(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..CACHED_COUNT.start], &bytes[CACHED_COUNT.end..]].concat()
}

/// Members of every length from one byte to some forty, text and not.
fn members(from: u32, to: u32) -> Vec<Vec<u8>> {
    let member = |i: u32| match i % 3 {
        0 => i.to_string().into_bytes(),
        1 => format!("user-{i}@{}example.org", "x".repeat(i as usize % 23)).into_bytes(),
        _ => [&i.to_le_bytes()[..], &[0xff; 9][..i as usize % 9]].concat(),
    };
    (from..to).map(member).collect()
}

fn ours(salt: &[u8], members: &[Vec<u8>]) -> Hll {
    let mut hll = Hll::default();
    for member in members {
        hll.insert(hash_member(salt, member));
    }
    hll
}

#[test]
fn registers_are_those_of_redis_and_each_reads_the_other() {
    let mut redis = Redis::start().dense();
    for count in [1, 100, 1_000, 10_000, 100_000] {
        let key = format!("theirs-{count}");
        let members = members(0, count);
        redis.add(&key, &members);
        let hll = ours(b"", &members);
        let registers = redis.registers(&key);
        assert!(registers == without_count(&hll.to_dense()), "registers of {count} members differ");
        assert_eq!(redis.count(&[&key]), hll.count(), "{count} members");
        redis.set("ours", &hll);
        assert_eq!(redis.count(&["ours"]), hll.count(), "{count} members, read from ours");
    }
}

#[test]
fn redis_merges_ours_with_its_own() {
    let mut redis = Redis::start().dense();
    redis.add("theirs", &members(0, 30_000));
    let mut union = ours(b"", &members(20_000, 70_000));
    redis.set("ours", &union);
    union.merge(&ours(b"", &members(0, 30_000)));
    assert_eq!(union, ours(b"", &members(0, 70_000)));
    assert_eq!(redis.count(&["ours", "theirs"]), union.count());
    assert_eq!(redis.ask(&[b"PFMERGE", b"both", b"ours", b"theirs"]), Reply::Text("OK".to_owned()));
    assert!(redis.registers("both") == without_count(&union.to_dense()), "registers of the union differ");
    assert_eq!(redis.count(&["both"]), union.count());
    // What Redis adds to ours goes where we would have put it.
    redis.add("ours", &members(0, 30_000));
    assert!(redis.registers("ours") == without_count(&union.to_dense()), "registers differ after PFADD");
}

#[test]
fn sparse_ones_are_read_by_redis_and_theirs_by_us() {
    let mut redis = Redis::start();
    let mut forms = [0, 0];
    for count in [0, 1, 2, 30, 257, 800, 1_000, 1_100, 1_300, 1_600, 3_000, 20_000] {
        let members = members(0, count);
        let hll = ours(b"", &members);
        let bytes = hll.to_redis();
        forms[usize::from(bytes.len() <= SPARSE_BYTES_MAX)] += 1;
        redis.ask(&[b"DEL", b"theirs"]);
        redis.ask(&[b"PFADD", b"theirs"]);
        redis.add("theirs", &members);
        let theirs = Hll::from_redis(&redis.get("theirs")).unwrap();
        assert!(theirs == hll, "registers of {count} members differ");
        redis.set("ours", &hll);
        assert_eq!(redis.count(&["ours"]), hll.count(), "{count} members, read from ours");
        assert_eq!(redis.count(&["ours", "theirs"]), hll.count(), "{count} members, from both");
        let more = self::members(count, count + 500);
        let mut union = hll.clone();
        union.merge(&ours(b"", &more));
        redis.add("more", &more);
        assert_eq!(redis.ask(&[b"PFMERGE", b"both", b"ours", b"more"]), Reply::Text("OK".to_owned()));
        assert!(Hll::from_redis(&redis.get("both")) == Ok(union.clone()), "the union after {count}");
        redis.add("ours", &more);
        assert!(Hll::from_redis(&redis.get("ours")) == Ok(union), "what PFADD makes of ours after {count}");
        redis.ask(&[b"DEL", b"more", b"both"]);
    }
    assert!(forms[0] >= 2 && forms[1] >= 6, "both forms were tried: {forms:?}");
}

#[test]
fn redis_finds_our_sparse_bytes_register_by_register() {
    let mut redis = Redis::start();
    for count in [1, 300, 1_100] {
        let hll = ours(b"", &members(0, count));
        assert!(hll.to_redis().len() <= SPARSE_BYTES_MAX, "{count} members are sparse");
        redis.set("ours", &hll);
        // It lists the registers, and makes them dense.
        let Reply::List(registers) = redis.ask(&[b"PFDEBUG", b"GETREG", b"ours"]) else { panic!("no list") };
        assert_eq!(registers.len(), 16_384);
        assert!(redis.registers("ours") == without_count(&hll.to_dense()), "registers of {count} differ");
        let above = registers.iter().filter(|register| **register != Reply::Number(0)).count();
        assert!(above > 0 && above <= count as usize);
    }
}

#[test]
fn a_salt_is_part_of_every_member() {
    let mut redis = Redis::start().dense();
    let plain = members(0, 5_000);
    for salt in [&b"s"[..], b"pepper", b"12345678", b"a longer salt, of some words"] {
        let salted: Vec<_> = plain.iter().map(|member| [salt, member].concat()).collect();
        let hll = ours(salt, &plain);
        assert_ne!(hll, ours(b"", &plain), "the salt changes the registers");
        let key = String::from_utf8_lossy(salt).into_owned();
        redis.add(&key, &salted);
        assert!(redis.registers(&key) == without_count(&hll.to_dense()), "registers of salt {key:?} differ");
    }
}
