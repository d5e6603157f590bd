//! Recursive resolvers: those of the settings, or the operating system's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;

use crate::config::dns::PropagationSection;
use crate::dns::question::{DnsQuestion, DnsReply, QueryError};
use crate::dns::server::Server;
use crate::runtime::files;

/// Whom to ask, in this order.
#[derive(Debug)]
pub(super) struct Resolvers {
    /// Those of the settings.
    configured: Vec<Arc<Server>>,
    /// Whether these are `servers`, which may serve their own zones alone.
    uses_authoritative: bool,
    /// Where the system names its own.
    file: PathBuf,
    system: Mutex<SystemResolvers>,
}

/// The resolvers of the system, as last read.
#[derive(Debug, Default)]
struct SystemResolvers {
    read: Option<Instant>,
    servers: Vec<(SocketAddr, Arc<Server>)>,
}

impl Resolvers {
    pub(super) fn new(section: &PropagationSection) -> Self {
        let given = section.resolvers.iter().map(|address| Arc::new(Server::new(address)));
        let uses_authoritative = section.resolvers.is_empty();
        let lent = section.servers.iter().filter(|_| uses_authoritative).map(|address| Arc::new(Server::at(*address)));
        Self {
            configured: given.chain(lent).collect(),
            uses_authoritative,
            file: PathBuf::from(RESOLV_CONF),
            system: Mutex::default(),
        }
    }

    /// Those of the settings, or else the system's.
    pub(super) async fn all(&self) -> Vec<Arc<Server>> {
        if self.configured.is_empty() { self.load_system_resolvers().await } else { self.configured.clone() }
    }

    /// Asks until one says that there is something or that there is nothing.
    pub(super) async fn query(&self, question: &DnsQuestion) -> Result<DnsReply, QueryError> {
        let answer = query_first(self.all().await, question).await;
        match &answer {
            // An authoritative server knows no other zones, and has many ways to say so.
            Err(_) if self.uses_authoritative => query_first(self.load_system_resolvers().await, question).await,
            _ => answer,
        }
    }

    /// Read again soon after each change of the system's configuration, and not for each question. Where the file cannot be
    /// read, the servers of before are asked.
    async fn load_system_resolvers(&self) -> Vec<Arc<Server>> {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let read = files::read(&self.file).await;
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.read = Some(Instant::now());
        match read {
            Ok(text) => system.replace(&String::from_utf8_lossy(&text)),
            Err(error) => {
                tracing::debug!(%error, "{} cannot be read", self.file.display());
                if system.servers.is_empty() {
                    system.replace("");
                }
            }
        }
        system.servers()
    }

    fn fresh(&self) -> Option<Vec<Arc<Server>>> {
        let system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.read.is_some_and(|read| read.elapsed() < FRESH).then(|| system.servers())
    }
}

impl SystemResolvers {
    /// A server that stays keeps what is known of it.
    fn replace(&mut self, text: &str) {
        let server = |address| {
            let same = self.servers.iter().find(|(at, _)| *at == address).map(|(_, server)| Arc::clone(server));
            (address, same.unwrap_or_else(|| Arc::new(Server::at(address))))
        };
        self.servers = parse_resolv_conf(text).into_iter().map(server).collect();
    }

    fn servers(&self) -> Vec<Arc<Server>> {
        self.servers.iter().map(|(_, server)| Arc::clone(server)).collect()
    }
}

/// The first answer of these servers. The next one is asked where one fails or is slow.
pub(super) async fn query_first(servers: Vec<Arc<Server>>, question: &DnsQuestion) -> Result<DnsReply, QueryError> {
    let mut next = servers.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut faults = Vec::new();
    loop {
        if let Some(server) = next.next() {
            asked.push(async move {
                let reply = server.ask(question, QUERY_TIMEOUT).await;
                reply.and_then(|reply| check_usable(question, reply)).map_err(|fault| fault.with_server(&server))
            });
        }
        tokio::select! {
            Some(answer) = asked.next() => match answer {
                Ok(reply) => return Ok(reply),
                Err(fault) => faults.push(fault),
            },
            () = tokio::time::sleep(HEDGE_DELAY), if next.len() > 0 => {}
            else => return Err(QueryError::combine(&faults)),
        }
    }
}

/// That there is something, or that there is nothing: all else says nothing about the name.
fn check_usable(question: &DnsQuestion, reply: DnsReply) -> Result<DnsReply, QueryError> {
    match reply.code() {
        ResponseCode::NoError if question.is_recursive() && reply.is_referral() => {
            Err("names other servers instead of an answer: it is no resolver".into())
        }
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(reply),
        code => Err(QueryError::from_code(code)),
    }
}

/// The lines of resolv.conf(5) that name servers; without any, it is the one on this machine.
fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["nameserver", address, ..] => parse_scoped_address(address),
        _ => None,
    };
    let found: Vec<SocketAddr> = text.lines().filter_map(address).collect();
    if found.is_empty() { vec![(Ipv4Addr::LOCALHOST, DNS_PORT).into()] } else { found }
}

/// An address that may be good on one link alone, as in `fe80::1%eth0`.
fn parse_scoped_address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT)),
        Some((ip, link)) => {
            let index = link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
            Some(SocketAddrV6::new(ip.parse::<Ipv6Addr>().ok()?, DNS_PORT, 0, index).into())
        }
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// For so long what was read there is good.
const FRESH: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;
/// How long one server may take over one transport.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// After this time the next server is asked too.
const HEDGE_DELAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// The file is not read for each question, but soon after each change, and a server that stays keeps what is known of it.
    #[tokio::test]
    async fn the_systems_servers_are_read_again_soon_after_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let resolvers = Resolvers { file: file.clone(), ..Resolvers::new(&PropagationSection::default()) };
        let outdate = || resolvers.system.lock().unwrap().read = Instant::now().checked_sub(FRESH);
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let first = resolvers.all().await;
        std::fs::write(&file, "nameserver 192.0.2.2\nnameserver 192.0.2.1\n").unwrap();
        assert_eq!(resolvers.all().await.len(), 1, "what was just read is good");
        outdate();
        let second = resolvers.all().await;
        assert_eq!(second.len(), 2);
        assert!(Arc::ptr_eq(&first[0], &second[1]));
        std::fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        outdate();
        assert_eq!(resolvers.all().await.len(), 2, "what cannot be read leaves the servers of before");
    }

    #[test]
    fn the_systems_servers_are_read_with_their_links() {
        let text = "# made by hand\nsearch example.com\nnameserver 192.0.2.1 # office\n\tnameserver 2001:db8::1\n\
                    nameserver fe80::1%lo\nnameserver nonsense\noptions edns0\n";
        let [v4, v6, link] = parse_resolv_conf(text)[..] else { panic!("{:?}", parse_resolv_conf(text)) };
        assert_eq!((v4.to_string(), v6.to_string()), ("192.0.2.1:53".to_owned(), "[2001:db8::1]:53".to_owned()));
        assert!(matches!(link, SocketAddr::V6(link) if link.scope_id() > 0), "{link}");
        assert_eq!(parse_resolv_conf("search example.com"), ["127.0.0.1:53".parse().unwrap()]);
    }
}
