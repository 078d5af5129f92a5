//! What `check` says of notices, what `notify` sends, and what becomes of a receiver that wants nothing.

use super::receiver::Receiver;
use crate::support::http;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use tallyd::clock::Clock;
use tallyd::config;
use tallyd::health::NoticeCounts;
use tallyd::notify::{FileBoard, Notifier, Source};
use tallyd::store::Board as _;

fn tallyd(folder: &Path, toml: &str, arguments: &[&str]) -> Output {
    let file = folder.join("tallyd.toml");
    std::fs::write(&file, toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command
        .args(arguments)
        .arg("--config")
        .arg(file)
        .env("TEAM_WEBHOOK", "https://hooks.slack.com/T0/secret");
    command.output().unwrap()
}

const FIGURES: &str = "[company]\ntimezone = 'Europe/Paris'\n\
    [[figure]]\nid = 'signups'\nmetric = 'signups'\nlabel = 'Sign-ups'\nalarm = 'stalled'\ngoal = { day = 300 }\n\
    [[figure]]\nid = 'orders'\nmetric = 'orders'\n";

#[test]
fn check_says_who_is_told_what_and_when_and_never_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!(
        "{FIGURES}[[notify]]\nwebhook = 'env:TEAM_WEBHOOK'\ndigest = '08:30 mon-fri'\n\
         [[notify]]\nwebhook = 'http://127.0.0.1:9/x-secret'\nstyle = 'json'\nalarms = false\ngoals = false\n\
         [[notify]]\nwebhook = 'file:/nowhere/webhook'\n"
    );
    let output = tallyd(folder.path(), &toml, &["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        "Tells:    env:TEAM_WEBHOOK (https://hooks.slack.com/…) as Slack has it:",
        "          when one of these stands still, and when it moves again: Sign-ups",
        "          when a goal is reached (Sign-ups), and on a record day, from a fortnight of days on",
        "          a digest of the days since the last one, at 08:30, mon tue wed thu fri in Europe/Paris, next on ",
        "Tells:    http://127.0.0.1:9/… (http://127.0.0.1:9/…) as JSON:",
        "          nothing: alarms, goals and digest are all off",
        "Tells:    file:/nowhere/webhook, which leads nowhere now (/nowhere/webhook: No such file or directory",
        "          nothing while numbers may be too low, or in the first 15 min after a start; `tallyd notify` sends",
    ] {
        assert!(said.lines().any(|said| said.starts_with(line)), "{line}\nis not in\n{said}");
    }
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn mistakes_are_named_without_the_address() {
    for (toml, problem) in [
        ("[[notify]]\nstyle = 'json'", "webhook: it is missing"),
        (
            "[[notify]]\nwebhook = 'hooks.example/secret'",
            "the address does not begin with http:// or https://",
        ),
        ("[[notify]]\nwebhook = 'env:A'\n[[notify]]\nwebhook = 'env:A'", "two tables have this webhook"),
        ("[[notify]]\nwebhook = 'env:A'\ndigest = '8 o clock'", "no time with days of the week"),
        ("[[notify]]\nwebhook = 'env:A'\nstyle = 'xml'", "style"),
        ("[[notify]]\nwebhook = 'env:A'\nalarm = true", "alarm"),
    ] {
        let error = config::native(toml, std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains("secret"), "{toml}: {error}");
    }
}

#[test]
fn a_sample_goes_to_every_webhook() {
    let (json, slack) = (Receiver::start(), Receiver::start());
    let toml = format!(
        "[[notify]]\nwebhook = '{}'\nstyle = 'json'\n[[notify]]\nwebhook = '{}'\n",
        json.url(),
        slack.url()
    );
    let folder = tempfile::tempdir().unwrap();
    let printed = tallyd(folder.path(), &toml, &["notify", "--print"]);
    assert!(printed.status.success() && json.taken().is_empty());
    assert!(!String::from_utf8(printed.stdout).unwrap().contains("secret"));
    let sent = tallyd(folder.path(), &toml, &["notify"]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let (json_body, slack_body) = (&json.taken()[0].body, &slack.taken()[0].body);
    assert_eq!(json_body["topic"], "sample");
    assert_eq!(slack_body, &serde_json::json!({ "text": json_body["text"] }));
    assert_eq!(json.taken()[0].path, "/services/secret");
    json.answer("403 Forbidden");
    let refused = tallyd(folder.path(), &toml, &["notify"]);
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(!refused.status.success() && said.contains("took no sample: it answers 403 well"), "{said}");
    assert!(!said.contains("secret"));
    assert_eq!(slack.taken().len(), 2, "the others get theirs");
}

/// Monday, 23 November 2026, 14:05:21 UTC.
const NOW: i64 = 1_795_442_721_250;

fn note(at_ms: i64, to: &[String]) -> String {
    serde_json::json!({ "topic": "goal", "figure": "a", "at_ms": at_ms, "day": "2026-11-23", "text": "words",
        "waiting": to })
    .to_string()
}

#[test]
fn what_nobody_takes_is_given_up_and_never_in_the_way() {
    let receiver = Receiver::start();
    let toml = format!("[[notify]]\nwebhook = '{}'\nstyle = 'json'\n", receiver.url());
    let options = config::native(&toml, std::iter::empty()).unwrap().config.notify;
    let to = [options.rules[0].webhook.id()];
    let board = Arc::new(FileBoard::open(None));
    let (clock, status) = (Clock::manual(NOW), Arc::new(NoticeCounts::default()));
    let source = Source {
        pages: Box::new(Vec::new),
        closing: Box::new(|_| Vec::new()),
        board: Arc::clone(&board) as _,
    };
    let mut notifier = Notifier::new(options, &clock, source, Arc::clone(&status));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut step = || {
        runtime.block_on(async {
            notifier.step();
            notifier.settle().await;
        });
    };
    let given_up = || status.given_up.load(std::sync::atomic::Ordering::Relaxed);
    // One that the receiver does not want makes way for the next one.
    board.post("goal bad", &note(NOW - 2, &to)).unwrap();
    board.post("goal good", &note(NOW - 1, &to)).unwrap();
    receiver.answer("400 Bad Request");
    step();
    receiver.answer("200 OK");
    step();
    let keys = || receiver.taken().into_iter().map(|taken| taken.key).collect::<Vec<_>>();
    assert_eq!((keys(), given_up()), (vec!["goal good".to_owned()], 1));
    // Each failure makes the pause longer, up to about five minutes.
    receiver.answer("500 Internal Server Error");
    board.post("goal late", &note(NOW, &to)).unwrap();
    let asked = receiver.asked();
    for _ in 0..3_600 {
        clock.pass(1_000);
        step();
    }
    let attempts = receiver.asked() - asked;
    assert!((15..=25).contains(&attempts), "{attempts} attempts in an hour");
    // After a day it is given up, and so is the oldest of too many.
    clock.pass(24 * 3_600_000);
    step();
    assert_eq!(given_up(), 2);
    for at in 0..300 {
        board.post(&format!("goal {at:03}"), &note(clock.now() + at, &to)).unwrap();
    }
    step();
    assert_eq!(given_up(), 2 + 44);
    assert!(
        !board.read(None).unwrap().unwrap().notes["goal 000"].contains("words"),
        "it is known, and is short"
    );
    receiver.answer("200 OK");
    clock.pass(10 * 60_000);
    for _ in 0..300 {
        step();
    }
    assert_eq!(keys().len(), 1 + 256);
    assert_eq!(keys()[1], "goal 044");
}

#[test]
fn a_process_tells_how_its_notices_do() {
    let receiver = Receiver::start();
    let launch = crate::support::Launch::native(&format!("[[notify]]\nwebhook = '{}'\n", receiver.url()));
    let tallyd = launch.start();
    let status: http::Reply = tallyd.http_get("/api/v1/status");
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!(status["notices"], serde_json::json!({"sent": 0, "failures": 0, "waiting": 0, "given_up": 0}));
}
