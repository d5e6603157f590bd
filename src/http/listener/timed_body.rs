//! The body of a request, which must arrive in time.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::listener::ConnectionLimits;

/// The body did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub(crate) struct BodyTimedOut;

/// A body that is an error once its time is over, in all or since its last part.
pub(super) struct TimedBody {
    inner: Incoming,
    limits: ConnectionLimits,
    deadline: Instant,
    /// While it is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, limits: ConnectionLimits) -> Self {
        Self { inner, limits, deadline: Instant::now() + limits.body, waiting: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.waiting = None;
            // Many small parts are no progress either.
            let is_late = frame.is_some() && Instant::now() > self.deadline;
            return Poll::Ready(if is_late { Some(Err(BodyTimedOut.into())) } else { frame.map(|frame| Ok(frame?)) });
        }
        let deadline = self.deadline.min(Instant::now() + self.limits.stall_timeout);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(BodyTimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
