//! The API over HTTP: `/zones` and `/records`, behind a token, with the faults that were asked for.

mod page;
mod records;
mod zones;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::page::ApiError;
use super::fault::Fault;
use super::state::{Request, State, TOKEN};

/// Serves until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let router = router(&state);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (state, router) = (Arc::clone(&state), router.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), router.clone(), request));
                    // A connection that ends early is no concern of the server.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn router(state: &Arc<State>) -> Router {
    Router::new()
        .route("/zones", get(zones::list).post(zones::create))
        .route("/zones/{zone}", get(zones::read).put(zones::replace).delete(zones::remove))
        .route("/zones/{zone}/records", get(records::list_of_zone).post(records::create))
        .route("/zones/{zone}/records/{record}", get(records::read).put(records::replace).delete(records::remove))
        .route("/records", get(records::list))
        .fallback(async || ApiError::not_found())
        .with_state(Arc::clone(state))
}

/// The connection ends without an answer.
#[derive(Debug)]
struct ConnectionCut;

impl std::fmt::Display for ConnectionCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on demand")
    }
}

impl std::error::Error for ConnectionCut {}

async fn answer(
    state: Arc<State>,
    router: Router,
    mut request: hyper::Request<Incoming>,
) -> Result<Response, ConnectionCut> {
    let fault = state.take_fault(Request {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    });
    match &fault {
        Some(Fault::Cut) => return Err(ConnectionCut),
        Some(Fault::TooManyRequests(retry_after)) => return Ok(too_many(retry_after.as_deref())),
        Some(Fault::Status(status)) => return Ok(ApiError::from_fault(*status).into_response()),
        Some(Fault::Slow(delay)) => tokio::time::sleep(*delay).await,
        _ => {}
    }
    let bearer = format!("Bearer {TOKEN}");
    if request.headers().get(AUTHORIZATION).is_none_or(|value| value.as_bytes() != bearer.as_bytes()) {
        return Ok(ApiError::unauthorized().into_response());
    }
    request.extensions_mut().insert(fault.clone());
    let Ok(mut response) = TowerToHyperService::new(router).call(request).await;
    match fault {
        Some(Fault::CutAfter) => return Err(ConnectionCut),
        Some(Fault::ConflictAfter) => response = ApiError::from_fault(409).into_response(),
        Some(Fault::WithoutBody) => replace_body(&mut response, ""),
        Some(Fault::NotJson) => replace_body(&mut response, "<html>Accepted</html>"),
        _ => {}
    }
    Ok(response)
}

fn too_many(retry_after: Option<&str>) -> Response {
    let mut response = ApiError::from_fault(StatusCode::TOO_MANY_REQUESTS.as_u16()).into_response();
    if let Some(value) = retry_after.and_then(|value| HeaderValue::from_str(value).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

fn replace_body(response: &mut Response, body: &'static str) {
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(CONTENT_TYPE);
    *response.body_mut() = Body::from(body);
}
