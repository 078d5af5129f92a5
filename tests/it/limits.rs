//! Limits from outside: more names than there are places, senders that send too much, names that nobody declared,
//! and connections that say nothing. Each time nothing is lost but detail, or it is refused and counted.

use crate::books::{Books, seconds};
use crate::support::sink::sum_of;
use crate::support::{Sink, long, raise_descriptors, time};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// A bucket of a second, its grace and a busy machine.
const ARRIVES: Duration = Duration::from_secs(30);

fn number(json: &serde_json::Value, pointer: &str) -> u64 {
    json.pointer(pointer)
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("{pointer} in {json:#}"))
}

#[test]
fn beyond_the_limit_of_series_counts_stay_and_detail_goes() {
    let graphite = Sink::start();
    let figures = "[[figure]]\nmetric = \"signups\"\n[limits]\nseries_max = 20\n[ingest]\nthreads = 1";
    let tallyd = seconds(&graphite.address(), figures).with_tcp().start();
    let mut client = tallyd.connect();
    for known in 0..20 {
        client.write_all(format!("known.n{known}:1|c\n").as_bytes()).unwrap();
    }
    Books::wait_total(&tallyd, 20);
    for i in 0..300 {
        let flood = format!(
            "shop.user{i}.hits:2|c\norders:3|c|#user:{i}\nalone{i}:4|c\nshop.time{i}:{i}|ms\nshop.seen{i}:u{}|s\nknown.n{}:1|c\nsignups:1|c\nsignups:1|c|#plan:pro\n",
            i % 7,
            i % 20
        );
        // What a figure names comes last and finds its place all the same.
        client.write_all(flood.as_bytes()).unwrap();
    }
    let books = Books::wait_total(&tallyd, 20 + 300 * 8);
    books.assert_refused(&[]);
    assert_eq!((books.counted, books.kernel_drops), (20 + 300 * 8, 0));
    let books = Books::wait(&tallyd, |books| number(&books.json, "/overflow/names") >= 1_400);
    assert_eq!(number(&books.json, "/overflow/samples"), 300 * 5);
    assert!((1_400..1_600).contains(&number(&books.json, "/overflow/names")), "{:#}", books.json["overflow"]);
    let worst = &books.json["offenders"]["prefixes"]["overflow"];
    assert_eq!((&worst[0]["name"], &worst[0]["count"]), (&"shop".into(), &900.into()), "{worst:#}");
    assert_eq!((&worst[1]["name"], &worst[1]["count"]), (&"orders".into(), &300.into()), "{worst:#}");
    let senders = &books.json["offenders"]["senders"];
    assert_eq!(senders["samples"][0]["name"], "127.0.0.1", "{senders:#}");
    assert_eq!(
        (&senders["samples"][0]["at_least"], &senders["new_series"][0]["at_least"]),
        (&2_420.into(), &22.into())
    );
    let metrics = tallyd.http_get("/metrics").body;
    assert!(metrics.contains("\ntallyd_overflow_samples_total 1500\n"), "{metrics}");
    let page = tallyd.http_get("/").body;
    assert!(page.contains("beyond limits.series_max"), "the page says so");

    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    let counted = |name: &str| sum_of(&points, &format!("stats.counters.{name}.count"));
    assert_eq!(
        ["shop.tallyd_overflow", "orders.tallyd_overflow", "tallyd_overflow", "signups", "statsd.overflow"]
            .map(counted),
        [600.0, 900.0, 1_200.0, 300.0, 1_500.0]
    );
    assert_eq!((0..20).map(|i| counted(&format!("known.n{i}"))).sum::<f64>(), 320.0);
    let timers = |what: &str| sum_of(&points, &format!("stats.timers.shop.tallyd_overflow.{what}"));
    assert_eq!((timers("count"), timers("sum")), (300.0, f64::from(299 * 150)));
    assert!(points.keys().any(|(path, _)| path == "stats.sets.shop.tallyd_overflow.count"), "sets too");
    assert!(!points.keys().any(|(path, _)| path.contains("user1") || path.contains("alone")), "{points:#?}");
}

