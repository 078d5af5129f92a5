//! Free ports for servers that tests start.
//!
//! A port is looked for below the range from which the kernel picks ports for outgoing connections (Linux: from
//! 32,768; gVisor: from 16,000), so that no connection of another test can sit on it between the moment it is
//! found free and the server's bind. No port is handed out twice in one process; processes start their search at
//! different places.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports are handed out from here on.
const PORT_MIN: u32 = 6_500;
/// So many ports are tried; the last lies below any kernel's first outgoing port.
const PORT_COUNT: u32 = 9_400;
/// Distance of two processes' starting points.
const PROCESS_STRIDE: u32 = 211;

/// How many candidates this process has taken. Each value is seen by one caller only, whatever the order.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port on which neither TCP nor UDP is in use, on any address.
pub(crate) fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(PROCESS_STRIDE) % PORT_COUNT;
    for _ in 0..PORT_COUNT {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = (PORT_MIN + (start + step) % PORT_COUNT) as u16;
        if is_free(port) {
            return port;
        }
    }
    panic!("no port between {PORT_MIN} and {} is free", PORT_MIN + PORT_COUNT);
}

/// Binding the wildcard fails when any address has the port. A machine without IPv6 fails at `::` for
/// another reason, which does not make the port less free.
fn is_free(port: u16) -> bool {
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let taken_on_ipv6 = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    free && !TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_err_and(|error| taken_on_ipv6(&error))
        && !UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_err_and(|error| taken_on_ipv6(&error))
}

#[test]
fn a_port_is_handed_out_once_and_can_be_bound() {
    let first = free_port();
    let second = free_port();
    assert_ne!(first, second);
    let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    assert!(!is_free(first));
    assert!(is_free(second));
}
