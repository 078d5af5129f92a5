//! tallyd behind a socket that outlives it, as under systemd: `tests/tools/activate.py` holds the socket and starts
//! the next process when one has ended.

use crate::support::process::{Process, signal};
use crate::support::{free_port, http, repository, wait_until};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
/// What arrives while nobody reads waits here: seconds of it.
const SOCKET_BYTES: usize = 64 << 20;

pub(crate) struct Held {
    pub(crate) udp: u16,
    pub(crate) http: u16,
    process: Process,
    _dir: TempDir,
}

impl Held {
    /// Runs with this configuration, its store and its Graphite; between two runs there is such a pause.
    pub(crate) fn start(toml: &str, store: Option<&str>, graphite: &str, pause: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (udp, http) = (free_port(), free_port());
        let config = dir.path().join("tallyd.toml");
        std::fs::write(&config, toml).expect("the configuration is written");
        let own = format!("file:{}", dir.path().join("store").display());
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(repository("tests/tools/activate.py"))
            .args([
                &format!("udp=udp:{udp}:{SOCKET_BYTES}"),
                "--",
                env!("CARGO_BIN_EXE_tallyd"),
                "run",
                "--config",
            ])
            .arg(&config)
            .current_dir(dir.path())
            .env("ACTIVATE_PAUSE", pause.as_secs_f64().to_string())
            .env("RUNTIME_DIRECTORY", dir.path())
            .env("TALLYD_HTTP_LISTEN", format!("127.0.0.1:{http}"))
            .env("TALLYD_CONSOLE_LISTEN", "off")
            .env("TALLYD_STORE_URL", store.unwrap_or(&own))
            .env("TALLYD_STORE_JOURNAL", if store.is_some() { "./journal" } else { "" })
            .env("TALLYD_GRAPHITE_ADDRESS", graphite);
        let process = Process::start("activate", &command, dir.path());
        let held = Self { udp, http, process, _dir: dir };
        held.wait_ready(1);
        held
    }

    fn said(&self, what: &str) -> Vec<String> {
        let said = self.process.stdout();
        said.lines().filter_map(|line| line.strip_prefix(what)).map(|rest| rest.trim().to_owned()).collect()
    }

    /// Processes so far.
    pub(crate) fn runs(&self) -> usize {
        self.said("run ").len()
    }

    /// How each process has ended: an exit code, or below zero a signal.
    pub(crate) fn ends(&self) -> Vec<i32> {
        self.said("ended ").iter().map(|code| code.parse().expect("a number")).collect()
    }

    /// Waits until this run, counted from 1, is ready.
    pub(crate) fn wait_ready(&self, run: usize) {
        let ready = || {
            self.runs() >= run && http::get(self.http, "/health/ready").is_ok_and(|reply| reply.status == 200)
        };
        assert!(wait_until(DEADLINE, ready), "run {run} is not ready: {}", self.process.stderr());
    }

    /// Signals the process that runs.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.said("run ").last().expect("it runs"));
    }

    /// Waits until so many processes have ended.
    pub(crate) fn wait_ended(&self, count: usize) {
        let ended = || self.ends().len() >= count;
        assert!(wait_until(DEADLINE, ended), "it goes on: {}", self.process.stderr());
    }
}