#[test]
fn what_hostile_names_say_in_the_books_is_only_text() {
    let tallyd = seconds("127.0.0.1:9", "[names]\nsanitize = false\n[limits]\nseries_max = 1").start();
    tallyd.send_udp(b"first:1|c");
    Books::wait_total(&tallyd, 1);
    let evil = ["<script>alert(1)</script>.x", "a\"],[\"counted.x", "\u{202e}\u{7}\\u0000.x"];
    for name in evil {
        tallyd.send_udp(format!("{name}:1|c").as_bytes());
    }
    tallyd.send_udp(format!("{}.x:1|c", "long".repeat(100)).as_bytes());
    let books = Books::wait(&tallyd, |books| {
        books.json["offenders"]["prefixes"]["overflow"].as_array().is_some_and(|all| all.len() >= 4)
    });
    let shown: Vec<&str> = books.json["offenders"]["prefixes"]["overflow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(shown.contains(&"<script>alert(1)</script>") && shown.contains(&"a\"],[\"counted"), "{shown:?}");
    assert!(shown.iter().all(|name| name.len() <= 120), "{shown:?}");
    assert_eq!(tallyd.http_get("/metrics").status, 200);
}

#[test]
fn a_sender_beyond_its_rate_is_refused_and_the_others_are_not() {
    let launch = seconds("127.0.0.1:9", "[limits]\nsender_rate = 1000").with_tcp();
    let tallyd = launch.start();
    let started = time::now();
    let lines = "greedy:1|c\n".repeat(40);
    for _ in 0..100 {
        tallyd.send_udp(lines.as_bytes());
    }
    // Another address of this machine.
    let other = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    for _ in 0..10 {
        other
            .send_to("modest:1|c\n".repeat(20).as_bytes(), (Ipv4Addr::LOCALHOST, tallyd.ports.statsd))
            .unwrap();
    }
    let books = Books::wait_total(&tallyd, 4_200);
    let seconds = started.elapsed().as_secs() + 1;
    assert_eq!(
        (books.counted + books.refused_total(), books.lines),
        (4_200, 4_200),
        "every line is in the books"
    );
    let refused = books.refused_for("sender_rate");
    assert_eq!(refused, books.refused_total());
    assert!(refused >= 4_000_u64.saturating_sub(1_040 + 1_000 * seconds), "{refused} in {seconds} s");
    let most = Books::wait(&tallyd, |books| {
        books.json["offenders"]["senders"]["refused"][0]["count"].as_u64() == Some(refused)
    });
    let refusing = &most.json["offenders"]["senders"]["refused"];
    assert_eq!(
        (&refusing[0]["name"], refusing.as_array().unwrap().len()),
        (&"127.0.0.1".into(), 1),
        "{refusing:#}"
    );
    assert_eq!(most.json["last_refused"]["sender_rate"]["line"], "greedy:1|c");
    // A stream has the same rate as datagrams, and it is one rate.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, tallyd.ports.statsd)).unwrap();
    for _ in 0..50 {
        stream.write_all("greedy:1|c\n".repeat(200).as_bytes()).unwrap();
    }
    let books = Books::wait_total(&tallyd, 14_200);
    let seconds = started.elapsed().as_secs() + 1;
    assert!(books.counted <= 200 + 1_000 * (seconds + 1) + 2_000, "{} in {seconds} s", books.counted);
}

/// A connection from this address of ours, that has said this.
fn connected_from(last: u8, port: u16, said: &[u8]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ARRIVES)).unwrap();
    // It may be closed already.
    stream.write_all(said).ok();
    stream
}

