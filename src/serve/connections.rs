//! Connections to HTTP: taken in, counted, and given up when their peer takes nothing any more.
//!
//! hyper is driven by hand, since ten thousand streams are to stand open at a time: with small buffers one costs
//! little more than its task. What a peer does not acknowledge for a while ends its connection in the kernel, which
//! needs no timer of ours for each; one that sends no request in time ends too.

use super::access::Peer;
use super::live::{Full, Guest, Guests};
use crate::health::Books;
use crate::tls::Tls;
use crate::{limits, sys};
use axum::Router;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tower_service::Service as _;

/// Pause after the system refused a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections for ever.
pub(super) async fn serve(listener: TcpListener, router: Router, tls: Option<Arc<Tls>>, books: Arc<Books>) {
    let guests = Guests::new(limits::HTTP_CONNECTIONS_MAX, limits::HTTP_CONNECTIONS_PER_ADDRESS_MAX);
    tokio::spawn(give_memory_back(guests.clone()));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "no connection is taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Whoever finds no place is hung up on: waiting in the kernel's queue would hold up everybody.
        let Some(guest) = enter(&guests, peer.ip(), &books) else { continue };
        prepare(&stream);
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => attend(stream, peer, router).await,
                // In a box: a task is as large as the largest it may become, and ten thousand plain ones wait here.
                Some(tls) => Box::pin(attend_secure(tls, stream, peer, router)).await,
            }
            drop(guest);
        });
    }
}

/// A place for a connection from there, if there is one; who finds none is in the books.
fn enter(guests: &Guests, peer: IpAddr, books: &Books) -> Option<Guest> {
    let refused = match guests.admit(counted(peer)) {
        Ok(guest) => return Some(guest),
        Err(Full::All) => &books.http_refused,
        Err(Full::Address) => &books.http_refused_of_sender,
    };
    refused.fetch_add(1, Ordering::Relaxed);
    None
}

/// Whoever shakes no hands in time has had a place for as long.
async fn attend_secure(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr, router: Router) {
    match tls.accept(stream).await {
        Ok(stream) => attend(stream, peer, router).await,
        Err(error) => tracing::trace!(%error, "no handshake"),
    }
}

/// Answers the requests of one connection.
async fn attend(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr, router: Router) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        router.clone().call(request.map(|body| Timed { body, until: None }))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_SECS))
        .max_buf_size(limits::HTTP_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::trace!(%error, "a connection ended");
    }
}

/// The body of a request, which has its time as the head has: the clock runs while somebody waits for it.
struct Timed {
    body: Incoming,
    until: Option<Pin<Box<Sleep>>>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = Duration::from_secs(limits::HTTP_BODY_SECS);
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        until.as_mut().poll(context).map(|()| Some(Err("the body did not come in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// After many have left, such as at the end of a day: the allocator would keep their memory for those that come.
async fn give_memory_back(guests: Guests) {
    let mut most = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(limits::HTTP_GONE_MS)).await;
        let here = guests.count();
        most = most.max(here);
        if most - here >= limits::HTTP_CONNECTIONS_GONE {
            most = here;
            tokio::task::spawn_blocking(sys::give_memory_back).await.ok();
        }
    }
}

/// This machine, and a proxy on it, are under the total alone.
fn counted(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    (!peer.is_loopback()).then_some(peer)
}

/// A setting that the system does not know is done without.
fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).ok();
    setsockopt(stream, sockopt::TcpUserTimeout, &limits::HTTP_UNREAD_MS).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::read;

    #[test]
    fn who_finds_no_place_is_counted_with_the_reason() {
        let (guests, books) = (Guests::new(3, 1), Books::default());
        let [away, here] = ["192.0.2.1", "::ffff:127.0.0.1"].map(|address| address.parse().unwrap());
        let _first = enter(&guests, away, &books).unwrap();
        assert!(enter(&guests, away, &books).is_none());
        let _ours = [(); 2].map(|()| enter(&guests, here, &books).unwrap());
        assert!(enter(&guests, here, &books).is_none(), "all places are taken");
        assert_eq!((read(&books.http_refused), read(&books.http_refused_of_sender)), (1, 1));
    }
}
