//! The program: arguments to a command, a command's result to an exit code.

use anyhow::Context as _;
use clap::Parser as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use tallyd::cli::args::{Cli, Command};
use tallyd::cli::{
    backup, check, demo, doctor, graphite_rules, health, link, manual, migrate, notices, run, token, watch,
};

fn main() -> ExitCode {
    end_on_panic();
    let command = Cli::parse().command;
    match execute(&command) {
        Ok(code) => code,
        Err(error) => {
            // Where stderr is closed there is nobody to tell.
            writeln!(std::io::stderr(), "tallyd: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn execute(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::demo(arguments),
        Command::Check(arguments) => print(&check::describe(&run::load(arguments)?)),
        Command::Doctor(arguments) => doctor::doctor(arguments),
        Command::Migrate { file } => print_migrated(file),
        Command::Backup(arguments) => backup::backup(arguments),
        Command::Restore(arguments) => backup::restore(arguments),
        Command::GraphiteRules { configured, only } => {
            print(&graphite_rules::rules(&run::load(configured)?.config, *only))
        }
        Command::Link(arguments) => print(&link::link(arguments)?),
        Command::Token => print(&token::token()?),
        Command::Completions { shell } => print(&manual::completions(*shell)),
        Command::Man { directory } => manual::write(directory).map(|()| ExitCode::SUCCESS),
        Command::Notify(arguments) => notices::notify(arguments),
        Command::Watch(arguments) => watch::watch(arguments),
        Command::Health(arguments) => health::health(arguments),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// The TOML goes to stdout, to be sent into a file; what has no equivalent goes to stderr, to be read.
fn print_migrated(file: &Path) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (toml, warnings) = migrate::migrate(&text)?;
    for warning in warnings {
        writeln!(std::io::stderr(), "tallyd: warning: {warning}").ok();
    }
    print(&toml)
}

/// A broken invariant in a stage ends the process: half a pipeline counts wrong. A request that panics ends
/// alone. What is caught becomes an error, which says all there is to say.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if tallyd::panics::is_caught() {
            return;
        }
        report(info);
        if std::thread::current().name() != Some("web") {
            std::process::abort();
        }
    }));
}
