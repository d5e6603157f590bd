//! The sections `[api]` and `[limits]`: where the API listens and how much it takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::time_span::TimeSpan;

/// The section `[api]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSection {
    /// The address and port of the API. It speaks plain HTTP: put a TLS proxy in front of anything but loopback.
    pub listen: SocketAddr,
    /// How many connections the API holds at once; at least 8. At the limit, idle connections that have not
    /// authenticated are closed for new ones. Default: a quarter of the file descriptors, at most 512.
    pub max_connections: Option<u32>,
    /// How long a request may take before it is given up with a 503.
    pub request_timeout: TimeSpan,
    /// The Unix socket for the commands on the same machine; default `autocertd.sock`, in
    /// `/run/autocertd` where systemd made that for the usual state directory, else in the state directory.
    pub socket: Option<PathBuf>,
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8440)),
            max_connections: None,
            request_timeout: TimeSpan::seconds(30),
            socket: None,
        }
    }
}

/// The section `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// How many auto-certificates the API takes; default 50.
    pub auto_certificates: u32,
    /// How many providers the API takes; default 100.
    pub providers: u32,
    /// How many uploaded certificates the API takes; default 1,000.
    pub certificates: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { auto_certificates: 50, providers: 100, certificates: 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default_and_unknown_keys_are_refused() {
        assert_eq!(toml::from_str::<ApiSection>(""), Ok(ApiSection::default()));
        assert_eq!(toml::from_str::<LimitsSection>("auto_certificates = 3").unwrap().auto_certificates, 3);
        assert!(toml::from_str::<ApiSection>("lisen = '127.0.0.1:1'").unwrap_err().to_string().contains("lisen"));
    }
}
