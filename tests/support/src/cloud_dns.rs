//! A local Cloud DNS: the API over real HTTP, and an authoritative name server on UDP and TCP for its zones, with
//! faults on demand. Several tests may share one with zones of their own. Dropping it ends all its tasks.

mod api;
mod fault;
mod forward;
mod lifecycle;
pub(crate) mod nameserver;
mod state;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

pub use self::fault::Fault;
use self::forward::ForwardedZone;
pub use self::lifecycle::Provisioning;
pub use self::nameserver::AnswerMode;
use self::nameserver::{CloudDnsHandler, ServerBehaviour};
use self::state::State;
pub use self::state::{RecordView, Request};

/// A running Cloud DNS.
pub struct CloudDns {
    state: Arc<State>,
    primary: Arc<ServerBehaviour>,
    http: SocketAddr,
    dns: SocketAddr,
    serving: JoinHandle<()>,
    nameservers: Mutex<Vec<Server<CloudDnsHandler>>>,
}

impl CloudDns {
    /// Starts one on free loopback ports.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the API of the Cloud DNS")?;
        let http = listener.local_addr()?;
        let serving = tokio::spawn(api::serve(listener, Arc::clone(&state)));
        let primary = Arc::new(ServerBehaviour::default());
        let (server, dns) = start_nameserver(&state, &primary, Ipv4Addr::LOCALHOST.into()).await?;
        Ok(Self { state, primary, http, dns, serving, nameservers: Mutex::new(vec![server]) })
    }

    /// The base URL of the API.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The address of the name server, on UDP and TCP.
    pub const fn dns_addr(&self) -> SocketAddr {
        self.dns
    }

    /// The token that the API accepts.
    pub const fn token(&self) -> &'static str {
        state::TOKEN
    }

    /// Adds an enabled zone; returns its id.
    pub fn add_zone(&self, name: &str) -> String {
        self.state.add_zone(name, true)
    }

    /// Adds a zone that is not enabled; returns its id.
    pub fn add_disabled_zone(&self, name: &str) -> String {
        self.state.add_zone(name, false)
    }

    /// Removes a zone with its records.
    pub fn remove_zone(&self, zone: &str) {
        self.state.remove_zone(zone);
    }

    /// Adds a record that is available at once, as if a person had made it; returns its id. `name` is relative to the
    /// zone.
    pub fn add_record(&self, zone: &str, name: &str, kind: &str, content: &str) -> String {
        self.state.add_available_record(zone, name, kind, content)
    }

    /// All records of a zone.
    pub fn records(&self, zone: &str) -> Vec<RecordView> {
        self.state.records().into_iter().filter(|record| record.zone == zone).collect()
    }

    /// All TXT records of all zones.
    pub fn txt_records(&self) -> Vec<RecordView> {
        self.state.records().into_iter().filter(|record| record.kind == "TXT").collect()
    }

    /// All requests so far, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests()
    }

    /// Lets the next `times` requests with this method, and a path that begins with `path`, meet `fault`. Faults of one
    /// request come in the order in which they were set.
    pub fn fault(&self, times: usize, method: &str, path: &str, fault: Fault) {
        self.state.inject_fault(times, method, path, fault);
    }

    /// How new records become available. From the start it is after one read.
    pub fn set_provisioning(&self, how: Provisioning) {
        self.state.set_provisioning(how);
    }

    /// Lets the name server show new records so much after they became available.
    pub fn delay_records_in_dns(&self, lag: Duration) {
        self.primary.set_lag(lag);
    }

    /// Lets the name server take so long for each answer.
    pub fn delay_dns_answers(&self, delay: Duration) {
        self.primary.set_delay(delay);
    }

    /// Lets the name server ask the one at `address` for names at and below `suffix`, whatever it holds or was told before.
    pub fn forward(&self, suffix: &str, address: SocketAddr) {
        self.state.lock().forwards.insert(0, ForwardedZone { suffix: suffix.to_owned(), address });
    }

    /// Lets all name servers answer SERVFAIL for a name.
    pub fn fail_dns(&self, name: &str) {
        self.state.lock().failing.push(name.to_owned());
    }

    /// For how many seconds a resolver may remember that there is nothing. From the start not at all.
    pub fn set_negative_ttl(&self, seconds: u32) {
        self.state.lock().negative_ttl = seconds;
    }

    /// Starts a further name server for the same zones, which shows no records until it is told to catch up.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn add_lagging_server(&self) -> anyhow::Result<FurtherServer> {
        let server = self.add_server(Ipv4Addr::LOCALHOST.into()).await?;
        server.view.set_lag(Duration::MAX);
        Ok(server)
    }

    /// Starts a further name server for the same zones at an address of this machine.
    ///
    /// # Errors
    /// Where no port can be bound there.
    pub async fn add_server(&self, ip: IpAddr) -> anyhow::Result<FurtherServer> {
        let view = Arc::new(ServerBehaviour::default());
        let (server, addr) = start_nameserver(&self.state, &view, ip).await?;
        self.nameservers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(FurtherServer { view, addr })
    }
}

impl Drop for CloudDns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A further name server, with faults of its own.
pub struct FurtherServer {
    view: Arc<ServerBehaviour>,
    addr: SocketAddr,
}

impl FurtherServer {
    /// Its address, on UDP and TCP.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets it show from now on what the others show.
    pub fn catch_up(&self) {
        self.view.set_lag(Duration::ZERO);
    }

    /// Lets it take so long for each answer.
    pub fn delay_answers(&self, delay: Duration) {
        self.view.set_delay(delay);
    }

    /// How many questions it has had.
    pub fn asked(&self) -> usize {
        self.view.query_count()
    }

    /// Lets it answer in another manner from now on.
    pub fn set_answer_mode(&self, manner: AnswerMode) {
        self.view.set_mode(manner);
    }
}

async fn start_nameserver(
    state: &Arc<State>,
    view: &Arc<ServerBehaviour>,
    ip: IpAddr,
) -> anyhow::Result<(Server<CloudDnsHandler>, SocketAddr)> {
    let (udp, tcp, addr) = bind_both(ip).await?;
    let mut server = Server::new(CloudDnsHandler::new(Arc::clone(state), Arc::clone(view)));
    server.register_socket(udp);
    server.register_listener(tcp, IDLE_CONNECTION, RESPONSE_BUFFER);
    Ok((server, addr))
}

/// A port that is free on TCP may be taken on UDP: another one is tried then.
pub(crate) async fn bind_both(ip: IpAddr) -> anyhow::Result<(UdpSocket, TcpListener, SocketAddr)> {
    for _ in 0..BIND_TRIES {
        let tcp = TcpListener::bind((ip, 0)).await.context("binding a name server")?;
        let addr = tcp.local_addr()?;
        if let Ok(udp) = UdpSocket::bind(addr).await {
            return Ok((udp, tcp, addr));
        }
    }
    anyhow::bail!("no port is free on both UDP and TCP")
}

const BIND_TRIES: usize = 50;
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
const RESPONSE_BUFFER: usize = 32;
