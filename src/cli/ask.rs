//! Asks the tallyd of this machine over HTTP: one small request, one answer.

use crate::config::Loaded;
use crate::serve::tokens::{is_hashed, read_file};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// The first line.
    pub(super) status: String,
    /// All lines before the body.
    pub(super) head: String,
    pub(super) body: String,
}

/// All addresses are reached by loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What shows that we may ask: the first token that the configuration or its files hold as it is, not as a hash.
pub(super) fn bearer(loaded: &Loaded) -> Option<String> {
    let of_files = || {
        let files = loaded.config.http.token_files.iter().filter_map(|path| read_file(path).ok());
        files.flatten().find(|token| !is_hashed(token))
    };
    let token = loaded.token.as_ref().map(|token| token.0.clone()).or_else(of_files)?;
    Some(format!("Bearer {token}"))
}

/// Asks a tallyd of ours: a request without a body, and its answer.
pub(super) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Answer> {
    send(address, &address.to_string(), method, path, headers, patience)
}

/// Asks any server, by the name it goes by. HTTP 1.0 keeps the answer in one piece.
pub(super) fn send(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut more = String::new();
    for (name, value) in headers {
        more.extend([name, ": ", value, "\r\n"]);
    }
    // In one piece: whoever answers early would break the second.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or("").to_owned();
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { code, status, head: head.to_owned(), body: body.to_owned() })
}
