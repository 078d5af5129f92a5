//! Signed datagrams from outside: what is signed counts once, and everything else is refused with its reason.

use crate::books::{Books, refuses_to_start, seconds};
use crate::support::{Launch, Tallyd, free_port, time};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const KEY: &str = "750c783e6ab0b503eaa86e310a5db738";

/// A datagram as a client of brubeck's makes it.
fn sign(key: &str, time: i64, nonce: u32, lines: &str) -> Vec<u8> {
    let rest = [&time.to_le_bytes()[..], &nonce.to_be_bytes(), lines.as_bytes()].concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(&rest);
    [&mac.finalize().into_bytes()[..], &rest].concat()
}

fn launch(port: u16) -> Launch {
    seconds("127.0.0.1:9", "").env("TALLYD_INGEST_SIGNED", &format!("127.0.0.1:{port}"))
}

fn send(port: u16, datagram: &[u8]) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(datagram, (Ipv4Addr::LOCALHOST, port)).unwrap();
}

fn settled(tallyd: &Tallyd, total: u64, refused: &[(&str, u64)]) {
    let books = Books::wait_total(tallyd, total);
    books.assert_refused(refused);
}

#[test]
fn what_is_signed_counts_once_and_all_else_is_refused_with_its_reason() {
    let port = free_port();
    let launch = launch(port).env("TALLYD_INGEST_SIGNED_KEYS", KEY);
    let tallyd = launch.start();
    let now = time::unix_secs();
    let good = sign(KEY, now, 7, "paid:4900|c\npaid:100|c");
    send(port, &good);
    settled(&tallyd, 2, &[]);
    for _ in 0..3 {
        send(port, &good);
    }
    send(port, b"paid:1|c");
    send(port, &sign("another key of someone's", now, 7, "paid:1|c"));
    send(port, &good[..good.len() - 1]);
    send(port, &sign(KEY, now - 120, 8, "paid:1|c"));
    send(port, &sign(KEY, now + 120, 8, "paid:1|c"));
    let refused = [("bad_signature", 3), ("replayed", 3), ("signed_early", 1), ("signed_late", 1)];
    settled(&tallyd, 10, &refused);
    // The same lines with another nonce are another datagram; a bad line is refused as anywhere.
    send(port, &sign(KEY, now, 8, "paid:4900|c\npaid:100|c\nbad"));
    let refused =
        [("bad_signature", 3), ("no_type", 1), ("replayed", 3), ("signed_early", 1), ("signed_late", 1)];
    settled(&tallyd, 13, &refused);
    // Beside it the usual port takes what is not signed, and takes a signed datagram for what it is there: no line.
    tallyd.send_udp(b"plain:1|c");
    Books::wait(&tallyd, |books| books.counted == 5);
    let status = tallyd.http_get("/api/v1/status").body;
    assert!(status.contains(&format!("signed udp 127.0.0.1:{port}")), "{status}");
    let all = tallyd.process.stderr() + &status + &tallyd.console("config");
    assert!(!all.contains(KEY), "the key is shown");
}

#[test]
fn keys_come_from_files_and_a_datagram_is_a_replay_at_every_socket() {
    let (first, second) = (free_port(), free_port());
    let launch = launch(first)
        .env("TALLYD_INGEST_SIGNED", &format!("127.0.0.1:{first},127.0.0.1:{second}"))
        .env("TALLYD_INGEST_SIGNED_KEY_FILES", "key-old,key-new");
    std::fs::write(launch.dir().join("key-old"), format!("{KEY}\n")).unwrap();
    std::fs::write(launch.dir().join("key-new"), "the key that takes its place").unwrap();
    let tallyd = launch.start();
    let now = time::unix_secs();
    let datagrams = [sign(KEY, now, 1, "a:1|c"), sign("the key that takes its place", now, 1, "a:1|c")];
    for (number, datagram) in (1..).zip(&datagrams) {
        send(first, datagram);
        Books::wait(&tallyd, |books| books.counted == number);
        send(second, datagram);
        Books::wait_total(&tallyd, 2 * number).assert_refused(&[("replayed", number)]);
    }
}

#[test]
fn without_a_key_nothing_is_opened() {
    let log = refuses_to_start(&launch(free_port()));
    assert!(log.contains("INGEST_SIGNED") && log.contains("signed_keys"), "{log}");
    let log = refuses_to_start(&launch(free_port()).env("TALLYD_INGEST_SIGNED_KEYS", "short"));
    assert!(log.contains("can be guessed") && !log.contains("short\""), "{log}");
    let log = refuses_to_start(&launch(free_port()).env("TALLYD_INGEST_SIGNED_KEY_FILES", "missing"));
    assert!(log.contains("missing") && log.contains("ingest.signed_key_files"), "{log}");
}

/// Ten thousand that nobody signed cost nothing but a counter, and those between them that are signed count.
#[test]
fn a_flood_of_forgeries_hides_no_datagram() {
    let port = free_port();
    let tallyd = launch(port).env("TALLYD_INGEST_SIGNED_KEYS", KEY).start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let now = time::unix_secs();
    for n in 0..10_000_u32 {
        let mut datagram = sign(KEY, now, n, "good:1|c");
        if n % 100 != 0 {
            datagram[n as usize % 32] ^= 1;
        }
        socket.send_to(&datagram, (Ipv4Addr::LOCALHOST, port)).unwrap();
        if n % 500 == 499 {
            time::sleep(Duration::from_millis(5));
        }
    }
    let books = Books::wait(&tallyd, |books| {
        books.counted + books.kernel_drops + books.refused.values().sum::<u64>() >= 10_000
    });
    assert!(books.counted + books.kernel_drops >= 100, "{books:?}");
    assert_eq!(books.counted + books.kernel_drops + books.refused["bad_signature"], 10_000, "{books:?}");
}
