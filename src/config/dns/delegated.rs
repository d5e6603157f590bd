//! `[dns.delegated]`: autocertd's own authoritative name server for a challenge zone.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::domain::value::zone_name::ZoneName;

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

impl DelegatedSection {
    /// Whether the settings fit together.
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
        let out_of_range = |key, value: String, rule| Err(ConfigError::OutOfRange { key, value, rule });
        if !(1..=MAX_QUESTIONS_PER_SECOND).contains(&self.questions_per_second) {
            let value = self.questions_per_second.to_string();
            return out_of_range("dns.delegated.questions_per_second", value, "between 1 and 100000");
        }
        let Some(zone) = &self.zone else {
            if self.nameservers.is_empty() && self.listen.is_empty() {
                return Ok(());
            }
            let rule = "name the zone that is delegated to autocertd, or leave nameservers and listen out, too";
            return out_of_range("dns.delegated.zone", "none".to_owned(), rule);
        };
        if self.nameservers.is_empty() {
            let rule = "at least one, as in the NS records of the parent zone";
            return out_of_range("dns.delegated.nameservers", "[]".to_owned(), rule);
        }
        // Its address would be asked for here, where there are TXT records only.
        match self.nameservers.iter().find(|server| zone.contains(server.as_str())) {
            Some(inside) => {
                let rule = "a name outside of dns.delegated.zone, with address records in its own zone";
                out_of_range("dns.delegated.nameservers", inside.to_string(), rule)
            }
            None => Ok(()),
        }
    }
}

const MAX_QUESTIONS_PER_SECOND: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let section: DelegatedSection = toml::from_str(text).unwrap();
        section.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_zone_has_name_servers_outside_of_it() {
        assert_eq!(fault(""), "");
        assert_eq!(fault("zone = 'acme.example.net'\nnameservers = ['ns.example.net']"), "");
        let lacking = fault("zone = 'acme.example.net'");
        assert_eq!(lacking, "dns.delegated.nameservers = []: at least one, as in the NS records of the parent zone");
        let inside = fault("zone = 'acme.example.net'\nnameservers = ['ns.example.net', 'ns.acme.example.net']");
        assert!(inside.starts_with("dns.delegated.nameservers = ns.acme.example.net: a name outside"), "{inside}");
        assert!(fault("listen = ['192.0.2.1:53']").starts_with("dns.delegated.zone = none"));
    }

    #[test]
    fn some_questions_are_answered() {
        assert!(fault("questions_per_second = 0").contains("between 1 and 100000"));
        assert!(fault("questions_per_second = 100001").contains("between 1 and 100000"));
    }
}
