//! Streams: TCP and Unix connections, all on one thread with one table, newline-framed.
//!
//! In come connections within the limit, from allowed senders; out go complete lines. A line that is longer
//! than the limit is skipped to its newline and refused; what follows the last newline when a connection
//! ends was cut off and is refused too. Who begins with a request of HTTP is a browser that a page has led here, with
//! lines of that page's in the body: it is hung up on. A client that resets or stalls disturbs nobody: whoever opens
//! a connection or begins a line has some seconds to end a line, and gives way to others meanwhile (`places.rs`).

use super::places::{Place, Places};
use super::receive::Receiver;
use super::udp::is_allowed;
use crate::clock;
use crate::health::Refusal;
use crate::limits;
use crate::sys::Waker;
use crate::tls::Tls;
use ipnet::IpNet;
use memchr::{memchr, memrchr};
use std::cell::RefCell;
use std::future::{Future, ready};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout_at};

/// Bytes asked for by one read.
const READ_BYTES: usize = 16 << 10;
/// Pause after accept fails for want of descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Series under timestamps of their own that one read may bring; more than there are lines in it.
const TIMED_ROOM: usize = READ_BYTES / 4;
/// Pause between two looks whether there is room again for such series: a tick or less.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
/// What open connections may still send after a stop was asked for.
const LINGER: Duration = Duration::from_millis(100);

/// What the stream thread needs.
pub struct StreamThread {
    /// TCP listeners.
    pub tcp: Vec<std::net::TcpListener>,
    /// TCP listeners whose connections speak TLS, and what they speak it with; without that they are hung up on.
    pub tls: (Vec<std::net::TcpListener>, Option<Arc<Tls>>),
    /// Unix listeners.
    pub unix: Vec<std::os::unix::net::UnixListener>,
    /// Where lines go.
    pub receiver: Receiver,
    /// Who may connect by TCP; empty is everybody.
    pub allow: Arc<[IpNet]>,
    /// Connections of one address at a time; 0 is as many as there are places.
    pub sender_connections: usize,
    /// Wakes the thread for a tick or a stop.
    pub waker: Arc<Waker>,
    /// Set before the last wake-up.
    pub stop: Arc<AtomicBool>,
}

/// What the tasks of the thread share.
struct Shared {
    receiver: RefCell<Receiver>,
    places: RefCell<Places>,
    /// Becomes true when connections shall count what they hold as cut off, and end.
    stopping: watch::Sender<bool>,
    allow: Arc<[IpNet]>,
}

impl StreamThread {
    /// Accepts and reads until it is stopped, then hands over for the last time.
    pub fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let shared = Rc::new(Shared {
            receiver: RefCell::new(self.receiver),
            places: RefCell::new(Places::new(self.sender_connections)),
            stopping: watch::Sender::new(false),
            allow: self.allow,
        });
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.tcp {
            tasks.spawn_local(accept_tcp(TcpListener::from_std(listener)?, Rc::clone(&shared), None));
        }
        if let (listeners, Some(tls)) = self.tls {
            for listener in listeners {
                let listener = TcpListener::from_std(listener)?;
                tasks.spawn_local(accept_tcp(listener, Rc::clone(&shared), Some(Arc::clone(&tls))));
            }
        }
        for listener in self.unix {
            tasks.spawn_local(accept_unix(UnixListener::from_std(listener)?, Rc::clone(&shared)));
        }
        let mut waiting = UnixStream::from_std(self.waker.waiting_end()?)?;
        let mut wakes = [0; 64];
        while !self.stop.load(Ordering::Relaxed) {
            // How many wake-ups there were does not matter.
            let _wakes = waiting.read(&mut wakes).await?;
            let mut receiver = shared.receiver.borrow_mut();
            if receiver.recorder().tick_begun() {
                receiver.recorder().hand_over();
            }
        }
        sleep(LINGER).await;
        tasks.shutdown().await;
        shared.stopping.send_replace(true);
        // Connections end when they next run; a few turns of this thread and they have.
        for _ in 0..=limits::STREAM_CONNECTIONS_MAX {
            if shared.places.borrow().taken() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        shared.receiver.borrow_mut().recorder().hand_over_last();
        Ok(())
    }
}

