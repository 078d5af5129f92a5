//! The configuration: what was ignored in it, what it opens to strangers, and who may read its secrets.

use super::{Patient, Report, shown};
use crate::config;
use std::os::unix::fs::PermissionsExt as _;

pub(super) fn check(patient: &Patient, report: &mut Report) {
    for warning in &patient.loaded.warnings {
        report.finding(warning.clone(), "mend or remove it; `tallyd check` says what then holds");
    }
    let http = &patient.loaded.config.http;
    if let Some(listen) = http.listen.filter(|listen| !listen.ip().is_loopback() && !http.has_tokens()) {
        report.finding(
            format!("HTTP on {listen} shows status and figures to anybody who reaches it"),
            "set http.tokens (TALLYD_HTTP_TOKENS), or listen on loopback",
        );
    }
    if let Some(listen) = patient.loaded.config.console.listen.filter(|listen| !listen.ip().is_loopback()) {
        report.finding(
            format!("the console on {listen} has no password and can delete series"),
            "set console.listen to 127.0.0.1:8126, or to \"off\"",
        );
    }
    secrets(patient, report);
    if patient.loaded.warnings.is_empty() {
        let from = patient
            .file
            .as_ref()
            .map_or_else(|| "the defaults and the environment".to_owned(), |file| file.display().to_string());
        report.good(format!("{from}: read without a mistake"));
    }
}

/// Tokens and the salt are worth as much as whoever can read them is few.
fn secrets(patient: &Patient, report: &mut Report) {
    let Some(file) = patient.file.as_ref().filter(|file| !config::is_statsd_file(file)) else {
        return;
    };
    let (Ok(text), Ok(meta)) = (std::fs::read_to_string(file), std::fs::metadata(file)) else {
        return;
    };
    let written = |section: &str, key: &str| {
        let table: Option<toml::Table> = toml::from_str(&text).ok();
        let value = table.and_then(|table| table.get(section)?.get(key).cloned());
        value.is_some_and(|value| {
            value.as_str().is_some_and(|text| !text.is_empty())
                || value.as_array().is_some_and(|list| !list.is_empty())
        })
    };
    let secret = [
        ("http", "tokens", "http.tokens"),
        ("ingest", "signed_keys", "ingest.signed_keys"),
        ("sets", "salt", "sets.salt"),
    ];
    let keys: Vec<&str> = secret
        .into_iter()
        .filter(|(section, key, _)| written(section, key))
        .map(|(_, _, name)| name)
        .collect();
    if meta.permissions().mode() & 0o004 != 0 && !keys.is_empty() {
        report.finding(
            format!("everybody on this machine can read {} in {}", keys.join(" and "), shown(file)),
            format!(
                "chmod o-r {}, or set it as environment in a file that only the service reads (TALLYD_HTTP_TOKENS)",
                shown(file)
            ),
        );
    }
}
