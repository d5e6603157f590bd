//! The authoritative name server: TXT, CAA, CNAME and addresses from available records, SOA and NS at the apex of a zone,
//! NODATA and NXDOMAIN inside of zones. Outside it refuses; asked to recurse, it plays a resolver for which there is nothing
//! else in the world.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_net::NetError;
use hickory_net::runtime::{Time, TokioRuntimeProvider};
use hickory_net::tcp::TcpClientStream;
use hickory_net::xfer::{DnsHandle, FirstAnswer};
use hickory_proto::op::{DnsRequestOptions, DnsResponse, Header, HeaderCounts, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record as DnsRecord, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::state::{Held, NAMESERVERS, Record, State, Zone};

/// What one name server makes of the state: how far it is behind, and how slow.
#[derive(Default)]
pub(super) struct View(Mutex<(Duration, Duration)>);

impl View {
    pub(super) fn lag(&self, lag: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = lag;
    }

    pub(super) fn slow(&self, delay: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = delay;
    }

    fn lag_and_delay(&self) -> (Duration, Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Answerer {
    state: Arc<State>,
    view: Arc<View>,
}

impl Answerer {
    pub(super) const fn new(state: Arc<State>, view: Arc<View>) -> Self {
        Self { state, view }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let (lag, delay) = self.view.lag_and_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let recursive = request.metadata.recursion_desired;
        let answer = match request.queries.queries() {
            [query] => {
                let answer = answer(&self.state.held(), query.name(), query.query_type(), lag, recursive);
                self.followed(answer, query.query_type()).await
            }
            _ => Answer::code(ResponseCode::FormErr),
        };
        metadata.response_code = answer.code;
        metadata.authoritative = answer.code != ResponseCode::Refused;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &request.edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &answer.records, [], &answer.soa, []);
        handle.send_response(response).await.unwrap_or_else(|_| {
            // The asker has gone; hickory wants to hear how it ended.
            metadata.response_code = ResponseCode::ServFail;
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }
}

impl Answerer {
    /// A resolver goes on where a name leads out of our zones.
    async fn followed(&self, mut answer: Answer, kind: RecordType) -> Answer {
        let Some(name) = answer.onward.take() else { return answer };
        let Some(server) = self.state.forwarded(&name) else { return answer };
        match ask(server, &name, kind).await {
            Ok(found) => {
                answer.code = found.response_code;
                answer.records.extend(found.answers.iter().cloned());
                answer.soa.clone_from(&found.authorities);
                answer
            }
            Err(_) => Answer::code(ResponseCode::ServFail),
        }
    }
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Result<DnsResponse, NetError> {
    let provider = TokioRuntimeProvider::default();
    let connection = TcpClientStream::exchange(server, None, PATIENCE, None, provider.clone()).await?;
    let query = Query::query(absolute(name), kind);
    connection.lookup(query, DnsRequestOptions::default()).first_answer().await
}

struct Answer {
    code: ResponseCode,
    records: Vec<DnsRecord>,
    soa: Vec<DnsRecord>,
    /// Where a resolver asks on.
    onward: Option<String>,
}

impl Answer {
    const fn code(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), soa: Vec::new(), onward: None }
    }
}

fn answer(held: &Held, asked: &LowerName, kind: RecordType, lag: Duration, recursive: bool) -> Answer {
    let mut name = Name::from(asked).to_ascii().trim_end_matches('.').to_owned();
    let mut records = Vec::new();
    for _ in 0..LONGEST_CHAIN {
        if NAMESERVERS.contains(&name.as_str()) {
            if kind == RecordType::A {
                records.push(dns_record(&name, RData::A(A::new(127, 0, 0, 1))));
            }
            return Answer { code: ResponseCode::NoError, records, soa: Vec::new(), onward: None };
        }
        let Some(zone) = zone_of(held, &name) else {
            // The end of a chain that leads out of our zones is the asker's to follow.
            let (code, soa) = match (records.is_empty(), recursive) {
                (true, true) => (ResponseCode::NXDomain, vec![dns_record("", soa(""))]),
                (true, false) => (ResponseCode::Refused, Vec::new()),
                (false, _) => (ResponseCode::NoError, Vec::new()),
            };
            return Answer { code, records, soa, onward: recursive.then_some(name) };
        };
        let shown: Vec<(&Record, String)> = held
            .records
            .iter()
            .filter(|record| record.zone == zone.id && record.fields.enabled && record.life.is_shown(lag))
            .map(|record| (record, held.fqdn(record)))
            .collect();
        let here = || shown.iter().filter(|(_, fqdn)| *fqdn == name).map(|(record, _)| *record);
        if let Some(alias) = here().find(|record| record.fields.kind == "CNAME" && kind != RecordType::CNAME) {
            let target = alias.fields.content.trim_end_matches('.').to_lowercase();
            records.extend(rdata(alias).map(|data| dns_record(&name, data)));
            name = target;
            continue;
        }
        let found = here().filter_map(rdata).filter(|data| data.record_type() == kind);
        let before = records.len();
        records.extend(found.chain(apex_data(zone, &name, kind)).map(|data| dns_record(&name, data)));
        let below = format!(".{name}");
        let exists = name == zone.name || shown.iter().any(|(_, fqdn)| *fqdn == name || fqdn.ends_with(&below));
        let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let soa = if records.len() == before { vec![dns_record(&zone.name, soa(&zone.name))] } else { Vec::new() };
        return Answer { code, records, soa, onward: None };
    }
    Answer::code(ResponseCode::ServFail)
}

fn zone_of<'a>(held: &'a Held, name: &str) -> Option<&'a Zone> {
    let holds = |zone: &&Zone| {
        zone.enabled && (name == zone.name || name.strip_suffix(&zone.name).is_some_and(|rest| rest.ends_with('.')))
    };
    held.zones.iter().filter(holds).max_by_key(|zone| zone.name.len())
}

fn apex_data(zone: &Zone, name: &str, kind: RecordType) -> Vec<RData> {
    match kind {
        RecordType::SOA if name == zone.name => vec![soa(&zone.name)],
        RecordType::NS if name == zone.name => NAMESERVERS.map(|server| RData::NS(NS(absolute(server)))).into(),
        _ => Vec::new(),
    }
}

fn soa(zone: &str) -> RData {
    let contact = absolute(&format!("hostmaster.{zone}"));
    RData::SOA(SOA::new(absolute(NAMESERVERS[0]), contact, 1, 3_600, 600, 86_400, NEGATIVE_TTL))
}

/// The record's data; `None` where its type or content is none that this server speaks.
fn rdata(record: &Record) -> Option<RData> {
    let content = &record.fields.content;
    match record.fields.kind.as_str() {
        // A string of a TXT record holds 255 bytes (RFC 1035 section 3.3).
        "TXT" => Some(RData::TXT(TXT::from_bytes(content.as_bytes().chunks(255).collect()))),
        "CAA" => caa(content).map(RData::CAA),
        "CNAME" => Some(RData::CNAME(CNAME(absolute(content)))),
        "A" => content.parse().ok().map(|ip| RData::A(A(ip))),
        "AAAA" => content.parse().ok().map(|ip| RData::AAAA(AAAA(ip))),
        _ => None,
    }
}

/// Flags, tag and value in quotes, as in `0 issue "ca.example"`.
fn caa(content: &str) -> Option<CAA> {
    let mut parts = content.splitn(3, ' ');
    let (flags, tag, value) = (parts.next()?.parse::<u8>().ok()?, parts.next()?, parts.next()?);
    let mut caa = CAA::new_issue(flags & 0x80 != 0, None, Vec::new());
    caa.reserved_flags = flags & 0x7f;
    tag.clone_into(&mut caa.tag);
    caa.value = value.trim_matches('"').as_bytes().to_vec();
    Some(caa)
}

pub(crate) fn dns_record(name: &str, data: RData) -> DnsRecord {
    DnsRecord::from_rdata(absolute(name), ANSWER_TTL, data)
}

/// Names that DNS cannot carry become the root, which no test asks for.
pub(crate) fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).unwrap_or_else(|_| Name::root())
}

const LONGEST_CHAIN: usize = 8;
/// How long another server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody may remember what a test is about to change.
const ANSWER_TTL: u32 = 0;
const NEGATIVE_TTL: u32 = 0;
