//! The built program from outside, from line to Graphite: exact sums, times, outages, reloads and stops.

use crate::books::{Books, log, seconds};
use crate::support::process::signal;
use crate::support::sink::{Points, sum_of};
use crate::support::{Launch, Sink, Tallyd, free_port, time};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// A bucket of a second, its grace, an outage's back-off and a busy machine.
const ARRIVES: Duration = Duration::from_secs(25);
/// Two ticks, and no back-off.
const AT_ONCE: Duration = Duration::from_millis(500);
/// The drain is promised in 5 s; the rest is for a busy machine.
const STOPS: Duration = Duration::from_secs(7);

fn by_second(points: &Points, path: &str) -> BTreeMap<i64, f64> {
    let wanted = points.iter().filter(|((name, _), value)| name == path && **value != 0.0);
    wanted.map(|((_, at), value)| (*at, *value)).collect()
}

/// Sends one event in the middle of each of the next seconds; returns those seconds.
fn send_for_seconds(tallyd: &Tallyd, count: i64) -> BTreeMap<i64, f64> {
    let first = time::unix_secs() + 1;
    let each = (first..first + count).map(|second| {
        time::sleep_until(second, Duration::from_millis(400));
        tallyd.send_udp(b"events:1|c");
        (time::unix_secs(), 1.0)
    });
    each.collect()
}

#[test]
fn a_million_times_ten_cents_is_a_hundred_thousand_exactly() {
    const LINES: u64 = 80;
    const DATAGRAMS: u64 = 100;
    let graphite = Sink::start();
    let address = graphite.address();
    let text = format!("[flush]\nbucket = \"1h\"\ntick = \"20ms\"\n[graphite]\naddress = [\"{address}\"]\n");
    // All in one bucket: not across the end of an hour.
    let hour_left = 3_600 - time::unix_secs() % 3_600;
    if hour_left < 45 {
        time::sleep(Duration::from_secs(hour_left as u64));
    }
    let hour = time::unix_secs() / 3_600 * 3_600;
    let tallyd = Launch::native(&text).start();
    let datagram = "revenue:0.10|c\n".repeat(LINES as usize);
    let mut sent = 0;
    while sent < 1_000_000 {
        for _ in 0..DATAGRAMS.min((1_000_000 - sent) / LINES) {
            tallyd.send_udp(datagram.as_bytes());
            sent += LINES;
        }
        Books::wait(&tallyd, |books| books.counted >= sent);
    }
    let books = Books::read(&tallyd);
    books.assert_refused(&[]);
    assert_eq!((books.counted, books.lines, books.kernel_drops), (1_000_000, 1_000_000, 0));
    assert_eq!(tallyd.sigterm(), Some(0));
    let lines: Vec<String> = graphite.lines().into_iter().map(|line| line.text).collect();
    let revenue: Vec<&String> = lines.iter().filter(|line| line.contains("revenue.count ")).collect();
    assert_eq!(revenue, [&format!("stats.counters.revenue.count 100000 {hour}")]);
}

/// The kernel counts what it drops while we do not read, and we account for it to the datagram.
#[test]
fn what_the_kernel_drops_is_counted_to_the_datagram() {
    const SENT: u64 = 5_000;
    let tallyd = seconds("127.0.0.1:9", "[ingest]\nreceive_buffer = \"4KiB\"").start();
    tallyd.send_udp(b"first:1|c");
    Books::wait(&tallyd, |books| books.counted == 1);
    let id = tallyd.process.id().to_string();
    signal("STOP", &id);
    for _ in 1..SENT {
        tallyd.send_udp(b"flood:1|c");
    }
    signal("CONT", &id);
    let books = Books::wait(&tallyd, |books| books.counted + books.kernel_drops >= SENT);
    assert_eq!(books.counted + books.kernel_drops, SENT, "{books:?}");
    assert!(books.kernel_drops > 0 && books.counted > 1, "{books:?}");
    // What came after the flood is counted, and nothing twice.
    tallyd.send_udp(b"last:1|c");
    let counted = books.counted;
    let books = Books::wait(&tallyd, |books| books.counted > counted);
    assert_eq!(books.counted + books.kernel_drops, SENT + 1);
}

