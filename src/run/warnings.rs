//! What its user should know about a start that went well.

use super::restart::Note;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Books;
use crate::{limits, sys};
use std::sync::atomic::Ordering;

pub(super) fn restarted_inside_a_bucket(note: Option<&Note>, clock: &Clock, books: &Books) -> Option<String> {
    let start = note?.take(clock.now())?;
    books.restarts_in_bucket.fetch_add(1, Ordering::Relaxed);
    let began = chrono::DateTime::from_timestamp_millis(start)?.format("%H:%M:%S%.3f UTC");
    Some(format!(
        "the bucket that began at {began} was stated unfinished when tallyd stopped, and is still open: what is \
         counted from now on will replace it at Graphite (the store is memory: and remembers nothing)"
    ))
}

pub(super) fn few_descriptors() -> Option<String> {
    let wanted = limits::DESCRIPTORS_WANTED;
    let allowed = sys::raise_descriptor_limit().filter(|allowed| *allowed < wanted)?;
    Some(format!(
        "this process may open {allowed} files and sockets, and needs {wanted} when all connection limits are \
         reached: raise it (`ulimit -n`, or LimitNOFILE in a systemd unit)"
    ))
}

pub(super) fn open_to_strangers(config: &Config) -> Option<String> {
    let listen = config.http.listen.filter(|listen| !listen.ip().is_loopback())?;
    (!config.http.has_tokens()).then(|| {
        format!("HTTP on {listen} shows status and figures to anybody who reaches it, and lets nobody from elsewhere change \
             anything: set `http.tokens`, or listen on loopback")
    })
}
