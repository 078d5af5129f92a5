//! Configuration: both languages, every mistake at once, and the way from one language to the other.

use std::iter::empty;
use std::path::Path;
use tallyd::cli::check;
use tallyd::config::{self, Config, ConfigError, Loaded};
use tallyd::forward::{Connection, Protocol, Scheme, Stamp};
use tallyd::limits;
use tallyd::metric::Width;
use tallyd::store::{Idle, IdleRules, StoreUrl};
use tallyd::wire::Dialect;
use tallyd::wire::statsd::UnknownType;

const EXAMPLE: &str = include_str!("../../config.example.toml");
/// What statsd's own tests write.
pub(crate) const STATSD_TEST: &str = r#"{graphService: "graphite"
    ,  batch: 200
    ,  flushInterval: 200
    ,  percentThreshold: 90
    ,  histogram: [ { metric: "a_test_value", bins: [1000] } ]
    ,  port: 8125
    ,  dumpMessages: false
    ,  debug: false
    ,  graphite: { legacyNamespace: false }
    ,  graphitePort: 31337
    ,  graphiteHost: "127.0.0.1"}"#;

pub(crate) fn native(text: &str) -> Result<Loaded, ConfigError> {
    config::native(text, empty())
}

fn native_config(text: &str) -> Config {
    native(text).unwrap_or_else(|error| panic!("{text}\n{error}")).config
}

pub(crate) fn statsd(text: &str) -> Result<Loaded, ConfigError> {
    config::statsd(text, empty())
}

pub(crate) fn statsd_config(text: &str) -> Config {
    statsd(text).unwrap_or_else(|error| panic!("{text}\n{error}")).config
}

/// Keys and cures of all mistakes, as they are printed.
fn mistakes(result: Result<Loaded, ConfigError>) -> Vec<String> {
    let error = result.expect_err("there is a mistake");
    assert_eq!(error.to_string().lines().count(), error.mistakes.len(), "a line for each mistake: {error}");
    error.to_string().lines().map(str::to_owned).collect()
}

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

pub(crate) fn with_env(text: &str, pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    config::native(text, env(pairs))
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    let mut example = native_config(EXAMPLE);
    example.console.config_lines.clear();
    let mut default = Config::default();
    default.console.config_lines.clear();
    assert_eq!(example, default);
    let table: toml::Table = toml::from_str(EXAMPLE).unwrap();
    for (section, key) in config::keys() {
        assert!(table[section].get(key).is_some(), "{section}.{key} is not in config.example.toml");
    }
}

