//! The messages: questions, and updates that add or remove exactly the given records. hickory's own helpers panic where
//! a name is not in the zone; these do not look at it.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// TXT values of names that one zone holds.
pub(super) struct ZoneValues<'a> {
    pub(super) zone: Name,
    pub(super) values: Vec<(Name, &'a str)>,
}

impl ZoneValues<'_> {
    /// Adds them (RFC 2136 section 2.5.1); those that are there already stay. A server takes no notice of a record
    /// beside a CNAME (section 3.4.2.2) and says nothing: so it is required that there is none (section 2.4.3).
    pub(super) fn build_addition(&self, id: u16, ttl: u32) -> Message {
        let mut message = self.build_update(id);
        for (name, content) in &self.values {
            let mut no_alias = Record::update0(name.clone(), 0, RecordType::CNAME);
            no_alias.dns_class = DNSClass::NONE;
            message.add_answer(no_alias);
            message.add_authority(Record::from_rdata(name.clone(), ttl, txt_data(content)));
        }
        message
    }

    /// Removes exactly them (RFC 2136 section 2.5.4), never others of their names.
    pub(super) fn build_removal(&self, id: u16) -> Message {
        let mut message = self.build_update(id);
        for (name, content) in &self.values {
            let mut record = Record::from_rdata(name.clone(), 0, txt_data(content));
            record.dns_class = DNSClass::NONE;
            message.add_authority(record);
        }
        message
    }

    fn build_update(&self, id: u16) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(self.zone.clone(), RecordType::SOA));
        message
    }
}

/// A question that wants no recursion.
pub(super) fn build_question(id: u16, name: &Name, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// The zone that an authoritative answer to a question for the SOA record of `asked` speaks of: in the answer at the
/// zone's apex, in the authority section below it (RFC 2308 section 2). Behind an alias both may be of another zone.
pub(super) fn zone_from_soa(answer: &Message, asked: &Name) -> Option<Name> {
    let soa = |records: &[Record], fits: fn(&Name, &Name) -> bool| {
        let found = records.iter().find(|record| matches!(record.data, RData::SOA(_)) && fits(&record.name, asked));
        found.map(|record| record.name.clone()).filter(|zone| !zone.is_root())
    };
    if answer.answers.is_empty() { soa(&answer.authorities, Name::zone_of) } else { soa(&answer.answers, Name::eq) }
}

/// The targets of the NS records of an answer.
pub(super) fn ns_targets(answer: &Message) -> impl Iterator<Item = &Name> {
    answer.answers.iter().filter_map(|record| match &record.data {
        RData::NS(target) => Some(&target.0),
        _ => None,
    })
}

/// A string of a TXT record holds 255 bytes (RFC 1035 section 3.3).
fn txt_data(content: &str) -> RData {
    RData::TXT(TXT::from_bytes(content.as_bytes().chunks(255).collect()))
}
