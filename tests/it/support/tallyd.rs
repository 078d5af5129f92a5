//! The built program as a child process, in either dialect.
//!
//! A [`Launch`] is a configuration with ports and a directory of its own; it starts a [`Tallyd`], and starts
//! it again at the same place after a stop or a crash. The store is `memory:` unless the test says otherwise.
//! Ports are given through the environment, except those that statsd's own configuration file writes.

use super::process::Process;
use super::{free_port, http, time};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A start takes milliseconds; the rest is for a machine that is busy with other tests.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// The drain is promised in 5 s; the rest is for a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// The console answers within a tick or so.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(5);
/// What statsd prints when it listens, and tallyd in statsd's dialect.
const STATSD_READY: &str = "server is up";

/// Where one tallyd listens, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// statsd in (UDP, and TCP where a test asks for it).
    pub(crate) statsd: u16,
    /// Management console.
    pub(crate) console: u16,
    /// Page, health and query.
    pub(crate) http: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    Native,
    Statsd,
}

/// How to start tallyd, as often as is wanted.
pub(crate) struct Launch {
    /// Where it will listen.
    pub(crate) ports: Ports,
    dialect: Dialect,
    config: PathBuf,
    environment: Vec<(String, String)>,
    dir: Arc<TempDir>,
}

impl Launch {
    /// tallyd with this TOML; its listeners come from the environment.
    pub(crate) fn native(toml: &str) -> Self {
        let launch = Self::new(Dialect::Native, "tallyd.toml", |_| toml.to_owned());
        let ports = launch.ports;
        launch
            .env("TALLYD_INGEST_UDP", &format!("127.0.0.1:{}", ports.statsd))
            .env("TALLYD_CONSOLE_LISTEN", &format!("127.0.0.1:{}", ports.console))
    }

    /// tallyd in statsd's dialect, with a JavaScript object that names `ports.statsd` as `port` and
    /// `ports.console` as `mgmt_port`.
    pub(crate) fn statsd(object: impl FnOnce(&Ports) -> String) -> Self {
        Self::new(Dialect::Statsd, "config.js", object)
    }

    fn new(dialect: Dialect, file: &str, text: impl FnOnce(&Ports) -> String) -> Self {
        let ports = Ports { statsd: free_port(), console: free_port(), http: free_port() };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join(file);
        std::fs::write(&config, text(&ports)).expect("the configuration is written");
        // Notes for the next start go where they are removed.
        let notes = dir.path().to_str().expect("a temporary directory is UTF-8").to_owned();
        let launch = Self { ports, dialect, config, environment: Vec::new(), dir: Arc::new(dir) };
        launch
            .env("RUNTIME_DIRECTORY", &notes)
            .env("TALLYD_STORE_URL", "memory:")
            .env("TALLYD_HTTP_LISTEN", &format!("127.0.0.1:{}", ports.http))
    }

    /// Sets an environment variable; the last value for a name holds.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a store on disk, which it finds again when it is started again.
    pub(crate) fn with_store(self) -> Self {
        let url = format!("file:{}", self.dir().join("store").display());
        self.env("TALLYD_STORE_URL", &url)
    }

    /// Takes lines over TCP too, which lose nothing on the way; see [`Tallyd::connect`].
    pub(crate) fn with_tcp(self) -> Self {
        let address = format!("127.0.0.1:{}", self.ports.statsd);
        self.env("TALLYD_INGEST_TCP", &address)
    }

