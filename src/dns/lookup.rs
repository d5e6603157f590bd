//! Look-ups through recursive resolvers: aliases, zones, name servers, addresses, TXT and CAA records. That there is
//! nothing is an answer; that no resolver can tell is an error.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::config::dns::PropagationSection;
use crate::dns::error::DnsError;
use crate::dns::question::{DnsQuestion, DnsReply, QueryError, normalized_name};
use crate::dns::resolvers::{Resolvers, query_first};
use crate::dns::server::Server;
use crate::domain::provider::caa::CaaRecord;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct DnsLookup {
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
pub enum DnssecStatus {
    /// The resolver has validated it.
    Validated,
    /// It is not signed, or the resolver does not validate.
    Unvalidated,
    /// The resolver refuses what it finds, and would give it only unvalidated: so will CAs.
    Bogus,
}

impl DnsLookup {
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
        let reply =
            self.query(name, RecordType::CNAME).await.map_err(|fault| lookup_failed("the aliases", name, fault))?;
        Ok(reply.cname_target(name))
    }

    /// The zone that holds `name`: the nearest name at or above it with an SOA record.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers, all fail, or there is none below the root.
    pub async fn find_zone(&self, name: &str) -> Result<String, DnsError> {
        let mut place = Some(name);
        while let Some(at) = place {
            if self.soa(at).await?.is_some() {
                return Ok(at.to_owned());
            }
            place = at.split_once('.').map(|(_, parent)| parent);
        }
        Err(lookup_failed("the zone", name, "no name at or above it has an SOA record".into()))
    }

    /// The SOA record of `zone`; `None` where no zone begins there.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn soa(&self, zone: &str) -> Result<Option<Soa>, DnsError> {
        let reply = self.query(zone, RecordType::SOA).await.map_err(|fault| lookup_failed("the zone", zone, fault))?;
        // An alias on the way would bring another zone's record.
        Ok(reply.records().iter().filter(|record| normalized_name(&record.name) == zone).find_map(soa_from_record))
    }

    /// The name servers of `zone` as its own NS records name them; none where there are none.
    ///
    /// # Errors
    /// [`DnsError::NoNameServers`] where no resolver answers or all fail.
    pub async fn ns(&self, zone: &str) -> Result<Vec<String>, DnsError> {
        let unfound = |source| DnsError::NoNameServers { zone: zone.to_owned(), source };
        Ok(self.query(zone, RecordType::NS).await.map_err(unfound)?.nameservers(zone))
    }

    /// The addresses of `host`, IPv4 first; none where it has none.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let both = [RecordType::A, RecordType::AAAA].map(|kind| self.query_following_aliases(host, kind));
        let [v4, v6] = both;
        match tokio::join!(v4, v6) {
            (Err(fault), Err(_)) => Err(lookup_failed("the addresses", host, fault)),
            (v4, v6) => Ok([v4, v6].into_iter().flatten().flat_map(|reply| reply.addresses()).collect()),
        }
    }

    /// The values of the TXT records at `name`, or behind its aliases.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let reply = self
            .query_following_aliases(name, RecordType::TXT)
            .await
            .map_err(|fault| lookup_failed("the TXT records", name, fault))?;
        Ok(reply.texts())
    }

    /// The CAA records at exactly this name, or behind its aliases.
    ///
    /// # Errors
    /// [`DnsError::NoCaa`] where no resolver answers or all fail.
    pub async fn caa(&self, name: &str) -> Result<Vec<CaaRecord>, DnsError> {
        let unknown = |source| DnsError::NoCaa { name: name.to_owned(), source };
        let reply = self.query_following_aliases(name, RecordType::CAA).await.map_err(unknown)?;
        Ok(reply.records().iter().filter_map(caa_from_record).collect())
    }

    /// How the servers of the parent delegate `zone`; they are asked themselves. Where `servers` are set, they are asked
    /// instead.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where the parent or its servers cannot be found, or none of them answers.
    pub async fn delegation(&self, zone: &str) -> Result<Delegation, DnsError> {
        let unknown = |fault| lookup_failed("the delegation", zone, fault);
        let (_, above) = zone.split_once('.').ok_or_else(|| unknown("it lies right below the root".into()))?;
        let parent = self.find_zone(above).await?;
        let servers =
            if self.servers.is_empty() { self.authoritative_servers(&parent).await? } else { self.servers.clone() };
        let question = DnsQuestion::to_authority(zone, RecordType::NS).map_err(unknown)?;
        let reply = query_first(servers, &question).await.map_err(unknown)?;
        Ok(Delegation { parent, nameservers: reply.nameservers(zone) })
    }

    /// What DNSSEC says of `zone`.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail in any case.
    pub async fn dnssec_status(&self, zone: &str) -> Result<DnssecStatus, DnsError> {
        let unknown = |fault| lookup_failed("the zone", zone, fault);
        let question = DnsQuestion::to_resolver(zone, RecordType::SOA).map_err(unknown)?;
        match self.resolvers.query(&question).await {
            Ok(reply) if reply.is_validated() => Ok(DnssecStatus::Validated),
            Ok(_) => Ok(DnssecStatus::Unvalidated),
            Err(fault) if fault.code() == Some(ResponseCode::ServFail) => {
                let unchecked = self.resolvers.query(&question.with_checking_disabled()).await;
                unchecked.map(|_| DnssecStatus::Bogus).map_err(|_| unknown(fault))
            }
            Err(fault) => Err(unknown(fault)),
        }
    }

    /// All resolvers, in the order in which they are asked.
    pub(super) async fn resolvers(&self) -> Vec<Arc<Server>> {
        self.resolvers.all().await
    }

    /// The authoritative servers of a zone, each of their addresses.
    async fn authoritative_servers(&self, zone: &str) -> Result<Vec<Arc<Server>>, DnsError> {
        let names = self.ns(zone).await?;
        let addresses = join_all(names.iter().map(|name| self.addresses(name))).await;
        let server = |ip| Arc::new(Server::at(SocketAddr::new(ip, DNS_PORT)));
        Ok(addresses.into_iter().flatten().flatten().map(server).collect())
    }

    /// What is at a name itself.
    async fn query(&self, name: &str, kind: RecordType) -> Result<DnsReply, QueryError> {
        self.resolvers.query(&DnsQuestion::to_resolver(name, kind)?).await
    }

    /// What is at a name or behind its aliases, also where a server leaves it to the asker to follow them.
    async fn query_following_aliases(&self, name: &str, kind: RecordType) -> Result<DnsReply, QueryError> {
        let mut place = name.to_owned();
        for _ in 0..MAX_ALIASES {
            let reply = self.query(&place, kind).await?;
            let end = reply.last_alias(&place);
            if end == place || reply.is_negative() || reply.records().iter().any(|record| record.record_type() == kind)
            {
                return Ok(reply);
            }
            place = end;
        }
        Err(QueryError::new(format!("the CNAME records at {name} lead round in a circle or too far")))
    }
}

fn lookup_failed(what: &'static str, name: &str, source: QueryError) -> DnsError {
    DnsError::NoLookup { what, name: name.to_owned(), source }
}

fn soa_from_record(record: &Record) -> Option<Soa> {
    match &record.data {
        RData::SOA(soa) => Some(Soa {
            primary: normalized_name(&soa.mname),
            serial: soa.serial,
            negative_ttl: record.ttl.min(soa.minimum),
        }),
        _ => None,
    }
}

fn caa_from_record(record: &Record) -> Option<CaaRecord> {
    match &record.data {
        RData::CAA(caa) => Some(CaaRecord {
            critical: caa.issuer_critical,
            tag: caa.tag.clone(),
            value: String::from_utf8_lossy(&caa.value).into_owned(),
        }),
        _ => None,
    }
}

const MAX_ALIASES: usize = 10;
pub(super) const DNS_PORT: u16 = 53;
