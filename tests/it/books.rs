//! tallyd's books as a stranger reads them: `GET /api/v1/status`, and waiting until they say something.

use crate::support::{Launch, Tallyd, time};
use std::collections::BTreeMap;
use std::time::Duration;

/// The books follow the tick; the rest is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The books at one moment.
#[derive(Debug)]
pub(crate) struct Books {
    /// Values counted.
    pub(crate) counted: u64,
    /// Values, lines or datagrams refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Datagrams dropped by the kernel.
    pub(crate) kernel_drops: u64,
    /// Datagrams, and stream reads that completed a line.
    pub(crate) packets: u64,
    /// Lines that were not empty.
    pub(crate) lines: u64,
    /// The whole answer.
    pub(crate) json: serde_json::Value,
}

impl Books {
    /// What they say now.
    pub(crate) fn read(tallyd: &Tallyd) -> Self {
        let reply = tallyd.http_get("/api/v1/status");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let json: serde_json::Value = serde_json::from_str(&reply.body).expect("status is JSON");
        let number = |value: &serde_json::Value| value.as_u64().expect("a count");
        let refused = json["refused"].as_object().expect("refusals by reason");
        let books = Self {
            counted: number(&json["counted"]),
            refused: refused.iter().map(|(reason, count)| (reason.clone(), number(count))).collect(),
            kernel_drops: number(&json["kernel_drops"]),
            packets: number(&json["received"]["packets"]),
            lines: number(&json["received"]["lines"]),
            json,
        };
        assert_eq!(books.refused_total(), number(&books.json["refused_total"]), "{books:?}");
        books
    }

    /// Waits until they hold so many values, counted and refused together.
    pub(crate) fn wait_total(tallyd: &Tallyd, total: u64) -> Self {
        Self::wait(tallyd, |books| books.counted + books.refused_total() >= total)
    }

    /// Waits until `condition` holds; panics with the books when it does not.
    pub(crate) fn wait(tallyd: &Tallyd, condition: impl Fn(&Self) -> bool) -> Self {
        Self::wait_for(tallyd, DEADLINE, condition)
    }

    /// The same within another time.
    pub(crate) fn wait_for(tallyd: &Tallyd, deadline: Duration, condition: impl Fn(&Self) -> bool) -> Self {
        let mut books = Self::read(tallyd);
        let reached = time::wait_until(deadline, || {
            books = Self::read(tallyd);
            condition(&books)
        });
        assert!(reached, "{books:#?}");
        books
    }

    /// Refusals of all reasons.
    pub(crate) fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Refusals of one reason.
    pub(crate) fn refused_for(&self, reason: &str) -> u64 {
        self.refused.get(reason).copied().unwrap_or(0)
    }

    /// Panics unless exactly these were refused.
    pub(crate) fn assert_refused(&self, reasons: &[(&str, u64)]) {
        let wanted: BTreeMap<String, u64> =
            reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        assert_eq!(self.refused, wanted, "{:#?}", self.json);
    }
}

/// All that the processes of a launch have logged.
pub(crate) fn log(launch: &Launch) -> String {
    std::fs::read_to_string(launch.dir().join("tallyd.err")).unwrap_or_default()
}

/// Starts what must not start: waits for its end and returns what it logged. Its exit code is 1.
pub(crate) fn refuses_to_start(launch: &Launch) -> String {
    let before = log(launch).len();
    let mut tallyd = launch.start_unready();
    let ended = time::wait_until(DEADLINE, || !tallyd.process.is_running());
    let log = log(launch).split_off(before);
    assert!(ended, "it runs: {log}");
    assert_eq!(tallyd.sigterm(), Some(1), "{log}");
    log
}

/// A launch that sends to `graphite` in buckets of a second, with more sections behind.
pub(crate) fn seconds(graphite: &str, more: &str) -> Launch {
    Launch::native(&format!(
        "{more}\n[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"{graphite}\"]\n"
    ))
}
