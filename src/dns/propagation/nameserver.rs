//! The name servers of a zone, asked directly, and what they lack.

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;

use std::net::SocketAddr;
use std::time::Duration;

use super::evidence::{Evidence, shortfall};
use crate::dns::error::Lagging;
use crate::dns::question::Reply;
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
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { name: None, addresses: vec![Server::at(address)] }
    }

    /// How this server lags behind the values; `None` where one address shows them all and none answers otherwise.
    /// An address that does not answer counts only where no other does: not every host reaches IPv6.
    pub(super) async fn lag(&self, evidence: &Evidence, patience: Duration) -> Option<Lagging> {
        let mut asked: Vec<&Server> = self.addresses.iter().filter(|address| !address.is_silent()).collect();
        if asked.is_empty() {
            asked = self.addresses.iter().collect();
        }
        let looks = join_all(asked.iter().map(|address| self.look(address, evidence, patience))).await;
        let wrong = looks.iter().position(|seen| matches!(seen, Seen::Otherwise(_)));
        if wrong.is_none() && looks.iter().any(|seen| matches!(seen, Seen::All)) {
            return None;
        }
        let place = wrong.unwrap_or(0);
        let answered = match looks.get(place) {
            Some(Seen::Otherwise(words) | Seen::Silence(words)) => words.clone(),
            _ => "has no address".to_owned(),
        };
        let server = match (&self.name, asked.get(place)) {
            (Some(name), Some(address)) => format!("{name} at {address}"),
            (Some(name), None) => name.clone(),
            (None, address) => address.map(ToString::to_string).unwrap_or_default(),
        };
        Some(Lagging { server, answered })
    }

    async fn look(&self, address: &Server, evidence: &Evidence, patience: Duration) -> Seen {
        match address.ask(&evidence.question, patience).await {
            Err(fault) => Seen::Silence(fault.to_string()),
            Ok(reply) => match self.refusal(&reply).or_else(|| shortfall(&reply, evidence)) {
                Some(words) => Seen::Otherwise(words),
                None => Seen::All,
            },
        }
    }

    /// Why an answer of a server that must serve the zone shows that it does not. What the settings name may be anything.
    fn refusal(&self, reply: &Reply) -> Option<String> {
        if let Some(zone) = reply.referred_to() {
            return Some(format!("refers to the servers of {zone}"));
        }
        let answers = matches!(reply.code(), ResponseCode::NoError | ResponseCode::NXDomain);
        let lame = self.name.is_some() && answers && !reply.is_authoritative();
        lame.then(|| "does not serve the zone: its answer is not authoritative".to_owned())
    }

    /// Whether this is the same server, in another look.
    pub(super) fn key(&self) -> String {
        let address = || self.addresses.first().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }
}

/// What one address shows.
enum Seen {
    All,
    Otherwise(String),
    Silence(String),
}
