//! The accept loop of the API. Whatever clients do, it holds a bounded number of connections, none of which may linger: a
//! head, a body and a response each have their time, a connection without requests ends, and where there are too many
//! connections the ones that have not authenticated make room for newcomers.

mod activity;
mod connection;
mod connections;
mod request;
mod response;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

pub(crate) use self::activity::Activity;
use self::connections::Connections;
pub(crate) use self::request::BodyTimedOut;
use crate::config::LEAST_GRACE;
use crate::config::api::ApiSection;
use crate::domain::client_network::ClientNetwork;
use crate::http::auth::Peer;
use crate::runtime::descriptors;

/// How much clients may have, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub connections: usize,
    /// Of these, those of one client network that have not authenticated.
    pub of_network: usize,
    /// Requests at once, over all connections, until their response is handed over.
    pub requests: usize,
    /// How long a request waits for its turn when there are more than that.
    pub queue: Duration,
    /// How long the head of a request may take, and a new connection for its first one.
    pub head: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How long a body may arrive without a byte, or a response wait for its reader.
    pub stall: Duration,
    /// How long a connection may be open without a request.
    pub idle: Duration,
    /// How long running requests may go on after the stop has begun.
    pub grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: MOST_CONNECTIONS,
            of_network: MOST_CONNECTIONS / 2,
            requests: MOST_REQUESTS,
            queue: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            idle: Duration::from_mins(1),
            grace: LEAST_GRACE,
        }
    }
}

impl ConnectionLimits {
    /// The limits of the settings, as far as the file descriptors of this process allow.
    pub fn from_config(section: &ApiSection) -> Self {
        let most = descriptors::share(2, usize::MAX);
        let wanted = section.max_connections.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let connections = wanted.unwrap_or_else(|| descriptors::share(4, MOST_CONNECTIONS));
        if connections > most {
            tracing::warn!(
                "api.max_connections = {connections} is more than half of the {} file descriptors of this process: {most} \
                 are used; lower it, or raise LimitNOFILE= of the unit or the container's nofile limit",
                descriptors::limit()
            );
        }
        Self::of_connections(connections.min(most))
    }

    /// The limits of the Unix socket: its clients are few, and all of this machine.
    pub fn local() -> Self {
        let connections = descriptors::share(8, MOST_LOCAL_CONNECTIONS);
        Self { of_network: connections, requests: connections, ..Self::of_connections(connections) }
    }

    fn of_connections(connections: usize) -> Self {
        Self { connections, of_network: connections.div_ceil(2), ..Self::default() }
    }

    /// How often each connection is looked at.
    fn look_every(&self) -> Duration {
        let shortest = self.head.min(self.stall).min(self.idle);
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
            Err(error) if concerns_one_connection(&error) => tracing::debug!(%error, "a connection was not accepted"),
            Err(error) => {
                // Mostly there are no file descriptors left, which the rest of the process needs as well.
                connections.make_room_after(&error);
                let _ = stopping.run_until_cancelled(tokio::time::sleep(AFTER_ERROR)).await;
            }
        }
    }
}

/// Where connections come from.
pub(super) trait Listen: Send + Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Safe to cancel.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Client)>> + Send;
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    /// Somebody on the network.
    Remote(SocketAddr),
    /// A process of this machine.
    Local(Peer),
}

impl Client {
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

    async fn accept(&self) -> io::Result<(TcpStream, Client)> {
        let (stream, address) = Self::accept(self).await?;
        // What is written is whole frames or responses, which must not wait for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        Ok((stream, Client::Remote(address)))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Client)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, Client::Local(Peer { uid })))
    }
}

/// Errors of a connection that went away before it was accepted (accept(2)).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable].contains(&error.kind())
}

const MOST_CONNECTIONS: usize = 512;
const MOST_LOCAL_CONNECTIONS: usize = 128;
/// Each may hold some 100 KiB.
const MOST_REQUESTS: usize = 256;
const AFTER_ERROR: Duration = Duration::from_millis(100);
