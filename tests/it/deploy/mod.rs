//! What surrounds the program: rules for Graphite, containers, dashboards, packages, services and documents.
//!
//! Each is tried by what will read it one day: carbon, Prometheus, dpkg, systemd, the compose specification.

mod containers;
mod dashboards;
mod debian;
mod documents;
mod metrics;
mod rules;
mod series;
mod service;

use std::process::{Command, Output};

/// Runs tallyd with these arguments to its end, without settings from our own environment.
fn tallyd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYD_")) {
        command.env_remove(name);
    }
    command.output().expect("tallyd starts")
}

/// What a command that must succeed prints.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}
