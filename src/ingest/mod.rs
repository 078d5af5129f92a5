//! Receive, parse, record: UDP, TCP and Unix sockets.

mod places;
pub mod rate;
pub mod receive;
pub mod signed;
pub mod sockets;
pub mod stream;
pub mod udp;

pub use sockets::{Bound, IngestError};

use crate::wire::statsd::Grammar;
use ipnet::IpNet;
use signed::SigningKey;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where lines come in, and whose.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// UDP addresses (`ingest.udp`).
    pub udp: Vec<SocketAddr>,
    /// UDP addresses for signed datagrams alone (`ingest.signed`).
    pub signed: Vec<SocketAddr>,
    /// What they are signed with (`ingest.signed_keys`).
    pub signed_keys: Vec<SigningKey>,
    /// Files with a key each (`ingest.signed_key_files`).
    pub signed_key_files: Vec<PathBuf>,
    /// How old or early they may be, in seconds (`ingest.signed_window`).
    pub signed_window_secs: u64,
    /// TCP addresses (`ingest.tcp`).
    pub tcp: Vec<SocketAddr>,
    /// TCP addresses whose connections speak TLS (`ingest.tls`).
    pub tls: Vec<SocketAddr>,
    /// Unix sockets (`ingest.unix`).
    pub unix: Vec<UnixAddress>,
    /// Sockets, each with a thread, for every UDP address (`ingest.threads`); 0 is one per core.
    pub threads: usize,
    /// Receive buffer that is asked of the kernel, in bytes (`ingest.receive_buffer`).
    pub receive_buffer: usize,
    /// Networks that may send (`ingest.allow`); empty is everybody.
    pub allow: Vec<IpNet>,
    /// Lines a second that one address may send (`limits.sender_rate`); 0 is as many as it likes.
    pub sender_rate: usize,
    /// TCP connections that one address may have (`limits.sender_connections`); 0 is as many as there are places.
    pub sender_connections: usize,
    /// Largest datagram read whole, in bytes (`limits.datagram_bytes_max`).
    pub datagram_bytes_max: usize,
    /// Whose grammar.
    pub grammar: Grammar,
    /// Log every line (statsd's `dumpMessages`).
    pub dump_lines: bool,
}

/// A Unix socket: `PATH` and `unixgram:PATH` take datagrams, `stream:PATH` takes connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// Path in the file system.
    pub path: PathBuf,
    /// Connections rather than datagrams.
    pub stream: bool,
    /// Permissions given to the socket, if other than the umask's (statsd's `socket_mod`).
    pub mode: Option<u32>,
}
