//! Real redis-server processes of a test's own, single and as a cluster, and a proxy that cuts connections.

use crate::support::process::{Process, signal};
use crate::support::{free_port, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How a server keeps what it is told.
pub(crate) const APPEND: [&str; 6] = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
/// Snapshots only, and none but those that a test asks for.
pub(crate) const SNAPSHOTS: [&str; 4] = ["--save", "3600 1000000", "--appendonly", "no"];
/// Nothing.
pub(crate) const NOTHING: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// A redis-server in a directory of its own; killed when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    args: Vec<String>,
    dir: TempDir,
    process: Option<Process>,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        let port = free_port();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { port, args, dir: tempfile::tempdir().unwrap(), process: None };
        server.start_again();
        server
    }

    /// Starts it where it was, and waits until it has read its file.
    pub(crate) fn start_again(&mut self) {
        self.spawn();
        let port = self.port;
        let ready = wait_until(READY_DEADLINE, || cli(port, &["ping"]) == "PONG");
        assert!(ready, "redis-server does not start");
    }

    pub(crate) fn spawn(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"]);
        command.args(&self.args).current_dir(self.dir.path());
        self.process = Some(Process::start("redis", &command, self.dir.path()));
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli prints, without the last line break.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        cli(self.port, args)
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            signal(name, &process.id().to_string());
        }
    }
}

pub(crate) fn cli(port: u16, args: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(args);
    let output = command.output().expect("redis-cli runs; run tests/setup");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Three masters and three replicas.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let args = |port_args: &[&str]| {
            let mut all: Vec<&str> = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            all.extend(["--repl-diskless-sync-delay", "0"]);
            all.extend(port_args);
            Server::start(&all)
        };
        let nodes: Vec<Server> = (0..6).map(|_| args(&APPEND)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = create.output().expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self { nodes };
        let whole = || {
            cluster.nodes.iter().all(|node| node.cli(&["cluster", "info"]).contains("cluster_state:ok"))
                && cluster.nodes.iter().filter(|node| node.has_copied()).count() == 3
        };
        assert!(wait_until(READY_DEADLINE, whole), "the cluster does not come up");
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// A node that is a master now.
    pub(crate) fn a_master(&mut self, not: usize) -> (usize, &mut Server) {
        let mut masters = self.nodes.iter_mut().enumerate().filter(|(_, node)| node.role() == "master");
        masters.nth(not).expect("there are masters")
    }
}

impl Server {
    pub(crate) fn role(&self) -> String {
        self.cli(&["role"]).lines().next().unwrap_or_default().to_owned()
    }

    /// Whether it is a replica that has its master's data: no other is ever chosen.
    fn has_copied(&self) -> bool {
        self.cli(&["info", "replication"]).contains("master_link_status:up")
    }
}

/// Passes bytes on to a port, and cuts each connection after as many bytes as it is told.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Connections that were cut.
    pub(crate) cuts: Arc<AtomicU64>,
    /// Relaxed: only its value matters.
    cutting: Arc<AtomicBool>,
    /// Whether nothing passes at all.
    away: Arc<AtomicBool>,
    /// What passes, to be ended.
    passing: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Answers of each connection are cut off after a random number of bytes below `most`.
    pub(crate) fn cutting(to: u16, most: u64) -> Self {
        Self::start(to, most, Duration::ZERO)
    }

    /// Passes everything on as it comes.
    pub(crate) fn plain(to: u16) -> Self {
        Self::start(to, u64::MAX, Duration::ZERO)
    }

    /// Requests take up to so long to arrive.
    pub(crate) fn slow(to: u16, delay: Duration) -> Self {
        Self::start(to, u64::MAX, delay)
    }

    fn start(to: u16, most: u64, delay: Duration) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let proxy = Self {
            port,
            cuts: Arc::default(),
            cutting: Arc::new(AtomicBool::new(true)),
            away: Arc::default(),
            passing: Arc::default(),
            stop: Arc::default(),
        };
        let (cuts, cutting, stop) =
            (Arc::clone(&proxy.cuts), Arc::clone(&proxy.cutting), Arc::clone(&proxy.stop));
        let (away, passing) = (Arc::clone(&proxy.away), Arc::clone(&proxy.passing));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                {
                    let mut passing = passing.lock().unwrap();
                    if away.load(Ordering::Relaxed) {
                        continue;
                    }
                    // Those that have ended have no peer any more, and would hold a descriptor each.
                    passing.retain(|connection: &TcpStream| connection.peer_addr().is_ok());
                    passing.push(client.try_clone().unwrap());
                }
                let (cuts, cutting) = (Arc::clone(&cuts), Arc::clone(&cutting));
                std::thread::spawn(move || pass(client, to, most, delay, &cuts, &cutting));
            }
        });
        proxy
    }

    /// Ends every connection and takes no more, until it is said to be over.
    pub(crate) fn cut_off(&self, away: bool) {
        let mut passing = self.passing.lock().unwrap();
        self.away.store(away, Ordering::Relaxed);
        for connection in passing.drain(..) {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    pub(crate) fn stop_cutting(&self) {
        self.cutting.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn pass(client: TcpStream, to: u16, most: u64, delay: Duration, cuts: &AtomicU64, cutting: &AtomicBool) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
        return;
    };
    let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    // The request always arrives whole, so that what is lost is the answer.
    let requests = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !delay.is_zero() {
                std::thread::sleep(delay.mul_f64(rand::random()));
            }
            if into.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        into.shutdown(Shutdown::Both).ok();
    });
    let (mut from, mut into) = (server, client);
    let mut left = rand::random_range(0..most);
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let cut = cutting.load(Ordering::Relaxed);
        let passed = if cut { read.min(usize::try_from(left).unwrap_or(usize::MAX)) } else { read };
        left = left.saturating_sub(passed as u64);
        if into.write_all(&buffer[..passed]).is_err() || passed < read {
            cuts.fetch_add(u64::from(passed < read), Ordering::Relaxed);
            break;
        }
    }
    into.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
    requests.join().ok();
}
