//! The `[dns]` section: which DNS services hold the zones, and how to wait until what was published is visible.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::span::Span;

/// Everything under `[dns]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSection {
    /// IONOS Cloud DNS.
    pub ionos: IonosSection,
    /// The wait until a record is visible.
    pub propagation: PropagationSection,
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
    pub timeout: Span,
}

impl Default for IonosSection {
    fn default() -> Self {
        Self { endpoint: "https://dns.de-fra.ionos.com".to_owned(), token_file: None, timeout: Span::seconds(30) }
    }
}

/// `[dns.propagation]`: how long and where to look for a published record.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PropagationSection {
    /// How long until a record must be available at its DNS service, and again until it must be visible on all
    /// name servers. Default `5m`.
    pub timeout: Span,
    /// The pause after the first look. Each further pause is twice as long. Default `1s`.
    pub first_pause: Span,
    /// The longest pause between two looks. Default `10s`.
    pub longest_pause: Span,
    /// Name servers to ask, as `ip:port`, instead of the zone's own authoritative ones. Default none.
    pub servers: Vec<SocketAddr>,
    /// Recursive resolvers, as `ip:port`, through which the authoritative name servers are found. Default none: those
    /// of the operating system.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for PropagationSection {
    fn default() -> Self {
        Self {
            timeout: Span::seconds(300),
            first_pause: Span::seconds(1),
            longest_pause: Span::seconds(10),
            servers: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_has_its_defaults() {
        let section: DnsSection = toml::from_str("").unwrap();
        assert_eq!(section.ionos.endpoint, "https://dns.de-fra.ionos.com");
        assert_eq!(section.propagation.timeout, Span::seconds(300));
    }

    #[test]
    fn a_server_that_is_no_address_and_an_unknown_key_are_refused() {
        assert!(toml::from_str::<DnsSection>("propagation.servers = ['ns.example.com']").is_err());
        assert!(toml::from_str::<DnsSection>("ionos.token = 'secret'").is_err());
    }
}
