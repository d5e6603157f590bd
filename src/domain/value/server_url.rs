//! Addresses of ACME resources.

use std::fmt;

use crate::domain::value::text::quoted;
use crate::domain::value::url_text::{InvalidUrl, normalize_stored_url, parse_url};

/// The directory URL of an ACME server (RFC 8555 section 7.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl(String);

/// What is wrong with an ACME server's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServerUrl {
    /// It is no absolute URL at all.
    #[error("{0} is not a URL; give the ACME directory, such as https://acme-v02.api.letsencrypt.org/directory")]
    NotAUrl(String),
    /// It is not written as it would be used.
    #[error("the URL cannot be used: {0}")]
    Url(#[from] InvalidUrl),
    /// It is a URL, but not one over TLS.
    #[error("{0} is not an https URL")]
    NotHttps(String),
    /// It carries a user name or a password, which would end in logs and responses.
    #[error("the URL carries a user name or password; remove it")]
    Credentials,
}

/// Whether a server may be spoken to without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttpPolicy {
    /// Only `https`.
    Refused,
    /// `http` too, which the settings allow for tests.
    Allowed,
}

impl ServerUrl {
    /// Reads the address of an ACME server.
    ///
    /// # Errors
    /// Where it is no absolute `https` URL (or `http` where that is allowed), or carries credentials.
    pub fn parse(text: &str, plain_http: PlainHttpPolicy) -> Result<Self, InvalidServerUrl> {
        let url = parse_url(text).map_err(|fault| match fault {
            // What may be a password is not repeated.
            InvalidUrl::NotAUrl if !text.contains('@') => InvalidServerUrl::NotAUrl(quoted(text)),
            fault => InvalidServerUrl::Url(fault),
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServerUrl::Credentials);
        }
        match (url.scheme(), plain_http) {
            ("https", _) | ("http", PlainHttpPolicy::Allowed) => Ok(Self(text.to_owned())),
            _ => Err(InvalidServerUrl::NotHttps(quoted(text))),
        }
    }

    /// Reads an address that is stored. A former release took some that a parser has to mend first.
    ///
    /// # Errors
    /// Where it cannot be mended either.
    pub fn from_stored(text: &str) -> Result<Self, InvalidServerUrl> {
        Self::parse(text, PlainHttpPolicy::Allowed)
            .or_else(|fault| Self::parse(&normalize_stored_url(text).ok_or(fault)?, PlainHttpPolicy::Allowed))
    }

    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The URL of an order, used verbatim as the CA gave it (RFC 8555 section 7.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderUrl(String);

impl OrderUrl {
    /// The URL as the CA gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for OrderUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Display for OrderUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_unless_the_settings_allow_more() {
        assert!(ServerUrl::parse("https://ca.example/dir", PlainHttpPolicy::Refused).is_ok());
        assert!(ServerUrl::parse("http://ca.example/dir", PlainHttpPolicy::Allowed).is_ok());
        assert!(matches!(
            ServerUrl::parse("http://ca.example/dir", PlainHttpPolicy::Refused),
            Err(InvalidServerUrl::NotHttps(_))
        ));
        assert!(matches!(ServerUrl::parse("ca.example", PlainHttpPolicy::Refused), Err(InvalidServerUrl::NotAUrl(_))));
        assert!(matches!(
            ServerUrl::parse("https://u:p@ca.example", PlainHttpPolicy::Refused),
            Err(InvalidServerUrl::Credentials)
        ));
    }

    #[test]
    fn what_is_mended_in_silence_elsewhere_is_refused_and_what_is_stored_stays_readable() {
        for text in
            ["https://ca.example/dir\r\nforged", "https:ca.example", "https:///ca.example", "https://ca.example/#x"]
        {
            assert!(ServerUrl::parse(text, PlainHttpPolicy::Allowed).is_err(), "{text:?} was taken");
            let read = ServerUrl::from_stored(text).unwrap();
            assert!(read.as_str().starts_with("https://ca.example/"), "{text:?}: {read}");
            assert!(read.as_str().chars().all(|c| c.is_ascii_graphic()), "{text:?}: {read}");
        }
        let error = ServerUrl::parse("https:ops:hunter2@ca.example", PlainHttpPolicy::Refused).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(
            ServerUrl::parse("https://CA.example", PlainHttpPolicy::Refused).unwrap().as_str(),
            "https://CA.example"
        );
    }
}
