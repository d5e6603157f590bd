//! `[dns.delegated]`: autocertd's own authoritative name server for a challenge zone.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::domain::zone_name::ZoneName;

/// `[dns.delegated]`: a zone that is delegated to autocertd itself, so that `_acme-challenge` names may be CNAMEs into it
/// and no credentials of any DNS service are needed. Without a zone there is no name server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelegatedSection {
    /// The zone, such as `acme.example.net`. Default none.
    pub zone: Option<ZoneName>,
    /// The names by which the parent zone delegates it, such as `ns.example.net`; the first is the primary one. At least
    /// one, where there is a zone.
    pub nameservers: Vec<ZoneName>,
    /// Where to answer, as `ip:port`, on UDP and TCP. Default none: the sockets that systemd passes
    /// (autocertd-dns.socket), or where it passes none, port 53 of all addresses.
    pub listen: Vec<SocketAddr>,
    /// How many questions per second one client network (IPv4 /24, IPv6 /56) may ask; what is beyond is told to come
    /// back over TCP, or dropped. Default 50.
    pub questions_per_second: u32,
}

impl Default for DelegatedSection {
    fn default() -> Self {
        Self { zone: None, nameservers: Vec::new(), listen: Vec::new(), questions_per_second: 50 }
    }
}
