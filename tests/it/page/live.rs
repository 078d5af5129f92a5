//! The real program, a real browser, and many that look on.

use super::browser;
use super::fixtures::HOSTILE;
use super::streams::Listener;
use crate::support::{Launch, time};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAGES: &str = include_str!("hostile.toml");

/// Lines in over UDP, numbers in the document, with a hundred others (a thousand in the long version) on the same
/// page. The bound is far above what is promised: this machine has other tests to run. `benches/live` measures.
#[test]
fn an_event_is_on_the_page_in_an_instant_and_nothing_that_is_named_runs() {
    let long = std::env::var_os("TALLYD_TEST_LONG").is_some();
    let launch = Launch::native(PAGES).env("TALLYD_GRAPHITE_ADDRESS", "");
    let tallyd = launch.start();
    let viewers = if long { 1_000 } else { 100 };
    let done = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        let (port, done) = (tallyd.ports.http, &done);
        scope.spawn(move || {
            let mut listeners: Vec<_> = (0..viewers).map(|_| Listener::open(port, "")).collect();
            while !done.load(Ordering::Relaxed) {
                // Each is read now and then; the kernel holds what waits.
                for listener in &mut listeners {
                    listener.event();
                }
                time::sleep(Duration::from_millis(50));
            }
        });
        let ports = json!({ "statsd": tallyd.ports.statsd, "http": tallyd.ports.http });
        let input = json!({ "ports": ports, "rounds": if long { 200 } else { 20 }, "hostile": HOSTILE });
        let report = std::panic::catch_unwind(|| browser::run("live.js", &input));
        done.store(true, Ordering::Relaxed);
        report.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("datagram to document beside {viewers} viewers: {report}");
    assert!(report["p50_ms"].as_f64().unwrap() < 2_000.0, "{report}");
}

/// Nothing is configured, and a statsd client that was there before sends what it always sent.
#[test]
fn without_a_configuration_what_comes_in_is_on_the_page() {
    let launch = Launch::native("").env("TALLYD_GRAPHITE_ADDRESS", "");
    let tallyd = launch.start();
    let ports = json!({ "statsd": tallyd.ports.statsd, "http": tallyd.ports.http });
    browser::run("bare.js", &json!({ "ports": ports }));
}
