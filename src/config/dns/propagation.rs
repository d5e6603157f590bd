//! `[dns.propagation]`: how long and where to look for a published record.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::span::Span;

/// `[dns.propagation]`.
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