fn is_hung_up(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn one_address_takes_no_more_connections_than_it_may_and_the_others_have_theirs() {
    let tallyd = seconds("127.0.0.1:9", "[limits]\nsender_connections = 3").with_tcp().start();
    let port = tallyd.ports.statsd;
    let _said = [(); 2].map(|()| connected_from(1, port, b"greedy:1|c\n"));
    let mut silent = connected_from(1, port, b"half.a.line:1");
    Books::wait(&tallyd, |books| books.counted == 2);
    // Its third says nothing, and makes room for a fourth when it has had its time.
    let mut tried = Vec::new();
    let let_in = time::wait_until(ARRIVES, || {
        tried.push(connected_from(1, port, b"greedy:1|c\n"));
        let told = |books: &Books| {
            books.counted == 3 || books.refused_for("sender_connections") >= tried.len() as u64
        };
        let books = Books::wait(&tallyd, told);
        time::sleep(Duration::from_millis(100));
        books.counted == 3
    });
    assert!(let_in && is_hung_up(&mut silent));
    assert!(is_hung_up(&mut connected_from(1, port, b"greedy:1|c\n")));
    let _others = [(); 3].map(|()| connected_from(2, port, b"modest:1|c\n"));
    let books = Books::wait(&tallyd, |books| books.counted == 6);
    // All that were tried but the last, the silent one with its half of a line, and the one after.
    let refused = tried.len() as u64 + 1;
    assert_eq!((books.refused_for("sender_connections"), books.refused_for("unterminated")), (refused, 1));
    assert_eq!(books.refused_total(), refused + 1, "{:?}", books.refused);
}

#[test]
fn only_declared_names_are_counted_where_that_is_said() {
    let config = "[[figure]]\nmetric = \"signups\"\n[names]\ndeclared_only = true\ndeclared = [\"shop.*\"]";
    let tallyd = seconds("127.0.0.1:9", config).start();
    for _ in 0..5 {
        tallyd.send_udp(b"signups:1|c\nshop.a:1|c\nother:1|c\nshop:1|c");
    }
    let books = Books::wait_total(&tallyd, 20);
    books.assert_refused(&[("not_declared", 10)]);
    assert_eq!(books.counted, 10);
}

/// Connections that stand open and say nothing, or half of something.
struct Silent {
    streams: Vec<TcpStream>,
    opened: Instant,
}

impl Silent {
    fn open(port: u16, count: usize, said: &[&[u8]]) -> Self {
        let opened = time::now();
        let streams = (0..count).map(|number| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
            // It may have been closed already, for want of room.
            stream.write_all(said[number % said.len()]).ok();
            stream.set_read_timeout(Some(ARRIVES * 3)).unwrap();
            stream
        });
        Self { streams: streams.collect(), opened }
    }

    /// Waits until all have been hung up on; how long that took.
    fn wait_until_cut(self) -> Duration {
        for mut stream in self.streams {
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) => {
                    assert!(
                        !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                        "it stands open"
                    );
                }
            }
        }
        self.opened.elapsed()
    }
}

/// Row 14 of the scoreboard; the whole of it at night.
#[test]
fn thousands_who_say_nothing_hold_nobody_up_and_are_cut() {
    let count = if long() { 5_000 } else { 1_200 };
    raise_descriptors();
    let launch = seconds("127.0.0.1:9", "").with_tcp();
    let tallyd = launch.start();
    let tcp = Silent::open(tallyd.ports.statsd, count, &[b"", b"half.a.line:1"]);
    let half_sent: [&[u8]; 3] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
        b"POST /api/v1/marks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf",
    ];
    let web = Silent::open(tallyd.ports.http, count, &half_sent);
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        tallyd.send_udp(b"udp:1|c");
        let asked = time::now();
        assert_eq!(tallyd.http_get("/").status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    println!("{count} of each: a page in {slowest:?} at most");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // Whoever has something to say finds a place among those who have not.
    time::sleep(Duration::from_millis(1_100));
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, tallyd.ports.statsd)).unwrap();
    client.write_all(b"tcp:1|c\n").unwrap();
    let books = Books::wait(&tallyd, |books| books.counted >= 21);
    assert_eq!((books.counted, books.kernel_drops), (21, 0), "{:#}", books.json);
    let (tcp, web) = (tcp.wait_until_cut(), web.wait_until_cut());
    println!("cut after {tcp:?} (lines) and {web:?} (HTTP)");
    assert!(tcp.max(web) < Duration::from_secs(60), "{tcp:?}, {web:?}");
    client.write_all(b"tcp:1|c\n").unwrap();
    let books = Books::wait(&tallyd, |books| books.counted >= 22);
    let refused = books.refused_for("connection_limit") + books.refused_for("unterminated");
    assert_eq!(books.refused_total(), refused, "{:?}", books.refused);
    assert!(books.refused_for("connection_limit") as usize > count - 1_024, "{:?}", books.refused);
}

/// Who sends a byte now and then is in the same line still.
#[test]
fn a_line_that_trickles_in_has_its_time_too() {
    let tallyd = seconds("127.0.0.1:9", "").with_tcp().start();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, tallyd.ports.statsd)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let started = time::now();
    let cut = time::wait_until(Duration::from_secs(90), || {
        let written = stream.write_all(b"x");
        written.is_err()
            || !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    assert!(cut && started.elapsed() >= Duration::from_secs(15), "{:?}", started.elapsed());
    Books::wait_total(&tallyd, 1).assert_refused(&[("unterminated", 1)]);
}
