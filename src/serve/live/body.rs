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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::PageState;
    use crate::serve::live::places::Places;
    use http_body::Body as _;
    use std::task::Waker;

    fn state(version: u64) -> Arc<PageState> {
        Arc::new(PageState { version, ..PageState::default() })
    }

    /// What the connection sends when it has room now; `None` while there is nothing to send.
    fn next(body: &mut LiveBody) -> Option<String> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => {
                let bytes = frame.unwrap().unwrap().into_data().unwrap();
                Some(String::from_utf8(bytes.to_vec()).unwrap())
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn whoever_is_slow_gets_the_newest_state_and_no_queue() {
        let first = Arc::new(Frame::first(state(1), 0));
        let sender = watch::Sender::new(first);
        let mut body = LiveBody::new(sender.subscribe(), Places::new().take(None).unwrap());
        let publish = |next: Frame| {
            sender.send_replace(Arc::new(next));
        };
        let now = || Arc::clone(&sender.borrow());
        assert!(next(&mut body).unwrap().starts_with("event: state\ndata: {\"version\":1,"));
        assert_eq!(next(&mut body), None);
        // In time: a change, even where a beat came since.
        publish(now().changed(state(2), 0));
        publish(now().beat(1_000));
        assert!(next(&mut body).unwrap().starts_with("event: change\ndata: {\"since\":1,\"version\":2,"));
        publish(now().beat(2_000));
        assert_eq!(next(&mut body).unwrap(), "event: beat\ndata: {\"at_ms\":2000}\n\n");
        // Too late for two changes: all of the last one, and nothing after it.
        for version in 3..6 {
            publish(now().changed(state(version), 0));
        }
        assert!(next(&mut body).unwrap().starts_with("event: state\ndata: {\"version\":5,"));
        assert_eq!(next(&mut body), None);
        // The end of the page is the end of the stream.
        drop(sender);
        let end = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(end, Poll::Ready(None)));
    }
}
