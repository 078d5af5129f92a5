//! Sets against a real Redis: the same members give the same registers, and each reads what the other wrote.

use crate::support::{free_port, process::Process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;
use tallyd::metric::unique::{HLL_BYTES, Hll, hash_member};

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
        let mut redis = Self { stream: BufReader::new(stream), _server: server, _dir: dir };
        // Sparse is a way of Redis's own to write small ones; dense is what others read.
        let set = redis.ask(&[b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"0"]);
        assert_eq!(set, Reply::Text("OK".to_owned()));
        redis
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

    fn registers(&mut self, key: &str) -> Vec<u8> {
        let Reply::Bytes(bytes) = self.ask(&[b"GET", key.as_bytes()]) else { panic!("{key} is not there") };
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
        let set = self.ask(&[b"SET", key.as_bytes(), hll.as_bytes()]);
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
    let mut redis = Redis::start();
    for count in [1, 100, 1_000, 10_000, 100_000] {
        let key = format!("theirs-{count}");
        let members = members(0, count);
        redis.add(&key, &members);
        let hll = ours(b"", &members);
        let registers = redis.registers(&key);
        assert!(registers == without_count(hll.as_bytes()), "registers of {count} members differ");
        assert_eq!(redis.count(&[&key]), hll.count(), "{count} members");
        redis.set("ours", &hll);
        assert_eq!(redis.count(&["ours"]), hll.count(), "{count} members, read from ours");
    }
}

#[test]
fn redis_merges_ours_with_its_own() {
    let mut redis = Redis::start();
    redis.add("theirs", &members(0, 30_000));
    let mut union = ours(b"", &members(20_000, 70_000));
    redis.set("ours", &union);
    union.merge(&ours(b"", &members(0, 30_000)));
    assert_eq!(union, ours(b"", &members(0, 70_000)));
    assert_eq!(redis.count(&["ours", "theirs"]), union.count());
    assert_eq!(redis.ask(&[b"PFMERGE", b"both", b"ours", b"theirs"]), Reply::Text("OK".to_owned()));
    assert!(redis.registers("both") == without_count(union.as_bytes()), "registers of the union differ");
    assert_eq!(redis.count(&["both"]), union.count());
    // What Redis adds to ours goes where we would have put it.
    redis.add("ours", &members(0, 30_000));
    assert!(redis.registers("ours") == without_count(union.as_bytes()), "registers differ after PFADD");
}

#[test]
fn a_salt_is_part_of_every_member() {
    let mut redis = Redis::start();
    let plain = members(0, 5_000);
    for salt in [&b"s"[..], b"pepper", b"12345678", b"a longer salt, of some words"] {
        let salted: Vec<_> = plain.iter().map(|member| [salt, member].concat()).collect();
        let hll = ours(salt, &plain);
        assert_ne!(hll, ours(b"", &plain), "the salt changes the registers");
        let key = String::from_utf8_lossy(salt).into_owned();
        redis.add(&key, &salted);
        assert!(redis.registers(&key) == without_count(hll.as_bytes()), "registers of salt {key:?} differ");
    }
}
