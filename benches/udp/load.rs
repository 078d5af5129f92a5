//! The load generator: datagrams made beforehand, sent with sendmmsg over loopback, evenly or as fast as it goes.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, sendmmsg};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tallyd::clock;

/// Different datagrams of a payload, at least; they are sent in turn.
const DATAGRAMS: usize = 1_000;
const SERIES: usize = 1_000;
/// Most datagrams in one system call.
const BATCH: usize = 64;
/// System calls a second from which on datagrams are sent several at a time.
const CALLS_A_SECOND: f64 = 50_000.0;
/// Most datagrams of one run, whatever its limit says.
const RUN_DATAGRAMS_MAX: u64 = 30_000_000;

/// Datagrams of equally many lines.
pub(crate) struct Payload {
    pub(crate) lines: u64,
    datagrams: Vec<Vec<u8>>,
}

/// When a run is over, and its pace.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    datagrams: u64,
    time: Duration,
    rate: Option<f64>,
}

/// What was sent, and how long that took.
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    pub(crate) time: Duration,
}

/// A socket and its message headers.
pub(crate) struct Sender {
    socket: UdpSocket,
    headers: MultiHeaders<()>,
}

impl Payload {
    pub(crate) fn counters(lines: usize) -> Self {
        Self::of_series(SERIES, lines)
    }

    /// Counters of so many series.
    pub(crate) fn of_series(series: usize, lines: usize) -> Self {
        Self::new(series, lines, |series, _| format!("app.web.checkout.signups.{series:06}:1|c\n"))
    }

    /// Every type, with and without a sample rate and tags; a series keeps its type.
    pub(crate) fn mixed(lines: usize) -> Self {
        Self::new(SERIES, lines, |series, number| match series % 6 {
            0 => format!("app.web.checkout.signups.{series:06}:1|c\n"),
            1 => format!("app.web.latency.{series:06}:{}|ms\n", number * 7_919 % 10_007),
            2 => format!("app.web.level.{series:06}:{}|g\n", number % 1_000),
            3 => format!("app.web.visits.{series:06}:user-{}|s\n", number * 7_919 % 1_000_003),
            4 => format!("app.web.hits.{series:06}:1|c|@0.1\n"),
            _ => format!("app.web.orders.{series:06}:1|c|#country:de,tier:pro\n"),
        })
    }

    fn new(series: usize, lines: usize, line: impl Fn(usize, usize) -> String) -> Self {
        let scattered = |i: usize| (i * 7_919 + i / series) % series;
        let datagram = |datagram: usize| {
            (datagram * lines..(datagram + 1) * lines)
                .map(|i| line(scattered(i), i))
                .collect::<String>()
                .into_bytes()
        };
        Self {
            lines: lines as u64,
            datagrams: (0..series.div_ceil(lines).max(DATAGRAMS)).map(datagram).collect(),
        }
    }

    /// How many datagrams there are before they repeat: every series is in one of them.
    pub(crate) fn round(&self) -> u64 {
        self.datagrams.len() as u64
    }
}

impl Limit {
    /// So many datagrams, at a rate.
    pub(crate) fn count(datagrams: u64, rate: f64) -> Self {
        Self { datagrams, time: Duration::from_secs(5), rate: Some(rate) }
    }

    /// As many as go out in a time.
    pub(crate) fn time(time: Duration) -> Self {
        Self { datagrams: RUN_DATAGRAMS_MAX, time, rate: None }
    }

    /// A rate for a time; a sender that cannot hold it falls behind and stops in time.
    pub(crate) fn paced(rate: f64, time: Duration) -> Self {
        let datagrams = (rate * time.as_secs_f64()) as u64;
        Self { datagrams: datagrams.min(RUN_DATAGRAMS_MAX), time: time * 2, rate: Some(rate) }
    }
}

impl Sender {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        Self { socket, headers: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Sends to a port of this machine. It spins between datagrams, so that they leave evenly.
    pub(crate) fn send(&mut self, port: u16, payload: &Payload, limit: Limit) -> Sent {
        self.socket.connect((Ipv4Addr::LOCALHOST, port)).expect("connect to the port");
        let slices: Vec<[IoSlice<'_>; 1]> = payload.datagrams.iter().map(|d| [IoSlice::new(d)]).collect();
        let addresses = [None; BATCH];
        let batch =
            limit.rate.map_or(BATCH, |rate| (rate / CALLS_A_SECOND).clamp(1.0, BATCH as f64) as usize);
        let (started, mut datagrams) = (clock::monotonic_now(), 0_u64);
        while datagrams < limit.datagrams && clock::elapsed(started) < limit.time {
            if let Some(rate) = limit.rate {
                let due = Duration::from_secs_f64(datagrams as f64 / rate);
                while clock::elapsed(started) < due {
                    std::hint::spin_loop();
                }
            }
            let rest = slices.iter().skip((datagrams % payload.round()) as usize);
            let next = rest.take(batch.min((limit.datagrams - datagrams) as usize));
            let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
            match sendmmsg(fd, &mut self.headers, next, addresses, [], flags) {
                Ok(sent) => datagrams += sent.count() as u64,
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS) => {}
                Err(error) => panic!("sendmmsg: {error}"),
            }
        }
        Sent { datagrams, time: clock::elapsed(started) }
    }
}

/// Keeps this thread, and the children it starts, on one core; where there is no such core nothing changes.
pub(crate) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        sched_setaffinity(Pid::from_raw(0), &cores).ok();
    }
}
