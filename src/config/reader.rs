//! Takes keys, one at a time, out of a file's table and the environment.
//!
//! In come a TOML table, the environment and, key by key, a default and a parser; out come values, and at the
//! end every mistake and warning. What was never asked for is unknown: the stages' own reading is the only
//! list of keys there is. Knows no key by itself, except the secret ones and those of later versions.

use super::problem::{Mistake, Reason, suggestion};
use super::raw::Raw;
use crate::limits;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What the names of our environment variables begin with.
const ENV_PREFIX: &str = "TALLYD_";
/// Values that are never shown.
const SECRETS: [&str; 3] = ["http.tokens", "ingest.signed_keys", "sets.salt"];
/// Keys that later versions know.
const LATER_KEYS: [&str; 0] = [];
/// Sections that later versions know.
const LATER_SECTIONS: [&str; 0] = [];
/// Lists of tables, which have a reader of their own.
const ARRAYS: [&str; 4] = ["figure", "page", "link", "notify"];

/// A file, as keys and values of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Sections with their keys.
    pub(crate) table: Table,
    /// For keys that were translated: what the user wrote.
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// A key and its value in the file of another language.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) key: String,
    pub(crate) written: String,
}

/// A key that was asked for, with the value that holds.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: Value,
}

/// All that reading brought to light besides the values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) effective: Vec<Effective>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

