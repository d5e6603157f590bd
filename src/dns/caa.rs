//! The look-up of CAA records, as a CA does it (RFC 8659 section 3): up from the name until some are found. What a
//! resolver makes of CNAMEs is followed. A look-up that fails is an error, for a CA would not issue then.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::NetError;
use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;

use crate::config::dns::PropagationSection;
use crate::dns::error::DnsError;
use crate::dns::resolver::{absolute, resolver};
use crate::domain::caa::{CaaRecord, climb};
use crate::domain::name::DnsName;

/// Through whom CAA records are looked up.
#[derive(Clone, Debug)]
pub struct CaaLookup {
    resolvers: Vec<SocketAddr>,
}

impl CaaLookup {
    /// A look-up through the resolvers of these settings.
    pub fn new(section: &PropagationSection) -> Self {
        Self { resolvers: section.resolvers.clone() }
    }

    /// The relevant records for a name; none where there are none up to the root.
    ///
    /// # Errors
    /// [`DnsError::NoCaa`] where a server fails or none answers.
    pub async fn relevant(&self, name: &DnsName) -> Result<Vec<CaaRecord>, DnsError> {
        let unknown = |place: &str, source| DnsError::NoCaa { name: place.to_owned(), source: Box::new(source) };
        let resolver = resolver(&self.resolvers, PATIENCE).map_err(|error| unknown(name.base(), error))?;
        for place in climb(name) {
            let found = at(&resolver, place).await.map_err(|error| unknown(place, error))?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

async fn at(resolver: &TokioResolver, place: &str) -> Result<Vec<CaaRecord>, NetError> {
    match resolver.lookup(absolute(place), RecordType::CAA).await {
        Ok(found) => Ok(found.answers().iter().filter_map(|record| caa(&record.data)).collect()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn caa(data: &RData) -> Option<CaaRecord> {
    match data {
        RData::CAA(caa) => Some(CaaRecord {
            critical: caa.issuer_critical,
            tag: caa.tag.clone(),
            value: String::from_utf8_lossy(&caa.value).into_owned(),
        }),
        _ => None,
    }
}

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
