//! Look-ups through recursive resolvers: aliases, zones, name servers, addresses, TXT and CAA records. That there is
//! nothing is an answer; that no resolver can tell is an error.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::config::dns::PropagationSection;
use crate::dns::error::DnsError;
use crate::dns::question::{QueryError, DnsQuestion, DnsReply, plain};
use crate::dns::resolvers::{Resolvers, first_of};
use crate::dns::server::Server;
use crate::domain::caa::CaaRecord;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Lookup {
    resolvers: Arc<Resolvers>,
    /// Asked instead of authoritative servers.
    servers: Vec<Arc<Server>>,
}

/// What the SOA record of a zone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// The zone's primary name server.
    pub primary: String,
    /// Grows with each change of the zone.
    pub serial: u32,
    /// For how many seconds resolvers may go on saying that a name is not there (RFC 2308 section 4).
    pub negative_ttl: u32,
}

/// How a zone is delegated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The zone above it.
    pub parent: String,
    /// The name servers that those of the parent name; none where it is not delegated.
    pub nameservers: Vec<String>,
}

/// What DNSSEC says of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The resolver has validated it.
    Validated,
    /// It is not signed, or the resolver does not validate.
    Unvalidated,
    /// The resolver refuses what it finds, and would give it only unvalidated: so will CAs.
    Bogus,
}

impl Lookup {
    /// A look-up through the resolvers of these settings; without any, through `servers`, or else through those that the
    /// operating system uses.
    pub fn new(section: &PropagationSection) -> Self {
        let servers = section.servers.iter().map(|address| Arc::new(Server::at(*address))).collect();
        Self { resolvers: Arc::new(Resolvers::new(section)), servers }
    }

