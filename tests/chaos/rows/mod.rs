//! The rows, in the order of the scoreboard.

mod access;
mod clocks;
mod crashes;
mod cut;
mod disks;
mod graphite;
mod hostile;
mod overload;
mod redis;
mod simulated;

use crate::board::Row;

/// All rows; the first is number 1.
pub(crate) const ROWS: [Row; 21] = [
    Row {
        fault: "kill -9 of the collector at 20 random moments, 50,000 lines/s, the socket kept",
        target: "at most one tick (0.2 s) of input missing per kill, double 0",
        play: crashes::kill,
    },
    Row {
        fault: "kill -9 of Redis, 20 times: append-only; and snapshots alone, the outage inside the journal",
        target: "lost 0, double 0",
        play: redis::kill,
    },
    Row {
        fault: "Redis Cluster: a master killed, one stopped for 10 s, the link of one cut for 12 s",
        target: "lost 0, double 0",
        play: redis::cluster,
    },
    Row {
        fault: "replies of Redis lost at random bytes, 10,000 cuts",
        target: "lost 0, double 0",
        play: redis::lost_answers,
    },
    Row {
        fault: "Graphite down for an hour of buckets, a stop and a kill in the middle",
        target: "every point right, at most 5 min to catch up",
        play: graphite::an_hour_away,
    },
    Row {
        fault: "carbon kill -9, 20 times",
        target: "no accepted point missing after it was stated again",
        play: graphite::kill,
    },
    Row {
        fault: "more new series at once than carbon by default makes files for (140; 2,000 with CHAOS_FULL=1)",
        target: "all first points in the end",
        play: graphite::new_series,
    },
    Row {
        fault: "Graphite reads 1 KB/s, then nothing",
        target: "ingest and page unchanged within 5 % (page: or 25 ms), memory bounded",
        play: graphite::slow,
    },
    Row {
        fault: "clock jumps of 1 h, 90 s, 1 s and steps of 10 ms, both ways; both days on which clocks are changed",
        target: "no negative or duplicate bucket, totals exact",
        play: clocks::jumps,
    },
    Row {
        fault: "10 million random names",
        target: "RSS within memory_max, sentinel exact, the overflow's total right, normal after two buckets",
        play: hostile::names,
    },
    Row {
        fault: "10 million mutated datagrams (100 million with CHAOS_FULL=1)",
        target: "0 crashes, every line accounted for, 0 lines that carbon refuses",
        play: hostile::mutated,
    },
    Row {
        fault: "datagrams of 1 to 65,507 bytes, truncated tails, a TCP line of 64 MB",
        target: "whole lines counted, cut tails refused, bounded memory",
        play: hostile::sizes,
    },
    Row {
        fault: "twice the capacity for 30 s; reader stopped for 2 s",
        target: "reported drops are the true drops, to the datagram",
        play: overload::overload,
    },
    Row {
        fault: "5,000 half-open TCP connections, 5,000 half-sent HTTP requests",
        target: "UDP ingest unaffected, a new page within 1 s, the idle cut within 30 s",
        play: overload::half_open_connections,
    },
    Row {
        fault: "disk full and freed (4 MB tmpfs), also at the start; read-only journal",
        target: "goes on, says \"not durable\", resumes alone",
        play: disks::full,
    },
    Row {
        fault: "journal torn at every byte, bits flipped",
        target: "whole records before the damage recovered, 0 panics",
        play: disks::torn,
    },
    Row {
        fault: "SIGTERM under 50,000 lines/s, everything up; everything down",
        target: "exit within 5 s, lost 0, the exit code says which",
        play: crashes::stops,
    },
    Row {
        fault: "100 restarts at 50,000 lines/s with the socket kept",
        target: "lost 0, double 0",
        play: crashes::restarts,
    },
    Row {
        fault: "10,000 stream clients, 1,000 of them dead",
        target: "healthy p99 within 1 s, bounded memory, memory comes back",
        play: overload::viewers,
    },
    Row {
        fault: "every route by every caller and method, Host and Origin forged; hostile names in a real browser",
        target: "0 leaks, 0 state changes, 0 script runs",
        play: access::table,
    },
    Row {
        fault: "simulation of flush, journal, store, rollup and forward",
        target: "1,000 seeds (100,000 in `make nightly`), each the same history again bit for bit",
        play: simulated::seeds,
    },
];

/// Whether the rows are played at their full size, as at night.
fn is_full() -> bool {
    std::env::var_os("CHAOS_FULL").is_some()
}
