//! Dynamic update (RFC 2136) with TSIG (RFC 8945) over TCP: BIND, Knot, `PowerDNS`. Questions are signed like updates,
//! so that views and access lists that go by the key apply to both, and a wrong key shows before anything is published.

mod client;
mod key;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde::Deserialize;

use self::client::Rfc2136Client;
use self::wire::ZoneValues;
use crate::config::time_span::TimeSpan;
use crate::dns::adapter::{DnsAdapter, RecordId, TxtRecord, Zone, ZoneId};
use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::dns::question::to_fqdn;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::text::RemoteMessage;
use crate::domain::value::zone_name::ZoneName;

/// `[dns.adapter.NAME]` of the type `rfc2136`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// The primary name server: `192.0.2.53`, `ns.example.com:5353`, `[2001:db8::53]:53`. The usual port is 53.
    server: String,
    /// The file with the TSIG key: what tsig-keygen prints, or the bare secret in base64.
    key_file: PathBuf,
    /// What the server calls the key. Default: as the key file says.
    key_name: Option<String>,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`. Default: as the key file says, else `hmac-sha256`.
    algorithm: Option<String>,
    /// How long resolvers may keep a record. Default `60s`.
    #[serde(default = "usual_ttl")]
    ttl: TimeSpan,
    /// How long one request may take. Default `10s`.
    #[serde(default = "usual_timeout")]
    timeout: TimeSpan,
    /// The zone, for servers that hide its SOA record from us. Default none: it is asked for.
    zone: Option<ZoneName>,
}

/// `[dns.adapter.NAME]` of the type `rfc2136`.
///
/// # Errors
/// [`DnsError::Setting`] where a setting or the key cannot be used.
pub fn make(given: AdapterContext) -> Result<Arc<dyn DnsAdapter>, DnsError> {
    let section: Section = given.settings()?;
    let server = with_port(&section.server).ok_or_else(|| {
        given.setting_error("server", format!("{:?} is no server; give host or host:port", section.server))
    })?;
    let seconds = u32::try_from(section.ttl.duration().as_secs()).ok().filter(|seconds| *seconds <= MAX_TTL);
    let ttl = seconds.ok_or_else(|| given.setting_error("ttl", format!("{} is too long", section.ttl)))?;
    let signer = key::load_signer(&given, &section)?;
    let client = Rfc2136Client::new(given, server, signer, section.timeout.duration());
    Ok(Arc::new(Rfc2136 { client, ttl, zone: section.zone }))
}

/// The zones of one primary name server, as far as a key may change them.
struct Rfc2136 {
    client: Rfc2136Client,
    /// In seconds.
    ttl: u32,
    zone: Option<ZoneName>,
}

impl Rfc2136 {
    /// The nearest zone at or above `name` that the server answers for itself. A referral, or a refusal, means that
    /// none of its zones holds the name: a record above the cut would never be seen.
    async fn find_zone(&self, name: &str) -> Result<Option<Name>, DnsError> {
        let mut place = absolute_name(name);
        while let Some(at) = place.filter(|at| !at.is_root()) {
            let answer = self.query(&at, RecordType::SOA).await?;
            match answer.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain if answer.authoritative => {}
                ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::Refused => return Ok(None),
                code => return Err(self.client.error_for_code(&describe_question(&at, RecordType::SOA), code)),
            }
            if let Some(zone) = wire::zone_from_soa(&answer, &at) {
                return Ok(Some(zone));
            }
            place = Some(at.base_name());
        }
        Ok(None)
    }

    /// None where the server hides them; the wait for name servers finds them elsewhere.
    async fn find_nameservers(&self, zone: &Name) -> Result<Vec<String>, DnsError> {
        let answer = self.query(zone, RecordType::NS).await?;
        match answer.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::Refused => {
                Ok(wire::ns_targets(&answer).map(normalized_name).collect())
            }
            code => Err(self.client.error_for_code(&describe_question(zone, RecordType::NS), code)),
        }
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        self.client
            .send_signed(&describe_question(name, kind), wire::build_question(self.client.fresh_id(), name, kind))
            .await
    }

    /// One update that adds all records, or none.
    async fn add_records(&self, zone: &ZoneId, records: &[TxtRecord]) -> Result<(), DnsError> {
        let values = self.to_zone_values(zone, records)?;
        let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let call = format!("the update of {zone} that adds {}", names.join(", "));
        match self
            .client
            .send_signed(&call, values.build_addition(self.client.fresh_id(), self.ttl))
            .await?
            .response_code
        {
            // All that the update requires is that no CNAME stands there.
            ResponseCode::YXRRSet => Err(DnsError::Conflict {
                adapter: self.name().clone(),
                name: names.join(", "),
                said: RemoteMessage::default(),
            }),
            code => self.client.check_code(&call, code),
        }
    }

    /// The records as values of the zone, which must hold their names.
    fn to_zone_values<'a>(&self, zone: &ZoneId, records: &'a [TxtRecord]) -> Result<ZoneValues<'a>, DnsError> {
        let changed = |name: &str| DnsError::ZoneChanged {
            adapter: self.name().clone(),
            name: name.to_owned(),
            zone: zone.to_string(),
        };
        let apex = absolute_name(zone.as_str()).ok_or_else(|| changed(zone.as_str()))?;
        let placed = records.iter().map(|record| {
            let name = absolute_name(&record.name).filter(|name| apex.zone_of(name));
            Ok((name.ok_or_else(|| changed(&record.name))?, record.content.as_str()))
        });
        let values = placed.collect::<Result<_, _>>()?;
        Ok(ZoneValues { zone: apex, values })
    }

    fn no_zone_error(&self, name: &str) -> DnsError {
        let zones = usize::from(self.zone.is_some());
        DnsError::NoZone { adapter: self.name().clone(), name: name.to_owned(), zones }
    }
}

#[async_trait]
impl DnsAdapter for Rfc2136 {
    fn name(&self) -> &AdapterName {
        self.client.name()
    }

    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError> {
        let found = match &self.zone {
            Some(zone) => absolute_name(zone.as_str()).filter(|_| zone.contains(name)),
            None => self.find_zone(name).await?,
        };
        let zone = found.ok_or_else(|| self.no_zone_error(name))?;
        let (name, nameservers) = (normalized_name(&zone), self.find_nameservers(&zone).await?);
        Ok(Zone { id: name.clone().into(), name, nameservers })
    }

    fn asks_service_for_zones(&self) -> bool {
        true
    }

    async fn present(&self, zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError> {
        self.add_records(zone, std::slice::from_ref(record)).await?;
        Ok(record_id(record))
    }

    /// One update for all. Where it fails, each is tried by itself: one name that the key may not change must not hide
    /// which it is.
    async fn present_all(&self, zone: &ZoneId, records: &[TxtRecord]) -> Vec<Result<RecordId, DnsError>> {
        if records.len() > 1 {
            match self.add_records(zone, records).await {
                Ok(()) => return records.iter().map(|record| Ok(record_id(record))).collect(),
                Err(error) => tracing::debug!(adapter = %self.name(), %error, "one update for each record instead"),
            }
        }
        let presented: Vec<_> = records.iter().map(|record| self.present(zone, record)).collect();
        stream::iter(presented).buffered(MAX_CONCURRENT_UPDATES).collect().await
    }

    async fn remove(&self, zone: &ZoneId, _id: Option<&RecordId>, record: &TxtRecord) -> Result<(), DnsError> {
        let values = self.to_zone_values(zone, std::slice::from_ref(record))?;
        let call = format!("the update of {zone} that removes {}", record.name);
        let answer = self.client.send_signed(&call, values.build_removal(self.client.fresh_id())).await?;
        self.client.check_code(&call, answer.response_code)
    }
}

fn describe_question(name: &Name, kind: RecordType) -> String {
    format!("the question for {} {kind}", normalized_name(name))
}

/// A record is known by what it is: the server gives it no id.
fn record_id(record: &TxtRecord) -> RecordId {
    format!("{} TXT {}", record.name, record.content).into()
}

/// `None` where the name is longer than DNS allows.
fn absolute_name(name: &str) -> Option<Name> {
    Name::from_ascii(to_fqdn(name)).ok()
}

/// In lower case, without the final dot.
fn normalized_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_lowercase()
}

/// The address with its port; `None` where it is none.
fn with_port(server: &str) -> Option<String> {
    if let Ok(ip) = server.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, DNS_PORT).to_string());
    }
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (server, DNS_PORT),
    };
    let host: ZoneName = host.parse().ok()?;
    Some(format!("{host}:{port}"))
}

const fn usual_ttl() -> TimeSpan {
    TimeSpan::seconds(60)
}

const fn usual_timeout() -> TimeSpan {
    TimeSpan::seconds(10)
}

const DNS_PORT: u16 = 53;
/// RFC 2181 section 8.
const MAX_TTL: u32 = 0x7fff_ffff;
/// Updates to one server at a time.
const MAX_CONCURRENT_UPDATES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_or_a_name_with_a_port_or_without() {
        for (text, server) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
            ("NS1.example.com.", "ns1.example.com:53"),
            ("localhost:5353", "localhost:5353"),
        ] {
            assert_eq!(with_port(text).as_deref(), Some(server));
        }
        for text in
            ["", ":53", "ns1.example.com:", "ns1.example.com:dns", "ns1:70000", "https://ns1.example.com", "a b"]
        {
            assert_eq!(with_port(text), None, "{text:?} was taken");
        }
    }
}
