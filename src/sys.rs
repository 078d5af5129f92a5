//! The few system calls without a safe wrapper, and thin ones around those that have one.
//!
//! Everything unsafe of the program is here. Built and tested on Linux; where the kernel keeps no count of
//! drops or of its send queue the answer is `None`, which callers take for unknown.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes a thread that waits in `poll`, or a task: a pair of sockets.
#[derive(Debug)]
pub struct Waker {
    wake: UnixStream,
    wait: UnixStream,
}

impl Waker {
    /// A waker that nobody waits for yet.
    pub fn new() -> io::Result<Self> {
        let (wake, wait) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        wait.set_nonblocking(true)?;
        Ok(Self { wake, wait })
    }

    /// Wakes the waiting thread, now or when it next waits.
    pub fn wake(&self) {
        // Fails only when so many wake-ups are pending that the buffer is full: the thread will wake.
        let _written = (&self.wake).write(&[1]);
    }

    /// Takes note of all wake-ups so far.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wait).read(&mut bytes), Ok(read) if read == bytes.len()) {}
    }

    /// The end that becomes readable, for a task to wait on.
    pub fn waiting_end(&self) -> io::Result<UnixStream> {
        self.wait.try_clone()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait.as_fd()
    }
}

/// What the kernel says of a socket's receive buffer (`SO_MEMINFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveQueue {
    /// Bytes waiting, with the kernel's own overhead.
    pub queued_bytes: u32,
    /// Bytes it may hold.
    pub buffer_bytes: u32,
    /// Datagrams dropped since the socket was opened, modulo 2³².
    pub drops: u32,
}

/// Reads a socket's receive queue: immediate, where `SO_RXQ_OVFL` would miss the end of a burst.
#[cfg(target_os = "linux")]
pub fn receive_queue(socket: &impl AsRawFd) -> Option<ReceiveQueue> {
    // include/uapi/linux/sock_diag.h: nine words, of which 0 is rmem_alloc, 1 rcvbuf and 8 drops.
    let mut words = [0_u32; 9];
    let mut bytes = size_of_val(&words) as libc::socklen_t;
    #[expect(unsafe_code, reason = "no safe crate wraps SO_MEMINFO")]
    // SAFETY: the pointer and the length describe `words`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let [queued_bytes, buffer_bytes, .., drops] = words;
    (result == 0 && bytes as usize == size_of_val(&words)).then_some(ReceiveQueue {
        queued_bytes,
        buffer_bytes,
        drops,
    })
}

/// Reads a socket's receive queue: unknown on this system.
#[cfg(not(target_os = "linux"))]
pub fn receive_queue(_socket: &impl AsRawFd) -> Option<ReceiveQueue> {
    None
}

/// Bytes that were written to a TCP socket and that the peer's kernel has not acknowledged (`SIOCOUTQ`).
#[cfg(target_os = "linux")]
pub fn unacknowledged_bytes(socket: &impl AsRawFd) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    #[expect(unsafe_code, reason = "no safe crate wraps SIOCOUTQ")]
    // SAFETY: the pointer is to an int that outlives the call, which is what this request writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then(|| usize::try_from(bytes).unwrap_or(0))
}

/// Bytes not yet acknowledged: unknown on this system.
#[cfg(not(target_os = "linux"))]
pub fn unacknowledged_bytes(_socket: &impl AsRawFd) -> Option<usize> {
    None
}

/// Asks for a receive buffer beyond `net.core.rmem_max`, which needs `CAP_NET_ADMIN`, or up to it. Returns
/// what the kernel gave, in the bytes that were asked for (it keeps twice that for its own overhead).
pub fn set_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<usize> {
    use nix::sys::socket::{getsockopt, setsockopt, sockopt};
    #[cfg(target_os = "linux")]
    let forced = setsockopt(socket, sockopt::RcvBufForce, &bytes).is_ok();
    #[cfg(not(target_os = "linux"))]
    let forced = false;
    if !forced {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    let given = getsockopt(socket, sockopt::RcvBuf)?;
    Ok(if cfg!(target_os = "linux") { given / 2 } else { given })
}

/// Raises the number of files and sockets this process may open to what the system allows it; returns that
/// number. Many systems start programs with a soft limit of 1,024 and a hard one far above.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return Some(soft);
    }
    Some(hard)
}

/// What this process takes of the machine's memory, in bytes; `None` where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<usize> {
    use std::io::Read;
    // The line `VmRSS:    12345 kB`, in the first two kilobytes; asked at every tick, hence in one read.
    let mut text = [0; 2_048];
    let length = std::fs::File::open("/proc/self/status").ok()?.read(&mut text).ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|kib| kib * 1_024)
}

/// Gives memory that was freed back to the system, where its allocator would keep it for later.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library's allocator has no safe wrapper")]
    // SAFETY: malloc_trim takes no pointer and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the kernel gave a socket as its receive buffer, in the bytes that were asked for.
pub fn receive_buffer(socket: &impl AsFd) -> io::Result<usize> {
    use nix::sys::socket::{getsockopt, sockopt};
    let given = getsockopt(socket, sockopt::RcvBuf)?;
    Ok(if cfg!(target_os = "linux") { given / 2 } else { given })
}

/// Whether the kernel believes that somebody keeps its clock (`adjtimex`, which changes nothing when asked so).
#[cfg(target_os = "linux")]
#[must_use]
pub fn clock_is_synchronised() -> Option<bool> {
    #[expect(unsafe_code, reason = "no safe crate wraps adjtimex")]
    // SAFETY: `timex` is numbers alone, and all zeros are a valid one; its `modes` of zero asks for nothing to be set.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    #[expect(unsafe_code, reason = "no safe crate wraps adjtimex")]
    // SAFETY: the pointer is to a structure that outlives the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Whether somebody keeps the clock: unknown on this system.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn clock_is_synchronised() -> Option<bool> {
    None
}

/// A socket that whoever started us had opened for us.
#[derive(Debug)]
pub struct Inherited {
    /// The socket.
    pub fd: OwnedFd,
    /// What it is for: `FileDescriptorName=` of a systemd socket unit.
    pub name: String,
}

/// The sockets that whoever started us had opened for us (systemd's socket activation). They are handed out once.
pub fn inherited_sockets() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // Nothing else is published by it, so no order is needed; that one caller wins is enough.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let own = |(fd, name)| {
        #[expect(unsafe_code, reason = "a number from the environment becomes a socket of ours")]
        // SAFETY: LISTEN_PID names this process, so the number is open and given to us, and to us alone; it is
        // taken once, by the swap above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Inherited { fd, name }
    };
    Ok(sd_notify::listen_fds_with_names()?.map(own).collect())
}
