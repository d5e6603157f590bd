//! The profile of a certificate: a kind that a CA offers under a name of its own (draft-ietf-acme-profiles).

use std::fmt;
use std::str::FromStr;

use crate::domain::value::text::quoted;

/// The name of a profile: 1 to 64 visible ASCII characters. What it stands for, the CA's pages say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile(String);

/// A text that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no profile; give the name that the CA gives it, 1 to {LONGEST} visible ASCII characters")]
pub struct InvalidProfile(String);

impl Profile {
    /// The name as the CA gives it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Profile {
    type Err = InvalidProfile;

    fn from_str(text: &str) -> Result<Self, InvalidProfile> {
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidProfile(quoted(text))) }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_one_visible_word() {
        for text in ["classic", "tlsserver", "a/b:c.1", &"x".repeat(LONGEST)] {
            assert_eq!(text.parse::<Profile>().unwrap().as_str(), text);
        }
        for text in ["", " ", "short lived", "kurz\n", "für-alle", &"x".repeat(LONGEST + 1)] {
            assert!(text.parse::<Profile>().is_err(), "{text:?} was taken");
        }
    }
}
