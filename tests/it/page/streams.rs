//! The stream by itself, without a browser: what is sent, how often, to how many, and what becomes of those who do
//! not read.

use crate::support::{Launch, Tallyd, http, time};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const FIGURES: &str = "
[[figure]]
id = \"signups\"
metric = \"signups\"

[[figure]]
id = \"orders\"
metric = \"orders\"
";
/// A server that says nothing for so long is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An open stream.
pub(crate) struct Listener {
    pub(crate) head: String,
    reader: BufReader<TcpStream>,
}

impl Listener {
    /// Asks for the stream of a page; what the answer is stands in `head`.
    pub(crate) fn open(port: u16, headers: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("HTTP listens");
        Self::over(stream, port, headers)
    }

    fn over(mut stream: TcpStream, port: u16, headers: &str) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request =
            format!("GET /api/v1/live?page=%2F HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the answer ends in its head: {head}");
        }
        Self { head: head.to_ascii_lowercase(), reader }
    }

    fn is_open(&self) -> bool {
        self.head.starts_with("http/1.1 200 ")
    }

    /// The next event: its name and data. Each is one chunk of the answer.
    pub(crate) fn event(&mut self) -> (String, Value) {
        let mut size = String::new();
        self.reader.read_line(&mut size).expect("a chunk");
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).expect("a chunk's size") + 2];
        self.reader.read_exact(&mut chunk).expect("a whole chunk");
        let text = String::from_utf8(chunk).unwrap();
        let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data.trim_end()).unwrap())
    }

    /// The next event that is no beat.
    fn news(&mut self) -> (String, Value) {
        loop {
            let event = self.event();
            if event.0 != "beat" {
                return event;
            }
        }
    }
}

/// The number that a state or a change shows for a figure.
fn shown(data: &Value, id: &str) -> Option<f64> {
    let figure = data["figures"].as_array()?.iter().find(|figure| figure["id"] == id)?;
    figure["values"][0]["number"].as_f64()
}

fn wait_for(listener: &mut Listener, id: &str, number: f64) -> Value {
    let deadline = time::now() + TIMEOUT;
    loop {
        let (_, data) = listener.news();
        if shown(&data, id) == Some(number) {
            return data;
        }
        assert!(time::now() < deadline, "{id} does not become {number}: {data}");
    }
}

fn launch() -> (Launch, Tallyd) {
    let launch = Launch::native(FIGURES).env("TALLYD_GRAPHITE_ADDRESS", "");
    let tallyd = launch.start();
    (launch, tallyd)
}

#[test]
fn a_stream_is_the_state_then_its_changes_and_a_beat_each_second() {
    let (_launch, tallyd) = launch();
    tallyd.send_udp(b"signups:1|c\norders:7|c");
    let mut listener = Listener::open(tallyd.ports.http, "");
    for header in
        ["200 ok", "content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"]
    {
        assert!(listener.head.contains(header), "{header} in {}", listener.head);
    }
    let (name, state) = listener.event();
    assert_eq!(name, "state");
    let mut version = state["version"].as_u64().unwrap();
    for key in ["at_ms", "zone", "figures", "ticker", "marks", "unplaced", "pages", "guarantee"] {
        assert!(!state[key].is_null(), "{key} in {state}");
    }
    tallyd.send_udp(b"signups:2|c");
    // Every change is made against the version before it, and says no more than what changed.
    let deadline = time::now() + TIMEOUT;
    loop {
        let (name, change) = listener.news();
        assert_eq!((name.as_str(), change["since"].as_u64()), ("change", Some(version)), "{change}");
        version = change["version"].as_u64().unwrap();
        if shown(&change, "signups") == Some(3.0) {
            break;
        }
        assert!(time::now() < deadline, "no change came");
    }
    let one = time::now();
    let beats = (0..3).filter(|_| listener.event().0 == "beat").count();
    assert!(one.elapsed() < Duration::from_secs(8), "three events took {:?}", one.elapsed());
    assert!(beats >= 1, "nothing changes, and no beat came");

    let json = tallyd.http_get("/api/v1/live.json");
    assert_eq!(shown(&serde_json::from_str(&json.body).unwrap(), "signups"), Some(3.0));
    assert!(json.head.contains("no-store"));
    assert_eq!(tallyd.http_get("/api/v1/live.json?page=/live/none").status, 404);
    assert_eq!(tallyd.http_get("/live/none").status, 404);
}

#[test]
fn at_most_four_changes_a_second_come_however_much_happens() {
    let (_launch, tallyd) = launch();
    let mut listener = Listener::open(tallyd.ports.http, "");
    let started = time::now();
    let mut last = started;
    let mut changes = 0;
    while started.elapsed() < Duration::from_secs(3) {
        for _ in 0..20 {
            tallyd.send_udp(b"signups:1|c\norders:1|c");
        }
        changes += usize::from(listener.event().0 != "beat");
        last = time::now();
    }
    let seconds = (last - started).as_secs_f64();
    assert!(changes >= 3, "{changes} changes in {seconds} s");
    // One more may have waited when the counting began, and one come with it.
    assert!((changes as f64) <= seconds * 4.0 + 2.0, "{changes} changes in {seconds} s");
}

