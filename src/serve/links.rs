//! Share links: who holds one sees one page, less what is hidden, until it expires or is revoked.
//!
//! ```text
//!   GET /link/TOKEN ─▶ 303 to the page, with the token as a cookie that no script reads
//!   GET / with that cookie ─▶ the page as figures::shared draws it
//! ```
//!
//! A link is known by the hash of its token. The address with the token in it is left at once, so that no history,
//! screen or Referer keeps it, and nothing logs it.

use super::tokens::Token;
use crate::clock::WallMs;
use crate::figures::PageState;
use crate::figures::{hidden, shared};
use arc_swap::ArcSwap;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What the name of a cookie begins with; behind it stand digits of the token's hash, so that a browser can hold
/// several links.
const COOKIE: &str = "tallyd-link-";
/// Cookies of ours that are looked at in a request.
const COOKIES_MAX: usize = 16;
/// A browser keeps no cookie longer, in seconds.
const COOKIE_SECS_MAX: i64 = 400 * 86_400;

/// One `[[link]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRules {
    /// What it is called.
    pub name: String,
    /// The page's path.
    pub page: String,
    /// What its holder shows.
    pub token: Token,
    /// From then on it is worth nothing; `None` is never.
    pub expires: Option<WallMs>,
    /// Ids that are hidden, as they were written.
    pub hide: Vec<String>,
    /// All ids that are hidden because of them.
    pub hidden: BTreeSet<String>,
}

impl LinkRules {
    /// Works out what is hidden of these figures.
    #[must_use]
    pub fn over(mut self, figures: &[crate::figures::FigureRules]) -> Self {
        self.hidden = hidden(figures, &self.hide);
        self
    }
}

/// A link at work.
#[derive(Debug)]
pub(super) struct Link {
    rules: LinkRules,
    /// When it was used last, in milliseconds since 1970; 0 is never. Nothing is ordered by it.
    used: AtomicI64,
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Link {}

impl Link {
    pub(super) fn is_of(&self, page: &str) -> bool {
        self.rules.page == page
    }

    pub(super) fn page(&self) -> &str {
        &self.rules.page
    }

    /// The page as its holder sees it.
    pub(super) fn view(&self, state: &PageState) -> PageState {
        shared(state, &self.rules.hidden)
    }

    fn is_over(&self, now: WallMs) -> bool {
        self.rules.expires.is_some_and(|expires| now >= expires)
    }
}

/// A link in `/api/v1/status`.
#[derive(Serialize)]
pub(super) struct LinkStatus {
    name: String,
    page: String,
    hide: Vec<String>,
    /// In milliseconds since 1970.
    expires_ms: Option<WallMs>,
    expired: bool,
    /// Likewise; null if never since the start.
    last_used_ms: Option<WallMs>,
}

/// The links that hold now: a reload replaces all of them, so that one that is left out is worth nothing any more.
#[derive(Debug, Default)]
pub struct Links(ArcSwap<Vec<Arc<Link>>>);

impl Links {
    /// Those of the configuration.
    #[must_use]
    pub fn new(rules: &[LinkRules]) -> Self {
        let links = Self::default();
        links.reload(rules, true);
        links
    }

    /// Takes over what the configuration says now; what stays as it was goes on. Where that speaks of other figures
    /// than those that are shown, it can only take links away.
    pub fn reload(&self, rules: &[LinkRules], fit: bool) {
        let before = self.0.load();
        if !fit {
            let stays = |link: &&Arc<Link>| rules.iter().any(|rules| rules.token == link.rules.token);
            return self.0.store(Arc::new(before.iter().filter(stays).cloned().collect()));
        }
        let link = |rules: &LinkRules| {
            let same = before.iter().find(|link| link.rules == *rules).cloned();
            same.unwrap_or_else(|| Arc::new(Link { rules: rules.clone(), used: AtomicI64::new(0) }))
        };
        self.0.store(Arc::new(rules.iter().map(link).collect()));
    }

    /// The link of a token, if it is not over. All are compared, so that the time does not tell which one was near.
    fn find(&self, shown: &[u8], now: WallMs) -> Option<Arc<Link>> {
        let shown = Token::of(shown);
        let links = self.0.load();
        let found = links
            .iter()
            .fold(None, |found, link| if link.rules.token.is(&shown) { Some(link) } else { found });
        let link = found.filter(|link| !link.is_over(now))?;
        link.used.store(now, Ordering::Relaxed);
        Some(Arc::clone(link))
    }

