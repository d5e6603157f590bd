//! The body of a response, which goes out in small parts, so that little is held for a client that does not read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body as ResponseBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::http::listener::activity::ConnectionActivity;

/// A request until its response is handed over.
pub(super) struct RunningRequest {
    activity: Arc<ConnectionActivity>,
    number: u64,
    is_complete: bool,
    request_slot: Option<OwnedSemaphorePermit>,
}

impl RunningRequest {
    pub(super) fn begin(activity: &Arc<ConnectionActivity>, is_http2: bool) -> Self {
        Self {
            activity: Arc::clone(activity),
            number: activity.begin_request(is_http2),
            is_complete: false,
            request_slot: None,
        }
    }

    pub(super) fn set_request_slot(&mut self, turn: OwnedSemaphorePermit) {
        self.request_slot = Some(turn);
    }

    /// No body is sent, so that none is read to its end.
    pub(super) const fn expect_no_body(&mut self) {
        self.is_complete = true;
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.activity.end_request(self.number, self.is_complete, self.request_slot.take(), Instant::now());
    }
}

/// The body of a response in small parts, which tells the activity of the connection how fast they are taken.
pub(super) struct PacedBody {
    inner: ResponseBody,
    /// What is left of the last part.
    rest: Bytes,
    running: RunningRequest,
}

impl PacedBody {
    pub(super) fn new(inner: ResponseBody, mut running: RunningRequest) -> Self {
        running.is_complete |= inner.is_end_stream();
        Self { inner, rest: Bytes::new(), running }
    }

    fn next_part(&mut self) -> Frame<Bytes> {
        let part = self.rest.split_to(self.rest.len().min(MAX_PART_SIZE));
        self.running.activity.note_part_sent(self.running.number, part.len(), Instant::now());
        self.running.is_complete |= self.is_end_stream();
        Frame::data(part)
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.running.activity.note_client_ready(self.running.number, Instant::now());
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_part())));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => {
                // Where the body fails, that is not the client's doing.
                self.running.is_complete = true;
                return Poll::Ready(end);
            }
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(bytes) => {
                self.rest = bytes;
                self.next_part()
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

const MAX_PART_SIZE: usize = 8 * 1024;
