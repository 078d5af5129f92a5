//! `tallyd check`: what a configuration will do, in plain words.
//!
//! In comes a configuration that was read without mistakes; out comes a text that says where tallyd listens,
//! what it promises, where values go and under which names, what pages show and whom it tells, then the warnings. Opens
//! nothing and asks nobody: whether a port is free or Graphite answers is for `doctor` to find out.

use crate::clock::Clock;
use crate::config::{Config, Loaded, show_duration, show_size};
use crate::forward::expand::expand;
use crate::forward::{Connection, Protocol, Rules, Stamp};
use crate::journal::SyncWhen;
use crate::limits;
use crate::metric::{Class, Kind, Series, Tally, Width};
use crate::store::{Entry, Idle, Sealed, StoreUrl};
use crate::wire::Dialect;
use crate::wire::statsd::UnknownType;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

/// What will happen, a line for each subject.
#[must_use]
pub fn describe(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut lines = vec![
        format!("Dialect:  {}", dialect(config)),
        format!("Listens:  {}", listens(config)),
        format!("Gathers:  {}", gathers(config)),
        format!("Promises: {}", promises(config)),
        format!("Sends:    {}", sends(config)),
    ];
    if !config.graphite.addresses.is_empty() {
        lines.extend(names(&config.expand));
    }
    lines.push(format!("Idle:     {}", idle(config)));
    lines.push(format!("Console:  {}", where_or_off(config.console.listen)));
    lines.push(format!("HTTP:     {}{}", where_or_off(config.http.listen), tls(config) + &tokens(config)));
    if config.http.listen.is_some() {
        let calendar = config.store.ladder.calendar();
        lines.extend(super::pages::describe(&config.figures, calendar));
        lines.extend(super::told::links(&config.http.links, calendar, Clock::system().now()));
    }
    lines.extend(super::told::describe(&config.notify, &config.figures, Clock::system().now()));
    lines.extend(loaded.warnings.iter().map(|warning| format!("Warning:  {warning}")));
    lines.join("\n") + "\n"
}

fn dialect(config: &Config) -> String {
    let rules = match config.dialect {
        Dialect::Native => "tallyd's own",
        Dialect::Statsd => "statsd's, with its names, defaults and stamps",
    };
    let unknown = match config.ingest.grammar.unknown_type {
        UnknownType::Refuse => "refused and counted",
        UnknownType::Counter => "taken for counters",
    };
    format!("{rules}; types nobody knows are {unknown}")
}

fn listens(config: &Config) -> String {
    let ingest = &config.ingest;
    let unix = ingest.unix.iter().map(|unix| {
        let manner = if unix.stream { "connections" } else { "datagrams" };
        format!("Unix socket {} ({manner})", unix.path.display())
    });
    let places: Vec<String> = ingest
        .udp
        .iter()
        .map(|address| format!("UDP {address}"))
        .chain(ingest.signed.iter().map(|address| format!("UDP {address} (signed datagrams)")))
        .chain(ingest.tcp.iter().map(|address| format!("TCP {address}")))
        .chain(ingest.tls.iter().map(|address| format!("TCP {address} (TLS)")))
        .chain(unix)
        .collect();
    if places.is_empty() {
        return "nowhere: nothing will be received".to_owned();
    }
    let allowed = match ingest.allow.as_slice() {
        [] => "takes lines from everybody".to_owned(),
        networks => format!("takes lines from {} only", list(networks)),
    };
    format!("{}; {allowed}", places.join(", "))
}

fn gathers(config: &Config) -> String {
    let flush = &config.flush;
    format!(
        "in buckets of {}, handed over every {}; a bucket is closed {} after its end, and late samples still amend \
         it for {}",
        ms(flush.bucket.ms()),
        ms(flush.tick_ms),
        ms(flush.grace_ms),
        ms(flush.amend_window_ms),
    )
}

fn promises(config: &Config) -> String {
    let folder = match &config.store.url {
        StoreUrl::File(folder) => folder,
        StoreUrl::Redis(_) => {
            return format!(
                "in Redis, for all nodes that count into it, under keys that begin with {}. Every tick is saved to {} \
                 first and stays there until Redis has confirmed it, and {} longer: neither a crash here nor one of \
                 Redis loses what was counted; {}",
                config.store.prefix,
                config.journal.as_ref().map_or_else(String::new, |one| one.folder.display().to_string()),
                ms(config.store.hold_ms),
                keeps(config),
            );
        }
        StoreUrl::Memory => {
            return format!(
                "buckets are kept in memory only, up to {}. Nothing survives a crash: what Graphite has not taken by \
                 then is lost, which is up to {} of input while Graphite keeps up. A stop that is asked for (SIGTERM) \
                 sends what there is first",
                show_size(config.store.memory_bytes_max as u64),
                ms(config.flush.bucket.ms() + config.flush.grace_ms + config.flush.tick_ms),
            );
        }
    };
    let synced = match config.journal.as_ref().map(|journal| journal.options.sync) {
        Some(SyncWhen::Off) => {
            "written every tick, and brought to the disk when the system does it: a crash of tallyd \
                                loses at most a tick, a loss of power about half a minute"
                .to_owned()
        }
        _ => format!("saved to disk every {}: no crash loses more than that", ms(config.flush.tick_ms)),
    };
    format!("in {}, {synced}; {}", folder.display(), keeps(config))
}

