//! Why a step with a CA did not succeed, and what that means. Display gives the CA's own words and what a person can do.

use std::fmt;

use instant_acme::Error as ProtocolError;

use crate::acme::problem::{AcmeStep, PROVIDER_DOWN, Problem, ProblemKind};
use crate::acme::refusal::{Refusal, RefusalText, Unreachable, advice};
use crate::acme::transport::TransportError;
use crate::domain::certificate::chain::InvalidChain;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::mac_key::InvalidMacKey;
use crate::domain::value::moment::Moment;
use crate::domain::value::profile::Profile;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::network_fault::NetworkFault;

/// Why a step with a CA did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The CA answered with an error.
    #[error("{} {}{}", .refusal.host(), RefusalText(*.step, .refusal), advice(.refusal.advice(*.step)))]
    Refused {
        /// What was asked for.
        step: AcmeStep,
        /// The answer.
        refusal: Box<Refusal>,
    },
    /// The CA asked for another nonce more often than is reasonable; before an account exists, at the first time.
    #[error("the CA refused every nonce that it had given; the request was not carried out and is sent again later")]
    BadNonce,
    /// The CA wants its terms accepted.
    #[error(
        "{} wants its terms of service accepted: {refusal}; read {} and set accept_terms_of_service = true in [acme]",
        .refusal.host(), .terms.as_ref().map_or("them on the CA's pages", RemoteMessage::as_str)
    )]
    TermsNotAccepted {
        /// Where the directory says that they are.
        terms: Option<RemoteMessage>,
        /// The CA's answer.
        refusal: Box<Refusal>,
    },
    /// The order failed, with the reasons that the CA gives for its names.
    #[error("the CA could not validate the order: {}{}", listed(.0), advice(first_advice(.0)))]
    OrderFailed(Vec<NameProblem>),
    /// A name's authorization is final without being valid, so that its order can never succeed (RFC 8555 section 7.1.6).
    #[error(
        "the CA has the authorization for {name} as {status}, with which the order can never succeed; a new order follows"
    )]
    AuthorizationLost {
        /// The name.
        name: RemoteMessage,
        /// Its status.
        status: &'static str,
    },
    /// The CA does not offer DNS-01 for a name.
    #[error("the CA offers no dns-01 challenge for {name}, only {offered}; use another CA for it")]
    ChallengeNotOffered {
        /// The name.
        name: RemoteMessage,
        /// The types that the CA offers.
        offered: RemoteMessage,
    },
    /// The CA does not offer the profile that is to be ordered.
    #[error("the CA offers no profile `{profile}`; it offers {}; correct `profile` in the settings", offers(.offered))]
    ProfileNotOffered {
        /// The profile.
        profile: Profile,
        /// Those that it offers.
        offered: Vec<String>,
    },
    /// The CA did not finish within `poll_timeout`.
    #[error("the CA has not {waiting} yet{}; the same order is looked at again", also(.problems))]
    PollTimedOut {
        /// What was waited for.
        waiting: AwaitedState,
        /// The moment at which the CA asked to be looked at again.
        not_before: Option<Moment>,
        /// What the CA says about single names so far.
        problems: Vec<NameProblem>,
    },
    /// The CA could not be spoken to.
    #[error(transparent)]
    Unreachable(Box<Unreachable>),
    /// The CA answered with success, but not as RFC 8555 says.
    #[error(
        "the CA was to {step}, but its answer cannot be read ({cause}); check that the server's URL is that of an ACME directory"
    )]
    Unreadable {
        /// What was asked for.
        step: AcmeStep,
        /// What is wrong with the answer.
        cause: RemoteMessage,
    },
    /// The chain is not acceptable.
    #[error("the certificate chain from the CA is refused: {0}")]
    UnacceptableChain(InvalidChain),
    /// The directory URL is none that requests can be sent to.
    #[error("the server {0} is not a URL that requests can be sent to; correct the provider")]
    UnusableServer(String),
    /// The stored key of the external account binding is none.
    #[error("the key of the external account binding cannot be used: it {0}")]
    UnusableBinding(InvalidMacKey),
    /// The CA does not change account keys.
    #[error("{0} does not change account keys (its directory has no keyChange); the account keeps the key that it has")]
    NoKeyChange(String),
    /// The CA knows the account, but takes nothing from it any more.
    #[error("the CA says that the account {url} is {status}; only a valid one can be used")]
    AccountNotValid {
        /// The account.
        url: String,
        /// Its status, RFC 8555 section 7.1.2.
        status: RemoteMessage,
    },
    /// The stored account cannot be read.
    #[error("the stored account cannot be used ({0}); restore it from a backup")]
    UnusableCredentials(&'static str),
    /// The program is stopping, or nobody waits any more.
    #[error("the wait for the CA was given up, because the work was stopped; it resumes from the same order")]
    Cancelled,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitedState {
    /// All names to be validated.
    Ready,
    /// The certificate to be issued.
    Certificate,
}

impl fmt::Display for AwaitedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "validated all names",
            Self::Certificate => "issued the certificate",
        })
    }
}