#[test]
fn defaults_are_those_of_limits() {
    let config = Config::default();
    assert_eq!(config.dialect, Dialect::Native);
    assert_eq!(config.flush.tick_ms as u64, limits::TICK_MS);
    assert_eq!(config.flush.bucket, Width::from_ms(limits::BUCKET_MS));
    assert_eq!(config.flush.grace_ms as u64, limits::GRACE_MS);
    assert_eq!(config.flush.amend_window_ms as u64, limits::AMEND_WINDOW_MS);
    assert_eq!(config.idle.after_ms, Some(limits::IDLE_AFTER_MS as i64));
    assert_eq!(config.ingest.receive_buffer, limits::RECEIVE_BUFFER_BYTES);
    assert_eq!(config.store.memory_bytes_max, limits::MEMORY_BYTES_MAX);
    assert_eq!(config.aggregate.bounds.timer_exact_max, limits::TIMER_EXACT_MAX);
    assert_eq!(config.aggregate.bounds.set_exact_max, limits::SET_EXACT_MAX);
    assert_eq!(config.graphite.addresses, ["127.0.0.1:2003"]);
    assert_eq!(config.graphite.resend_ms as u64, limits::RESEND_MS);
    assert_eq!(config.graphite.connection, Connection::PerFlush);
    assert_eq!(config.expand.stamp, Stamp::Start);
    assert_eq!(config.expand.timers.percentiles, [(90.0, "90".to_owned())]);
    assert_eq!(config.expand.naming.suffix, None);
    assert_eq!(config.ingest.grammar.unknown_type, UnknownType::Refuse);
    assert_eq!(config.console.listen, Some("127.0.0.1:8126".parse().unwrap()));
    assert!(config.expand.names_clean && config.console.healthy && !config.reload_on_change);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = r#"
        bucket = "10s"
        [flush]
        tick = "5ms"
        grace = 3
        bukcet = "10s"
        [store]
        url = "rediss://me:hunter2@example.com?ca=/no/such/file"
        [grafite]
        [graphite]
        address = ["graphite", "no host", "x:99999"]
        prefix = "a b"
        tags_max = 3
        counts = "yes"
        [timers]
        percentiles = [90, 101, "x"]
        histogram = [{ metric = "a", bins = [2, 1] }]
        [http]
        tokens = ["s3cr3t t0ken"]
    "#;
    let lines = mistakes(native(text));
    for (key, hint) in [
        ("bucket:", "move it below [flush]"),
        ("flush.tick = \"5ms\"", "\"20ms\""),
        ("flush.grace = 3", "\"3ms\" or \"3s\""),
        ("flush.bukcet:", "did you mean \"bucket\"?"),
        ("store.url = \"rediss://…@example.com?ca=/no/such/file\"", "cannot read /no/such/file"),
        ("grafite:", "did you mean [graphite]?"),
        ("graphite.address = \"no host\"", "host:port"),
        ("graphite.address = \"x:99999\"", "port"),
        ("graphite.prefix = \"a b\"", "' '"),
        ("graphite.tags_max:", "it stands in [limits]"),
        ("graphite.counts = \"yes\"", "true or false"),
        ("timers.percentiles = 101", "between -100 and 100"),
        ("timers.percentiles = \"x\"", "a number is expected"),
        ("timers.histogram = ", "ascend"),
        ("http.tokens = (not shown)", "visible ASCII"),
    ] {
        let line = lines.iter().find(|line| line.starts_with(key));
        assert!(line.is_some_and(|line| line.contains(hint)), "{key} … {hint}\n{}", lines.join("\n"));
    }
    assert_eq!(lines.len(), 15, "{}", lines.join("\n"));
    assert!(!lines.join("").contains("hunter2") && !lines.join("").contains("s3cr3t"));
}

#[test]
fn relations_between_keys_hold() {
    assert!(mistakes(native("[flush]\nbucket = '1s'\ntick = '600ms'"))[0].contains("\"500ms\" or less"));
    assert!(mistakes(native("[flush]\nbucket = '1s'\ngrace = '11s'"))[0].contains("\"10s\" or less"));
    assert!(mistakes(native("[flush]\nbucket = '1h'\n[idle]\nafter = '10m'"))[0].contains("\"1h\" or more"));
    assert_eq!(mistakes(native("[flush]\nbucket = '1w'\ntick = '6h'")).len(), 1, "one slip is one mistake");
    assert_eq!(mistakes(native("[flush]\nbucket = '20ms'")).len(), 1);
}

#[test]
fn ladders_and_zones_are_checked() {
    for (text, hint) in [
        ("[rollup]\nkeep = { '10s' = '6h', '15s' = '1d' }", "no multiple"),
        ("[rollup]\nkeep = { '5s' = '6h' }", "narrower than flush.bucket"),
        ("[rollup]\nkeep = { '1m' = '30s' }", "less than one bucket"),
        ("[rollup]\nkeep = { '2d' = '30d' }", "up to \"1d\""),
        (
            "[rollup]\nfigures = { '1h' = '1d', '1d' = '1y' }\n[company]\ntimezone = 'Asia/Kolkata'",
            "\"15m\" below",
        ),
        ("[rollup]\nkeep = '6h'", "a table is expected"),
        ("[company]\ntimezone = 'Europe/Atlantis'", "IANA"),
        ("[company]\nday_starts = '25:00'", "hours and minutes"),
        ("[store]\nurl = 'file:'", "directory is missing"),
        ("[store]\njournal_max = '1KiB'", "too little"),
    ] {
        let lines = mistakes(native(text));
        assert!(lines.len() == 1 && lines[0].contains(hint), "{text}: {lines:?}");
    }
    let ladder = native_config("[flush]\nbucket = '1m'").store.ladder;
    let widths: Vec<i64> = ladder.levels().iter().map(|level| level.width.ms() / 1_000).collect();
    assert_eq!(widths, [60, 900, 86_400], "the defaults take what fits");
    let ladder = native_config("[flush]\nbucket = '7s'").store.ladder;
    assert_eq!(ladder.levels().len(), 1);
}

