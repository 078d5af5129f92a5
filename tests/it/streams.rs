//! Lines over TCP and Unix sockets, from outside: framing, cut lines, rude clients, and files left behind.

use crate::books::{Books, refuses_to_start, seconds};
use crate::support::sink::sum_of;
use crate::support::{Launch, Sink, Tallyd, raise_descriptors, time};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Long enough for two writes to be two reads.
const APART: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(20);
/// Open stream connections that tallyd takes at a time.
const CONNECTIONS_MAX: usize = 1_024;

/// TCP beside UDP, on the same port.
fn tcp(graphite: &str) -> Launch {
    let launch = seconds(graphite, "");
    let address = format!("127.0.0.1:{}", launch.ports.statsd);
    launch.env("TALLYD_INGEST_TCP", &address)
}

fn connect(tallyd: &Tallyd) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, tallyd.ports.statsd)).expect("tallyd takes TCP");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Whether the other end has closed, without an answer.
fn is_closed(mut stream: impl Read) -> bool {
    match stream.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

/// More series under timestamps of their own than a tick has room for: the sender waits, and nothing is refused.
#[test]
fn a_stream_waits_while_a_tick_has_no_room_for_more_timestamps() {
    let graphite = Sink::start();
    let tallyd =
        tcp(&graphite.address()).env("TALLYD_FLUSH_BUCKET", "10s").env("TALLYD_FLUSH_TICK", "2s").start();
    let (mut stream, now) = (connect(&tallyd), time::unix_secs());
    let mut lines = String::new();
    for ago in 0..125 {
        for series in 0..2_000 {
            writeln!(lines, "late.s{series}:1|c|T{}", now - 60 - 10 * ago).unwrap();
        }
    }
    stream.write_all(lines.as_bytes()).unwrap();
    let books = Books::wait(&tallyd, |books| books.lines >= 250_000);
    books.assert_refused(&[]);
    assert_eq!(books.counted, 250_000);
}

#[test]
fn lines_may_be_split_over_writes_anywhere() {
    let graphite = Sink::start();
    let tallyd = tcp(&graphite.address()).start();
    let mut stream = connect(&tallyd);
    for part in
        ["split.li", "nes:1|c\nsplit", ".lines:2|", "c", "\r\n\n", "split.lines:3|c\nsplit.lines:4|c\n"]
    {
        stream.write_all(part.as_bytes()).unwrap();
        time::sleep(APART);
    }
    let books = Books::wait(&tallyd, |books| books.counted >= 4);
    books.assert_refused(&[]);
    assert_eq!((books.counted, books.lines), (4, 4));
    // A connection that stays open does not hold up the stop, and what it sent just before counts.
    stream.write_all(b"split.lines:5|c\n").unwrap();
    assert_eq!(tallyd.sigterm(), Some(0));
    assert_eq!(sum_of(&graphite.points(), "stats.counters.split.lines.count"), 15.0);
}

#[test]
fn a_line_without_end_is_refused_once_and_the_connection_goes_on() {
    let tallyd = tcp("127.0.0.1:9").start();
    let mut stream = connect(&tallyd);
    stream.write_all(b"before:1|c\n").unwrap();
    for _ in 0..16 {
        stream.write_all("x".repeat(1 << 16).as_bytes()).unwrap();
    }
    stream.write_all(b":1|c\nafter:1|c\nafter:1|c\n").unwrap();
    let books = Books::wait(&tallyd, |books| books.counted >= 3);
    books.assert_refused(&[("line_too_long", 1)]);
    assert_eq!((books.counted, books.lines), (3, 4));
    // The longest line that is taken whole, in two parts.
    let longest = format!("longest:1|c|#k:{}", "v".repeat(65_536 - 16));
    stream.write_all(&longest.as_bytes()[..40_000]).unwrap();
    time::sleep(APART);
    stream.write_all(&longest.as_bytes()[40_000..]).unwrap();
    stream.write_all(b"\nafter:1|c\n").unwrap();
    let books = Books::wait(&tallyd, |books| books.counted >= 4);
    books.assert_refused(&[("line_too_long", 1), ("too_many_tags", 1)]);
}

#[test]
fn a_line_that_a_stop_cuts_off_is_refused_too() {
    let graphite = Sink::start();
    let tallyd = tcp(&graphite.address()).start();
    let mut stream = connect(&tallyd);
    stream.write_all(b"good:1|c\nrevenue:490").unwrap();
    Books::wait_total(&tallyd, 1);
    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    assert_eq!(sum_of(&points, "stats.counters.good.count"), 1.0);
    assert_eq!(sum_of(&points, "stats.counters.statsd.refused.unterminated.count"), 1.0);
}

#[test]
fn a_line_that_the_close_cuts_off_is_refused() {
    let graphite = Sink::start();
    let tallyd = tcp(&graphite.address()).start();
    for tail in ["revenue:490", "revenue:4900|c", "r"] {
        let mut stream = connect(&tallyd);
        stream.write_all(format!("good:1|c\n{tail}").as_bytes()).unwrap();
    }
    drop(connect(&tallyd));
    let books = Books::wait_total(&tallyd, 6);
    books.assert_refused(&[("unterminated", 3)]);
    assert_eq!((books.counted, books.lines), (3, 6));
    assert_eq!(tallyd.sigterm(), Some(0));
    assert!(!graphite.points().keys().any(|(path, _)| path.contains("revenue")));
}

#[test]
fn a_client_that_resets_disturbs_nobody() {
    let tallyd = tcp("127.0.0.1:9").start();
    let mut steady = connect(&tallyd);
    for _ in 0..20 {
        steady.write_all(b"steady:1|c\n").unwrap();
        let mut rude = connect(&tallyd);
        rude.write_all(b"rude:1|c\ncut").unwrap();
        time::sleep(Duration::from_millis(10));
        let rude = socket2::Socket::from(rude);
        rude.set_linger(Some(Duration::ZERO)).unwrap();
        drop(rude);
        steady.write_all(b"steady:1|c\n").unwrap();
    }
    // A reset may overtake what was sent before it; what was read of a line counts as cut off.
    let books = Books::wait(&tallyd, |books| books.counted >= 40);
    assert_eq!(books.refused_total(), books.refused_for("unterminated"), "{books:?}");
    assert!(books.counted <= 60, "{books:?}");
    steady.write_all(b"steady:1|c\n").unwrap();
    let counted = books.counted;
    Books::wait(&tallyd, |books| books.counted > counted);
}

/// A page elsewhere may have a browser send what it likes as a body, to any port, and not read the answer.
#[test]
fn a_browser_that_a_page_leads_to_a_stream_counts_nothing() {
    let tallyd = tcp("127.0.0.1:9").start();
    let body = "\r\n\r\nrevenue:4900|c\nrevenue:4900|c\n";
    let long = "a".repeat(200_000);
    let heads = [
        "POST / HTTP/1.1\r\nHost: 127.0.0.1".to_owned(),
        "GET /revenue:1|c HTTP/1.0\r\n".to_owned(),
        // The first line is refused for its length, the second tells.
        format!("POST /{long} HTTP/1.1\r\nHost: 127.0.0.1"),
        format!("POST /{} HTTP/1.1\r\nhost: 127.0.0.1", &long[..16_384 - 10]),
    ];
    for (head, apart) in heads.iter().flat_map(|head| [(head, false), (head, true)]) {
        let mut stream = connect(&tallyd);
        let request = format!("{head}{body}").into_bytes();
        let (first, second) = request.split_at(if apart { 12 } else { request.len() });
        // It may be hung up on before all is written.
        if stream.write_all(first).is_ok() && apart {
            time::sleep(APART);
            stream.write_all(second).ok();
        }
        assert!(is_closed(&stream), "{head:.40}");
    }
    let mut stream = connect(&tallyd);
    // What ends so on a later line is a line like any other.
    stream.write_all(b"orders:1|c\norders:1|c\nx HTTP/1.1\norders:1|c\n").unwrap();
    let books = Books::wait(&tallyd, |books| books.counted == 3 && books.refused_for("http_request") == 8);
    books.assert_refused(&[("http_request", 8), ("line_too_long", 2), ("no_type", 1)]);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    raise_descriptors();
    let tallyd = tcp("127.0.0.1:9").start();
    let mut open: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&tallyd)).collect();
    for stream in &mut open {
        stream.write_all(b"held:1|c\n").unwrap();
    }
    let all = CONNECTIONS_MAX as u64;
    Books::wait(&tallyd, |books| books.counted == all).assert_refused(&[]);
    for _ in 0..10 {
        assert!(is_closed(connect(&tallyd)));
    }
    Books::wait_total(&tallyd, all + 10).assert_refused(&[("connection_limit", 10)]);
    // A place that is given back is taken again; UDP never noticed.
    open.pop();
    tallyd.send_udp(b"udp:1|c");
    let again = time::wait_until(TIMEOUT, || {
        let mut stream = connect(&tallyd);
        stream.set_read_timeout(Some(APART)).unwrap();
        let open = stream.write_all(b"again:1|c\n").is_ok() && !is_closed(&stream);
        time::sleep(APART);
        open
    });
    assert!(again);
    Books::wait(&tallyd, |books| books.counted >= all + 2);
}