/// The problem of a name in an order, or of the whole order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameProblem {
    /// The name, `None` where it is about the order.
    pub name: Option<RemoteMessage>,
    /// What the CA says.
    pub problem: Problem,
}

impl AcmeError {
    /// What it means for the next step.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Refused { step, refusal } => refusal.disposition(*step),
            Self::OrderFailed(problems) => {
                let operator =
                    |named: &NameProblem| named.problem.disposition(AcmeStep::Validation) == Disposition::Operator;
                if problems.iter().any(operator) { Disposition::Operator } else { Disposition::Restart }
            }
            Self::AuthorizationLost { .. } => Disposition::Restart,
            Self::PollTimedOut { not_before, .. } => Disposition::Retry { not_before: *not_before },
            Self::BadNonce | Self::Cancelled => Disposition::RETRY,
            Self::Unreachable(unreachable) if unreachable.fault == NetworkFault::Forbidden => Disposition::Operator,
            Self::Unreachable(_) | Self::Unreadable { .. } | Self::UnacceptableChain(_) => PROVIDER_DOWN,
            Self::TermsNotAccepted { .. }
            | Self::ChallengeNotOffered { .. }
            | Self::ProfileNotOffered { .. }
            | Self::UnusableServer(_)
            | Self::UnusableBinding(_)
            | Self::NoKeyChange(_)
            | Self::AccountNotValid { .. }
            | Self::UnusableCredentials(_) => Disposition::Operator,
        }
    }

    /// The kind of problem that the CA gave as its answer.
    pub fn kind(&self) -> Option<ProblemKind> {
        match self {
            Self::Refused { refusal, .. } | Self::TermsNotAccepted { refusal, .. } => refusal.kind(),
            Self::BadNonce => Some(ProblemKind::BadNonce),
            _ => None,
        }
    }

    /// Whether the CA is known to have done nothing of what was asked for. A server in trouble may have done it.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.status < 500,
            Self::Unreachable(unreachable) => {
                matches!(unreachable.fault, NetworkFault::Dns | NetworkFault::Connect | NetworkFault::Forbidden)
            }
            Self::Unreadable { step, .. } => matches!(step, AcmeStep::Directory | AcmeStep::Nonce),
            Self::Cancelled => false,
            _ => true,
        }
    }

    /// Whether an order that was made gave an answer which nobody can do anything with. The CA may have lost it: after
    /// some of these in a row another order takes its place.
    pub fn is_unreadable_order(&self) -> bool {
        match self {
            Self::Unreadable { step, .. } => step.is_within_order(),
            Self::UnacceptableChain(_) => true,
            Self::Refused { step, refusal } => {
                step.is_within_order()
                    && !matches!(refusal.status, 408 | 429 | 502..=504)
                    && matches!(refusal.disposition(*step), Disposition::ProviderDown { .. })
            }
            _ => false,
        }
    }

    /// Whether the CA answered, and it is the order that goes on for longer than anybody waits.
    pub const fn is_poll_timeout(&self) -> bool {
        matches!(self, Self::PollTimedOut { .. })
    }

    /// Whether the CA may take the same order where it replaces nothing. CAs word their refusals of `replaces` (RFC 9773
    /// section 5) in ways of their own, so that each that it may be counts.
    pub fn may_concern_replacement(&self) -> bool {
        let Self::Refused { step: AcmeStep::NewOrder, refusal } = self else { return false };
        let kinds = [ProblemKind::AlreadyReplaced, ProblemKind::Malformed, ProblemKind::Unauthorized];
        match refusal.status {
            404 | 409 => true,
            // A fault of the CA with what is replaced: nothing else of a new order is about a certificate.
            500 => refusal.detail_contains(&["certificate", "replac"]),
            429 | 501.. => false,
            _ => refusal.kind().is_some_and(|kind| kinds.contains(&kind)),
        }
    }

    pub(super) fn from_transport(step: AcmeStep, error: TransportError) -> Self {
        match error {
            TransportError::Refused { step: own, refusal } => {
                if refusal.kind() == Some(ProblemKind::BadNonce) {
                    return Self::BadNonce;
                }
                Self::Refused { step: own.unwrap_or(step), refusal }
            }
            TransportError::Unreachable(unreachable) => Self::Unreachable(unreachable),
            TransportError::Unreadable { step: own, cause } => Self::Unreadable { step: own.unwrap_or(step), cause },
        }
    }

    pub(super) fn from_instant_acme(step: AcmeStep, error: ProtocolError) -> Self {
        match error {
            ProtocolError::Other(error) => match error.downcast::<TransportError>() {
                Ok(error) => Self::from_transport(step, *error),
                Err(error) => Self::Unreadable { step, cause: error.to_string().into() },
            },
            // The transport passes on no other refusal, so that any other problem was found inside an object.
            ProtocolError::Api(problem) => {
                let problem = Problem::from(&problem);
                match problem.kind {
                    ProblemKind::BadNonce => Self::BadNonce,
                    _ => Self::OrderFailed(vec![NameProblem { name: None, problem }]),
                }
            }
            ProtocolError::KeyRejected | ProtocolError::Crypto => Self::UnusableCredentials("its key is not usable"),
            error => Self::Unreadable { step, cause: error.to_string().into() },
        }
    }
}

