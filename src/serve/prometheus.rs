//! The books for Prometheus: `GET /metrics`.
//!
//! The books are the truth; this file only gives them their conventional names and units. A recorder is made
//! for each request, so that nothing is counted in two places.

use super::Server;
use super::process::process;
use crate::health::{MEMORY_STEPS, MemoryBooks, Refusal, read};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::atomic::Ordering;

/// The text of all our own counters.
pub(super) fn render(server: &Server) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        ingest(server);
        pipeline(server);
        store(server);
        redis(server);
        graphite(server);
        process(server);
    });
    handle.render()
}

fn total(name: &'static str, help: &'static str, value: u64) {
    describe_counter!(name, help);
    counter!(name).absolute(value);
}

fn level(name: &'static str, unit: Unit, help: &'static str, value: f64) {
    describe_gauge!(name, unit, help);
    gauge!(name).set(value);
}

fn ingest(server: &Server) {
    let books = &server.books;
    total("tallyd_packets_total", "Datagrams, and stream reads that completed a line.", read(&books.packets));
    total("tallyd_received_bytes_total", "Bytes of those.", read(&books.bytes));
    total("tallyd_lines_total", "Lines that were not empty, refused ones included.", read(&books.lines));
    total("tallyd_samples_total", "Values counted.", read(&books.samples));
    total(
        "tallyd_overflow_samples_total",
        "Of those, values counted in overflow series: their own found no place.",
        read(&books.overflow),
    );
    level(
        "tallyd_overflow_names",
        Unit::Count,
        "How many names those had since the start, about.",
        read(&books.overflow_names) as f64,
    );
    total("tallyd_events_total", "DogStatsD events seen.", read(&books.events));
    total("tallyd_service_checks_total", "DogStatsD service checks seen.", read(&books.service_checks));
    total("tallyd_fields_ignored_total", "Unknown fields passed over.", read(&books.fields_ignored));
    total(
        "tallyd_kernel_drops_total",
        "Datagrams the kernel dropped: its buffer was full.",
        read(&books.kernel_drops),
    );
    level(
        "tallyd_last_packet_timestamp_seconds",
        Unit::Seconds,
        "When something last arrived, since 1970; 0 is never.",
        books.last_packet_ms.load(Ordering::Relaxed) as f64 / 1_000.0,
    );
    describe_counter!("tallyd_refused_total", "Values, lines or datagrams refused, by reason.");
    for reason in Refusal::ALL {
        counter!("tallyd_refused_total", "reason" => reason.label()).absolute(books.refused(reason));
    }
    describe_counter!("tallyd_http_refused_total", "HTTP connections hung up on at once, by reason.");
    for (reason, refused) in
        [("connection_limit", &books.http_refused), ("sender_connections", &books.http_refused_of_sender)]
    {
        counter!("tallyd_http_refused_total", "reason" => reason).absolute(read(refused));
    }
}

fn pipeline(server: &Server) {
    let books = &server.books;
    let uptime = (server.clock.now() - server.started_ms) as f64 / 1_000.0;
    level("tallyd_uptime_seconds", Unit::Seconds, "Time since the start.", uptime);
    level("tallyd_series", Unit::Count, "Series known.", read(&books.series) as f64);
    total(
        "tallyd_series_made_room_total",
        "Series that came once, forgotten to make room for new ones.",
        read(&books.series_made_room),
    );
    let tick = read(&books.tick_micros) as f64 / 1e6;
    level("tallyd_tick_seconds", Unit::Seconds, "Work of the last tick.", tick);
    total("tallyd_ticks_total", "Ticks completed.", read(&books.ticks));
    total("tallyd_hand_overs_late_total", "Hand-overs that came a tick late.", read(&books.hand_overs_late));
    total("tallyd_clock_steps_total", "Steps of the system's clock.", server.clock.steps());
    total("tallyd_batches_applied_total", "Batches applied.", read(&books.batches_applied));
    total("tallyd_batches_late_total", "Batches that could not be applied.", read(&books.batches_late));
    total("tallyd_buckets_sealed_total", "Buckets sealed.", read(&books.buckets_sealed));
    total(
        "tallyd_buckets_amended_total",
        "Sealed buckets amended by late samples.",
        read(&books.buckets_amended),
    );
    let restarts = read(&books.restarts_in_bucket);
    total(
        "tallyd_restarts_in_bucket_total",
        "Starts inside a bucket stated unfinished under memory:.",
        restarts,
    );
    total("tallyd_buckets_shed_total", "Buckets let go unforwarded: memory_max.", read(&books.buckets_shed));
    memory(&books.memory);
}

fn memory(books: &MemoryBooks) {
    let (most, steps) = (read(&books.bytes_max) as f64, read(&books.steps) as f64);
    level("tallyd_memory_max_bytes", Unit::Bytes, "limits.memory_max.", most);
    level("tallyd_memory_steps", Unit::Count, "Sorts of detail given up for want of memory, now.", steps);
    describe_counter!("tallyd_memory_given_up_total", "How often each was begun to be given up.");
    for (detail, taken) in MEMORY_STEPS.into_iter().zip(&books.taken) {
        counter!("tallyd_memory_given_up_total", "detail" => detail).absolute(read(taken));
    }
    total(
        "tallyd_buckets_let_go_total",
        "Buckets let go early, which every destination had.",
        read(&books.buckets_let_go),
    );
}

