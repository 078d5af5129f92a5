//! The keys of each section: their defaults, their limits and how they hang together.
//!
//! In comes one section of a [`Reader`](super::reader::Reader); out come the values that hold, in the stages'
//! own types where there are any. Does not know the other sections, nor in which language the file was
//! written.

use super::Secret;
use super::address::{parse_destination, parse_listen, parse_network, parse_unix};
use super::notify::events;
use super::problem::Reason;
use super::raw::{Raw, boolean, choice, count, duration, size, text};
use super::reader::Section;
use super::timers::{histogram, percentile};
use super::units::{show_duration, show_size};
use crate::forward::{Connection, Naming, Protocol, Scheme, Stamp, TimerRules};
use crate::ingest::UnixAddress;
use crate::ingest::signed::SigningKey;
use crate::metric::Width;
use crate::notify::Rule;
use crate::serve::tokens::{self, CHARACTERS_MIN, Token};
use crate::store::{Idle, IdleRules};
use crate::{flush, forward, limits, tls};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Value;

const DAY_MS: u64 = 86_400_000;
/// A name must fit into a line for Graphite, with its tags, the value and the time.
const NAME_BYTES_CEILING: usize = limits::CARBON_LINE_BYTES_MAX - limits::TAGS_BYTES_MAX - 128;
/// A bucket is sealed at most so many widths after its end: what is open costs memory.
const GRACE_BUCKETS_MAX: u64 = 10;

pub(super) struct Ingest {
    pub(super) udp: Vec<SocketAddr>,
    pub(super) signed: Vec<SocketAddr>,
    pub(super) signed_keys: Vec<SigningKey>,
    pub(super) signed_key_files: Vec<PathBuf>,
    pub(super) signed_window_secs: u64,
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
    pub(super) unix: Vec<UnixAddress>,
    pub(super) threads: usize,
    pub(super) receive_buffer: usize,
    pub(super) allow: Vec<IpNet>,
}

pub(super) struct Graphite {
    pub(super) options: forward::Options,
    pub(super) naming: Naming,
    pub(super) counts: bool,
    pub(super) stamp: Stamp,
    /// Marks as events, if anybody takes them.
    pub(super) events: Option<Rule>,
}

pub(super) struct Limits {
    pub(super) series_max: usize,
    pub(super) memory_bytes_max: usize,
    pub(super) name_bytes_max: usize,
    pub(super) tags_max: usize,
    pub(super) datagram_bytes_max: usize,
    pub(super) sender_rate: usize,
    pub(super) sender_connections: usize,
}

pub(super) fn ingest(section: &mut Section<'_, '_>) -> Ingest {
    let signed = addresses(section, "signed", Vec::new());
    let signed_keys = section.list("signed_keys", Vec::new(), text(signing_key));
    let signed_key_files = section.list("signed_key_files", Vec::new(), text(file));
    if !signed.is_empty()
        && signed_keys.is_empty()
        && signed_key_files.is_empty()
        && section.is_sound("signed_keys")
    {
        let cure = "set ingest.signed_keys (TALLYD_INGEST_SIGNED_KEYS) or ingest.signed_key_files";
        section.mistake("signed", Reason::new("without a key no datagram is let in there", cure));
    }
    let window =
        section.value("signed_window", show_duration(limits::SIGNED_WINDOW_MS), duration(1_000..=3_600_000));
    Ingest {
        signed,
        signed_keys,
        signed_key_files,
        signed_window_secs: window / 1_000,
        udp: addresses(section, "udp", vec![Value::from("[::]:8125")]),
        tcp: addresses(section, "tcp", Vec::new()),
        tls: addresses(section, "tls", Vec::new()),
        unix: section.list("unix", Vec::new(), text(parse_unix)),
        threads: section.value("threads", 0, count(0..=1_024)),
        receive_buffer: section.value(
            "receive_buffer",
            show_size(limits::RECEIVE_BUFFER_BYTES as u64),
            size(4_096..=limits::RECEIVE_BUFFER_BYTES_MAX),
        ),
        allow: section.list("allow", Vec::new(), text(parse_network)),
    }
}

