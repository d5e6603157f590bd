//! What a DNS service must be able to do for DNS-01: find the zone of a name, publish a TXT record in it, tell whether
//! it is published, and remove it again. Each call is safe to repeat.

use std::fmt;

use async_trait::async_trait;

use crate::dns::error::DnsError;

/// A DNS service that holds zones.
///
/// The caller journals the zone before [`present`](Adapter::present) and the record after it, so that whatever was
/// published is removed even after a crash.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// The name under which messages and metrics speak of it.
    fn name(&self) -> &'static str;

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

    /// Whether the service has published the record; it may not be visible everywhere yet.
    ///
    /// # Errors
    /// Where the service cannot be asked, has failed to publish the record, or no longer has it.
    async fn is_published(&self, zone: &ZoneId, record: &RecordId) -> Result<bool, DnsError>;

    /// Removes the record by its id, or where the id never became known, all records of exactly its name and content.
    /// One that is gone already counts as removed.
    ///
    /// # Errors
    /// Where the service cannot be asked or refuses the removal.
    async fn remove(&self, zone: &ZoneId, id: Option<&RecordId>, record: &TxtRecord) -> Result<(), DnsError>;
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
