//! One connection to carbon, and what can be known of a delivery.
//!
//! A write that succeeds says nothing: it went into a buffer. What carbon allows is this. *Per flush*: write,
//! half-close, read until carbon closes (it does 0.2 s after 20,000 lines), and find our send queue empty:
//! then it had read every byte. *Kept*: the send queue empty says that carbon's kernel has it, no more; the
//! last minutes are stated again after the connection was lost. A carbon that is killed and back between two
//! flushes would not be missed: an idle connection beside tells. Only this file names TCP to Graphite.

use super::Connection;
use crate::clock;
use crate::limits;
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Pause between two looks at the send queue.
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// A delivery that did not come about, or cannot be confirmed.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// The name has no address, or nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke or stalled while writing.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// All was written, but carbon did not show that it read it.
    #[error("not confirmed: {0}")]
    Unconfirmed(&'static str),
}

/// The way to a Graphite: [`Carbon`], and in the simulation a network that is not real.
pub trait Link: Send {
    /// Writes bytes that are whole lines or frames. `patience` bounds each step. Whether they arrived, the
    /// flight will tell.
    fn send(&mut self, bytes: &[u8], patience: Duration) -> Result<Box<dyn Flight>, ForwardError>;
    /// Opens an idle connection that ends when Graphite does, if there is none.
    fn watch(&mut self);
    /// Forgets that connection: after a host that vanished it would never end, and tell of nothing any more.
    fn unwatch(&mut self);
    /// Whether that connection has ended since it was opened; it is forgotten then.
    fn watch_ended(&mut self) -> bool;
}

/// A delivery that was written and not yet confirmed.
pub trait Flight: Send {
    /// Looks, without waiting, whether Graphite has read to the end and closed; `None` while it has not.
    fn settled(&mut self) -> Option<Result<(), ForwardError>>;
}

/// A destination's connection.
#[derive(Debug)]
pub struct Carbon {
    address: String,
    mode: Connection,
    kept: Option<TcpStream>,
    /// Idle: it ends when carbon does, even when carbon is back before the next flush.
    watch: Option<TcpStream>,
}

/// A delivery that was written to carbon and not yet confirmed.
#[derive(Debug)]
pub struct CarbonFlight {
    stream: Option<TcpStream>,
    deadline: Instant,
}

impl Carbon {
    /// Not connected yet.
    #[must_use]
    pub fn new(address: String, mode: Connection) -> Self {
        Self { address, mode, kept: None, watch: None }
    }

    fn connect(&self, patience: Duration) -> Result<TcpStream, ForwardError> {
        let limit = Duration::from_millis(limits::CARBON_CONNECT_MS).min(patience);
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs().map_err(ForwardError::Connect)? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    let write = Duration::from_millis(limits::CARBON_WRITE_MS).min(patience);
                    stream.set_write_timeout(Some(write)).map_err(ForwardError::Connect)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(ForwardError::Connect(last))
    }
}

impl Link for Carbon {
    fn send(&mut self, bytes: &[u8], patience: Duration) -> Result<Box<dyn Flight>, ForwardError> {
        let limit = Duration::from_millis(limits::CARBON_CONFIRM_MS).min(patience);
        let stream = match self.mode {
            Connection::PerFlush => {
                let stream = self.connect(patience)?;
                write(&stream, bytes)?;
                stream.shutdown(Shutdown::Write).map_err(ForwardError::Write)?;
                stream.set_nonblocking(true).map_err(ForwardError::Write)?;
                Some(stream)
            }
            Connection::Kept => {
                // Taken out, so that a failure on the way leaves no broken connection behind.
                let stream = match self.kept.take() {
                    Some(stream) if is_alive(&stream) => stream,
                    Some(_) => {
                        return Err(ForwardError::Unconfirmed("the kept connection was closed, or answered"));
                    }
                    None => self.connect(patience)?,
                };
                write(&stream, bytes)?;
                confirm_by_queue(&stream, limit)?;
                self.kept = Some(stream);
                None
            }
        };
        Ok(Box::new(CarbonFlight { stream, deadline: clock::monotonic_now() + limit }))
    }

    fn watch(&mut self) {
        if self.watch.is_none() && self.mode == Connection::PerFlush {
            self.watch = self.connect(Duration::MAX).ok();
        }
    }

    fn unwatch(&mut self) {
        self.watch = None;
    }

    fn watch_ended(&mut self) -> bool {
        self.watch.take_if(|stream| !is_alive(stream)).is_some()
    }
}

fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), ForwardError> {
    stream.write_all(bytes).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => {
            ForwardError::Write(io::Error::new(ErrorKind::TimedOut, "the receiver stands still"))
        }
        _ => ForwardError::Write(error),
    })
}

impl Flight for CarbonFlight {
    fn settled(&mut self) -> Option<Result<(), ForwardError>> {
        // A kept connection was confirmed, as far as it goes, when it was written to.
        let Some(stream) = &mut self.stream else {
            return Some(Ok(()));
        };
        let unconfirmed = |why| Some(Err(ForwardError::Unconfirmed(why)));
        let mut answer = [0];
        loop {
            match stream.read(&mut answer) {
                Ok(0) if sys::unacknowledged_bytes(stream).unwrap_or(0) == 0 => return Some(Ok(())),
                Ok(0) => return unconfirmed("it closed before it had read everything"),
                // A server of something else reads, complains and closes: that it read the points means nothing.
                Ok(_) => {
                    return unconfirmed("it answered, which Graphite never does: is this Graphite's port?");
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return unconfirmed("the connection was reset"),
            }
        }
        let late = clock::monotonic_now() >= self.deadline;
        late.then_some(Err(ForwardError::Unconfirmed("it did not close in time")))
    }
}

fn confirm_by_queue(stream: &TcpStream, limit: Duration) -> Result<(), ForwardError> {
    let started = clock::monotonic_now();
    while sys::unacknowledged_bytes(stream).unwrap_or(0) > 0 {
        if remaining(started, limit).is_none() {
            return Err(ForwardError::Unconfirmed("the send queue did not empty in time"));
        }
        std::thread::sleep(QUEUE_POLL);
    }
    if is_alive(stream) {
        Ok(())
    } else {
        Err(ForwardError::Unconfirmed("the connection was closed, or answered, which Graphite never does"))
    }
}

fn remaining(started: Instant, limit: Duration) -> Option<Duration> {
    limit.checked_sub(clock::elapsed(started)).filter(|left| !left.is_zero())
}

/// Whether the peer has neither closed nor reset, nor said anything.
fn is_alive(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    // An answer is as bad as an end: Graphite has none to give.
    let alive = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    alive && stream.set_nonblocking(false).is_ok()
}