    /// The links whose tokens a request shows as cookies.
    pub(super) fn shown(&self, headers: &HeaderMap, now: WallMs) -> Vec<Arc<Link>> {
        if self.0.load().is_empty() {
            return Vec::new();
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let ours = pairs.filter(|(name, _)| name.starts_with(COOKIE)).take(COOKIES_MAX);
        ours.filter_map(|(_, token)| self.find(token.as_bytes(), now)).collect()
    }

    /// Whether there are none.
    pub(super) fn are_none(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whether a link holds still.
    pub(super) fn hold(&self, link: &Arc<Link>, now: WallMs) -> bool {
        !link.is_over(now) && self.0.load().iter().any(|own| Arc::ptr_eq(own, link))
    }

    pub(super) fn status(&self, now: WallMs) -> Vec<LinkStatus> {
        let status = |link: &Arc<Link>| {
            let used = link.used.load(Ordering::Relaxed);
            LinkStatus {
                name: link.rules.name.clone(),
                page: link.rules.page.clone(),
                hide: link.rules.hide.clone(),
                expires_ms: link.rules.expires,
                expired: link.is_over(now),
                last_used_ms: (used > 0).then_some(used),
            }
        };
        self.0.load().iter().map(status).collect()
    }
}

/// `GET /link/TOKEN`: the token becomes a cookie, and the address is left.
pub(super) async fn enter(
    State(server): State<Arc<super::Server>>,
    Path(token): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let now = server.clock.now();
    let mut response = match server.links.find(token.as_bytes(), now) {
        None => (StatusCode::NOT_FOUND, "this link leads nowhere: it may have expired\n").into_response(),
        Some(link) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let forwarded = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
            let secure = forwarded || server.tls.is_some();
            let cookie = cookie(&token, &link, now, secure);
            let place = [(header::LOCATION, format!("{}{query}", link.page())), (header::SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, place).into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lax, and not strict: a link is followed from a chat or a mail, and the page behind the redirect has to see it.
fn cookie(token: &str, link: &Link, now: WallMs, secure: bool) -> String {
    let left = link.rules.expires.map_or(COOKIE_SECS_MAX, |expires| (expires - now) / 1_000);
    let hash = link.rules.token.hashed();
    let name = hash.rsplit(':').next().and_then(|hash| hash.get(..8)).unwrap_or_default();
    format!(
        "{COOKIE}{name}={token}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{}",
        left.clamp(1, COOKIE_SECS_MAX),
        if secure { "; Secure" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, hide: &[&str]) -> LinkRules {
        LinkRules {
            name: name.to_owned(),
            page: "/".to_owned(),
            token: Token::of(name.as_bytes()),
            expires: Some(1_000),
            hide: hide.iter().map(|id| (*id).to_owned()).collect(),
            hidden: hide.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn a_reload_revokes_and_of_other_figures_shows_nothing_more() {
        let links = Links::new(&[rules("a", &["revenue"]), rules("b", &[])]);
        let [a, b] = [b"a", b"b"].map(|token| links.find(token, 999).unwrap());
        assert!(links.find(b"c", 1).is_none() && links.find(b"a", 1_000).is_none(), "unknown, and expired");
        // What is hidden is hidden by ids that other figures may have: the old rules stay.
        links.reload(&[rules("a", &[]), rules("c", &[])], false);
        assert!(links.hold(&a, 999) && !links.hold(&b, 999) && links.find(b"c", 1).is_none());
        assert_eq!(links.find(b"a", 5).unwrap().rules.hide, ["revenue"]);
        links.reload(&[rules("a", &[]), rules("c", &[])], true);
        assert!(!links.hold(&a, 1), "it shows something else now");
        assert!(links.find(b"a", 5).unwrap().rules.hide.is_empty() && links.find(b"c", 1).is_some());
        assert_eq!(links.status(7)[0].last_used_ms, Some(5));
        links.reload(&[rules("a", &[])], true);
        assert_eq!(links.status(7)[0].last_used_ms, Some(5), "what stays goes on");
    }
}