/// Reads one file and one environment.
pub(super) struct Reader<'a> {
    source: &'a Source,
    env: BTreeMap<String, String>,
    findings: Findings,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, env: impl Iterator<Item = (String, String)>) -> Self {
        let env = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        Self { source, env, findings: Findings::default() }
    }

    /// The section whose keys are asked for next.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_, 'a> {
        Section { reader: self, name }
    }

    /// A list of tables, such as `[[figure]]`.
    pub(super) fn array(&self, name: &str) -> Option<&'a Value> {
        self.source.table.get(name)
    }

    /// Adds a mistake that was found elsewhere.
    pub(super) fn refuse(&mut self, mistake: Mistake) {
        self.findings.mistakes.push(mistake);
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.findings.warnings.push(warning.into());
    }

    /// Names what nobody asked for, and ends the reading.
    pub(super) fn finish(mut self) -> Findings {
        self.note_later_features();
        self.refuse_unknown_keys();
        self.warn_of_unknown_variables();
        self.findings
    }

    /// Names of later versions are warned of, once each, wherever they stand.
    fn note_later_features(&mut self) {
        let table = &self.source.table;
        let in_section = |name: &str| {
            table.contains_key(name)
                || self.env.keys().any(|variable| variable.starts_with(&variable_of(name, "")))
        };
        let has_key = |name: &str| {
            let (section, key) = name.split_once('.').unwrap_or((name, ""));
            let in_file = table.get(section).is_some_and(|keys| keys.get(key).is_some());
            in_file || self.env.contains_key(&variable_of(section, key))
        };
        let sections =
            LATER_SECTIONS.into_iter().filter(|name| in_section(name)).map(|name| format!("[{name}]"));
        let keys = LATER_KEYS.into_iter().filter(|name| has_key(name)).map(str::to_owned);
        let warnings = keys.chain(sections).map(|name| {
            format!("{name} belongs to a feature of later versions; this version does nothing with it")
        });
        self.findings.warnings.extend(warnings.collect::<Vec<_>>());
    }

    fn refuse_unknown_keys(&mut self) {
        let source = self.source;
        for (name, value) in &source.table {
            if LATER_SECTIONS.contains(&name.as_str()) || ARRAYS.contains(&name.as_str()) {
                continue;
            }
            let known = self.findings.effective.iter().any(|known| known.section == name);
            match value.as_table() {
                _ if !known => {
                    let reason = self.unknown_section(name);
                    self.findings.mistakes.push(Mistake::new(name.as_str(), "", reason));
                }
                Some(keys) => self.refuse_unknown_in(name, keys),
                None => {
                    let reason = Reason::new(
                        "this is a section, not a value",
                        format!("write [{name}] on a line of its own and its keys below"),
                    );
                    self.findings.mistakes.push(Mistake::new(name.as_str(), &value.to_string(), reason));
                }
            }
        }
    }

    fn refuse_unknown_in(&mut self, section: &str, keys: &Table) {
        for key in keys.keys() {
            let name = format!("{section}.{key}");
            let known = self.findings.effective.iter();
            let is_known = known.clone().any(|known| known.section == section && known.key == key);
            if is_known || LATER_KEYS.contains(&name.as_str()) {
                continue;
            }
            let inside = known.clone().filter(|known| known.section == section).map(|known| known.key);
            let cure = match (suggestion(key, inside), known.clone().find(|known| known.key == key)) {
                (Some(near), _) => format!("did you mean \"{near}\"?"),
                (None, Some(other)) => format!("it stands in [{}]", other.section),
                (None, None) => "remove it".to_owned(),
            };
            self.findings.mistakes.push(Mistake::new(name, "", Reason::new("there is no such key", cure)));
        }
    }

    fn unknown_section(&self, name: &str) -> Reason {
        let known = self.findings.effective.iter();
        if let Some(key) = known.clone().find(|known| known.key == name) {
            return Reason::new("keys stand in a section", format!("move it below [{}]", key.section));
        }
        let near = suggestion(name, known.map(|known| known.section));
        let cure = near.map_or_else(|| "remove it".to_owned(), |near| format!("did you mean [{near}]?"));
        Reason::new("there is no such section", cure)
    }

    /// Orchestrators set variables of their own for a service of our name, so that these are no mistakes.
    fn warn_of_unknown_variables(&mut self) {
        let keys = self.findings.effective.iter().map(|known| (known.section, known.key));
        let later = LATER_KEYS.iter().filter_map(|name| name.split_once('.'));
        let known: Vec<String> = keys.chain(later).map(|(section, key)| variable_of(section, key)).collect();
        let of_later_section =
            |name: &str| LATER_SECTIONS.iter().any(|section| name.starts_with(&variable_of(section, "")));
        let unknown = self.env.keys().filter(|name| !known.contains(name) && !of_later_section(name));
        let (mut warnings, mut strangers) = (Vec::new(), Vec::new());
        for name in unknown {
            let words = known.iter().filter_map(|name| name.strip_prefix(ENV_PREFIX));
            match suggestion(name.trim_start_matches(ENV_PREFIX), words) {
                Some(near) => {
                    warnings.push(format!(
                        "{name} is not a setting and does nothing; did you mean {ENV_PREFIX}{near}?"
                    ));
                }
                None => strangers.push(name.as_str()),
            }
        }
        if !strangers.is_empty() {
            warnings.push(format!(
                "{} in the environment: not settings of tallyd, which ignores them",
                strangers.join(", ")
            ));
        }
        self.findings.warnings.extend(warnings);
    }
}

/// One section of a [`Reader`].
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
}

