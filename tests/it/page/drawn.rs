//! What the server draws and what the page's own scripts draw, in a real browser: the same, in every state, at every
//! size, for everybody.

use super::browser;
use super::fixtures::{self, NOW};
use crate::support::{Launch, repository};
use serde_json::{Value, json};

/// Puts all cases, drawn by the server under its own policy, before a script of tests/page.
fn put_before(script: &str) -> (Value, usize) {
    let tallyd = Launch::native("").start();
    let policy = tallyd.http_get("/");
    let policy = policy.head.lines().find_map(|line| line.strip_prefix("content-security-policy: "));
    let policy = policy.expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");

    let cases: Vec<_> = fixtures::cases()
        .into_iter()
        .map(|case| {
            json!({
                "name": case.name,
                "words": case.words,
                "html": tallyd::serve::drawn(&case.state, NOW, Some("https://grafana.example.org/d/x"), "/"),
                "tv": tallyd::serve::drawn(&case.state, NOW, None, "/?tv=1&dark=1"),
                "dark": tallyd::serve::drawn(&case.state, NOW, None, "/?dark=1"),
                "state": fixtures::as_json(&case.state),
            })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.json");
    std::fs::write(&file, serde_json::to_vec(&cases).unwrap()).unwrap();
    let input = json!({ "cases": file, "policy": policy, "files": repository("dashboards/live") });
    (browser::run(script, &input), cases.len())
}

/// Each state is drawn by the server and put before Chromium, without scripts and with: the scripts find nothing to
/// change. Then widths from 320 to 3,840 pixels, text at twice its size, television, axe's rules, no message on the
/// console, no request elsewhere, no text that runs.
#[test]
fn every_state_is_drawn_alike_with_and_without_scripts() {
    let (report, cases) = put_before("drawn.js");
    assert_eq!(report["cases"], cases);
}

/// Its screen is kept on as long as it is looked at, its picture moves, its nights are dark, and each of them it loads
/// itself again, once.
#[test]
fn a_television_looks_after_itself() {
    put_before("tv.js");
}