async fn accept_tcp(listener: TcpListener, shared: Rc<Shared>, tls: Option<Arc<Tls>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let from = peer.ip().to_canonical();
                let sender = super::sockets::plain(peer).to_string();
                if !shared.allow.is_empty() && !is_allowed(&shared.allow, from) {
                    shared.receiver.borrow_mut().refuse_from(from, Refusal::Source, &sender, b"");
                    continue;
                }
                let sender = Sender { from: Some(from), name: sender };
                match tls.clone() {
                    Some(tls) => shared.admit(async move { tls.accept(stream).await }, sender),
                    None => shared.admit(ready(Ok(stream)), sender),
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, shared: Rc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.admit(ready(Ok(stream)), Sender { from: None, name: "unix stream".to_owned() });
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    sleep(ACCEPT_PAUSE).await;
}

/// Whose connection it is.
struct Sender {
    from: Option<IpAddr>,
    name: String,
}

impl Sender {
    fn refuse(&self, receiver: &mut Receiver, reason: Refusal, bytes: &[u8]) {
        match self.from {
            Some(from) => receiver.refuse_from(from, reason, &self.name, bytes),
            None => receiver.refuse(reason, &self.name, bytes),
        }
    }
}

impl Shared {
    /// Serves a connection if there is room for it, once it is open.
    fn admit<S: AsyncRead + Unpin + 'static>(
        self: &Rc<Self>,
        opening: impl Future<Output = io::Result<S>> + 'static,
        sender: Sender,
    ) {
        let place = match self.places.borrow_mut().take(sender.from) {
            Ok(place) => place,
            Err(reason) => return sender.refuse(&mut self.receiver.borrow_mut(), reason, b""),
        };
        let shared = Rc::clone(self);
        tokio::task::spawn_local(async move { shared.attend(opening, sender, place).await });
    }

    /// One connection, from its place to its end.
    async fn attend<S: AsyncRead + Unpin>(
        &self,
        opening: impl Future<Output = io::Result<S>>,
        sender: Sender,
        mut place: Place,
    ) {
        let mut framer = Framer::default();
        let mut stopped = self.stopping.subscribe();
        let mut gave_way = None;
        let work = async {
            match opening.await {
                Ok(stream) => self.read_lines(stream, &sender, &mut framer, place.number).await,
                Err(_) => sender.refuse(&mut self.receiver.borrow_mut(), Refusal::TlsHandshake, b""),
            }
        };
        tokio::select! {
            () = work => {}
            // An error is the end of the thread, which is a stop too.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            Ok(reason) = &mut place.given_away => gave_way = Some(reason),
        }
        // It may have ended by itself when it had just been told.
        let gave_way = gave_way.or_else(|| place.given_away.try_recv().ok());
        let mut receiver = self.receiver.borrow_mut();
        framer.end(&mut receiver, &sender);
        match gave_way {
            Some(reason) => sender.refuse(&mut receiver, reason, b""),
            None => self.places.borrow_mut().give_back(place.number, place.from),
        }
    }

    /// Unlike who sends datagrams, who sends a stream can be told to wait: where a tick has no room for more series
    /// under timestamps of their own, what was sent stays in the socket until the next.
    async fn wait_for_room(&self) {
        loop {
            {
                let mut receiver = self.receiver.borrow_mut();
                let recorder = receiver.recorder();
                if recorder.has_timed_room(TIMED_ROOM) {
                    return;
                }
                // The last tick found no spare, perhaps, and it is back.
                if recorder.tick_begun() {
                    recorder.hand_over();
                }
            }
            sleep(ROOM_PAUSE).await;
        }
    }

    /// Reads until the peer ends, fails, says nothing for too long, or does not end a line.
    async fn read_lines(
        &self,
        mut stream: impl AsyncRead + Unpin,
        sender: &Sender,
        framer: &mut Framer,
        number: u64,
    ) {
        let idle = Duration::from_secs(limits::STREAM_IDLE_SECS);
        let line = Duration::from_secs(limits::STREAM_LINE_SECS);
        let mut buffer = vec![0; READ_BYTES];
        let mut until = clock::monotonic_now() + line;
        loop {
            self.wait_for_room().await;
            match timeout_at(until.into(), stream.read(&mut buffer)).await {
                Ok(Ok(0)) | Err(_) => return,
                Ok(Ok(bytes)) => {
                    let was_inside = framer.is_inside_a_line();
                    let mut receiver = self.receiver.borrow_mut();
                    let Some(ended) = framer.push(buffer.get(..bytes).unwrap_or(b""), &mut receiver, sender)
                    else {
                        return sender.refuse(&mut receiver, Refusal::HttpRequest, b"");
                    };
                    if receiver.recorder().tick_begun() {
                        receiver.recorder().hand_over();
                    }
                    if ended {
                        self.places.borrow_mut().heard(number);
                    }
                    // Who sends a byte now and then is in the same line still.
                    if !framer.is_inside_a_line() {
                        until = clock::monotonic_now() + idle;
                    } else if ended || !was_inside {
                        until = clock::monotonic_now() + line;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return,
            }
        }
    }
}

/// Cuts a stream into packets of whole lines.
#[derive(Debug, Default)]
struct Framer {
    /// The beginning of a line whose newline has not come yet.
    partial: Vec<u8>,
    /// Inside a line that was too long.
    skipping: bool,
    /// Lines that have ended, as far as these may be the head of a request.
    lines: u8,
}

/// Lines that a request of HTTP is known by: its first one, and `Host`, which browsers put next.
const HEAD_LINES: u8 = 2;

impl Framer {
    /// Whether the end of a line has still to come.
    fn is_inside_a_line(&self) -> bool {
        self.skipping || !self.partial.is_empty()
    }

    /// Takes what was read; says whether a line ended in it, or nothing where it is no lines but a request of HTTP.
    fn push(&mut self, mut bytes: &[u8], receiver: &mut Receiver, sender: &Sender) -> Option<bool> {
        let mut ended = false;
        if self.skipping {
            let Some(end) = memchr(b'\n', bytes) else {
                return Some(false);
            };
            self.skipping = false;
            self.lines = self.lines.saturating_add(1);
            ended = true;
            bytes = bytes.get(end + 1..).unwrap_or(b"");
        }
        if let Some(end) = memrchr(b'\n', bytes) {
            ended = true;
            let (whole, tail) = bytes.split_at(end + 1);
            let mut joined = std::mem::take(&mut self.partial);
            let lines = if joined.is_empty() {
                whole
            } else {
                joined.extend_from_slice(whole);
                &joined
            };
            if self.is_request(lines) {
                return None;
            }
            receiver.packet_from(sender.from, lines, false, &sender.name);
            joined.clear();
            self.partial = joined;
            bytes = tail;
        }
        if self.partial.len() + bytes.len() > limits::STREAM_LINE_BYTES_MAX {
            receiver.recorder().intake().lines += 1;
            self.partial.extend_from_slice(bytes.get(..limits::REFUSED_EXCERPT_BYTES).unwrap_or(bytes));
            sender.refuse(receiver, Refusal::LineTooLong, &self.partial);
            self.partial.clear();
            self.skipping = true;
        } else {
            self.partial.extend_from_slice(bytes);
        }
        Some(ended)
    }

    /// Whether these lines, if they are a connection's first, are the head of a request.
    fn is_request(&mut self, text: &[u8]) -> bool {
        let left = usize::from(HEAD_LINES.saturating_sub(self.lines));
        text.split_inclusive(|byte| *byte == b'\n').take(left).any(|line| {
            self.lines += 1;
            let line = line.trim_ascii_end();
            let names_host = line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"));
            line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") || self.lines > 1 && names_host
        })
    }

    fn end(&mut self, receiver: &mut Receiver, sender: &Sender) {
        if !self.partial.is_empty() {
            receiver.recorder().intake().lines += 1;
            sender.refuse(receiver, Refusal::Unterminated, &self.partial);
            self.partial.clear();
        }
    }
}
