//! Row 20: who may see and change what, asked in every way, and hostile names in a real browser.

#[path = "../../it/access.rs"]
#[expect(unused_imports, reason = "its other users are in tests/it")]
mod routes;

#[path = "../../it/links.rs"]
mod links;

#[path = "../../it/page/browser.rs"]
mod browser;
#[path = "../../it/page/fixtures.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
mod fixtures;

use crate::board::{Outcome, step};
use crate::books::Books;
use crate::support::{Launch, Tallyd, http};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Stands in every name and label; whoever may not see anything must not see it.
const CANARY: &str = "canary";
const TOKEN: &str = "correct-horse-battery-staple";
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];
const ROUTES: [&str; 18] = [
    "/",
    "/live/second",
    "/live/nothing",
    "/assets/x/page.js",
    "/api/v1",
    "/api/v1/",
    "/api/v1/live.json",
    "/api/v1/marks",
    "/api/v1/status",
    "/api/v1/query?name=**",
    "/api/v1/series",
    "/api/v1/backup",
    "/metrics",
    "/metrics/series",
    "/health/live",
    "/health/ready",
    "/api/v1/../v1/status",
    "/%2e%2e/api/v1/status",
];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// How a request shows who asks.
struct Caller {
    what: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// It is to be answered as anybody on this machine with the token would be.
    is_trusted: bool,
}

const STRANGER: (&str, &str) = ("X-Forwarded-For", "203.0.113.9");
const CALLERS: [Caller; 10] = [
    Caller { what: "none", headers: &[STRANGER], is_trusted: false },
    Caller { what: "wrong", headers: &[STRANGER, ("Authorization", "Bearer wrong")], is_trusted: false },
    Caller { what: "empty", headers: &[STRANGER, ("Authorization", "Bearer ")], is_trusted: false },
    Caller {
        what: "longer",
        headers: &[STRANGER, ("Authorization", "Bearer correct-horse-battery-staplex")],
        is_trusted: false,
    },
    Caller {
        what: "basic",
        headers: &[STRANGER, ("Authorization", "Basic Y29ycmVjdDpob3JzZQ==")],
        is_trusted: false,
    },
    Caller { what: "forwarded another way", headers: &[("Forwarded", "for=203.0.113.9")], is_trusted: false },
    Caller { what: "forged host", headers: &[("Host", "evil.example")], is_trusted: false },
    Caller { what: "forged origin", headers: &[("Origin", "https://evil.example")], is_trusted: false },
    Caller { what: "origin of a file", headers: &[("Origin", "null")], is_trusted: false },
    Caller {
        what: "admin",
        headers: &[STRANGER, ("Authorization", "Bearer correct-horse-battery-staple")],
        is_trusted: true,
    },
];

const PAGES: &str = "[http]\nseries = true\n[[figure]]\nid = \"canary\"\nmetric = \"canary.*\"\nlabel = \"canary\"\n\
                     [[page]]\npath = \"/\"\ntitle = \"canary\"\nhero = \"canary\"\n\
                     [[page]]\npath = \"/live/second\"\ntitle = \"canary\"\nhero = \"canary\"\n\
                     [graphite]\naddress = []\n";

