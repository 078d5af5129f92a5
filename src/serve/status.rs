//! The books as JSON: `GET /api/v1/status`.

use super::Server;
use crate::health::{MEMORY_STEPS, Offenders, Refusal, read};
use crate::store::Durability;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The state of one destination.
#[derive(Clone, Debug, Serialize)]
pub struct GraphiteStatus {
    /// `host:port`.
    pub address: String,
    /// The last delivery failed.
    pub failing: bool,
    /// Buckets that wait.
    pub buckets_waiting: u64,
    /// Age of the oldest of them, in seconds; 0 if there are none.
    pub lag_seconds: f64,
    /// Points confirmed.
    pub points: u64,
    /// Buckets confirmed, restated ones included.
    pub buckets: u64,
    /// Deliveries that failed.
    pub failures: u64,
    /// Points left out because carbon would choke on them.
    pub unsendable: u64,
    /// When it last confirmed, in seconds since 1970.
    pub last_flush: i64,
    /// When it last failed, in seconds since 1970; 0 is never.
    pub last_exception: i64,
}

#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    now_ms: i64,
    uptime_seconds: f64,
    listening: Vec<String>,
    received: Received,
    /// Values counted.
    counted: u64,
    /// Values, lines or datagrams refused, by reason; reasons that never occurred are left out.
    refused: BTreeMap<&'static str, u64>,
    refused_total: u64,
    last_refused: BTreeMap<&'static str, LastRefused>,
    /// HTTP connections that were hung up on at once, by reason.
    http_refused: BTreeMap<&'static str, u64>,
    /// Datagrams that the kernel dropped before we could read them.
    kernel_drops: u64,
    series: u64,
    /// What was counted for others, since its series found no place.
    overflow: Overflow,
    memory: Memory,
    /// Who sends most.
    offenders: Offenders,
    ticks: Ticks,
    store: StoreStatus,
    graphite: Vec<GraphiteStatus>,
    notices: Notices,
    links: Vec<super::links::LinkStatus>,
}

#[derive(Serialize)]
struct Notices {
    /// Messages to webhooks that were taken.
    sent: u64,
    /// Attempts that were not.
    failures: u64,
    /// Messages that wait.
    waiting: u64,
    /// Messages that were given up.
    given_up: u64,
}

#[derive(Serialize)]
struct Received {
    packets: u64,
    bytes: u64,
    lines: u64,
    events: u64,
    service_checks: u64,
    fields_ignored: u64,
}

#[derive(Serialize)]
struct Overflow {
    /// Values; they are among those counted.
    samples: u64,
    /// Names that they had, about.
    names: u64,
    /// Series that came once and were forgotten since, to make room for new ones.
    made_room: u64,
}

#[derive(Serialize)]
struct Memory {
    /// What the process takes; 0 where the system does not say.
    used_bytes: u64,
    /// As much as it may take.
    max_bytes: u64,
    /// What is given up now, in the order in which it is.
    giving_up: Vec<&'static str>,
    /// How often that was begun.
    times: BTreeMap<&'static str, u64>,
    /// Buckets let go early that every destination had; `buckets_shed` counts the others.
    buckets_let_go: u64,
}

fn memory(server: &Server) -> Memory {
    let books = &server.books.memory;
    let steps = read(&books.steps) as usize;
    Memory {
        used_bytes: read(&books.used),
        max_bytes: read(&books.bytes_max),
        giving_up: MEMORY_STEPS.iter().take(steps).copied().collect(),
        times: MEMORY_STEPS.into_iter().zip(books.taken.iter().map(read)).filter(|(_, n)| *n > 0).collect(),
        buckets_let_go: read(&books.buckets_let_go),
    }
}

#[derive(Serialize)]
struct LastRefused {
    at_ms: i64,
    sender: String,
    line: String,
}

#[derive(Serialize)]
struct Ticks {
    count: u64,
    last_ms: f64,
    hand_overs_late: u64,
    clock_steps: u64,
}

#[derive(Serialize)]
struct StoreStatus {
    promise: String,
    /// Whether a crash now would lose no more than the tick that is being gathered.
    durable: bool,
    /// Why not, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_durable: Option<NotDurable>,
    /// Bytes of the store's file.
    disk_bytes: u64,
    /// Bytes that were written to it since the start.
    written_bytes: u64,
    /// Bytes that wait in memory for the next checkpoint.
    waiting_bytes: u64,
    /// Parts of buckets that did not read back.
    damaged: u64,
    journal: JournalStatus,
    batches_applied: u64,
    batches_late: u64,
    buckets_sealed: u64,
    buckets_amended: u64,
    buckets_shed: u64,
    /// Starts inside a bucket that was stated unfinished: Graphite's value of it was replaced by less.
    restarts_in_bucket: u64,
    /// Batches that were neither in the store nor in the journal any more.
    batches_lost: u64,
    /// Of a store that many nodes count into.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisStatus>,
}

