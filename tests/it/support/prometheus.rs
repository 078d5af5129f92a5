//! A real Prometheus: Debian's, in a temporary directory on a free port, scraping one address every second.

use super::process::Process;
use super::{free_port, http};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PROMETHEUS: &str = "/usr/bin/prometheus";
/// It needs about a second alone; the rest is for a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it with this job, which scrapes `path` of a port of this machine, and waits until it answers.
    pub(crate) fn start(job: &str, target: u16, path: &str) -> Self {
        assert!(Path::new(PROMETHEUS).exists(), "{PROMETHEUS} is missing: run tests/setup");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n\
             - {{ job_name: {job}, metrics_path: {path}, static_configs: [ {{ targets: ['127.0.0.1:{target}'] }} ] }}\n"
        );
        std::fs::write(&config, text).expect("a configuration file is written");
        let port = free_port();
        let mut command = Command::new(PROMETHEUS);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start("prometheus", &command, dir.path());
        process.wait_ready(READY_DEADLINE, |_| {
            http::get(port, "/-/ready").is_ok_and(|reply| reply.status == 200)
        });
        Self { port, _process: process, _dir: dir }
    }

    /// What an expression has now: labels and value of each series.
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let path = format!("/api/v1/query?query={}", http::encode(expression));
        let reply = http::get(self.port, &path).expect("Prometheus answers");
        assert_eq!(reply.status, 200, "{expression}: {}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).expect("JSON");
        let series = |one: &Value| {
            let value = one["value"][1].as_str().and_then(|text| text.parse().ok()).expect("a number");
            (one["metric"].clone(), value)
        };
        answer["data"]["result"].as_array().expect("a list").iter().map(series).collect()
    }
}
