//! carbon's files, where they are on this machine: its limits, and its rules beside those that
//! `tallyd graphite-rules` prints.
//!
//! The rules are compared by what they do, not by their text: for names that this configuration makes, the first
//! rule that matches decides, as in carbon, and must give what the first of ours gives.

use super::ini::{self, Section};
use super::{Patient, Report, host_and_port, is_here, shown};
use crate::cli::check::examples;
use crate::cli::graphite_rules::{Part, rules};
use crate::config::Config;
use crate::forward::Protocol;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where packages and Graphite's own installer put it.
const FOLDERS: [&str; 2] = ["/etc/carbon", "/opt/graphite/conf"];
/// Fewer new files a minute than this, and the first day's names take their time.
const CREATES_MIN: f64 = 1_000.0;
/// What carbon does with a name that no rule matches.
const DEFAULT_KEPT: Kept = Kept { step: 60, keep: 7 * 86_400 };
const DEFAULT_THINNED: (&str, &str) = ("average", "0.5");

pub(super) fn check(patient: &Patient, report: &mut Report) {
    let config = &patient.loaded.config;
    let here: Vec<(&str, u16)> = config
        .graphite
        .addresses
        .iter()
        .filter_map(|address| host_and_port(address))
        .filter(|(host, _)| is_here(host))
        .collect();
    let Some(folder) = folder(patient, !here.is_empty()) else {
        if !config.graphite.addresses.is_empty() {
            report.note(
                "carbon's files are not here; run the doctor where carbon runs too, with --carbon DIRECTORY",
            );
        }
        return;
    };
    let Ok(text) = std::fs::read_to_string(folder.join("carbon.conf")) else {
        report.finding(
            format!("there is no carbon.conf in {} that can be read", shown(&folder)),
            "give --carbon the directory with carbon.conf, or run the doctor as root",
        );
        return;
    };
    let sections = ini::read(&text);
    limits(report, &folder, &sections);
    receivers(report, config.graphite.protocol, &sections, &here);
    schemas(report, &folder, config);
    aggregation(report, &folder, config);
}

fn folder(patient: &Patient, is_here: bool) -> Option<PathBuf> {
    patient.carbon.clone().or_else(|| {
        let there = FOLDERS.into_iter().map(|folder| patient.path(folder));
        there.filter(|_| is_here).find(|folder| folder.join("carbon.conf").exists())
    })
}

/// A number that may be `inf`, in a `[cache]` section or in one of its instances.
fn limit(sections: &[Section], key: &str) -> Option<f64> {
    let caches =
        sections.iter().filter(|section| section.name == "cache" || section.name.starts_with("cache:"));
    let values = caches.filter_map(|section| section.get(key)?.parse::<f64>().ok());
    values.reduce(f64::min)
}

fn limits(report: &mut Report, folder: &Path, sections: &[Section]) {
    let file = folder.join("carbon.conf");
    let file = shown(&file);
    match limit(sections, "max_creates_per_minute") {
        Some(creates) if creates < CREATES_MIN => report.finding(
            format!(
                "carbon makes files for {creates} new names a minute and drops the points of the others after taking \
                 them (MAX_CREATES_PER_MINUTE in {file}); a timer is fourteen names"
            ),
            "set MAX_CREATES_PER_MINUTE = inf and restart carbon, at least for the first day",
        ),
        _ => report.good("carbon makes files for new names as they come"),
    }
    let is_on = |key| {
        let word = sections.iter().rev().find_map(|section| section.get(key));
        word.map(|word| word.eq_ignore_ascii_case("true"))
    };
    let flows = is_on("use_flow_control").unwrap_or(true);
    if let Some(size) = limit(sections, "max_cache_size").filter(|size| size.is_finite() && !flows) {
        report.finding(
            format!("carbon drops points once {size} wait to be written (MAX_CACHE_SIZE, and USE_FLOW_CONTROL = False, in {file})"),
            "set USE_FLOW_CONTROL = True, so that tallyd waits instead, or MAX_CACHE_SIZE = inf",
        );
    }
    if is_on("use_whitelist") == Some(true) {
        report.note(format!("carbon takes only the names in its whitelist (USE_WHITELIST in {file})"));
    }
}

