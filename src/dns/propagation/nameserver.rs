//! The name servers of a zone, asked directly, and what they lack.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;

use super::expected_values::{ExpectedValues, describe_shortfall};
use crate::dns::error::LaggingNameserver;
use crate::dns::question::DnsReply;
use crate::dns::server::Server;

/// One name server with all addresses at which it answers.
#[derive(Debug)]
pub(super) struct Nameserver {
    /// Its name; none where the settings give an address.
    name: Option<String>,
    addresses: Vec<Server>,
}

impl Nameserver {
    /// The server of this name, at all its addresses.
    pub(super) fn named(name: String, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { name: Some(name), addresses: addresses.into_iter().map(Server::at).collect() }
    }

    /// The server at an address.
    pub(super) fn from_address(address: SocketAddr) -> Self {
        Self { name: None, addresses: vec![Server::at(address)] }
    }

    /// How this server lags behind the values; `None` where one address shows them all and none answers otherwise.
    /// An address that does not answer counts only where no other does: not every host reaches IPv6.
    pub(super) async fn check(&self, evidence: &ExpectedValues, patience: Duration) -> Option<LaggingNameserver> {
        let mut asked: Vec<&Server> = self.addresses.iter().filter(|address| !address.is_silent()).collect();
        if asked.is_empty() {
            asked = self.addresses.iter().collect();
        }
        let looks = join_all(asked.iter().map(|address| self.check_address(address, evidence, patience))).await;
        let wrong = looks.iter().position(|seen| matches!(seen, AddressAnswer::ShowsOther(_)));
        if wrong.is_none() && looks.iter().any(|seen| matches!(seen, AddressAnswer::ShowsAll)) {
            return None;
        }
        let place = wrong.unwrap_or(0);
        let answered = match looks.get(place) {
            Some(AddressAnswer::ShowsOther(words) | AddressAnswer::NoAnswer(words)) => words.clone(),
            _ => "has no address".to_owned(),
        };
        let server = match (&self.name, asked.get(place)) {
            (Some(name), Some(address)) => format!("{name} at {address}"),
            (Some(name), None) => name.clone(),
            (None, address) => address.map(ToString::to_string).unwrap_or_default(),
        };
        Some(LaggingNameserver { server, answered })
    }

    async fn check_address(&self, address: &Server, evidence: &ExpectedValues, patience: Duration) -> AddressAnswer {
        match address.ask(&evidence.question, patience).await {
            Err(fault) => AddressAnswer::NoAnswer(fault.to_string()),
            Ok(reply) => match describe_shortfall(&reply, evidence) {
                // Whoever shows it shows it, be it a proxy on the way.
                None => AddressAnswer::ShowsAll,
                Some(words) => AddressAnswer::ShowsOther(self.refusal_reason(&reply).unwrap_or(words)),
            },
        }
    }

    /// Why an answer of a server that must serve the zone shows that it does not. What the settings name may be anything.
    fn refusal_reason(&self, reply: &DnsReply) -> Option<String> {
        if let Some(zone) = reply.referred_to() {
            return Some(format!("refers to the servers of {zone}"));
        }
        let answers = matches!(reply.code(), ResponseCode::NoError | ResponseCode::NXDomain);
        let lame = self.name.is_some() && answers && !reply.is_authoritative();
        lame.then(|| "does not serve the zone: its answer is not authoritative".to_owned())
    }

    /// Whether it can be asked at all.
    pub(super) fn has_address(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether this is the same server, in another look.
    pub(super) fn identity(&self) -> String {
        let address = || self.addresses.first().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }
}

/// What one address shows.
enum AddressAnswer {
    ShowsAll,
    ShowsOther(String),
    NoAnswer(String),
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use autocertd_support::cloud_dns::{AnswerMode, CloudDns};

    use super::*;

    const NAME: &str = "_acme-challenge.example.test";
    const PATIENCE: Duration = Duration::from_secs(1);

    /// How a server with these addresses lags behind the value that `cloud` shows.
    async fn lag(addresses: &[SocketAddr]) -> Option<LaggingNameserver> {
        lag_of(&Nameserver::named("ns.example.test".to_owned(), addresses.to_vec())).await
    }

    async fn lag_of(server: &Nameserver) -> Option<LaggingNameserver> {
        server.check(&ExpectedValues::for_authority(NAME, &["value".to_owned()]).unwrap(), PATIENCE).await
    }

    async fn with_the_value() -> CloudDns {
        let cloud = CloudDns::start().await.unwrap();
        let zone = cloud.add_zone("example.test");
        cloud.add_record(&zone, "_acme-challenge", "TXT", "value");
        cloud
    }

    #[tokio::test]
    async fn one_right_address_is_enough_unless_another_answers_otherwise() {
        let cloud = with_the_value().await;
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

    #[tokio::test]
    async fn an_address_that_was_silent_is_left_alone_beside_another() {
        let cloud = with_the_value().await;
        let (first, second) = (cloud.add_lagging_server().await.unwrap(), cloud.add_lagging_server().await.unwrap());
        let server = Nameserver::named("ns.example.test".to_owned(), [first.addr(), second.addr()]);
        second.catch_up();
        first.delay_answers(Duration::from_hours(1));
        assert_eq!(lag_of(&server).await, None);
        let asked = first.asked();
        assert_eq!(lag_of(&server).await, None);
        assert_eq!(first.asked(), asked, "its silence was waited for again");
    }

    #[tokio::test]
    async fn a_named_server_must_serve_the_zone_or_show_the_value() {
        let cloud = with_the_value().await;
        let lame = cloud.add_lagging_server().await.unwrap();
        lame.set_answer_mode(AnswerMode::Lame);
        let words = lag(&[lame.addr()]).await.unwrap().answered;
        assert_eq!(words, "does not serve the zone: its answer is not authoritative");
        // An address of the settings may be a resolver's, and a proxy may stand before a server.
        let words = lag_of(&Nameserver::from_address(lame.addr())).await.unwrap().answered;
        assert!(words.starts_with("answers"), "{words}");
        lame.catch_up();
        assert_eq!(lag(&[lame.addr()]).await, None);
    }
}
