//! Who may ask: hosts, origins and tokens.

use super::Options;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What the checks need of the configuration.
#[derive(Debug)]
pub(super) struct Access {
    loopback: bool,
    tokens: Vec<String>,
}

impl Access {
    pub(super) fn new(options: &Options) -> Self {
        let loopback = options.listen.is_some_and(|listen| listen.ip().is_loopback());
        Self { loopback, tokens: options.tokens.clone() }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or(b"");
        // All of them are compared, so that the time does not tell which one was near.
        self.tokens.iter().fold(false, |any, token| any | bool::from(token.as_bytes().ct_eq(shown)))
    }
}

/// A page elsewhere can make a browser ask us by a name that leads to loopback: such a request names another
/// host. Asked on other addresses, any name may be ours.
pub(super) async fn hosts(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
    let own_origin = origin.is_none_or(|origin| origin.split_once("://").map(|(_, host)| host) == host);
    if !own_origin || (access.loopback && !host.is_some_and(is_loopback_name)) {
        return (StatusCode::MISDIRECTED_REQUEST, "this host or origin is not served here\n").into_response();
    }
    next.run(request).await
}

/// Strangers show a token: who does not come from this machine, or was forwarded by something on it.
pub(super) async fn tokens(
    State(access): State<Arc<Access>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
    let stranger = forwarded || !peer.ip().to_canonical().is_loopback();
    if stranger && !access.tokens.is_empty() && !access.has_token(headers) {
        let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, ask, "a token is needed (http.tokens)\n").into_response();
    }
    next.run(request).await
}

/// `localhost`, or an address of loopback, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_all_its_names() {
        for host in ["localhost", "LOCALHOST:8127", "127.0.0.1:8127", "127.1.2.3", "[::1]:8127", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8127", "10.0.0.1", "127.0.0.1.evil.example", ""] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
