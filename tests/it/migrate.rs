//! Any file of statsd's, made at random: `tallyd migrate` prints TOML that means the same, and no text is too odd
//! to be read or refused in words.

use crate::config::{STATSD_TEST, native, statsd, statsd_config, with_env};
use proptest::prelude::*;
use tallyd::cli::migrate;
use tallyd::config::Loaded;
use tallyd::wire::Dialect;

/// What both dialects can say must be the same after a migration.
fn assert_migrates(text: &str) {
    let original = statsd_config(text);
    let (toml, _) = migrate::migrate(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let Loaded { config, warnings, .. } = native(&toml).unwrap_or_else(|error| panic!("{toml}\n{error}"));
    let expected_warning = |warning: &String| {
        ["nothing will be received", "whole seconds"].iter().any(|part| warning.contains(part))
    };
    assert!(warnings.iter().all(expected_warning), "{toml}\n{warnings:?}");
    let mut expected = original;
    // What statsd's dialect means beyond its keys.
    expected.dialect = Dialect::Native;
    expected.aggregate.dialect = Dialect::Native;
    expected.aggregate.names.as_sent = false;
    expected.ingest.grammar.dialect = Dialect::Native;
    expected.graphite.watch = true;
    expected.ingest.dump_lines = false;
    expected.debug = false;
    expected.reload_on_change = false;
    expected.console.healthy = true;
    expected.http.required = true;
    // The dot that an empty suffix leaves is warned of.
    expected.expand.naming.suffix = expected.expand.naming.suffix.filter(|suffix| !suffix.is_empty());
    expected.console.config_lines.clone_from(&config.console.config_lines);
    assert_eq!(config, expected, "{text}\n{toml}");
}

#[test]
fn a_migrated_file_means_the_same() {
    assert_migrates("{}");
    assert_migrates(STATSD_TEST);
    let (toml, warnings) =
        migrate::migrate("{port: 8125, debug: true, repeater: [], flushInterval: 60000}").unwrap();
    for line in [
        "bucket = \"1m\" # statsd's flushInterval",
        "stamp = \"end\" # statsd stamps the end of the interval",
        "unknown_type = \"counter\"",
        "grace = \"0s\"",
        "udp = [\"[::]:8125\"] # statsd's port",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    assert!(!toml.contains("[http]"), "{toml}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(migrate::migrate("{flushInterval: 1}").is_err());
}

/// One line of a statsd file.
fn statsd_line() -> impl Strategy<Value = String> {
    let word = || "[a-z_.]{0,6}";
    prop_oneof![
        (40_u32..100_000).prop_map(|ms| format!("flushInterval: {ms}")),
        prop::collection::vec(-100.0..100.0_f64, 0..4).prop_map(|list| format!("percentThreshold: {list:?}")),
        (-100_i32..=100).prop_map(|threshold| format!("percentThreshold: {threshold}")),
        any::<u16>().prop_map(|port| format!("port: {port}")),
        prop::sample::select(vec!["127.0.0.1", "::1", "0.0.0.0", "localhost"])
            .prop_map(|address| format!("address: '{address}'")),
        prop::sample::select(vec!["server: './servers/tcp'", "servers: [{port: 1}, {server: 'tcp'}]", "servers: []"])
            .prop_map(str::to_owned),
        "[a-z]{1,5}".prop_map(|path| format!("server: 'tcp', socket: '/run/{path}', socket_mod: '0660'")),
        (word(), 1_u16..).prop_map(|(host, port)| format!("graphiteHost: 'h{host}', graphitePort: {port}")),
        prop::sample::select(vec!["text", "pickle"]).prop_map(|word| format!("graphiteProtocol: '{word}'")),
        prop::sample::select(vec!["[]", "['graphite']", "['./backends/console']"])
            .prop_map(|list| format!("backends: {list}")),
        (any::<bool>(), word(), word(), word()).prop_map(|(legacy, prefix, counter, suffix)| format!(
            "graphite: {{legacyNamespace: {legacy}, globalPrefix: '{prefix}', prefixCounter: '{counter}', globalSuffix: '{suffix}'}}"
        )),
        (prop::sample::select(vec!["Counters", "Timers", "Sets", "Gauges", "IdleStats"]), any::<bool>())
            .prop_map(|(what, delete)| format!("delete{what}: {delete}")),
        (0_u32..9).prop_map(|ttl| format!("gaugesMaxTTL: {ttl}")),
        any::<bool>().prop_map(|flag| format!("keyNameSanitize: {flag}, flush_counts: {flag}, debug: {flag}")),
        prop::collection::vec(word(), 0..3).prop_map(|list| format!("calculatedTimerMetrics: {list:?}")),
        (word(), prop::collection::btree_set(-1_000_i32..1_000, 0..5)).prop_map(|(metric, bins)| format!(
            "histogram: [{{metric: '{metric}', bins: {:?}}}]",
            bins.into_iter().map(|bin| f64::from(bin) / 4.0).collect::<Vec<_>>()
        )),
        word().prop_map(|word| format!("prefixStats: '{word}', {}x: 1", word.replace('.', "_"))),
        any::<u16>().prop_map(|port| format!("mgmt_port: {port}, mgmt_address: '::'")),
    ]
}

proptest! {
    #[test]
    fn any_statsd_file_migrates(lines in prop::collection::vec(statsd_line(), 0..12)) {
        assert_migrates(&format!("{{\n{}\n}}", lines.join(",\n")));
    }

    #[test]
    fn no_text_is_too_odd(text in any::<String>(), value in any::<String>()) {
        let names = ["TALLYD_INGEST_UDP", "TALLYD_FLUSH_TICK", "TALLYD_IDLE_AFTER", "TALLYD_GRAPHITE_ADDRESS"];
        let odd_file = format!("{{graphiteHost: {value:?}, address: {value:?}}}");
        for result in [native(&text), statsd(&text), statsd(&odd_file), with_env("", &names.map(|name| (name, &*value)))] {
            // Whatever is wrong is said in one line each, and nothing panics.
            if let Err(error) = result {
                prop_assert_eq!(error.to_string().lines().count(), error.mistakes.len());
            }
        }
    }
}