fn keeps(config: &Config) -> String {
    let ladder = &config.store.ladder;
    let of = |class| {
        let steps = ladder.chain(class).map(|level| {
            format!("{} for {}", ms(ladder.width(level).ms()), ms(ladder.keep_ms(class, level)))
        });
        steps.collect::<Vec<_>>().join(", ")
    };
    format!("buckets of {}; days are those of {}", of(Class::History), ladder.calendar().zone())
}

fn sends(config: &Config) -> String {
    if config.graphite.addresses.is_empty() {
        return "nowhere: values are gathered and discarded, since no Graphite is configured".to_owned();
    }
    let protocol = match config.graphite.protocol {
        Protocol::Plaintext => "as text",
        Protocol::Pickle => "as pickle",
    };
    let connection = match config.graphite.connection {
        Connection::PerFlush => "over a connection for each bucket",
        Connection::Kept => "over a connection that is kept",
    };
    let stamp = match config.expand.stamp {
        Stamp::Start => "start",
        Stamp::End => "end",
    };
    format!(
        "to Graphite at {} {protocol}, {connection}, stamped with the {stamp} of the bucket",
        list(&config.graphite.addresses)
    )
}

/// A series of each kind.
const EXAMPLES: [(Kind, &str); 4] = [
    (Kind::Counter, "shop.orders"),
    (Kind::Timer, "shop.checkout"),
    (Kind::Gauge, "shop.stock"),
    (Kind::Set, "shop.visitors"),
];

/// The paths of a series of each kind, made by the code that names the real ones.
pub(super) fn examples(config: &Config) -> Vec<String> {
    EXAMPLES.into_iter().flat_map(|(kind, name)| paths(&config.expand, kind, name)).collect()
}

/// One example for each kind.
fn names(rules: &Rules) -> Vec<String> {
    let line = |(kind, name): (Kind, &str)| {
        let paths = paths(rules, kind, name);
        let shown = match paths.as_slice() {
            [] => "nothing".to_owned(),
            [one] => one.clone(),
            [one, other] => format!("{one} and {other}"),
            // Of a timer's many figures a percentile says most.
            [first, rest @ ..] => {
                let telling = paths.iter().find(|path| path.contains("upper_") || path.contains("lower_"));
                format!("{} and {} more", telling.unwrap_or(first), rest.len())
            }
        };
        format!("          the {} {name} as {shown}", kind.word())
    };
    EXAMPLES.into_iter().map(line).collect()
}

/// The paths of a series that has one sample.
fn paths(rules: &Rules, kind: Kind, name: &str) -> Vec<String> {
    let mut tally = Tally::empty(kind);
    if let Tally::Timer(digest) = &mut tally {
        digest.record(1.0, 1.0, 1.0, limits::TIMER_EXACT_MAX);
    }
    let entry = Entry { series: Series::new(kind, name), tally, before: Some(1.0), idle: false };
    let bucket =
        Sealed { start: 0, width: Width::from_ms(limits::BUCKET_MS), version: 0, entries: vec![entry] };
    let mut paths = Vec::new();
    expand(rules, &bucket, &mut |point| {
        paths.push(point.path.to_owned());
        true
    });
    paths
}

fn idle(config: &Config) -> String {
    let rules = &config.idle;
    let word = |idle: Idle| match idle {
        Idle::Zero => "send 0",
        Idle::Keep => "repeat their last value",
        Idle::Drop => "send nothing",
    };
    let patience = match (rules.gauges, rules.gauges_ttl) {
        (Idle::Drop, buckets) if buckets > 1 => format!(" (after {buckets} buckets)"),
        _ => String::new(),
    };
    let after =
        rules.after_ms.map_or_else(String::new, |after| format!("; after {} they are forgotten", ms(after)));
    format!(
        "without samples, counters {}, timers {}, sets {}, gauges {}{patience}{after}",
        word(rules.counters),
        word(rules.timers),
        word(rules.sets),
        word(rules.gauges),
    )
}

fn where_or_off(listen: Option<SocketAddr>) -> String {
    listen.map_or_else(
        || "off".to_owned(),
        |address| {
            let reach = if address.ip().is_loopback() { "this machine only" } else { "open to the network" };
            format!("{address} ({reach})")
        },
    )
}

fn tls(config: &Config) -> String {
    if config.http.tls && config.http.listen.is_some() { ", by TLS alone".to_owned() } else { String::new() }
}

fn tokens(config: &Config) -> String {
    let http = &config.http;
    let Some(listen) = http.listen else {
        return String::new();
    };
    let who = if http.trust_loopback { "whoever is not on this machine" } else { "everybody" };
    let count = match http.tokens.len() {
        0 => String::new(),
        1 => "one token is set".to_owned(),
        count => format!("{count} tokens are set"),
    };
    let files = match http.token_files.len() {
        0 => String::new(),
        1 => "tokens are read from a file".to_owned(),
        count => format!("tokens are read from {count} files"),
    };
    let set = [count, files].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" and ");
    match set.as_str() {
        "" if listen.ip().is_loopback() => format!("; {who} may look and change nothing"),
        "" => format!("; everybody may look, and {who} may change nothing"),
        set => format!("; {set}, which {who} must show"),
    }
}

/// A span of time; odd milliseconds above a second read better as a fraction.
fn ms(ms: i64) -> String {
    let ms = ms.unsigned_abs();
    if ms > 1_000 && !ms.is_multiple_of(1_000) {
        format!("{:?}", Duration::from_millis(ms))
    } else {
        show_duration(ms)
    }
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