    /// Where the CNAME record at `name` leads, in lower case without a trailing dot; `None` where there is none.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn cname(&self, name: &str) -> Result<Option<String>, DnsError> {
        let reply = self.at(name, RecordType::CNAME).await.map_err(|fault| unknown("the aliases", name, fault))?;
        Ok(reply.alias_of(name))
    }

    /// The zone that holds `name`: the nearest name at or above it with an SOA record.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers, all fail, or there is none below the root.
    pub async fn zone_of(&self, name: &str) -> Result<String, DnsError> {
        let mut place = Some(name);
        while let Some(at) = place {
            if self.soa(at).await?.is_some() {
                return Ok(at.to_owned());
            }
            place = at.split_once('.').map(|(_, parent)| parent);
        }
        Err(unknown("the zone", name, "no name at or above it has an SOA record".into()))
    }

    /// The SOA record of `zone`; `None` where no zone begins there.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn soa(&self, zone: &str) -> Result<Option<Soa>, DnsError> {
        let reply = self.at(zone, RecordType::SOA).await.map_err(|fault| unknown("the zone", zone, fault))?;
        // An alias on the way would bring another zone's record.
        Ok(reply.records().iter().filter(|record| plain(&record.name) == zone).find_map(soa))
    }

    /// The name servers of `zone` as its own NS records name them; none where there are none.
    ///
    /// # Errors
    /// [`DnsError::NoNameServers`] where no resolver answers or all fail.
    pub async fn ns(&self, zone: &str) -> Result<Vec<String>, DnsError> {
        let unfound = |source| DnsError::NoNameServers { zone: zone.to_owned(), source };
        Ok(self.at(zone, RecordType::NS).await.map_err(unfound)?.nameservers(zone))
    }

    /// The addresses of `host`, IPv4 first; none where it has none.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let both = [RecordType::A, RecordType::AAAA].map(|kind| self.found(host, kind));
        let [v4, v6] = both;
        match tokio::join!(v4, v6) {
            (Err(fault), Err(_)) => Err(unknown("the addresses", host, fault)),
            (v4, v6) => Ok([v4, v6].into_iter().flatten().flat_map(|reply| reply.addresses()).collect()),
        }
    }

    /// The values of the TXT records at `name`, or behind its aliases.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let reply = self.found(name, RecordType::TXT).await.map_err(|fault| unknown("the TXT records", name, fault))?;
        Ok(reply.texts())
    }

    /// The CAA records at exactly this name, or behind its aliases.
    ///
    /// # Errors
    /// [`DnsError::NoCaa`] where no resolver answers or all fail.
    pub async fn caa(&self, name: &str) -> Result<Vec<CaaRecord>, DnsError> {
        let unknown = |source| DnsError::NoCaa { name: name.to_owned(), source };
        let reply = self.found(name, RecordType::CAA).await.map_err(unknown)?;
        Ok(reply.records().iter().filter_map(caa).collect())
    }

    /// How the servers of the parent delegate `zone`; they are asked themselves. Where `servers` are set, they are asked
    /// instead.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where the parent or its servers cannot be found, or none of them answers.
    pub async fn delegation(&self, zone: &str) -> Result<Delegation, DnsError> {
        let unknown = |fault| unknown("the delegation", zone, fault);
        let (_, above) = zone.split_once('.').ok_or_else(|| unknown("it lies right below the root".into()))?;
        let parent = self.zone_of(above).await?;
        let servers = if self.servers.is_empty() { self.servers_of(&parent).await? } else { self.servers.clone() };
        let question = DnsQuestion::to_authority(zone, RecordType::NS).map_err(unknown)?;
        let reply = first_of(servers, &question).await.map_err(unknown)?;
        Ok(Delegation { parent, nameservers: reply.nameservers(zone) })
    }

    /// What DNSSEC says of `zone`.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail in any case.
    pub async fn security(&self, zone: &str) -> Result<Security, DnsError> {
        let unknown = |fault| unknown("the zone", zone, fault);
        let question = DnsQuestion::to_resolver(zone, RecordType::SOA).map_err(unknown)?;
        match self.resolvers.ask(&question).await {
            Ok(reply) if reply.is_validated() => Ok(Security::Validated),
            Ok(_) => Ok(Security::Unvalidated),
            Err(fault) if fault.code() == Some(ResponseCode::ServFail) => {
                let unchecked = self.resolvers.ask(&question.unchecked()).await;
                unchecked.map(|_| Security::Bogus).map_err(|_| unknown(fault))
            }
            Err(fault) => Err(unknown(fault)),
        }
    }

    /// All resolvers, in the order in which they are asked.
    pub(super) async fn resolvers(&self) -> Vec<Arc<Server>> {
        self.resolvers.all().await
    }

    /// The authoritative servers of a zone, each of their addresses.
    async fn servers_of(&self, zone: &str) -> Result<Vec<Arc<Server>>, DnsError> {
        let names = self.ns(zone).await?;
        let addresses = join_all(names.iter().map(|name| self.addresses(name))).await;
        let server = |ip| Arc::new(Server::at(SocketAddr::new(ip, DNS_PORT)));
        Ok(addresses.into_iter().flatten().flatten().map(server).collect())
    }

    /// What is at a name itself.
    async fn at(&self, name: &str, kind: RecordType) -> Result<DnsReply, QueryError> {
        self.resolvers.ask(&DnsQuestion::to_resolver(name, kind)?).await
    }

    /// What is at a name or behind its aliases, also where a server leaves it to the asker to follow them.
    async fn found(&self, name: &str, kind: RecordType) -> Result<DnsReply, QueryError> {
        let mut place = name.to_owned();
        for _ in 0..MOST_ALIASES {
            let reply = self.at(&place, kind).await?;
            let end = reply.end_of_aliases(&place);
            if end == place || reply.denies() || reply.records().iter().any(|record| record.record_type() == kind) {
                return Ok(reply);
            }
            place = end;
        }
        Err(QueryError::new(format!("the CNAME records at {name} lead round in a circle or too far")))
    }
}

fn unknown(what: &'static str, name: &str, source: QueryError) -> DnsError {
    DnsError::NoLookup { what, name: name.to_owned(), source }
}

fn soa(record: &Record) -> Option<Soa> {
    match &record.data {
        RData::SOA(soa) => {
            Some(Soa { primary: plain(&soa.mname), serial: soa.serial, negative_ttl: record.ttl.min(soa.minimum) })
        }
        _ => None,
    }
}

fn caa(record: &Record) -> Option<CaaRecord> {
    match &record.data {
        RData::CAA(caa) => Some(CaaRecord {
            critical: caa.issuer_critical,
            tag: caa.tag.clone(),
            value: String::from_utf8_lossy(&caa.value).into_owned(),
        }),
        _ => None,
    }
}

const MOST_ALIASES: usize = 10;
pub(super) const DNS_PORT: u16 = 53;
