//! Asks statsd's file for keys, one at a time, and collects what became of them.
//!
//! In come the object that the file holds, questions for keys and answers in keys of ours; out comes the
//! [`Translation`]. What was never asked for is warned of. Knows how JavaScript reads an
//! object, and only those keys of statsd's that do nothing here.

use super::js::{Js, Object, field};
use super::native::Switches;
use super::problem::{Mistake, Reason, suggestion};
use super::reader::Origin;
use super::translation::{Entry, Translation};
use std::collections::BTreeSet;
use toml::Value;

/// Keys of statsd's that do nothing here, and what to know about that.
const IGNORED: [(&str, &str); 6] = [
    ("title", "the name of the process stays tallyd"),
    ("keyFlush", "tallyd keeps no log of frequent keys"),
    ("repeater", "tallyd does not repeat packets to other servers"),
    ("repeaterProtocol", "tallyd does not repeat packets to other servers"),
    ("log", "tallyd logs to standard error"),
    ("console", "tallyd prints no flushes to stdout"),
];

/// The file, and what has been made of it so far.
pub(super) struct Translator<'o> {
    object: &'o Object,
    asked: BTreeSet<&'static str>,
    entries: Vec<Entry>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl<'o> Translator<'o> {
    pub(super) fn new(object: &'o Object) -> Self {
        let (entries, mistakes, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { object, asked: BTreeSet::new(), entries, mistakes, warnings }
    }

    /// The whole file.
    pub(super) fn object(&self) -> &'o Object {
        self.object
    }

    /// The value of a key, or of `section.key`.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'o Js> {
        self.asked.insert(key);
        match key.split_once('.') {
            None => field(self.object, key),
            Some((section, key)) => match field(self.object, section) {
                Some(Js::Object(fields)) => field(fields, key),
                _ => None,
            },
        }
    }

    /// The value of a key for which JavaScript writes `value || default`.
    pub(super) fn truthy(&mut self, key: &'static str) -> Option<&'o Js> {
        self.get(key).filter(|value| value.is_truthy())
    }

    /// Adds a key of ours that says what `origin` says.
    pub(super) fn put(
        &mut self,
        place: (&'static str, &'static str),
        value: Value,
        origin: &str,
        written: &Js,
    ) {
        self.entries.push(Entry {
            section: place.0,
            key: place.1,
            value,
            origin: Some(Origin { key: origin.to_owned(), written: written.source() }),
            comment: origin.to_owned(),
        });
    }

    /// Adds a key of ours that holds for every file of statsd's.
    pub(super) fn rule(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: impl Into<Value>,
        comment: &str,
    ) {
        let comment = comment.to_owned();
        self.entries.push(Entry { section, key, value: value.into(), origin: None, comment });
    }

    /// Removes the key that was added last.
    pub(super) fn take_back(&mut self) {
        self.entries.pop();
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub(super) fn mistake(&mut self, key: &str, written: &Js, problem: &str, cure: &str) {
        self.mistakes.push(Mistake::new(key, &written.source(), Reason::new(problem, cure)));
    }

    /// Warns of every key that was not asked for. statsd knows no wrong keys, and its users' files hold those
    /// of backends and of their own.
    pub(super) fn finish(mut self, switches: Switches) -> Translation {
        let nested = match field(self.object, "graphite") {
            Some(Js::Object(fields)) => fields.as_slice(),
            _ => &[],
        };
        let nested = nested.iter().map(|(key, _)| format!("graphite.{key}"));
        let keys =
            self.object.iter().map(|(key, _)| key.clone()).filter(|key| key != "graphite").chain(nested);
        for key in keys.filter(|key| !self.asked.contains(key.as_str())).collect::<Vec<_>>() {
            let ignored = IGNORED.iter().find(|(name, _)| *name == key).map(|(_, note)| (*note).to_owned());
            let near = suggestion(&key, self.asked.iter().copied());
            let note = ignored.or_else(|| near.map(|near| format!("did you mean {near}?")));
            self.warn(format!(
                "{key} does nothing here: {}",
                note.as_deref().unwrap_or("no such key is known")
            ));
        }
        let Self { entries, mistakes, warnings, .. } = self;
        Translation { entries, switches, mistakes, warnings }
    }
}

/// `host:port`, with the brackets that an IPv6 address needs; without a port the protocol's default holds.
pub(super) fn destination(host: &str, port: Option<u16>) -> String {
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    port.map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// A port from 1 to 65535.
pub(super) fn port_number(written: &Js) -> Option<u16> {
    let number =
        written.number().filter(|number| number.fract() == 0.0 && (1.0..=65_535.0).contains(number))?;
    Some(number as u16)
}

/// The name of a module of statsd's that is required by path or by name.
pub(super) fn module_name<'n>(name: &'n str, folder: &str) -> &'n str {
    name.trim_start_matches(folder).trim_end_matches(".js")
}
