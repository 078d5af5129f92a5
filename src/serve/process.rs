//! The process itself for Prometheus, under the names that all of its clients use.
//!
//! What the system tells of us is read when it is asked for; what it does not tell is left out.

use super::Server;
use crate::sys;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use std::fs;

/// Version, start, processor time, memory and open files.
pub(super) fn process(server: &Server) {
    describe_gauge!("tallyd_build_info", "Always 1; the label says which version runs.");
    gauge!("tallyd_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "Start of the process since 1970.");
    gauge!("process_start_time_seconds").set(server.started_ms as f64 / 1_000.0);
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let (user, system) = (usage.user_time(), usage.system_time());
        let seconds = (user.tv_sec() + system.tv_sec()) as u64;
        // The recorder counts whole numbers; parts of a second are of no use in a rate over minutes.
        describe_counter!("process_cpu_seconds_total", Unit::Seconds, "User and system time.");
        counter!("process_cpu_seconds_total").absolute(seconds);
    }
    if let Some(bytes) = sys::resident_bytes() {
        describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory in use.");
        gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        describe_gauge!("process_open_fds", "Open files and sockets.");
        gauge!("process_open_fds").set(open.count() as f64);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        describe_gauge!("process_max_fds", "Files and sockets that may be open.");
        gauge!("process_max_fds").set(soft as f64);
    }
}
