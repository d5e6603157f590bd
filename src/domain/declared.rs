//! What the settings declare: the keys by which it is known from one start to the next.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

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
pub struct InvalidKey(String);

impl DeclaredKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeclaredKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=LONGEST).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let clean = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if fits && clean { Ok(Self(text.to_owned())) } else { Err(InvalidKey(text.to_owned())) }
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
