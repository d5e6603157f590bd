//! The API over HTTPS: who may do what, and then what the state makes of it.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request as HttpRequest;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::state::{KubernetesStatus, Refusal, Request, State};

/// Serves until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let router = Router::new().fallback(move |request| answer(Arc::clone(&state), request));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    // Connections that end early are no concern of the server.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(state: Arc<State>, request: HttpRequest<Body>) -> Response {
    match carried_out(&state, request).await {
        Ok((status, secret)) => (status, Json(secret)).into_response(),
        Err(Answer::Status(status)) => status.into_response(),
        Err(Answer::Refusal(refusal)) => refusal.into_response(),
    }
}

enum Answer {
    Status(KubernetesStatus),
    Refusal(Refusal),
}

impl From<KubernetesStatus> for Answer {
    fn from(status: KubernetesStatus) -> Self {
        Self::Status(status)
    }
}

async fn carried_out(state: &State, request: HttpRequest<Body>) -> Result<(StatusCode, serde_json::Value), Answer> {
    let (parts, body) = request.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, bearer) = (header(CONTENT_TYPE), header(AUTHORIZATION));
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    state.record(Request { method: parts.method.to_string(), path: path.clone(), query: query.clone() });
    if bearer != format!("Bearer {}", state.token()) {
        return Err(KubernetesStatus::new(401, "Unauthorized", "Unauthorized".to_owned()).into());
    }
    if let Some(refusal) = state.take_refusal() {
        return Err(Answer::Refusal(refusal));
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let ["api", "v1", "namespaces", namespace, "secrets", rest @ ..] = segments.as_slice() else {
        return Err(KubernetesStatus::new(
            404,
            "NotFound",
            "the server could not find the requested resource".to_owned(),
        )
        .into());
    };
    let body = to_bytes(body, LONGEST_BODY).await.unwrap_or_default();
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    match (parts.method, rest) {
        (Method::GET, [name]) => Ok((StatusCode::OK, state.get(namespace, name)?)),
        (Method::POST, []) => {
            let secret = state.create(namespace, &read(&body)?)?;
            Ok((StatusCode::CREATED, secret))
        }
        (Method::PATCH, [name]) if content_type == APPLY => {
            let Some(manager) = asked("fieldManager") else {
                return Err(
                    KubernetesStatus::invalid("fieldManager: Required value: is required for apply patch").into()
                );
            };
            let secret = state.apply(namespace, name, &read(&body)?, manager, asked("force") == Some("true"))?;
            Ok((StatusCode::OK, secret))
        }
        (Method::PATCH, [_]) => {
            let words = format!("the body of the request was in an unknown format: {content_type}");
            Err(KubernetesStatus::new(415, "UnsupportedMediaType", words).into())
        }
        _ => Err(KubernetesStatus::new(405, "MethodNotAllowed", "the method is not allowed".to_owned()).into()),
    }
}

/// As the real one it quotes what it cannot read.
fn read(body: &[u8]) -> Result<serde_json::Value, KubernetesStatus> {
    serde_json::from_slice(body).map_err(|error| {
        KubernetesStatus::new(400, "BadRequest", format!("{error}: {}", String::from_utf8_lossy(body)))
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = KubernetesStatus::new(self.status, "Demanded", "this was asked for".to_owned());
        let mut response = status.into_response();
        if let Some(value) = self.retry_after.and_then(|value| value.parse().ok()) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    }
}

impl IntoResponse for KubernetesStatus {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        (StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
    }
}

const APPLY: &str = "application/apply-patch+yaml";
/// As that of etcd.
const LONGEST_BODY: usize = 1_572_864;
