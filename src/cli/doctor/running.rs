//! A running tallyd of this configuration: what its own books say is wrong.

use super::{PATIENCE, Patient, Report};
use crate::cli::ask::{ask, bearer, reachable};
use crate::config::Loaded;
use crate::limits;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;

/// More than one in so many refused is worth a look.
const REFUSED_PARTS: u64 = 100;
/// A destination that is further behind than this is behind, in seconds.
const LAG_SECS_MAX: f64 = 60.0;
/// Of `limits.series_max`, in percent.
const SERIES_PERCENT: u64 = 90;

/// Who answers at `http.listen`.
pub(super) enum Running {
    /// HTTP is off, so that nobody can be asked.
    Off,
    /// Nobody.
    Silent(SocketAddr),
    /// A tallyd, with its status.
    Answers { address: SocketAddr, status: Value },
    /// Somebody who does not answer as tallyd does to us.
    Stranger { address: SocketAddr, said: String },
}

impl Running {
    pub(super) fn ask(loaded: &Loaded) -> Self {
        let Some(listen) = loaded.config.http.listen else {
            return Self::Off;
        };
        let address = reachable(listen);
        let bearer = bearer(loaded);
        let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
        match ask(&loaded.config, address, "GET", "/api/v1/status", &headers, PATIENCE) {
            Ok(answer) => match serde_json::from_str::<Value>(&answer.body) {
                Ok(status) if answer.code == 200 && status.get("ticks").is_some() => {
                    Self::Answers { address, status }
                }
                _ => Self::Stranger { address, said: answer.status },
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Silent(address),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let said = format!("no answer came within {} s", PATIENCE.as_secs());
                Self::Stranger { address, said }
            }
            Err(error) => Self::Stranger { address, said: error.to_string() },
        }
    }
}

pub(super) fn check(patient: &Patient, report: &mut Report) {
    match &patient.running {
        Running::Off => report.note("http.listen is off, so a running tallyd is not asked"),
        Running::Silent(address) => report.note(format!("no tallyd answers at {address} (http.listen)")),
        Running::Stranger { address, said } => report.finding(
            format!("whoever answers at {address} (http.listen) is no tallyd, or does not know us: {said}"),
            "give the doctor the configuration that tallyd runs with, its tokens included",
        ),
        Running::Answers { status, .. } => {
            let before = report.findings();
            input(report, status);
            series(report, status, patient.loaded.config.aggregate.series_max as u64);
            kept(report, status);
            graphite(report, status);
            if report.findings() == before {
                report.good(format!(
                    "version {} has counted {} values and has nothing to complain of",
                    status.get("version").and_then(Value::as_str).unwrap_or("?"),
                    number(status, "/counted")
                ));
            }
        }
    }
}

fn number(status: &Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn text<'a>(status: &'a Value, pointer: &str) -> &'a str {
    status.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown")
}

fn input(report: &mut Report, status: &Value) {
    let drops = number(status, "/kernel_drops");
    if drops > 0 {
        report.finding(
            format!("the kernel has dropped {drops} datagrams since tallyd started: its buffer was full"),
            "raise net.core.rmem_max and ingest.receive_buffer, then ingest.threads; have clients pack more lines into \
             a datagram",
        );
    }
    let refused = number(status, "/refused_total");
    if refused > number(status, "/counted") / REFUSED_PARTS {
        let reasons = status.get("refused").and_then(Value::as_object);
        let most = reasons.and_then(|reasons| reasons.iter().max_by_key(|(_, n)| n.as_u64()));
        let (reason, _) =
            most.map_or(("unknown", 0), |(reason, n)| (reason.as_str(), n.as_u64().unwrap_or(0)));
        let line = text(status, &format!("/last_refused/{reason}/line")).escape_debug().to_string();
        let sender = text(status, &format!("/last_refused/{reason}/sender"));
        report.finding(
            format!("{refused} values or lines were refused, most of them for {reason}: \"{line}\" of {sender}, say"),
            "mend that client; docs/metrics.md explains each reason, and /api/v1/status shows the last line of each",
        );
    }
    let steps = number(status, "/ticks/clock_steps");
    if steps > 0 {
        report.finding(
            format!("this machine's clock was set by a second or more {steps} times since tallyd started"),
            "look at chrony or systemd-timesyncd: a clock that is kept is slewed, not stepped",
        );
    }
}

