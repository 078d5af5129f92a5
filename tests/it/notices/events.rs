//! Marks as events of a real graphite-web: each once, over a crash and while graphite-web was not there.

use super::receiver::Receiver;
use crate::support::{Graphite, Launch, Tallyd, http, time, wait_until};
use serde_json::Value;
use std::time::Duration;

const SETTLED: Duration = Duration::from_secs(60);

fn launch(events: &str, more: &str) -> Launch {
    let toml = "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = []\n";
    let launch = Launch::native(&format!("{toml}{more}"));
    let url = format!("file:{}", launch.dir().join("data").display());
    launch.env("TALLYD_STORE_URL", &url).env("TALLYD_GRAPHITE_EVENTS", events)
}

fn mark(tallyd: &Tallyd, text: &str) {
    let reply = http::request(tallyd.ports.http, "POST", "/api/v1/marks", &[], text).unwrap();
    assert_eq!(reply.status, 201, "{}", reply.body);
}

/// What happened, and when, as graphite-web has it.
fn events(graphite: &Graphite) -> Vec<(String, i64)> {
    let reply = http::get(graphite.web_port(), "/events/get_data?tags=tallyd").unwrap();
    let all: Vec<Value> = serde_json::from_str(&reply.body).unwrap_or_default();
    let mut all: Vec<(String, i64)> = all
        .iter()
        .map(|event| {
            let tags = event["tags"].as_array().unwrap();
            assert!(tags.contains(&Value::from("mark")), "{event}");
            (event["what"].as_str().unwrap().to_owned(), event["when"].as_i64().unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn marks_are_events_of_a_real_graphite_web_each_once() {
    let graphite = Graphite::start("1s:1h");
    let launch = launch(&format!("http://127.0.0.1:{}/events/", graphite.web_port()), "");
    let tallyd = launch.start();
    // What was before the first look at the board is left alone.
    time::sleep(Duration::from_secs(3));
    let began = time::unix_secs();
    mark(&tallyd, "Release 1.4");
    tallyd.send_udp(b"deploys.web:1|c");
    let both = || events(&graphite).len() >= 2;
    assert!(wait_until(SETTLED, both), "{:?}", events(&graphite));
    // A kill between an answer and the note of it has the event sent again, and graphite-web takes it again.
    let status = || tallyd.http_get("/api/v1/status").body;
    let told = || {
        let status: Value = serde_json::from_str(&status()).unwrap();
        (status["notices"]["sent"].as_u64(), status["notices"]["waiting"].as_u64()) == (Some(2), Some(0))
    };
    assert!(wait_until(SETTLED, told), "{}", status());
    time::sleep(Duration::from_secs(2));
    tallyd.kill9();
    let tallyd = launch.start();
    // Known by its counter alone now, the release is still the same one.
    tallyd.send_udp(b"deploys.shop:1|c");
    let all = || events(&graphite).len() >= 3;
    assert!(wait_until(SETTLED, all), "{:?}", events(&graphite));
    time::sleep(Duration::from_secs(3));
    let found = events(&graphite);
    let words: Vec<&str> = found.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(words, ["Release 1.4", "deploy shop", "deploy web"]);
    let now = time::unix_secs();
    assert!(found.iter().all(|(_, when)| (began - 1..=now).contains(when)), "{found:?} since {began}");
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn a_mark_waits_while_nobody_takes_it_and_is_no_message_to_others() {
    let (web, others) = (Receiver::start(), Receiver::start());
    web.answer("503 Service Unavailable");
    let tallyd = launch(&web.url(), &format!("[[notify]]\nwebhook = \"{}\"\n", others.url())).start();
    time::sleep(Duration::from_secs(3));
    mark(&tallyd, "deploy web");
    assert!(wait_until(SETTLED, || web.asked() > 0));
    web.answer("200 OK");
    assert!(wait_until(SETTLED, || web.taken().len() == 1));
    let event = web.taken()[0].body.clone();
    assert_eq!((event["what"].as_str(), event["tags"].as_str()), (Some("deploy web"), Some("tallyd mark")));
    assert!((event["when"].as_i64().unwrap() - time::unix_secs()).abs() < 120, "{event}");
    assert_eq!((web.taken().len(), others.asked()), (1, 0));
}