/// Addresses, each of them once: a second socket would find the port taken, by us.
fn addresses(section: &mut Section<'_, '_>, key: &'static str, default: Vec<Value>) -> Vec<SocketAddr> {
    let list = section.list(key, default, listen);
    let twice =
        list.iter().enumerate().find(|(at, address)| list.iter().take(*at).any(|other| other == *address));
    if let Some((_, address)) = twice {
        section.mistake(key, Reason::new(format!("{address} is listed twice"), "list each address once"));
    }
    list
}

/// An address, or the number of a port alone.
fn listen(raw: Raw<'_>) -> Result<SocketAddr, Reason> {
    match raw {
        Raw::File(Value::Integer(port)) => parse_listen(&port.to_string()),
        raw => parse_listen(raw.text()?),
    }
}

/// A narrow bucket brings a short tick and grace along unless they are written, so that it works by itself.
pub(super) fn flush(section: &mut Section<'_, '_>) -> flush::Options {
    let bucket_ms = section.value(
        "bucket",
        show_duration(limits::BUCKET_MS),
        duration(limits::BUCKET_MS_MIN..=limits::BUCKET_MS_MAX),
    );
    let tick = limits::TICK_MS.min(bucket_ms / 2);
    let tick_ms =
        section.value("tick", show_duration(tick), duration(limits::TICK_MS_MIN..=limits::BUCKET_MS_MAX / 2));
    let grace_ms_max = GRACE_BUCKETS_MAX * bucket_ms;
    let grace = limits::GRACE_MS.min(grace_ms_max);
    let grace_ms = section.value("grace", show_duration(grace), duration(0..=DAY_MS));
    let amend_window_ms =
        section.value("amend_window", show_duration(limits::AMEND_WINDOW_MS), duration(0..=30 * DAY_MS));
    if section.is_sound("bucket") && section.is_sound("tick") && tick_ms > bucket_ms / 2 {
        let problem =
            format!("a tick is at most half of flush.bucket, which is {}", show_duration(bucket_ms));
        let cure = format!("write \"{}\" or less, or a wider bucket", show_duration(bucket_ms / 2));
        section.mistake("tick", Reason::new(problem, cure));
    }
    if section.is_sound("bucket") && section.is_sound("grace") && grace_ms > grace_ms_max {
        let problem = format!("grace is at most {GRACE_BUCKETS_MAX} times flush.bucket");
        let cure = format!("write \"{}\" or less, or a wider bucket", show_duration(grace_ms_max));
        section.mistake("grace", Reason::new(problem, cure));
    }
    flush::Options {
        tick_ms: tick_ms as i64,
        bucket: Width::from_ms(bucket_ms),
        grace_ms: grace_ms as i64,
        amend_window_ms: amend_window_ms as i64,
        // Another section says.
        memory_bytes_max: limits::MEMORY_BYTES_MAX,
    }
}

pub(super) fn graphite(section: &mut Section<'_, '_>) -> Graphite {
    // The port of an address depends on the protocol, which is therefore read first.
    let protocols = [("plaintext", Protocol::Plaintext), ("pickle", Protocol::Pickle)];
    let protocol = section.value("protocol", "plaintext", choice(&protocols));
    let port = if protocol == Protocol::Pickle { 2_004 } else { 2_003 };
    let destination = move |raw: Raw<'_>| parse_destination(raw.text()?, port);
    let addresses = section.list("address", vec![Value::from("127.0.0.1")], destination);
    let schemes = [("statsd", Scheme::Statsd), ("legacy", Scheme::Legacy), ("plain", Scheme::Plain)];
    let naming = Naming {
        scheme: section.value("naming", "statsd", choice(&schemes)),
        prefix: section.value("prefix", "stats", text(path)),
        prefix_counter: section.value("prefix_counter", "counters", text(path)),
        prefix_timer: section.value("prefix_timer", "timers", text(path)),
        prefix_gauge: section.value("prefix_gauge", "gauges", text(path)),
        prefix_set: section.value("prefix_set", "sets", text(path)),
        suffix: Some(section.value("suffix", "", text(path))).filter(|suffix| !suffix.is_empty()),
        own_prefix: section.value("own_prefix", "statsd", text(path)),
    };
    let counts = section.value("counts", true, boolean);
    let stamp = section.value("stamp", "start", choice(&[("start", Stamp::Start), ("end", Stamp::End)]));
    let connections = [("per_flush", Connection::PerFlush), ("kept", Connection::Kept)];
    let connection = section.value("connection", "per_flush", choice(&connections));
    let resend_ms = section.value("resend", show_duration(limits::RESEND_MS), duration(0..=DAY_MS)) as i64;
    let backfill_rate = section.value("backfill_rate", whole(limits::BACKFILL_RATE), count(1..=10_000_000));
    let options = forward::Options { addresses, protocol, connection, resend_ms, backfill_rate, watch: true };
    let events = section.value("events", "", events);
    Graphite { options, naming, counts, stamp, events }
}

