//! What should not be sent, from outside: bad lines, cut and broken datagrams, strangers.
//!
//! Two things hold each time: what is good beside it arrives, and the books account for every value, under
//! the reason the documents name.

use crate::books::{Books, seconds};
use crate::support::sink::sum_of;
use crate::support::{Launch, Sink, Tallyd, free_port, time};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A bucket of a second, its grace and a busy machine.
const ARRIVES: Duration = Duration::from_secs(15);

/// Lines with how many of their values are good, and why the others are refused: DogStatsD's and our rules.
const NATIVE: [(&[u8], u64, &[&str]); 38] = [
    (b"a", 0, &["no_type"]),
    (b"a:", 0, &["no_type"]),
    (b"a:1", 0, &["no_type"]),
    (b"a:1|", 0, &["no_type"]),
    (b":1|c", 0, &["empty_name"]),
    (b"\xff\xfe:1|c", 0, &["bad_name"]),
    (b"a:|c", 0, &["bad_value"]),
    (b"a:x|c", 0, &["bad_value"]),
    (b"a:1,5|c", 0, &["bad_value"]),
    (b"a:0x10|c", 0, &["bad_value"]),
    (b"a: 1|c", 0, &["bad_value"]),
    (b"a:\xff|c", 0, &["bad_value"]),
    (b"a:1\0|c", 0, &["bad_value"]),
    (b"a:|s", 0, &["bad_value"]),
    (b"a:|g", 0, &["bad_value"]),
    (b"a:NaN|g", 0, &["not_finite"]),
    (b"a:-Infinity|c", 0, &["not_finite"]),
    (b"a:1e400|ms", 0, &["not_finite"]),
    (b"a:-1|ms", 0, &["negative_timer"]),
    (b"a:1|q", 0, &["unknown_type"]),
    (b"a:1|\xff", 0, &["unknown_type"]),
    (b"a:1|c|@0", 0, &["bad_rate"]),
    (b"a:1|c|@-1", 0, &["bad_rate"]),
    (b"a:1|c|@", 0, &["bad_rate"]),
    (b"a:1|c|@NaN", 0, &["bad_rate"]),
    (b"a:1|c|T", 0, &["bad_timestamp"]),
    (b"a:1|c|Tnow", 0, &["bad_timestamp"]),
    (b"a:1|c|T1", 0, &["too_late"]),
    (b"a:1|c|T99999999999", 0, &["too_early"]),
    (b"_e{5,4}:title|tex", 0, &["bad_event"]),
    (b"_sc|db|7", 0, &["bad_event"]),
    (b"a:1:x:3|c", 2, &["bad_value"]),
    (b"a:1|c:x|c:3|c", 2, &["bad_value"]),
    (b"a\0b:1|c", 1, &[]),
    (b"caf\xff:1|c", 1, &[]),
    (b"a:\xff\xfe|s", 1, &[]),
    (b"a:1|c|#k:\xff,\xff:v", 1, &[]),
    (b"a:1|c\r", 1, &[]),
];

