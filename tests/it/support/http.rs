//! A small HTTP/1.1 client: one request per connection, read to its end.
//!
//! It takes an address and a path and gives status, headers and body. It knows `Content-Length` (by reading
//! until the server closes) and chunked bodies; redirects, TLS and keep-alive are none of its business.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A server that says nothing for so long is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Such as 200.
    pub(crate) status: u16,
    /// Status line and headers as they came.
    pub(crate) head: String,
    /// The body, without the marks of its transfer.
    pub(crate) body: String,
}

/// `GET path` from a port of this machine.
pub(crate) fn get(port: u16, path: &str) -> io::Result<Reply> {
    request(port, "GET", path, &[], "")
}

/// `POST path` with a form, fields already encoded by [`encode`].
pub(crate) fn post_form(port: u16, path: &str, form: &str) -> io::Result<Reply> {
    request(port, "POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], form)
}

/// One request with headers and a body of one's own.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Reply> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes all");
    }
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP reply"))
}

/// The head of an answer, up to and with the empty line, and its status.
pub(crate) fn read_head(reader: &mut impl BufRead) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the answer ends in its head: {head}");
    }
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
}

/// Percent-encodes all but letters, digits and `-_.~`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let border = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..border]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let rest = &bytes[border + 4..];
    let body = if chunked { join_chunks(rest)? } else { rest.to_vec() };
    Some(Reply { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size_text = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(size_text.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line_end + 2..line_end + 2 + size)?);
        rest = rest.get(line_end + 2 + size + 2..)?;
    }
}

#[test]
fn plain_and_chunked_bodies_are_read() {
    let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!((plain.status, plain.body.as_str()), (200, "ok"));
    let chunked =
        parse(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n");
    let chunked = chunked.unwrap();
    assert_eq!((chunked.status, chunked.body.as_str()), (404, "abcd"));
    assert!(chunked.head.starts_with("HTTP/1.1 404"));
    assert!(parse(b"nonsense").is_none());
}

#[test]
fn targets_are_encoded() {
    assert_eq!(encode("a.b;k=v w"), "a.b%3Bk%3Dv%20w");
}
