//! The clock: buckets are spans of it, and nodes and Graphite are put side by side by it.

use super::{Patient, Report};
use crate::clock::Clock;
use crate::sys;

/// No tallyd is older: 2025-01-01 00:00 UTC.
const EARLIEST_MS: i64 = 1_735_689_600_000;

pub(super) fn check(_patient: &Patient, report: &mut Report) {
    let now = Clock::system().now();
    if now < EARLIEST_MS {
        let shown = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
        report.finding(
            format!("this machine believes that it is {}", shown.format("%Y-%m-%d %H:%M UTC")),
            "set the clock: timedatectl set-ntp true, or install chrony",
        );
    }
    match sys::clock_is_synchronised() {
        Some(true) => report.good("the kernel's clock is kept by NTP"),
        Some(false) => report.finding(
            "nobody keeps this machine's clock: the kernel calls it unsynchronised. Buckets drift away from those of \
             other machines",
            "timedatectl set-ntp true, or install chrony; in a container or virtual machine, on its host",
        ),
        None => report.note("this system does not say whether NTP keeps its clock"),
    }
}