/// The same by statsd's own rules.
const STATSD: [(&[u8], u64, &[&str]); 38] = [
    (b"\r", 0, &["no_type"]),
    (b"a", 0, &["no_type"]),
    (b"a:1", 0, &["no_type"]),
    (b"a:1|c|", 0, &["bad_rate"]),
    (b"a:1|c|0.5", 0, &["bad_rate"]),
    (b"a:1|c|@", 0, &["bad_rate"]),
    (b"a:1|c|@x", 0, &["bad_rate"]),
    (b"a:1|c|@-1", 0, &["bad_rate"]),
    (b"a:1|c|@0", 0, &["bad_rate"]),
    (b"a:1|c|@+0.5", 0, &["bad_rate"]),
    (b"a:1|c|@ 0.5", 0, &["bad_rate"]),
    (b"a:1|c|@Infinity", 0, &["bad_rate"]),
    (b"a:1|c|@2e-1", 1, &[]),
    (b"a:1|c|@2", 1, &[]),
    (b"a:1|c|@0.5|whatever", 1, &[]),
    (b"a:|c", 0, &["bad_value"]),
    (b"a:x|g", 0, &["bad_value"]),
    (b"a:1,5|c", 0, &["bad_value"]),
    (b"a:NaN|c", 0, &["not_finite"]),
    (b"a:Infinity|g", 0, &["not_finite"]),
    (b"a:-1|ms", 0, &["negative_timer"]),
    (b"a:-1|ms\r", 1, &[]),
    (b"a:-0|ms", 1, &[]),
    (b"a:x|s ", 0, &["bad_value"]),
    (b"a:x|s", 1, &[]),
    (b"a:|s", 1, &[]),
    (b"a: |c", 1, &[]),
    (b"a: 1 |c", 1, &[]),
    (b"a:1|", 1, &[]),
    (b"a:1|kv", 1, &[]),
    (b"a:1|h", 1, &[]),
    (b":1|c", 1, &[]),
    (b"a..b:1|c", 1, &[]),
    (b"a:1:2:3|c", 1, &["no_type", "no_type"]),
    (b"a:b:c|s", 1, &["no_type"]),
    (b"a:1|c|#x:1|@0.5", 1, &[]),
    (b"a:1|c|#k;x:v", 1, &[]),
    (b"caf\xc3\xa9 b/c\0:1|c", 1, &[]),
];

/// Sends each line between two good ones, all in a datagram; returns the books once all is entered.
fn send_between_neighbours(tallyd: &Tallyd, lines: &[(&[u8], u64, &[&str])]) -> Books {
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    let mut counted = 0;
    for (number, (line, good, refused)) in lines.iter().enumerate() {
        let mut datagram = format!("before.n{number}:1|c\n").into_bytes();
        datagram.extend_from_slice(line);
        datagram.extend_from_slice(format!("\nafter.n{number}:1|c").as_bytes());
        tallyd.send_udp(&datagram);
        counted += good + 2;
        for reason in *refused {
            *wanted.entry((*reason).to_owned()).or_default() += 1;
        }
    }
    let books = Books::wait_total(tallyd, counted + wanted.values().sum::<u64>());
    assert_eq!(books.refused, wanted, "{:#?}", books.json);
    assert_eq!(books.counted, counted, "{:#?}", books.json);
    assert_eq!(books.lines, 3 * lines.len() as u64);
    assert_eq!((books.packets, books.kernel_drops), (lines.len() as u64, 0));
    books
}

fn assert_neighbours_arrive(graphite: &Sink, count: usize, path: impl Fn(&str) -> String) {
    let arrived = |number, side| path(&format!("{side}.n{number}"));
    let all = graphite.wait_for(ARRIVES, |points| {
        (0..count).all(|number| {
            ["before", "after"].iter().all(|side| sum_of(points, &arrived(number, side)) == 1.0)
        })
    });
    assert!(all.is_some(), "{:#?}", graphite.points());
}

#[test]
fn bad_lines_cost_their_neighbours_nothing() {
    let graphite = Sink::start();
    let tallyd = seconds(&graphite.address(), "").start();
    let books = send_between_neighbours(&tallyd, &NATIVE);
    let shown = &books.json["last_refused"]["negative_timer"];
    assert_eq!(shown["line"], "a:-1|ms");
    assert!(shown["sender"].as_str().is_some_and(|sender| sender.starts_with("127.0.0.1:")), "{shown}");
    assert_neighbours_arrive(&graphite, NATIVE.len(), |name| format!("stats.counters.{name}.count"));
    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    assert_eq!(sum_of(&points, "stats.counters.ab.count"), 1.0, "the NUL is left out");
    assert_eq!(sum_of(&points, "stats.counters.caf.count"), 1.0, "broken UTF-8 is left out");
    assert_eq!(
        sum_of(&points, "stats.counters.statsd.refused.bad_value.count"),
        books.refused_for("bad_value") as f64
    );
}

