//! `tallyd watch` in a real terminal, at the sizes of a small one and of a large one.
//!
//! What is seen is compared with the captures beside this file, which were looked at. After a change that is
//! meant, `TALLYD_TEST_CAPTURE=1` writes them anew.

mod screen;
mod server;

use crate::support::{Launch, process, repository, wait_until};
use screen::Screen;
use server::{Mood, Server};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;
use tallyd::cli::watch::terminal;

const STATE: &str = include_str!("state.json");
const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

fn watch(url: &str, more: &str) -> String {
    format!("clear; {} watch --url {url} {more}; echo ended $?", env!("CARGO_BIN_EXE_tallyd"))
}

/// Digits of clocks and ages differ each time; everything else is as it was when it was looked at.
fn as_captured(text: &str) -> String {
    let digits = |line: &str| line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let first: String = text.lines().next().map(digits).unwrap_or_default();
    std::iter::once(first.as_str()).chain(text.lines().skip(1)).map(|line| line.to_owned() + "\n").collect()
}

/// What is seen comes to be what was captured: a terminal may be looked at while it is drawn.
fn assert_as_captured(name: &str, text: impl Fn() -> String) {
    let path: PathBuf = repository("tests/it/watch/captures").join(name);
    if std::env::var_os("TALLYD_TEST_CAPTURE").is_some() {
        std::thread::sleep(Duration::from_secs(1));
        std::fs::write(&path, as_captured(&text())).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let same = wait_until(Duration::from_secs(20), || as_captured(&text()) == known);
    assert!(same, "{name} is not as captured:\n{}", text());
}

#[test]
fn live_late_and_stale_are_shown_and_live_again_by_itself() {
    let server = Server::start(STATE);
    let screens = SIZES.map(|(width, height)| (Screen::new(width, height), width, height));
    for (screen, width, height) in &screens {
        screen.run(&watch(&server.url(), ""));
        assert!(screen.shows("● live"), "{}", screen.text());
        assert_as_captured(&format!("{width}x{height}-live.txt"), || screen.text());
    }
    server.be(Mood::Silent);
    for (screen, width, height) in &screens {
        assert!(screen.shows("s behind"), "{}", screen.text());
        assert_as_captured(&format!("{width}x{height}-late.txt"), || screen.text());
    }
    for (screen, width, height) in &screens {
        assert!(screen.shows("not live since"), "{}", screen.text());
        // The number stays, struck out.
        assert!(screen.text().contains("(stale)"));
        assert!(
            screen.styled().contains("\u{1b}[9m") || screen.styled().contains(";9m"),
            "{}",
            screen.styled()
        );
        assert!(wait_until(Duration::from_secs(30), || screen
            .text()
            .lines()
            .next()
            .unwrap()
            .ends_with("trying again")));
        assert_as_captured(&format!("{width}x{height}-stale.txt"), || screen.text());
    }
    let streams = server.streams();
    server.be(Mood::Well);
    for (screen, ..) in &screens {
        assert!(screen.shows("● live"), "{}", screen.text());
        assert!(!screen.text().contains("(stale)"));
    }
    assert!(server.streams() >= streams);
}

#[test]
fn a_proxy_without_its_server_is_no_reason_to_give_up() {
    let server = Server::start(STATE);
    server.be(Mood::BadGateway);
    let screen = Screen::new(80, 24);
    screen.run(&watch(&server.url(), ""));
    assert!(screen.shows("not connected: it answers 502; trying again in"), "{}", screen.text());
    server.be(Mood::Stranger);
    assert!(screen.shows("401: a token is needed"), "{}", screen.text());
    server.be(Mood::NoStreams);
    assert!(screen.shows("● live"), "{}", screen.text());
    server.be(Mood::Well);
    assert!(wait_until(Duration::from_secs(45), || server.streams() > 0), "streams are called back");
    let changed = STATE.replace("\"clock\":\"14:05\"", "\"clock\":\"14:06\"").replacen("812", "813", 1);
    server.show(&changed);
    assert!(screen.shows("14:06"), "{}", screen.text());
    screen.type_in(&["q"]);
    assert!(screen.shows("ended 0"));
}

#[test]
fn the_terminal_is_as_it_was_after_every_way_out() {
    let server = Server::start(STATE);
    let screen = Screen::new(80, 24);
    let before = screen.settings();
    let ways: [(&[&str], Option<&str>); 8] = [
        (&["q"], None),
        (&["Escape"], None),
        (&["C-c"], None),
        (&[], Some("TERM")),
        (&[], Some("INT")),
        (&[], Some("HUP")),
        (&[], Some("QUIT")),
        (&["C-d"], None),
    ];
    for (at, (keys, signal)) in ways.into_iter().enumerate() {
        screen.run(&watch(&server.url(), ""));
        assert!(screen.shows("● live"), "{}", screen.text());
        assert_ne!(screen.settings(), before, "it takes the terminal");
        if let Some(signal) = signal {
            process::signal(signal, &screen.child());
        } else {
            screen.type_in(keys);
        }
        assert!(screen.shows("ended 0"), "way {at}: {}", screen.text());
        assert!(screen.prompts(), "{}", screen.text());
        assert!(!screen.text().contains("live"), "way {at}: {}", screen.text());
        assert!(wait_until(Duration::from_secs(5), || screen.settings() == before), "way {at}");
    }
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    let server = Server::start(STATE);
    // With its window, and without being told: as over a connection that broke.
    for command in ["", "trap '' HUP; "] {
        let screen = Screen::new(80, 24);
        screen.run(&format!("{command}{}", watch(&server.url(), "")));
        assert!(screen.shows("● live"), "{}", screen.text());
        let child = screen.child();
        assert!(!child.is_empty());
        screen.close();
        let gone = || !std::path::Path::new(&format!("/proc/{child}")).exists();
        assert!(wait_until(Duration::from_secs(20), gone), "it goes on without a terminal");
    }
}

/// Runs in a terminal, started by the test below; by itself it does nothing.
#[test]
fn panics_in_a_terminal_that_it_has_taken() {
    if std::env::var_os("TALLYD_TEST_TERMINAL").is_some() {
        let _screen = terminal::Screen::take().unwrap();
        panic!("a broken invariant");
    }
}

#[test]
fn the_terminal_is_as_it_was_after_a_panic_and_its_report_can_be_read() {
    let screen = Screen::new(80, 24);
    let before = screen.settings();
    let test = std::env::current_exe().unwrap();
    let name = "watch::panics_in_a_terminal_that_it_has_taken";
    screen.run(&format!(
        "clear; TALLYD_TEST_TERMINAL=1 {} --exact {name} --nocapture 2>&1 | grep -v '^$'; echo ended",
        test.display()
    ));
    assert!(screen.shows("a broken invariant"), "{}", screen.text());
    assert!(screen.shows("ended"), "{}", screen.text());
    assert_eq!(screen.settings(), before);
}

#[test]
fn a_terminal_too_small_gets_a_list_and_hostile_text_stays_text() {
    let hostile = STATE.replace("Sign-ups\"", "Sign\\u001b[2J\\u009b31mups\"");
    let server = Server::start(&hostile);
    let screen = Screen::new(50, 12);
    screen.run(&watch(&server.url(), ""));
    assert!(screen.shows("Sign\u{fffd}[2J\u{fffd}31mups today  184"), "{}", screen.text());
    assert_as_captured("50x12-list.txt", || screen.text());
    screen.type_in(&["q"]);
    assert!(screen.shows("ended 0"));
}

fn once(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tallyd")).arg("watch").args(arguments).output().unwrap()
}

#[test]
fn scripts_get_text_and_json() {
    let server = Server::start(STATE);
    let url = server.url();
    let text = once(&["--url", &url, "--once"]);
    assert!(text.status.success());
    assert_as_captured("once.txt", || String::from_utf8(text.stdout.clone()).unwrap());
    let json = once(&["--url", &url, "--once", "--json"]);
    let state: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(state, serde_json::from_str::<serde_json::Value>(STATE).unwrap());
    server.be(Mood::BadGateway);
    let gone = once(&["--url", &url, "--once"]);
    let error = String::from_utf8(gone.stderr).unwrap();
    assert_eq!((gone.status.code(), gone.stdout.len()), (Some(1), 0));
    assert!(error.contains(&format!("no figures from {url}: it answers 502")), "{error}");
    for (arguments, problem) in
        [(["--url", "nowhere"], "--url: the address does not begin"), (["--page", "/"], "wants a terminal")]
    {
        let refused = once(&arguments);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains(problem), "{error}");
    }
}

