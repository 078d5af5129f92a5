//! tallyd's own keys: every section, every default, every relation between keys.
//!
//! In comes a [`Source`] (a file of ours, or statsd's in translation) with the environment; out comes a
//! [`Config`], or every mistake. This is the one list of keys: what is not asked for here is unknown. It
//! does not know which language the file was written in, beyond the [`Switches`] that come with it.

use super::address::{parse_link_or_none, parse_listen_or_off};
use super::figures;
use super::link::{check_numbers, links};
use super::notify::notify;
use super::problem::ConfigError;
use super::raw::{boolean, choice, count, text};
use super::reader::{Effective, Findings, Reader, Source, console_lines};
use super::sections::{
    Graphite, Ingest, Limits, bounds, declared, exact_max, file, flush, graphite, idle, ingest, timers, tls,
    token, whole,
};
use super::store::{StoreKeys, company, rollup, store as store_keys};
use super::units::show_duration;
use super::{Config, Loaded, Secret};
use crate::clock::Clock;
use crate::figures::Options;
use crate::forward::TimerRules;
use crate::journal::SyncWhen;
use crate::metric::{Bounds, Ladder, name};
use crate::notify::Rule;
use crate::serve::tokens::CHARACTERS_MIN;
use crate::store::IdleRules;
use crate::tls::Files;
use crate::wire::Dialect;
use crate::wire::statsd::{Grammar, UnknownType};
use crate::{aggregate, console, flush, forward, ingest, limits, serve, store};
use std::net::SocketAddr;

/// What statsd's file can say and ours cannot.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of statsd's file, independent of the others"
)]
pub(crate) struct Switches {
    pub(crate) dialect: Dialect,
    pub(crate) debug: bool,
    pub(crate) dump_lines: bool,
    pub(crate) healthy: bool,
    pub(crate) reload_on_change: bool,
    /// Whether paths end in a dot, as statsd's do with an empty `globalSuffix`.
    pub(crate) trailing_dot: bool,
    /// The console's lines, if they are not to be made of the values that hold.
    pub(crate) config_lines: Option<Vec<String>>,
}

impl Switches {
    /// Those of a file of ours.
    pub(super) const NATIVE: Self = Self {
        dialect: Dialect::Native,
        debug: false,
        dump_lines: false,
        healthy: true,
        reload_on_change: false,
        trailing_dot: false,
        config_lines: None,
    };
}

/// Reads all keys.
pub(super) fn read(
    source: &Source,
    env: impl Iterator<Item = (String, String)>,
    switches: Switches,
) -> Result<Loaded, ConfigError> {
    let env: Vec<_> = env.collect();
    // systemd names it for a service with StateDirectory=, several between colons.
    let state = env.iter().find(|(name, _)| name == "STATE_DIRECTORY").map(|(_, value)| value.clone());
    let state = state.as_deref().and_then(|paths| paths.split(':').next()).filter(|path| !path.is_empty());
    let mut reader = Reader::new(source, env.iter().cloned());
    let mut keys = Keys::read(&mut reader, state);
    if keys.ingest.udp.is_empty()
        && keys.ingest.signed.is_empty()
        && keys.ingest.tcp.is_empty()
        && keys.ingest.tls.is_empty()
        && keys.ingest.unix.is_empty()
    {
        reader.warn("ingest.udp, ingest.tcp and ingest.unix are all empty: nothing will be received");
    }
    if switches.dialect == Dialect::Native
        && keys.flush.bucket.ms() % 1_000 != 0
        && !keys.graphite.options.addresses.is_empty()
    {
        reader.warn(format!(
            "flush.bucket = {}: Graphite knows whole seconds, so of several buckets that begin in one second the last \
             one stays; write whole seconds",
            show_duration(keys.flush.bucket.ms() as u64)
        ));
    }
    let Findings { effective, mistakes, warnings } = reader.finish();
    if !mistakes.is_empty() {
        return Err(ConfigError { mistakes });
    }
    let token = keys.token.take();
    Ok(Loaded { config: keys.config(switches, &effective), warnings, token })
}

/// Every key there is, as section and name.
pub(super) fn keys() -> Vec<(&'static str, &'static str)> {
    let source = Source::default();
    let mut reader = Reader::new(&source, std::iter::empty());
    Keys::read(&mut reader, None);
    reader.finish().effective.iter().map(|known| (known.section, known.key)).collect()
}

