//! The names of DNS adapters: what settings, the journal and messages call them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::value::text::quoted;

/// What one configured DNS adapter is called: 1 to 40 lower-case letters, digits, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName(String);

/// A text that can name no adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} can name no adapter; give 1 to {LONGEST} lower-case letters, digits, '-' and '_'")]
pub struct InvalidAdapterName(String);

impl AdapterName {
    /// IONOS Cloud DNS of `[dns.ionos]`, which serves whatever no route names.
    pub fn ionos() -> Self {
        Self("ionos".to_owned())
    }

    /// autocertd's own name server of `[dns.delegated]`.
    pub fn delegated() -> Self {
        Self("delegated".to_owned())
    }

    /// Where its settings are.
    pub fn section(&self) -> String {
        if [Self::ionos(), Self::delegated()].contains(self) {
            format!("dns.{self}")
        } else {
            format!("dns.adapter.{self}")
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdapterName {
    type Err = InvalidAdapterName;

    fn from_str(text: &str) -> Result<Self, InvalidAdapterName> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidAdapterName(quoted(text)))
        }
    }
}

impl TryFrom<String> for AdapterName {
    type Error = InvalidAdapterName;

    fn try_from(text: String) -> Result<Self, InvalidAdapterName> {
        text.parse()
    }
}

impl From<AdapterName> for String {
    fn from(name: AdapterName) -> Self {
        name.0
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_word() {
        for text in ["ionos", "office-bind", "acme_dns2", &"x".repeat(LONGEST)] {
            assert_eq!(text.parse::<AdapterName>().unwrap().as_str(), text);
        }
        for text in ["", "Office", "a b", "a.b", "für", &"x".repeat(LONGEST + 1)] {
            assert!(text.parse::<AdapterName>().is_err(), "{text:?} was taken");
        }
    }
}
