//! One connection to carbon, and what can be known of a delivery.
//!
//! A write that succeeds says nothing: it went into a buffer. What carbon allows is this. *Per flush*: write,
//! half-close, read until carbon closes (it does 0.2 s after 20,000 lines), and find our send queue empty:
//! then it had read every byte. *Kept*: the send queue empty says that carbon's kernel has it, no more; the
//! last minutes are stated again after the connection was lost. Only this file names TCP to Graphite.

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

impl ForwardError {
    /// Whether trying again may help: always, carbon comes back.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        true
    }
}

/// A destination's connection.
#[derive(Debug)]
pub struct Carbon {
    address: String,
    mode: Connection,
    kept: Option<TcpStream>,
}

impl Carbon {
    /// Not connected yet.
    #[must_use]
    pub fn new(address: String, mode: Connection) -> Self {
        Self { address, mode, kept: None }
    }

    /// Delivers bytes that are whole lines or frames, and confirms them as far as carbon allows. `patience`
    /// bounds each step.
    pub fn deliver(&mut self, bytes: &[u8], patience: Duration) -> Result<(), ForwardError> {
        match self.mode {
            Connection::PerFlush => {
                let stream = self.connect(patience)?;
                write(&stream, bytes)?;
                confirm_by_close(stream, patience)
            }
            Connection::Kept => {
                // Taken out, so that a failure on the way leaves no broken connection behind.
                let stream = match self.kept.take() {
                    Some(stream) if is_alive(&stream) => stream,
                    Some(_) => return Err(ForwardError::Unconfirmed("the kept connection was closed")),
                    None => self.connect(patience)?,
                };
                write(&stream, bytes)?;
                confirm_by_queue(&stream, patience)?;
                self.kept = Some(stream);
                Ok(())
            }
        }
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

fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), ForwardError> {
    stream.write_all(bytes).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => {
            ForwardError::Write(io::Error::new(ErrorKind::TimedOut, "the receiver stands still"))
        }
        _ => ForwardError::Write(error),
    })
}

fn confirm_by_close(mut stream: TcpStream, patience: Duration) -> Result<(), ForwardError> {
    stream.shutdown(Shutdown::Write).map_err(ForwardError::Write)?;
    let started = clock::monotonic_now();
    let limit = Duration::from_millis(limits::CARBON_CONFIRM_MS).min(patience);
    let mut answer = [0; 512];
    loop {
        let left = remaining(started, limit).ok_or(ForwardError::Unconfirmed("it did not close in time"))?;
        stream.set_read_timeout(Some(left)).map_err(ForwardError::Write)?;
        match stream.read(&mut answer) {
            Ok(0) => break,
            // Carbon says nothing; whatever this is, the end may still come.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(ForwardError::Unconfirmed("it did not close in time"));
            }
            Err(_) => return Err(ForwardError::Unconfirmed("the connection was reset")),
        }
    }
    if sys::unacknowledged_bytes(&stream).unwrap_or(0) > 0 {
        return Err(ForwardError::Unconfirmed("it closed before it had read everything"));
    }
    Ok(())
}

fn confirm_by_queue(stream: &TcpStream, patience: Duration) -> Result<(), ForwardError> {
    let started = clock::monotonic_now();
    let limit = Duration::from_millis(limits::CARBON_CONFIRM_MS).min(patience);
    while sys::unacknowledged_bytes(stream).unwrap_or(0) > 0 {
        if remaining(started, limit).is_none() {
            return Err(ForwardError::Unconfirmed("the send queue did not empty in time"));
        }
        std::thread::sleep(QUEUE_POLL);
    }
    if is_alive(stream) { Ok(()) } else { Err(ForwardError::Unconfirmed("the connection was closed")) }
}

fn remaining(started: Instant, limit: Duration) -> Option<Duration> {
    limit.checked_sub(clock::elapsed(started)).filter(|left| !left.is_zero())
}

/// Whether the peer has neither closed nor reset.
fn is_alive(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let mut byte = [0];
    let alive = match stream.peek(&mut byte) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    alive && stream.set_nonblocking(false).is_ok()
}
