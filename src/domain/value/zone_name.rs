//! The names of zones, and of whatever else holds the names below it: compared on label boundaries, in lower case.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::value::text::quoted;

/// The name of a zone: A-labels in lower case, without a trailing dot. Underscores are allowed, as in
/// `_acme-challenge.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

/// A text that names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} names no zone; give a DNS name such as example.com, without '*'")]
pub struct InvalidZoneName(String);

impl ZoneName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is this one or lies below it; `name` is in lower case, without a trailing dot.
    pub fn contains(&self, name: &str) -> bool {
        relative_name(name, &self.0).is_some()
    }
}

/// `name` relative to `zone`, empty at its apex; `None` where the zone does not hold it.
pub fn relative_name<'a>(name: &'a str, zone: &str) -> Option<&'a str> {
    let rest = name.strip_suffix(zone)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

impl FromStr for ZoneName {
    type Err = InvalidZoneName;

    fn from_str(text: &str) -> Result<Self, InvalidZoneName> {
        let invalid = || InvalidZoneName(quoted(text));
        let bare = text.strip_suffix('.').unwrap_or(text);
        let name = idna::domain_to_ascii(bare).map_err(|_| invalid())?;
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() <= MAX_NAME && name.split('.').all(is_label) { Ok(Self(name)) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for ZoneName {
    type Error = InvalidZoneName;

    fn try_from(text: String) -> Result<Self, InvalidZoneName> {
        text.parse()
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;
/// RFC 1035 section 2.3.4, in text form without the root.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_on_label_boundaries() {
        let zone: ZoneName = "Example.COM.".parse().unwrap();
        assert_eq!(zone.as_str(), "example.com");
        assert!(zone.contains("example.com") && zone.contains("_acme-challenge.www.example.com"));
        assert!(!zone.contains("myexample.com") && !zone.contains("com"));
        assert_eq!(
            "_acme-challenge.Bücher.example".parse::<ZoneName>().unwrap().as_str(),
            "_acme-challenge.xn--bcher-kva.example"
        );
    }

    #[test]
    fn names_are_relative_to_their_zone() {
        assert_eq!(relative_name("_acme-challenge.www.example.com", "example.com"), Some("_acme-challenge.www"));
        assert_eq!(relative_name("example.com", "example.com"), Some(""));
        assert_eq!(relative_name("myexample.com", "example.com"), None);
    }

    #[test]
    fn what_names_no_zone_is_refused() {
        for text in ["", ".", "*.example.com", "a..b", "a b.example", &"x".repeat(64)] {
            assert!(text.parse::<ZoneName>().is_err(), "{text:?} was taken");
        }
    }
}