/// A destination on this machine should be a port that carbon listens on for what is spoken there.
fn receivers(report: &mut Report, protocol: Protocol, sections: &[Section], here: &[(&str, u16)]) {
    let (key, word) = match protocol {
        Protocol::Plaintext => ("line_receiver_port", "LINE_RECEIVER_PORT"),
        Protocol::Pickle => ("pickle_receiver_port", "PICKLE_RECEIVER_PORT"),
    };
    let ports: Vec<u16> = sections
        .iter()
        .filter_map(|section| section.get(key)?.parse().ok())
        .filter(|port| *port != 0)
        .collect();
    for (host, port) in here.iter().filter(|(_, port)| !ports.is_empty() && !ports.contains(port)) {
        let listed: Vec<String> = ports.iter().map(ToString::to_string).collect();
        report.finding(
            format!(
                "{host}:{port} is no port of this carbon's for what is sent to it ({word} is {})",
                listed.join(", ")
            ),
            "set graphite.address and graphite.protocol to one of carbon's",
        );
    }
}

/// Rules of one file that can be asked.
struct Rules {
    list: Vec<(Section, PikeVM)>,
    unread: Vec<String>,
}

impl Rules {
    fn new(text: &str) -> Self {
        let mut rules = Self { list: Vec::new(), unread: Vec::new() };
        for section in ini::read(text) {
            let Some(pattern) = section.get("pattern").filter(|pattern| !pattern.is_empty()) else {
                continue;
            };
            match PikeVM::new(pattern) {
                Ok(machine) => rules.list.push((section, machine)),
                Err(_) => rules.unread.push(section.name),
            }
        }
        rules
    }

    /// The first that matches.
    fn of(&self, path: &str) -> Option<&Section> {
        let matches = |machine: &PikeVM| machine.is_match(&mut machine.create_cache(), path);
        self.list.iter().find(|(_, machine)| matches(machine)).map(|(section, _)| section)
    }
}

/// carbon's rules in a file, or why they cannot be judged.
fn theirs(report: &mut Report, file: &Path, only: &str) -> Option<Rules> {
    let Ok(text) = std::fs::read_to_string(file) else {
        report.finding(
            format!("there is no {} that can be read", shown(file)),
            format!("tallyd graphite-rules --only {only} > {}", shown(file)),
        );
        return None;
    };
    let rules = Rules::new(&text);
    for name in &rules.unread {
        report.note(format!(
            "[{name}] in {} has a pattern that is not judged here: it is passed over",
            shown(file)
        ));
    }
    Some(rules)
}

/// The finest retention, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    step: u64,
    keep: u64,
}

/// `10s:1d,…` or `10:8640,…`, as whisper reads it.
fn finest(retentions: &str) -> Option<Kept> {
    let (step, keep) = retentions.split(',').next()?.trim().split_once(':')?;
    let step_seconds = seconds(step)?;
    let points = keep.trim().parse::<u64>().ok().map(|points| points * step_seconds);
    Some(Kept { step: step_seconds, keep: points.or_else(|| seconds(keep))? })
}

fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)?.chars().next() {
        None | Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        Some('y') => 365 * 86_400,
        Some(_) => return None,
    };
    Some(digits.parse::<u64>().ok()? * unit)
}

