//! Requests that write go on to their end, also where their client leaves: axum drops a handler with its connection, and
//! what follows a write (a second one, the wake of the scheduler) would be left undone.

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::http::errors::ApiError;

/// Runs what may write in a task of its own.
pub(super) async fn run_detached(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let answered = tokio::spawn(next.run(request).in_current_span()).await;
    answered.unwrap_or_else(|panic| ApiError::Panicked(panic).into_response())
}
