//! statsd's keys, in ours.
//!
//! In comes the text of statsd's file; out comes a [`Translation`]: each key of ours that says the same, what
//! ours cannot say, and warnings for what is ignored. What statsd does where a key is missing or odd is done
//! here too (`0`, `""` and `false` are often "not set"). Checks only what has no key of ours to check it.

use super::js::{self, Js, field};
use super::literal;
use super::native::Switches;
use super::problem::ConfigError;
use super::translation::Translation;
use super::translator::{Translator, destination, module_name, port_number};
use super::units::show_duration;
use crate::limits;
use crate::wire::Dialect;
use toml::Value;

/// Translates the text of statsd's file; an error is a text that cannot be read at all.
pub(crate) fn translate(text: &str) -> Result<Translation, ConfigError> {
    let object = literal::parse(text)?;
    let mut translator = Translator::new(&object);
    translator.flush();
    super::servers::translate(&mut translator);
    translator.graphite();
    translator.naming();
    translator.timers();
    translator.idle();
    translator.rules();
    translator.console();
    let switches = translator.switches();
    Ok(translator.finish(switches))
}

impl Translator<'_> {
    fn flush(&mut self) {
        if let Some(interval) = self.truthy("flushInterval") {
            match interval.number().filter(|ms| *ms >= 1.0 && ms.fract() == 0.0 && *ms < 1e15) {
                Some(ms) => {
                    self.put(("flush", "bucket"), show_duration(ms as u64).into(), "flushInterval", interval);
                }
                None => self.mistake(
                    "flushInterval",
                    interval,
                    "this is no whole number of milliseconds",
                    "write one, such as 10000",
                ),
            }
        }
        self.rule(
            "ingest",
            "threads",
            1,
            "statsd is one thread: changes of a gauge stay in the order of arrival",
        );
        self.rule("flush", "grace", "0s", "statsd flushes at the end of the interval");
    }

    fn graphite(&mut self) {
        let protocol = self.truthy("graphiteProtocol");
        let pickle = protocol.is_some_and(|protocol| matches!(protocol, Js::Text(text) if text == "pickle"));
        if let Some(protocol) = protocol {
            if !pickle && *protocol != Js::Text("text".to_owned()) {
                self.warn(format!(
                    "graphiteProtocol {}: taken for \"text\", as statsd does",
                    protocol.source()
                ));
            }
            let ours = if pickle { "pickle" } else { "plaintext" };
            self.put(("graphite", "protocol"), ours.into(), "graphiteProtocol", protocol);
        }
        let (text_port, pickle_port) = (self.port("graphitePort"), self.port("graphitePicklePort"));
        let port = if pickle { pickle_port } else { text_port };
        let to_graphite = self.wants_graphite();
        match self.truthy("graphiteHost").filter(|_| to_graphite) {
            Some(host) => match host.text() {
                Some(name) => {
                    let address = destination(&name, port);
                    self.put(("graphite", "address"), vec![address].into(), "graphiteHost", host);
                }
                None => self.mistake("graphiteHost", host, "this is no host", "write it in quotes"),
            },
            None => self.rule(
                "graphite",
                "address",
                Vec::<Value>::new(),
                "nowhere: no graphiteHost or no graphite backend",
            ),
        }
    }

    /// A port, unless it is the default.
    fn port(&mut self, key: &'static str) -> Option<u16> {
        let written = self.truthy(key)?;
        let port = port_number(written);
        if port.is_none() {
            self.mistake(key, written, "this is no port", "write a number from 1 to 65535");
        }
        port
    }

    /// Whether statsd's graphite backend runs; other backends are warned of.
    fn wants_graphite(&mut self) -> bool {
        let Some(written) = self.truthy("backends") else {
            return true;
        };
        let Js::List(backends) = written else {
            self.mistake("backends", written, "this is no list", "write [\"./backends/graphite\"]");
            return true;
        };
        let mut graphite = false;
        for backend in backends {
            match module_name(&backend.to_string(), "./backends/") {
                "graphite" => graphite = true,
                "console" => {
                    self.warn("backends: tallyd has no console backend; its port for administration answers");
                }
                "repeater" => self.warn("backends: tallyd does not repeat packets to other servers"),
                _ => self.warn(format!("backends: tallyd has no backend {}", backend.source())),
            }
        }
        graphite
    }

    fn naming(&mut self) {
        let legacy = self.get("graphite.legacyNamespace").is_none_or(|legacy| *legacy != Js::Bool(false));
        if legacy {
            self.rule(
                "graphite",
                "naming",
                "legacy",
                "graphite.legacyNamespace is true in statsd unless written",
            );
        }
        for (key, ours) in [
            ("graphite.globalPrefix", "prefix"),
            ("graphite.prefixCounter", "prefix_counter"),
            ("graphite.prefixTimer", "prefix_timer"),
            ("graphite.prefixGauge", "prefix_gauge"),
            ("graphite.prefixSet", "prefix_set"),
        ] {
            if self.text(key, ours) && legacy {
                self.take_back();
                self.warn(format!(
                    "{key}: without effect unless graphite.legacyNamespace is false, as in statsd"
                ));
            }
        }
        self.text("graphite.globalSuffix", "suffix");
        self.text("prefixStats", "own_prefix");
        self.flag("flush_counts", ("graphite", "counts"));
        self.rule("graphite", "stamp", "end", "statsd stamps the end of the interval");
    }

    /// Passes a text on to `[graphite]`; whether it was there.
    fn text(&mut self, key: &'static str, ours: &'static str) -> bool {
        let Some(written) = self.get(key) else {
            return false;
        };
        match written.text() {
            Some(text) => self.put(("graphite", ours), text.into(), key, written),
            None => self.mistake(key, written, "this is no text", "write it in quotes"),
        }
        written.text().is_some()
    }

    /// Passes a yes or no on.
    fn flag(&mut self, key: &'static str, place: (&'static str, &'static str)) {
        if let Some(written) = self.get(key) {
            self.put(place, written.is_truthy().into(), key, written);
        }
    }

    /// Without the percentiles beyond 100, for which there is nothing to compute.
    fn computable(&mut self, percentiles: Vec<Value>) -> Vec<Value> {
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|whole| whole as f64));
        let (inside, beyond): (Vec<_>, Vec<_>) = percentiles
            .into_iter()
            .partition(|value| number(value).is_some_and(|number| number.abs() <= 100.0));
        for percentile in beyond {
            self.warn(format!(
                "percentThreshold {percentile}: there is nothing to compute beyond 100; left out"
            ));
        }
        inside
    }

    fn timers(&mut self) {
        if let Some(written) = self.truthy("percentThreshold") {
            let one = std::slice::from_ref(written);
            let thresholds = if let Js::List(list) = written { list.as_slice() } else { one };
            let numbers: Option<Vec<Value>> =
                thresholds.iter().map(|threshold| threshold.number().map(toml_number)).collect();
            match numbers {
                Some(numbers) => {
                    let numbers = self.computable(numbers);
                    self.put(("timers", "percentiles"), Value::Array(numbers), "percentThreshold", written);
                }
                None => self.mistake(
                    "percentThreshold",
                    written,
                    "these are no numbers",
                    "write 90 or [90, 99.9]",
                ),
            }
        }
        if let Some(written @ Js::List(outputs)) = self.get("calculatedTimerMetrics") {
            let outputs = outputs.iter().map(|output| Value::from(output.to_string())).collect();
            self.put(("timers", "outputs"), Value::Array(outputs), "calculatedTimerMetrics", written);
        }
        if let Some(written) = self.truthy("histogram") {
            match histograms(written) {
                Some(histograms) => self.put(("timers", "histogram"), histograms, "histogram", written),
                None => self.mistake(
                    "histogram",
                    written,
                    "this is no list of histograms",
                    "write [{metric: \"part of the name\", bins: [10, 100, \"inf\"]}]",
                ),
            }
        }
        let (timers, sets) = (limits::TIMER_EXACT_MAX_STATSD as i64, limits::SET_EXACT_MAX_STATSD as i64);
        self.rule("timers", "exact_max", timers, "statsd computes with every value");
        self.rule("sets", "exact_max", sets, "statsd counts every member");
    }

    fn idle(&mut self) {
        let all = self.truthy("deleteIdleStats");
        for (key, ours, otherwise) in [
            ("deleteCounters", "counters", "zero"),
            ("deleteTimers", "timers", "zero"),
            ("deleteSets", "sets", "zero"),
            ("deleteGauges", "gauges", "keep"),
        ] {
            let own = self.get(key).map(|own| (key, own));
            if let Some((key, written)) = own.or(all.map(|all| ("deleteIdleStats", all))) {
                let word = if written.is_truthy() { "drop" } else { otherwise };
                self.put(("idle", ours), word.into(), key, written);
            }
        }
        // statsd wants a number here, and takes everything else for 1.
        if let Some(written @ Js::Number(buckets)) = self.get("gaugesMaxTTL")
            && *buckets > 1.0
            && buckets.fract() == 0.0
        {
            self.put(("idle", "gauges_ttl"), toml_number(*buckets), "gaugesMaxTTL", written);
        }
        self.rule("idle", "after", "never", "statsd keeps what is not deleted");
    }

    fn rules(&mut self) {
        self.flag("keyNameSanitize", ("names", "sanitize"));
        self.rule("names", "unknown_type", "counter", "statsd counts every type it does not know");
    }

    fn console(&mut self) {
        let (address, port) = (self.truthy("mgmt_address"), self.truthy("mgmt_port"));
        let number = port.map_or(Some(8_126), port_number);
        if let (None, Some(port)) = (number, port) {
            self.mistake("mgmt_port", port, "this is no port", "write a number from 1 to 65535");
        }
        if let (Some(number), Some(written)) = (number, address.or(port)) {
            let host = address.map_or_else(|| "127.0.0.1".to_owned(), Js::to_string);
            let key = if address.is_some() { "mgmt_address" } else { "mgmt_port" };
            self.put(("console", "listen"), destination(&host, Some(number)).into(), key, written);
        }
    }

    fn switches(&mut self) -> Switches {
        if let Some(status) = self.truthy("healthStatus")
            && !["up", "down"].contains(&status.to_string().as_str())
        {
            self.warn(format!(
                "healthStatus {}: neither \"up\" nor \"down\", taken for \"up\"",
                status.source()
            ));
        }
        Switches {
            trailing_dot: self
                .get("graphite.globalSuffix")
                .and_then(Js::text)
                .is_some_and(|suffix| suffix.is_empty()),
            dialect: Dialect::Statsd,
            debug: self.truthy("debug").is_some(),
            dump_lines: self.truthy("dumpMessages").is_some(),
            healthy: self.truthy("healthStatus").is_none_or(|status| status.to_string() != "down"),
            reload_on_change: self
                .get("automaticConfigReload")
                .is_none_or(|reload| *reload == Js::Null || reload.is_truthy()),
            config_lines: Some(js::console_lines(self.object())),
        }
    }
}

/// A number with the type that a reader of the file expects.
fn toml_number(number: f64) -> Value {
    let is_whole = number.fract() == 0.0 && number.abs() < 1e15;
    if is_whole { Value::Integer(number as i64) } else { Value::Float(number) }
}

fn histograms(written: &Js) -> Option<Value> {
    let Js::List(histograms) = written else {
        return None;
    };
    let histogram = |histogram: &Js| {
        let Js::Object(fields) = histogram else {
            return None;
        };
        let (Some(metric), Some(Js::List(bins))) = (field(fields, "metric")?.text(), field(fields, "bins"))
        else {
            return None;
        };
        let bins = bins.iter().map(|bin| match bin {
            Js::Text(text) if text == "inf" => Some(Value::from("inf")),
            Js::Number(number) if *number == f64::INFINITY => Some(Value::from("inf")),
            bin => bin.number().map(toml_number),
        });
        let mut table = toml::Table::new();
        table.insert("metric".to_owned(), metric.into());
        table.insert("bins".to_owned(), Value::Array(bins.collect::<Option<_>>()?));
        Some(Value::Table(table))
    };
    Some(Value::Array(histograms.iter().map(histogram).collect::<Option<_>>()?))
}