impl<'a> Section<'_, 'a> {
    /// The value of `key`: the environment's before the file's before the default, which also stands in for
    /// a value that was refused.
    ///
    /// # Panics
    /// If `parse` refuses the default, which is a bug of ours.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: impl Into<Value>,
        parse: impl Fn(Raw<'_>) -> Result<T, Reason>,
    ) -> T {
        let default = default.into();
        let written = self.written(key);
        let parsed = written.as_ref().map(|written| parse(written.raw()));
        let (value, effective) = match (parsed, &written) {
            (Some(Ok(value)), Some(written)) => (value, written.value()),
            (refused, _) => {
                if let Some(Err(reason)) = refused {
                    self.mistake(key, reason);
                }
                match parse(Raw::File(&default)) {
                    Ok(value) => (value, default),
                    Err(reason) => panic!("{}.{key} refuses its default: {}", self.name, reason.problem),
                }
            }
        };
        self.reader.findings.effective.push(Effective { section: self.name, key, value: effective });
        value
    }

    /// A list; each element that is refused is a mistake of its own.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<Value>,
        parse: impl Fn(Raw<'_>) -> Result<T, Reason>,
    ) -> Vec<T> {
        let written = self.written(key);
        let raw = written.as_ref().map_or_else(|| Ok(Vec::new()), |written| written.raw().list());
        for element in raw.iter().flatten() {
            if let Err(reason) = parse(*element) {
                self.mistake_at(key, &element.shown(), reason);
            }
        }
        self.value(key, default, |raw| {
            let elements = raw.list()?;
            if elements.len() > limits::TIMER_OUTPUTS_MAX {
                let problem = format!("the list has {} entries", elements.len());
                return Err(Reason::new(problem, format!("write at most {}", limits::TIMER_OUTPUTS_MAX)));
            }
            Ok(elements.into_iter().filter_map(|element| parse(element).ok()).collect())
        })
    }

    /// Whether the user has left the key out.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.written(key).is_none()
    }

    /// Whether nothing was found wrong with the value, so that others may be compared with it.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let name = self.shown_name(key);
        !self.reader.findings.mistakes.iter().any(|mistake| mistake.key == name)
    }

    /// Records that the value of `key` is refused.
    pub(super) fn mistake(&mut self, key: &str, reason: Reason) {
        let shown = self.written(key).map_or_else(String::new, |written| written.raw().shown());
        self.mistake_at(key, &shown, reason);
    }

    fn mistake_at(&mut self, key: &str, value: &str, reason: Reason) {
        let origin = match self.written(key) {
            Some(Written::Env(_)) => None,
            _ => self.origin(key),
        };
        let secret = SECRETS.contains(&self.dotted(key).as_str());
        let value = if secret { "(not shown)" } else { origin.map_or(value, |origin| &origin.written) };
        self.reader.findings.mistakes.push(Mistake::new(self.shown_name(key), value, reason));
    }

    /// The key as its user knows it.
    fn shown_name(&self, key: &str) -> String {
        match self.written(key) {
            Some(Written::Env(_)) => variable_of(self.name, key),
            _ => self.origin(key).map_or_else(|| self.dotted(key), |origin| origin.key.clone()),
        }
    }

    fn dotted(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn origin(&self, key: &str) -> Option<&'a Origin> {
        self.reader.source.origins.get(&self.dotted(key))
    }

    fn written(&self, key: &str) -> Option<Written<'a>> {
        if let Some(text) = self.reader.env.get(&variable_of(self.name, key)) {
            return Some(Written::Env(text.clone()));
        }
        self.reader.source.table.get(self.name)?.get(key).map(Written::File)
    }
}

/// A value that the user gave.
enum Written<'a> {
    File(&'a Value),
    Env(String),
}

impl Written<'_> {
    fn raw(&self) -> Raw<'_> {
        match self {
            Self::File(value) => Raw::File(value),
            Self::Env(text) => Raw::Env(text),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::File(value) => (*value).clone(),
            Self::Env(text) => Value::String(text.clone()),
        }
    }
}

/// The effective values as statsd's console prints a configuration: `section > key: value`.
pub(super) fn console_lines(effective: &[Effective]) -> Vec<String> {
    let line = |known: &Effective| {
        let secret = SECRETS.contains(&format!("{}.{}", known.section, known.key).as_str());
        let value = match &known.value {
            _ if secret => "(not shown)".to_owned(),
            Value::String(text) => super::raw::without_password(text),
            other => other.to_string(),
        };
        format!("{} > {}: {value}", known.section, known.key)
    };
    effective.iter().map(line).collect()
}

fn variable_of(section: &str, key: &str) -> String {
    format!("{ENV_PREFIX}{}_{}", section.to_uppercase(), key.to_uppercase())
}
