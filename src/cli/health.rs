//! `tallyd health`: asks a running tallyd over HTTP whether it is ready, for containers' health checks.

use super::args::Configured;
use super::ask::{ask, reachable};
use super::run::load;
use anyhow::{Context, bail};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

/// Exit code 0 if the tallyd that this configuration describes takes lines in.
pub fn health(arguments: &Configured) -> anyhow::Result<ExitCode> {
    let config = load(arguments)?.config;
    let Some(listen) = config.http.listen else {
        bail!("HTTP is off (http.listen), so there is nobody to ask");
    };
    let address = reachable(listen);
    let answer = ask(&config, address, "GET", "/health/ready", &[], PATIENCE)
        .with_context(|| format!("no answer from {address} (http.listen)"))?;
    if answer.code == 200 {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("http://{address}/health/ready says: {}", answer.status);
}
