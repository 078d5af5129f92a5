//! One configuration of statsd, drawn from a seed, and its text as a JavaScript object literal.
//!
//! Both programs read the same text; only their ports differ. Every option that changes what reaches
//! Graphite is drawn, left out about half of the time so that defaults are compared as well. The text
//! uses the freedoms of the format (comments, unquoted keys, leading commas), since real files do.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// What both programs are told, ports aside.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// How often both flush.
    pub(super) interval_ms: u64,
    /// Whether names are cleaned when a line arrives; if not, only on their way to Graphite.
    pub(super) sanitize: bool,
    /// Whether Graphite is sent pickles instead of lines.
    pub(super) pickle: bool,
    /// Top-level options, as keys and JavaScript values.
    options: Vec<(&'static str, String)>,
    /// Options of the `graphite` object.
    graphite: Vec<(&'static str, String)>,
}

/// Where one program listens and sends to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) udp: u16,
    pub(super) console: u16,
    pub(super) graphite: u16,
}

const PERCENTILES: &[&str] = &[
    "90",
    "0",
    "100",
    "-10",
    "99.9",
    "[90]",
    "[50, 90, 99]",
    "[99.9, 33.333]",
    "[-90, -10, 10]",
    "[0, 50]",
    "[1, 5, 95]",
    "[-100, 100]",
    "[]",
    "12.5",
    "[90, 90]",
];
const HISTOGRAMS: &[&str] = &[
    "[]",
    "[ { metric: '', bins: [ 1, 10, 100, 'inf' ] } ]",
    "[ { metric: 'app', bins: [] }, { metric: '', bins: [ 2.5, 5 ] } ]",
    "[ { metric: \"time\", bins: [ 0.5, 50 ] }, { metric: 'a', bins: [ 'inf' ] } ]",
];
const TIMER_OUTPUTS: &[&str] = &[
    "[]",
    "['count', 'median', 'upper_percent', 'histogram']",
    "['mean_percent', 'lower', 'count_ps']",
    "['sum_percent', 'sum_squares_percent', 'std']",
    "['histogram']",
    "['lower_percent', 'count_percent', 'upper_99_percent', 'upper']",
];
const SWITCHES: &[&str] =
    &["deleteIdleStats", "deleteCounters", "deleteTimers", "deleteSets", "deleteGauges", "flush_counts"];
const PREFIXES: &[&str] = &["globalPrefix", "prefixCounter", "prefixTimer", "prefixGauge", "prefixSet"];

impl Setup {
    /// New names, nothing else configured.
    pub(super) fn plain(interval_ms: u64) -> Self {
        let graphite = vec![("legacyNamespace", "false".to_owned())];
        Self { interval_ms, sanitize: true, pickle: false, options: Vec::new(), graphite }
    }

    /// The same with one option more.
    pub(super) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.options.push((key, value.to_owned()));
        self
    }

    /// A configuration that only `seed` decides.
    pub(super) fn random(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut setup = Self {
            interval_ms: 500,
            sanitize: rng.random_bool(0.75),
            pickle: rng.random_bool(0.25),
            options: Vec::new(),
            graphite: Vec::new(),
        };
        setup.draw_timer_options(rng);
        setup.draw_idle_options(rng);
        setup.draw_naming(rng);
        setup
    }

    fn draw_timer_options(&mut self, rng: &mut StdRng) {
        let choices = [
            ("percentThreshold", PERCENTILES),
            ("histogram", HISTOGRAMS),
            ("calculatedTimerMetrics", TIMER_OUTPUTS),
        ];
        for (key, values) in choices {
            // The list of outputs hides the others, so it is drawn less often than they are.
            let share = if key == "calculatedTimerMetrics" { 0.3 } else { 0.7 };
            if rng.random_bool(share) {
                self.options.push((key, pick(rng, values)));
            }
        }
    }

    fn draw_idle_options(&mut self, rng: &mut StdRng) {
        for key in SWITCHES {
            if rng.random_bool(0.4) {
                self.options.push((key, rng.random_bool(0.7).to_string()));
            }
        }
        // A round watches three flushes, so a longer life than two would not be seen to end.
        if rng.random_bool(0.5) {
            self.options.push(("gaugesMaxTTL", pick(rng, &["1", "2", "0", "-3", "1.5"])));
        }
    }

    fn draw_naming(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.3) {
            self.options.push(("prefixStats", pick(rng, &["'own'", "'stats.d'", "''"])));
        }
        if rng.random_bool(0.7) {
            self.graphite.push(("legacyNamespace", rng.random_bool(0.25).to_string()));
        }
        for key in PREFIXES {
            if rng.random_bool(0.3) {
                self.graphite.push((key, pick(rng, &["''", "'p'", "'deep.er'"])));
            }
        }
        if rng.random_bool(0.3) {
            self.graphite.push(("globalSuffix", pick(rng, &["'host1'", "'a.b'", "''"])));
        }
    }

    /// The file for a program with these ports.
    pub(super) fn text(&self, ports: Ports) -> String {
        let protocol = if self.pickle { "pickle" } else { "text" };
        let port_key = if self.pickle { "graphitePicklePort" } else { "graphitePort" };
        let mut text = format!(
            "/* one configuration, two programs */\n{{\n  flushInterval: {}\n, port: {} // UDP\n, address: \"127.0.0.1\"\n\
             , mgmt_port: {}\n, mgmt_address: '127.0.0.1'\n, graphiteHost: \"127.0.0.1\"\n, {port_key}: {}\n\
             , \"graphiteProtocol\": '{protocol}'\n",
            self.interval_ms, ports.udp, ports.console, ports.graphite
        );
        if !self.sanitize {
            text.push_str(", keyNameSanitize: false\n");
        }
        for (key, value) in &self.options {
            text.extend([", ", key, ": ", value, "\n"]);
        }
        if !self.graphite.is_empty() {
            let inner: Vec<String> =
                self.graphite.iter().map(|(key, value)| format!("    {key}: {value}")).collect();
            text.extend([", graphite: {\n", &inner.join(",\n"), ",\n  }\n"]);
        }
        text + "}\n"
    }
}

fn pick(rng: &mut StdRng, choices: &[&str]) -> String {
    (*choices.choose(rng).expect("there is a choice")).to_owned()
}
