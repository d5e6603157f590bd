//! The accept loop of the API. Whatever clients do, it holds a bounded number of connections, none of which may linger: a
//! head, a body and a response each have their time, a connection without requests ends, and where there are too many
//! connections the ones that have not authenticated make room for newcomers.

mod activity;
mod connection;
mod connections;
mod observed_stream;
mod paced_body;
mod timed_body;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

pub(crate) use self::activity::ConnectionActivity;
use self::connections::Connections;
pub(crate) use self::timed_body::BodyTimedOut;
use crate::config::MIN_STOP_GRACE;
use crate::config::api::ApiSection;
use crate::domain::value::client_network::ClientNetwork;
use crate::http::auth::Peer;
use crate::runtime::descriptors;

/// How much clients may have, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Of these, those of one client network that have not authenticated.
    pub max_per_network: usize,
    /// Requests at once, over all connections, until their response is handed over.
    pub max_requests: usize,
    /// How long a request waits for its turn when there are more than that.
    pub queue_timeout: Duration,
    /// How long the head of a request may take, and a new connection for its first one.
    pub head_timeout: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How long a body may arrive without a byte, or a response wait for its reader.
    pub stall_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// How long running requests may go on after the stop has begun.
    pub stop_grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_per_network: MAX_CONNECTIONS / 2,
            max_requests: MAX_REQUESTS,
            queue_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_mins(1),
            stop_grace: MIN_STOP_GRACE,
        }
    }
}

impl ConnectionLimits {
    /// The limits of the settings, as far as the file descriptors of this process allow.
    pub fn from_config(section: &ApiSection) -> Self {
        let most = descriptors::connection_share(2, usize::MAX);
        let wanted = section.max_connections.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let connections = wanted.unwrap_or_else(|| descriptors::connection_share(4, MAX_CONNECTIONS));
        if connections > most {
            tracing::warn!(
                "api.max_connections = {connections} is more than half of the {} file descriptors of this process: {most} \
                 are used; lower it, or raise LimitNOFILE= of the unit or the container's nofile limit",
                descriptors::soft_limit()
            );
        }
        Self::for_connections(connections.min(most))
    }

    /// The limits of the Unix socket: its clients are few, and all of this machine.
    pub fn local() -> Self {
        let connections = descriptors::connection_share(8, MAX_LOCAL_CONNECTIONS);
        Self { max_per_network: connections, max_requests: connections, ..Self::for_connections(connections) }
    }

    fn for_connections(max_connections: usize) -> Self {
        Self { max_connections, max_per_network: max_connections.div_ceil(2), ..Self::default() }
    }

    /// How often each connection is looked at.
    fn check_interval(&self) -> Duration {
        let shortest = self.head_timeout.min(self.stall_timeout).min(self.idle_timeout);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// Accepts and serves connections until `stopping` is cancelled and the running requests are finished, or their grace is
/// over. At the beginning of the stop `farewell` is awaited, then the listener is closed.
pub(super) async fn serve<L: Listen>(
    listener: L,
    router: Router,
    limits: ConnectionLimits,
    stopping: CancellationToken,
    farewell: impl Future<Output = ()> + Send,
) {
    let connections = Connections::new(limits, stopping.clone());
    accept(&listener, &router, &connections, &stopping).await;
    farewell.await;
    drop(listener);
    if !connections.drain().await {
        tracing::warn!("some requests were still running at the end of the stop's grace");
    }
}

async fn accept(listener: &impl Listen, router: &Router, connections: &Arc<Connections>, stopping: &CancellationToken) {
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, client)) => {
                if let Some(Some(place)) = stopping.run_until_cancelled(connections.admit(client.network())).await {
                    connections.spawn(connection::serve(stream, client, router.clone(), place));
                }
            }
            Err(error) if is_connection_error(&error) => tracing::debug!(%error, "a connection was not accepted"),
            Err(error) => {
                // Mostly there are no file descriptors left, which the rest of the process needs as well.
                connections.make_room_after_error(&error);
                let _ = stopping.run_until_cancelled(tokio::time::sleep(ACCEPT_RETRY_DELAY)).await;
            }
        }
    }
}

/// Where connections come from.
pub(super) trait Listen: Send + Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Safe to cancel.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, ConnectedClient)>> + Send;
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectedClient {
    /// Somebody on the network.
    Remote(SocketAddr),
    /// A process of this machine.
    Local(Peer),
}

impl ConnectedClient {
    /// Processes of this machine count together.
    fn network(self) -> Option<ClientNetwork> {
        match self {
            Self::Remote(address) => Some(ClientNetwork::from_address(address.ip())),
            Self::Local(_) => None,
        }
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, ConnectedClient)> {
        let (stream, address) = Self::accept(self).await?;
        // What is written is whole frames or responses, which must not wait for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        Ok((stream, ConnectedClient::Remote(address)))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, ConnectedClient)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, ConnectedClient::Local(Peer { uid })))
    }
}

/// Errors of a connection that went away before it was accepted (accept(2)).
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable].contains(&error.kind())
}

const MAX_CONNECTIONS: usize = 512;
const MAX_LOCAL_CONNECTIONS: usize = 128;
/// Each may hold some 100 KiB.
const MAX_REQUESTS: usize = 256;
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
