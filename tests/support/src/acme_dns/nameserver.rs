//! The name server: TXT records at the names of accounts, and the zone's own SOA, NS and address. A name without values
//! is none (NXDOMAIN), as acme-dns has it.

use std::sync::Arc;

use hickory_net::runtime::Time;
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::state::State;
use crate::cloud_dns::nameserver::{absolute, dns_record};

pub(super) struct AcmeDnsHandler(Arc<State>);

impl AcmeDnsHandler {
    pub(super) const fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    /// The code and the data at a name.
    fn answer(&self, name: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
        let zone = &self.0.zone;
        if name == zone {
            let data = match kind {
                RecordType::SOA => vec![self.soa()],
                RecordType::NS => vec![RData::NS(NS(absolute(zone)))],
                RecordType::A => vec![RData::A(A::new(127, 0, 0, 1))],
                _ => Vec::new(),
            };
            return (ResponseCode::NoError, data);
        }
        if name.strip_suffix(zone).is_none_or(|rest| !rest.ends_with('.')) {
            return (ResponseCode::Refused, Vec::new());
        }
        let values = self.0.values(name).unwrap_or_default();
        let code = if values.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
        let shown = values.into_iter().filter(|_| kind == RecordType::TXT);
        (code, shown.map(|value| RData::TXT(TXT::new(vec![value]))).collect())
    }

    fn soa(&self) -> RData {
        let zone = &self.0.zone;
        let contact = absolute(&format!("admin.{zone}"));
        RData::SOA(SOA::new(absolute(zone), contact, 1, 28_800, 7_200, 604_800, NEGATIVE_TTL))
    }
}

#[async_trait::async_trait]
impl RequestHandler for AcmeDnsHandler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let (name, (code, data)) = match request.queries.queries() {
            [query] => {
                let name = Name::from(query.name()).to_ascii().trim_end_matches('.').to_lowercase();
                let answer = self.answer(&name, query.query_type());
                (name, answer)
            }
            _ => (String::new(), (ResponseCode::FormErr, Vec::new())),
        };
        metadata.response_code = code;
        metadata.authoritative = code != ResponseCode::Refused;
        let answers: Vec<_> = data.into_iter().map(|data| dns_record(&name, data)).collect();
        let soa = if answers.is_empty() { vec![dns_record(&self.0.zone, self.soa())] } else { Vec::new() };
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &request.edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &answers, [], &soa, []);
        handle.send_response(response).await.unwrap_or_else(|_| {
            // The asker has gone; hickory wants to hear how it ended.
            metadata.response_code = ResponseCode::ServFail;
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }
}

/// Nobody may remember what a test is about to change.
const NEGATIVE_TTL: u32 = 0;
