//! A hold: an order that is kept back for its provider's sake, and until when. It is no trouble of the certificate's own.

use std::fmt;

use crate::domain::provider::rate_limit_ledger::{LimitExceeded, LimitKind};
use crate::domain::value::moment::Moment;

/// What keeps an order back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Until when.
    pub until: Moment,
    /// Why.
    pub cause: DeferralCause,
}

/// Why, in words.
impl fmt::Display for Deferral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            DeferralCause::ProviderDown => f.write_str("the provider is down; it is probed until it answers"),
            DeferralCause::RateLimit { description, .. } => {
                write!(f, "the order waits for a limit of the CA: {description}")
            }
        }
    }
}

/// Why an order is kept back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeferralCause {
    /// The provider is down: one probe at a time is sent.
    ProviderDown,
    /// The order would break a limit of the CA.
    RateLimit {
        /// Which one.
        kind: LimitKind,
        /// It in words, for people only.
        description: String,
    },
}

impl DeferralCause {
    /// What the store keeps for a provider that is down, in place of the kind of a limit.
    pub const PROVIDER_DOWN: &str = "provider-down";

    /// What the store asks for.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ProviderDown => Self::PROVIDER_DOWN,
            Self::RateLimit { kind, .. } => kind.as_str(),
        }
    }

    /// The words that the store keeps beside the kind. Releases before 0007 read the cause from them.
    pub fn description(&self) -> &str {
        match self {
            Self::ProviderDown => Self::PROVIDER_DOWN,
            Self::RateLimit { description, .. } => description,
        }
    }

    /// Reads what the store keeps.
    pub fn from_stored(kind: &str, description: String) -> Self {
        if kind == Self::PROVIDER_DOWN {
            return Self::ProviderDown;
        }
        Self::RateLimit { kind: LimitKind::from_stored(kind), description }
    }
}

impl From<&LimitExceeded> for DeferralCause {
    fn from(full: &LimitExceeded) -> Self {
        Self::RateLimit { kind: full.bucket.kind(), description: full.to_string() }
    }
}
