//! What the settings declare, each value parsed, and the keys by which it is known from one start to the next. What is
//! to be done about it, [`compare`] says.

mod comparison;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

pub use comparison::{
    ChangeConsequence, DeclaredChange, DeclaredChanges, DeclaredProperty, StoredProvider, StoredResource,
    StoredResources, compare,
};

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::provider::NewProvider;
use crate::domain::value::id::ProviderId;
use crate::domain::value::name::RequestedName;
use crate::domain::value::profile::Profile;
use crate::domain::value::resource::ResourceName;

/// All that the settings of one instance declare. No key is there twice in a list.
#[derive(Clone, Debug)]
pub struct DeclaredResources {
    /// The instance whose settings they are.
    pub instance: String,
    /// Whether what is declared no longer is deleted.
    pub prune: bool,
    /// Whether these are all: where a file of the settings is missing, nothing else is taken as declared no longer.
    pub complete: bool,
    /// The providers.
    pub providers: Vec<DeclaredProvider>,
    /// The auto-certificates.
    pub auto_certificates: Vec<DeclaredAutoCertificate>,
}

/// A provider that the settings declare.
#[derive(Clone, Debug)]
pub struct DeclaredProvider {
    /// Its key.
    pub key: DeclaredKey,
    /// What it shall be.
    pub provider: NewProvider,
    /// The keys of the declared providers that are asked in its place when it fails for long, in this order.
    pub fallbacks: Vec<DeclaredKey>,
    /// The key of the declared provider with which a rehearsal is made in its place.
    pub staging: Option<DeclaredKey>,
}

/// An auto-certificate that the settings declare.
#[derive(Clone, Debug)]
pub struct DeclaredAutoCertificate {
    /// Its key.
    pub key: DeclaredKey,
    /// Its name for people.
    pub name: ResourceName,
    /// Who shall issue.
    pub provider: ProviderReference,
    /// The main name.
    pub common_name: RequestedName,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Further names, as many as the API takes.
    pub subject_alternative_names: Vec<RequestedName>,
    /// The profile to order, where it has one of its own.
    pub profile: Option<Profile>,
}

/// How an auto-certificate names its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderReference {
    /// One of the declared providers.
    Key(DeclaredKey),
    /// One that the API made.
    Id(ProviderId),
}

/// The key of something that the settings declare: stable while everything else about it may change, and fit for the
/// name of a file. 1 to 64 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeclaredKey(String);

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no key; a key has 1 to {LONGEST} letters, digits, dots, underscores and hyphens, and begins with a letter or a digit"
)]
pub struct InvalidDeclaredKey(String);

impl DeclaredKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeclaredKey {
    type Err = InvalidDeclaredKey;

    fn from_str(text: &str) -> Result<Self, InvalidDeclaredKey> {
        let fits = (1..=LONGEST).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let clean = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if fits && clean { Ok(Self(text.to_owned())) } else { Err(InvalidDeclaredKey(text.to_owned())) }
    }
}

impl fmt::Display for DeclaredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeclaredKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_fit_for_a_file_name() {
        for text in ["www", "Let.s_Encrypt-2", "0", &"x".repeat(LONGEST)] {
            assert_eq!(text.parse::<DeclaredKey>().unwrap().as_str(), text);
        }
        for text in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "-x", &"x".repeat(LONGEST + 1)] {
            assert!(text.parse::<DeclaredKey>().is_err(), "{text} was taken");
        }
    }
}