#[test]
fn unix_sockets_take_datagrams_and_connections_and_leave_no_file() {
    let graphite = Sink::start();
    let launch = seconds(&graphite.address(), "[ingest]\nunix = [\"gram.sock\", \"stream:stream.sock\"]");
    let (gram, stream) = (launch.dir().join("gram.sock"), launch.dir().join("stream.sock"));
    // What a crash leaves behind is replaced.
    drop(UnixDatagram::bind(&gram).unwrap());
    drop(UnixListener::bind(&stream).unwrap());
    let tallyd = launch.start();
    send_gram(&gram, b"unix.gram:1|c\nunix.gram:2|c");
    send_gram(&gram, b"");
    let mut connection = UnixStream::connect(&stream).unwrap();
    connection.write_all(b"unix.stream:1|c\nunix.").unwrap();
    time::sleep(APART);
    connection.write_all(b"stream:2|c\ncut").unwrap();
    drop(connection);
    let books = Books::wait_total(&tallyd, 5);
    books.assert_refused(&[("unterminated", 1)]);
    assert_eq!(tallyd.sigterm(), Some(0));
    let points = graphite.points();
    assert_eq!(sum_of(&points, "stats.counters.unix.gram.count"), 3.0);
    assert_eq!(sum_of(&points, "stats.counters.unix.stream.count"), 3.0);
    assert!(!gram.exists() && !stream.exists(), "the files are gone");

    let crashed = launch.start();
    crashed.kill9();
    assert!(gram.exists());
    let tallyd = launch.start();
    send_gram(&gram, b"again:1|c");
    Books::wait(&tallyd, |books| books.counted == 1);
}

