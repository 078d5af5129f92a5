//! A tallyd with a page, ended when it is dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tallyd::clock;
use tempfile::TempDir;

const FIGURES: &str = r#"
[[figure]]
id = "signups"
metric = "signups"

[[figure]]
id = "orders"
metric = "orders"

[[figure]]
id = "revenue"
metric = "revenue.*"
kind = "money"

[[figure]]
id = "readers"
metric = "readers"
kind = "unique"
"#;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the first figure shows before the first round: no other shows such numbers.
pub(crate) const SIGNUPS: u64 = 1_000;
/// See the module.
pub(crate) struct Subject {
    pub(crate) http: u16,
    udp: UdpSocket,
    child: Child,
    _folder: TempDir,
}

impl Subject {
    pub(crate) fn start() -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let statsd = UdpSocket::bind(any).and_then(|socket| socket.local_addr()).unwrap().port();
        let http = TcpListener::bind(any).and_then(|socket| socket.local_addr()).unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tallyd.toml");
        fs::write(&config, FIGURES).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .args(["run", "--config"])
            .arg(&config)
            .env("TALLYD_INGEST_UDP", format!("127.0.0.1:{statsd}"))
            .env("TALLYD_HTTP_LISTEN", format!("127.0.0.1:{http}"))
            .env("TALLYD_CONSOLE_LISTEN", "off")
            .env("TALLYD_STORE_URL", "memory:")
            .env("TALLYD_GRAPHITE_ADDRESS", "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let udp = UdpSocket::bind(any).unwrap();
        udp.connect((Ipv4Addr::LOCALHOST, statsd)).unwrap();
        let subject = Self { http, udp, child, _folder: folder };
        let started = clock::monotonic_now();
        while !subject.get("/health/ready").starts_with("HTTP/1.1 200") {
            assert!(clock::elapsed(started) < PATIENCE, "tallyd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        subject.send(&format!("signups:{SIGNUPS}|c\norders:3|c\nrevenue.eur:4900|c\nreaders:a|s"));
        std::thread::sleep(Duration::from_secs(1));
        subject
    }

    pub(crate) fn send(&self, lines: &str) {
        self.udp.send(lines.as_bytes()).unwrap();
    }

    fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)) else {
            return String::new();
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What the kernel holds in memory for it.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// Connections that the kernel holds for its HTTP, as its own end sees them.
    pub(crate) fn connections(&self) -> usize {
        let port = format!(":{:04X}", self.http);
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let of_ours = |line: &&str| {
            let mut columns = line.split_whitespace().skip(1);
            let local = columns.next().is_some_and(|local| local.ends_with(&port));
            local && columns.nth(1) == Some("01")
        };
        table.lines().filter(of_ours).count()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
