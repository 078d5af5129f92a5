//! A Redis Cluster whose nodes have a network each, so that the link of one can be cut.
//!
//! Each redis-server runs in a network namespace behind a bridge. The namespaces are removed with the cluster.

use super::redis::node;
use crate::support::process::Process;
use crate::support::{Launch, wait_until};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const NODES: usize = 6;
const PORT: u16 = 6_379;
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Isolated {
    /// What names of the namespaces and links begin with, so that runs side by side have their own.
    tag: String,
    /// The first three numbers of the addresses, of a range that is for tests of networks.
    net: String,
    dir: TempDir,
    servers: Vec<Process>,
}

/// A tallyd beside one of the masters, which is fed through a file.
pub(super) struct Beside {
    launch: Launch,
    _process: Process,
}

impl Beside {
    pub(super) fn socket(&self) -> PathBuf {
        self.launch.dir().join("in.sock")
    }
}

fn ip(arguments: &str) -> bool {
    let mut ip = Command::new("ip");
    ip.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    ip.status().is_ok_and(|status| status.success())
}

impl Isolated {
    /// `None` where there may be no namespaces.
    pub(super) fn start() -> Option<Self> {
        let id = std::process::id();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (tag, net) = (format!("tc{}", id % 100_000), format!("198.18.{}", id % 250));
        let mut cluster = Self { tag, net, dir, servers: Vec::new() };
        let Self { tag, net, .. } = &cluster;
        if !ip(&format!("link add {tag}b type bridge")) {
            return None;
        }
        let mut made = ip(&format!("addr add {net}.254/24 dev {tag}b")) && ip(&format!("link set {tag}b up"));
        for n in 0..NODES {
            made = made
                && ip(&format!("netns add {tag}n{n}"))
                && ip(&format!("link add {tag}v{n} type veth peer name eth0 netns {tag}n{n}"))
                && ip(&format!("link set {tag}v{n} master {tag}b"))
                && ip(&format!("link set {tag}v{n} up"))
                && ip(&format!("-n {tag}n{n} addr add {} dev eth0", cluster.address(n) + "/24"))
                && ip(&format!("-n {tag}n{n} link set eth0 up"))
                && ip(&format!("-n {tag}n{n} link set lo up"));
        }
        if !made {
            return None;
        }
        cluster.servers = (0..NODES).map(|n| cluster.server(n)).collect();
        cluster.join();
        Some(cluster)
    }

    fn address(&self, n: usize) -> String {
        format!("{}.{}", self.net, n + 1)
    }

    /// A command in the network of a node.
    fn inside(&self, n: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}n{n}", self.tag), program]);
        command
    }

    fn server(&self, n: usize) -> Process {
        let folder = self.dir.path().join(n.to_string());
        std::fs::create_dir_all(&folder).expect("a directory is made");
        let mut command = self.inside(n, "redis-server");
        command.args(["--port", &PORT.to_string(), "--bind", &self.address(n), "--protected-mode", "no"]);
        command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
        command.args(["--repl-diskless-sync-delay", "0"]).current_dir(&folder);
        Process::start("redis", &command, &folder)
    }

    fn cli(&self, n: usize, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["3", "redis-cli", "-h", &self.address(n)]).args(arguments);
        let output = command.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn join(&self) {
        let all = || (0..NODES).all(|n| self.cli(n, &["ping"]).contains("PONG"));
        assert!(wait_until(READY_DEADLINE, all), "the servers do not start");
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args((0..NODES).map(|n| format!("{}:{PORT}", self.address(n))));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = create.output().expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let whole = || {
            let up = |n| self.cli(n, &["cluster", "info"]).contains("cluster_state:ok");
            // A replica that has not copied its master is never chosen.
            let copied = |n: &usize| self.cli(*n, &["info", "replication"]).contains("master_link_status:up");
            (0..NODES).all(up) && (0..NODES).filter(copied).count() == 3
        };
        assert!(wait_until(READY_DEADLINE, whole), "the cluster does not come up");
    }

    pub(super) fn url(&self) -> String {
        let hosts: Vec<String> = (0..NODES).map(|n| format!("{}:{PORT}", self.address(n))).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Masters among the other nodes.
    pub(super) fn masters_without(&self, n: usize) -> usize {
        (0..NODES).filter(|other| *other != n && self.is_master(*other)).count()
    }

    fn is_master(&self, n: usize) -> bool {
        self.cli(n, &["role"]).starts_with("master")
    }

    pub(super) fn a_master(&self) -> usize {
        (0..NODES).find(|n| self.is_master(*n)).expect("there are masters")
    }

    /// Takes the link of a node away, or gives it back.
    pub(super) fn cut(&self, n: usize, away: bool) {
        let done = ip(&format!("link set {}v{n} {}", self.tag, if away { "down" } else { "up" }));
        assert!(done, "the link obeys");
    }

    /// A tallyd in the network of a node; it is fed through a Unix socket, which no cut concerns.
    pub(super) fn tallyd(&self, n: usize) -> Beside {
        let launch = node(&self.url(), "");
        let socket = launch.dir().join("in.sock");
        let mut command = self.inside(n, env!("CARGO_BIN_EXE_tallyd"));
        command.args(["run", "--config"]).arg(launch.dir().join("tallyd.toml")).current_dir(launch.dir());
        for (name, value) in launch.environment() {
            command.env(name, value);
        }
        command.env("TALLYD_INGEST_UNIX", &socket);
        let mut process = Process::start("tallyd", &command, launch.dir());
        process.wait_ready(READY_DEADLINE, |_| socket.exists());
        Beside { launch, _process: process }
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        self.servers.clear();
        for n in 0..NODES {
            ip(&format!("netns del {}n{n}", self.tag));
            // It goes with the namespace, a little later.
            ip(&format!("link del {}v{n}", self.tag));
        }
        ip(&format!("link del {}b", self.tag));
    }
}
