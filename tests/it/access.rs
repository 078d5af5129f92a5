//! Who may do what over HTTP: every route, by every method, from here and from elsewhere, with and without a token, in
//! the name of another host or origin. Nothing leaks and nothing changes but for those who may.

use crate::support::process::signal;
use crate::support::{Launch, Tallyd, http, time};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Every route there is, with a body that would change something where it takes one.
const ROUTES: [(&str, &str); 21] = [
    ("/", ""),
    ("/live/{name}", ""),
    ("/assets/{sum}/{name}", ""),
    ("/api/v1", ""),
    ("/api/v1/", ""),
    ("/api/v1/live", ""),
    ("/api/v1/live.json", ""),
    ("/api/v1/marks", "deploy of a stranger"),
    ("/api/v1/samples", "zanzibar:1|c"),
    ("/api/v1/status", ""),
    ("/api/v1/query", ""),
    ("/api/v1/series", ""),
    ("/metrics", ""),
    ("/api/v1/backup", ""),
    ("/metrics/series", ""),
    ("/link/{token}", ""),
    ("/n/{file}", ""),
    ("/health/live", ""),
    ("/health/ready", ""),
    ("/nothing/here", ""),
    ("/api/v1/query?name=**&from=-1h", ""),
];
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];
const ADMIN: &str = "0123456789-the-right-one";
const WRONG: &str = "0123456789-the-wrong-one";
/// What only those may read who may read at all.
const SECRET: &str = "zanzibar";
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a request is made to look.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forged {
    Not,
    Host,
    Origin,
    NoHost,
    TwoHosts,
    Target,
}

const FORGED: [Forged; 6] =
    [Forged::Not, Forged::Host, Forged::Origin, Forged::NoHost, Forged::TwoHosts, Forged::Target];

/// What a proxy leaves behind; nothing for a direct request.
const TRACES: [&str; 4] =
    ["", "X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=127.0.0.1\r\n", "Via: 1.1 proxy\r\n"];

#[derive(Clone, Copy, Debug)]
struct Case {
    route: &'static str,
    method: &'static str,
    shown: Option<&'static str>,
    trace: &'static str,
    forged: Forged,
}

impl Case {
    /// The status of a refusal, told from the rules as the documents have them.
    fn refusal(&self, tokens: bool, trust: bool) -> Option<u16> {
        let admin = self.shown == Some(ADMIN) && tokens || trust && self.trace.is_empty();
        let open = ["/health", "/nothing", "/link", "/n/"].iter().any(|open| self.route.starts_with(open));
        if self.forged != Forged::Not {
            Some(421)
        } else if open || admin {
            None
        } else if tokens {
            Some(401)
        } else if self.method == "GET" || self.method == "HEAD" {
            None
        } else {
            Some(403)
        }
    }

    fn request(&self, port: u16, body: &str) -> String {
        let path = self.route.replace(['{', '}'], "");
        let ours = format!("Host: 127.0.0.1:{port}\r\n");
        let other = format!("Host: evil.example:{port}\r\n");
        let (target, host) = match self.forged {
            Forged::Not => (path, ours),
            Forged::Host => (path, other),
            Forged::Origin => (path, ours + "Origin: http://evil.example\r\n"),
            Forged::NoHost => (path, String::new()),
            Forged::TwoHosts => (path, ours + &other),
            Forged::Target => (format!("http://evil.example{path}"), ours),
        };
        let token = self.shown.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let trace = self.trace;
        let length = body.len();
        format!(
            "{} {target} HTTP/1.1\r\n{host}{token}{trace}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.method
        )
    }
}

/// The status, and of what is not a stream everything that was said.
fn ask(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (status, mut said) = http::read_head(&mut reader);
    if !said.contains("text/event-stream") {
        reader.read_to_string(&mut said).unwrap();
    }
    (status, said)
}

