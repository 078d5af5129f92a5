//! Binding: from addresses to sockets that are ready to be read, or an error that says what to do.
//!
//! Sockets are bound before any thread starts, so that a port in use ends the start and not the running
//! program. It knows nothing of lines.

use super::{Options, UnixAddress};
use crate::limits;
use crate::sys::{self, Inherited};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Pending connections the kernel keeps for a listener.
const BACKLOG: i32 = 128;
/// What an inherited socket for signed datagrams is called (`FileDescriptorName=`).
const SIGNED: &str = "signed";
/// And one whose connections speak TLS.
const TLS: &str = "tls";

/// A socket that could not be made ready.
#[derive(Debug, Error)]
pub enum IngestError {
    /// Somebody else listens there.
    #[error("{what} {address} is in use: stop the other program, or choose another address in `{key}`")]
    InUse {
        /// What was to be bound.
        what: &'static str,
        /// Where.
        address: String,
        /// The key that says so.
        key: &'static str,
    },
    /// The system refused for another reason.
    #[error("{what} {address} (from `{key}`): {cause}")]
    Bind {
        /// What was to be bound.
        what: &'static str,
        /// Where.
        address: String,
        /// The key that says so.
        key: &'static str,
        /// Why.
        cause: io::Error,
    },
}

/// A socket that takes datagrams, with the name it has in messages.
#[derive(Debug)]
pub struct DatagramSocket {
    /// The socket, in non-blocking mode.
    pub fd: OwnedFd,
    /// `udp 0.0.0.0:8125`, say.
    pub name: String,
    /// Whether its buffer holds what may gather while its thread sleeps. A Unix socket's does not: it holds a
    /// few datagrams, and its senders wait.
    pub gathers: bool,
    /// Only signed datagrams are taken.
    pub signed: bool,
    /// Datagrams that the kernel had dropped from it before it came to us, modulo 2³²: its former reader's.
    pub drops_before: u32,
}

/// All ingest sockets, bound.
#[derive(Debug, Default)]
pub struct Bound {
    /// One thread each.
    pub datagrams: Vec<DatagramSocket>,
    /// TCP listeners, non-blocking.
    pub tcp: Vec<TcpListener>,
    /// TCP listeners whose connections speak TLS.
    pub tls: Vec<TcpListener>,
    /// Unix stream listeners, non-blocking.
    pub unix_streams: Vec<UnixListener>,
    /// What is listened on, in words.
    pub names: Vec<String>,
    /// Warnings for the log.
    pub warnings: Vec<String>,
    /// Unix sockets' paths, removed at the end.
    pub paths: Vec<PathBuf>,
    /// The first UDP address as bound, where a port was left to the kernel.
    pub udp: Option<SocketAddr>,
}

/// What an inherited socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Adopted {
    Udp,
    Signed,
    Tcp,
    Tls,
    Unix,
}

