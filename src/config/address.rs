//! Where to listen, where to send and whom to let in, as people write it.
//!
//! In comes the text of one address; out comes what a socket can be bound or connected to, or the reason why
//! not. Nothing is resolved here: a name to listen on would mean asking the network before the first socket
//! is open, and a name to send to is asked for again at every connection.

use super::problem::Reason;
use crate::ingest::UnixAddress;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Longest path of a Unix socket in bytes: `sun_path` with its closing zero.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// Longest host name in bytes that DNS can hold.
const HOST_BYTES_MAX: usize = 253;

/// An address to listen on: `IP:port`, `localhost:port`, and `:port`, `*:port` or `port` for all addresses.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, Reason> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let cure = format!("write \"{}\", with the port you want", SocketAddr::new(ip, 8_125));
        return Err(Reason::new("the port is missing", cure));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let cure = "write IP:port, such as \"0.0.0.0:8125\", \"[::1]:8125\" or \":8125\" for all addresses";
    let Ok(port) = port.parse() else {
        return Err(Reason::new("this is no address with a port from 0 to 65535", cure));
    };
    match host {
        "" | "*" => Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)),
        "localhost" => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        host => {
            Err(Reason::new(format!("\"{host}\" is no IP address, and names are not looked up here"), cure))
        }
    }
}

/// The same, or nothing where it is turned off.
pub(super) fn parse_listen_or_off(text: &str) -> Result<Option<SocketAddr>, Reason> {
    match text.trim() {
        "" | "off" => Ok(None),
        text => parse_listen(text).map(Some),
    }
}

/// A page elsewhere, which ours link to; nothing is none.
pub(super) fn parse_link_or_none(text: &str) -> Result<Option<String>, Reason> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    if graphic && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        return Ok(Some(text.to_owned()));
    }
    Err(Reason::new("this is no address of a page", "write https://host/path, or nothing"))
}

/// A destination in the form `host:port`.
pub(super) fn parse_destination(text: &str, port_if_none: u16) -> Result<String, Reason> {
    let text = text.trim();
    let (host, port) = split_destination(text);
    let port = match port.map(str::parse::<u16>) {
        None => port_if_none,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(Reason::new("the port is no number from 1 to 65535", "write host:port")),
    };
    let is_name = |host: &str| {
        !host.is_empty()
            && host.len() <= HOST_BYTES_MAX
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(SocketAddr::new(ip.into(), port).to_string()),
        Err(_) if is_name(host) => Ok(format!("{host}:{port}")),
        Err(_) => Err(Reason::new(
            "this is no host",
            "write host:port or host, such as \"graphite.example.com:2003\" or \"[::1]:2003\"",
        )),
    }
}

/// Host and port, if there is one. An IPv6 address without brackets has no port.
fn split_destination(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']'))
        && host.parse::<Ipv6Addr>().is_ok()
    {
        // What follows the bracket without a colon is no port, and is refused as one.
        return (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some("")));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// A Unix socket: `PATH`, `unixgram:PATH` or `unix:PATH` for datagrams, `stream:PATH` or `unixstream:PATH`
/// for connections, each with `?mode=660` behind it if it is to have permissions of its own.
pub(super) fn parse_unix(text: &str) -> Result<UnixAddress, Reason> {
    let (rest, mode) = match text.rsplit_once("?mode=") {
        Some((rest, octal)) => (rest, Some(parse_mode(octal)?)),
        None => (text, None),
    };
    let (path, stream) = match rest.split_once(':') {
        Some(("unixgram" | "unix", path)) => (path, false),
        Some(("stream" | "unixstream", path)) => (path, true),
        _ => (rest, false),
    };
    if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        let problem = format!("a socket's path has from 1 to {UNIX_PATH_BYTES_MAX} bytes");
        return Err(Reason::new(problem, "write a path such as \"/run/tallyd/statsd.sock\""));
    }
    Ok(UnixAddress { path: PathBuf::from(path), stream, mode })
}

/// Permissions as `chmod` takes them.
pub(super) fn parse_mode(octal: &str) -> Result<u32, Reason> {
    match u32::from_str_radix(octal, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(Reason::new("these are no permissions", "write them as for chmod, such as 660")),
    }
}

/// A network that may send, in CIDR form, or one address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Reason> {
    let text = text.trim();
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| {
        Reason::new("this is no network", "write it as \"10.0.0.0/8\", or an address such as \"192.0.2.7\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for (text, address) in [
            ("127.0.0.1:8125", "127.0.0.1:8125"),
            ("[::1]:8125", "[::1]:8125"),
            (":8125", "[::]:8125"),
            ("*:8125", "[::]:8125"),
            (" 8125 ", "[::]:8125"),
            ("localhost:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse_listen(text).unwrap().to_string(), address, "{text}");
        }
        for text in ["", "0.0.0.0", "::", "[::1]", "example.com:8125", "1.2.3.4:65536", "1.2.3:80", "off"] {
            assert!(parse_listen(text).is_err(), "{text}");
        }
        assert!(parse_listen("10.0.0.1").unwrap_err().cure.contains("10.0.0.1:8125"));
        assert_eq!(parse_listen_or_off("off"), Ok(None));
        assert_eq!(parse_listen_or_off(""), Ok(None));
    }

    #[test]
    fn links_lead_to_pages_and_to_nothing_else() {
        assert_eq!(parse_link_or_none(" "), Ok(None));
        for link in ["https://grafana.example.org/d/x?orgId=1", "http://127.0.0.1:3000"] {
            assert_eq!(parse_link_or_none(link), Ok(Some(link.to_owned())));
        }
        for bad in
            ["javascript:alert(1)", "//grafana", "https://", "https:///x", "https://a b", "grafana:3000"]
        {
            assert!(parse_link_or_none(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations() {
        for (text, destination) in [
            ("graphite", "graphite:2003"),
            ("graphite:9", "graphite:9"),
            ("10.0.0.1", "10.0.0.1:2003"),
            ("::1", "[::1]:2003"),
            ("[::1]", "[::1]:2003"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(parse_destination(text, 2_003).as_deref(), Ok(destination), "{text}");
        }
        for text in
            ["", ":2003", "graphite:", "graphite:0", "graphite:65536", "http://g", "g g", "[::1]9", "[g]:9"]
        {
            assert!(parse_destination(text, 2_003).is_err(), "{text}");
        }
    }

    #[test]
    fn unix_sockets() {
        let unix = |path: &str, stream, mode| Ok(UnixAddress { path: path.into(), stream, mode });
        assert_eq!(parse_unix("/run/a.sock"), unix("/run/a.sock", false, None));
        assert_eq!(parse_unix("unix:/run/a:b"), unix("/run/a:b", false, None));
        assert_eq!(parse_unix("stream:a?mode=0660"), unix("a", true, Some(0o660)));
        for text in ["", "stream:", "a?mode=", "a?mode=888", "a?mode=7777", &"a".repeat(108)] {
            assert!(parse_unix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(parse_network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::1").unwrap().to_string(), "::1/128");
        assert!(parse_network("10.0.0.0/33").is_err());
    }
}