/// The values of all sections, before they are handed to the stages.
struct Keys {
    ingest: Ingest,
    flush: flush::Options,
    store: StoreKeys,
    ladder: Ladder,
    history: Vec<String>,
    figures: Options,
    notify: Vec<Rule>,
    graphite: Graphite,
    timers: TimerRules,
    timer_exact_max: usize,
    set_exact_max: usize,
    set_salt: String,
    sanitize: bool,
    unknown_type: UnknownType,
    declared: Option<Vec<String>>,
    idle: IdleRules,
    limits: Limits,
    http: serve::Options,
    token: Option<Secret>,
    tls: Option<Files>,
    console: Option<SocketAddr>,
}

impl Keys {
    fn read(reader: &mut Reader<'_>, state: Option<&str>) -> Self {
        let ingest = ingest(&mut reader.section("ingest"));
        let flush = flush(&mut reader.section("flush"));
        let store = store_keys(&mut reader.section("store"), state);
        let rollup = rollup(&mut reader.section("rollup"), &store.url);
        let company = company(&mut reader.section("company"));
        let mut section = reader.section("rollup");
        let now = Clock::system().now();
        let (ladder, history) =
            rollup.ladder(&mut section, flush.bucket, flush.amend_window_ms, company.calendar, now);
        let (figures, pages) = figures::figures(reader);
        let mut notify = notify(reader);
        let graphite = graphite(&mut reader.section("graphite"));
        notify.extend(graphite.events.clone());
        let figures = Options {
            currency: company.currency,
            holidays: company.holidays,
            figures,
            pages,
            own_prefix: graphite.naming.own_prefix.clone(),
            guarantee: guarantee(&store, &flush),
            udp_port: ingest.udp.first().map_or(8125, SocketAddr::port),
        };
        let (timers, timer_exact_max) = timers(&mut reader.section("timers"));
        let mut sets = reader.section("sets");
        let set_exact_max =
            sets.value("exact_max", whole(limits::SET_EXACT_MAX), exact_max(limits::SET_EXACT_MAX_STATSD));
        let set_salt = sets.value("salt", "", |raw| raw.text().map(str::to_owned));
        let mut names = reader.section("names");
        let sanitize = names.value("sanitize", true, boolean);
        let unknown = [("refuse", UnknownType::Refuse), ("counter", UnknownType::Counter)];
        let unknown_type = names.value("unknown_type", "refuse", choice(&unknown));
        let declared = declared(&mut names, &figures.metrics());
        let idle = idle(&mut reader.section("idle"), flush.bucket);
        let limits = bounds(&mut reader.section("limits"));
        let (mut http, token) = http(reader);
        http.links = links(reader, &figures.figures, &figures.pages, ladder.calendar());
        check_numbers(reader, &http.numbers, &figures.figures);
        let needed_by =
            if http.tls { Some("http.tls") } else { (!ingest.tls.is_empty()).then_some("ingest.tls") };
        let tls = tls(&mut reader.section("tls"), needed_by);
        let console = reader.section("console").value("listen", "127.0.0.1:8126", text(parse_listen_or_off));
        Self {
            ingest,
            flush,
            store,
            ladder,
            history,
            figures,
            notify,
            graphite,
            timers,
            timer_exact_max,
            set_exact_max,
            set_salt,
            sanitize,
            unknown_type,
            declared,
            idle,
            limits,
            http,
            token,
            tls,
            console,
        }
    }