#[test]
fn streams_are_counted_by_the_address_that_a_proxy_names() {
    let (_launch, tallyd) = launch();
    let port = tallyd.ports.http;
    let office = "X-Forwarded-For: 203.0.113.9\r\n";
    let most = tallyd::limits::LIVE_STREAMS_PER_ADDRESS_MAX;
    let mut all: Vec<Listener> = (0..most).map(|_| Listener::open(port, office)).collect();
    assert!(all.iter().all(Listener::is_open));
    let refused = Listener::open(port, office);
    assert!(refused.head.contains("503") && refused.head.contains("retry-after"), "{}", refused.head);
    // Others are not held up, and who polls is answered.
    assert!(Listener::open(port, "X-Forwarded-For: 203.0.113.10\r\n").is_open());
    assert_eq!(
        http::request(port, "GET", "/api/v1/live.json", &[("X-Forwarded-For", "203.0.113.9")], "")
            .unwrap()
            .status,
        200
    );
    all.truncate(most / 2);
    assert!(time::wait_until(TIMEOUT, || Listener::open(port, office).is_open()), "no place became free");
}

/// Their kernel takes some kilobytes for them and then nothing more.
#[test]
fn who_reads_nothing_hurts_nobody_and_is_cut() {
    let (_launch, tallyd) = launch();
    let port = tallyd.ports.http;
    let count = if std::env::var_os("TALLYD_TEST_LONG").is_some() { 1_000 } else { 50 };
    let stuck: Vec<Listener> = (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(2_048).unwrap();
            socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
            Listener::over(socket.into(), port, "")
        })
        .collect();
    let started = time::now();
    let mut reader = Listener::open(port, "");
    let mut sent = 0.0;
    let mut longest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(30) {
        let before = time::now();
        tallyd.send_udp(b"signups:1|c\norders:1|c");
        sent += 1.0;
        wait_for(&mut reader, "signups", sent);
        longest = longest.max(before.elapsed());
    }
    println!("beside {count} that read nothing, a change took {longest:?} at most");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    for mut listener in stuck {
        // What was on its way is read, and then there is an end, where a stream would go on for ever.
        let mut left = Vec::new();
        match listener.reader.read_to_end(&mut left) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

#[test]
fn a_mark_is_put_by_those_who_may() {
    let (_launch, tallyd) = launch();
    let port = tallyd.ports.http;
    let put = |headers: &[(&str, &str)], body: &str| {
        http::request(port, "POST", "/api/v1/marks", headers, body).unwrap()
    };
    let first = put(&[], "deploy web");
    assert_eq!(first.status, 201, "{}", first.body);
    let json = [("Content-Type", "application/json")];
    assert_eq!(put(&json, r#"{"text": "deploy <b>api</b>"}"#).status, 201);
    let mut listener = Listener::open(port, "");
    let (_, mut data) = listener.news();
    let deadline = time::now() + TIMEOUT;
    while data["marks"].as_array().is_none_or(|marks| marks.len() < 2) {
        assert!(time::now() < deadline, "no marks: {data}");
        data = listener.news().1;
    }
    let texts: Vec<_> = data["marks"].as_array().unwrap().iter().map(|mark| &mark["text"]).collect();
    assert!(texts.iter().any(|text| *text == "deploy web"), "{texts:?}");

    assert_eq!(put(&[("Origin", "https://elsewhere.example")], "deploy web").status, 421);
    assert_eq!(put(&[("Origin", "null")], "deploy web").status, 421);
    for (headers, body) in
        [(&[][..], ""), (&[][..], "  \n"), (&json[..], "{\"text\": 5}"), (&json[..], "{\"txt\": \"\"}")]
    {
        let refused = put(headers, body);
        assert_eq!(refused.status, 400, "{body}: {}", refused.body);
        assert!(refused.body.contains("error"), "{}", refused.body);
    }
    assert_eq!(put(&[], &"x".repeat(121)).status, 400);
    assert_eq!(put(&[], &"x".repeat(5_000)).status, 413);
    assert_eq!(http::get(port, "/api/v1/marks").unwrap().status, 405);
}

#[test]
fn strangers_need_the_token_for_page_stream_and_marks() {
    let launch = Launch::native(FIGURES).env("TALLYD_HTTP_TOKENS", "secret");
    let tallyd = launch.start();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http::request(tallyd.ports.http, method, path, headers, "x").unwrap().status
    };
    let forwarded = ("X-Forwarded-For", "203.0.113.9");
    for (method, path) in
        [("GET", "/"), ("GET", "/api/v1/live"), ("GET", "/api/v1/live.json"), ("POST", "/api/v1/marks")]
    {
        assert_eq!(ask(method, path, &[forwarded]), 401, "{method} {path}");
    }
    let shown = ("Authorization", "Bearer secret");
    assert_eq!(ask("GET", "/api/v1/live.json", &[forwarded, shown]), 200);
    assert_eq!(ask("POST", "/api/v1/marks", &[forwarded, shown]), 201);
    assert_eq!(ask("GET", "/", &[]), 200);
}
