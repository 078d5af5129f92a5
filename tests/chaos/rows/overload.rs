//! Rows 13, 14 and 19: more than can be read, connections without end, and ten thousand that look on.

use crate::board::{Outcome, step};
use crate::books::{Books, seconds};
use crate::feed::{Feed, LINES, To, kernel, mb};
use crate::readers::{self, Latencies, Readers};
use crate::subject::Subject;
use crate::support::process::signal;
use crate::support::{Launch, Tallyd, http, time, wait_until};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Datagrams that take longer to read than to send: hundreds of series each, all different.
fn heavy() -> Vec<Vec<u8>> {
    let line =
        |n: usize| format!("load.service{}.endpoint{n}:{n}|ms|#host:web{},region:eu\n", n % 97, n % 13);
    (0..400).map(|d| (0..120).flat_map(|n| line(d * 120 + n).into_bytes()).collect()).collect()
}

/// Sends as fast as it can, or so many datagrams a second; returns how many were sent.
fn flood(port: u16, datagrams: &[Vec<u8>], span: Duration, rate: f64) -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let started = time::now();
    let mut sent = 0;
    while started.elapsed() < span {
        for _ in 0..16 {
            let bytes = &datagrams[sent as usize % datagrams.len()];
            sent += u64::from(socket.send_to(bytes, (Ipv4Addr::LOCALHOST, port)).is_ok());
        }
        let due = Duration::from_secs_f64(sent as f64 / rate);
        time::sleep(due.saturating_sub(started.elapsed()));
    }
    sent
}

/// Waits until all that the kernel had is read and entered.
fn settle(tallyd: &Tallyd) -> Books {
    let port = tallyd.ports.statsd;
    wait_until(Duration::from_secs(60), || kernel(port).1 == 0);
    // Two ticks.
    time::sleep(Duration::from_secs(1));
    Books::read(tallyd)
}

/// What tallyd reports, against what the kernel says itself and what was sent.
pub(crate) fn overload(outcome: &mut Outcome) {
    outcome.wants_a_quiet_machine();
    let tallyd = seconds("127.0.0.1:9", "[ingest]\nthreads = 1").env("TALLYD_GRAPHITE_ADDRESS", "").start();
    let (port, datagrams) = (tallyd.ports.statsd, heavy());
    let mut sent = flood(port, &datagrams, Duration::from_secs(4), 1e9);
    let books = settle(&tallyd);
    let capacity = books.packets as f64 / 4.0;
    step(&format!("{capacity:.0} datagrams a second are taken"));
    let before = books;
    let span = Duration::from_secs(30);
    // More is read when it is sent evenly than when the sender takes all it can get of the machine.
    let offered = flood(port, &datagrams, span, 4.0 * capacity);
    sent += offered;
    let books = settle(&tallyd);
    let taken = books.packets - before.packets;
    let ratio = offered as f64 / taken as f64;
    let said = |books: &Books| books.packets + books.kernel_drops;
    outcome.figure(format!(
        "{offered} datagrams in 30 s, {ratio:.1} times what was read: read {taken}, drops reported {}, the kernel's own count {}",
        books.kernel_drops,
        kernel(port).0
    ));
    outcome.unexplained(sent as i64 - said(&books) as i64);
    outcome.require(books.kernel_drops == kernel(port).0, "the drops reported are not the kernel's");
    outcome.require(ratio >= 2.0, format!("the load was only {ratio:.1} times what was read"));

    let dropped = books.kernel_drops;
    let id = tallyd.process.id().to_string();
    signal("STOP", &id);
    sent += flood(port, &datagrams, Duration::from_secs(2), 5_000.0);
    signal("CONT", &id);
    let books = settle(&tallyd);
    outcome.figure(format!(
        "reader stopped for 2 s: {} more drops reported, the kernel's own count {}",
        books.kernel_drops - dropped,
        kernel(port).0 - dropped
    ));
    outcome.unexplained(sent as i64 - said(&books) as i64);
    outcome.require(books.kernel_drops == kernel(port).0, "the drops reported are not the kernel's");
    outcome.require(books.kernel_drops > dropped, "nothing was dropped, so that this was no stop");
}

/// Connections that the kernel holds for a port, as its own end sees them.
fn connections(port: u16) -> usize {
    let end = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let of_ours = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().is_some_and(|local| local.ends_with(&end));
        local && columns.nth(1) == Some("01")
    };
    table.lines().filter(of_ours).count()
}

/// Opens so many connections and leaves each in the middle of something.
fn half_open(port: u16, count: usize, begun: &[u8]) -> Vec<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let open = |_| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
        stream.write_all(begun).ok()?;
        Some(stream)
    };
    (0..count).filter_map(open).collect()
}

