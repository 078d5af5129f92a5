//! `POST /api/v1/samples` from outside: what is counted once, what is refused, and what no crash takes back.

use crate::books::Books;
use crate::faults::durability::{SmallDisk, durable, fill, on_disk};
use crate::support::http::{self, Reply};
use crate::support::{Launch, Tallyd, time};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn launch() -> Launch {
    Launch::native("[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = []\n").with_store()
}

fn send(tallyd: &Tallyd, key: &str, lines: &str) -> Reply {
    let headers = [("Idempotency-Key", key)];
    http::request(tallyd.ports.http, "POST", "/api/v1/samples", &headers, lines).unwrap()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

fn is_repeated(reply: &Reply) -> bool {
    reply.head.to_ascii_lowercase().contains("idempotency-replayed: true")
}

/// What all of a counter's buckets add up to, the open one too.
pub(crate) fn total(tallyd: &Tallyd, name: &str) -> f64 {
    let reply = tallyd.http_get(&format!("/api/v1/query?name={name}&from=-3h&step=1h&stat=sum"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = json(&reply);
    let series = answer["series"].as_array().unwrap();
    let points = series.iter().flat_map(|one| one["points"].as_array().unwrap());
    points.filter_map(|point| point[1].as_f64()).sum()
}

#[test]
fn a_request_is_counted_once_however_often_it_comes() {
    let launch = launch();
    let tallyd = launch.start();
    let now = time::unix_secs();
    let lines = format!(
        "paid:4900|c\npaid:100|c|T{}\npaid:10|c|T{}\nreaders:anna|s\nlevel:7|g\nload:12|ms\n",
        now - 30,
        now - 90
    );
    let first = send(&tallyd, "order-1", &lines);
    assert_eq!(first.status, 202, "{}", first.body);
    assert!(!is_repeated(&first));
    assert_eq!(json(&first)["counted"], 6);
    for _ in 0..3 {
        let again = send(&tallyd, "order-1", &lines);
        assert_eq!((again.status, &again.body), (202, &first.body));
        assert!(is_repeated(&again));
    }
    let other = send(&tallyd, "order-1", "paid:1|c");
    assert_eq!(other.status, 422, "{}", other.body);
    assert_eq!(send(&tallyd, "order-2", "paid:1|c").status, 202);
    assert_eq!(total(&tallyd, "paid"), 5_011.0);
    let books = Books::wait(&tallyd, |books| books.counted == 7);
    assert_eq!(books.lines, 7);

    // Nor by the next process, whether the last one was killed or went in order.
    tallyd.kill9();
    let tallyd = launch.start();
    let again = send(&tallyd, "order-1", &lines);
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert!(is_repeated(&again));
    assert_eq!(tallyd.sigterm(), Some(0));
    let tallyd = launch.start();
    assert!(
        is_repeated(&send(&tallyd, "order-1", &lines)) && is_repeated(&send(&tallyd, "order-2", "paid:1|c"))
    );
    assert_eq!(total(&tallyd, "paid"), 5_011.0);
    assert!(tallyd.console("gauges").contains("level: 7"), "{}", tallyd.console("gauges"));
}

#[test]
fn what_is_refused_is_said_line_by_line() {
    let tallyd = launch().start();
    let old = time::unix_secs() - 86_400;
    let lines = format!("good:1|c\nbad\ngood:x|c:2|c\n\nold:1|c|T{old}\nfar:1|c|T99999999999\ngood:3|c\r");
    let reply = send(&tallyd, "mixed", &lines);
    assert_eq!(reply.status, 202, "{}", reply.body);
    let answer = json(&reply);
    assert_eq!((&answer["counted"], &answer["lines"]), (&3.into(), &6.into()), "{answer:#}");
    assert_eq!(
        answer["refused"],
        serde_json::json!({"no_type": 1, "bad_value": 1, "too_late": 1, "too_early": 1})
    );
    let shown: Vec<(u64, &str)> = answer["refused_lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [(2, "no_type"), (3, "bad_value"), (5, "too_late"), (6, "too_early")]);
    assert_eq!(total(&tallyd, "good"), 6.0);
    let books = Books::wait(&tallyd, |books| books.counted == 3);
    books.assert_refused(&[("no_type", 1), ("bad_value", 1), ("too_late", 1), ("too_early", 1)]);

    for (key, lines) in [("empty", ""), ("blank", "\n\n"), ("bad", "nothing here")] {
        let reply = send(&tallyd, key, lines);
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.body.contains("no line of it can be counted"), "{}", reply.body);
    }
    for key in ["", "two words", &"k".repeat(256)] {
        assert_eq!(send(&tallyd, key, "good:1|c").status, 400, "{key}");
    }
    let without = http::request(tallyd.ports.http, "POST", "/api/v1/samples", &[], "good:1|c").unwrap();
    assert!(without.status == 400 && without.body.contains("Idempotency-Key"), "{}", without.body);
    let two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    assert_eq!(
        http::request(tallyd.ports.http, "POST", "/api/v1/samples", &two, "good:1|c").unwrap().status,
        400
    );
    let many: Vec<String> = (0..1_025).map(|n| format!("good:1|c|T{}", time::unix_secs() - n)).collect();
    let reply = send(&tallyd, "many", &many.join("\n"));
    assert!(reply.status == 400 && reply.body.contains("1024 buckets"), "{}", reply.body);
    let large = "good:1|c\n".repeat(tallyd::limits::REQUEST_BYTES_MAX / 9);
    assert_eq!(send(&tallyd, "large", &large).status, 202);
    let reply = send(&tallyd, "larger", &(large.clone() + "good:1|c\n"));
    assert!(reply.status == 413 && reply.body.contains("1048576 bytes"), "{}", reply.body);
    assert_eq!(total(&tallyd, "good"), 6.0 + (large.len() / 9) as f64);
}

#[test]
fn memory_promises_nothing() {
    let tallyd = Launch::native("").start();
    let reply = send(&tallyd, "order-1", "paid:1|c");
    assert!(reply.status == 503 && reply.body.contains("memory:"), "{} {}", reply.status, reply.body);
}

/// Also where each tick is left to the system (`store.journal_sync`): what is answered is synced.
#[test]
fn what_no_disk_takes_is_not_counted_until_it_is_sent_again() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let launch = on_disk(&disk.path().join("store"));
    let tallyd = launch.start();
    assert_eq!(send(&tallyd, "first", "paid:1|c").status, 202);
    let filler = fill(&disk);
    // The journal has room for some ticks in the block that it writes.
    let mut number = 0;
    assert!(time::wait_until(PATIENCE, || {
        number += 1;
        send(&tallyd, &format!("fill-{number}"), &"fill:1|c\n".repeat(1_000)).status == 503
    }));
    let refused = send(&tallyd, "second", "paid:10|c");
    assert!(refused.status == 503 && refused.body.contains("send it again"), "{}", refused.body);
    assert_eq!(total(&tallyd, "paid"), 1.0);
    std::fs::remove_file(&filler).unwrap();
    durable(&tallyd, true);
    assert!(time::wait_until(PATIENCE, || send(&tallyd, "second", "paid:10|c").status == 202));
    // What was not answered with 202 may be on the disk or not; sent again it counts, and once.
    assert_eq!(send(&tallyd, &format!("fill-{number}"), &"fill:1|c\n".repeat(1_000)).status, 202);
    tallyd.kill9();
    let tallyd = launch.start();
    assert!(is_repeated(&send(&tallyd, "second", "paid:10|c")));
    assert_eq!((total(&tallyd, "paid"), total(&tallyd, "fill")), (11.0, 1_000.0 * f64::from(number)));
}

/// Clients send each request until it is answered, while tallyd is killed again and again: each counts once.
#[test]
fn a_kill_between_request_and_answer_costs_nothing_and_doubles_nothing() {
    const CLIENTS: u64 = 4;
    let kills = if std::env::var_os("TALLYD_TEST_LONG").is_some() { 40 } else { 6 };
    let launch = launch();
    let ports = launch.ports;
    let running = Mutex::new(Some(launch.start()));
    let (stop, sent, again) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let client = |number: u64| {
        let mut random = StdRng::seed_from_u64(number);
        let mut count = 0_u64;
        let mut before = (format!("client-{number}-0"), String::new());
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            let at = time::unix_secs() - random.random_range(1..600);
            let lines = format!("paid:{count}|c\npaid:{count}|c|T{at}\npaid:1|c|T{}", at - 300);
            let key = format!("client-{number}-{count}");
            let deadline = time::now() + PATIENCE;
            let mut unsure = false;
            loop {
                let headers = [("Idempotency-Key", key.as_str())];
                let reply = http::request(ports.http, "POST", "/api/v1/samples", &headers, &lines);
                match reply {
                    Ok(reply) if reply.status == 202 => break,
                    Ok(reply) => assert_eq!(reply.status, 503, "{}", reply.body),
                    Err(_) => unsure = true,
                }
                assert!(time::now() < deadline, "{key} is not taken");
                again.fetch_add(1, Ordering::Relaxed);
                time::sleep(Duration::from_millis(5));
            }
            sent.fetch_add(2 * count + 1, Ordering::Relaxed);
            // Who was cut off is unsure of what was answered before that, too.
            if unsure {
                let headers = [("Idempotency-Key", before.0.as_str())];
                http::request(ports.http, "POST", "/api/v1/samples", &headers, &before.1).ok();
            }
            before = (key, lines);
        }
    };
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || client(number));
        }
        let mut random = StdRng::seed_from_u64(99);
        for _ in 0..kills {
            time::sleep(Duration::from_millis(random.random_range(300..1_500)));
            running.lock().unwrap().take().unwrap().kill9();
            *running.lock().unwrap() = Some(launch.start());
        }
        time::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    let tallyd = running.into_inner().unwrap().unwrap();
    let sent = sent.into_inner();
    println!("{sent} in all, {} requests sent again, {kills} kills", again.into_inner());
    assert_eq!(total(&tallyd, "paid"), sent as f64);
    assert!(sent > 0 && tallyd.sigterm() == Some(0));
    assert_eq!(total(&launch.start(), "paid"), sent as f64);
}
