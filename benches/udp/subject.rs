//! What is measured: a tallyd, or the bare loop, each a process of its own that is ended when it is dropped.
//!
//! The bare loop is this program again, with `--bare PORT`: it blocks in recvmmsg, counts newlines, and says what it
//! has when a datagram of one question mark asks for it.

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use std::fs;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tallyd::{clock, limits, sys};
use tempfile::TempDir;

/// How long a subject may take to start, to drain its socket and to count.
const PATIENCE: Duration = Duration::from_secs(5);
/// The bare loop ends by itself after so long without a datagram, should nobody be left to end it.
const BARE_IDLE: Duration = Duration::from_secs(30);

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Tallyd,
    /// With a bucket so wide that no run sees its end.
    TallydOfOneBucket,
    Bare,
}

/// A process that reads datagrams.
pub(crate) struct Subject {
    pub(crate) port: u16,
    child: Child,
    answers: Answers,
}

enum Answers {
    Http { port: u16, _folder: TempDir },
    Lines(BufReader<ChildStdout>),
}

/// Lines counted and datagrams that the kernel dropped, since the start.
#[derive(Clone, Copy)]
pub(crate) struct Books {
    pub(crate) lines: u64,
    pub(crate) drops: u64,
}

/// What the kernel charged to a process, all threads together.
pub(crate) struct Usage {
    pub(crate) at: Instant,
    pub(crate) cpu_ns: u64,
    pub(crate) wakes: u64,
}

impl Subject {
    pub(crate) fn start(kind: Kind) -> Self {
        let port =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr()).expect("a port").port();
        let mut subject = match kind {
            Kind::Tallyd => Self::tallyd(port, "1s"),
            Kind::TallydOfOneBucket => Self::tallyd(port, "1h"),
            Kind::Bare => Self::loop_of_ours(port),
        };
        let started = clock::monotonic_now();
        while !subject.is_ready() {
            assert!(subject.child.try_wait().expect("the child").is_none(), "the child ended");
            assert!(clock::elapsed(started) < PATIENCE, "the child does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        subject
    }

    /// Bytes of memory it has in use, and had at most.
    pub(crate) fn memory(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        ["VmRSS:", "VmHWM:"].map(|key| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("kilobytes");
            kilobytes << 10
        })
    }

    fn tallyd(port: u16, bucket: &str) -> Self {
        let http =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr()).expect("a port").port();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("bench.toml");
        let text = format!(
            "[ingest]\nudp = [\"127.0.0.1:{port}\"]\nthreads = 1\n[flush]\nbucket = \"{bucket}\"\n\
             [store]\nurl = \"memory:\"\n[graphite]\naddress = []\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[console]\nlisten = \"off\"\n"
        );
        fs::write(&config, text).expect("write the configuration");
        let child = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .arg("run")
            .arg("--config")
            .arg(config)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tallyd");
        Self { port, child, answers: Answers::Http { port: http, _folder: folder } }
    }

    fn loop_of_ours(port: u16) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--bare", &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the bare loop");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { port, child, answers: Answers::Lines(lines) }
    }

    fn is_ready(&mut self) -> bool {
        match &self.answers {
            Answers::Http { port, .. } => {
                get(*port, "/health/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
            }
            Answers::Lines(_) => self.queue().is_some(),
        }
    }

    /// Bytes in the socket's queue, if it is bound.
    fn queue(&self) -> Option<u64> {
        let own = format!("0100007F:{:04X}", self.port);
        let table = fs::read_to_string("/proc/net/udp").expect("the kernel's list of sockets");
        let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(own.as_str()))?;
        let (_, received) = line.split_whitespace().nth(4)?.split_once(':')?;
        u64::from_str_radix(received, 16).ok()
    }

    /// Waits until everything was read out of the socket.
    pub(crate) fn wait_drained(&self) {
        let started = clock::monotonic_now();
        while self.queue().expect("a bound socket") > 0 {
            assert!(clock::elapsed(started) < PATIENCE, "the socket is not drained");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What it says it has counted: tallyd as of its last tick.
    pub(crate) fn books(&mut self) -> Books {
        match &mut self.answers {
            Answers::Http { port, .. } => {
                let answer = get(*port, "/api/v1/status").expect("tallyd answers");
                let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
                let status: serde_json::Value = serde_json::from_str(body).expect("JSON");
                let number = |key: &str| status.get(key).and_then(serde_json::Value::as_u64).expect(key);
                assert_eq!(number("refused_total"), 0, "every line is in order");
                Books { lines: number("counted"), drops: number("kernel_drops") }
            }
            Answers::Lines(lines) => {
                let asking = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
                asking.send_to(b"?", (Ipv4Addr::LOCALHOST, self.port)).expect("ask");
                let mut line = String::new();
                lines.read_line(&mut line).expect("an answer");
                let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
                Books { lines: numbers.next().expect("lines"), drops: numbers.next().expect("drops") }
            }
        }
    }

    /// The books once they account for everything sent since `before`, to the datagram; it fails if they never do.
    pub(crate) fn settled(&mut self, before: Books, datagrams: u64, lines: u64) -> Books {
        let started = clock::monotonic_now();
        loop {
            let books = self.books();
            let seen = books.lines - before.lines + (books.drops - before.drops) * lines;
            if seen == datagrams * lines {
                return books;
            }
            assert!(
                seen < datagrams * lines && clock::elapsed(started) < PATIENCE,
                "{datagrams} datagrams of {lines} lines were sent, but {} lines counted and {} datagrams dropped",
                books.lines - before.lines,
                books.drops - before.drops
            );
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    /// What it has used so far; exact while its threads sleep.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage { at: clock::monotonic_now(), cpu_ns: 0, wakes: 0 };
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        for task in tasks {
            let path = task.expect("a thread").path();
            // A thread may end between the list and the look; none that matters does.
            let Ok(charged) = fs::read_to_string(path.join("schedstat")) else { continue };
            let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
            let first = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            let wakes = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            usage.cpu_ns += first(&charged).expect("nanoseconds");
            usage.wakes += wakes.and_then(first).expect("a number");
        }
        usage
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The floor: what reading datagrams costs whoever does it, in batches as large as tallyd's.
pub(crate) fn bare(port: u16) {
    const DATAGRAM_BYTES: usize = 2_048;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
    sys::set_receive_buffer(&socket, limits::RECEIVE_BUFFER_BYTES).expect("a receive buffer");
    socket.set_read_timeout(Some(BARE_IDLE)).expect("a timeout");
    let mut bytes = vec![0; DATAGRAM_BYTES * limits::RECEIVE_BATCH];
    let mut headers: MultiHeaders<()> = MultiHeaders::preallocate(limits::RECEIVE_BATCH, None);
    let mut lines = 0;
    let mut output = std::io::stdout();
    loop {
        let mut slices: Vec<_> =
            bytes.chunks_exact_mut(DATAGRAM_BYTES).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let messages = match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
            Ok(messages) => messages,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        for message in messages {
            let packet = message.iovs().next().unwrap_or(b"");
            lines += newlines(packet);
            if packet == b"?" {
                let drops = sys::receive_queue(&socket).expect("the kernel's count of drops").drops;
                writeln!(output, "{lines} {drops}").expect("answer");
            }
        }
    }
}

/// Counted in bytes of 255 at a time, which the compiler turns into vectors by itself: a call into a library was at times
/// three times slower, by how the program happened to be linked, and a floor must not move.
fn newlines(packet: &[u8]) -> usize {
    let of = |bytes: &[u8]| usize::from(bytes.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
    packet.chunks(255).map(of).sum()
}