#[test]
fn a_narrow_bucket_brings_its_tick_and_grace_along() {
    let flush = native_config("[flush]\nbucket = '200ms'").flush;
    assert_eq!((flush.tick_ms, flush.grace_ms), (100, 1_000));
    let flush = native_config("[flush]\nbucket = '40ms'").flush;
    assert_eq!((flush.tick_ms, flush.grace_ms), (20, 400));
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[flush]\nbucket = '1m'\n[graphite]\naddress = ['file']\n[names]\nsanitize = false";
    let pairs = [
        ("TALLYD_FLUSH_BUCKET", "30s"),
        ("TALLYD_GRAPHITE_ADDRESS", "a, b:9"),
        ("TALLYD_GRAPHITE_PROTOCOL", "pickle"),
        ("TALLYD_NAMES_SANITIZE", "YES"),
        ("TALLYD_LIMITS_TAGS_MAX", "7"),
        ("TALLYD_HTTP_LISTEN", "off"),
        ("TALLYD_STORE_URL", "memory:"),
        ("PATH", "/bin"),
    ];
    let Loaded { config, warnings, .. } = with_env(text, &pairs).unwrap();
    assert_eq!(config.flush.bucket, Width::from_ms(30_000));
    assert_eq!(config.graphite.addresses, ["a:2004", "b:9"]);
    assert!(config.aggregate.names.sanitize);
    assert_eq!(config.aggregate.names.tags_max, 7);
    assert_eq!(config.http.listen, None);
    assert_eq!(warnings, Vec::<String>::new());
    assert!(with_env("", &[("TALLYD_GRAPHITE_ADDRESS", "")]).unwrap().config.graphite.addresses.is_empty());
    let lines = mistakes(with_env(text, &[("TALLYD_FLUSH_BUCKET", "30"), ("TALLYD_TIMERS_HISTOGRAM", "x")]));
    assert!(lines[0].starts_with("TALLYD_FLUSH_BUCKET = \"30\""), "{lines:?}");
    assert!(lines[1].starts_with("TALLYD_TIMERS_HISTOGRAM = \"x\""), "{lines:?}");
}

#[test]
fn what_is_unknown_in_the_environment_is_a_warning() {
    let pairs = [
        ("TALLYD_FLUSH_TIK", "1s"),
        ("TALLYD_PORT_8125_UDP_ADDR", "10.0.0.1"),
        ("TALLYD_SERVICE_HOST", "10.0.0.1"),
        ("TALLYD_COMPANY_CURRENCY", "USD"),
        ("TALLYD_STORE_JOURNAL", "/j"),
    ];
    let warnings = with_env("", &pairs).unwrap().warnings;
    let expected = [
        ("TALLYD_FLUSH_TIK", "did you mean TALLYD_FLUSH_TICK?"),
        ("TALLYD_PORT_8125_UDP_ADDR, TALLYD_SERVICE_HOST", "ignores"),
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    assert_eq!(
        with_env("", &[("STATE_DIRECTORY", "/var/lib/tallyd:/x")]).unwrap().config.store.url,
        StoreUrl::File("/var/lib/tallyd".into())
    );
    for (start, hint) in expected {
        let found = warnings.iter().any(|warning| warning.starts_with(start) && warning.contains(hint));
        assert!(found, "{start}: {warnings:#?}");
    }
}

#[test]
fn a_syntax_error_has_its_place_and_shows_no_secret() {
    let lines = mistakes(native("[http]\ntokens = [\"s3cr3t\", \n[flush]"));
    assert!(lines[0].starts_with("line 3, column ") || lines[0].starts_with("line 2, column "), "{lines:?}");
    assert!(!lines[0].contains("s3cr3t"), "{lines:?}");
}

#[test]
fn files_are_read_by_their_ending() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let load = |path: &Path| config::load(Some(path), empty());
    assert_eq!(load(&write("a.toml", b"")).unwrap().config, Config::default());
    assert_eq!(load(&write("a.js", b"{}")).unwrap().config.dialect, Dialect::Statsd);
    assert_eq!(load(&write("a.JSON", b"{}")).unwrap().config.dialect, Dialect::Statsd);
    assert_eq!(config::load(None, empty()).unwrap().config, Config::default());
    assert!(mistakes(load(&write("b.toml", b"\xff")))[0].contains("UTF-8"));
    assert!(mistakes(load(&folder.path().join("absent.toml")))[0].contains("absent.toml: cannot be read"));
    assert!(mistakes(load(folder.path()))[0].contains("cannot be read"));
    let large = vec![b'#'; usize::try_from(limits::CONFIG_BYTES_MAX).unwrap() + 1];
    assert!(mistakes(load(&write("c.toml", &large)))[0].contains("larger than 4MiB"));
    assert!(load(&write("d.toml", &large[1..])).is_ok());
}