    fn config(self, switches: Switches, effective: &[Effective]) -> Config {
        let Self { ingest, flush, mut graphite, limits, .. } = self;
        let Switches { dialect, debug, dump_lines, healthy, reload_on_change, trailing_dot, config_lines } =
            switches;
        // statsd has no such connection, and some of its receivers count them.
        graphite.options.watch = dialect == Dialect::Native;
        if trailing_dot {
            graphite.naming.suffix.get_or_insert_default();
        }
        let grammar = Grammar { dialect, unknown_type: self.unknown_type };
        let config_lines = config_lines.unwrap_or_else(|| console_lines(effective));
        let names = name::Rules {
            sanitize: self.sanitize,
            as_sent: dialect == Dialect::Statsd,
            name_bytes_max: limits.name_bytes_max,
            tags_max: limits.tags_max,
        };
        let calendar = *self.ladder.calendar();
        // In Redis notices stand beside the buckets, and memory has no place for them.
        let folder = match &self.store.url {
            store::StoreUrl::File(folder) => Some(folder.clone()),
            store::StoreUrl::Redis(_) | store::StoreUrl::Memory => None,
        };
        Config {
            dialect,
            ingest: ingest_options(ingest, &limits, grammar, dump_lines),
            aggregate: aggregate::Options {
                dialect,
                names,
                bounds: Bounds { timer_exact_max: self.timer_exact_max, set_exact_max: self.set_exact_max },
                set_salt: self.set_salt.into_bytes(),
                series_max: limits.series_max,
                names_bytes_max: limits.memory_bytes_max / 100 * limits::NAMES_MEMORY_PERCENT,
                figures: self.figures.series(),
                declared: self.declared,
                bucket: flush.bucket,
                amend_window_ms: flush.amend_window_ms,
            },
            flush: flush::Options { memory_bytes_max: limits.memory_bytes_max, ..flush },
            store: store::Options {
                url: self.store.url,
                ladder: self.ladder,
                history: self.history,
                figures: self.figures.series(),
                memory_bytes_max: limits.memory_bytes_max,
                prefix: self.store.prefix,
                partitions: self.store.partitions,
                hold_ms: self.store.hold_ms,
            },
            journal: self.store.journal,
            idle: self.idle,
            graphite: graphite.options,
            expand: forward::Rules {
                naming: graphite.naming,
                timers: self.timers,
                counts: graphite.counts,
                stamp: graphite.stamp,
                names_clean: self.sanitize,
            },
            figures: self.figures,
            notify: crate::notify::Options { rules: self.notify, calendar, folder },
            tls: self.tls,
            http: self.http,
            console: console::Options { listen: self.console, config_lines, healthy },
            reload_on_change,
            debug,
        }
    }
}

/// HTTP, and a token to be shown to it.
fn http(reader: &mut Reader<'_>) -> (serve::Options, Option<Secret>) {
    let mut section = reader.section("http");
    let listen = section.value("listen", "127.0.0.1:8127", text(parse_listen_or_off));
    let tokens = section.list("tokens", Vec::new(), text(token));
    let short = tokens.iter().filter_map(|(_, text)| text.as_ref()).any(|text| text.0.len() < CHARACTERS_MIN);
    let options = serve::Options {
        listen,
        required: true,
        tokens: tokens.iter().map(|(token, _)| *token).collect(),
        token_files: section.list("token_files", Vec::new(), text(file)),
        trust_loopback: section.value("trust_loopback", true, boolean),
        tls: section.value("tls", false, boolean),
        series: section.value("series", false, boolean),
        series_max: section.value("series_max", whole(limits::SERIES_EXPORTED_MAX), count(1..=1_000_000)),
        grafana: section.value("grafana", "", text(parse_link_or_none)),
        numbers: section.list("numbers", Vec::new(), text(|id| Ok(id.to_owned()))),
        links: Vec::new(),
    };
    if short {
        reader.warn(format!(
            "http.tokens: a token of less than {CHARACTERS_MIN} characters can be guessed; `tallyd token` prints one that \
             cannot"
        ));
    }
    (options, tokens.into_iter().find_map(|(_, text)| text))
}

/// Where lines come in, and whose.
fn ingest_options(ingest: Ingest, limits: &Limits, grammar: Grammar, dump_lines: bool) -> ingest::Options {
    ingest::Options {
        udp: ingest.udp,
        signed: ingest.signed,
        signed_keys: ingest.signed_keys,
        signed_key_files: ingest.signed_key_files,
        signed_window_secs: ingest.signed_window_secs,
        tcp: ingest.tcp,
        tls: ingest.tls,
        unix: ingest.unix,
        threads: ingest.threads,
        receive_buffer: ingest.receive_buffer,
        allow: ingest.allow,
        sender_rate: limits.sender_rate,
        sender_connections: limits.sender_connections,
        datagram_bytes_max: limits.datagram_bytes_max,
        grammar,
        dump_lines,
    }
}

/// What a page says of what is counted.
fn guarantee(store: &StoreKeys, flush: &flush::Options) -> String {
    let tick = show_duration(flush.tick_ms as u64);
    match store.journal.as_ref().map(|journal| journal.options.sync) {
        None => "kept in memory: a restart forgets".to_owned(),
        Some(SyncWhen::Tick) => format!("saved to disk every {tick}"),
        Some(SyncWhen::Off) => format!("handed to the disk every {tick}"),
    }
}