impl Drop for Bound {
    fn drop(&mut self) {
        for path in &self.paths {
            // A path that is gone already is as good.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Bound {
    /// Binds everything in the options; what is inherited takes the place of the addresses of its kind.
    pub fn bind(options: &Options, inherited: Vec<Inherited>) -> Result<Self, IngestError> {
        let mut bound = Self::default();
        let mut adopted = BTreeSet::new();
        for Inherited { fd, name } in inherited {
            let fail = |source| failure("inherited socket", &name, "LISTEN_FDS", source);
            // Its name says that it is for signed datagrams; what is not named so is for the others.
            adopted.insert(bound.adopt(options, fd, &name).map_err(fail)?);
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        for &address in options.udp.iter().filter(|_| !adopted.contains(&Adopted::Udp)) {
            bound.bind_udp(options, address, threads, false)?;
        }
        // One thread each: whatever it is, a signature is checked in a microsecond.
        for &address in options.signed.iter().filter(|_| !adopted.contains(&Adopted::Signed)) {
            bound.bind_udp(options, address, 1, true)?;
        }
        for &address in options.tcp.iter().filter(|_| !adopted.contains(&Adopted::Tcp)) {
            let (listener, at) = listen(&options.tcp, address, "ingest.tcp")?;
            bound.names.push(format!("tcp {at}"));
            bound.tcp.push(listener);
        }
        for &address in options.tls.iter().filter(|_| !adopted.contains(&Adopted::Tls)) {
            let (listener, at) = listen(&options.tls, address, "ingest.tls")?;
            bound.names.push(format!("tls {at}"));
            bound.tls.push(listener);
        }
        for address in options.unix.iter().filter(|_| !adopted.contains(&Adopted::Unix)) {
            bound
                .bind_unix(options, address)
                .map_err(|source| failure("Unix socket", &address.path.display(), "ingest.unix", source))?;
        }
        Ok(bound)
    }

    /// Takes over a socket that was opened for us. It stays open where it came from, over our restarts, so its
    /// path is not removed in the end.
    fn adopt(&mut self, options: &Options, fd: OwnedFd, name: &str) -> io::Result<Adopted> {
        let socket = Socket::from(fd);
        socket.set_nonblocking(true)?;
        let (kind, at) = (socket.r#type()?, socket.local_addr()?);
        let Some(ip) = at.as_socket() else {
            let path =
                at.as_pathname().map_or_else(|| "without a path".into(), |path| path.display().to_string());
            if kind == Type::DGRAM {
                self.names.push(format!("unix {path}, inherited"));
                let name = format!("unix {path}");
                self.datagrams.push(DatagramSocket {
                    fd: socket.into(),
                    name,
                    gathers: false,
                    signed: false,
                    drops_before: 0,
                });
            } else {
                self.names.push(format!("unix stream {path}, inherited"));
                self.unix_streams.push(OwnedFd::from(socket).into());
            }
            return Ok(Adopted::Unix);
        };
        if kind != Type::DGRAM && name == TLS {
            self.names.push(format!("tls {ip}, inherited"));
            self.tls.push(socket.into());
            return Ok(Adopted::Tls);
        }
        if kind != Type::DGRAM {
            self.names.push(format!("tcp {ip}, inherited"));
            self.tcp.push(socket.into());
            return Ok(Adopted::Tcp);
        }
        // Whoever opened it may have been allowed a larger buffer than we are: asking could only make it smaller.
        let given = sys::receive_buffer(&socket)?;
        if given < options.receive_buffer {
            self.warnings.push(inherited_buffer_warning(ip, given, options.receive_buffer));
        }
        let drops_before = sys::receive_queue(&socket).map_or(0, |queue| queue.drops);
        if drops_before > 0 {
            self.warnings.push(format!(
                "the kernel has dropped {drops_before} datagrams of the inherited socket udp {ip} since it was opened, \
                 before this start; kernel_drops counts from here on"
            ));
        }
        let signed = name == SIGNED;
        let what = if signed { "signed udp" } else { "udp" };
        if !signed {
            self.udp.get_or_insert(ip);
        }
        self.names.push(format!("{what} {ip}, inherited"));
        let gathers = given >= limits::GATHER_BUFFER_BYTES_MIN;
        let (fd, name) = (socket.into(), format!("{what} {ip}"));
        self.datagrams.push(DatagramSocket { fd, name, gathers, signed, drops_before });
        Ok(if signed { Adopted::Signed } else { Adopted::Udp })
    }

    fn bind_udp(
        &mut self,
        options: &Options,
        address: SocketAddr,
        threads: usize,
        signed: bool,
    ) -> Result<(), IngestError> {
        let (what, key, all) = if signed {
            ("signed udp", "ingest.signed", &options.signed)
        } else {
            ("udp", "ingest.udp", &options.udp)
        };
        let fail = |source| failure("UDP", &address, key, source);
        let only_v6 = has_v4_twin(all, address);
        // With SO_REUSEPORT the kernel would let us share a port with another program of the same user, and
        // each would get half. A bind without it finds that out.
        let (probe, mut at) = bind_ip(Type::DGRAM, address, only_v6, false).map_err(fail)?;
        // Where it is the only socket it stays; else it makes way for those that share.
        let mut first = (threads == 1).then_some(probe);
        for thread in 0..threads {
            let socket = if let Some(socket) = first.take() {
                socket
            } else {
                let (socket, bound_at) = bind_ip(Type::DGRAM, at, only_v6, true).map_err(fail)?;
                at = bound_at;
                socket
            };
            let given = sys::set_receive_buffer(&socket, options.receive_buffer).map_err(fail)?;
            if thread == 0 {
                if !signed {
                    self.udp.get_or_insert(at);
                }
                self.names.push(format!("{what} {at}"));
                if given < options.receive_buffer {
                    self.warnings.push(buffer_warning(at, given, options.receive_buffer));
                }
            }
            let gathers = given >= limits::GATHER_BUFFER_BYTES_MIN;
            let (fd, name) = (socket.into(), format!("{what} {at}"));
            self.datagrams.push(DatagramSocket { fd, name, gathers, signed, drops_before: 0 });
        }
        Ok(())
    }

    fn bind_unix(&mut self, options: &Options, address: &UnixAddress) -> io::Result<()> {
        let path = &address.path;
        remove_stale(path, address.stream)?;
        if address.stream {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            self.unix_streams.push(listener);
        } else {
            let socket = UnixDatagram::bind(path)?;
            socket.set_nonblocking(true)?;
            // Unix datagrams block their sender instead of being dropped; a larger buffer makes that rarer.
            drop(sys::set_receive_buffer(&socket, options.receive_buffer));
            let name = format!("unix {}", path.display());
            let fd = socket.into();
            self.datagrams.push(DatagramSocket { fd, name, gathers: false, signed: false, drops_before: 0 });
        }
        self.paths.push(path.clone());
        self.names.push(format!("unix {}{}", if address.stream { "stream " } else { "" }, path.display()));
        if let Some(mode) = address.mode {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// A listener at one of these addresses, and where it is.
fn listen(
    all: &[SocketAddr],
    address: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), IngestError> {
    let bound = bind_ip(Type::STREAM, address, has_v4_twin(all, address), false);
    let heard = bound.and_then(|(socket, at)| socket.listen(BACKLOG).map(|()| (socket.into(), at)));
    heard.map_err(|source| failure("TCP", &address, key, source))
}

/// Binds an IP socket, non-blocking; where there is no IPv6, `[::]` means all of IPv4.
fn bind_ip(kind: Type, address: SocketAddr, only_v6: bool, share: bool) -> io::Result<(Socket, SocketAddr)> {
    match try_bind(kind, address, only_v6, share) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            try_bind(kind, (Ipv4Addr::UNSPECIFIED, address.port()).into(), only_v6, share)
        }
        result => result,
    }
}

fn try_bind(kind: Type, address: SocketAddr, only_v6: bool, share: bool) -> io::Result<(Socket, SocketAddr)> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if kind == Type::STREAM {
        // A restart must not wait for the last connections' TIME_WAIT to pass.
        socket.set_reuse_address(true)?;
    }
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

/// Whether the list has an IPv4 address on the port of this IPv6 one, which would then clash with it.
fn has_v4_twin(addresses: &[SocketAddr], address: SocketAddr) -> bool {
    addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0)
}

/// Removes a socket file that nobody listens on any more; anything else there is left alone.
fn remove_stale(path: &Path, stream: bool) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            let heard = if stream {
                std::os::unix::net::UnixStream::connect(path).map(drop)
            } else {
                UnixDatagram::unbound()?.connect(path)
            };
            match heard {
                // Only this says that nobody listens; a socket of the other manner, for one, is somebody's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
                _ => Err(io::ErrorKind::AddrInUse.into()),
            }
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn failure(what: &'static str, address: &dyn ToString, key: &'static str, cause: io::Error) -> IngestError {
    let address = address.to_string();
    if cause.kind() == io::ErrorKind::AddrInUse {
        IngestError::InUse { what, address, key }
    } else {
        IngestError::Bind { what, address, key, cause }
    }
}

fn buffer_warning(address: SocketAddr, given: usize, asked: usize) -> String {
    format!(
        "the kernel gave udp {address} a receive buffer of {given} bytes instead of the {asked} asked for: \
         raise it with `sysctl -w net.core.rmem_max={asked}`, or lower `ingest.receive_buffer`"
    )
}

fn inherited_buffer_warning(address: SocketAddr, given: usize, wanted: usize) -> String {
    format!(
        "the inherited socket udp {address} has a receive buffer of {given} bytes, and `ingest.receive_buffer` is \
         {wanted}: set ReceiveBuffer={wanted} in its socket unit"
    )
}

/// An address anybody can read: IPv4 inside IPv6 is IPv4.
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