#[test]
fn an_empty_statsd_file_has_statsds_defaults() {
    let config = statsd_config("{}");
    assert_eq!(config.dialect, Dialect::Statsd);
    assert_eq!(config.aggregate.dialect, Dialect::Statsd);
    assert_eq!(config.ingest.grammar.dialect, Dialect::Statsd);
    assert_eq!(config.ingest.grammar.unknown_type, UnknownType::Counter);
    assert_eq!(config.ingest.udp, ["[::]:8125".parse().unwrap()]);
    assert!(config.aggregate.names.as_sent && config.aggregate.names.sanitize);
    assert_eq!(config.aggregate.bounds.timer_exact_max, limits::TIMER_EXACT_MAX_STATSD);
    assert_eq!(config.aggregate.bounds.set_exact_max, limits::SET_EXACT_MAX_STATSD);
    assert_eq!((config.flush.bucket.ms(), config.flush.tick_ms, config.flush.grace_ms), (10_000, 200, 0));
    assert_eq!(config.graphite.addresses, Vec::<String>::new());
    assert_eq!(config.expand.naming.scheme, Scheme::Legacy);
    assert_eq!(config.expand.naming.own_prefix, "statsd");
    assert_eq!(config.expand.stamp, Stamp::End);
    assert_eq!(config.expand.timers.percentiles, [(90.0, "90".to_owned())]);
    let kept = Idle::Keep;
    let zero = Idle::Zero;
    let idle =
        IdleRules { counters: zero, timers: zero, sets: zero, gauges: kept, gauges_ttl: 1, after_ms: None };
    assert_eq!(config.idle, idle);
    assert_eq!(config.console.listen, Some("127.0.0.1:8126".parse().unwrap()));
    assert_eq!(config.console.config_lines, Vec::<String>::new());
    assert!(config.reload_on_change && config.console.healthy && !config.debug && !config.ingest.dump_lines);
}

#[test]
fn the_file_of_statsds_own_tests() {
    let Loaded { config, warnings, .. } = statsd(STATSD_TEST).unwrap();
    assert_eq!((config.flush.bucket.ms(), config.flush.tick_ms), (200, 100));
    assert_eq!(config.graphite.addresses, ["127.0.0.1:31337"]);
    assert_eq!(config.expand.naming.scheme, Scheme::Statsd);
    assert_eq!(config.expand.timers.histogram[0].metric, "a_test_value");
    assert_eq!(config.expand.timers.histogram[0].bins, [(1_000.0, "1000".to_owned())]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("graphService") && warnings[1].starts_with("batch"), "{warnings:?}");
    let lines = &config.console.config_lines;
    assert_eq!(lines[0], "graphService: graphite");
    assert!(lines.contains(&"histogram > 0: [object Object]".to_owned()), "{lines:?}");
    assert!(lines.contains(&"graphite > legacyNamespace: false".to_owned()), "{lines:?}");
}

