//! `tallyd notify`, a dry run of `[[notify]]`: one sample to each webhook, and what came of it.

use super::args::Notify;
use super::run::load;
use crate::clock::Clock;
use crate::notify::{deliver, sample};
use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::process::ExitCode;

/// Exit code 0 if every webhook took the sample.
pub fn notify(arguments: &Notify) -> anyhow::Result<ExitCode> {
    let options = load(&arguments.configured)?.config.notify;
    if options.rules.is_empty() {
        bail!("nobody is to be told: write a [[notify]] with webhook = \"env:SLACK_WEBHOOK\"");
    }
    let message = sample(Clock::system().now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut code = ExitCode::SUCCESS;
    for rule in &options.rules {
        let line = if arguments.print {
            match rule.webhook.resolve() {
                Ok(target) => format!("{} ({target}) would get {}", rule.webhook, message.body(rule.style)),
                Err(problem) => {
                    code = ExitCode::FAILURE;
                    format!("{}: {problem}", rule.webhook)
                }
            }
        } else {
            match runtime.block_on(deliver(&rule.webhook, rule.style, &message)) {
                Ok(()) => format!("{} took a sample", rule.webhook),
                Err(problem) => {
                    code = ExitCode::FAILURE;
                    format!("{} took no sample: {problem}", rule.webhook)
                }
            }
        };
        writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")?;
    }
    runtime.shutdown_background();
    Ok(code)
}
