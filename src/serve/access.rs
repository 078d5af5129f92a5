//! Who asks, and what that lets them do: settled here for every request, before it reaches a route.
//!
//! ```text
//!   a request ─▶ identify: another host or origin ─▶ 421
//!                          who: on this machine, or with a token ─▶ Admin
//!                               with the cookie of a share link  ─▶ Guest
//!                               all others                       ─▶ Stranger
//!             ─▶ admit:    Admin        everything
//!                          Guest        reads its page, its stream and its figures (links.rs), and nothing else
//!                          Stranger     reads, where neither a token nor a link is configured; changes nothing
//! ```
//!
//! What changes something is told from what reads by its method alone: no route changes anything when it is asked with
//! GET or HEAD. Being on this machine is a direct connection over loopback to a name of loopback, with no trace of a
//! proxy in it; `http.trust_loopback` says whether that is enough.

use super::Options;
use super::links::{Link, Links};
use super::tokens::Tokens;
use crate::clock::Clock;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Headers that proxies leave behind, besides all that begin with `x-forwarded`: who has one was forwarded.
const OF_PROXIES: [&str; 11] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "cdn-loop",
];

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks. Every request carries one as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Nobody we know.
    Stranger,
    /// Who holds these share links, at least one.
    Guest(Vec<Arc<Link>>),
    /// Who may do everything.
    Admin,
}

/// What the checks need of the configuration.
#[derive(Debug)]
pub(super) struct Access {
    /// Only names of loopback are ours.
    loopback: bool,
    trust_loopback: bool,
    tokens: Arc<Tokens>,
    links: Arc<Links>,
    clock: Clock,
}

impl Access {
    pub(super) fn new(options: &Options, tokens: Arc<Tokens>, links: Arc<Links>, clock: Clock) -> Self {
        let loopback = options.listen.is_some_and(|listen| listen.ip().is_loopback());
        Self { loopback, trust_loopback: options.trust_loopback, tokens, links, clock }
    }

    /// Whether strangers are shown nothing: somebody was given a token or a link, and so others are not meant.
    fn is_closed(&self) -> bool {
        self.tokens.are_set() || !self.links.are_none()
    }

    /// A page elsewhere can make a browser ask us by a name that leads to us: such a request names another host.
    /// Asked on other addresses than loopback, any name may be ours.
    fn is_misdirected(&self, uri: &Uri, method: &Method, headers: &HeaderMap) -> bool {
        let Ok(host) = the_one(headers, &header::HOST) else { return true };
        let Ok(origin) = the_one(headers, &header::ORIGIN) else { return true };
        let other_target = uri.authority().is_some_and(|asked| Some(asked.as_str()) != host);
        let other_origin = origin.is_some_and(|origin| {
            let of = origin.split_once("://").map(|(_, host)| host);
            of.is_none() || of != host
        });
        let other_site = changes(method)
            && headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
        let other_host = self.loopback && !host.is_some_and(is_loopback_name);
        other_target || other_origin || other_site || other_host
    }

    fn who(&self, peer: SocketAddr, headers: &HeaderMap) -> Who {
        let here = self.trust_loopback
            && peer.ip().to_canonical().is_loopback()
            && matches!(the_one(headers, &header::HOST), Ok(Some(host)) if is_loopback_name(host))
            && !is_forwarded(headers);
        if here || bearer(headers).is_some_and(|shown| self.tokens.know(shown)) {
            return Who::Admin;
        }
        match self.links.shown(headers, self.clock.now()) {
            links if links.is_empty() => Who::Stranger,
            links => Who::Guest(links),
        }
    }
}

/// Finds out who asks, and turns away who means somebody else.
pub(super) async fn identify(
    State(access): State<Arc<Access>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if access.is_misdirected(request.uri(), request.method(), request.headers()) {
        return (StatusCode::MISDIRECTED_REQUEST, "this host or origin is not served here\n").into_response();
    }
    let who = access.who(peer, request.headers());
    request.extensions_mut().insert(who);
    next.run(request).await
}

/// Lets in who may do what they ask for.
pub(super) async fn admit(
    State(access): State<Arc<Access>>,
    Extension(who): Extension<Who>,
    request: Request,
    next: Next,
) -> Response {
    let closed = access.is_closed();
    let reads = !changes(request.method());
    let may = match &who {
        Who::Admin => true,
        Who::Guest(_) => reads && is_for_guests(request.uri().path()),
        Who::Stranger => reads && !closed,
    };
    if may {
        next.run(request).await
    } else if matches!(who, Who::Guest(_)) {
        (StatusCode::FORBIDDEN, "a share link shows its page, and nothing else\n").into_response()
    } else if closed {
        let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
        let said = "a token is needed: Authorization: Bearer TOKEN (http.tokens)\n";
        (StatusCode::UNAUTHORIZED, ask, said).into_response()
    } else {
        (StatusCode::FORBIDDEN, NO_TOKEN).into_response()
    }
}

const NO_TOKEN: &str = "this would change something, and who is not on this machine or was forwarded needs a token for \
                        that; none is set here. `tallyd token` prints one and its hash: put the hash into http.tokens \
                        (TALLYD_HTTP_TOKENS), send tallyd a SIGHUP, and ask again with Authorization: Bearer TOKEN\n";

