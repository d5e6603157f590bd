//! A hold: an order that is kept back for its provider's sake, and until when. It is no trouble of the certificate's own.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::domain::moment::Moment;

/// What keeps an order back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Moment,
    /// Why.
    pub cause: HoldCause,
}

/// Why, in words.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            HoldCause::ProviderDown => f.write_str("the provider is down; it is probed until it answers"),
            HoldCause::Limit(limit) => write!(f, "the order waits for a limit of the CA: {limit}"),
        }
    }
}

/// Why an order is kept back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldCause {
    /// The provider is down: one probe at a time is sent.
    ProviderDown,
    /// The order would break this limit of the CA.
    Limit(String),
}

impl HoldCause {
    /// The text under which the store keeps a provider that is down.
    pub const PROVIDER_DOWN: &str = "provider-down";
}

/// As the store keeps it.
impl fmt::Display for HoldCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProviderDown => Self::PROVIDER_DOWN,
            Self::Limit(limit) => limit,
        })
    }
}

impl FromStr for HoldCause {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == Self::PROVIDER_DOWN { Self::ProviderDown } else { Self::Limit(text.to_owned()) })
    }
}