fn send_gram(path: &Path, datagram: &[u8]) {
    UnixDatagram::unbound().unwrap().send_to(datagram, path).unwrap();
}

#[test]
fn what_is_not_ours_at_a_unix_path_is_left_alone() {
    for address in ["taken", "stream:taken"] {
        let launch = seconds("127.0.0.1:9", &format!("[ingest]\nunix = [\"{address}\"]"));
        let path = launch.dir().join("taken");
        std::fs::write(&path, "precious").unwrap();
        let log = refuses_to_start(&launch);
        assert!(
            log.contains("ingest.unix") && log.contains("taken") && log.contains("not a socket"),
            "{log}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();

        // Somebody listens there, in either manner.
        let gram = UnixDatagram::bind(&path).unwrap();
        let log = refuses_to_start(&launch);
        assert!(log.contains("ingest.unix") && log.contains("in use"), "{log}");
        assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        send_gram(&path, b"ours");
        assert_eq!(gram.recv(&mut [0; 8]).unwrap(), 4);
        std::fs::remove_file(&path).unwrap();

        let listener = UnixListener::bind(&path).unwrap();
        let log = refuses_to_start(&launch);
        assert!(log.contains("in use"), "{log}");
        UnixStream::connect(&path).expect("its socket is still there");
        drop(listener);
    }
}
