//! A local acme-dns: its HTTP API as joohoi/acme-dns has it, with faults on demand, and its name server on UDP and TCP.
//! Dropping it ends all its tasks.

mod api;
mod nameserver;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hickory_server::Server;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::nameserver::AcmeDnsHandler;
use self::state::State;
pub use self::state::{Account, Fault};
use crate::cloud_dns::bind_both;

/// A running acme-dns.
pub struct AcmeDns {
    state: Arc<State>,
    http: SocketAddr,
    dns: SocketAddr,
    serving: JoinHandle<()>,
    _nameserver: Server<AcmeDnsHandler>,
}

impl AcmeDns {
    /// Starts one on free loopback ports, with its accounts below `zone`.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start(zone: &str) -> anyhow::Result<Self> {
        let state = Arc::new(State::new(zone));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the API of acme-dns")?;
        let http = listener.local_addr()?;
        let serving = tokio::spawn(api::serve(listener, Arc::clone(&state)));
        let (udp, tcp, dns) = bind_both(Ipv4Addr::LOCALHOST.into()).await?;
        let mut nameserver = Server::new(AcmeDnsHandler::new(Arc::clone(&state)));
        nameserver.register_socket(udp);
        nameserver.register_listener(tcp, IDLE_CONNECTION, RESPONSE_BUFFER);
        Ok(Self { state, http, dns, serving, _nameserver: nameserver })
    }

    /// The base URL of the API.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The address of the name server, on UDP and TCP.
    pub const fn dns_addr(&self) -> SocketAddr {
        self.dns
    }

    /// Makes an account, as `POST /register` does.
    pub fn register(&self) -> Account {
        self.state.register()
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.state.accounts()
    }

    /// The values at the name of an account, sorted.
    pub fn values(&self, full_domain: &str) -> Vec<String> {
        let mut values = self.state.values(full_domain).unwrap_or_default();
        values.sort();
        values
    }

    /// How many requests the API has seen at this path.
    pub fn count(&self, path: &str) -> usize {
        self.state.count(path)
    }

    /// Lets the next `times` requests at this path meet `fault`.
    pub fn fault(&self, times: usize, path: &str, fault: Fault) {
        self.state.inject_fault(times, path, fault);
    }
}

impl Drop for AcmeDns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const IDLE_CONNECTION: Duration = Duration::from_secs(30);
const RESPONSE_BUFFER: usize = 32;