/// A part of a Graphite path.
fn path(text: &str) -> Result<String, Reason> {
    let unfit = |c: &char| c.is_whitespace() || c.is_control() || ['/', ';'].contains(c);
    if let Some(c) = text.chars().find(unfit) {
        return Err(Reason::new(
            format!("a Graphite path cannot hold {c:?}"),
            "write letters, digits, _, - and dots",
        ));
    }
    if text.len() > limits::CARBON_COMPONENT_BYTES_MAX {
        let cure = format!("write at most {} bytes", limits::CARBON_COMPONENT_BYTES_MAX);
        return Err(Reason::new("this is too long", cure));
    }
    Ok(text.to_owned())
}

pub(super) fn timers(section: &mut Section<'_, '_>) -> (TimerRules, usize) {
    let mut percentiles: Vec<(f64, String)> = section.list("percentiles", vec![Value::from(90)], percentile);
    // Equal percentiles have equal names, of which statsd sends one.
    let mut names = BTreeSet::new();
    percentiles.retain(|(_, name)| names.insert(name.clone()));
    let rules = TimerRules {
        percentiles,
        outputs: section.list("outputs", Vec::new(), |raw| raw.text().map(str::to_owned)),
        histogram: section.list("histogram", Vec::new(), histogram),
    };
    let exact_max =
        section.value("exact_max", whole(limits::TIMER_EXACT_MAX), exact_max(limits::TIMER_EXACT_MAX_STATSD));
    (rules, exact_max)
}

pub(super) fn exact_max(most: usize) -> impl Fn(Raw<'_>) -> Result<usize, Reason> {
    count(1..=most)
}

pub(super) fn idle(section: &mut Section<'_, '_>, bucket: Width) -> IdleRules {
    let words = [("zero", Idle::Zero), ("keep", Idle::Keep), ("drop", Idle::Drop)];
    let rules = IdleRules {
        counters: section.value("counters", "zero", choice(&words)),
        timers: section.value("timers", "zero", choice(&words)),
        sets: section.value("sets", "zero", choice(&words)),
        gauges: section.value("gauges", "keep", choice(&words)),
        gauges_ttl: section.value("gauges_ttl", 1, count(1..=1_000_000)) as u32,
        after_ms: section.value("after", show_duration(limits::IDLE_AFTER_MS), text(after)),
    };
    if section.is_sound("after") && rules.after_ms.is_some_and(|after| after < bucket.ms()) {
        let cure = format!("write \"{}\" or more", show_duration(bucket.ms() as u64));
        section.mistake("after", Reason::new("a series is idle for a bucket at least", cure));
    }
    rules
}

/// How long an idle series is remembered; `never` is how long statsd waits before it forgets one.
fn after(text: &str) -> Result<Option<i64>, Reason> {
    match text {
        "never" => Ok(None),
        text => duration(1_000..=366 * DAY_MS)(Raw::Env(text)).map(|ms| Some(ms as i64)),
    }
}

