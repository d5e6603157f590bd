//! Standing TXT records of dns-persist-01 (draft-ietf-acme-dns-persist): one record says, until it is removed, which
//! account at which CA may prove control of a name.

use serde::{Deserialize, Serialize};

/// Whether names are proven by standing records. Experimental: the draft may still change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsPersist {
    /// No: by DNS-01.
    #[default]
    Off,
    /// Yes, where the CA offers it; a person makes the records.
    ByHand,
    /// Yes, where the CA offers it; the adapter of the name's zone makes the records, once.
    Publish,
}

/// A standing record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistRecord {
    /// Its full name: lower case, no trailing dot.
    pub name: String,
    /// Its content, without quotes.
    pub content: String,
}

impl PersistRecord {
    /// The record that lets `account` (its URL) at the CA `issuer` prove control of `base`; and of the names below, where
    /// `wildcard` is set.
    pub fn new(base: &str, issuer: &str, account: &str, wildcard: bool) -> Self {
        let policy = if wildcard { "; policy=wildcard" } else { "" };
        Self { name: Self::name_for(base), content: format!("{issuer}; accounturi={account}{policy}") }
    }

    /// Where the standing records for `base` are.
    pub fn name_for(base: &str) -> String {
        format!("_validation-persist.{base}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_ca_and_account() {
        let record = |wildcard| PersistRecord::new("example.com", "ca.example", "https://ca.example/acct/1", wildcard);
        assert_eq!(record(false).name, "_validation-persist.example.com");
        assert_eq!(record(false).content, "ca.example; accounturi=https://ca.example/acct/1");
        assert_eq!(record(true).content, "ca.example; accounturi=https://ca.example/acct/1; policy=wildcard");
    }
}
