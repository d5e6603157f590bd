//! Questions to recursive resolvers: aliases, zones and name servers.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::NetError;
use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;

use crate::config::dns::PropagationSection;
use crate::dns::error::DnsError;
use crate::dns::resolver::{absolute, resolver};

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Lookup {
    resolvers: Vec<SocketAddr>,
}

impl Lookup {
    /// A look-up through the resolvers of these settings; without any, through those that the operating system uses.
    pub fn new(section: &PropagationSection) -> Self {
        Self { resolvers: section.resolvers.clone() }
    }

    /// Where the CNAME record at `name` leads, in lower case without a trailing dot; `None` where there is none.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn cname(&self, name: &str) -> Result<Option<String>, DnsError> {
        let unknown =
            |source| DnsError::NoLookup { what: "the aliases", name: name.to_owned(), source: Box::new(source) };
        let resolver = self.resolver().map_err(unknown)?;
        match resolver.lookup(absolute(name), RecordType::CNAME).await {
            Ok(found) => Ok(found.answers().iter().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(plain(&target.to_string())),
                _ => None,
            })),
            Err(error) if error.is_no_records_found() => Ok(None),
            Err(error) => Err(unknown(error)),
        }
    }

    /// The values of the TXT records at `name`.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers or all fail.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let unknown =
            |source| DnsError::NoLookup { what: "the TXT records", name: name.to_owned(), source: Box::new(source) };
        let resolver = self.resolver().map_err(unknown)?;
        match resolver.lookup(absolute(name), RecordType::TXT).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|record| txt_value(&record.data)).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(unknown(error)),
        }
    }

    /// The zone that holds `name`: the nearest name at or above it with an SOA record.
    ///
    /// # Errors
    /// [`DnsError::NoLookup`] where no resolver answers, all fail, or there is none below the root.
    pub async fn zone_of(&self, name: &str) -> Result<String, DnsError> {
        let unknown = |source| DnsError::NoLookup { what: "the zone", name: name.to_owned(), source: Box::new(source) };
        let resolver = self.resolver().map_err(unknown)?;
        let mut place = Some(name);
        while let Some(at) = place {
            match resolver.lookup(absolute(at), RecordType::SOA).await {
                Ok(found) if found.answers().iter().any(|record| is_soa_at(record, at)) => return Ok(at.to_owned()),
                Ok(_) => {}
                Err(error) if error.is_no_records_found() => {}
                Err(error) => return Err(unknown(error)),
            }
            place = at.split_once('.').map(|(_, parent)| parent);
        }
        Err(unknown(NetError::from("no name at or above it has an SOA record")))
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        resolver(&self.resolvers, PATIENCE)
    }
}

/// An alias on the way would bring another zone's record.
fn is_soa_at(record: &hickory_proto::rr::Record, name: &str) -> bool {
    matches!(record.data, RData::SOA(_)) && plain(&record.name.to_string()) == name
}

/// The strings of a TXT record are one value (RFC 7208 section 3.3 says how all take it).
pub(super) fn txt_value(data: &RData) -> Option<String> {
    match data {
        RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
        _ => None,
    }
}

/// In lower case, without the final dot.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
