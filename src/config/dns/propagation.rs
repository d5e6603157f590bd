//! `[dns.propagation]`: how long and where to look for a published record.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::config::time_span::TimeSpan;
use crate::domain::value::resolver_address::ResolverAddress;

/// `[dns.propagation]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PropagationSection {
    /// Who must show a record before the CA is asked to look. Default `authoritative`.
    pub look: PropagationCheck,
    /// How long until a record must be available at its DNS service, and again until it must be visible wherever it is
    /// looked for. Default `5m`.
    pub timeout: TimeSpan,
    /// The pause after the first look. Each further pause is twice as long. Default `1s`.
    pub first_pause: TimeSpan,
    /// The longest pause between two looks. Default `10s`.
    pub longest_pause: TimeSpan,
    /// With `look = "wait"`: how long, at most an hour. Default `2m`.
    pub wait: TimeSpan,
    /// Name servers to ask, as `ip:port`, instead of the zone's own authoritative ones. Default none.
    pub servers: Vec<SocketAddr>,
    /// Recursive resolvers, as `ip:port` or the URL of DNS over HTTPS, through which aliases, zones, CAA records and the
    /// authoritative name servers are found. Default none: `servers`, or without any those of the operating system.
    pub resolvers: Vec<ResolverAddress>,
}

/// Who must show a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationCheck {
    /// Each authoritative name server of the zone, asked directly.
    #[default]
    Authoritative,
    /// Each of the resolvers, for networks from which name servers cannot be asked directly.
    Resolvers,
    /// Nobody: some time passes instead.
    Wait,
    /// Nobody, and the CA is asked at once.
    Off,
}

impl PropagationSection {
    /// # Errors
    /// Where a value is out of its range.
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
        if self.wait > MAX_WAIT {
            let (key, value) = ("dns.propagation.wait", self.wait.to_string());
            return Err(ConfigError::OutOfRange { key, value, rule: "at most 1h" });
        }
        Ok(())
    }
}

impl Default for PropagationSection {
    fn default() -> Self {
        Self {
            look: PropagationCheck::Authoritative,
            timeout: TimeSpan::seconds(300),
            first_pause: TimeSpan::seconds(1),
            longest_pause: TimeSpan::seconds(10),
            wait: TimeSpan::seconds(120),
            servers: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

const MAX_WAIT: TimeSpan = TimeSpan::seconds(3_600);
