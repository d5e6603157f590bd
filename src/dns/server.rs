//! A DNS server, asked over UDP and TCP at its address, or over HTTPS. Many may ask at once: only so many are heard at a
//! time, and one whose turn comes after the server was found silent does not wait for it again.

mod https;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use hickory_net::NetError;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use self::https::DohClient;
use crate::dns::question::{DnsQuestion, DnsReply, QueryError};
use crate::domain::value::resolver_address::ResolverAddress;
use crate::runtime::descriptors;

/// A DNS server at one address.
#[derive(Debug)]
pub struct Server {
    address: ServerAddress,
    query_permits: Semaphore,
    last_fault: Mutex<Option<(Instant, QueryError)>>,
}

#[derive(Debug)]
enum ServerAddress {
    Socket(SocketAddr),
    Https(DohClient),
}

impl Server {
    /// The server at this address.
    pub fn new(address: &ResolverAddress) -> Self {
        let address = match address {
            ResolverAddress::Socket(address) => ServerAddress::Socket(*address),
            ResolverAddress::Https(endpoint) => ServerAddress::Https(DohClient::new(endpoint)),
        };
        Self { address, query_permits: Semaphore::new(MAX_CONCURRENT_QUERIES), last_fault: Mutex::new(None) }
    }

    /// The server at this address, over UDP and TCP.
    pub fn at(address: SocketAddr) -> Self {
        Self::new(&ResolverAddress::Socket(address))
    }

    /// Asks it. Any code is an answer here. UDP and TCP may each take as long as `patience`.
    ///
    /// # Errors
    /// Where it cannot be reached, keeps silent or gives something that is no answer.
    pub async fn ask(&self, question: &DnsQuestion, patience: Duration) -> Result<DnsReply, QueryError> {
        let begun = Instant::now();
        // Nobody closes it; were it closed, nothing would be bounded.
        let _turn = self.query_permits.acquire().await;
        let _socket = SOCKET_PERMITS.acquire().await;
        if let Some(fault) = self.fault_since(begun) {
            return Err(fault);
        }
        let reply = match &self.address {
            ServerAddress::Socket(address) => {
                query_udp_then_tcp(*address, question.message(), patience).await.map_err(|fault| fault.to_string())
            }
            ServerAddress::Https(https) => https.query(question.message(), patience).await,
        };
        let reply = reply.map_err(|fault| QueryError::new(format!("gives no answer: {fault}")));
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) =
            reply.as_ref().err().map(|fault| (Instant::now(), fault.clone()));
        DnsReply::from_message(question, reply?).ok_or_else(|| "answers another question".into())
    }

    /// Whether it was silent when it was last asked, a short while ago.
    pub fn is_silent(&self) -> bool {
        Instant::now().checked_sub(FAULT_TTL).is_some_and(|begun| self.fault_since(begun).is_some())
    }

    /// What it was found silent with, since then.
    fn fault_since(&self, begun: Instant) -> Option<QueryError> {
        let silence = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        silence.as_ref().filter(|(at, _)| *at >= begun).map(|(_, fault)| fault.clone())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            ServerAddress::Socket(address) => address.fmt(f),
            ServerAddress::Https(https) => https.fmt(f),
        }
    }
}

/// Asks over UDP, and over TCP where the answer does not fit or none comes.
async fn query_udp_then_tcp(address: SocketAddr, message: Message, patience: Duration) -> Result<Message, NetError> {
    let provider = TokioRuntimeProvider::default();
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    let mut udp = UdpClientStream::builder(address, provider.clone()).with_timeout(Some(patience)).build();
    match udp.send_message(request.clone()).first_answer().await {
        Ok(answer) if !answer.truncation => return Ok(answer.into_message()),
        _ => {}
    }
    let over_tcp = async {
        // `provider` owns the task behind the connection, which ends when it is dropped.
        let connection = TcpClientStream::exchange(address, None, patience, None, provider.clone()).await?;
        connection.send(request).first_answer().await.map(DnsResponse::into_message)
    };
    timeout(patience, over_tcp).await.unwrap_or(Err(NetError::Timeout))
}

/// Questions to all servers at a time: a zone may name hundreds of them, each with many addresses, and silent ones are
/// waited for.
static SOCKET_PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(descriptors::connection_share(8, MAX_SOCKETS)));
const MAX_SOCKETS: usize = 256;
/// Questions to one server at a time, each with a socket of its own.
const MAX_CONCURRENT_QUERIES: usize = 16;
/// How long an address that did not answer is left alone where there is another.
const FAULT_TTL: Duration = Duration::from_secs(30);