/// The only names that are counted, where that is wanted: the figures' and those that are listed.
pub(super) fn declared(section: &mut Section<'_, '_>, figures: &[String]) -> Option<Vec<String>> {
    let only = section.value("declared_only", false, boolean);
    let mut declared = section.list("declared", Vec::new(), text(pattern));
    if section.is_sound("declared_only") && only && declared.is_empty() && figures.is_empty() {
        let cure = "write names or patterns into names.declared, or [[figure]] tables";
        section.mistake("declared_only", Reason::new("no name is declared: nothing would be counted", cure));
    }
    declared.extend(figures.iter().cloned());
    only.then_some(declared)
}

/// A name of metrics, with `*` and `?`.
fn pattern(text: &str) -> Result<String, Reason> {
    if text.is_empty() || text.len() > limits::NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let cure = format!("write 1 to {} bytes; * is any run of characters", limits::NAME_BYTES_MAX);
        return Err(Reason::new("this is no name of metrics", cure));
    }
    Ok(text.to_owned())
}

pub(super) fn bounds(section: &mut Section<'_, '_>) -> Limits {
    Limits {
        series_max: section.value("series_max", whole(limits::SERIES_MAX), count(1..=100_000_000)),
        memory_bytes_max: section.value(
            "memory_max",
            show_size(limits::MEMORY_BYTES_MAX as u64),
            size(limits::MEMORY_BYTES_MIN..=1 << 40),
        ),
        name_bytes_max: section.value(
            "name_bytes_max",
            whole(limits::NAME_BYTES_MAX),
            count(1..=NAME_BYTES_CEILING),
        ),
        tags_max: section.value("tags_max", whole(limits::TAGS_MAX), count(0..=1_024)),
        datagram_bytes_max: section.value(
            "datagram_bytes_max",
            whole(limits::DATAGRAM_BYTES_MAX),
            size(512..=limits::DATAGRAM_BYTES_MAX as u64),
        ),
        sender_rate: section.value("sender_rate", 0, count(0..=limits::SENDER_RATE_MAX)),
        sender_connections: section.value("sender_connections", 0, count(0..=limits::STREAM_CONNECTIONS_MAX)),
    }
}

/// A token, or its hash in its place. The text is handed on beside it, for a command that has to show one.
pub(super) fn token(text: &str) -> Result<(Token, Option<Secret>), Reason> {
    let cure = "write letters and digits, or the hash that `tallyd token` prints";
    let token = Token::read(text).map_err(|error| Reason::new(error.to_string(), cure))?;
    Ok((token, (!tokens::is_hashed(text)).then(|| Secret(text.to_owned()))))
}

/// A key that datagrams are signed with: as short a text as can be guessed is none.
fn signing_key(text: &str) -> Result<SigningKey, Reason> {
    if text.len() < CHARACTERS_MIN {
        let problem = format!("a key has {CHARACTERS_MIN} bytes at least: a shorter one can be guessed");
        return Err(Reason::new(
            problem,
            "write the token that `tallyd token` prints, and the same at the clients",
        ));
    }
    Ok(SigningKey::new(text))
}

/// The certificate and its key, which somebody needs by this key of theirs.
pub(super) fn tls(section: &mut Section<'_, '_>, needed_by: Option<&'static str>) -> Option<tls::Files> {
    let path = |text: &str| if text.is_empty() { Ok(None) } else { file(text).map(Some) };
    let certificate = section.value("certificate", "", text(path));
    let key = section.value("key", "", text(path));
    if let (Some(needs), true) = (needed_by, certificate.is_none() || key.is_none()) {
        let missing = if certificate.is_none() { "certificate" } else { "key" };
        let cure = "write the paths of two files in PEM, or leave it out";
        section.mistake(missing, Reason::new(format!("{needs} needs tls.certificate and tls.key"), cure));
    }
    Some(tls::Files { certificate: certificate?, key: key? }).filter(|_| needed_by.is_some())
}

/// The path of a file that is read later.
pub(super) fn file(text: &str) -> Result<PathBuf, Reason> {
    if text.is_empty() || text.contains('\0') {
        return Err(Reason::new("this is no path of a file", "write a path such as \"/etc/tallyd/tokens\""));
    }
    Ok(PathBuf::from(text))
}

pub(super) fn whole(number: usize) -> Value {
    Value::Integer(number as i64)
}