fn series(report: &mut Report, status: &Value, most: u64) {
    let known = number(status, "/series");
    if known >= most / 100 * SERIES_PERCENT {
        report.finding(
            format!(
                "{known} series are known, and limits.series_max is {most}: new names will be counted together, in \
                 overflow series{}",
                busiest(status)
            ),
            "have that client put no ids into names (`offenders` in /api/v1/status), or raise limits.series_max",
        );
    } else if number(status, "/overflow/samples") > 0 {
        report.finding(
            format!(
                "{} values of some {} names were counted in overflow series since tallyd started{}",
                number(status, "/overflow/samples"),
                number(status, "/overflow/names"),
                busiest(status)
            ),
            "have that client put no ids into names (`offenders` in /api/v1/status); raise limits.series_max or \
             limits.memory_max",
        );
    }
}

/// Where most new names come from.
fn busiest(status: &Value) -> String {
    let first = |list: &str| {
        ["new_series", "overflow"].iter().find_map(|what| {
            status.pointer(&format!("/offenders/{list}/{what}/0/name")).and_then(Value::as_str)
        })
    };
    match (first("prefixes"), first("senders")) {
        (Some(prefix), Some(sender)) => {
            format!("; most new ones are {}.*, and most come from {sender}", prefix.escape_debug())
        }
        (Some(prefix), None) => format!("; most new ones are {}.*", prefix.escape_debug()),
        _ => String::new(),
    }
}

fn kept(report: &mut Report, status: &Value) {
    let store = |name: &str| number(status, &format!("/store/{name}"));
    // What memory: means is said with the store.
    let fails = status.pointer("/store/durable") == Some(&Value::Bool(false));
    let reason = text(status, "/store/not_durable/reason");
    if fails && !reason.contains("memory:") {
        report.finding(
            format!("what is counted does not reach the disk now: {reason}"),
            "free some space or mend the disk; counting goes on in memory until then",
        );
    }
    if store("damaged") > 0 {
        report.finding(
            format!(
                "{} parts of the store did not read back: the disk or its file is damaged",
                store("damaged")
            ),
            "look at the disk (dmesg, smartctl), then stop tallyd and `tallyd restore` the last good backup",
        );
    }
    let (due, partitions) = (store("redis/buckets_due"), store("redis/partitions"));
    if due > limits::REDIS_DUE_WARNED * partitions {
        report.finding(
            format!("{due} buckets are over and not sealed: folding in Redis is behind, and queries are slow"),
            "look at what Redis spends its time on, and at the way to it; a longer flush.tick is less work (docs/nodes.md)",
        );
    }
    if store("buckets_shed") > 0 {
        report.finding(
            format!("{} buckets were let go before Graphite had them", store("buckets_shed")),
            "bring Graphite back; raise limits.memory_max, or keep buckets on disk (store.url)",
        );
    }
}

fn graphite(report: &mut Report, status: &Value) {
    for one in status.get("graphite").and_then(Value::as_array).into_iter().flatten() {
        let address = text(one, "/address");
        let lag = one.get("lag_seconds").and_then(Value::as_f64).unwrap_or(0.0);
        if one.get("failing") == Some(&Value::Bool(true)) || lag > LAG_SECS_MAX {
            report.finding(
                format!(
                    "{address} is behind: {} buckets wait, the oldest for {lag:.0} s, after {} failures",
                    number(one, "/buckets_waiting"),
                    number(one, "/failures")
                ),
                "bring that Graphite back, or raise graphite.backfill_rate if it is only catching up",
            );
        }
        if number(one, "/unsendable") > 0 {
            report.finding(
                format!(
                    "{} points could not be sent to {address}: carbon would choke on them",
                    number(one, "/unsendable")
                ),
                "shorten names and tags: a part of a path has 250 bytes at most, a line 16,384",
            );
        }
    }
}
