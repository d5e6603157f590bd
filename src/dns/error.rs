//! What can go wrong between a TXT record and the name servers that must show it, and what each fault means.

use std::fmt;

use crate::config::time_span::TimeSpan;
use crate::dns::question::QueryError;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::network_fault::NetworkFault;

/// A fault of a DNS service, or of the wait for its name servers. No text in it holds the token.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A setting cannot be used.
    #[error("{setting} cannot be used: {reason}")]
    Setting {
        /// The key in the settings.
        setting: String,
        /// Why, and what would do.
        reason: String,
    },
    /// A record was published by an adapter that the settings no longer have.
    #[error(
        "the settings no longer have the DNS adapter {adapter}; bring it back, or remove its records by hand and run `autocertd dns sweep --forget {adapter}`"
    )]
    NoSuchAdapter {
        /// What the journal calls it.
        adapter: String,
    },
    /// No enabled zone holds the name, also after the list of zones was read anew.
    #[error(
        "{adapter}: no enabled zone holds {name}; create or enable its zone, give a token or a server that sees it, or route the name to another adapter with [[dns.zone]] ({zones} zones were seen)"
    )]
    NoZone {
        /// Who was asked.
        adapter: AdapterName,
        /// The name that no zone holds.
        name: String,
        /// How many zones the adapter saw.
        zones: usize,
    },
    /// No route leads the name to an adapter, and the usual one is not set up.
    #[error("no [[dns.zone]] leads {name} to a DNS adapter; {remedy}")]
    NoRoute {
        /// The name of the record.
        name: String,
        /// What a person can do about it.
        remedy: &'static str,
    },
    /// No token was given.
    #[error("{adapter}: there is no token; set {}.token_file or $IONOS_TOKEN and restart autocertd", .adapter.section())]
    NoToken {
        /// Who was to be asked.
        adapter: AdapterName,
    },
    /// The credentials are missing a right, wrong or expired.
    #[error("{adapter}: {call} was refused with status {status}{}; {remedy}", .said.in_parentheses())]
    Unauthorized {
        /// Who was asked.
        adapter: AdapterName,
        /// Method and path.
        call: String,
        /// The HTTP status, 401 or 403.
        status: u16,
        /// What the answer said.
        said: RemoteMessage,
        /// What a person can do about it.
        remedy: &'static str,
    },
    /// There was no answer.
    #[error("{adapter}: {call} got no answer; it is tried again, {}", remedy(.source))]
    Unreachable {
        /// Who was asked.
        adapter: AdapterName,
        /// Method and path.
        call: String,
        /// What the HTTP client says.
        source: reqwest::Error,
    },
    /// The service is overloaded or broken at the moment.
    #[error("{adapter}: {call} was answered with status {status}{}{asked}; it is tried again later", .said.in_parentheses())]
    Busy {
        /// Who was asked.
        adapter: AdapterName,
        /// Method and path.
        call: String,
        /// The HTTP status, 429 or 5xx.
        status: u16,
        /// What the answer said.
        said: RemoteMessage,
        /// What `Retry-After` asked for.
        asked: RetryAfter,
        /// The moment of that, within bounds.
        not_before: Option<Moment>,
    },
    /// The service does not take the request.
    #[error("{adapter}: {call} was rejected with status {status}{}; look at the zone in the DNS service", .said.in_parentheses())]
    Rejected {
        /// Who was asked.
        adapter: AdapterName,
        /// Method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the answer said.
        said: RemoteMessage,
    },
    /// The answer to a read is not what it should be.
    #[error("{adapter}: the answer to {call} cannot be read; it is tried again, check the endpoint if this lasts")]
    Unreadable {
        /// Who was asked.
        adapter: AdapterName,
        /// Method and path.
        call: String,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The zone that was found earlier no longer holds the name.
    #[error("{adapter}: zone {zone} is gone or does not hold {name}; the zone is looked for again")]
    ZoneChanged {
        /// Who was asked.
        adapter: AdapterName,
        /// The name of the record.
        name: String,
        /// The id of the zone.
        zone: String,
    },
    /// Another record stands in the way.
    #[error("{adapter}: no TXT record can stand at {name}{}; remove the record beside it, usually a CNAME", .said.in_parentheses())]
    Conflict {
        /// Who was asked.
        adapter: AdapterName,
        /// The name of the record.
        name: String,
        /// What the answer said.
        said: RemoteMessage,
    },
    /// The record was accepted but does not show up.
    #[error("{adapter}: the TXT record at {name} was accepted but is not listed; it is looked for again")]
    Unconfirmed {
        /// Who was asked.
        adapter: AdapterName,
        /// The name of the record.
        name: String,
    },
    /// The service says that it failed to publish the record.
    #[error(
        "{adapter}: publishing record {record} failed there; it is tried again with a new record, ask the service's support if this lasts"
    )]
    RecordFailed {
        /// Who was asked.
        adapter: AdapterName,
        /// The id of the record.
        record: String,
    },
    /// The record was removed by somebody else before it was published.
    #[error("{adapter}: record {record} was removed before it was published; see what else manages this zone")]
    RecordGone {
        /// Who was asked.
        adapter: AdapterName,
        /// The id of the record.
        record: String,
    },
    /// The record was accepted but not published in time.
    #[error(
        "{adapter}: record {record} is still not published after {waited}; it is tried again, ask the service's support if this lasts"
    )]
    Unpublished {
        /// Who was asked.
        adapter: AdapterName,
        /// The id of the record.
        record: String,
        /// How long was waited.
        waited: TimeSpan,
    },
    /// A DNS server gave no answer that can be used.
    #[error(
        "{adapter}: {server} gave no answer to {call}; it is tried again, check the address and the network if this lasts"
    )]
    NoReply {
        /// Who was asked.
        adapter: AdapterName,
        /// The server.
        server: String,
        /// What it was asked.
        call: String,
        /// What the DNS client says.
        source: Box<hickory_net::NetError>,
    },
    /// A DNS server does not let the key, or anybody, do what was asked.
    #[error("{adapter}: {server} refuses {call} with {code}; {remedy}")]
    UpdateRefused {
        /// Who was asked.
        adapter: AdapterName,
        /// The server.
        server: String,
        /// What it was asked.
        call: String,
        /// The response code or TSIG error.
        code: String,
        /// What a person can do about it.
        remedy: &'static str,
    },
    /// A DNS server failed at what it was asked.
    #[error(
        "{adapter}: {server} fails at {call} with {code}; it is tried again, look at the server's log if this lasts"
    )]
    UpdateFailed {
        /// Who was asked.
        adapter: AdapterName,
        /// The server.
        server: String,
        /// What it was asked.
        call: String,
        /// The response code.
        code: String,
    },
    /// A program cannot be started.
    #[error("{adapter}: {program} cannot be started; check {}.command and the program's permissions", .adapter.section())]
    NoProgram {
        /// Whose program.
        adapter: AdapterName,
        /// Its path.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A program did not do what it was asked.
    #[error("{adapter}: {program} {action} {ended}; it is tried again, run it by hand if this lasts")]
    ProgramFailed {
        /// Whose program.
        adapter: AdapterName,
        /// Its path.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// How it ended, and what it said.
        ended: String,
    },
    /// The service has no account for the name.
    #[error(
        "{adapter}: there is no account for {name}; make one with `autocertd dns register`, and point the CNAME at what it prints"
    )]
    Unregistered {
        /// Who was asked.
        adapter: AdapterName,
        /// The name of the record.
        name: String,
    },
    /// More values are wanted at one name than the service keeps.
    #[error(
        "{adapter}: {wanted} values are wanted at {name} at once, and the service keeps {kept}; give each challenge name an account of its own with `autocertd dns register`, and point its CNAME there"
    )]
    TooManyValues {
        /// Who was asked.
        adapter: AdapterName,
        /// The name of the records.
        name: String,
        /// How many were wanted.
        wanted: usize,
        /// How many there can be.
        kept: usize,
    },
    /// Something cannot be looked up in the DNS.
    #[error("{what} of {name} cannot be looked up; check dns.propagation.resolvers and the zone's name servers")]
    NoLookup {
        /// What was looked for, such as "the aliases".
        what: &'static str,
        /// Where it was looked for.
        name: String,
        /// What the resolvers say.
        source: QueryError,
    },
    /// Aliases lead nowhere.
    #[error("the CNAME records at {name} lead round in a circle or too far: {}; let the first of them name where the record is to be", .chain.join(" -> "))]
    EndlessAlias {
        /// The name of the challenge.
        name: String,
        /// The names that were passed, in their order.
        chain: Vec<String>,
    },
    /// The name servers of a zone are unknown.
    #[error("the name servers of {zone} cannot be found; check dns.propagation.resolvers and the zone's delegation")]
    NoNameServers {
        /// The zone's name.
        zone: String,
        /// What the resolvers say.
        source: QueryError,
    },
    /// CAA records cannot be looked up.
    #[error(
        "the CAA records of {name} cannot be looked up, so that a CA would refuse; check dns.propagation.resolvers and the zone's name servers"
    )]
    NoCaa {
        /// Where they were looked for.
        name: String,
        /// What the resolvers say.
        source: QueryError,
    },
    /// Not all name servers show the values in time.
    #[error("after {waited} the TXT records at {name} are not visible on {}; it is tried again", listed(.lagging))]
    NotVisible {
        /// The name of the records.
        name: String,
        /// How long was waited.
        waited: TimeSpan,
        /// The servers that lag.
        lagging: Vec<LaggingNameserver>,
    },
}

