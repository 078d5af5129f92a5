//! Graphite: whether each destination answers, and speaks what is spoken to it.

use super::{PATIENCE, Patient, Report, host_and_port};
use crate::forward::Protocol;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs as _};

/// carbon's usual ports: for text, and for pickles.
const TEXT_PORTS: [u16; 3] = [2003, 2013, 2023];
const PICKLE_PORTS: [u16; 3] = [2004, 2014, 2024];

pub(super) fn check(patient: &Patient, report: &mut Report) {
    let options = &patient.loaded.config.graphite;
    if options.addresses.is_empty() {
        report.note("graphite.address is empty: values are counted and kept, and sent nowhere");
    }
    for address in &options.addresses {
        protocol(report, address, options.protocol);
        match connect(address) {
            Ok(()) => report.good(format!("{address} takes connections")),
            Err(error) => unreached(report, address, &error),
        }
    }
}

fn protocol(report: &mut Report, address: &str, protocol: Protocol) {
    let Some((_, port)) = host_and_port(address) else {
        return;
    };
    let (spoken, right, other) = match protocol {
        Protocol::Plaintext if PICKLE_PORTS.contains(&port) => ("text", "pickle", "port 2003"),
        Protocol::Pickle if TEXT_PORTS.contains(&port) => ("pickles", "plaintext", "port 2004"),
        _ => return,
    };
    report.finding(
        format!("{spoken} is sent to {address}, a port where carbon expects the other protocol and drops this one in silence"),
        format!("set graphite.protocol = \"{right}\", or send to {other}"),
    );
}

fn connect(address: &str) -> io::Result<()> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreached(report: &mut Report, address: &str, error: &io::Error) {
    match error.kind() {
        ErrorKind::ConnectionRefused => report.finding(
            format!("nobody listens at {address}: buckets wait until somebody does"),
            "start carbon, or set graphite.address; systemctl status carbon-cache",
        ),
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => report.finding(
            format!("{address} is not reached: {error}"),
            "look at the route and at firewalls between here and there",
        ),
        _ => report.finding(
            format!("{address} is not reached: {error}"),
            "check the name in graphite.address: getent hosts HOST",
        ),
    }
}
