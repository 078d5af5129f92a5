//! HTTP: the pages of figures, health, status, queries and our own counters for Prometheus. Only this folder names
//! axum and hyper.
//!
//! Who asks is settled in one place (`access.rs`) before anything else. Loopback is not trust: a request that names
//! another host or comes from another origin is turned away, and one that was forwarded is a stranger's. Strangers show a
//! token where tokens are configured, and change nothing without one in any case. No GET changes anything.

mod access;
mod connections;
mod guest;
pub mod links;
mod live;
mod marks;
mod number;
mod page;
mod process;
mod prometheus;
mod query;
mod samples;
mod series;
mod status;
pub mod tokens;

pub use page::drawn;
pub use status::GraphiteStatus;

use crate::aggregate::Totals;
use crate::aggregate::request::{Lines, Request};
use crate::clock::Clock;
use crate::figures::{Engine, PageState};
use crate::health::{Books, NoticeCounts};
use crate::limits;
use crate::metric::Kind;
use crate::store::Store;
use crate::tls::Tls;
use access::Access;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use links::{LinkRules, Links};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokens::{Token, Tokens};
use tokio::net::TcpListener;

/// Where HTTP is served, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key, independent of the others")]
pub struct Options {
    /// `http.listen`; `None` is off.
    pub listen: Option<SocketAddr>,
    /// Whether tallyd cannot do without it. In statsd's dialect the default address is only tried: two of
    /// statsd's files for one machine know nothing of our port.
    pub required: bool,
    /// `http.tokens`: what strangers must show.
    pub tokens: Vec<Token>,
    /// `http.token_files`: files with more of them.
    pub token_files: Vec<PathBuf>,
    /// `http.trust_loopback`: whether a direct request from this machine needs none.
    pub trust_loopback: bool,
    /// `http.tls`: whether connections speak TLS.
    pub tls: bool,
    /// `http.series`: whether the business series are shown to Prometheus.
    pub series: bool,
    /// `http.series_max`: how many of them at most.
    pub series_max: usize,
    /// `http.grafana`: the dashboard that figures link to.
    pub grafana: Option<String>,
    /// `http.numbers`: figures that anybody may embed.
    pub numbers: Vec<String>,
    /// `[[link]]`: who sees a page without a token.
    pub links: Vec<LinkRules>,
}

impl Options {
    /// Whether strangers may show anything at all.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !(self.tokens.is_empty() && self.token_files.is_empty())
    }
}

/// What HTTP is answered from.
pub struct Server {
    /// The time.
    pub clock: Clock,
    /// When the program started, in milliseconds since 1970.
    pub started_ms: i64,
    /// Our own counters.
    pub books: Arc<Books>,
    /// For its promise.
    pub store: Arc<dyn Store>,
    /// Makes a copy of the store, and says where it is or why not.
    pub backup: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// The state of each destination.
    pub graphite: Arc<dyn Fn() -> Vec<GraphiteStatus> + Send + Sync>,
    /// What the business series add up to; `None` where nobody wants to know.
    pub totals: Option<Arc<Totals>>,
    /// What the pages show.
    pub figures: Arc<Engine>,
    /// What became of notices.
    pub notices: Arc<NoticeCounts>,
    /// `http.grafana`: the dashboard that figures link to.
    pub grafana: Option<String>,
    /// What is listened on, in words.
    pub listening: Vec<String>,
    /// Cleared when a stop begins.
    pub ready: Arc<AtomicBool>,
    /// What strangers must show.
    pub tokens: Arc<Tokens>,
    /// What guests must show.
    pub links: Arc<Links>,
    /// Figures that anybody may embed, by id.
    pub numbers: Vec<String>,
    /// TLS, where connections speak it.
    pub tls: Option<Arc<Tls>>,
    /// What the lines of requests are counted with.
    pub lines: Lines,
    /// Hands a request to whoever counts it; `false` where there is no room.
    pub count: Arc<dyn Fn(Request) -> bool + Send + Sync>,
}