fn store(server: &Server) {
    let books = &server.books;
    let durability = server.store.durability();
    let durable = durability.on_disk && durability.failing.is_none() && books.journal.failing().is_none();
    level(
        "tallyd_durable",
        Unit::Count,
        "1 while a crash would lose no more than a tick.",
        f64::from(u8::from(durable)),
    );
    level(
        "tallyd_durable_promised",
        Unit::Count,
        "1 where store.url promises that; 0 under memory:.",
        f64::from(u8::from(durability.on_disk)),
    );
    level("tallyd_store_bytes", Unit::Bytes, "Size of the store's file.", durability.disk_bytes as f64);
    let waiting = durability.waiting_bytes as f64;
    level("tallyd_store_waiting_bytes", Unit::Bytes, "Bytes that wait in memory to be written.", waiting);
    total("tallyd_store_written_bytes_total", "Bytes written to the store.", durability.written_bytes);
    total("tallyd_store_damaged_total", "Parts of buckets that did not read back.", durability.damaged);
    let journal = read(&books.journal.bytes) as f64;
    level("tallyd_journal_bytes", Unit::Bytes, "Size of the journal.", journal);
    let (replayed, unreadable) = (read(&books.journal.replayed), read(&books.journal.unreadable));
    total(
        "tallyd_journal_replayed_total",
        "Batches that the start found in the journal and applied.",
        replayed,
    );
    total("tallyd_journal_unreadable_total", "Batches that the start could not read.", unreadable);
}

/// Only where the store is one that nodes share.
fn redis(server: &Server) {
    let Some(sharing) = server.store.sharing() else {
        return;
    };
    let one_if = |is: bool| f64::from(u8::from(is));
    level("tallyd_redis_up", Unit::Count, "1 while Redis takes counts.", one_if(sharing.away.is_none()));
    let trouble = one_if(sharing.trouble.is_some());
    level("tallyd_redis_trouble", Unit::Count, "1 while Redis is not set up to keep counts.", trouble);
    let skew = sharing.skew_ms as f64 / 1_000.0;
    level("tallyd_redis_skew_seconds", Unit::Seconds, "Our clock less that of Redis.", skew);
    level("tallyd_redis_nodes", Unit::Count, "Nodes that count into it.", sharing.nodes as f64);
    let (all, held) = (sharing.partitions as f64, sharing.held as f64);
    level("tallyd_redis_partitions", Unit::Count, "Parts that series are spread over.", all);
    level("tallyd_redis_partitions_held", Unit::Count, "Those that this node seals and states.", held);
    let due = sharing.buckets_due as f64;
    level("tallyd_redis_buckets_due", Unit::Count, "Buckets that are over and not sealed yet.", due);
    let reread = "Buckets that pages look at and that were let go of for want of room.";
    total("tallyd_redis_buckets_reread_total", reread, sharing.buckets_reread);
    let lost = read(&server.books.batches_lost);
    total("tallyd_redis_batches_lost_total", "Batches that Redis lost and no journal has any more.", lost);
}

fn graphite(server: &Server) {
    describe_gauge!("tallyd_graphite_up", "Whether the last delivery was confirmed.");
    describe_gauge!("tallyd_graphite_buckets_waiting", Unit::Count, "Buckets that wait for a destination.");
    describe_gauge!("tallyd_graphite_lag_seconds", Unit::Seconds, "Age of the oldest bucket that waits.");
    describe_counter!("tallyd_graphite_points_total", "Points confirmed.");
    describe_counter!("tallyd_graphite_buckets_total", "Buckets confirmed, restated ones included.");
    describe_gauge!(
        "tallyd_graphite_last_confirmed_timestamp_seconds",
        Unit::Seconds,
        "When it last confirmed, since 1970; before that, the start."
    );
    describe_counter!("tallyd_graphite_failures_total", "Deliveries that failed.");
    describe_counter!("tallyd_graphite_unsendable_total", "Points left out: carbon would choke on them.");
    for status in (server.graphite)() {
        let address = status.address;
        gauge!("tallyd_graphite_up", "address" => address.clone()).set(if status.failing {
            0.0
        } else {
            1.0
        });
        gauge!("tallyd_graphite_buckets_waiting", "address" => address.clone())
            .set(status.buckets_waiting as f64);
        gauge!("tallyd_graphite_lag_seconds", "address" => address.clone()).set(status.lag_seconds);
        counter!("tallyd_graphite_points_total", "address" => address.clone()).absolute(status.points);
        counter!("tallyd_graphite_buckets_total", "address" => address.clone()).absolute(status.buckets);
        gauge!("tallyd_graphite_last_confirmed_timestamp_seconds", "address" => address.clone())
            .set(status.last_flush as f64);
        counter!("tallyd_graphite_failures_total", "address" => address.clone()).absolute(status.failures);
        counter!("tallyd_graphite_unsendable_total", "address" => address).absolute(status.unsendable);
    }
}
