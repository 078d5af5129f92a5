//! The body of one stream: asks for the newest frame whenever the connection has room for it.

use super::frame::Frame;
use super::places::Place;
use bytes::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::watch;

type Frames = watch::Receiver<Arc<Frame>>;
/// Gives the channel back once there is something new in it; `None` is the end.
type Wait = Pin<Box<dyn Future<Output = Option<Frames>> + Send>>;

/// See the module.
pub(super) struct LiveBody {
    wait: Wait,
    seen: Option<u64>,
    _place: Place,
}

impl LiveBody {
    pub(super) fn new(frames: Frames, place: Place) -> Self {
        Self { wait: Box::pin(async { Some(frames) }), seen: None, _place: place }
    }
}

impl http_body::Body for LiveBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let Some(mut frames) = ready!(self.wait.as_mut().poll(context)) else { return Poll::Ready(None) };
        let frame = Arc::clone(&frames.borrow_and_update());
        let bytes = frame.after(self.seen);
        self.seen = Some(frame.version());
        self.wait = Box::pin(async move { frames.changed().await.is_ok().then_some(frames) });
        Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
    }
}