impl Server {
    /// Serves connections for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, options: Options) {
        let (tls, books) = (self.tls.clone(), Arc::clone(&self.books));
        let (tokens, links) = (Arc::clone(&self.tokens), Arc::clone(&self.links));
        let access = Arc::new(Access::new(&options, tokens, links, self.clock.clone()));
        let live = live::Live::start(&self);
        let open = Router::new()
            .route("/health/live", get(alive))
            .route("/health/ready", get(ready))
            .route("/link/{token}", get(links::enter))
            .route("/n/{file}", get(number::number));
        let closed = Router::new()
            .route("/", get(page::page))
            .route("/live/{name}", get(page::page))
            .route("/assets/{sum}/{name}", get(page::asset))
            .route("/api/v1", get(index))
            .route("/api/v1/", get(index))
            .route("/api/v1/live", get(live::stream))
            .route("/api/v1/live.json", get(live::once))
            .route("/api/v1/marks", post(marks::put))
            .route("/api/v1/samples", post(samples::put))
            .route("/api/v1/status", get(status_json))
            .route("/api/v1/query", get(query::query))
            .route("/api/v1/series", get(query::series))
            .route("/metrics", get(metrics_text))
            .route("/api/v1/backup", post(make_backup))
            .route("/metrics/series", get(series_text))
            .layer(axum::Extension(query::Room::new()))
            .layer(axum::Extension(samples::Places::new()))
            .layer(axum::Extension(live))
            .layer(DefaultBodyLimit::max(limits::HTTP_BODY_BYTES_MAX))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&access), access::admit));
        let router = open
            .merge(closed)
            .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here; /api/v1/ lists what there is\n") })
            .layer(axum::middleware::from_fn_with_state(access, access::identify))
            .with_state(self);
        connections::serve(listener, router, tls, books).await;
    }

    /// Whether a page's figures are looked at, and what they are made of ticks: only then is the page live.
    fn is_looked_at(&self, state: &PageState) -> bool {
        let tick = self.books.last_tick_ms.load(Ordering::Relaxed).max(self.started_ms);
        let look = state.at_ms.max(self.started_ms);
        self.clock.now() - tick.min(look) < limits::LIVE_STILL_MS
    }
}

async fn index() -> &'static str {
    "tallyd\n\n\
     GET /                the page of figures; /live/NAME is another one\n\
     GET /api/v1/live     ?page=  a page's state as it changes (server-sent events)\n\
     GET /api/v1/live.json  ?page=  the same once\n\
     POST /api/v1/samples  counts lines once for each Idempotency-Key, and answers when they are safe\n\
     POST /api/v1/marks   puts a mark on today's figures: the body is its text\n\
     GET /api/v1/status   the books: received, counted, refused, forwarded (JSON)\n\
     POST /api/v1/backup  makes a copy of the store and says where it is\n\
     GET /api/v1/query    ?name=&from=&to=&step=&stat=&by=  points of series (JSON or CSV)\n\
     GET /api/v1/series   ?match=  which series there are (JSON or CSV)\n\
     GET /metrics         the books for Prometheus\n\
     GET /metrics/series  the business series for Prometheus, where http.series is on\n\
     GET /n/FIGURE.svg    one number, to be embedded, where http.numbers names it\n\
     GET /link/TOKEN      a share link: the page that it shows\n\
     GET /health/live     200 while the program works\n\
     GET /health/ready    200 while it takes lines in\n"
}

async fn alive(State(server): State<Arc<Server>>) -> Response {
    let last = server.books.last_tick_ms.load(Ordering::Relaxed).max(server.started_ms);
    if server.clock.now() - last < limits::STUCK_MS {
        "live\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stuck: no tick for ten seconds\n").into_response()
    }
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n").into_response()
    }
}

async fn status_json(State(server): State<Arc<Server>>) -> Response {
    let body = serde_json::to_string_pretty(&status::status(&server)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

/// A copy takes as long as the disk does, so it is made beside the requests.
async fn make_backup(State(server): State<Arc<Server>>) -> Response {
    let backup = Arc::clone(&server.backup);
    match tokio::task::spawn_blocking(move || backup()).await {
        Ok(Ok(path)) => (path + "\n").into_response(),
        Ok(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the copy could not be made\n").into_response(),
    }
}

async fn metrics_text(State(server): State<Arc<Server>>) -> Response {
    (PROMETHEUS, prometheus::render(&server)).into_response()
}

const PROMETHEUS: [(header::HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

async fn series_text(State(server): State<Arc<Server>>) -> Response {
    let Some(totals) = &server.totals else {
        return (StatusCode::NOT_FOUND, "off: http.series = true turns it on\n").into_response();
    };
    match server.store.present(Kind::Gauge) {
        Ok(gauges) => (PROMETHEUS, series::render(totals, &gauges, server.clock.now())).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
