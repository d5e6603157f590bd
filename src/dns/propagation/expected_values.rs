//! What must be seen, and how far an answer falls short of it.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::dns::question::{DnsQuestion, DnsReply, QueryError};

/// The values that the TXT records at a name must show.
pub(super) struct ExpectedValues {
    pub(super) question: DnsQuestion,
    name: String,
    values: Vec<String>,
}

impl ExpectedValues {
    /// What a server itself must show.
    pub(super) fn for_authority(name: &str, values: &[String]) -> Result<Self, QueryError> {
        Ok(Self::new(DnsQuestion::to_authority(name, RecordType::TXT)?, name, values))
    }

    /// What a resolver must show.
    pub(super) fn for_resolver(name: &str, values: &[String]) -> Result<Self, QueryError> {
        Ok(Self::new(DnsQuestion::to_resolver(name, RecordType::TXT)?, name, values))
    }

    fn new(question: DnsQuestion, name: &str, values: &[String]) -> Self {
        Self { question, name: name.to_owned(), values: values.to_vec() }
    }
}

/// What an answer lacks, in words; `None` where it shows all.
pub(super) fn describe_shortfall(reply: &DnsReply, evidence: &ExpectedValues) -> Option<String> {
    if reply.code() != ResponseCode::NoError {
        return Some(format!("answers {}", reply.code()));
    }
    let (shown, values) = (reply.texts(), &evidence.values);
    let lacking = values.iter().filter(|value| !shown.contains(value)).count();
    if lacking == 0 {
        return None;
    }
    let others = shown.iter().filter(|value| !values.contains(value)).count();
    let alias = reply.cname_target(&evidence.name).map(|target| format!(" behind a CNAME to {target}"));
    let alias = alias.unwrap_or_default();
    Some(format!("lacks {lacking} of {} values and shows {others} others{alias}", values.len()))
}
