//! Ports: whether what tallyd wants to listen on is free, or who has it.
//!
//! Each address is bound for a moment, without sharing. Where a tallyd of this configuration runs, its own ports
//! are taken and right so.

use super::holder::{self, TCP, UDP};
use super::running::Running;
use super::{Patient, Report, shown};
use crate::ingest::{Bound, IngestError, Options, UnixAddress};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};

pub(super) fn check(patient: &Patient, report: &mut Report) {
    if let Running::Answers { address, .. } = &patient.running {
        report.good(format!("tallyd runs and answers at {address}; its ports are its own"));
        return;
    }
    let options = &patient.loaded.config.ingest;
    let alone = Options { udp: vec![], tcp: vec![], unix: vec![], threads: 1, ..options.clone() };
    for &address in &options.udp {
        let bound = Bound::bind(&Options { udp: vec![address], ..alone.clone() }, Vec::new());
        ingest(patient, report, "UDP", address, UDP, bound.map(drop));
    }
    for &address in &options.tcp {
        let bound = Bound::bind(&Options { tcp: vec![address], ..alone.clone() }, Vec::new());
        ingest(patient, report, "TCP", address, TCP, bound.map(drop));
    }
    for unix in &options.unix {
        path(report, unix);
    }
    let config = &patient.loaded.config;
    let services =
        [("HTTP", "http.listen", config.http.listen), ("console", "console.listen", config.console.listen)];
    for (what, key, listen) in services {
        if let Some(address) = listen {
            let bound = TcpListener::bind(address).map(drop);
            said(patient, report, &format!("{what} {address}"), address, TCP, bound, key);
        }
    }
}

fn ingest(
    patient: &Patient,
    report: &mut Report,
    kind: &str,
    address: SocketAddr,
    tables: ([&str; 2], &str),
    bound: Result<(), IngestError>,
) {
    let key = if kind == "UDP" { "ingest.udp" } else { "ingest.tcp" };
    let bound = bound.map_err(|error| match error {
        IngestError::InUse { .. } => ErrorKind::AddrInUse.into(),
        IngestError::Bind { cause, .. } => cause,
    });
    said(patient, report, &format!("{kind} {address}"), address, tables, bound, key);
}

fn said(
    patient: &Patient,
    report: &mut Report,
    what: &str,
    address: SocketAddr,
    tables: ([&str; 2], &str),
    bound: std::io::Result<()>,
    key: &str,
) {
    match bound {
        Ok(()) => report.good(format!("{what} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => report.finding(
            format!("{what} is in use by {}", holder::of(patient, tables, address.port())),
            format!("stop it, or choose another address in {key}"),
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => report.finding(
            format!("{what} may not be listened on: {error}"),
            format!("choose a port of 1024 or more in {key}, or let systemd open it (tallyd.socket)"),
        ),
        Err(error) => report.finding(
            format!("{what} cannot be listened on: {error}"),
            format!("give {key} an address of this machine"),
        ),
    }
}

/// A Unix socket is not bound to try it: that would make a file.
fn path(report: &mut Report, unix: &UnixAddress) {
    let path = shown(&unix.path);
    let heard = || {
        if unix.stream {
            UnixStream::connect(&unix.path).is_ok()
        } else {
            UnixDatagram::unbound().and_then(|socket| socket.connect(&unix.path)).is_ok()
        }
    };
    let folder = unix.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match std::fs::symlink_metadata(&unix.path) {
        Ok(meta) if !meta.file_type().is_socket() => report.finding(
            format!("{path} is there and is no socket"),
            "move it away, or choose another path in ingest.unix",
        ),
        Ok(_) if heard() => report.finding(
            format!("the Unix socket {path} is in use by another process"),
            "stop it, or choose another path in ingest.unix",
        ),
        Err(_) if folder.is_some_and(|folder| !folder.is_dir()) => report.finding(
            format!("there is no directory for the Unix socket {path}"),
            "make it, with RuntimeDirectory= in the unit, or choose another path in ingest.unix",
        ),
        Ok(_) | Err(_) => report.good(format!("the Unix socket {path} is free")),
    }
}
