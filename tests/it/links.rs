//! Share links: what each of them lets through, over every route and method, and what none of them tells.

use crate::support::process::signal;
use crate::support::{Launch, Tallyd, http, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const ADMIN: &str = "0123456789-the-admin";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// What a guest of the first page must not see anywhere: hidden figures with their numbers, other pages, what is on no
/// page, marks, tags, other links, and what tells of the machine.
const SECRETS: [&str; 11] = [
    "evenue",
    "777.77",
    "zanzibar",
    "aunch",
    "eaders",
    "live/other",
    "others",
    "topsecret",
    "grafana.example",
    "kitchen",
    "restart forgets",
];

const FIGURES: &str = "
[[figure]]
id = 'signups'
metric = 'signups'
[[figure]]
id = 'revenue'
metric = 'revenue.*'
kind = 'money'
[[figure]]
id = 'sales'
metric = 'revenue.eur'
label = 'Sales'
[[figure]]
id = 'orders'
metric = 'orders'
[[figure]]
id = 'paid'
kind = 'ratio'
of = ['orders', 'signups']
[[figure]]
id = 'readers'
metric = 'readers'
kind = 'unique'
[[page]]
path = '/'
title = 'Live'
hero = 'revenue'
show = ['signups', 'orders', 'sales', 'paid']
[[page]]
path = '/live/other'
title = 'others'
hero = 'readers'
show = []
";

/// A link with its token, made by the program.
fn link(name: &str, page: &str, expires: &str, hide: &str) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args([
        "link",
        "--name",
        name,
        "--page",
        page,
        "--expires",
        expires,
        "--url",
        "https://figures.example/",
    ]);
    if !hide.is_empty() {
        command.args(["--hide", hide]);
    }
    let output = command.output().unwrap();
    let (table, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let token =
        said.split("https://figures.example/link/").nth(1).unwrap().split('\n').next().unwrap().to_owned();
    assert!(token.len() == 64 && !table.contains(&token), "the file holds its hash alone");
    (table, token)
}

struct House {
    launch: Launch,
    tallyd: Tallyd,
    tokens: [String; 4],
}

const KITCHEN: usize = 0;
const OTHER: usize = 1;
const OLD: usize = 2;
const GONE: usize = 3;

impl House {
    fn build() -> Self {
        let links = [
            link("kitchen", "/", "never", "revenue"),
            link("of the other page", "/live/other", "2199-01-01", ""),
            link("long ago", "/", "2020-01-01", ""),
            link("to be revoked", "/", "2199-01-01", ""),
        ];
        let tables: String = links.iter().map(|(table, _)| table.as_str()).collect();
        let head = format!(
            "[http]\ntokens = ['{ADMIN}']\nseries = true\ngrafana = 'https://grafana.example/d/x'\n\
             numbers = ['signups']\n[graphite]\naddress = []\n"
        );
        let launch = Launch::native(&format!("{head}{FIGURES}{tables}")).env("RUST_LOG", "trace");
        let tallyd = launch.start();
        tallyd.send_udp(
            b"signups:5|c\norders;plan=topsecret:3|c\nrevenue.eur:77777|c\nreaders:a|s\nzanzibar:1|c",
        );
        let house = Self { launch, tallyd, tokens: links.map(|(_, token)| token) };
        let admin = [("Authorization", format!("Bearer {ADMIN}"))];
        let admin = admin.each_ref().map(|(name, value)| (*name, value.as_str()));
        let seen = || {
            let state = http::request(house.port(), "GET", "/api/v1/live.json", &admin, "").unwrap().body;
            ["777.77", "zanzibar", "\"text\":\"5\""].iter().all(|part| state.contains(part))
        };
        assert!(wait_until(TIMEOUT, seen));
        let mark = http::request(house.port(), "POST", "/api/v1/marks", &admin, "Launch day");
        assert_eq!(mark.unwrap().status, 201);
        house
    }

    fn port(&self) -> u16 {
        self.tallyd.ports.http
    }

    /// Asks as somebody from elsewhere; of a stream what comes in a moment.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let host = format!("Host: 127.0.0.1:{}\r\n", self.port());
        self.ask_as(method, path, &format!("{host}{headers}"))
    }

    /// Asks with these headers alone, which name a host or an origin as they like.
    fn ask_as(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let elsewhere = "X-Forwarded-For: 203.0.113.9\r\n";
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}{elsewhere}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, mut said) = http::read_head(&mut reader);
        if said.contains("text/event-stream") && method == "GET" {
            while !said.contains("event: state") || !said.ends_with("\n\n") {
                assert!(reader.read_line(&mut said).unwrap() > 0, "{said}");
            }
        } else {
            reader.read_to_string(&mut said).unwrap();
        }
        (status, said)
    }

    fn cookie(&self, link: usize) -> String {
        // The name is the browser's business; what counts is what it begins with.
        format!("Cookie: theme=dark; tallyd-link-{link}={}\r\n", self.tokens[link])
    }

    /// The last link is taken out of the file, and the file is read again.
    fn revoke(&self) {
        let file = self.launch.dir().join("tallyd.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let at = text.find("\n[[link]]\nname = \"to be revoked\"").unwrap();
        std::fs::write(&file, &text[..at]).unwrap();
        signal("HUP", &self.tallyd.process.id().to_string());
    }

    fn status(&self) -> serde_json::Value {
        let (code, said) = self.ask("GET", "/api/v1/status", &format!("Authorization: Bearer {ADMIN}\r\n"));
        assert_eq!(code, 200);
        serde_json::from_str(said.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

/// What a route answers whom with: nobody, guests of the first page, guests of the other one, and the admin.
const ROUTES: [(&str, [u16; 4]); 28] = [
    ("/", [401, 200, 404, 200]),
    ("/?tv=1", [401, 200, 404, 200]),
    ("/live/other", [401, 404, 200, 200]),
    ("/live/nothing", [401, 404, 404, 404]),
    // The page's own files are the same for all.
    ("/assets/x/icon.svg", [401, 200, 200, 200]),
    ("/api/v1", [401, 403, 403, 200]),
    ("/api/v1/", [401, 403, 403, 200]),
    ("/api/v1/live", [401, 200, 404, 200]),
    ("/api/v1/live?page=/", [401, 200, 404, 200]),
    ("/api/v1/live?page=/live/other", [401, 404, 200, 200]),
    ("/api/v1/live.json?page=/", [401, 200, 404, 200]),
    ("/api/v1/live.json?page=/live/other", [401, 404, 200, 200]),
    ("/api/v1/marks", [401, 403, 403, 405]),
    ("/api/v1/status", [401, 403, 403, 200]),
    ("/api/v1/query?name=signups&from=-1d", [401, 200, 403, 200]),
    ("/api/v1/query?name=orders&from=-1d&format=csv", [401, 200, 403, 200]),
    ("/api/v1/query?name=signups&name=orders&by=name", [401, 200, 403, 200]),
    ("/api/v1/query?name=orders&by=plan", [401, 403, 403, 200]),
    ("/api/v1/query?name=signups&kind=timer", [401, 403, 403, 200]),
    ("/api/v1/query?name=revenue.**", [401, 403, 403, 200]),
    ("/api/v1/query?name=revenue.eur", [401, 403, 403, 200]),
    ("/api/v1/query?name=signups&name=**", [401, 403, 403, 200]),
    ("/api/v1/query?name=readers", [401, 403, 200, 200]),
    ("/api/v1/series", [401, 403, 403, 200]),
    ("/metrics", [401, 403, 403, 200]),
    ("/metrics/series", [401, 403, 403, 200]),
    ("/api/v1/backup", [401, 403, 403, 405]),
    ("/link/0123456789", [404, 404, 404, 404]),
];
/// Columns of the table.
const NOBODY: usize = 0;
const GUEST: usize = 1;
const GUEST_OF_OTHER: usize = 2;
const MASTER: usize = 3;

/// How a request is made to look.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forged {
    Not,
    Host,
    Origin,
}

impl Forged {
    fn headers(self, port: u16) -> String {
        let host = if self == Self::Host { "evil.example" } else { "127.0.0.1" };
        let origin = if self == Self::Origin { "Origin: http://evil.example\r\n" } else { "" };
        format!("Host: {host}:{port}\r\n{origin}")
    }
}

/// Who asks, how they show it, and whose column of the table holds for them.
fn callers(house: &House) -> Vec<(&'static str, usize, String)> {
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    vec![
        ("none", NOBODY, String::new()),
        ("wrong token", NOBODY, bearer("0123456789-not-the-admin")),
        ("wrong link", NOBODY, format!("Cookie: tallyd-link-x={}\r\n", "0".repeat(64))),
        ("expired link", NOBODY, house.cookie(OLD)),
        ("revoked link", NOBODY, house.cookie(GONE)),
        // A link is no token, and the hash of a link is none either.
        ("link as a token", NOBODY, bearer(&house.tokens[KITCHEN])),
        ("link in another cookie", NOBODY, format!("Cookie: session={}\r\n", house.tokens[KITCHEN])),
        ("link", GUEST, house.cookie(KITCHEN)),
        ("other page's link", GUEST_OF_OTHER, house.cookie(OTHER)),
        ("admin", MASTER, bearer(ADMIN)),
    ]
}

/// What this one is to be answered with; none where the table does not say.
fn expected(column: usize, allowed: [u16; 4], method: &str, path: &str, forged: Forged) -> Option<u16> {
    let reads = method == "GET" || method == "HEAD";
    match column {
        _ if forged != Forged::Not => Some(421),
        column if reads => Some(allowed[column]),
        _ if path.starts_with("/link") => Some(405),
        NOBODY => Some(401),
        MASTER => None,
        _ => Some(403),
    }
}

/// Asks everything of a tallyd with links in every state; returns how many requests that were, and of how many callers.
pub(crate) fn play() -> (u64, usize) {
    let house = House::build();
    house.revoke();
    assert!(wait_until(TIMEOUT, || house.ask("GET", "/", &house.cookie(GONE)).0 == 401));
    let (before, callers) = (house.status(), callers(&house));
    let mut count = 0;
    for (path, allowed) in ROUTES {
        for method in METHODS {
            for (who, column, shown) in &callers {
                // What the admin does by POST changes something, and is in the table of access.rs.
                if *column == MASTER && method == "POST" {
                    continue;
                }
                for forged in [Forged::Not, Forged::Host, Forged::Origin] {
                    let headers = forged.headers(house.port()) + shown;
                    let (status, said) = house.ask_as(method, path, &headers);
                    let case = format!("{who}: {method} {path}, forged: {forged:?}: {said}");
                    match expected(*column, allowed, method, path, forged) {
                        Some(expected) => assert_eq!(status, expected, "{case}"),
                        None => assert!(status >= 400, "{case}"),
                    }
                    // What was asked comes back in words.
                    let body = said.split_once("\r\n\r\n").unwrap().1;
                    let secrets: &[&str] = match *column {
                        MASTER if forged == Forged::Not => &[],
                        GUEST_OF_OTHER => &SECRETS[..4],
                        _ => &SECRETS,
                    };
                    for secret in secrets {
                        assert!(!body.contains(secret), "{secret} is told: {case}");
                    }
                    for token in house.tokens.iter().map(String::as_str).chain([ADMIN]) {
                        assert!(!said.contains(token), "{case}");
                    }
                    count += 1;
                }
            }
        }
    }
    let after = house.status();
    for part in ["counted", "refused"] {
        assert_eq!(before[part], after[part], "{part}");
    }
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    let (_, said) = house.ask("GET", "/api/v1/live.json", &admin);
    assert_eq!(said.matches("\"Launch day\"").count(), 1, "no other mark");
    let log = house.tallyd.process.stderr();
    assert!(house.tokens.iter().all(|token| !log.contains(token.as_str())), "a token is in the log");
    (count, callers.len())
}

#[test]
fn nobody_sees_or_changes_more_than_they_were_let() {
    let (count, callers) = play();
    println!("{count} requests of {callers} callers");
}

#[test]
fn a_guest_sees_the_page_as_if_what_is_hidden_were_not() {
    let house = House::build();
    let cookie = house.cookie(KITCHEN);
    let body = |path: &str| house.ask("GET", path, &cookie).1.split_once("\r\n\r\n").unwrap().1.to_owned();
    let state: serde_json::Value = serde_json::from_str(&body("/api/v1/live.json")).unwrap();
    let ids: Vec<&str> =
        state["figures"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect();
    // Sales count what revenue does.
    assert_eq!(ids, ["signups", "orders", "paid"]);
    assert_eq!(
        (&state["figures"][0]["slot"], &state["figures"][2]["query"]),
        (&"hero".into(), &serde_json::json!([]))
    );
    assert_eq!(state["pages"].as_array().unwrap().len(), 1);
    let page = body("/");
    for part in ["data-key=\"signups\"", "data-key=\"paid\"", ">5<"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("Grafana") && !page.contains("/live/"));
    // Series are merged, so that no tag is told.
    let orders: serde_json::Value =
        serde_json::from_str(&body("/api/v1/query?name=orders&from=-1h&step=1h")).unwrap();
    assert_eq!((&orders["matched"], &orders["series"][0]["tags"]), (&1.into(), &serde_json::json!({})));
    // What happens to a hidden figure makes nothing move.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, house.port())).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let host = format!("Host: 127.0.0.1:{}\r\nX-Forwarded-For: 203.0.113.9\r\n", house.port());
    stream.write_all(format!("GET /api/v1/live HTTP/1.1\r\n{host}{cookie}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("data: {\"version\"")).unwrap();
    for _ in 0..8 {
        house.tallyd.send_udp(b"revenue.eur:100|c\nrevenue.usd:100|c");
        std::thread::sleep(Duration::from_millis(300));
    }
    house.tallyd.send_udp(b"signups:1|c");
    let mut changes = Vec::new();
    while changes.iter().all(|change: &String| !change.contains("\"text\":\"6\"")) {
        changes.extend(lines.next().filter(|line| line.contains("\"since\"")));
    }
    // The minute may have turned; nothing else changed before the sign-up did.
    assert!(changes.len() <= 3, "{changes:?}");
    assert!(
        changes.iter().all(|change| SECRETS.iter().all(|secret| !change.contains(secret))),
        "{changes:?}"
    );
}

#[test]
fn the_address_is_left_at_once_and_a_link_ends_by_being_revoked() {
    let house = House::build();
    let address = format!("/link/{}?tv=1", house.tokens[GONE]);
    let (status, said) = house.ask("GET", &address, "X-Forwarded-Proto: https\r\n");
    assert_eq!(status, 303, "{said}");
    for line in ["location: /?tv=1\r\n", "referrer-policy: no-referrer\r\n", "cache-control: no-store\r\n"] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let cookie = said.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let (status, page) = house.ask("GET", "/?tv=1", &cookie);
    assert!(status == 200 && page.contains("referrer-policy: no-referrer") && page.contains("777.77"));
    // Whoever holds several links sees the page of each.
    let both = format!("{}; {}", cookie.trim_end(), house.cookie(OTHER).trim_start_matches("Cookie: "));
    assert_eq!((house.ask("GET", "/", &both).0, house.ask("GET", "/live/other", &both).0), (200, 200));
    let links = house.status()["links"].clone();
    assert_eq!((&links[GONE]["name"], &links[OLD]["expired"]), (&"to be revoked".into(), &true.into()));
    assert!(links[GONE]["last_used_ms"].is_i64() && links[OLD]["last_used_ms"].is_null(), "{links}");
    // A stream that stands ends with its link.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, house.port())).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let host = format!("Host: 127.0.0.1:{}\r\nX-Forwarded-For: 203.0.113.9\r\n", house.port());
    stream
        .write_all(format!("GET /api/v1/live HTTP/1.1\r\n{host}{cookie}Connection: close\r\n\r\n").as_bytes())
        .unwrap();
    house.revoke();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("event: state"));
    assert_eq!(house.ask("GET", "/", &cookie).0, 401);
    assert_eq!(house.ask("GET", &address, "").0, 404);
    assert_eq!(house.ask("GET", "/", &house.cookie(KITCHEN)).0, 200, "the others hold");
    assert!(house.status()["links"].as_array().unwrap().len() == 3);
}

#[test]
fn a_link_that_expires_ends_its_streams() {
    let soon = chrono::DateTime::from_timestamp(crate::support::time::unix_secs() + 8, 0).unwrap();
    let (table, token) = link("for a moment", "/", &soon.to_rfc3339(), "");
    let launch = Launch::native(&format!("[graphite]\naddress = []\n{FIGURES}{table}"));
    let tallyd = launch.start();
    let port = tallyd.ports.http;
    let headers = [("X-Forwarded-For", "203.0.113.9"), ("Cookie", &format!("tallyd-link-1={token}"))];
    let stream = http::request(port, "GET", "/api/v1/live", &headers, "").unwrap();
    assert_eq!(stream.status, 200);
    assert!(stream.body.contains("event: state"));
    let page = http::request(port, "GET", "/", &headers, "").unwrap();
    assert_eq!(page.status, 401, "where links are given, others are not meant: {}", page.body);
    assert_eq!(http::get(port, "/").unwrap().status, 200, "on this machine nothing has changed");
}

#[test]
fn one_number_is_for_everybody_who_is_named_and_no_other() {
    let house = House::build();
    let picture = |file: &str, headers: &str| house.ask("GET", &format!("/n/{file}"), headers);
    let (status, svg) = picture("signups.svg", "");
    assert!(status == 200 && svg.contains(">5</text>") && svg.contains(">today</text>"), "{svg}");
    for header in ["content-type: image/svg+xml", "cache-control: public, max-age=10", "default-src 'none'"] {
        assert!(svg.contains(header), "{header} is not in {svg}");
    }
    let tag = svg.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(picture("signups.svg", &format!("If-None-Match: {tag}\r\n")).0, 304);
    for file in ["revenue.svg", "signups", "signups.svg.svg", ".svg", "orders.svg"] {
        let (status, said) = picture(file, "");
        assert!(status == 404 && !said.contains("777"), "{file}: {said}");
    }
}

#[test]
fn mistakes_in_links_are_named_and_tokens_are_not_written_out() {
    let hash = format!("sha256:{}", "ab".repeat(32));
    let whole = format!("[[link]]\nname = 'a'\ntoken = '{hash}'\nexpires = 'never'\n");
    for (table, problem) in [
        ("[[link]]\nname = 'a'".to_owned(), "link.a.token: it is missing"),
        (whole.replace(&hash, "hunter2hunter2hunter2"), "this is no hash"),
        (format!("{whole}page = '/live/othr'"), "did you mean \"/live/other\"?"),
        (format!("{whole}hide = ['revenu']"), "did you mean \"revenue\"?"),
        (whole.replace("never", "someday"), "this is no time"),
        (format!("{whole}{whole}"), "two links have this one"),
        (format!("{whole}pin = 1"), "pin"),
    ] {
        let error =
            tallyd::config::native(&format!("{FIGURES}{table}"), std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains("hunter2"), "{table}: {error}");
    }
}