#[derive(Serialize)]
struct RedisStatus {
    /// Why it takes nothing now, and since when; what is counted waits in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    away: Option<NotDurable>,
    /// What is wrong with how it is set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<NotDurable>,
    /// Our clock less its clock.
    skew_ms: i64,
    /// Nodes that count into it now.
    nodes: u64,
    partitions: u64,
    /// Partitions that this node seals and states.
    held: u64,
    /// Buckets that are over and that nobody has sealed yet.
    buckets_due: u64,
}

fn redis_status(server: &Server) -> Option<RedisStatus> {
    let said = |(reason, since_ms)| NotDurable { reason, since_ms };
    let sharing = server.store.sharing()?;
    Some(RedisStatus {
        away: sharing.away.map(said),
        trouble: sharing.trouble.map(said),
        skew_ms: sharing.skew_ms,
        nodes: sharing.nodes,
        partitions: sharing.partitions,
        held: sharing.held,
        buckets_due: sharing.buckets_due,
    })
}

#[derive(Serialize)]
struct NotDurable {
    reason: String,
    since_ms: i64,
}

#[derive(Serialize)]
struct JournalStatus {
    /// Bytes of its files.
    bytes: u64,
    /// Batches that the start found there and applied.
    replayed: u64,
    /// Batches that the start could not read.
    unreadable: u64,
}

fn store_status(server: &Server) -> StoreStatus {
    let books = &server.books;
    let durability = server.store.durability();
    let not_durable = not_durable(server, &durability);
    StoreStatus {
        promise: server.store.promise(),
        durable: not_durable.is_none(),
        not_durable,
        disk_bytes: durability.disk_bytes,
        written_bytes: durability.written_bytes,
        waiting_bytes: durability.waiting_bytes,
        damaged: durability.damaged,
        journal: JournalStatus {
            bytes: read(&books.journal.bytes),
            replayed: read(&books.journal.replayed),
            unreadable: read(&books.journal.unreadable),
        },
        batches_applied: read(&books.batches_applied),
        batches_late: read(&books.batches_late),
        buckets_sealed: read(&books.buckets_sealed),
        buckets_amended: read(&books.buckets_amended),
        buckets_shed: read(&books.buckets_shed),
        restarts_in_bucket: read(&books.restarts_in_bucket),
        batches_lost: read(&books.batches_lost),
        redis: redis_status(server),
    }
}

/// What is in the journal is safe, and so is what a checkpoint holds: only where the journal fails it is not.
fn not_durable(server: &Server, durability: &Durability) -> Option<NotDurable> {
    if !durability.on_disk {
        return Some(NotDurable { reason: "store.url is memory:".to_owned(), since_ms: server.started_ms });
    }
    let (reason, since_ms) = server.books.journal.failing().or_else(|| durability.failing.clone())?;
    Some(NotDurable { reason, since_ms })
}

pub(super) fn status(server: &Server) -> Status {
    let books = &server.books;
    let now = server.clock.now();
    let refused: BTreeMap<_, _> = Refusal::ALL
        .iter()
        .map(|&reason| (reason.label(), books.refused(reason)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let last_refused = books.shown().into_iter().map(|(reason, shown)| {
        (reason.label(), LastRefused { at_ms: shown.at_ms, sender: shown.sender, line: shown.line })
    });
    Status {
        version: env!("CARGO_PKG_VERSION"),
        now_ms: now,
        uptime_seconds: (now - server.started_ms) as f64 / 1_000.0,
        listening: server.listening.clone(),
        received: Received {
            packets: read(&books.packets),
            bytes: read(&books.bytes),
            lines: read(&books.lines),
            events: read(&books.events),
            service_checks: read(&books.service_checks),
            fields_ignored: read(&books.fields_ignored),
        },
        counted: read(&books.samples),
        refused_total: refused.values().sum(),
        refused,
        last_refused: last_refused.collect(),
        http_refused: BTreeMap::from([
            ("connection_limit", read(&books.http_refused)),
            ("sender_connections", read(&books.http_refused_of_sender)),
        ]),
        kernel_drops: read(&books.kernel_drops),
        series: books.series.load(Ordering::Relaxed),
        overflow: Overflow {
            samples: read(&books.overflow),
            names: read(&books.overflow_names),
            made_room: read(&books.series_made_room),
        },
        memory: memory(server),
        offenders: books.offenders(),
        ticks: Ticks {
            count: read(&books.ticks),
            last_ms: read(&books.tick_micros) as f64 / 1_000.0,
            hand_overs_late: read(&books.hand_overs_late),
            clock_steps: server.clock.steps(),
        },
        store: store_status(server),
        graphite: (server.graphite)(),
        notices: Notices {
            sent: read(&server.notices.sent),
            failures: read(&server.notices.failures),
            waiting: read(&server.notices.waiting),
            given_up: read(&server.notices.given_up),
        },
        links: server.links.status(server.clock.now()),
    }
}
