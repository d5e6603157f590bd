//! Name servers: found through a resolver, and asked directly, without recursion.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_net::NetError;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::dns::adapter::Zone;
use crate::dns::error::{DnsError, Lagging};
use crate::dns::lookup::txt_value;
use crate::dns::resolver::{absolute, resolver};

/// One name server with all addresses at which it answers.
pub(super) struct Nameserver {
    /// Its name; none where the settings give an address.
    name: Option<String>,
    addresses: Vec<SocketAddr>,
}

impl Nameserver {
    /// The server at an address.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { name: None, addresses: vec![address] }
    }

    /// How this server lags behind `values`; `None` where one address shows them all and none answers otherwise.
    /// An address that does not answer counts only where no other does: not every host reaches IPv6.
    pub(super) async fn lag(&self, name: &str, values: &[String], patience: Duration) -> Option<Lagging> {
        let looks = self.addresses.iter().map(|address| look(*address, name, values, patience));
        let looks: Vec<(&SocketAddr, Seen)> = self.addresses.iter().zip(join_all(looks).await).collect();
        let wrong = looks.iter().find(|(_, seen)| matches!(seen, Seen::Otherwise(_)));
        if wrong.is_none() && looks.iter().any(|(_, seen)| matches!(seen, Seen::All)) {
            return None;
        }
        let (address, answered) = match wrong.or_else(|| looks.first()) {
            Some((address, Seen::Otherwise(words) | Seen::Silence(words))) => (Some(address), words.clone()),
            _ => (None, "has no address".to_owned()),
        };
        let address = address.map(|address| match &self.name {
            Some(_) => format!(" at {address}"),
            None => address.to_string(),
        });
        let server = self.name.iter().cloned().chain(address).collect();
        Some(Lagging { server, answered })
    }
}

/// The authoritative name servers of a zone: those of its NS records, or where they cannot be found, as in a zone that
/// is not delegated yet, those that the DNS service names.
pub(super) async fn of_zone(
    zone: &Zone,
    resolvers: &[SocketAddr],
    patience: Duration,
) -> Result<Vec<Nameserver>, DnsError> {
    let unfound = |source| DnsError::NoNameServers { zone: zone.name.clone(), source: Box::new(source) };
    let resolver = resolver(resolvers, patience).map_err(unfound)?;
    let found = resolver.lookup(absolute(&zone.name), RecordType::NS).await;
    let found = found.map(|found| found.answers().iter().filter_map(ns_target).collect::<Vec<_>>());
    // A referral is an answer without a name server in it. None must never pass for all of them.
    let names = match found {
        Ok(names) if !names.is_empty() => names,
        _ if !zone.nameservers.is_empty() => {
            tracing::debug!(zone = zone.name, "no NS records found; asking the servers that the service names");
            zone.nameservers.clone()
        }
        Ok(_) => return Err(unfound(NetError::from("the resolver's answer names none"))),
        Err(error) => return Err(unfound(error)),
    };
    let servers = names.into_iter().map(async |name| {
        let addresses = match resolver.lookup_ip(absolute(&name)).await {
            Ok(found) => found.iter().map(|ip| SocketAddr::new(ip, DNS_PORT)).collect(),
            Err(error) => {
                tracing::debug!(name, %error, "no address found");
                Vec::new()
            }
        };
        Nameserver { name: Some(name), addresses }
    });
    Ok(join_all(servers).await)
}

/// What one address shows.
enum Seen {
    All,
    Otherwise(String),
    Silence(String),
}

async fn look(address: SocketAddr, name: &str, values: &[String], patience: Duration) -> Seen {
    let answer = match ask(address, name, patience).await {
        Ok(answer) => answer,
        Err(error) => return Seen::Silence(format!("gives no answer: {error}")),
    };
    let shown: Vec<String> = answer.answers.iter().filter_map(|record| txt_value(&record.data)).collect();
    let lacking = values.iter().filter(|value| !shown.contains(value)).count();
    match answer.response_code {
        ResponseCode::NoError if lacking == 0 => Seen::All,
        ResponseCode::NoError => {
            let others = shown.iter().filter(|value| !values.contains(value)).count();
            Seen::Otherwise(format!("lacks {lacking} of {} values and shows {others} others", values.len()))
        }
        code => Seen::Otherwise(format!("answers {code}")),
    }
}

/// Asks over UDP, and over TCP where the answer does not fit or none comes.
async fn ask(address: SocketAddr, name: &str, patience: Duration) -> Result<DnsResponse, NetError> {
    let name = Name::from_ascii(absolute(name))?;
    let mut options = DnsRequestOptions::default();
    options.recursion_desired = false;
    let query = Query::query(name, RecordType::TXT);
    let provider = TokioRuntimeProvider::default();

    let mut udp = UdpClientStream::builder(address, provider.clone()).with_timeout(Some(patience)).build();
    let answer = udp.send_message(DnsRequest::from_query(query.clone(), options)).first_answer().await;
    match answer {
        Ok(answer) if !answer.truncation => Ok(answer),
        _ => {
            // `provider` owns the task behind the connection, which ends when it is dropped.
            let connection = TcpClientStream::exchange(address, None, patience, None, provider.clone()).await?;
            connection.lookup(query, options).first_answer().await
        }
    }
}

fn ns_target(record: &hickory_proto::rr::Record) -> Option<String> {
    match &record.data {
        RData::NS(target) => Some(target.to_string().trim_end_matches('.').to_owned()),
        _ => None,
    }
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use autocertd_support::cloud_dns::CloudDns;

    use super::*;

    const NAME: &str = "_acme-challenge.example.test";
    const PATIENCE: Duration = Duration::from_secs(1);

    /// How a server with these addresses lags behind the value that `cloud` shows.
    async fn lag(addresses: &[SocketAddr]) -> Option<Lagging> {
        let server = Nameserver { name: Some("ns.example.test".to_owned()), addresses: addresses.to_vec() };
        server.lag(NAME, &["value".to_owned()], PATIENCE).await
    }

    #[tokio::test]
    async fn one_right_address_is_enough_unless_another_answers_otherwise() {
        let cloud = CloudDns::start().await.unwrap();
        let zone = cloud.add_zone("example.test");
        cloud.add_record(&zone, "_acme-challenge", "TXT", "value");
        let right = cloud.dns_addr();
        let behind = cloud.add_lagging_server().await.unwrap();
        let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let silent = silent.local_addr().unwrap();

        assert_eq!(lag(&[right]).await, None);
        assert_eq!(lag(&[silent, right]).await, None);
        let otherwise = lag(&[right, behind.addr()]).await.unwrap();
        assert_eq!(otherwise.server, format!("ns.example.test at {}", behind.addr()));
        let unreached = lag(&[silent]).await.unwrap();
        assert!(unreached.answered.starts_with("gives no answer"), "{unreached}");
        assert_eq!(lag(&[]).await.unwrap().to_string(), "ns.example.test (has no address)");
    }
}
