//! Addresses of services that are sent a token.

use std::fmt;

use url::Url;

use crate::domain::value::text::quoted;
use crate::domain::value::url_text::{InvalidUrl, parse_url};

/// The address of such a service: `https`, or `http` on this machine alone, so that no token crosses a network in the
/// clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// What is wrong with the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is no URL, or one that would carry a token in the clear.
    #[error("{0} is not an https URL")]
    NotHttps(String),
    /// It is not written as it would be used.
    #[error("the URL cannot be used: {0}")]
    Url(#[from] InvalidUrl),
    /// It carries a user name or a password, which would end in logs.
    #[error("the URL carries a user name or password; remove it")]
    Credentials,
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    /// Where it is no `https` URL (nor `http` on this machine), or carries credentials.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let refused = || InvalidEndpoint::NotHttps(quoted(text));
        let url = parse_url(text).map_err(|fault| match fault {
            InvalidUrl::NotAUrl if !text.contains('@') => refused(),
            fault => InvalidEndpoint::Url(fault),
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::Credentials);
        }
        let local = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if local => Ok(Self(url)),
            _ => Err(refused()),
        }
    }

    /// The address itself.
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// The URL of a path below the address, each segment encoded.
    pub fn join(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_crosses_no_network_in_the_clear() {
        for text in ["https://dns.de-fra.ionos.com", "http://127.0.0.1:8080", "http://[::1]", "https://[fd00::1]:443"] {
            assert!(Endpoint::parse(text).is_ok(), "{text} was refused");
        }
        for text in ["http://dns.example.com", "http://127.0.0.1.example.com", "ftp://127.0.0.1", "dns.example.com"] {
            assert!(Endpoint::parse(text).is_err(), "{text} was taken");
        }
        let error = Endpoint::parse("https://ops:hunter2@dns.example.com").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn paths_go_below_the_address_and_stay_segments() {
        let endpoint = Endpoint::parse("https://api.example.com/cert/").unwrap();
        assert_eq!(endpoint.join(&["certificates", "a/b"]).as_str(), "https://api.example.com/cert/certificates/a%2Fb");
    }
}
