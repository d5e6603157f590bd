//! What happens to every request around its operation: an id, a span, a time limit, and a floor under panics. Logs
//! hold method, path pattern, status and latency, never headers or bodies.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use tracing::field::Empty;

use crate::http::Api;
use crate::http::control;
use crate::http::errors::{ApiError, ErrorBody};
use crate::runtime::randomness::Randomness;

/// `operations` with all of it around them.
pub fn with_request_layers(operations: Router, api: Api) -> Router {
    operations
        .layer(CatchPanicLayer::custom(handle_panic))
        .layer(middleware::from_fn_with_state(api.request_timeout.duration(), limit_time))
        .layer(middleware::from_fn_with_state(api.randomness, trace_request))
}

/// Runs the request in a span of its own, and makes every 500 tell its id and nothing else.
async fn trace_request(State(randomness): State<Randomness>, request: Request, next: Next) -> Response {
    let id = request_id(&request, &randomness);
    let path = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id, method = %request.method(), path, actor = Empty);
    async move {
        let quiet = is_frequent_poll(request.method(), &path);
        let start = Instant::now();
        let mut response = next.run(request).await;
        let (status, latency) = (response.status().as_u16(), start.elapsed());
        if quiet && !response.status().is_server_error() {
            tracing::debug!(status, ?latency, "answered");
        } else {
            tracing::info!(status, ?latency, "answered");
        }
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            response = (StatusCode::INTERNAL_SERVER_ERROR, Json(ErrorBody::internal(&id))).into_response();
        }
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}

/// Whether a request is repeated again and again by those who wait or watch: it would drown the log.
fn is_frequent_poll(method: &Method, path: &str) -> bool {
    method == Method::GET && PROBES.contains(&path) || control::is_poll(method, path)
}

async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(limit, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::TimedOut.into_response())
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands in the box")]
fn handle_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without words"), "an operation panicked; this is a defect of autocertd");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// The id that the client or a proxy gave, where it is one that may stand in a log; else a new one.
fn request_id(request: &Request, randomness: &Randomness) -> String {
    let given = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    given.filter(|id| is_valid_request_id(id)).map_or_else(|| randomness.uuid().to_string(), ToOwned::to_owned)
}

fn is_valid_request_id(id: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_LENGTH: usize = 64;
/// Asked every few seconds: they stay out of the log unless someone debugs.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];