#[test]
fn bad_lines_cost_their_neighbours_nothing_in_statsds_dialect() {
    let graphite = Sink::start();
    let port = graphite.port();
    let tallyd = Launch::statsd(|ports| {
        format!(
            "{{ port: {}, mgmt_port: {}, flushInterval: 1000, graphiteHost: '127.0.0.1', graphitePort: {port} }}",
            ports.statsd, ports.console,
        )
    })
    .start();
    let books = send_between_neighbours(&tallyd, &STATSD);
    assert_neighbours_arrive(&graphite, STATSD.len(), |name| format!("stats_counts.{name}"));
    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    assert_eq!(sum_of(&points, "stats_counts.statsd.bad_lines_seen"), books.refused_total() as f64);
    assert_eq!(sum_of(&points, "stats_counts.statsd.metrics_received"), books.lines as f64);
    assert_eq!(sum_of(&points, "stats_counts.caf_b-c"), 1.0);
}

#[test]
fn a_flood_of_bad_lines_is_counted_whole_and_logged_once_a_second() {
    let tallyd = seconds("127.0.0.1:9", "").start();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let started = time::now();
    for _ in 0..1_000 {
        let datagram = "flood:x|c\n".repeat(5);
        sender.send_to(datagram.as_bytes(), (Ipv4Addr::LOCALHOST, tallyd.ports.statsd)).unwrap();
        time::sleep(Duration::from_millis(1));
    }
    let books = Books::wait_total(&tallyd, 5_000);
    let seconds_taken = started.elapsed().as_secs() as usize + 1;
    books.assert_refused(&[("bad_value", 5_000)]);
    let log = tallyd.process.stderr();
    let logged: Vec<&str> = log.lines().filter(|line| line.contains("bad_value")).collect();
    assert!((1..=seconds_taken + 1).contains(&logged.len()), "{seconds_taken} s: {logged:#?}");
    let address = sender.local_addr().unwrap().to_string();
    assert!(logged.iter().all(|line| line.contains(&address) && line.contains("flood:x|c")), "{logged:#?}");
}

#[test]
fn the_largest_datagram_is_read_whole_and_empty_ones_are_nothing() {
    let graphite = Sink::start();
    let tallyd = seconds(&graphite.address(), "").start();
    let line = "big.datagram:1|c\n";
    let mut largest = line.repeat(65_507 / line.len());
    let count = (65_507 / line.len()) as u64;
    largest.push_str(&"\n".repeat(65_507 - largest.len()));
    for datagram in ["", "\n", "\n\n\n", "\r\n\r\n", &largest, "crlf:1|c\r\ncrlf:2|ms\r\n"] {
        tallyd.send_udp(datagram.as_bytes());
    }
    let books = Books::wait(&tallyd, |books| books.counted >= count + 2);
    assert_eq!((books.counted, books.packets, books.lines), (count + 2, 6, count + 2));
    books.assert_refused(&[]);
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(sum_of(&graphite.points(), "stats.counters.big.datagram.count"), count as f64);
}

#[test]
fn the_end_of_a_datagram_that_is_too_large_is_refused_and_never_miscounted() {
    let graphite = Sink::start();
    let tallyd = seconds(&graphite.address(), "[limits]\ndatagram_bytes_max = 512").start();
    // Cut between the digits of its last line, in front of the type, behind a newline, and in its only line.
    let pad = |bytes: usize| {
        format!("{}\n", "whole:1|c\n".repeat(bytes / 10 - 1) + &"x".repeat(bytes % 10 + 5) + ":1|c")
    };
    let to = |bytes: usize| {
        let text = pad(bytes);
        assert_eq!(text.len(), bytes);
        text
    };
    let whole = |bytes: usize| (bytes / 10) as u64;
    let cuts = [
        (to(501) + "revenue:4900|c\nlost:1|c", whole(501)),
        (to(499) + "revenue:4900|c", whole(499)),
        (to(512) + "revenue:4900|c", whole(512)),
        (format!("revenue:{}|c", "4".repeat(600)), 0),
    ];
    let mut counted = 0;
    for (datagram, lines) in &cuts {
        tallyd.send_udp(datagram.as_bytes());
        counted += lines;
    }
    tallyd.send_udp(to(512).as_bytes());
    counted += whole(512);
    let books = Books::wait_total(&tallyd, counted + 4);
    books.assert_refused(&[("truncated", 4)]);
    assert_eq!(books.counted, counted);
    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    assert!(!points.keys().any(|(path, _)| path.contains("revenue") || path.contains("lost")), "{points:#?}");
}