impl From<AcmeError> for Failure {
    fn from(error: AcmeError) -> Self {
        Self { disposition: error.disposition(), message: error.to_string().into() }
    }
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// Names whose problems a message tells in full; an order may have a hundred.
const MAX_PROBLEMS_SHOWN: usize = 8;

fn first_advice(problems: &[NameProblem]) -> Option<&'static str> {
    problems.iter().find_map(|named| named.problem.advice(AcmeStep::Validation))
}

fn listed(problems: &[NameProblem]) -> String {
    if problems.is_empty() {
        return "it gives no reason".to_owned();
    }
    if let [problem] = problems {
        return problem.to_string();
    }
    let mut listed: Vec<String> = problems
        .iter()
        .take(MAX_PROBLEMS_SHOWN)
        .map(|named| RemoteMessage::new(&named.to_string()).to_string())
        .collect();
    if let more @ 1.. = problems.len().saturating_sub(MAX_PROBLEMS_SHOWN) {
        listed.push(format!("and {more} more"));
    }
    listed.join("; ")
}

fn offers(profiles: &[String]) -> String {
    if profiles.is_empty() { "none at all".to_owned() } else { RemoteMessage::new(&profiles.join(", ")).to_string() }
}

fn also(problems: &[NameProblem]) -> String {
    if problems.is_empty() { String::new() } else { format!(" ({})", listed(problems)) }
}

#[cfg(test)]
mod tests;
