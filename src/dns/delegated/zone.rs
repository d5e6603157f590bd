//! What the zone says: authority at its apex, TXT records at and below it, and what is not there (RFC 2308).

use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use crate::config::dns::DelegatedSection;
use crate::dns::delegated::NameContents;
use crate::dns::error::DnsError;
use crate::dns::question::absolute;

/// The zone, but for what it holds.
pub(super) struct OwnZone {
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
    pub(super) const fn code(code: ResponseCode) -> Self {
        Self { code, authoritative: false, truncated: false, answers: Vec::new(), authorities: Vec::new() }
    }

    fn found(answers: Vec<Record>) -> Self {
        Self { authoritative: true, answers, ..Self::code(ResponseCode::NoError) }
    }

    /// Nothing but the word that the whole answer is to be had over TCP.
    pub(super) fn elsewhere() -> Self {
        Self { truncated: true, authoritative: true, ..Self::code(ResponseCode::NoError) }
    }
}

impl OwnZone {
    pub(super) fn of_section(section: &DelegatedSection) -> Result<Self, DnsError> {
        let unusable = |reason| DnsError::Setting { setting: "dns.delegated.zone".to_owned(), reason };
        let zone = section.zone.as_ref().ok_or_else(|| unusable("there is none; name one".to_owned()))?;
        let parse = |name: &str| Name::from_ascii(absolute(name)).map_err(|error| unusable(error.to_string()));
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
    pub(super) fn is_foreign(&self, query: &LowerQuery) -> bool {
        query.query_class() != DNSClass::IN || !self.apex.zone_of(query.name())
    }

    /// The answer, where it does not depend on what the zone holds.
    pub(super) fn answer_of_itself(&self, query: &LowerQuery) -> Option<ZoneAnswer> {
        let kind = query.query_type();
        if self.is_foreign(query) || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Some(ZoneAnswer::code(ResponseCode::Refused));
        }
        if *query.name() != self.apex {
            return None;
        }
        match kind {
            RecordType::TXT => None,
            RecordType::SOA => Some(ZoneAnswer::found(vec![self.soa(query.original().name(), APEX_TTL)])),
            RecordType::NS => {
                let servers = self.nameservers.iter().map(|server| RData::NS(NS(server.clone())));
                Some(ZoneAnswer::found(servers.map(|data| record(query, APEX_TTL, data)).collect()))
            }
            RecordType::ANY => Some(ZoneAnswer::found(vec![minimal(query)])),
            _ => Some(self.no_data()),
        }
    }

    /// The answer, given what is held at the name.
    pub(super) fn answer(&self, query: &LowerQuery, held: NameContents) -> ZoneAnswer {
        match (held, query.query_type()) {
            (NameContents::Values(values), RecordType::TXT) => {
                let records = values.into_iter().map(|value| record(query, SHORT_TTL, txt(&value)));
                ZoneAnswer::found(records.collect())
            }
            (NameContents::Values(_) | NameContents::OnlyBelow, RecordType::ANY) => ZoneAnswer::found(vec![minimal(query)]),
            (NameContents::Nothing, _) if *query.name() != self.apex => {
                ZoneAnswer { code: ResponseCode::NXDomain, ..self.no_data() }
            }
            _ => self.no_data(),
        }
    }

    fn no_data(&self) -> ZoneAnswer {
        let authorities = vec![self.soa(&self.apex, SHORT_TTL)];
        ZoneAnswer { authoritative: true, authorities, ..ZoneAnswer::code(ResponseCode::NoError) }
    }

    fn soa(&self, name: &Name, ttl: u32) -> Record {
        Record::from_rdata(name.clone(), ttl, RData::SOA(self.soa.clone()))
    }
}

/// Under the name as it was asked: some resolvers mix upper and lower case and look whether it comes back.
fn record(query: &LowerQuery, ttl: u32, data: RData) -> Record {
    Record::from_rdata(query.original().name().clone(), ttl, data)
}

/// RFC 8482 section 4.2: no more than this is told to those who ask for everything.
fn minimal(query: &LowerQuery) -> Record {
    record(query, SHORT_TTL, RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())))
}

/// A string of a TXT record holds 255 bytes (RFC 1035 section 3.3).
fn txt(value: &str) -> RData {
    RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect()))
}

/// Seconds for which an answer may be remembered, and that there is none. A value is asked for within seconds after it
/// was noted, and the next order has another one: whoever remembers longer would fail it. Not 0, which some resolvers
/// take for a fault.
const SHORT_TTL: u32 = 1;
/// An hour, in seconds, for what only a change of the settings changes.
const APEX_TTL: u32 = 3_600;