#[test]
fn a_timestamp_amends_its_own_bucket_and_has_limits() {
    let graphite = Sink::start();
    let path = "stats.counters.amended.count";
    let launch = seconds(&graphite.address(), "").env("TALLYD_FLUSH_AMEND_WINDOW", "1m");
    let tallyd = launch.start();
    time::sleep_until(time::unix_secs() + 1, Duration::from_millis(300));
    let at = time::unix_secs();
    tallyd.send_udp(b"amended:3|c");
    let value = |points: &Points| points.get(&(path.to_owned(), at)).copied();
    assert!(graphite.wait_for(ARRIVES, |points| value(points) == Some(3.0)).is_some());
    tallyd.send_udp(format!("amended:4|c|T{at}").as_bytes());
    assert!(graphite.wait_for(ARRIVES, |points| value(points) == Some(7.0)).is_some(), "stated again, whole");

    let now = time::unix_secs();
    let long_ago = now - 40;
    tallyd.send_udp(
        format!("amended:5|c|T{long_ago}\nold:1|c|T{}\nearly:1|c|T{}", now - 120, now + 3_600).as_bytes(),
    );
    let books = Books::wait_total(&tallyd, 5);
    books.assert_refused(&[("too_early", 1), ("too_late", 1)]);
    let old = (path.to_owned(), long_ago);
    assert!(graphite.wait_for(ARRIVES, |points| points.get(&old) == Some(&5.0)).is_some());
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(value(&graphite.points()), Some(7.0));
    let refused =
        |path: &str| path.starts_with("stats.counters.early.") || path.starts_with("stats.counters.old.");
    assert!(!graphite.points().keys().any(|(path, _)| refused(path)));
}

#[test]
fn one_dead_destination_delays_the_other_by_nothing_and_gets_all_when_it_is_back() {
    let (alive, mut dead) = (Sink::start(), Sink::start());
    dead.stop();
    let addresses = format!("{},{}", alive.address(), dead.address());
    let tallyd = seconds("127.0.0.1:9", "").env("TALLYD_GRAPHITE_ADDRESS", &addresses).start();
    let path = "stats.counters.events.count";
    let sent = send_for_seconds(&tallyd, 4);
    assert!(alive.wait_for(ARRIVES, |points| by_second(points, path) == sent).is_some());
    for line in alive.lines().iter().filter(|line| line.text.starts_with("stats.counters.events.count 1 ")) {
        let bucket: i64 = line.text.rsplit(' ').next().unwrap().parse().unwrap();
        let age = time::unix_secs() - line.arrived.elapsed().as_secs() as i64 - bucket;
        assert!(age <= 5, "the living one had to wait {age} s: {line:?}");
    }
    // The status knows at once, also while the dead one is left in peace between two attempts.
    let waits = |status: &serde_json::Value| status["graphite"][1]["buckets_waiting"].as_u64() >= Some(4);
    let at_once = time::wait_until(AT_ONCE, || waits(&Books::read(&tallyd).json));
    let status = Books::read(&tallyd).json;
    assert!(at_once, "{status:#}");
    assert_eq!(status["graphite"][0]["failing"], false);
    assert_eq!(status["graphite"][1]["failing"], true);

    dead.start_again();
    assert!(
        dead.wait_for(ARRIVES, |points| by_second(points, path) == sent).is_some(),
        "{:?}",
        dead.points()
    );
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(by_second(&alive.points(), path), sent);
}