#[test]
fn every_key_of_statsds_has_its_meaning() {
    let config = statsd_config(
        r"{ flushInterval: '1000', percentThreshold: [90, 99.9, -90, '50'], mgmt_port: '9126', mgmt_address: '0.0.0.0',
            servers: [{}, {server: './servers/tcp', address: '::1', port: 9125}, {server: 'tcp', socket: '/s', socket_mod: '0770'}],
            backends: ['./backends/graphite', 'graphite'], graphiteHost: 'g', graphitePicklePort: 9, graphiteProtocol: 'pickle',
            flush_counts: false, prefixStats: 'own', keyNameSanitize: false, deleteIdleStats: true, deleteSets: false,
            gaugesMaxTTL: 5, calculatedTimerMetrics: ['count', 'upper_percent'],
            histogram: [{metric: '', bins: [0.5, '10', 'inf']}],
            graphite: {legacyNamespace: false, globalPrefix: '', prefixCounter: 'c', prefixTimer: 't', prefixGauge: 'g',
                       prefixSet: 's', globalSuffix: 'host1'},
            debug: true, dumpMessages: 1, healthStatus: 'down', automaticConfigReload: false }",
    );
    assert_eq!(config.flush.bucket.ms(), 1_000);
    let texts: Vec<&str> = config.expand.timers.percentiles.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["90", "99.9", "-90", "50"]);
    assert_eq!(config.console.listen, Some("0.0.0.0:9126".parse().unwrap()));
    assert_eq!(config.ingest.udp, ["[::]:8125".parse().unwrap()]);
    assert_eq!(config.ingest.tcp, ["[::1]:9125".parse().unwrap()]);
    let unix = &config.ingest.unix[0];
    assert_eq!((unix.path.as_path(), unix.stream, unix.mode), (Path::new("/s"), true, Some(0o770)));
    assert_eq!((config.graphite.addresses[0].as_str(), config.graphite.protocol), ("g:9", Protocol::Pickle));
    assert!(!config.expand.counts && !config.expand.names_clean && !config.aggregate.names.sanitize);
    let idle = config.idle;
    assert_eq!(
        (idle.counters, idle.timers, idle.sets, idle.gauges),
        (Idle::Drop, Idle::Drop, Idle::Zero, Idle::Drop)
    );
    assert_eq!(idle.gauges_ttl, 5);
    assert_eq!(config.expand.timers.outputs, ["count", "upper_percent"]);
    assert_eq!(config.expand.timers.histogram[0].bins.last(), Some(&(f64::INFINITY, "inf".to_owned())));
    let naming = &config.expand.naming;
    let prefixes = [
        &naming.prefix,
        &naming.prefix_counter,
        &naming.prefix_timer,
        &naming.prefix_gauge,
        &naming.prefix_set,
    ];
    assert_eq!(prefixes, ["", "c", "t", "g", "s"]);
    assert_eq!((naming.suffix.as_deref(), naming.own_prefix.as_str()), (Some("host1"), "own"));
    assert!(config.debug && config.ingest.dump_lines && !config.console.healthy && !config.reload_on_change);
}

#[test]
fn statsd_listens_where_its_file_says() {
    let udp = |text: &str| statsd_config(text).ingest.udp.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(udp("{port: 9125}"), ["[::]:9125"]);
    assert_eq!(udp("{port: 0}"), ["[::]:8125"], "0 is not set");
    assert_eq!(udp("{address: '127.0.0.1'}"), ["127.0.0.1:8125"]);
    assert_eq!(udp("{address: '::1', address_ipv6: true, port: '1'}"), ["[::1]:1"]);
    assert_eq!(udp("{server: './servers/tcp'}"), Vec::<String>::new());
    assert_eq!(statsd_config("{server: './servers/tcp'}").ingest.tcp, ["[::]:8125".parse().unwrap()]);
    assert_eq!(statsd_config("{mgmt_port: 1}").console.listen, Some("127.0.0.1:1".parse().unwrap()));
    let lines = mistakes(statsd(
        "{address: 'example.com', port: 'x', mgmt_port: 99999, flushInterval: 5, server: 'own'}",
    ));
    let keys: Vec<&str> = lines.iter().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(
        keys,
        ["server", "port", "mgmt_port", "address", "flushInterval"],
        "all at once, under statsd's names"
    );
    assert_eq!(
        mistakes(statsd("{flushInterval: 5}")),
        ["flushInterval = 5: this is too little; write \"40ms\" to \"24h\""]
    );
    assert!(mistakes(statsd("{address: 'example.com'}"))[0].starts_with("address = \"example.com\""));
}

#[test]
fn without_a_graphite_backend_nothing_is_sent() {
    for text in
        ["{graphiteHost: 'g', backends: ['./backends/console']}", "{graphitePort: 1}", "{graphiteHost: ''}"]
    {
        assert_eq!(statsd_config(text).graphite.addresses, Vec::<String>::new(), "{text}");
    }
    assert_eq!(statsd("{backends: ['./backends/repeater', 'x', 'graphite']}").unwrap().warnings.len(), 2);
}

