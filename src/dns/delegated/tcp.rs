//! Questions over TCP, each behind its length (RFC 7766): a bounded number of connections, none of which may linger.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::dns::delegated::ZoneContents;
use crate::dns::delegated::client_throttle::ClientThrottle;
use crate::dns::delegated::responder::Responder;
use crate::domain::value::client_network::ClientNetwork;
use crate::runtime::descriptors;

/// Serves connections for ever.
pub(super) async fn serve<C: ZoneContents>(listener: &TcpListener, responder: &Responder<C>, limit: &ClientThrottle) {
    let most_connections = descriptors::connection_share(4, MAX_CONNECTIONS);
    let mut open = FuturesUnordered::new();
    let mut of_network: HashMap<ClientNetwork, usize> = HashMap::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let network = ClientNetwork::from_address(from.ip());
                    let taken = of_network.get(&network).copied().unwrap_or(0);
                    // Else the connection closes here.
                    if open.len() < most_connections && taken < MAX_CONNECTIONS_PER_NETWORK {
                        of_network.insert(network, taken + 1);
                        open.push(async move {
                            let ended = timeout(MAX_CONNECTION_AGE, serve_connection(stream, from, responder, limit)).await;
                            tracing::trace!(%from, ?ended, "connection closed");
                            network
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection could be accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            },
            Some(network) = open.next() => {
                let left = of_network.get(&network).copied().unwrap_or(0).saturating_sub(1);
                if left == 0 { of_network.remove(&network) } else { of_network.insert(network, left) };
            }
        }
    }
}

/// Answers the questions of one connection, one after the other, until it ends or lingers.
async fn serve_connection<C: ZoneContents>(
    mut stream: TcpStream,
    from: SocketAddr,
    responder: &Responder<C>,
    limit: &ClientThrottle,
) -> io::Result<()> {
    loop {
        let packet = timeout(IDLE_TIMEOUT, receive(&mut stream)).await??;
        if !limit.admits(ClientNetwork::from_address(from.ip())) {
            return Ok(());
        }
        let Some(reply) = responder.reply(packet, from, Protocol::Tcp).await else { return Ok(()) };
        timeout(IDLE_TIMEOUT, send(&mut stream, &reply)).await??;
    }
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn send(stream: &mut TcpStream, reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    // In one segment: some clients read no further.
    stream.write_all(&[&length.to_be_bytes(), reply].concat()).await
}

const MAX_CONNECTIONS: usize = 512;
const MAX_CONNECTIONS_PER_NETWORK: usize = 16;
/// How long the other side may take for a question, or for reading an answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Resolvers come back; who holds connections for their own sake must make them anew.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30);
/// Such as too many open files.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
