//! Datagrams: one OS thread for each socket, reading with recvmmsg into its own table.
//!
//! ```text
//!   until stopped:
//!     if a tick has begun: note the kernel's drops, hand over          (one atomic load)
//!     read up to 64 datagrams without waiting
//!     parse and record each
//!     fewer than that: sleep 0.9 ms, in which more gather in the socket
//!     none: wait for the socket or for the waker, at no cost
//! ```
//!
//! Blocking threads and not tasks: the kernel's work on each datagram is most of the cost, and recvmmsg
//! shares out the rest (measured: 0.79 µs a datagram against 1.01 one by one). What `io_uring`, busy polling, GRO
//! and steering gained, and why they are not used, stands in benches/record.

use super::receive::Receiver;
use super::signed::Signed;
use super::sockets::{DatagramSocket, plain};
use crate::health::Refusal;
use crate::limits;
use crate::sys::{self, Waker};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use std::fmt;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Batches read after a stop was asked for: what the kernel had taken in by then, and no more of a stream
/// of datagrams that never ends.
const BATCHES_AFTER_STOP: usize = 4_096;
/// How long datagrams may gather once the socket was drained: at 40,000 a second some forty of them, which
/// then cost one wake-up together (measured: a quarter of the processor time). It adds at most this and the
/// timer's slack (50 µs) to a sample's way, so that both stay below a millisecond.
const GATHER: Duration = Duration::from_micros(900);
/// Bytes between the starts of two buffers beyond their length, so that they do not share cache sets.
const BUFFER_SKEW: usize = 192;

/// What a datagram thread needs.
pub struct DatagramThread {
    /// Where datagrams come from.
    pub socket: DatagramSocket,
    /// Where they go.
    pub receiver: Receiver,
    /// What checks those of a socket that takes signed ones alone.
    pub signed: Arc<Signed>,
    /// Who may send; empty is everybody. Senders on a Unix socket always may.
    pub allow: Arc<[IpNet]>,
    /// Wakes the thread for a tick or a stop.
    pub waker: Arc<Waker>,
    /// Set before the last wake-up; read after each, and nothing else depends on it.
    pub stop: Arc<AtomicBool>,
    /// Largest datagram read whole.
    pub datagram_bytes_max: usize,
}

/// The sender of a datagram, put into words only when somebody asks.
struct Sender<'a> {
    address: Option<SocketAddr>,
    socket: &'a str,
}

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => plain(address).fmt(f),
            None => f.write_str(self.socket),
        }
    }
}

impl DatagramThread {
    /// Reads until it is stopped, then drains the socket and hands over for the last time.
    pub fn run(mut self) -> nix::Result<()> {
        let mut buffers = Buffers::new(self.datagram_bytes_max);
        let mut drops = self.socket.drops_before;
        while !self.stop.load(Ordering::Relaxed) {
            if self.receiver.recorder().tick_begun() {
                self.note_drops(&mut drops);
                self.receiver.recorder().hand_over();
            }
            match self.read(&mut buffers)? {
                0 => self.wait()?,
                limits::RECEIVE_BATCH => {}
                // More is probably on its way: one wake-up for all of it costs less than one for each.
                _ if self.socket.gathers => std::thread::sleep(GATHER),
                _ => self.wait()?,
            }
        }
        for _ in 0..BATCHES_AFTER_STOP {
            if self.read(&mut buffers)? == 0 {
                break;
            }
        }
        self.note_drops(&mut drops);
        self.receiver.finish();
        Ok(())
    }

    fn note_drops(&mut self, before: &mut u32) {
        if let Some(queue) = sys::receive_queue(&self.socket.fd) {
            self.receiver.recorder().intake().kernel_drops += u64::from(queue.drops.wrapping_sub(*before));
            *before = queue.drops;
        }
    }

    /// Reads what is there, up to one batch; returns how many datagrams that was.
    fn read(&mut self, buffers: &mut Buffers) -> nix::Result<usize> {
        let Buffers { bytes, headers, stride, length } = buffers;
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            bytes.chunks_exact_mut(*stride).map(|buffer| [IoSliceMut::new(head(buffer, *length))]).collect();
        let fd = self.socket.fd.as_raw_fd();
        let messages = match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => messages,
            // Nothing there, a signal, an ICMP error for something we never sent, or memory pressure: the next
            // read will tell.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::ENOMEM) => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            let sender =
                Sender { address: message.address.as_ref().and_then(socket_addr), socket: &self.socket.name };
            let packet = message.iovs().next().unwrap_or(b"");
            let from = sender.address.map(|address| address.ip().to_canonical());
            let stranger = from.filter(|from| !self.allow.is_empty() && !is_allowed(&self.allow, *from));
            if let Some(stranger) = stranger {
                self.receiver.refuse_from(stranger, Refusal::Source, &sender, packet);
            } else if self.socket.signed {
                // One that was cut is signed by nobody.
                match (self.signed.open(packet), from) {
                    (Ok(lines), from) => self.receiver.packet_from(from, lines, false, &sender),
                    (Err(reason), Some(from)) => self.receiver.refuse_from(from, reason, &sender, b""),
                    (Err(reason), None) => self.receiver.refuse(reason, &sender, b""),
                }
            } else {
                let cut = message.flags.contains(MsgFlags::MSG_TRUNC);
                self.receiver.packet_from(from, packet, cut, &sender);
            }
        }
        Ok(count)
    }

    /// Waits for a datagram or the waker.
    fn wait(&self) -> nix::Result<()> {
        let mut fds = [
            PollFd::new(self.socket.fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.waker.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        if fds.last().and_then(PollFd::any).unwrap_or(false) {
            self.waker.clear();
        }
        Ok(())
    }
}

/// Whether an address is in one of the networks.
pub(super) fn is_allowed(allow: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    allow.iter().any(|network| network.contains(&ip))
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(std::net::SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| std::net::SocketAddrV6::from(*v6).into())
}

fn head(buffer: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(buffer.len());
    buffer.split_at_mut(length).0
}

/// Room for one receive batch, made once.
struct Buffers {
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
    stride: usize,
    length: usize,
}

impl Buffers {
    fn new(length: usize) -> Self {
        let stride = length + BUFFER_SKEW;
        Self {
            bytes: vec![0; stride * limits::RECEIVE_BATCH],
            headers: MultiHeaders::preallocate(limits::RECEIVE_BATCH, None),
            stride,
            length,
        }
    }
}
