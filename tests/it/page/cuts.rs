//! Cuts between a page and its server: killed, a proxy's 502, half-open, refused, and a machine that slept.

use super::browser;
use crate::support::Launch;
use serde_json::json;

/// Ten in `make test`, two hundred in the long version. What takes longest is printed.
#[test]
fn a_page_that_is_cut_off_says_so_and_comes_back_by_itself() {
    let long = std::env::var_os("TALLYD_TEST_LONG").is_some();
    let launch = Launch::native("[[figure]]\nid = 'polled'\nmetric = 'polled'\n");
    let report = browser::run(
        "cuts.js",
        &json!({
            "program": env!("CARGO_BIN_EXE_tallyd"),
            "config": launch.dir().join("tallyd.toml"),
            "environment": launch.environment().iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "port": launch.ports.http,
            "count": if long { 200 } else { 10 },
            "seed": 20_261_123,
        }),
    );
    // What is promised holds on a machine that is not busy with other tests.
    let (stale, live) = (report["stale_ms"].as_u64().unwrap(), report["live_ms"].as_u64().unwrap());
    println!("stale after {stale} ms at most, live again after {live} ms at most");
    assert!(stale <= 20_000 && live <= 10_000, "{report}");
}
