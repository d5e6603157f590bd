//! The `[dns]` section: which DNS services hold the zones, who serves which names, and how to wait until what was
//! published is visible.

mod delegated;
mod propagation;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::delegated::DelegatedSection;
pub use self::propagation::{PropagationCheck, PropagationSection};
use crate::config::time_span::TimeSpan;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;

/// Everything under `[dns]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSection {
    /// IONOS Cloud DNS: the adapter `ionos`, which serves whatever no route names.
    pub ionos: IonosSection,
    /// autocertd's own name server: the adapter `delegated`.
    pub delegated: DelegatedSection,
    /// `[dns.adapter.NAME]`: further adapters, each of a kind.
    #[serde(rename = "adapter")]
    pub adapters: BTreeMap<AdapterName, AdapterEntry>,
    /// `[[dns.zone]]`: who serves the names below a suffix. The longest suffix wins.
    #[serde(rename = "zone")]
    pub zones: Vec<ZoneEntry>,
    /// The wait until a record is visible.
    pub propagation: PropagationSection,
}

/// `[dns.adapter.NAME]`: the kind of an adapter, and what that kind wants to know. The adapter's own file reads the rest.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AdapterEntry {
    /// `ionos`, `rfc2136`, `acme-dns` or `exec`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The settings of the kind.
    #[serde(flatten)]
    pub settings: toml::Table,
}

/// `[[dns.zone]]`: a route.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneEntry {
    /// The names at and below this one.
    pub suffix: ZoneName,
    /// Which adapter publishes there.
    pub adapter: AdapterName,
}

/// `[dns.ionos]`: access to IONOS Cloud DNS. Its token is never written here, only where to read it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IonosSection {
    /// The address of the API; `http` only on this machine. Default `https://dns.de-fra.ionos.com`.
    pub endpoint: String,
    /// The file that holds the API token. Default none: the environment or systemd credentials give it.
    pub token_file: Option<PathBuf>,
    /// How long one call may take. Default `30s`.
    pub timeout: TimeSpan,
}

impl Default for IonosSection {
    fn default() -> Self {
        Self { endpoint: "https://dns.de-fra.ionos.com".to_owned(), token_file: None, timeout: TimeSpan::seconds(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_has_its_defaults() {
        let section: DnsSection = toml::from_str("").unwrap();
        assert_eq!(section.ionos.endpoint, "https://dns.de-fra.ionos.com");
        assert_eq!(section.propagation.timeout, TimeSpan::seconds(300));
        assert!(section.zones.is_empty() && section.adapters.is_empty());
    }

    #[test]
    fn adapters_and_routes_are_read() {
        let text = "
            [adapter.office]
            type = 'rfc2136'
            server = '192.0.2.1:53'
            [[zone]]
            suffix = 'Example.com'
            adapter = 'office'";
        let section: DnsSection = toml::from_str(text).unwrap();
        let (name, entry) = section.adapters.first_key_value().unwrap();
        assert_eq!((name.as_str(), entry.kind.as_str()), ("office", "rfc2136"));
        assert_eq!(entry.settings["server"].as_str(), Some("192.0.2.1:53"));
        assert_eq!((section.zones[0].suffix.as_str(), &section.zones[0].adapter), ("example.com", name));
    }

    #[test]
    fn resolvers_are_addresses_or_urls() {
        let text = "propagation.resolvers = ['192.0.2.53:53', 'https://dns.example/dns-query']";
        let resolvers = toml::from_str::<DnsSection>(text).unwrap().propagation.resolvers;
        assert_eq!(
            resolvers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            "192.0.2.53:53 https://dns.example/dns-query"
        );
        for (wrong, words) in [
            ("resolvers = ['http://dns.example/dns-query']", "is not an https URL"),
            ("resolvers = ['dns.example']", "is no resolver"),
            ("look = 'everywhere'", "expected one of `authoritative`, `resolvers`, `wait`, `off`"),
        ] {
            let error = toml::from_str::<DnsSection>(&format!("propagation.{wrong}")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_server_that_is_no_address_and_an_unknown_key_are_refused() {
        assert!(toml::from_str::<DnsSection>("propagation.servers = ['ns.example.com']").is_err());
        assert!(toml::from_str::<DnsSection>("ionos.token = 'secret'").is_err());
        assert!(toml::from_str::<DnsSection>("adapter.A.type = 'exec'").is_err());
    }
}
