//! `tallyd doctor`: looks at what tallyd stands on, and says what to do about what is wrong.
//!
//! In comes a configuration that was read without mistakes; out goes a report, a line for each thing that was
//! looked at. A **finding** has a cure beside it, and any of them makes the exit code 1; a note is worth knowing
//! and no more. The doctor changes nothing: what it writes to try a disk it removes, sockets that it binds to
//! find a port free it closes.
//!
//! ```text
//!   Patient ──▶ CHECKS, one file each ──▶ Report ──▶ text, exit code
//! ```
//!
//! A further check is a function in [`CHECKS`]. Files of the machine are read below [`Patient::root`], so that a
//! doctor in a container can look at its host's, and a test at a machine of its own making.

mod agents;
mod carbon;
mod clock;
mod disk;
mod graphite;
mod holder;
mod ini;
mod machine;
mod ports;
mod redis;
mod running;
mod settings;
mod store;

use super::args::Doctor;
use super::run::load;
use crate::config::Loaded;
use anyhow::Context as _;
use running::Running;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Nobody that the doctor asks is given longer to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at one thing.
type Check = fn(&Patient, &mut Report);

/// What is looked at, in the order of the report.
const CHECKS: [(&str, Check); 9] = [
    ("configuration", settings::check),
    ("machine", machine::check),
    ("ports", ports::check),
    ("clock", clock::check),
    ("store", store::check),
    ("graphite", graphite::check),
    ("carbon", carbon::check),
    ("carbon.agents", agents::check),
    ("tallyd", running::check),
];

/// Who is looked at.
struct Patient {
    loaded: Loaded,
    /// The configuration's file.
    file: Option<PathBuf>,
    /// `/`, or where the root of the machine in question is mounted.
    root: PathBuf,
    /// carbon's directory, if it was given.
    carbon: Option<PathBuf>,
    /// graphite-web's address, if it was given.
    render: Option<String>,
    /// The tallyd of this configuration, asked once.
    running: Running,
}

impl Patient {
    /// A file of the machine in question.
    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A file of the machine in question, if it is there and text.
    fn read(&self, absolute: &str) -> Option<String> {
        std::fs::read_to_string(self.path(absolute)).ok()
    }

    /// The number that stands alone in a file.
    fn number(&self, absolute: &str) -> Option<u64> {
        self.read(absolute)?.trim().parse().ok()
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Good(String),
    Note(String),
    Finding { what: String, cure: String },
}

/// All that was found, by check.
#[derive(Debug, Default)]
struct Report(Vec<(&'static str, Vec<Line>)>);

impl Report {
    fn begin(&mut self, check: &'static str) {
        self.0.push((check, Vec::new()));
    }

    fn line(&mut self, line: Line) {
        if let Some((_, lines)) = self.0.last_mut() {
            lines.push(line);
        }
    }

    /// As it should be.
    fn good(&mut self, what: impl Into<String>) {
        self.line(Line::Good(what.into()));
    }

    /// Worth knowing.
    fn note(&mut self, what: impl Into<String>) {
        self.line(Line::Note(what.into()));
    }

    /// Wrong, with what to do about it.
    fn finding(&mut self, what: impl Into<String>, cure: impl Into<String>) {
        self.line(Line::Finding { what: what.into(), cure: cure.into() });
    }

    fn findings(&self) -> usize {
        let lines = self.0.iter().flat_map(|(_, lines)| lines);
        lines.filter(|line| matches!(line, Line::Finding { .. })).count()
    }

    /// The whole report; the last line says how many findings there are.
    fn text(&self) -> String {
        let mut text = String::new();
        for (check, lines) in self.0.iter().filter(|(_, lines)| !lines.is_empty()) {
            // Writing to a string cannot fail.
            writeln!(text, "{check}").ok();
            for line in lines {
                match line {
                    Line::Good(what) => writeln!(text, "  ok       {what}").ok(),
                    Line::Note(what) => writeln!(text, "  note     {what}").ok(),
                    Line::Finding { what, cure } => {
                        writeln!(text, "  FINDING  {what}\n           do: {cure}").ok()
                    }
                };
            }
        }
        match self.findings() {
            0 => text.push_str("nothing is wrong\n"),
            1 => text.push_str("1 finding\n"),
            many => writeln!(text, "{many} findings").unwrap_or_default(),
        }
        text
    }
}

/// Looks at everything; exit code 0 if nothing is wrong, 1 if there are findings.
pub fn doctor(arguments: &Doctor) -> anyhow::Result<ExitCode> {
    let loaded = load(&arguments.configured)?;
    let running = Running::ask(&loaded);
    let patient = Patient {
        loaded,
        file: arguments.configured.config.clone(),
        root: arguments.root.clone(),
        carbon: arguments.carbon.clone(),
        render: arguments.render.clone(),
        running,
    };
    let report = examine(&patient);
    std::io::stdout().write_all(report.text().as_bytes()).context("cannot write to stdout")?;
    Ok(if report.findings() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(patient: &Patient) -> Report {
    let mut report = Report::default();
    for (name, check) in CHECKS {
        report.begin(name);
        check(patient, &mut report);
    }
    report
}

/// Bytes as a person reads them: `4.2 GB`.
fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, word)| {
            let value = bytes as f64 / *unit as f64;
            if value.fract() == 0.0 { format!("{value} {word}") } else { format!("{value:.1} {word}") }
        },
    )
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `a:2003` as host and port; an IPv6 address stands in brackets.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

/// A path for messages.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
