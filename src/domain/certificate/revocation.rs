//! The revocation of a certificate: why it was asked for (RFC 5280 section 5.3.1), and how far it has come.

use std::fmt;
use std::str::FromStr;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::quoted;

/// The reasons that CAs take from those who asked for a certificate. The other ones are the CA's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// None is given.
    Unspecified,
    /// Somebody else has the private key, or may have it.
    KeyCompromise,
    /// The subject's name or other information in the certificate has changed.
    AffiliationChanged,
    /// Another certificate takes its place.
    Superseded,
    /// What it was for is no longer run.
    CessationOfOperation,
}

/// A text that is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {0}; use one of {names}", names = RevocationReason::ALL.map(RevocationReason::as_str).join(", "))]
pub struct UnknownRevocationReason(String);

impl RevocationReason {
    /// Every reason, in the order of the RFC's codes.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    /// The RFC's name for it, which the store keeps too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = UnknownRevocationReason;

    fn from_str(text: &str) -> Result<Self, UnknownRevocationReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| UnknownRevocationReason(quoted(text)))
    }
}

/// A revocation that was asked for. The wish alone is enough for a new certificate, whether the CA has heard of it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When a person asked for it.
    pub requested_at: Moment,
    /// When the CA carried it out.
    pub done_at: Option<Moment>,
    /// What has kept the CA from it so far.
    pub failure_streak: Option<FailureStreak>,
}

impl Revocation {
    /// One that the CA has not heard of.
    pub const fn new(reason: RevocationReason, requested_at: Moment) -> Self {
        Self { reason, requested_at, done_at: None, failure_streak: None }
    }

    /// The same, carried out at `now`.
    #[must_use]
    pub fn with_done(self, now: Moment) -> Self {
        Self { done_at: Some(now), failure_streak: None, ..self }
    }

    /// The same after one more failure.
    #[must_use]
    pub fn with_failure_streak(self, trouble: FailureStreak) -> Self {
        Self { failure_streak: Some(trouble), ..self }
    }
}

/// Whether, when and why, for people.
impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, requested_at: requested, done_at: done, failure_streak: trouble } = self;
        match (done, trouble) {
            (Some(done), _) => write!(f, "revoked at {done} ({reason})"),
            (None, None) => write!(f, "to be revoked since {requested} ({reason})"),
            (None, Some(trouble)) => write!(f, "to be revoked since {requested} ({reason}): {trouble}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::disposition::Failure;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    #[test]
    fn names_of_reasons_read_back_and_others_are_told_which_there_are() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        let error = "cACompromise".parse::<RevocationReason>().unwrap_err().to_string();
        assert!(error.contains("cACompromise") && error.contains("keyCompromise, affiliationChanged"), "{error}");
    }

    #[test]
    fn it_says_whether_when_and_why() {
        let wished = Revocation::new(RevocationReason::Superseded, NOW);
        assert_eq!(wished.to_string(), format!("to be revoked since {NOW} (superseded)"));
        let failed =
            wished.with_failure_streak(FailureStreak::after(None, Failure::retry("no answer"), NOW, None, 0.5));
        let words = failed.to_string();
        assert!(words.contains("(superseded): no answer (failure 1, next try at "), "{words}");
        assert_eq!(failed.with_done(NOW).to_string(), format!("revoked at {NOW} (superseded)"));
    }
}
