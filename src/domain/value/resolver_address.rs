//! Where a recursive resolver is asked: at an address, or over HTTPS.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::value::endpoint::{Endpoint, InvalidEndpoint};
use crate::domain::value::text::quoted;

/// The address of a recursive resolver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum ResolverAddress {
    /// Over UDP and TCP.
    Socket(SocketAddr),
    /// Over HTTPS (RFC 8484), by the URL that takes the questions.
    Https(Endpoint),
}

/// A text that is no address of a resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResolverAddress {
    /// It is neither an address nor a URL.
    #[error(
        "{0} is no resolver; write an address such as 192.0.2.53:53, or a URL such as https://192.0.2.53/dns-query"
    )]
    NoAddress(String),
    /// It is a URL that cannot be used.
    #[error("a resolver's URL cannot be used: {0}")]
    Url(#[from] InvalidEndpoint),
}

impl FromStr for ResolverAddress {
    type Err = InvalidResolverAddress;

    fn from_str(text: &str) -> Result<Self, InvalidResolverAddress> {
        if text.contains("://") {
            return Ok(Self::Https(Endpoint::parse(text)?));
        }
        let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        let address = text.parse().or_else(|_| alone());
        address.map(Self::Socket).map_err(|_| InvalidResolverAddress::NoAddress(quoted(text)))
    }
}

impl TryFrom<String> for ResolverAddress {
    type Error = InvalidResolverAddress;

    fn try_from(text: String) -> Result<Self, InvalidResolverAddress> {
        text.parse()
    }
}

impl From<ResolverAddress> for String {
    fn from(address: ResolverAddress) -> Self {
        address.to_string()
    }
}

impl From<SocketAddr> for ResolverAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for ResolverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Https(endpoint) => endpoint.fmt(f),
        }
    }
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_urls_are_read_and_print_as_they_are() {
        for (text, printed) in [
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("192.0.2.53", "192.0.2.53:53"),
            ("[2001:db8::53]:53", "[2001:db8::53]:53"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("https://dns.example/dns-query", "https://dns.example/dns-query"),
            ("http://127.0.0.1:8053/dns-query", "http://127.0.0.1:8053/dns-query"),
        ] {
            assert_eq!(text.parse::<ResolverAddress>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_resolver_is_refused_with_what_would_do() {
        for (text, words) in [
            ("dns.example", "write an address"),
            ("", "write an address"),
            ("192.0.2.53:99999", "write an address"),
            ("http://dns.example/dns-query", "is not an https URL"),
            ("https://me:secret@dns.example/dns-query", "carries a user name or password"),
        ] {
            let error = text.parse::<ResolverAddress>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
