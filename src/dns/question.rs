//! A question to a DNS server, and what it answers: the one form in which everything here asks, over UDP, TCP or HTTPS.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// A question of the class IN, without EDNS.
#[derive(Clone, Debug)]
pub struct DnsQuestion {
    name: Name,
    kind: RecordType,
    recursive: bool,
    checking_disabled: bool,
}

impl DnsQuestion {
    /// One that a resolver is to find the answer to, wherever that is.
    ///
    /// # Errors
    /// Where DNS cannot carry the name.
    pub fn to_resolver(name: &str, kind: RecordType) -> Result<Self, QueryError> {
        Self::new(name, kind, true)
    }

    /// One about what the server itself holds.
    ///
    /// # Errors
    /// Where DNS cannot carry the name.
    pub fn to_authority(name: &str, kind: RecordType) -> Result<Self, QueryError> {
        Self::new(name, kind, false)
    }

    /// The same, to be answered also where DNSSEC says that the answer is forged (the CD bit, RFC 4035 section 3.2.2).
    #[must_use]
    pub fn with_checking_disabled(self) -> Self {
        Self { checking_disabled: true, ..self }
    }

    /// Whether a resolver is to find the answer.
    pub const fn is_recursive(&self) -> bool {
        self.recursive
    }

    fn new(name: &str, kind: RecordType, recursive: bool) -> Result<Self, QueryError> {
        let parsed = Name::from_ascii(to_fqdn(name));
        let name = parsed.map_err(|error| QueryError::new(format!("{name:?} is no name that DNS carries: {error}")))?;
        Ok(Self { name, kind, recursive, checking_disabled: false })
    }

    /// The packet.
    pub(super) fn message(&self) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(self.name.clone(), self.kind));
        message.metadata.recursion_desired = self.recursive;
        message.metadata.checking_disabled = self.checking_disabled;
        // Asks for the same bit in the answer (RFC 6840 section 5.7).
        message.metadata.authentic_data = self.recursive;
        message
    }
}

/// With the final dot, so that no search list applies.
pub(super) fn to_fqdn(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// What a server answers.
#[derive(Clone, Debug)]
pub struct DnsReply(Message);

impl DnsReply {
    /// Reads the packet; `None` where it is no answer to this question.
    pub(super) fn from_message(question: &DnsQuestion, message: Message) -> Option<Self> {
        let asked = |query: &Query| query.name == question.name && query.query_type == question.kind;
        let is_answer = message.metadata.message_type == MessageType::Response;
        // Of a question that it cannot read a server may repeat nothing.
        let fits = message.queries.first().map_or(message.metadata.response_code == ResponseCode::FormErr, asked);
        (is_answer && fits).then_some(Self(message))
    }

    /// The response code.
    pub fn code(&self) -> ResponseCode {
        self.0.metadata.response_code
    }

    /// Whether the server speaks for the zone itself (AA).
    pub fn is_authoritative(&self) -> bool {
        self.0.metadata.authoritative
    }

    /// Whether the resolver has found the answer genuine by DNSSEC (AD).
    pub fn is_validated(&self) -> bool {
        self.0.metadata.authentic_data
    }

    /// Whether this is no answer but the names of servers that may have one.
    pub fn is_referral(&self) -> bool {
        let is = |kind| self.0.authorities.iter().any(|record| record.record_type() == kind);
        let says_something = !self.0.answers.is_empty() || self.code() != ResponseCode::NoError;
        !says_something && !self.is_authoritative() && is(RecordType::NS) && !is(RecordType::SOA)
    }

    /// The zone to whose servers a referral leads.
    pub fn referred_to(&self) -> Option<String> {
        let delegation = self.0.authorities.iter().find(|record| record.record_type() == RecordType::NS);
        delegation.filter(|_| self.is_referral()).map(|record| normalized_name(&record.name))
    }

    /// The records of the answer, aliases on the way included.
    pub fn records(&self) -> &[Record] {
        &self.0.answers
    }

    /// The values of all TXT records. The strings of a record are one value (RFC 7208 section 3.3 says how all take it).
    pub fn texts(&self) -> Vec<String> {
        let value = |record: &Record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
            _ => None,
        };
        self.0.answers.iter().filter_map(value).collect()
    }

    /// All addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.0.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
    }

    /// The name servers of `zone`, in a referral as in an answer.
    pub fn nameservers(&self, zone: &str) -> Vec<String> {
        let target = |record: &Record| match &record.data {
            RData::NS(target) if normalized_name(&record.name) == zone => Some(normalized_name(&target.0)),
            _ => None,
        };
        let mut names: Vec<String> = self.0.answers.iter().chain(&self.0.authorities).filter_map(target).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Where the CNAME record at `name` leads.
    pub fn cname_target(&self, name: &str) -> Option<String> {
        self.0.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if normalized_name(&record.name) == name => Some(normalized_name(&target.0)),
            _ => None,
        })
    }

    /// The name at which the aliases of the answer end, from `name` on. Those that lead round end somewhere.
    pub fn last_alias(&self, name: &str) -> String {
        let mut end = name.to_owned();
        for _ in &self.0.answers {
            match self.cname_target(&end) {
                Some(target) => end = target,
                None => break,
            }
        }
        end
    }

    /// How long a resolver may go on giving this answer: for one without records that is what the SOA says about it
    /// (RFC 2308 section 5), nothing where there is none.
    pub fn time_to_live(&self, kind: RecordType) -> Duration {
        let shown = self.0.answers.iter().any(|record| record.record_type() == kind);
        let seconds = if shown {
            self.0.answers.iter().map(|record| record.ttl).min()
        } else {
            self.0.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })
        };
        Duration::from_secs(seconds.unwrap_or(0).into())
    }

    /// Whether the answer is that there are no records of this type at `name`, or behind its aliases.
    pub(super) fn is_negative(&self) -> bool {
        let soa = self.0.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
        self.code() == ResponseCode::NXDomain || soa
    }
}

/// Why there is no answer that can be used, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct QueryError {
    words: String,
    code: Option<ResponseCode>,
}

impl QueryError {
    /// No answer for this reason.
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), code: None }
    }

    /// A code that is no answer.
    pub(super) fn from_code(code: ResponseCode) -> Self {
        Self { words: format!("answers {code}"), code: Some(code) }
    }

    /// The same, with the server that gives none.
    pub(super) fn with_server(self, server: &impl fmt::Display) -> Self {
        Self { words: format!("{server} {}", self.words), ..self }
    }

    /// All of them in one; the first code counts.
    pub(super) fn combine(faults: &[Self]) -> Self {
        let words: Vec<&str> = faults.iter().map(|fault| fault.words.as_str()).collect();
        let words = if words.is_empty() { "there is no server to ask".to_owned() } else { words.join(", ") };
        Self { words, code: faults.iter().find_map(|fault| fault.code) }
    }

    /// The response code where a server gave one, such as SERVFAIL.
    pub const fn code(&self) -> Option<ResponseCode> {
        self.code
    }
}

impl From<&str> for QueryError {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

/// As A-labels in lower case, without the final dot. hickory's own way of printing turns A-labels into Unicode.
pub(super) fn normalized_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_lowercase()
}