/// What can be seen to change.
fn state(tallyd: &Tallyd) -> String {
    let json = |path: &str| -> serde_json::Value {
        let headers = [("Authorization", format!("Bearer {ADMIN}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let reply = http::request(tallyd.ports.http, "GET", path, &headers, "").unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    };
    let (status, live, series) = (json("/api/v1/status"), json("/api/v1/live.json"), json("/api/v1/series"));
    format!("{} {} {} {series}", status["counted"], status["refused"], live["marks"])
}

fn every_case() -> impl Iterator<Item = (Case, &'static str)> {
    ROUTES.into_iter().flat_map(|(route, body)| {
        METHODS.into_iter().flat_map(move |method| {
            [None, Some(WRONG), Some(ADMIN)].into_iter().flat_map(move |shown| {
                TRACES.into_iter().flat_map(move |trace| {
                    FORGED.into_iter().map(move |forged| (Case { route, method, shown, trace, forged }, body))
                })
            })
        })
    })
}

/// Asks everything of a tallyd; returns how many requests were refused, and how many let in.
pub(crate) fn play(tokens: bool, trust: bool) -> (u64, u64) {
    let text = format!("[http]\ntrust_loopback = {trust}\nseries = true\n[graphite]\naddress = []\n");
    let mut launch = Launch::native(&text).env("RUST_LOG", "trace");
    if tokens {
        launch = launch.env("TALLYD_HTTP_TOKENS", ADMIN);
    }
    let tallyd = launch.start();
    let port = tallyd.ports.http;
    tallyd.send_udp(format!("{SECRET}:1|c").as_bytes());
    // Where nobody is an admin, reading is open.
    assert!(time::wait_until(TIMEOUT, || state(&tallyd).contains(SECRET)));
    let before = state(&tallyd);
    let (mut refused, mut let_in) = (0, 0);
    for (case, body) in every_case() {
        let refusal = case.refusal(tokens, trust);
        // Who may is given nothing to do: the table is about who is let in.
        let body = if refusal.is_some() { body } else { "" };
        let (status, said) = ask(port, &case.request(port, body));
        if let Some(expected) = refusal {
            refused += 1;
            assert_eq!(status, expected, "{case:?}: {said}");
            assert!(!said.contains(SECRET) && said.len() < 800, "{case:?}: {said}");
            assert_eq!(status == 401, said.contains("www-authenticate: Bearer"), "{case:?}: {said}");
            let explained = said.contains("http.tokens") && said.contains("tallyd token");
            assert!(status != 403 || case.method == "HEAD" || explained, "{said}");
        } else {
            let_in += 1;
            assert!(![401, 403, 421].contains(&status), "{case:?}: {said}");
            let changing = case.method != "GET" && case.method != "HEAD";
            assert!(!changing || status >= 400, "{case:?} changed something without a body: {said}");
        }
        assert!(!said.contains(ADMIN), "{case:?}: {said}");
    }
    println!("{refused} refused, {let_in} let in");
    assert_eq!(state(&tallyd), before, "something changed");
    let log = tallyd.process.stderr();
    assert!(!log.contains(ADMIN) && !log.contains(WRONG), "a token is in the log");
    (refused, let_in)
}

#[test]
fn nothing_leaks_and_nothing_changes_where_a_token_is_set() {
    play(true, true);
}

#[test]
fn nothing_leaks_where_this_machine_needs_a_token_too() {
    play(true, false);
}

#[test]
fn nothing_changes_by_strangers_where_no_token_is_set() {
    play(false, true);
}

#[test]
fn nothing_changes_by_anybody_where_no_token_is_set_and_nobody_is_trusted() {
    play(false, false);
}

/// The table above is of all routes: whoever adds one adds it there.
#[test]
fn every_route_is_in_the_table() {
    let text = std::fs::read_to_string(crate::support::repository("src/serve/mod.rs")).unwrap();
    let routes: Vec<&str> =
        text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(routes.len() >= 16, "{routes:?}");
    for route in routes {
        assert!(ROUTES.iter().any(|(known, _)| *known == route), "{route} is in no table");
    }
}

#[test]
fn a_token_may_stand_in_a_file_as_its_hash_and_is_revoked_by_a_reload() {
    let printed = Command::new(env!("CARGO_BIN_EXE_tallyd")).arg("token").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let (token, hash) = printed.trim().split_once('\n').unwrap();
    let (token, hash) = (token.trim_start_matches("token "), hash.trim_start_matches("hash  "));
    assert!(token.len() == 64 && hash.starts_with("sha256:") && hash.len() == 71, "{printed}");

    let launch = Launch::native("[http]\ntoken_files = [\"tokens\"]\n[graphite]\naddress = []\n");
    let file = launch.dir().join("tokens");
    std::fs::write(&file, format!("# of the deploys\n{hash}\nsecond-of-the-tokens\n")).unwrap();
    let tallyd = launch.start();
    let mark = |shown: &str| {
        let headers = [("X-Forwarded-For", "203.0.113.9"), ("Authorization", &format!("Bearer {shown}"))];
        http::request(tallyd.ports.http, "POST", "/api/v1/marks", &headers, "deploy").unwrap().status
    };
    assert_eq!((mark(token), mark("second-of-the-tokens")), (201, 201));
    assert_eq!((mark(hash), mark("")), (401, 401), "who has read the file is nobody");

    std::fs::write(&file, "second-of-the-tokens\n").unwrap();
    signal("HUP", &tallyd.process.id().to_string());
    assert!(time::wait_until(TIMEOUT, || mark(token) == 401));
    assert_eq!(mark("second-of-the-tokens"), 201);

    std::fs::write(&file, "no token at all\n").unwrap();
    signal("HUP", &tallyd.process.id().to_string());
    let said = "the tokens are not reloaded, the old ones stay";
    assert!(time::wait_until(TIMEOUT, || tallyd.process.stderr().contains(said)));
    assert_eq!(mark("second-of-the-tokens"), 201);
    let log = tallyd.process.stderr();
    assert!(log.contains("line 1") && !log.contains("at all"), "{log}");
}

#[test]
fn a_missing_file_of_tokens_ends_the_start() {
    let launch = Launch::native("[http]\ntoken_files = [\"missing\"]\n");
    let mut tallyd = launch.start_unready();
    assert!(time::wait_until(TIMEOUT, || !tallyd.process.is_running()));
    let log = tallyd.process.stderr();
    assert!(log.contains("missing") && log.contains("http.token_files"), "{log}");
}

/// A token that is not in order is named by its key, and by nothing else; one that is stays unsaid.
#[test]
fn commands_show_no_token() {
    let check = |tokens: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        command.args(["check", "--set", "http.listen=127.0.0.1:0"]).env("TALLYD_HTTP_TOKENS", tokens);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for tokens in [ADMIN, "hunter2", "hunter2,with space", "sha256:hunter2"] {
        let said = check(tokens);
        assert!(!said.contains(ADMIN) && !said.contains("hunter2") && !said.contains("with space"), "{said}");
    }
    assert!(check("hunter2").contains("can be guessed"));
    assert!(check(ADMIN).contains("one token is set, which whoever is not on this machine must show"));
    assert!(check("sha256:hunter2").contains("64 hexadecimal digits"));
}
