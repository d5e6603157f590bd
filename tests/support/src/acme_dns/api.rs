//! The API over HTTP: `/register` and `/update`, with the faults that were asked for.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use super::state::{Fault, State};
use crate::fault_proxy::body::AnswerBody;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let router = Router::new()
        .route("/register", post(register))
        .route("/update", post(update))
        .layer(from_fn_with_state(Arc::clone(&state), with_faults))
        .with_state(state);
    // It ends only where the listener fails, and then every test that needs it does.
    let _ = axum::serve(listener, router).await;
}

async fn register(Shared(state): Shared<Arc<State>>) -> Response {
    (StatusCode::CREATED, Json(state.register())).into_response()
}

#[derive(Deserialize)]
struct Update {
    subdomain: String,
    txt: String,
}

async fn update(Shared(state): Shared<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let account = state.authenticate(header("x-api-user"), header("x-api-key"));
    let asked = serde_json::from_slice::<Update>(&body).ok();
    let Some((account, asked)) = account.zip(asked).filter(|(account, asked)| account.subdomain == asked.subdomain)
    else {
        return refusal(StatusCode::UNAUTHORIZED, "forbidden");
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if asked.txt.len() != DIGEST || !asked.txt.chars().all(fits) {
        return refusal(StatusCode::BAD_REQUEST, "bad_txt");
    }
    state.update(&account.subdomain, &asked.txt);
    Json(json!({ "txt": asked.txt })).into_response()
}

async fn with_faults(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    match state.take_fault(request.uri().path()) {
        Some(Fault::Status(status)) => {
            refusal(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "asked_for")
        }
        Some(Fault::TooManyRequests(retry_after)) => {
            ([(RETRY_AFTER, retry_after)], refusal(StatusCode::TOO_MANY_REQUESTS, "asked_for")).into_response()
        }
        Some(Fault::CutAfter) => {
            let status = next.run(request).await.status();
            (status, Body::new(AnswerBody::half(&Bytes::from_static(b"{}")))).into_response()
        }
        Some(Fault::NotJson) => (next.run(request).await.status(), "<html>OK</html>").into_response(),
        Some(Fault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            next.run(request).await
        }
        None => next.run(request).await,
    }
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// The length of a SHA-256 in base64url. Nothing else is taken.
const DIGEST: usize = 43;
