//! Requests to others over HTTP/1.1, with and without TLS: webhooks, and the stream that `tallyd watch` reads.
//!
//! In come an address, headers and a body; out comes an answer whose body is read up to a bound or piece by piece.
//! Everything ends by a time-out. An address may be a secret in itself, so that none is shown beyond its host.
//! Only this folder names hyper. It knows nothing of what is asked.

mod target;
mod tls;

pub use target::Target;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The name leads nowhere, or nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The certificate is not one that this machine believes, or the like.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// Something else speaks there, or the connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer is larger than was asked for.
    #[error("the answer is too large")]
    TooLarge,
    /// A header or path that cannot be sent.
    #[error("the request cannot be written: {0}")]
    Unsendable(#[from] hyper::http::Error),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query; the target's own where it is empty.
    pub path: &'a str,
    /// Beside those that every request has.
    pub headers: &'a [(&'static str, &'a str)],
    /// Empty for none.
    pub body: &'a [u8],
    /// How long until the answer begins.
    pub patience: Duration,
}

/// An answer; what is left of its body comes through [`Answer::piece`].
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    /// Moves bytes while the body is read.
    connection: JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Answer {
    /// Such as 200.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(bytes) = frame?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// All of the body, if it is no larger and comes in time.
    pub async fn whole(mut self, bytes_max: usize, patience: Duration) -> Result<Vec<u8>, FetchError> {
        let gather = async {
            let mut bytes = Vec::new();
            while let Some(piece) = self.piece().await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() > bytes_max {
                    return Err(FetchError::TooLarge);
                }
            }
            Ok(bytes)
        };
        timeout(patience, gather).await.map_err(|_| FetchError::TimedOut)?
    }
}

/// Asks, over a connection of its own.
pub async fn ask(target: &Target, ask: Ask<'_>) -> Result<Answer, FetchError> {
    timeout(ask.patience, connect_and_ask(target, ask)).await.map_err(|_| FetchError::TimedOut)?
}

async fn connect_and_ask(target: &Target, ask: Ask<'_>) -> Result<Answer, FetchError> {
    let stream = TcpStream::connect((target.host(), target.port())).await.map_err(FetchError::Connect)?;
    // It is an optimisation; without it, small requests take longer.
    stream.set_nodelay(true).ok();
    if target.is_secure() {
        exchange(tls::wrap(stream, target.host()).await?, target, ask).await
    } else {
        exchange(stream, target, ask).await
    }
}

async fn exchange<S>(stream: S, target: &Target, ask: Ask<'_>) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // Whoever reads the body sees the same error.
        connection.await.ok();
    });
    let path = if ask.path.is_empty() { target.path() } else { ask.path };
    let mut request = Request::builder()
        .method(ask.method)
        .uri(path)
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("tallyd/", env!("CARGO_PKG_VERSION")));
    for (name, value) in ask.headers {
        request = request.header(*name, *value);
    }
    let sent = match request.body(Full::new(Bytes::copy_from_slice(ask.body))) {
        Ok(request) => sender.send_request(request).await,
        Err(error) => {
            connection.abort();
            return Err(error.into());
        }
    };
    match sent {
        Ok(response) => Ok(Answer { response, connection }),
        Err(error) => {
            connection.abort();
            Err(error.into())
        }
    }
}
