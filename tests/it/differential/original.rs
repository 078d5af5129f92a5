//! Either program as a process of its own: the original under node, or ours, on ports of their own.
//!
//! The original is installed below `tests/.cache` by the test setup and is run unmodified. Both are
//! started with the same arguments as a user would, are up when they say `server is up`, and are killed
//! with the test. What they log is kept for the message of a failing test.

use super::setup::{Ports, Setup};
use super::sink::{Flush, Sink};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Which statsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Original,
    Tallyd,
}

/// A running program with a Graphite of its own.
pub(super) struct Server {
    pub(super) program: Program,
    pub(super) sink: Sink,
    ports: Ports,
    interval: Duration,
    child: Child,
    sender: UdpSocket,
    log: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

/// Starting takes well under a second on an idle machine; a busy one gets time.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Binding the ports follows within milliseconds.
const LISTEN_PAUSE: Duration = Duration::from_millis(50);
const LISTEN_ATTEMPTS: u32 = 100;
/// A console answers at once.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A port that was free may be taken when the program binds it, by another test.
const START_ATTEMPTS: u32 = 3;
/// So many of the last log lines explain a failure.
const LOG_LINES_SHOWN: usize = 10;

impl Server {
    pub(super) fn start(program: Program, setup: &Setup) -> Self {
        for _ in 1..START_ATTEMPTS {
            if let Ok(server) = Self::try_start(program, setup) {
                return server;
            }
        }
        Self::try_start(program, setup).unwrap_or_else(|log| panic!("{program:?} does not start:\n{log}"))
    }

    fn try_start(program: Program, setup: &Setup) -> Result<Self, String> {
        let sink = Sink::start(setup.pickle);
        let ports = Ports { udp: free_port(), console: free_port(), graphite: sink.port };
        let directory = tempfile::tempdir().expect("make a directory");
        let config = directory.path().join("statsd.js");
        std::fs::write(&config, setup.text(ports)).expect("write the configuration");
        let mut child = command(program, &config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?} cannot be run: {error}"));
        let log = Arc::default();
        let (up, is_up) = sync_channel(1);
        keep_log(child.stdout.take().expect("stdout is piped"), &log, Some(up));
        keep_log(child.stderr.take().expect("stderr is piped"), &log, None);
        let sender = UdpSocket::bind(("127.0.0.1", 0)).expect("bind the sender");
        let interval = Duration::from_millis(setup.interval_ms);
        let mut server = Self { program, sink, ports, interval, child, sender, log, _directory: directory };
        let up = is_up.recv_timeout(START_TIMEOUT).is_ok() && server.is_listening();
        if up { Ok(server) } else { Err(server.log_tail()) }
    }

    /// The original says that it is up before it has bound its ports, and ends if it cannot bind one.
    fn is_listening(&mut self) -> bool {
        for _ in 0..LISTEN_ATTEMPTS {
            std::thread::sleep(LISTEN_PAUSE);
            if self.is_dead() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.ports.console)).is_ok() {
                return true;
            }
        }
        false
    }

    /// Sends one datagram.
    pub(super) fn send(&self, datagram: &[u8]) {
        self.sender.send_to(datagram, ("127.0.0.1", self.ports.udp)).expect("send a datagram");
    }

    /// The next flush, which is due within an interval and a half.
    pub(super) fn next_flush(&self) -> Flush {
        let timeout = self.interval * 3 + Duration::from_secs(5);
        self.sink
            .next(timeout)
            .unwrap_or_else(|| panic!("{:?} sent no flush:\n{}", self.program, self.log_tail()))
    }

    /// The console's whole answer to what is written as one piece; `quit` behind it marks the end.
    pub(super) fn console(&self, command: &str) -> String {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.ports.console)).expect("connect to the console");
        stream.set_read_timeout(Some(CONSOLE_TIMEOUT)).expect("set a timeout");
        stream.write_all(format!("{command}\n").as_bytes()).expect("write the command");
        // The original takes each piece it reads as one command, so `quit` must not arrive in the same one.
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b"quit\n").expect("write quit");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the console closes after quit");
        answer
    }

    /// Whether the process has ended by itself.
    pub(super) fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("ask for the child").is_some()
    }

    fn log_tail(&self) -> String {
        let log = self.log.lock().expect("no thread panicked with the log");
        log.get(log.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail if the process is gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(program: Program, config: &Path) -> Command {
    match program {
        Program::Original => {
            let script = original_script();
            assert!(script.exists(), "{} is missing: `make test` installs it", script.display());
            let mut command = Command::new("node");
            command.arg("--no-deprecation").arg(script).arg(config);
            command
        }
        Program::Tallyd => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
            command.args(["run", "--config"]).arg(config);
            command.env("TALLYD_STORE_URL", "memory:").env("TALLYD_HTTP_LISTEN", "off");
            // Notes for the next start go where they are removed.
            command.env("RUNTIME_DIRECTORY", config.parent().unwrap_or(Path::new(".")));
            command
        }
    }
}

fn original_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/node/node_modules/statsd/stats.js")
}

/// Reads a stream to its end, so that the program never waits for us, and says when it is up.
fn keep_log(
    stream: impl Read + Send + 'static,
    log: &Arc<Mutex<Vec<String>>>,
    mut up: Option<SyncSender<()>>,
) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(up) = up.take_if(|_| line.contains("server is up")) {
                // Nobody listens any more if the start was given up, and then nobody needs to know.
                up.send(()).unwrap_or_default();
            }
            log.lock().expect("no thread panicked with the log").push(line);
        }
    });
}

/// A port that neither protocol uses. It lies below the range from which the system serves outgoing
/// connections, since one of those might take it before the program binds it.
fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static DEALT: AtomicU32 = AtomicU32::new(0);
    let candidates = std::iter::repeat_with(|| {
        // Relaxed: the counter only deals out numbers, nothing is published with it.
        let dealt = DEALT.fetch_add(1, Ordering::Relaxed);
        (FIRST + (std::process::id().wrapping_mul(131) + dealt) % COUNT) as u16
    });
    let is_free = |port: &u16| {
        UdpSocket::bind(("127.0.0.1", *port)).is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    candidates.take(COUNT as usize).find(is_free).expect("a port is free")
}