#[test]
fn the_environment_wins_over_statsds_file_too() {
    let pairs = [
        ("TALLYD_NAMES_UNKNOWN_TYPE", "refuse"),
        ("TALLYD_FLUSH_TICK", "50ms"),
        ("TALLYD_GRAPHITE_ADDRESS", "elsewhere"),
        ("TALLYD_HTTP_LISTEN", ":0"),
    ];
    let config = config::statsd(STATSD_TEST, env(&pairs)).unwrap().config;
    assert_eq!(config.ingest.grammar.unknown_type, UnknownType::Refuse);
    assert_eq!(config.flush.tick_ms, 50);
    assert_eq!(config.graphite.addresses, ["elsewhere:2003"]);
    assert_eq!(config.http.listen, Some("[::]:0".parse().unwrap()));
    assert_eq!(config.dialect, Dialect::Statsd);
}

#[test]
fn an_expression_is_named_as_one() {
    let lines = mistakes(statsd("{\n  port: 8125,\n  flushInterval: 10*1000\n}"));
    assert!(lines[0].starts_with("line 3, column 20 = flushInterval: 10*1000: "), "{lines:?}");
    assert!(lines[0].contains("JavaScript expression"), "{lines:?}");
}

#[test]
fn keys_without_effect_are_warned_of() {
    let warnings = statsd("{title: 'x', log: {level: 'y'}, repeater: [], console: {prettyprint: true}, keyFlush: {}, flushInterva: 1}")
        .unwrap()
        .warnings;
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    assert!(warnings[5].contains("did you mean flushInterval?"), "{warnings:?}");
    let warnings = statsd("{graphite: {prefixCounter: 'c', prefix: 'x'}}").unwrap().warnings;
    assert!(
        warnings.iter().any(|warning| warning.starts_with("graphite.prefixCounter: without effect")),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn the_console_shows_what_holds_and_no_secret() {
    let config =
        native_config("[flush]\nbucket = '1m'\n[http]\ntokens = ['s3cr3t']\n[sets]\nsalt = 's3cr3t'");
    let lines = config.console.config_lines;
    assert!(lines.contains(&"flush > bucket: 1m".to_owned()), "{lines:?}");
    assert!(lines.contains(&"flush > tick: 200ms".to_owned()), "{lines:?}");
    assert_eq!(lines.len(), config::keys().len());
    assert!(!lines.join("").contains("s3cr3t"), "{lines:?}");
}

#[test]
fn check_says_what_will_happen() {
    let text = check::describe(&with_env("", &[("TALLYD_NONSENSE", "1")]).unwrap());
    for part in [
        "UDP [::]:8125",
        "buckets of 10s, handed over every 200ms",
        "in ./tallyd-data, saved to disk every 200ms",
        "buckets of 10s for 6h, 1m for 7d, 15m for 90d; days are those of UTC",
        "127.0.0.1:2003 as text",
        "stamped with the start",
        "stats.counters.shop.orders.rate and stats.counters.shop.orders.count",
        "stats.timers.shop.checkout.upper_90 and 13 more",
        "stats.gauges.shop.stock\n",
        "stats.sets.shop.visitors.count",
        "counters send 0",
        "after 24h they are forgotten",
        "127.0.0.1:8126 (this machine only)",
        "/ guesses from what comes in",
        "Warning:  TALLYD_NONSENSE",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = check::describe(
        &statsd("{graphiteHost: 'g', graphite: {globalSuffix: 'h'}, percentThreshold: -99.9}").unwrap(),
    );
    for part in [
        "statsd's",
        "stats.shop.orders.h and stats_counts.shop.orders.h",
        "stats.timers.shop.checkout.lower_top99_9.h",
        "gauges repeat their last value\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(check::describe(&statsd("{}").unwrap()).contains("discarded"));
}

#[test]
fn what_would_surprise_is_said() {
    let narrow = native("flush.bucket = \"1500ms\"").unwrap();
    assert!(narrow.warnings.iter().any(|warning| warning.contains("whole seconds")), "{:?}", narrow.warnings);
    assert_eq!(native("flush.bucket = \"2s\"").unwrap().warnings, Vec::<String>::new());
    let twice = native("ingest.udp = [\":8125\", \"[::]:8125\"]").unwrap_err();
    assert!(twice.to_string().contains("listed twice"), "{twice}");
}

#[test]
fn a_statsd_file_does_without_our_own_port_unless_it_is_asked_for() {
    assert!(native("").unwrap().config.http.required);
    assert!(!statsd_config("{}").http.required);
    let asked = [("TALLYD_HTTP_LISTEN".to_owned(), "127.0.0.1:9000".to_owned())];
    assert!(config::statsd("{}", asked.into_iter()).unwrap().config.http.required);
}