#[test]
fn names_tags_and_series_have_limits() {
    let tallyd =
        seconds("127.0.0.1:9", "[ingest]\nthreads = 1\n[limits]\nseries_max = 10\ntags_max = 3").start();
    tallyd.send_udp(format!("{}:1|c", "n".repeat(513)).as_bytes());
    tallyd.send_udp(b"a:1|c|#a:1,b:2,c:3,d:4");
    tallyd.send_udp(format!("a:1|c|#k:{}", "v".repeat(4_096)).as_bytes());
    for number in 0..25 {
        tallyd.send_udp(format!("series.n{number}:1|c").as_bytes());
    }
    tallyd.send_udp(b"series.n0:1|c");
    let books = Books::wait_total(&tallyd, 29);
    books.assert_refused(&[("bad_name", 1), ("too_many_tags", 2)]);
    assert_eq!(books.counted, 26);
    assert_eq!(books.json["overflow"]["samples"], 15, "a series that is known goes on");
}

#[test]
fn only_networks_that_are_allowed_may_send() {
    let strangers = seconds("127.0.0.1:9", "[ingest]\nallow = [\"10.0.0.0/8\"]").start();
    for _ in 0..3 {
        strangers.send_udp(b"a:1|c\nb:1|c");
    }
    let books = Books::wait_total(&strangers, 3);
    books.assert_refused(&[("source", 3)]);
    assert_eq!((books.counted, books.lines), (0, 0));

    let friends = seconds("127.0.0.1:9", "[ingest]\nallow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]");
    // Through a dual-stack socket IPv4 looks like IPv6, and is the same network all the same.
    let dual = format!(":{}", friends.ports.statsd);
    let friends = friends.env("TALLYD_INGEST_UDP", &dual).start();
    friends.send_udp(b"a:1|c\nb:1|c");
    if has_ipv6() {
        send_ipv6(friends.ports.statsd, b"c:1|c");
        Books::wait_total(&friends, 3).assert_refused(&[("source", 1)]);
    }
    assert_eq!(Books::wait(&friends, |books| books.counted >= 2).counted, 2);
}

/// A machine without IPv6 is to serve IPv4 at the address that means both.
#[test]
fn several_addresses_of_both_families_are_served() {
    let launch = seconds("127.0.0.1:9", "");
    let port = launch.ports.statsd;
    let dual = launch.env("TALLYD_INGEST_UDP", &format!("[::]:{port}")).start();
    dual.send_udp(b"a:1|c");
    if has_ipv6() {
        send_ipv6(port, b"a:2|c");
    }
    Books::wait(&dual, |books| books.counted > u64::from(has_ipv6()));
    drop(dual);

    let launch = seconds("127.0.0.1:9", "");
    let (port, other) = (launch.ports.statsd, free_port());
    let mut addresses = format!("127.0.0.1:{port},127.0.0.1:{other}");
    if has_ipv6() {
        addresses = format!("{addresses},[::1]:{port},[::]:{}", free_port());
    }
    let several = launch.env("TALLYD_INGEST_UDP", &addresses).start();
    several.send_udp(b"a:1|c");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"a:1|c", (Ipv4Addr::LOCALHOST, other)).unwrap();
    if has_ipv6() {
        send_ipv6(port, b"a:1|c");
    }
    let wanted = 2 + u64::from(has_ipv6());
    assert_eq!(Books::wait(&several, |books| books.counted >= wanted).counted, wanted);
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

fn send_ipv6(port: u16, datagram: &[u8]) {
    UdpSocket::bind("[::1]:0").unwrap().send_to(datagram, ("::1", port)).unwrap();
}