fn remedy(error: &reqwest::Error) -> String {
    let remedy = NetworkFault::from_reqwest(error).remedy("the trusted roots of this machine");
    remedy.unwrap_or_else(|| "check the network if this lasts".to_owned())
}

impl DnsError {
    /// What the fault means for the next step.
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::Busy { not_before, .. } => Disposition::Retry { not_before: *not_before },
            // A 404: a zone can be removed and made anew between the look at the list and the call.
            Self::Rejected { status: 404, .. }
            | Self::Unreachable { .. }
            | Self::Unreadable { .. }
            | Self::ZoneChanged { .. }
            | Self::Unconfirmed { .. }
            | Self::RecordFailed { .. }
            | Self::RecordGone { .. }
            | Self::Unpublished { .. }
            | Self::NoNameServers { .. }
            | Self::NoCaa { .. }
            | Self::NoLookup { .. }
            | Self::NoReply { .. }
            | Self::UpdateFailed { .. }
            | Self::ProgramFailed { .. }
            | Self::NotVisible { .. } => Disposition::RETRY,
            Self::Setting { .. }
            | Self::NoSuchAdapter { .. }
            | Self::NoRoute { .. }
            | Self::UpdateRefused { .. }
            | Self::NoProgram { .. }
            | Self::Unregistered { .. }
            | Self::TooManyValues { .. }
            | Self::EndlessAlias { .. }
            | Self::NoToken { .. }
            | Self::NoZone { .. }
            | Self::Unauthorized { .. }
            | Self::Conflict { .. }
            | Self::Rejected { .. } => Disposition::Operator,
        }
    }
}

impl From<DnsError> for Failure {
    fn from(error: DnsError) -> Self {
        Self::from_error(&error, error.disposition())
    }
}

/// A name server that does not show what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaggingNameserver {
    /// The server's name or address.
    pub server: String,
    /// What it answered, in words.
    pub answered: String,
}

impl fmt::Display for LaggingNameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.server, self.answered)
    }
}

fn listed(lagging: &[LaggingNameserver]) -> String {
    lagging.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
