//! The adapter `delegated`: autocertd's own name server (`dns::delegated`) answers from the journal, where each record is
//! noted before it is presented and struck out after it was removed. So nothing is left to do here.

use async_trait::async_trait;

use crate::config::dns::DelegatedSection;
use crate::dns::adapter::{DnsAdapter, RecordId, TxtRecord, Zone, ZoneId};
use crate::dns::error::DnsError;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;

/// The zone of `[dns.delegated]`.
pub struct DelegatedAdapter {
    name: AdapterName,
    zone: ZoneName,
    nameservers: Vec<String>,
}

impl DelegatedAdapter {
    /// The adapter of the section, where it names a zone.
    pub fn from_section(section: &DelegatedSection) -> Option<Self> {
        let zone = section.zone.clone()?;
        let nameservers = section.nameservers.iter().map(ToString::to_string).collect();
        Some(Self { name: AdapterName::delegated(), zone, nameservers })
    }
}

#[async_trait]
impl DnsAdapter for DelegatedAdapter {
    fn name(&self) -> &AdapterName {
        &self.name
    }

    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError> {
        if !self.zone.contains(name) {
            let reason = format!("{} does not hold {name}; correct the [[dns.zone]] that leads here", self.zone);
            return Err(DnsError::Setting { setting: "dns.delegated.zone".to_owned(), reason });
        }
        let (name, nameservers) = (self.zone.to_string(), self.nameservers.clone());
        Ok(Zone { id: name.clone().into(), name, nameservers })
    }

    async fn present(&self, _zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError> {
        Ok(record.name.clone().into())
    }

    async fn remove(&self, _zone: &ZoneId, _id: Option<&RecordId>, _record: &TxtRecord) -> Result<(), DnsError> {
        Ok(())
    }
}