#[test]
fn a_kept_connection_serves_many_buckets_and_is_opened_again() {
    let mut graphite = Sink::start();
    let path = "stats.counters.events.count";
    let tallyd = seconds(&graphite.address(), "").env("TALLYD_GRAPHITE_CONNECTION", "kept").start();
    let mut sent = send_for_seconds(&tallyd, 3);
    assert!(graphite.wait_for(ARRIVES, |points| by_second(points, path) == sent).is_some());
    assert_eq!(graphite.connections(), 1);
    graphite.stop();
    sent.extend(send_for_seconds(&tallyd, 2));
    graphite.start_again();
    sent.extend(send_for_seconds(&tallyd, 2));
    let complete = graphite.wait_for(ARRIVES, |points| by_second(points, path) == sent);
    assert!(complete.is_some(), "{sent:?} {:?}", by_second(&graphite.points(), path));
    // What was confirmed before the outage is stated again: Graphite may have lost it.
    let first = format!("{path} 1 {}", sent.first_key_value().unwrap().0);
    assert!(graphite.lines().iter().any(|line| line.connection > 0 && line.text == first), "{first}");
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn sighup_takes_over_names_and_idle_rules_and_a_broken_file_changes_nothing() {
    let graphite = Sink::start();
    let file = |more: &str| {
        format!(
            "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"{}\"]\n{more}",
            graphite.address()
        )
    };
    let launch = Launch::native(&file(""));
    let config = launch.dir().join("tallyd.toml");
    let tallyd = launch.start();
    let id = tallyd.process.id().to_string();
    let logged = |text: &str| time::wait_until(ARRIVES, || tallyd.process.stderr().contains(text));
    tallyd.send_udp(b"shop:1|c");
    assert!(
        graphite.wait_for(ARRIVES, |points| sum_of(points, "stats.counters.shop.count") == 1.0).is_some()
    );

    std::fs::write(&config, file("prefix = \"changed\"\nsuffix = \"host1\"\n[idle]\ncounters = \"drop\"\n"))
        .unwrap();
    signal("HUP", &id);
    assert!(logged("configuration reloaded"));
    tallyd.send_udp(b"shop:2|c");
    let path = "changed.counters.shop.count.host1";
    assert!(graphite.wait_for(ARRIVES, |points| sum_of(points, path) == 2.0).is_some());

    std::fs::write(&config, "[flush]\nbucket = \"1s\"\nbukket = 2\n").unwrap();
    signal("HUP", &id);
    assert!(logged("the configuration is not reloaded, the old one stays"));
    assert!(tallyd.process.stderr().contains("flush.bukket"), "{}", tallyd.process.stderr());
    let at = time::unix_secs();
    time::sleep_until(at + 3, Duration::from_millis(400));
    tallyd.send_udp(b"shop:4|c");
    let points =
        graphite.wait_for(ARRIVES, |points| sum_of(points, path) == 6.0).expect("the old rules hold");
    let idle = points.keys().any(|(name, second)| name == path && (at + 1..at + 3).contains(second));
    assert!(!idle, "counters that are idle send nothing now: {points:#?}");

    std::fs::write(&config, file("").replace("1s", "2s")).unwrap();
    signal("HUP", &id);
    assert!(logged("these take a restart: flush\n"));
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn statsds_file_is_taken_over_when_it_changes() {
    let graphite = Sink::start();
    let port = graphite.port();
    let mut object = String::new();
    let launch = Launch::statsd(|ports| {
        object = format!(
            "{{ port: {}, mgmt_port: {}, flushInterval: 1000, graphiteHost: '127.0.0.1', graphitePort: {port} }}",
            ports.statsd, ports.console,
        );
        object.clone()
    });
    let tallyd = launch.start();
    let own = |points: &Points, path: &str| points.keys().any(|(name, _)| name == path);
    assert!(graphite.wait_for(ARRIVES, |points| own(points, "statsd.numStats")).is_some());
    let changed =
        object.replace("flushInterval", "prefixStats: 'renamed', deleteCounters: true, flushInterval");
    std::fs::write(launch.dir().join("config.js"), changed).unwrap();
    assert!(graphite.wait_for(ARRIVES, |points| own(points, "renamed.numStats")).is_some());
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn a_stop_says_what_it_could_not_deliver() {
    let mut graphite = Sink::start();
    graphite.stop();
    let (launch, tallyd) = with_one_event(&graphite.address());
    let (code, took, log) = stop(&launch, tallyd);
    assert_eq!(code, Some(1), "{log}");
    assert!(took < STOPS, "{took:?}");
    assert!(log.contains(&graphite.address()) && log.contains("lost"), "{log}");
}

#[test]
fn a_receiver_that_never_reads_cannot_hold_up_the_stop() {
    let stalled = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let address = stalled.local_addr().unwrap().to_string();
    let (launch, tallyd) = with_one_event(&address);
    let (code, took, log) = stop(&launch, tallyd);
    assert_eq!(code, Some(1), "{log}");
    assert!(took < STOPS, "{took:?}");

    // Asked twice, it ends at once.
    let (launch, tallyd) = with_one_event(&address);
    signal("TERM", &tallyd.process.id().to_string());
    time::sleep(Duration::from_millis(500));
    let (code, took, log) = stop(&launch, tallyd);
    assert_eq!(code, Some(130), "{log}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A tallyd that has counted one event, for a Graphite that will not take it.
fn with_one_event(graphite: &str) -> (Launch, Tallyd) {
    let launch = seconds(graphite, "");
    let tallyd = launch.start();
    tallyd.send_udp(b"lost:1|c");
    Books::wait(&tallyd, |books| books.counted == 1);
    (launch, tallyd)
}

/// SIGTERM; exit code, time taken, and all that was logged.
fn stop(launch: &Launch, tallyd: Tallyd) -> (Option<i32>, Duration, String) {
    let started = time::now();
    let code = tallyd.sigterm();
    (code, started.elapsed(), log(launch))
}
