//! The adapters: a file for each kind, and their list. A new kind is a file with a `Make` and a line in `KINDS`.

pub mod acme_dns;
pub mod delegated;
pub mod exec;
pub mod ionos;
pub mod rfc2136;

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::config::dns::DnsSection;
use crate::dns::adapter::DnsAdapter;
use crate::dns::error::DnsError;
use crate::dns::lookup::DnsLookup;
use crate::dns::zone_finder::ZoneFinder;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The kinds that `type` of `[dns.adapter.NAME]` may name.
const KINDS: &[(&str, Make)] =
    &[("acme-dns", acme_dns::make), ("exec", exec::make), ("ionos", ionos::make), ("rfc2136", rfc2136::make)];

/// Makes an adapter of a kind out of its settings. It asks nothing over the network.
type Make = fn(AdapterContext) -> Result<Arc<dyn DnsAdapter>, DnsError>;

/// What an adapter is made of.
pub struct AdapterContext {
    /// What it is called.
    pub name: AdapterName,
    /// Its settings, to be [read](Given::settings) once.
    settings: toml::Table,
    /// Asks resolvers.
    pub lookup: DnsLookup,
    /// Tells the time.
    pub clock: SharedClock,
    /// Randomness.
    pub randomness: Randomness,
}

impl AdapterContext {
    /// Its settings in the shape of its kind.
    ///
    /// # Errors
    /// [`DnsError::Setting`] with the key of what does not fit.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, DnsError> {
        serde_path_to_error::deserialize(self.settings.clone())
            .map_err(|error| self.setting_error(&error.path().to_string(), error.inner().message().to_owned()))
    }

    /// Finds the zones of names where the service itself does not tell: `zone` of the settings, else what the DNS says.
    pub fn zone_finder(&self, zone: Option<ZoneName>) -> ZoneFinder {
        ZoneFinder::new(self.name.clone(), zone, self.lookup.clone())
    }

    /// Why the setting `key` cannot be used.
    pub fn setting_error(&self, key: &str, reason: String) -> DnsError {
        DnsError::Setting { setting: format!("{}.{key}", self.name.section()), reason }
    }
}

/// All adapters of the settings. `token` is that of `[dns.ionos]`.
pub(super) fn build_adapters(
    section: &DnsSection,
    token: Option<&SecretString>,
    lookup: &DnsLookup,
    clock: &SharedClock,
    randomness: &Randomness,
) -> Result<BTreeMap<AdapterName, Arc<dyn DnsAdapter>>, DnsError> {
    let ionos = ionos::Ionos::new(AdapterName::ionos(), &section.ionos, token, clock.clone(), randomness.clone())?;
    let mut adapters: BTreeMap<AdapterName, Arc<dyn DnsAdapter>> = BTreeMap::new();
    adapters.insert(AdapterName::ionos(), Arc::new(ionos));
    if let Some(delegated) = delegated::DelegatedAdapter::from_section(&section.delegated) {
        adapters.insert(AdapterName::delegated(), Arc::new(delegated));
    }
    for (name, entry) in &section.adapters {
        if [AdapterName::ionos(), AdapterName::delegated()].contains(name) {
            let reason = format!("the name {name} is that of [dns.{name}]; give the adapter another one");
            return Err(DnsError::Setting { setting: format!("dns.adapter.{name}"), reason });
        }
        let given = AdapterContext {
            name: name.clone(),
            settings: entry.settings.clone(),
            lookup: lookup.clone(),
            clock: clock.clone(),
            randomness: randomness.clone(),
        };
        let Some((_, make)) = KINDS.iter().find(|(kind, _)| *kind == entry.kind) else {
            let kinds = KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ");
            return Err(given.setting_error("type", format!("there is no kind {:?}; there are {kinds}", entry.kind)));
        };
        adapters.insert(name.clone(), make(given)?);
    }
    Ok(adapters)
}
