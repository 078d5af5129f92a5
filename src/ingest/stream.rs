//! Streams: TCP and Unix connections, all on one thread with one table, newline-framed.
//!
//! In come connections within the limit, from allowed senders; out go complete lines. A line that is longer
//! than the limit is skipped to its newline and refused; what follows the last newline when a connection
//! ends was cut off and is refused too. A client that resets or stalls disturbs nobody.

use super::receive::Receiver;
use super::udp::is_allowed;
use crate::health::Refusal;
use crate::limits;
use crate::sys::Waker;
use ipnet::IpNet;
use memchr::{memchr, memrchr};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// Bytes asked for by one read.
const READ_BYTES: usize = 16 << 10;
/// Pause after accept fails for want of descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What open connections may still send after a stop was asked for.
const LINGER: Duration = Duration::from_millis(100);

/// What the stream thread needs.
pub struct StreamThread {
    /// TCP listeners.
    pub tcp: Vec<std::net::TcpListener>,
    /// Unix listeners.
    pub unix: Vec<std::os::unix::net::UnixListener>,
    /// Where lines go.
    pub receiver: Receiver,
    /// Who may connect by TCP; empty is everybody.
    pub allow: Arc<[IpNet]>,
    /// Wakes the thread for a tick or a stop.
    pub waker: Arc<Waker>,
    /// Set before the last wake-up.
    pub stop: Arc<AtomicBool>,
}

/// What the tasks of the thread share.
struct Shared {
    receiver: RefCell<Receiver>,
    connections: Cell<usize>,
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
            connections: Cell::new(0),
            stopping: watch::Sender::new(false),
            allow: self.allow,
        });
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.tcp {
            tasks.spawn_local(accept_tcp(TcpListener::from_std(listener)?, Rc::clone(&shared)));
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
            if shared.connections.get() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        shared.receiver.borrow_mut().recorder().hand_over_last();
        Ok(())
    }
}

async fn accept_tcp(listener: TcpListener, shared: Rc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let sender = super::sockets::plain(peer).to_string();
                if !shared.allow.is_empty() && !is_allowed(&shared.allow, peer.ip()) {
                    shared.receiver.borrow_mut().refuse(Refusal::Source, &sender, b"");
                } else {
                    shared.admit(stream, sender);
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, shared: Rc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => shared.admit(stream, "unix stream".to_owned()),
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    sleep(ACCEPT_PAUSE).await;
}

impl Shared {
    /// Serves a connection if there is room for it.
    fn admit(self: &Rc<Self>, stream: impl AsyncRead + Unpin + 'static, sender: String) {
        if self.connections.get() >= limits::STREAM_CONNECTIONS_MAX {
            return self.receiver.borrow_mut().refuse(Refusal::ConnectionLimit, &sender, b"");
        }
        self.connections.set(self.connections.get() + 1);
        let shared = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut framer = Framer::default();
            let mut stopped = shared.stopping.subscribe();
            tokio::select! {
                () = shared.read_lines(stream, &sender, &mut framer) => {}
                // An error is the end of the thread, which is a stop too.
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            framer.end(&mut shared.receiver.borrow_mut(), &sender);
            shared.connections.set(shared.connections.get() - 1);
        });
    }

    /// Reads until the peer ends, fails or says nothing for too long.
    async fn read_lines(&self, mut stream: impl AsyncRead + Unpin, sender: &str, framer: &mut Framer) {
        let idle = Duration::from_secs(limits::STREAM_IDLE_SECS);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match timeout(idle, stream.read(&mut buffer)).await {
                Ok(Ok(0)) | Err(_) => return,
                Ok(Ok(bytes)) => {
                    let mut receiver = self.receiver.borrow_mut();
                    framer.push(buffer.get(..bytes).unwrap_or(b""), &mut receiver, &sender);
                    if receiver.recorder().tick_begun() {
                        receiver.recorder().hand_over();
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
}

impl Framer {
    fn push(&mut self, mut bytes: &[u8], receiver: &mut Receiver, sender: &dyn Display) {
        if self.skipping {
            let Some(end) = memchr(b'\n', bytes) else {
                return;
            };
            self.skipping = false;
            bytes = bytes.get(end + 1..).unwrap_or(b"");
        }
        if let Some(end) = memrchr(b'\n', bytes) {
            let (whole, tail) = bytes.split_at(end + 1);
            if self.partial.is_empty() {
                receiver.packet(whole, sender);
            } else {
                self.partial.extend_from_slice(whole);
                receiver.packet(&self.partial, sender);
                self.partial.clear();
            }
            bytes = tail;
        }
        if self.partial.len() + bytes.len() > limits::STREAM_LINE_BYTES_MAX {
            receiver.recorder().intake().lines += 1;
            self.partial.extend_from_slice(bytes.get(..limits::REFUSED_EXCERPT_BYTES).unwrap_or(bytes));
            receiver.refuse(Refusal::LineTooLong, sender, &self.partial);
            self.partial.clear();
            self.skipping = true;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, receiver: &mut Receiver, sender: &dyn Display) {
        if !self.partial.is_empty() {
            receiver.recorder().intake().lines += 1;
            receiver.refuse(Refusal::Unterminated, sender, &self.partial);
            self.partial.clear();
        }
    }
}
