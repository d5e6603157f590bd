//! What a failure means for the next step.

use std::error::Error;
use std::fmt;

use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;

/// What to do about a failure. Every error that can end a step of an attempt maps to exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A passing fault: try again after the back-off, or at the moment that the other side named (`Retry-After`).
    Retry {
        /// The earliest moment for another try, where the other side named one.
        not_before: Option<Moment>,
    },
    /// A person must act first; looked at again daily, and at once when someone asks.
    Operator,
    /// The order is beyond use: the next try makes a new one, after the usual back-off.
    Restart,
    /// The provider as a whole is in trouble, not this certificate.
    ProviderDown {
        /// The earliest moment for another try, where the provider named one.
        not_before: Option<Moment>,
    },
}

impl Disposition {
    /// A passing fault without a moment of its own.
    pub const RETRY: Self = Self::Retry { not_before: None };

    /// The earliest moment for another try, where the other side named one.
    pub const fn not_before(self) -> Option<Moment> {
        match self {
            Self::Retry { not_before } | Self::ProviderDown { not_before } => not_before,
            Self::Operator | Self::Restart => None,
        }
    }

    /// The name under which the store keeps it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Operator => "operator",
            Self::Restart => "restart",
            Self::ProviderDown { .. } => "provider-down",
        }
    }

    /// Reads the name under which the store keeps it.
    pub fn from_parts(name: &str, not_before: Option<Moment>) -> Option<Self> {
        match name {
            "retry" => Some(Self::Retry { not_before }),
            "operator" => Some(Self::Operator),
            "restart" => Some(Self::Restart),
            "provider-down" => Some(Self::ProviderDown { not_before }),
            _ => None,
        }
    }
}

/// A failed step: what happened in words for people, and what it means.
///
/// Display says what happened, what was tried and what a person can do; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means for the next step.
    pub disposition: Disposition,
    /// One or two sentences for people; some of the words may be a server's or a program's.
    pub message: RemoteMessage,
}

impl Failure {
    /// A passing fault.
    pub fn retry(message: impl Into<RemoteMessage>) -> Self {
        Self { disposition: Disposition::RETRY, message: message.into() }
    }

    /// A fault that a person must mend.
    pub fn operator(message: impl Into<RemoteMessage>) -> Self {
        Self { disposition: Disposition::Operator, message: message.into() }
    }

    /// What an error means, in its own words and those of its sources.
    pub fn from_error(error: &(dyn Error + 'static), disposition: Disposition) -> Self {
        let chain = std::iter::successors(Some(error), |&error| error.source());
        Self { disposition, message: chain.map(ToString::to_string).collect::<Vec<_>>().join(": ").into() }
    }

    /// A fault that a new order mends.
    pub fn restart(message: impl Into<RemoteMessage>) -> Self {
        Self { disposition: Disposition::Restart, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

impl Error for Failure {}