/// The routes that see who asks, and show guests what their links do.
fn is_for_guests(path: &str) -> bool {
    matches!(path, "/" | "/api/v1/live" | "/api/v1/live.json" | "/api/v1/query")
        || path.starts_with("/live/")
        || path.starts_with("/assets/")
}

/// What only reads has one of these methods.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| OF_PROXIES.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded"))
}

/// The value of a header that may stand there once: two of them may be read one by us and one by a proxy.
fn the_one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        _ => Err(()),
    }
}

/// What is shown behind `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = shown.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// `localhost`, or an address of loopback, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').unwrap_or((v6, "?")),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
    let is_loopback =
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_port && is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tokens::Token;
    use axum::http::HeaderValue;

    const HERE: &str = "127.0.0.1:40000";

    fn access(listen: &str, trust_loopback: bool, tokens: &[&str]) -> Access {
        let tokens = tokens.iter().map(|token| Token::of(token.as_bytes())).collect();
        let options =
            Options { listen: Some(listen.parse().unwrap()), trust_loopback, tokens, ..Options::default() };
        let tokens = Tokens::load(&options).unwrap();
        Access::new(&options, Arc::new(tokens), Arc::default(), Clock::system())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn loopback_is_known_by_all_its_names() {
        for host in ["localhost", "LOCALHOST:8127", "127.0.0.1:8127", "127.1.2.3", "[::1]:8127", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8127",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            "localhost:8127.evil.example",
            "localhost:80@evil.example",
            "[::1].evil.example",
            "[::1",
            "",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn an_admin_is_here_directly_or_shows_a_token() {
        let host = ("host", "localhost:8127");
        for listen in ["127.0.0.1:8127", "0.0.0.0:8127"] {
            let (open, shut) = (access(listen, true, &[]), access(listen, false, &["right"]));
            let who = |access: &Access, peer: &str, pairs: &[(&'static str, &str)]| {
                access.who(peer.parse().unwrap(), &headers(pairs))
            };
            for peer in [HERE, "[::1]:40000", "[::ffff:127.0.0.1]:40000"] {
                assert_eq!(who(&open, peer, &[host]), Who::Admin, "{peer}");
                assert_eq!(who(&shut, peer, &[host]), Who::Stranger, "{peer}");
            }
            for peer in ["10.0.0.1:40000", "[2001:db8::1]:40000", "[::ffff:10.0.0.1]:40000"] {
                assert_eq!(who(&open, peer, &[host]), Who::Stranger, "{peer}");
                for shown in ["Bearer right", "bearer right", "BEARER right"] {
                    assert_eq!(who(&shut, peer, &[("authorization", shown)]), Who::Admin, "{shown}");
                }
                for shown in
                    ["Bearer wrong", "Bearer right ", "Bearer ", "Bearer", "right", "Basic right", ""]
                {
                    assert_eq!(who(&shut, peer, &[("authorization", shown)]), Who::Stranger, "{shown}");
                }
            }
            for header in
                OF_PROXIES.into_iter().chain(["x-forwarded-for", "x-forwarded-proto", "x-forwarded"])
            {
                assert_eq!(who(&open, HERE, &[host, (header, "1")]), Who::Stranger, "{header}");
            }
            // A page elsewhere may have made a browser on this machine ask.
            for host in ["evil.example", "evil.example:8127", "tallyd.example:8127"] {
                assert_eq!(who(&open, HERE, &[("host", host)]), Who::Stranger, "{host}");
            }
            assert_eq!(who(&open, HERE, &[]), Who::Stranger);
            assert_eq!(who(&open, HERE, &[host, ("host", "evil.example")]), Who::Stranger);
        }
    }

    #[test]
    fn who_means_another_host_or_comes_from_another_origin_is_turned_away() {
        let (near, far) = (access("127.0.0.1:8127", true, &[]), access("0.0.0.0:8127", true, &[]));
        let asked = |access: &Access, method: Method, uri: &str, pairs: &[(&'static str, &str)]| {
            access.is_misdirected(&uri.parse().unwrap(), &method, &headers(pairs))
        };
        let (ours, name) = (("host", "localhost:8127"), ("host", "tallyd.example:8127"));
        assert!(!asked(&near, Method::GET, "/", &[ours]));
        assert!(asked(&near, Method::GET, "/", &[name]) && asked(&near, Method::GET, "/", &[]));
        assert!(!asked(&far, Method::GET, "/", &[name]) && !asked(&far, Method::GET, "/", &[]));
        for access in [&near, &far] {
            assert!(!asked(access, Method::GET, "/", &[ours, ("origin", "http://localhost:8127")]));
            assert!(!asked(access, Method::GET, "http://localhost:8127/", &[ours]));
            assert!(asked(access, Method::GET, "http://evil.example/", &[ours]));
            for origin in
                ["http://evil.example", "http://localhost", "http://localhost:8127.evil.example", "null", ""]
            {
                assert!(asked(access, Method::GET, "/", &[ours, ("origin", origin)]), "{origin}");
            }
            // A browser that names no host names no origin that is ours either.
            assert!(asked(access, Method::POST, "/", &[("origin", "null")]));
            assert!(asked(access, Method::GET, "/", &[ours, name]), "two hosts");
            for (site, fine) in
                [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
            {
                let pairs = [ours, ("sec-fetch-site", site)];
                assert_eq!(asked(access, Method::POST, "/", &pairs), !fine, "{site}");
                assert!(!asked(access, Method::GET, "/", &pairs), "a link from elsewhere leads here");
            }
        }
    }
}
