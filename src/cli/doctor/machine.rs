//! The machine: the kernel's limits on receive buffers, memory, descriptors.
//!
//! What the kernel drops because a buffer was small is the one loss that a statsd server has on its own machine,
//! and nobody sees it there: senders are told nothing.

use super::{Patient, Report, bytes};
use crate::config::show_size;
use crate::{limits, sys};

const RMEM_MAX: &str = "net.core.rmem_max";
/// The kernel gives a socket twice what was asked for, for its own overhead.
const OVERHEAD: u64 = 2;
/// What is left of a machine's memory for everything that is not buckets, in percent.
const OTHERS_PERCENT: u64 = 20;

pub(super) fn check(patient: &Patient, report: &mut Report) {
    receive_buffer(patient, report);
    all_buffers(patient, report);
    backlog(patient, report);
    memory(patient, report);
    descriptors(report);
}

/// Where tallyd's own socket unit is enabled, systemd opens the socket, and is not bound by the limit.
fn opened_by_systemd(patient: &Patient) -> bool {
    patient.path("/etc/systemd/system/sockets.target.wants/tallyd.socket").symlink_metadata().is_ok()
}

fn receive_buffer(patient: &Patient, report: &mut Report) {
    let asked = patient.loaded.config.ingest.receive_buffer as u64;
    let Some(allowed) = patient.number("/proc/sys/net/core/rmem_max") else {
        report.note(format!("this system does not say what {RMEM_MAX} is"));
        return;
    };
    if patient.loaded.config.ingest.udp.is_empty() {
        report.note("no UDP address is listened on");
    } else if allowed >= asked {
        report.good(format!("{RMEM_MAX} allows {}, as much as is asked for", bytes(allowed)));
    } else if opened_by_systemd(patient) {
        report.good(format!(
            "tallyd.socket is enabled: systemd opens the socket with ReceiveBuffer=, beyond {RMEM_MAX} if need be"
        ));
    } else {
        report.finding(
            format!(
                "{RMEM_MAX} is {allowed}, and ingest.receive_buffer asks for {asked} ({}): without the right to \
                 exceed it (CAP_NET_ADMIN) tallyd gets a smaller buffer, and a burst is dropped sooner",
                show_size(asked)
            ),
            format!(
                "sysctl -w {RMEM_MAX}={asked}, and `{RMEM_MAX} = {asked}` in /etc/sysctl.d/60-tallyd.conf to keep it"
            ),
        );
    }
}

/// All UDP sockets of a machine share pages; beyond the last of three numbers each datagram is dropped.
fn all_buffers(patient: &Patient, report: &mut Report) {
    let options = &patient.loaded.config.ingest;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let wanted = OVERHEAD * (options.receive_buffer * options.udp.len() * threads) as u64;
    let Some(pages) = patient.read("/proc/sys/net/ipv4/udp_mem").and_then(|text| {
        let last = text.split_whitespace().nth(2)?;
        last.parse::<u64>().ok()
    }) else {
        return;
    };
    let shared = pages.saturating_mul(4_096);
    if shared < wanted {
        let needed = wanted.div_ceil(4_096);
        report.finding(
            format!(
                "all UDP sockets together may hold {} (net.ipv4.udp_mem), and tallyd's alone may want {}",
                bytes(shared),
                bytes(wanted)
            ),
            format!(
                "sysctl -w net.ipv4.udp_mem='{} {} {}', or lower ingest.receive_buffer or ingest.threads",
                needed,
                needed + needed / 2,
                needed * 2
            ),
        );
    }
}

/// Packets that were dropped before any socket: the second column of each core's line, in hexadecimal.
fn backlog(patient: &Patient, report: &mut Report) {
    let Some(text) = patient.read("/proc/net/softnet_stat") else {
        return;
    };
    let column = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let dropped: u64 = text.lines().filter_map(column).sum();
    if dropped > 0 {
        report.note(format!(
            "since it was started this machine has dropped {dropped} packets before they reached any socket; if that \
             number grows, raise net.core.netdev_max_backlog"
        ));
    }
}

fn memory(patient: &Patient, report: &mut Report) {
    let total = patient.read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    // A container's own limit; "max" is none.
    let allowed = patient.number("/sys/fs/cgroup/memory.max");
    let Some(there) = total.into_iter().chain(allowed).min() else {
        return;
    };
    let wanted = patient.loaded.config.store.memory_bytes_max as u64;
    let room = there - there * OTHERS_PERCENT / 100;
    if wanted > room {
        report.finding(
            format!(
                "limits.memory_max is {}, and this machine or container has {} in all: at the limit the kernel would \
                 end tallyd",
                bytes(wanted),
                bytes(there)
            ),
            format!("set limits.memory_max to {}MiB or less, or give it more memory", room >> 20),
        );
    } else {
        report.good(format!("limits.memory_max ({}) fits into {}", bytes(wanted), bytes(there)));
    }
}

fn descriptors(report: &mut Report) {
    let wanted = limits::DESCRIPTORS_WANTED;
    match sys::raise_descriptor_limit() {
        Some(allowed) if allowed < wanted => report.finding(
            format!("a process started here may open {allowed} files and sockets; at all limits of connections tallyd needs {wanted}"),
            format!("ulimit -n {wanted}, or LimitNOFILE={wanted} in the unit"),
        ),
        Some(allowed) => report.good(format!("{allowed} files and sockets may be open")),
        None => {}
    }
}
