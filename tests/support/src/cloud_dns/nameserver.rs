//! The authoritative name server: TXT, CAA, CNAME and addresses from available records, SOA and NS at the apex of a zone,
//! NODATA, NXDOMAIN and wildcards inside of zones. Outside it asks whom it is told to, or refuses; asked to recurse, it
//! plays a resolver for which there is nothing else in the world.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_net::runtime::Time;
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record as DnsRecord, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::forward;
use super::state::{NAMESERVERS, Record, State, StateInner, Zone};

/// What one name server makes of the state.
#[derive(Default)]
pub(super) struct ServerBehaviour(Mutex<BehaviourState>);

/// How far it is behind, how slow, and in which manner it answers; and how often it was asked.
#[derive(Clone, Copy, Default)]
struct BehaviourState {
    asked: usize,
    lag: Duration,
    delay: Duration,
    mode: AnswerMode,
}

/// In which manner a name server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerMode {
    /// As one that serves the zones.
    #[default]
    Serving,
    /// It refuses everything.
    Refusing,
    /// With the zones' records, but not as one that serves them: its answers are not authoritative.
    Lame,
}

impl ServerBehaviour {
    pub(super) fn set_lag(&self, lag: Duration) {
        self.lock().lag = lag;
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    pub(super) fn set_mode(&self, manner: AnswerMode) {
        self.lock().mode = manner;
    }

    pub(super) fn query_count(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, BehaviourState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct CloudDnsHandler {
    state: Arc<State>,
    view: Arc<ServerBehaviour>,
}

impl CloudDnsHandler {
    pub(super) const fn new(state: Arc<State>, view: Arc<ServerBehaviour>) -> Self {
        Self { state, view }
    }
}

#[async_trait::async_trait]
impl RequestHandler for CloudDnsHandler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        self.view.lock().asked += 1;
        let BehaviourState { lag, delay, mode, .. } = *self.view.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let recursive = request.metadata.recursion_desired;
        let answer = match request.queries.queries() {
            _ if mode == AnswerMode::Refusing => Answer::code(ResponseCode::Refused),
            [query] => {
                let answer = answer(&self.state.lock(), query.name(), query.query_type(), lag, recursive);
                self.forward_outside_zones(answer, query.query_type()).await
            }
            _ => Answer::code(ResponseCode::FormErr),
        };
        metadata.response_code = answer.code;
        metadata.authoritative = answer.code != ResponseCode::Refused && mode != AnswerMode::Lame;
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

impl CloudDnsHandler {
    /// The answer of whoever holds the name at which ours ends.
    async fn forward_outside_zones(&self, mut answer: Answer, kind: RecordType) -> Answer {
        let Some((name, address)) = answer.beyond.take() else { return answer };
        match forward::ask(address, &name, kind).await {
            Ok(message) => {
                answer.code = message.response_code;
                answer.records.extend(message.answers);
                answer.soa = message.authorities;
                answer
            }
            Err(_) => Answer::code(ResponseCode::ServFail),
        }
    }
}

struct Answer {
    code: ResponseCode,
    records: Vec<DnsRecord>,
    soa: Vec<DnsRecord>,
    /// Who is to be asked for the rest, and at which name.
    beyond: Option<(String, SocketAddr)>,
}

impl Answer {
    const fn code(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), soa: Vec::new(), beyond: None }
    }
}

fn answer(held: &StateInner, asked: &LowerName, kind: RecordType, lag: Duration, recursive: bool) -> Answer {
    let mut name = Name::from(asked).to_ascii().trim_end_matches('.').to_owned();
    let mut records = Vec::new();
    for _ in 0..MAX_CNAME_CHAIN {
        if held.failing.contains(&name) {
            return Answer::code(ResponseCode::ServFail);
        }
        if NAMESERVERS.contains(&name.as_str()) {
            if kind == RecordType::A {
                records.push(dns_record(&name, RData::A(A::new(127, 0, 0, 1))));
            }
            return Answer { records, ..Answer::code(ResponseCode::NoError) };
        }
        if let Some(forward) = held.forwards.iter().find(|forward| forward.contains(&name)) {
            let beyond = Some((name, forward.address));
            return Answer { records, beyond, ..Answer::code(ResponseCode::NoError) };
        }
        let Some(zone) = zone_of(held, &name) else {
            // The end of a chain that leads out of our zones is the asker's to follow.
            let (code, soa) = match (records.is_empty(), recursive) {
                (true, true) => (ResponseCode::NXDomain, vec![denial("", held.negative_ttl)]),
                (true, false) => (ResponseCode::Refused, Vec::new()),
                (false, _) => (ResponseCode::NoError, Vec::new()),
            };
            return Answer { records, soa, ..Answer::code(code) };
        };
        let shown: Vec<(&Record, String)> = held
            .records
            .iter()
            .filter(|record| record.zone == zone.id && record.fields.enabled && record.life.is_shown(lag))
            .map(|record| (record, held.fqdn(record)))
            .collect();
        let exists = |name: &str| {
            let below = format!(".{name}");
            name == zone.name || shown.iter().any(|(_, fqdn)| fqdn == name || fqdn.ends_with(&below))
        };
        // A name that is not there has what a wildcard at its closest encloser gives it (RFC 4592 section 3.3.1).
        let source = if exists(&name) { name.clone() } else { format!("*.{}", closest_encloser(&name, exists)) };
        let here = || shown.iter().filter(|(_, fqdn)| *fqdn == source).map(|(record, _)| *record);
        if let Some(alias) = here().find(|record| record.fields.kind == "CNAME" && kind != RecordType::CNAME) {
            let target = alias.fields.content.trim_end_matches('.').to_lowercase();
            records.extend(rdata(alias).map(|data| dns_record(&name, data)));
            name = target;
            continue;
        }
        let found = here().filter_map(rdata).filter(|data| data.record_type() == kind);
        let before = records.len();
        records
            .extend(found.chain(apex_data(zone, &name, kind, held.negative_ttl)).map(|data| dns_record(&name, data)));
        let code = if exists(&source) { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let soa = if records.len() == before { vec![denial(&zone.name, held.negative_ttl)] } else { Vec::new() };
        return Answer { records, soa, ..Answer::code(code) };
    }
    Answer::code(ResponseCode::ServFail)
}

/// The longest name above `name` that is there: at the latest, the zone itself.
fn closest_encloser(name: &str, exists: impl Fn(&str) -> bool) -> &str {
    let mut above = name;
    while let Some((_, parent)) = above.split_once('.') {
        above = parent;
        if exists(above) {
            break;
        }
    }
    above
}

fn zone_of<'a>(held: &'a StateInner, name: &str) -> Option<&'a Zone> {
    let holds = |zone: &&Zone| {
        zone.enabled && (name == zone.name || name.strip_suffix(&zone.name).is_some_and(|rest| rest.ends_with('.')))
    };
    held.zones.iter().filter(holds).max_by_key(|zone| zone.name.len())
}

fn apex_data(zone: &Zone, name: &str, kind: RecordType, negative_ttl: u32) -> Vec<RData> {
    match kind {
        RecordType::SOA if name == zone.name => vec![soa(&zone.name, negative_ttl)],
        RecordType::NS if name == zone.name => NAMESERVERS.map(|server| RData::NS(NS(absolute(server)))).into(),
        _ => Vec::new(),
    }
}

fn soa(zone: &str, negative_ttl: u32) -> RData {
    let contact = absolute(&format!("hostmaster.{zone}"));
    RData::SOA(SOA::new(absolute(NAMESERVERS[0]), contact, 1, 3_600, 600, 86_400, negative_ttl))
}

/// What goes with the word that there is nothing.
fn denial(zone: &str, negative_ttl: u32) -> DnsRecord {
    DnsRecord::from_rdata(absolute(zone), negative_ttl, soa(zone, negative_ttl))
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

const MAX_CNAME_CHAIN: usize = 16;
/// Nobody may remember what a test is about to change.
const ANSWER_TTL: u32 = 0;