#[test]
fn a_real_tallyd_is_shown_once_and_live_and_to_whom_it_lets_in() {
    let figures = "[[figure]]\nid = 'signups'\nmetric = 'signups'\nlabel = 'Sign-ups'\n";
    let launch =
        Launch::native(&format!("[graphite]\naddress = []\n[http]\ntrust_loopback = false\n{figures}"));
    let tallyd = launch.env("TALLYD_HTTP_TOKENS", "0123456789-the-right-one").start();
    let url = format!("http://127.0.0.1:{}", tallyd.ports.http);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789-the-right-one\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = once(&["--url", &url, "--once"]);
    assert!(
        String::from_utf8(refused.stderr).unwrap().contains("401: a token is needed (--token-file FILE)")
    );
    tallyd.send_udp(b"signups:3|c");
    let shows = |number: &str| {
        let output = once(&["--url", &url, "--once", "--token-file", file]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().any(|line| line == format!("Sign-ups today  {number}"))
    };
    assert!(wait_until(Duration::from_secs(30), || shows("3")));
    let screen = Screen::new(80, 24);
    screen.run(&watch(&url, &format!("--token-file {file}")));
    assert!(screen.shows("● live") && screen.shows("Sign-ups today"), "{}", screen.text());
    tallyd.send_udp(b"signups:4|c");
    // What came in a short while stands in one line.
    let came = || ["Sign-ups +4", "Sign-ups +7"].iter().any(|line| screen.text().contains(line));
    assert!(wait_until(Duration::from_secs(30), came), "{}", screen.text());
    screen.type_in(&["q"]);
    assert!(screen.shows("ended 0"));
}

#[test]
fn json_is_a_line_for_each_new_state() {
    let server = Server::start(STATE);
    let line = format!("{} watch --json --url {} | head -n 2", env!("CARGO_BIN_EXE_tallyd"), server.url());
    let reader = std::thread::spawn(move || Command::new("sh").arg("-c").arg(line).output().unwrap());
    assert!(wait_until(Duration::from_secs(20), || server.streams() > 0));
    std::thread::sleep(Duration::from_millis(500));
    server.show(&STATE.replacen("812", "813", 1));
    std::thread::sleep(Duration::from_millis(500));
    // It learns that nobody reads on when it writes again.
    server.show(&STATE.replacen("812", "814", 1));
    let output = reader.join().unwrap();
    let lines: Vec<serde_json::Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let versions: Vec<i64> = lines.iter().map(|line| line["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [812, 813]);
}
