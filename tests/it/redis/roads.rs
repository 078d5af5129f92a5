//! Ways to a Redis beside a plain address: over TLS, and to the master that sentinels name.

use super::nodes::{SETTLED, Truth, node, status};
use super::server::{APPEND, Server, cli};
use crate::support::certificate::certify;
use crate::support::process::Process;
use crate::support::{Launch, Sink, free_port, wait_until};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn a_redis_over_tls_counts_what_was_sent_and_a_stranger_is_told() {
    let (dir, graphite, port) = (tempfile::tempdir().unwrap(), Sink::start(), free_port());
    certify(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (port_text, cert, key) = (port.to_string(), path("cert.pem"), path("key.pem"));
    let mut args = vec!["--tls-port", &port_text, "--tls-auth-clients", "no"];
    args.extend(["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert]);
    args.extend(APPEND);
    let mut redis = Server::start(&args);
    let url = format!("rediss://127.0.0.1:{port}/0?ca={cert}");
    let launches = [(); 2].map(|()| node(&url, Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(3));
    redis.kill();
    truth.load(&nodes.each_ref(), Duration::from_secs(1));
    redis.start_again();
    truth.load(&nodes.each_ref(), Duration::from_secs(1));
    truth.await_queries(&nodes[1]);
    truth.await_graphite(&graphite);
    // Without its certificate nobody believes that server, and it is said why nothing arrives.
    let other = node(&format!("rediss://127.0.0.1:{port}"), None, "").start();
    let mut said = String::new();
    let told = wait_until(SETTLED, || {
        said = status(&other).to_string();
        said.to_lowercase().contains("certificate")
    });
    assert!(told, "{said}");
}

/// Three sentinels that watch a master; one replica follows it.
struct Watched {
    servers: [Server; 2],
    sentinels: Vec<(u16, Process, TempDir)>,
}

impl Watched {
    fn start() -> Self {
        let master = Server::start(&APPEND);
        let master_port = master.port.to_string();
        let replica = Server::start(&[&APPEND[..], &["--replicaof", "127.0.0.1", &master_port]].concat());
        let follows = || master.cli(&["info", "replication"]).contains("state=online");
        assert!(wait_until(SETTLED, follows), "the replica does not follow");
        let sentinels = (0..3).map(|_| sentinel(&master_port)).collect();
        let watched = Self { servers: [master, replica], sentinels };
        let all_know = || {
            let knows = |port: &u16| {
                let said = cli(*port, &["sentinel", "master", "shop"]);
                let field = |name| said.lines().skip_while(|line| *line != name).nth(1).map(str::to_owned);
                field("num-slaves").as_deref() == Some("1")
                    && field("num-other-sentinels").as_deref() == Some("2")
            };
            watched.sentinels.iter().all(|(port, ..)| knows(port))
        };
        assert!(wait_until(SETTLED, all_know), "the sentinels do not find each other");
        watched
    }

    fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|(port, ..)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/shop", hosts.join(","))
    }

    fn master(&self) -> String {
        cli(self.sentinels[0].0, &["sentinel", "get-master-addr-by-name", "shop"]).replace('\n', ":")
    }
}

fn sentinel(master: &str) -> (u16, Process, TempDir) {
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let file = dir.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds shop 1500\nsentinel failover-timeout shop 6000\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(Path::new(&file)).arg("--sentinel").current_dir(dir.path());
    let process = Process::start("sentinel", &command, dir.path());
    (port, process, dir)
}

#[test]
fn the_master_that_sentinels_name_is_followed_when_it_changes() {
    let (mut watched, graphite) = (Watched::start(), Sink::start());
    let first = watched.master();
    let launches = [(); 2].map(|()| node(&watched.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(3));
    watched.servers[0].kill();
    let mut fed = 0;
    while watched.master() == first && fed < 60 {
        truth.load(&nodes.each_ref(), Duration::from_secs(1));
        fed += 1;
    }
    assert_ne!(watched.master(), first, "there was no failover");
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    // The old master comes back, takes writes for a moment, and is told to follow.
    watched.servers[0].start_again();
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    truth.await_queries(&nodes[0]);
    truth.await_graphite(&graphite);
    for node in &nodes {
        assert_eq!(status(node)["batches_lost"], 0);
    }
}
