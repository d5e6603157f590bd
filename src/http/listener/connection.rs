//! One connection, HTTP/1.1 or HTTP/2, from its first byte to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response, Version};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::errors::ApiError;
use crate::http::listener::ConnectedClient;
use crate::http::listener::activity::{ConnectionActivity, ConnectionVerdict};
use crate::http::listener::connections::{ConnectionSlot, Connections};
use crate::http::listener::observed_stream::ObservedStream;
use crate::http::listener::paced_body::{PacedBody, RunningRequest};
use crate::http::listener::timed_body::TimedBody;

/// Serves a connection until it ends, takes too long, makes room for another one, or the program stops.
pub(super) async fn serve<S>(stream: S, client: ConnectedClient, router: Router, place: ConnectionSlot)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = &place.activity;
    let limits = place.connections.limits;
    let builder = connection_builder(&activity.evicted);
    let stream = TokioIo::new(ObservedStream { stream, activity: Arc::clone(activity) });
    let (activity_of_requests, connections) = (Arc::clone(activity), Arc::clone(&place.connections));
    let service = service_fn(move |request| {
        handle_request(request, client, router.clone(), Arc::clone(&activity_of_requests), Arc::clone(&connections))
    });
    let mut conversation = pin!(builder.serve_connection(stream, service));
    let mut looks = interval(limits.check_interval());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut finishing: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = activity.evicted.cancelled() => return,
            ended = conversation.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, ?client, "a connection broke off");
                }
                return;
            }
            () = place.connections.stopping.cancelled(), if finishing.is_none() => {
                conversation.as_mut().graceful_shutdown();
                finishing = Some(Instant::now());
                looks = interval(LINGER / 2);
            }
            now = looks.tick() => match activity.check_limits(&limits, now) {
                ConnectionVerdict::Close(reason) => {
                    tracing::debug!(?client, "connection closed: {reason}");
                    return;
                }
                ConnectionVerdict::Finish(reason) if finishing.is_none() => {
                    tracing::debug!(?client, "connection ends: {reason}");
                    conversation.as_mut().graceful_shutdown();
                    finishing = Some(now);
                }
                // It has had the time to say goodbye, and has nothing to wait for.
                _ if finishing.is_some_and(|since| now.saturating_duration_since(since) >= LINGER) && activity.is_idle() => return,
                ConnectionVerdict::Finish(_) | ConnectionVerdict::Keep => {}
            },
        }
    }
}

async fn handle_request(
    request: Request<Incoming>,
    client: ConnectedClient,
    router: Router,
    activity: Arc<ConnectionActivity>,
    connections: Arc<Connections>,
) -> Result<Response<PacedBody>, Infallible> {
    let mut running = RunningRequest::begin(&activity, request.version() == Version::HTTP_2);
    if *request.method() == Method::HEAD {
        running.expect_no_body();
    }
    let Some(turn) = connections.acquire_request_slot().await else {
        return Ok(ApiError::Busy.into_response().map(|body| PacedBody::new(body, running)));
    };
    running.set_request_slot(turn);
    let limits = connections.limits;
    let mut request = request.map(|body| Body::new(TimedBody::new(body, limits)));
    let extensions = request.extensions_mut();
    extensions.insert(activity);
    match client {
        ConnectedClient::Remote(address) => extensions.insert(ConnectInfo(address)).map(drop),
        ConnectedClient::Local(peer) => extensions.insert(ConnectInfo(peer)).map(drop),
    };
    let response = TowerToHyperService::new(router).call(request).await?;
    Ok(response.map(|body| PacedBody::new(body, running)))
}

fn connection_builder(evicted: &CancellationToken) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor(evicted.clone()));
    // The time for a head is ours: hyper's runs between requests as well.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD_SIZE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_header_list_size(MAX_HEADER_LIST_SIZE)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// Runs the streams of an HTTP/2 connection as long as the connection is open.
#[derive(Clone)]
struct StreamExecutor(CancellationToken);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::spawn(self.0.clone().run_until_cancelled_owned(stream));
    }
}

/// Bytes of an HTTP/1.1 head; also the most of a response that is held for the socket.
const MAX_HEAD_SIZE: usize = 64 * 1024;
/// Bytes of an HTTP/2 header list.
const MAX_HEADER_LIST_SIZE: u32 = 32 * 1024;
const MAX_STREAMS: u32 = 32;
/// Streams that were reset before they were looked at.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that were reset by us because of what the client did.
const MAX_LOCAL_RESETS: usize = 64;
/// Bytes of a response that are held for a stream.
const MAX_SEND_BUFFER: usize = 32 * 1024;
/// Bytes of request bodies that may come before they are read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
/// For the last frames of a connection.
const LINGER: Duration = Duration::from_millis(100);
