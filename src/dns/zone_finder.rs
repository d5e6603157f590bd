//! The zones of a service that does not tell which it has.

use crate::dns::adapter::Zone;
use crate::dns::error::DnsError;
use crate::dns::lookup::DnsLookup;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;

/// Finds the zone of a name. Its id is its name.
pub struct ZoneFinder {
    adapter: AdapterName,
    configured: Option<ZoneName>,
    lookup: DnsLookup,
}

impl ZoneFinder {
    /// Zones that are looked up, unless the settings of `adapter` name one.
    pub(super) const fn new(adapter: AdapterName, configured: Option<ZoneName>, lookup: DnsLookup) -> Self {
        Self { adapter, configured, lookup }
    }

    /// The zone that holds `name`.
    ///
    /// # Errors
    /// [`DnsError::Setting`] where the zone of the settings does not hold it, [`DnsError::NoZone`] where none is
    /// registered, [`DnsError::NoLookup`] where it cannot be looked up.
    pub async fn of(&self, name: &str) -> Result<Zone, DnsError> {
        let zone = match &self.configured {
            Some(zone) if zone.contains(name) => zone.to_string(),
            Some(zone) => {
                let reason =
                    format!("{zone} does not hold {name}; let no [[dns.zone]] lead other names to this adapter");
                return Err(DnsError::Setting { setting: format!("{}.zone", self.adapter.section()), reason });
            }
            None => self.lookup.find_zone(name).await?,
        };
        // The nearest zone of a name that nobody registered is its top-level domain.
        if self.configured.is_none() && !zone.contains('.') {
            return Err(DnsError::NoZone { adapter: self.adapter.clone(), name: name.to_owned(), zones: 0 });
        }
        Ok(Zone { id: zone.clone().into(), name: zone, nameservers: Vec::new() })
    }
}
