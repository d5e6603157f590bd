//! What the zone says: authority at its apex, TXT records at and below it, and what is not there (RFC 2308).

use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use crate::config::dns::DelegatedSection;
use crate::dns::delegated::NameContents;
use crate::dns::error::DnsError;
use crate::dns::question::to_fqdn;

/// The zone, but for what it holds.
pub(super) struct DelegatedZone {
    apex: LowerName,
    soa: SOA,
    nameservers: Vec<Name>,
}

/// What a question is answered.
#[derive(Debug)]
pub(super) struct ZoneAnswer {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

impl ZoneAnswer {
    /// A bare code, without authority.
    pub(super) const fn from_code(code: ResponseCode) -> Self {
        Self { code, authoritative: false, truncated: false, answers: Vec::new(), authorities: Vec::new() }
    }

    fn from_records(answers: Vec<Record>) -> Self {
        Self { authoritative: true, answers, ..Self::from_code(ResponseCode::NoError) }
    }

    /// Nothing but the word that the whole answer is to be had over TCP.
    pub(super) fn retry_over_tcp() -> Self {
        Self { truncated: true, authoritative: true, ..Self::from_code(ResponseCode::NoError) }
    }
}

impl DelegatedZone {
    pub(super) fn from_section(section: &DelegatedSection) -> Result<Self, DnsError> {
        let unusable = |reason| DnsError::Setting { setting: "dns.delegated.zone".to_owned(), reason };
        let zone = section.zone.as_ref().ok_or_else(|| unusable("there is none; name one".to_owned()))?;
        let parse = |name: &str| Name::from_ascii(to_fqdn(name)).map_err(|error| unusable(error.to_string()));
        let apex = parse(zone.as_str())?;
        let servers = section.nameservers.iter().map(|server| parse(server.as_str()));
        let nameservers = servers.collect::<Result<Vec<_>, _>>()?;
        let primary = nameservers.first().unwrap_or(&apex).clone();
        let contact = parse(&format!("hostmaster.{zone}")).unwrap_or_else(|_| apex.clone());
        // Nobody transfers the zone, so that serial and intervals mean nothing.
        let soa = SOA::new(primary, contact, 1, 3_600, 600, 86_400, SHORT_TTL);
        Ok(Self { apex: LowerName::new(&apex), soa, nameservers })
    }

    /// Whether others are to be asked.
    pub(super) fn is_out_of_zone(&self, query: &LowerQuery) -> bool {
        query.query_class() != DNSClass::IN || !self.apex.zone_of(query.name())
    }

    /// The answer, where it does not depend on what the zone holds.
    pub(super) fn answer_static(&self, query: &LowerQuery) -> Option<ZoneAnswer> {
        let kind = query.query_type();
        if self.is_out_of_zone(query) || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Some(ZoneAnswer::from_code(ResponseCode::Refused));
        }
        if *query.name() != self.apex {
            return None;
        }
        match kind {
            RecordType::TXT => None,
            RecordType::SOA => Some(ZoneAnswer::from_records(vec![self.soa_record(query.original().name(), APEX_TTL)])),
            RecordType::NS => {
                let servers = self.nameservers.iter().map(|server| RData::NS(NS(server.clone())));
                Some(ZoneAnswer::from_records(servers.map(|data| record_for(query, APEX_TTL, data)).collect()))
            }
            RecordType::ANY => Some(ZoneAnswer::from_records(vec![minimal_any_record(query)])),
            _ => Some(self.no_data()),
        }
    }

    /// The answer, given what is held at the name.
    pub(super) fn answer_from_contents(&self, query: &LowerQuery, held: NameContents) -> ZoneAnswer {
        match (held, query.query_type()) {
            (NameContents::Values(values), RecordType::TXT) => {
                let records = values.into_iter().map(|value| record_for(query, SHORT_TTL, txt_data(&value)));
                ZoneAnswer::from_records(records.collect())
            }
            (NameContents::Values(_) | NameContents::EmptyNonTerminal, RecordType::ANY) => {
                ZoneAnswer::from_records(vec![minimal_any_record(query)])
            }
            (NameContents::NoSuchName, _) if *query.name() != self.apex => {
                ZoneAnswer { code: ResponseCode::NXDomain, ..self.no_data() }
            }
            _ => self.no_data(),
        }
    }

    fn no_data(&self) -> ZoneAnswer {
        let authorities = vec![self.soa_record(&self.apex, SHORT_TTL)];
        ZoneAnswer { authoritative: true, authorities, ..ZoneAnswer::from_code(ResponseCode::NoError) }
    }

    fn soa_record(&self, name: &Name, ttl: u32) -> Record {
        Record::from_rdata(name.clone(), ttl, RData::SOA(self.soa.clone()))
    }
}

/// Under the name as it was asked: some resolvers mix upper and lower case and look whether it comes back.
fn record_for(query: &LowerQuery, ttl: u32, data: RData) -> Record {
    Record::from_rdata(query.original().name().clone(), ttl, data)
}

/// RFC 8482 section 4.2: no more than this is told to those who ask for everything.
fn minimal_any_record(query: &LowerQuery) -> Record {
    record_for(query, SHORT_TTL, RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())))
}

/// A string of a TXT record holds 255 bytes (RFC 1035 section 3.3).
fn txt_data(value: &str) -> RData {
    RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect()))
}

/// Seconds for which an answer may be remembered, and that there is none. A value is asked for within seconds after it
/// was noted, and the next order has another one: whoever remembers longer would fail it. Not 0, which some resolvers
/// take for a fault.
const SHORT_TTL: u32 = 1;
/// An hour, in seconds, for what only a change of the settings changes.
const APEX_TTL: u32 = 3_600;
