//! A steady load of counters, and the balance of what became of it.
//!
//! Each datagram holds one line for each of thirty counters, so that the counters' totals are all the number of
//! datagrams: a total that differs from the others is a datagram that came in part.

use crate::board::step;
use crate::support::sink::{Points, sum_of};
use crate::support::{http, time, wait_until};
use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines of a datagram.
pub(crate) const LINES: u64 = 30;
/// What is found is taken for final when it has not changed for so long.
const STILL: Duration = Duration::from_millis(1_500);

/// Where datagrams go.
#[derive(Clone, Debug)]
pub(crate) enum To {
    Udp(u16),
    Unix(PathBuf),
}

/// Sends until it is stopped, whether anybody listens or not.
pub(crate) struct Feed {
    /// Relaxed, as the flag is: only values matter, and the end is joined.
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A datagram of [`LINES`] counters.
pub(crate) fn datagram() -> Vec<u8> {
    let lines: Vec<String> = (0..LINES).map(|n| format!("hits.n{n}:1|c")).collect();
    lines.join("\n").into_bytes()
}

/// A socket and what it sends to.
enum Socket {
    Udp(UdpSocket, u16),
    Unix(UnixDatagram, PathBuf),
}

impl Socket {
    fn open(to: &To) -> Self {
        match to {
            To::Udp(port) => Self::Udp(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"), *port),
            To::Unix(path) => Self::Unix(UnixDatagram::unbound().expect("a socket"), path.clone()),
        }
    }

    fn send(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Udp(socket, port) => socket.send_to(bytes, (Ipv4Addr::LOCALHOST, *port)).is_ok(),
            Self::Unix(socket, path) => socket.send_to(bytes, path).is_ok(),
        }
    }
}

impl Feed {
    /// So many lines a second.
    pub(crate) fn start(to: &To, rate: u64) -> Self {
        Self::cycling(to, rate, vec![datagram()])
    }

    /// The same of these datagrams, of [`LINES`] each, again and again.
    pub(crate) fn cycling(to: &To, rate: u64, datagrams: Vec<Vec<u8>>) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (ours, ends, socket) = (Arc::clone(&sent), Arc::clone(&stop), Socket::open(to));
        let thread = std::thread::spawn(move || {
            let started = time::now();
            for (tried, bytes) in (1..).zip(datagrams.iter().cycle()) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                ours.fetch_add(u64::from(socket.send(bytes)), Ordering::Relaxed);
                let due = Duration::from_secs_f64((tried * LINES) as f64 / rate as f64);
                let early = due.saturating_sub(started.elapsed());
                if early > Duration::from_millis(1) {
                    time::sleep(early);
                }
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// Datagrams so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; returns how many datagrams it has sent.
    pub(crate) fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sender ends well");
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Lines that are missing, and lines too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) lost: u64,
    pub(crate) double: u64,
    /// Counters that differ from the others.
    pub(crate) uneven: u64,
}

impl Balance {
    fn of(totals: &[f64], sent: u64) -> Self {
        let mut balance = Self::default();
        for total in totals {
            let differs = total - sent as f64;
            balance.lost += (-differs).max(0.0) as u64;
            balance.double += differs.max(0.0) as u64;
            balance.uneven += u64::from(*total != totals[0]);
        }
        balance
    }

    pub(crate) fn is_even(&self) -> bool {
        *self == Self::default()
    }
}

/// What each counter adds up to over all buckets, or why nobody says so.
pub(crate) fn totals(http_port: u16) -> Result<Vec<f64>, String> {
    let path = "/api/v1/query?name=hits.*&from=-3h&step=1m&stat=sum&kind=counter";
    let reply = http::get(http_port, path).map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let series = answer["series"].as_array().filter(|_| reply.status == 200);
    let series = series.ok_or_else(|| format!("{}: {}", reply.status, reply.body))?;
    let mut totals = vec![0.0; LINES as usize];
    for line in series {
        let number =
            line["name"].as_str().and_then(|name| name.strip_prefix("hits.n")?.parse::<usize>().ok());
        let points = line["points"].as_array().ok_or("a series without points")?;
        totals[number.ok_or("a series of another name")?] =
            points.iter().filter_map(|point| point[1].as_f64()).sum();
    }
    Ok(totals)
}

/// Waits until the store holds so many datagrams, or nothing changes any more; the balance then.
pub(crate) fn settle(http_port: u16, sent: u64, patience: Duration) -> Balance {
    settled(sent, patience, STILL, || totals(http_port))
}

/// The same where what is missing may come at any time until patience ends.
pub(crate) fn arrive(http_port: u16, sent: u64, patience: Duration) -> Balance {
    settled(sent, patience, patience, || totals(http_port))
}

/// Waits until Graphite holds so many datagrams; the balance then.
pub(crate) fn arrive_at(points: impl Fn() -> Points, sent: u64, patience: Duration) -> Balance {
    settled(sent, patience, patience, || {
        let points = points();
        Ok((0..LINES).map(|n| sum_of(&points, &format!("stats.counters.hits.n{n}.count"))).collect())
    })
}

/// While nobody says anything, all is lost.
fn settled(
    sent: u64,
    patience: Duration,
    still: Duration,
    look: impl Fn() -> Result<Vec<f64>, String>,
) -> Balance {
    let mut last = Balance { lost: sent * LINES, ..Balance::default() };
    let mut since = time::now();
    let mut said = String::new();
    wait_until(patience, || {
        time::sleep(Duration::from_millis(90));
        match look() {
            Ok(totals) => {
                let found = Balance::of(&totals, sent);
                if found != last {
                    (last, since) = (found, time::now());
                }
            }
            Err(error) if error != said => {
                step(&format!("no answer: {}", error.chars().take(200).collect::<String>()));
                said = error;
            }
            Err(_) => {}
        }
        last.is_even() || since.elapsed() > still
    });
    last
}

/// What the kernel has dropped in front of the UDP sockets of a port, and the bytes that wait in them, as it says.
pub(crate) fn kernel(port: u16) -> (u64, u64) {
    let end = format!(":{port:04X}");
    let (mut drops, mut waiting) = (0, 0);
    for path in ["/proc/net/udp", "/proc/net/udp6"] {
        let table = std::fs::read_to_string(path).unwrap_or_default();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns.get(1).is_some_and(|local| local.ends_with(&end)) {
                drops += columns.last().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                let queue = columns[4].split(':').nth(1).unwrap_or("0");
                waiting += u64::from_str_radix(queue, 16).unwrap_or(0);
            }
        }
    }
    (drops, waiting)
}

/// Bytes that the process holds in memory.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024
}

/// Megabytes, for reading.
pub(crate) fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
