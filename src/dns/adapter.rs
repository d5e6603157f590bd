//! What a DNS service must be able to do for DNS-01: find the zone of a name, publish a TXT record in it, tell whether
//! it is published, and remove it again. Each call is safe to repeat.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use crate::dns::error::DnsError;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::credential::Credential;
use crate::domain::value::name::DnsName;

/// A DNS service that holds zones.
///
/// The caller journals the zone before [`present`](DnsAdapter::present) and the record after it, so that whatever was
/// published is removed even after a crash.
#[async_trait]
pub trait DnsAdapter: Send + Sync {
    /// The name under which settings, the journal and messages speak of it.
    fn name(&self) -> &AdapterName;

    /// The zone that serves `name`: the longest one that is enabled.
    ///
    /// # Errors
    /// [`DnsError::NoZone`] where there is none; else where the service cannot be asked.
    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError>;

    /// Publishes `record`, or adopts one of equal name and content that is there already.
    ///
    /// # Errors
    /// Where the service cannot be asked or refuses the record.
    async fn present(&self, zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError>;

    /// Publishes records of one zone; the results come in their order. A service that takes many at once is told them at
    /// once; else several are under way at a time.
    async fn present_all(&self, zone: &ZoneId, records: &[TxtRecord]) -> Vec<Result<RecordId, DnsError>> {
        let presented: Vec<_> = records.iter().map(|record| self.present(zone, record)).collect();
        stream::iter(presented).buffered(MAX_CONCURRENT_CALLS).collect().await
    }

    /// Whether the service has published the record; it may not be visible everywhere yet. A service that answers only
    /// when that is done has nothing to add.
    ///
    /// # Errors
    /// Where the service cannot be asked, has failed to publish the record, or no longer has it.
    async fn is_published(&self, _zone: &ZoneId, _record: &RecordId) -> Result<bool, DnsError> {
        Ok(true)
    }

    /// Removes the record by its id, or where the id never became known, all records of exactly its name and content.
    /// One that is gone already counts as removed.
    ///
    /// # Errors
    /// Where the service cannot be asked or refuses the removal.
    async fn remove(&self, zone: &ZoneId, id: Option<&RecordId>, record: &TxtRecord) -> Result<(), DnsError>;

    /// Makes the account that a service wants before it publishes anything for the challenges of `name`, or tells of the
    /// one that is there. `None` where the service knows no such accounts.
    ///
    /// # Errors
    /// Where the service makes none, or it cannot be kept.
    async fn register(&self, _name: &DnsName) -> Result<Option<Registration>, DnsError> {
        Ok(None)
    }

    /// Whether [`present`](DnsAdapter::present) does no harm where the record is there already. Else it is called once for
    /// each record, as long as its end was seen.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// How long a removal may take before it is given up and tried again later.
    fn removal_timeout(&self) -> Duration {
        REMOVAL_TIMEOUT
    }

    /// Whether [`zone_for`](DnsAdapter::zone_for) asks the service, so that an answer shows that it is there.
    fn asks_service_for_zones(&self) -> bool {
        false
    }

    /// The credential with which it works, where its end is known.
    fn credential(&self) -> Option<Credential> {
        None
    }
}

/// An account for the challenges of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Where a CNAME at the name of the challenge must lead.
    pub target: String,
    /// Whether it was made just now.
    pub is_new: bool,
}

/// A zone as its service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The service's id.
    pub id: ZoneId,
    /// The zone's name: A-labels in lower case, no trailing dot.
    pub name: String,
    /// The authoritative name servers that the service names for it; may be empty.
    pub nameservers: Vec<String>,
}

/// A TXT record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    /// Its full name: lower case, no trailing dot.
    pub name: String,
    /// Its content, without quotes.
    pub content: String,
}

/// A DNS service's id of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(String);

/// A DNS service's id of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(String);

impl ZoneId {
    /// The id as the service writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ZoneId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RecordId {
    /// The id as the service writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for RecordId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Calls to one service at a time.
pub(super) const MAX_CONCURRENT_CALLS: usize = 8;
const REMOVAL_TIMEOUT: Duration = Duration::from_mins(1);
