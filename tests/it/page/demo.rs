//! `tallyd demo` in a real browser, and the pictures of docs/pictures, which are of it.

use super::browser;
use crate::support::repository;
use serde_json::json;

/// From the start of the demo to a number that moves in a browser.
const PROMISED_MS: u64 = 10_000;
/// An unoptimised program that shares two cores with a dozen tests makes five weeks of a past more slowly.
const UNOPTIMISED_MS: u64 = 90_000;

/// It has a past of weeks, so that everything is compared. With `TALLYD_PAGE_IMAGES` set (`make pictures`) what is seen
/// is kept in docs/pictures.
#[test]
fn the_demo_moves_in_a_browser_at_once() {
    let images = std::env::var_os("TALLYD_PAGE_IMAGES").map(|_| repository("docs/pictures"));
    let input = json!({ "program": env!("CARGO_BIN_EXE_tallyd"), "images": images });
    let report = browser::run("demo.js", &input);
    println!("from the demo's start to a moving number: {report}");
    let most = if cfg!(debug_assertions) { UNOPTIMISED_MS } else { PROMISED_MS };
    assert!(report["moved_ms"].as_u64().unwrap() <= most, "{report}");
}