fn schemas(report: &mut Report, folder: &Path, config: &Config) {
    let file = folder.join("storage-schemas.conf");
    let Some(theirs) = theirs(report, &file, "schemas") else {
        return;
    };
    let ours = Rules::new(&rules(config, Some(Part::Schemas)));
    let kept = |rules: &Rules, path: &str| {
        let section = rules.of(path);
        let name = section.map_or_else(|| "no rule".to_owned(), |section| format!("[{}]", section.name));
        let kept = section.and_then(|section| finest(section.get("retentions")?)).unwrap_or(DEFAULT_KEPT);
        (name, kept)
    };
    // As far back again as late samples amend, in seconds.
    let late = 2 * config.flush.amend_window_ms.unsigned_abs() / 1_000;
    let mut wrong: BTreeMap<(String, Kept, Kept), Vec<String>> = BTreeMap::new();
    for path in examples(config) {
        let ((_, right), (rule, found)) = (kept(&ours, &path), kept(&theirs, &path));
        if found.step != right.step || found.keep < late {
            wrong.entry((rule, found, right)).or_default().push(path);
        }
    }
    let place = shown(&file);
    for ((rule, found, right), paths) in &wrong {
        let (names, kept) = (named(paths), found.keep);
        let what = match found.step.cmp(&right.step) {
            Ordering::Equal => format!(
                "the finest values of {names} reach back {kept} s ({rule} in {place}), and should {late}: a late value \
                 would go into a coarser archive and replace a sum there"
            ),
            Ordering::Greater => format!(
                "{names} are kept every {} s ({rule} in {place}), and a bucket is {} s: of the buckets in one step only \
                 the last stays",
                found.step, right.step
            ),
            Ordering::Less => format!(
                "{names} are kept every {} s ({rule} in {place}), and a bucket is {} s: most steps stay empty",
                found.step, right.step
            ),
        };
        report.finding(
            what,
            format!(
                "put what `tallyd graphite-rules --only schemas` prints before {rule}; files that exist keep what they \
                 were made with (whisper-resize.py)"
            ),
        );
    }
    if wrong.is_empty() {
        report.good(format!("{place} keeps what tallyd sends as finely as it sends it"));
    }
}

fn aggregation(report: &mut Report, folder: &Path, config: &Config) {
    let file = folder.join("storage-aggregation.conf");
    let Some(theirs) = theirs(report, &file, "aggregation") else {
        return;
    };
    let ours = Rules::new(&rules(config, Some(Part::Aggregation)));
    let thinned = |rules: &Rules, path: &str| {
        let section = rules.of(path);
        let get = |key: &str, default: &str| {
            section.and_then(|section| section.get(key)).unwrap_or(default).to_owned()
        };
        let name = section.map_or_else(|| "no rule".to_owned(), |section| format!("[{}]", section.name));
        let factor = get("xfilesfactor", DEFAULT_THINNED.1).parse().unwrap_or(f64::NAN);
        (name, get("aggregationmethod", DEFAULT_THINNED.0), factor)
    };
    let mut wrong: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for path in examples(config) {
        let (_, method, factor): (_, _, f64) = thinned(&ours, &path);
        let (rule, found_method, found_factor) = thinned(&theirs, &path);
        // How much must be there matters less than what is done with it, but 0.5 loses what is sparse.
        if found_method != method || found_factor > factor {
            let found = format!("{found_method}, xFilesFactor {found_factor}");
            wrong.entry((rule, found, format!("{method}, xFilesFactor {factor}"))).or_default().push(path);
        }
    }
    let place = shown(&file);
    for ((rule, found, right), paths) in &wrong {
        report.finding(
            format!("{} are thinned out by {found} ({rule} in {place}); right is {right}", named(paths)),
            format!(
                "put what `tallyd graphite-rules --only aggregation` prints before {rule}; files that exist keep what \
                 they were made with (whisper-set-aggregation-method.py)"
            ),
        );
    }
    if wrong.is_empty() {
        report.good(format!("{place} thins out sums as sums, and the largest as the largest"));
    }
}

/// `NAME and 3 more`.
fn named(paths: &[String]) -> String {
    match paths {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retentions_are_read_as_whisper_reads_them() {
        assert_eq!(finest("10s:1d,1m:30d"), Some(Kept { step: 10, keep: 86_400 }));
        assert_eq!(finest(" 60:1440 , 900:10"), Some(Kept { step: 60, keep: 86_400 }));
        assert_eq!(finest("1min:2hours"), Some(Kept { step: 60, keep: 7_200 }));
        assert_eq!(finest("fast"), None);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = Rules::new(
            "[a]\npattern = ^x\\.\n[b]\npattern = count(;|$)\n[c]\npattern = (?<!a)b\n[d]\npattern = .*\n",
        );
        let of = |path| rules.of(path).unwrap().name.clone();
        assert_eq!((of("x.count"), of("y.count"), of("y.z")), ("a".into(), "b".into(), "d".into()));
        assert_eq!(rules.unread, ["c"]);
    }
}