    /// What its environment says of it, for whoever starts it another way.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The directory in which it runs, with the configuration; a store may be put there.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&self) -> Tallyd {
        let mut tallyd = self.start_unready();
        let (dialect, http_port) = (self.dialect, self.ports.http);
        tallyd.process.wait_ready(READY_DEADLINE, |process| match dialect {
            Dialect::Native => http::get(http_port, "/health/ready").is_ok_and(|reply| reply.status == 200),
            Dialect::Statsd => process.stdout().lines().any(|line| line == STATSD_READY),
        });
        tallyd
    }

    /// Starts it without waiting, for tests of what it does before it is ready, or instead.
    pub(crate) fn start_unready(&self) -> Tallyd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        command.arg("run").arg("--config").arg(&self.config).current_dir(self.dir.path());
        let inherited = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYD_"));
        for (name, _) in inherited {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        let process = Process::start("tallyd", &command, self.dir.path());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP socket");
        Tallyd { process, ports: self.ports, socket, _dir: Arc::clone(&self.dir) }
    }
}

/// A running tallyd; killed when dropped.
pub(crate) struct Tallyd {
    /// The process itself: output, SIGKILL, its number.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) ports: Ports,
    socket: UdpSocket,
    _dir: Arc<TempDir>,
}

impl Tallyd {
    /// Sends one datagram to the statsd port, always from the same socket, so that order is kept.
    pub(crate) fn send_udp(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, (Ipv4Addr::LOCALHOST, self.ports.statsd)).expect("a datagram is sent");
    }

    /// A connection to the statsd port; it must have been asked for by [`Launch::with_tcp`].
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.statsd)).expect("tallyd takes connections")
    }

    /// `GET path` on the HTTP port.
    pub(crate) fn http_get(&self, path: &str) -> http::Reply {
        http::get(self.ports.http, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Sends one command to the management console and returns all that it answers until it closes. The
    /// half-close stands for `quit`, so that the answer ends without one.
    pub(crate) fn console(&self, command: &str) -> String {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.console)).expect("the console listens");
        stream.set_read_timeout(Some(CONSOLE_TIMEOUT)).expect("a time-out can be set");
        stream.write_all(format!("{command}\n").as_bytes()).expect("the console reads");
        stream.shutdown(Shutdown::Write).expect("the console is still there");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("console {command}: {error}"));
        answer
    }

    /// SIGTERM, then the drain; the exit code, `None` when a signal ended it.
    pub(crate) fn sigterm(mut self) -> Option<i32> {
        let started = time::now();
        let status: ExitStatus = self.process.terminate(STOP_DEADLINE);
        println!("tallyd drained in {:?}", started.elapsed());
        status.code()
    }

    /// A crash: SIGKILL.
    pub(crate) fn kill9(mut self) {
        self.process.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Sink, sink};

    /// The console answers, a sample reaches Graphite at the stop, and the exit is clean.
    fn assert_lives_and_stops(tallyd: Tallyd, graphite: &Sink, path: &str) {
        assert_eq!(tallyd.http_get("/health/ready").status, 200);
        assert_eq!(tallyd.console("health").trim(), "health: up");
        tallyd.send_udp(b"fixture:3|c");
        time::sleep(Duration::from_millis(500));
        assert_eq!(tallyd.sigterm(), Some(0));
        assert_eq!(sink::sum_of(&graphite.points(), path), 3.0);
    }

    #[test]
    fn a_launch_starts_again_at_the_same_place_after_a_crash() {
        let graphite = Sink::start();
        let launch =
            Launch::native("[flush]\nbucket = \"10s\"\n").env("TALLYD_GRAPHITE_ADDRESS", &graphite.address());
        let first = launch.start();
        let id = first.process.id();
        first.kill9();
        let second = launch.start();
        assert_ne!(second.process.id(), id);
        assert!(launch.dir().join("tallyd.toml").exists());
        assert_lives_and_stops(second, &graphite, "stats.counters.fixture.count");
    }

    #[test]
    fn statsds_own_configuration_is_taken() {
        let graphite = Sink::start();
        let port = graphite.port();
        let launch = Launch::statsd(|ports| {
            format!(
                "{{ port: {}, mgmt_port: {}, flushInterval: 10000, graphiteHost: '127.0.0.1', graphitePort: {port} }}",
                ports.statsd, ports.console,
            )
        });
        assert_lives_and_stops(launch.start(), &graphite, "stats_counts.fixture");
    }
}
