//! `tallyd man` and `tallyd completions`: man pages and completions, made of what the command line is made of.

use super::args::Cli;
use anyhow::Context;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::Path;

/// Completions for a shell, to be put where it looks for them.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tallyd", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes tallyd.1 and tallyd-COMMAND.1 for each command.
pub fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Each command has a help command of its own, which needs no page.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write to {}", directory.display()))
}
