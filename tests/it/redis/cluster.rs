//! A cluster of three masters and three replicas.

use super::nodes::{Truth, node, status};
use super::server::Cluster;
use crate::support::{Launch, Sink, time};
use std::time::Duration;

#[test]
fn a_cluster_loses_a_master_and_nothing_else() {
    let (mut cluster, graphite) = (Cluster::start(), Sink::start());
    let launches = [(); 2].map(|()| node(&cluster.url(), Some(&graphite), ""));
    let nodes = launches.each_ref().map(Launch::start);
    let mut truth = Truth::default();
    truth.load(&nodes.each_ref(), Duration::from_secs(4));
    // Killed, and back after its replica has taken over.
    let killed = {
        let (at, master) = cluster.a_master(0);
        master.kill();
        at
    };
    truth.load(&nodes.each_ref(), Duration::from_secs(6));
    cluster.nodes[killed].start_again();
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    // Stopped for longer than the cluster waits: it wakes as an old master that has missed the change.
    let stopped = {
        let (at, master) = cluster.a_master(1);
        master.signal("STOP");
        at
    };
    truth.load(&nodes.each_ref(), Duration::from_secs(6));
    cluster.nodes[stopped].signal("CONT");
    truth.load(&nodes.each_ref(), Duration::from_secs(2));
    time::sleep(Duration::from_secs(1));
    truth.await_queries(&nodes[0]);
    truth.await_graphite(&graphite);
    assert_eq!(status(&nodes[0])["batches_lost"], 0);
    assert_eq!(status(&nodes[1])["batches_lost"], 0);
}
