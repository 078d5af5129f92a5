//! Where a request goes: `https://host:port/path`, taken apart.

use std::fmt;

/// An address whose path may be a secret, as that of a webhook is: it is shown as far as its host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Reads an address; the error says what is wrong with it and never what it is.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err("the address does not begin with http:// or https://"),
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the address has blanks or letters that are not ASCII in it");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("the address has a user in it, which is not supported");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or("the address has a [ without a ]")?;
                (host, port.strip_prefix(':'))
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err("the address has no host");
        }
        let usual = if secure { 443 } else { 80 };
        let port = port.map_or(Ok(usual), |port| port.parse().map_err(|_| "the port is no number"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, host: host.to_owned(), port, path })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name or an address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as the header has them.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let path = if self.path == "/" { "" } else { "/…" };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_never_shown_whole() {
        let slack = Target::parse("https://hooks.slack.com/services/T0/B0/secret").unwrap();
        assert_eq!((slack.host(), slack.port(), slack.is_secure()), ("hooks.slack.com", 443, true));
        assert_eq!(slack.path(), "/services/T0/B0/secret");
        assert_eq!(format!("{slack} {slack:?}"), "https://hooks.slack.com/… https://hooks.slack.com/…");
        let local = Target::parse("http://[::1]:8127?page=/").unwrap();
        assert_eq!((local.host(), local.port(), local.path()), ("::1", 8127, "/?page=/"));
        assert_eq!(local.authority(), "[::1]:8127");
        for wrong in
            ["", "hooks.slack.com/x", "ftp://x", "http://", "http://u:p@x/", "http://x:y/", "http://x/ä"]
        {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