/// One request as it is written here, whatever a client would say to it; status and all that came.
fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("HTTP listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
    let own = if headers.iter().any(|(name, _)| *name == "Host") { "" } else { "Host: 127.0.0.1\r\n" };
    let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let more = more.concat();
    let body = "a mark";
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{own}{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

/// What a request could have changed.
fn state(launch: &Launch, tallyd: &Tallyd) -> Value {
    let json = |path| -> Value { serde_json::from_str(&tallyd.http_get(path).body).expect("JSON") };
    let (page, status) = (json("/api/v1/live.json"), json("/api/v1/status"));
    // A bucket may end meanwhile, and its counters begin anew: their names stay.
    let counters = tallyd.console("counters");
    let names: Vec<&str> = counters.split('\'').skip(1).step_by(2).collect();
    let backups = std::fs::read_dir(launch.dir().join("store/backups")).map_or(0, Iterator::count);
    json!({
        "marks": page["marks"].as_array().map(Vec::len),
        "backups": backups,
        "counters": names,
        "counted": [status["counted"], status["refused"]],
        "gauges": tallyd.console("gauges"),
        "series": tallyd.http_get("/api/v1/series").body,
    })
}

/// The table of tests/it/access.rs, with and without tokens and with and without trust in this machine, and that of
/// tests/it/links.rs, with share links of every kind; then requests that no client would send.
pub(crate) fn table(outcome: &mut Outcome) {
    let (mut refused, mut let_in) = (0, 0);
    for (tokens, trust) in [(true, true), (true, false), (false, true), (false, false)] {
        let (no, yes) = routes::play(tokens, trust);
        (refused, let_in) = (refused + no, let_in + yes);
        step(&format!("{refused} requests refused, {let_in} let in"));
    }
    outcome.figure(format!("{refused} requests refused and {let_in} let in, each as it should be"));
    let (asked, callers) = links::play();
    outcome.figure(format!(
        "{asked} requests of {callers} callers, among them a share link, the other page's, an expired and a revoked \
         one: 0 leaks"
    ));
    strange_requests(outcome);
    in_a_browser(outcome);
}

/// Paths and methods that no client sends, by callers who may not; nothing may show or change.
fn strange_requests(outcome: &mut Outcome) {
    let launch = Launch::native(PAGES).with_store().env("TALLYD_HTTP_TOKENS", TOKEN);
    let tallyd = launch.start();
    tallyd.send_udp(b"canary.orders:1|c\ncanary.level:5|g");
    Books::wait(&tallyd, |books| books.counted == 2);
    std::thread::sleep(Duration::from_secs(1));
    let before = state(&launch, &tallyd);
    let (mut asked, mut leaks, mut trusted) = (0, Vec::new(), 0);
    for caller in &CALLERS {
        for route in ROUTES {
            for method in METHODS {
                if caller.is_trusted && method == "POST" {
                    continue;
                }
                let (status, answer) = ask(tallyd.ports.http, method, route, caller.headers);
                asked += 1;
                trusted += usize::from(caller.is_trusted && status == 200);
                let forged = caller.headers.iter().any(|(name, _)| ["Host", "Origin"].contains(name));
                let open = OPEN.contains(&route) && !forged;
                let shows = answer.contains(CANARY) || answer.contains(TOKEN) || (status < 300 && !open);
                if !caller.is_trusted && shows {
                    leaks.push(format!("{} {method} {route}: {status}", caller.what));
                }
            }
        }
    }
    let after = state(&launch, &tallyd);
    outcome.figure(format!(
        "{asked} requests of {} callers: {} leaks; {trusted} answered to the one who may",
        CALLERS.len(),
        leaks.len()
    ));
    outcome.require(leaks.is_empty(), format!("{} leaks, such as {:?}", leaks.len(), leaks.first()));
    outcome.require(trusted > 8, "who may ask is not answered");
    outcome.require(before == after, format!("something was changed: {before} {after}"));
    outcome.figure(format!("state changes {}", u64::from(before != after)));
    console(outcome, &launch, &tallyd, &before);
    let log = tallyd.process.stderr();
    outcome.require(!log.contains(TOKEN), "the token stands in the log");
}

/// A page in a browser can send HTTP to the console's port; no verb of it is a command.
fn console(outcome: &mut Outcome, launch: &Launch, tallyd: &Tallyd, before: &Value) {
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\ndelcounters canary.orders\r\nquit\r\n",
        "POST /delgauges%20canary.level HTTP/1.1\r\n\r\ndelgauges canary.level\r\n",
    ] {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, tallyd.ports.console)).expect("the console listens");
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a time-out can be set");
        stream.write_all(request.as_bytes()).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.read_to_end(&mut Vec::new()).ok();
    }
    let after = state(launch, tallyd);
    outcome.require(
        *before == after,
        format!("a page in a browser can give the console commands: {before} {after}"),
    );
}

/// tests/page/live.js sends hostile names, labels and marks, and looks whether any of them ran.
fn in_a_browser(outcome: &mut Outcome) {
    let launch =
        Launch::native(include_str!("../../it/page/hostile.toml")).env("TALLYD_GRAPHITE_ADDRESS", "");
    let tallyd = launch.start();
    let ports = json!({ "statsd": tallyd.ports.statsd, "http": tallyd.ports.http });
    let input = json!({ "ports": ports, "rounds": 20, "hostile": fixtures::HOSTILE });
    let report = browser::run("live.js", &input);
    let reply = http::get(tallyd.ports.http, "/").expect("the page is served");
    let policy = reply.head.to_ascii_lowercase();
    outcome.require(
        policy.contains("content-security-policy") && policy.contains("default-src 'none'"),
        "the page has no strict policy",
    );
    outcome.figure(format!(
        "{} hostile names, labels and marks in Chromium: 0 script runs ({report})",
        fixtures::HOSTILE.len()
    ));
}
