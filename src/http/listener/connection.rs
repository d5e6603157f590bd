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
use crate::http::listener::Client;
use crate::http::listener::activity::{Activity, ConnectionVerdict};
use crate::http::listener::connections::{Connections, ConnectionSlot};
use crate::http::listener::request::TimedBody;
use crate::http::listener::response::{PacedBody, Running};
use crate::http::listener::stream::Observed;

/// Serves a connection until it ends, takes too long, makes room for another one, or the program stops.
pub(super) async fn serve<S>(stream: S, client: Client, router: Router, place: ConnectionSlot)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = &place.activity;
    let limits = place.connections.limits;
    let builder = builder(&activity.evicted);
    let stream = TokioIo::new(Observed { stream, activity: Arc::clone(activity) });
    let (activity_of_requests, connections) = (Arc::clone(activity), Arc::clone(&place.connections));
    let service = service_fn(move |request| {
        answer(request, client, router.clone(), Arc::clone(&activity_of_requests), Arc::clone(&connections))
    });
    let mut conversation = pin!(builder.serve_connection(stream, service));
    let mut looks = interval(limits.look_every());
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
                looks = interval(FAREWELL / 2);
            }
            now = looks.tick() => match activity.judge(&limits, now) {
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
                _ if finishing.is_some_and(|since| now.saturating_duration_since(since) >= FAREWELL) && activity.is_quiet() => return,
                ConnectionVerdict::Finish(_) | ConnectionVerdict::Keep => {}
            },
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    client: Client,
    router: Router,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
) -> Result<Response<PacedBody>, Infallible> {
    let mut running = Running::begin(&activity, request.version() == Version::HTTP_2);
    if *request.method() == Method::HEAD {
        running.expect_no_body();
    }
    let Some(turn) = connections.turn().await else {
        return Ok(ApiError::Busy.into_response().map(|body| PacedBody::new(body, running)));
    };
    running.take_turn(turn);
    let limits = connections.limits;
    let mut request = request.map(|body| Body::new(TimedBody::new(body, limits)));
    let extensions = request.extensions_mut();
    extensions.insert(activity);
    match client {
        Client::Remote(address) => extensions.insert(ConnectInfo(address)).map(drop),
        Client::Local(peer) => extensions.insert(ConnectInfo(peer)).map(drop),
    };
    let response = TowerToHyperService::new(router).call(request).await?;
    Ok(response.map(|body| PacedBody::new(body, running)))
}

fn builder(evicted: &CancellationToken) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor(evicted.clone()));
    // The time for a head is ours: hyper's runs between requests as well.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(LONGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_ERRORS)
        .max_header_list_size(LONGEST_HEADER_LIST)
        .max_send_buf_size(MOST_UNSENT)
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
const LONGEST_HEAD: usize = 64 * 1024;
/// Bytes of an HTTP/2 header list.
const LONGEST_HEADER_LIST: u32 = 32 * 1024;
const MOST_STREAMS: u32 = 32;
/// Streams that were reset before they were looked at.
const MOST_RESETS: usize = 20;
/// Streams that were reset by us because of what the client did.
const MOST_ERRORS: usize = 64;
/// Bytes of a response that are held for a stream.
const MOST_UNSENT: usize = 32 * 1024;
/// Bytes of request bodies that may come before they are read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
/// For the last frames of a connection.
const FAREWELL: Duration = Duration::from_millis(100);
