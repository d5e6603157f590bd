//! How a request to a CA fails: with an answer that has an error status, or with none.

use std::fmt;

use crate::acme::problem::{AcmeStep, Problem, ProblemKind};
use crate::domain::failure::disposition::Disposition;
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::network_fault::NetworkFault;

/// A CA's answer with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// The problem document, where the body is one.
    pub problem: Option<Problem>,
    /// What `Retry-After` asked for.
    pub retry_after: RetryAfter,
    /// The beginning of a body that is no problem document.
    pub excerpt: RemoteMessage,
}

/// How a CA could not be spoken to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} could not be reached: {fault}{}{}", .cause.in_parentheses(), advice(remedy(*.fault).as_deref()))]
pub struct Unreachable {
    /// Host and port.
    pub host: String,
    /// What failed.
    pub fault: NetworkFault,
    /// The root of the failure, in the words of the part that saw it.
    pub cause: RemoteMessage,
}

fn remedy(fault: NetworkFault) -> Option<String> {
    match fault {
        NetworkFault::Forbidden => Some("ACME is spoken over https; allow_http in [acme] is for tests".to_owned()),
        fault => fault.remedy("extra_roots in [acme]"),
    }
}

impl Refusal {
    /// The kind of its problem.
    pub fn kind(&self) -> Option<ProblemKind> {
        self.problem.as_ref().map(|problem| problem.kind)
    }

    /// What it means for the next step: first the status, then the type of the problem.
    pub(super) fn disposition(&self, step: AcmeStep) -> Disposition {
        let not_before = self.retry_after.moment();
        match (self.status, &self.problem) {
            (429, _) if not_before.is_none() && self.is_paused() => Disposition::Operator,
            (429, _) if self.is_account_wide(step) => Disposition::ProviderDown { not_before },
            (429 | 408, _) => Disposition::Retry { not_before },
            (500.., _) => Disposition::ProviderDown { not_before },
            _ if matches!(step, AcmeStep::Directory | AcmeStep::Nonce) => Disposition::ProviderDown { not_before },
            (404 | 410, _) if step.is_within_order() => Disposition::Restart,
            (_, Some(problem)) => match problem.disposition(step) {
                Disposition::Retry { .. } => Disposition::Retry { not_before },
                Disposition::ProviderDown { .. } => Disposition::ProviderDown { not_before },
                settled => settled,
            },
            // Whatever answered is not the ACME server: a proxy, a redirect, a page of the CA's web server.
            (_, None) => Disposition::ProviderDown { not_before },
        }
    }

    /// Let's Encrypt pauses names that fail for too long; only a person can undo that.
    fn is_paused(&self) -> bool {
        self.detail_contains(&["pause", "temporarily prevented"])
    }

    /// Whether a limit is that of the account or of the service, and not of certain names: every other order would meet
    /// it, too. The words are those of Boulder, of gateways and of CAs that count by quota.
    fn is_account_wide(&self, step: AcmeStep) -> bool {
        self.problem.is_none()
            || matches!(step, AcmeStep::Directory | AcmeStep::Nonce | AcmeStep::Account)
            || self.detail_contains(&[
                "too many new orders",
                "too many requests",
                "too many new registrations",
                "quota",
            ])
    }

    pub(super) fn detail_contains(&self, words: &[&str]) -> bool {
        let detail = self.problem.as_ref().map(|problem| problem.detail.as_str().to_lowercase()).unwrap_or_default();
        words.iter().any(|words| detail.contains(words))
    }

    pub(super) fn advice(&self, step: AcmeStep) -> Option<&'static str> {
        match self.status {
            429 if self.retry_after.moment().is_none() && self.is_paused() => {
                Some("follow the CA's words to lift the pause, then ask for a renewal")
            }
            429 | 500.. => None,
            300..400 => Some("give the provider the directory URL that the CA redirects to"),
            _ => self.problem.as_ref().and_then(|problem| problem.advice(step)),
        }
    }

    pub(super) fn host(&self) -> &str {
        host_and_port(&self.url)
    }
}

/// The answer alone: status, words and `Retry-After`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        match &self.problem {
            Some(problem) => write!(f, ", {problem}")?,
            None if self.excerpt.is_empty() => {}
            None => write!(f, ", \"{}\"", self.excerpt)?,
        }
        self.retry_after.fmt(f)
    }
}

/// What the CA refused to do, or could not do, and its answer.
pub(super) struct RefusalText<'a>(pub(super) AcmeStep, pub(super) &'a Refusal);

impl fmt::Display for RefusalText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(step, refusal) = self;
        let verb = if refusal.status >= 500 { "could not" } else { "refused to" };
        write!(f, "{verb} {step}: {refusal}")
    }
}

/// What to do about it, as the end of a message.
pub(super) fn advice(advice: Option<&str>) -> String {
    advice.map(|advice| format!(". What to do: {advice}")).unwrap_or_default()
}

pub(super) fn host_and_port(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split(['/', '?', '#']).next().unwrap_or(after_scheme)
}