/// 5,000 TCP connections in the middle of a line, 5,000 HTTP requests in the middle of their head.
pub(crate) fn half_open_connections(outcome: &mut Outcome) {
    const EACH: usize = 5_000;
    outcome.wants_a_quiet_machine();
    let launch = Launch::native("[graphite]\naddress = []\n").with_tcp();
    let tallyd = launch.start();
    let (statsd, page) = (tallyd.ports.statsd, tallyd.ports.http);
    let feed = Feed::start(&To::Udp(statsd), 50_000);
    let lines = half_open(statsd, EACH, b"half.a.line:1");
    let requests = half_open(page, EACH, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ");
    let opened = time::now();
    let held = (connections(statsd), connections(page));
    outcome.figure(format!(
        "of {} and {} held: {} TCP, {} HTTP",
        lines.len(),
        requests.len(),
        held.0,
        held.1
    ));
    let mut slowest = Duration::ZERO;
    let mut failed = 0;
    let mut gone = None;
    let mut asked = 0;
    while opened.elapsed() < Duration::from_secs(40) && gone.is_none() {
        let before = time::now();
        let reply = http::get(page, "/");
        slowest = slowest.max(before.elapsed());
        asked += 1;
        failed += usize::from(!reply.is_ok_and(|reply| reply.status == 200));
        if connections(statsd) == 0 && connections(page) <= 1 {
            gone = Some(opened.elapsed());
        }
        time::sleep(Duration::from_millis(500));
    }
    let left = (connections(statsd), connections(page));
    let sent = feed.stop() * LINES;
    let drops = kernel(statsd).0 * LINES;
    wait_until(Duration::from_secs(10), || Books::read(&tallyd).counted + drops >= sent);
    let books = Books::read(&tallyd);
    outcome.unexplained(sent as i64 - (books.counted + drops) as i64);
    outcome.figure(format!(
        "UDP beside them: {sent} lines, counted {}, dropped by the kernel {drops}",
        books.counted
    ));
    outcome.figure(format!("a new page {asked} times: {} ms at most, {failed} failed", slowest.as_millis()));
    outcome.require(drops == 0, "UDP lost lines");
    outcome.require(
        slowest <= Duration::from_secs(1) && failed == 0,
        format!("a page took {slowest:?}, {failed} failed"),
    );
    match gone {
        Some(after) => outcome.figure(format!("all cut after {:.0} s", after.as_secs_f64())),
        None => outcome.figure(format!("after 40 s open still: {} TCP, {} HTTP", left.0, left.1)),
    }
    outcome.require(
        gone.is_some_and(|after| after <= Duration::from_secs(31)),
        format!("{} TCP and {} HTTP connections are not cut", left.0, left.1),
    );
}

/// 9,000 that read and 1,000 that do not.
pub(crate) fn viewers(outcome: &mut Outcome) {
    const WELL: usize = 9_000;
    const DEAD: usize = 1_000;
    outcome.wants_a_quiet_machine();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let subject = Subject::start();
    let before = subject.rss_bytes();
    let well = Readers::connect(&runtime, &subject, WELL);
    let dead = readers::stuck(&subject, DEAD);
    let opened = time::now();
    let held = subject.connections();
    let mut latencies = Vec::new();
    let mut peak = subject.rss_bytes();
    while opened.elapsed() < Duration::from_secs(60)
        && (subject.connections() > WELL || latencies.len() < 10 * WELL)
    {
        latencies.extend(well.round(&subject));
        peak = peak.max(subject.rss_bytes());
    }
    let (cut, after) = (held - subject.connections(), opened.elapsed());
    let latencies = Latencies::of(latencies);
    drop(dead);
    drop(well);
    let back = |subject: &Subject| subject.rss_bytes().saturating_sub(before);
    wait_until(Duration::from_secs(20), || back(&subject) < 16 << 20);
    let left = back(&subject);
    outcome.figure(format!(
        "event to client: median {:.0} ms, p99 {:.0} ms, most {:.0} ms",
        latencies.at(0.5),
        latencies.at(0.99),
        latencies.at(1.0)
    ));
    outcome.figure(format!(
        "{held} streams cost {} ({} bytes each); {} remain when all have left",
        mb(peak - before),
        (peak - before) / held as u64,
        mb(left)
    ));
    outcome.figure(format!("{cut} dead ones cut within {:.0} s", after.as_secs_f64()));
    outcome.require(held >= WELL + DEAD, format!("only {held} were let in"));
    outcome.require(latencies.at(0.99) <= 1_000.0, format!("p99 {:.0} ms", latencies.at(0.99)));
    outcome.require((peak - before) / held as u64 <= 12 << 10, "more than 12 KiB each");
    outcome.require(left <= 32 << 20, format!("{} remain", mb(left)));
    outcome.require(cut >= DEAD, format!("{cut} of {DEAD} dead ones were cut"));
}
