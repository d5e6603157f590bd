//! The CA's own words: problem documents (RFC 8555 section 6.7) and what each of their types means for the next step.

use std::fmt;

use serde_json::Value;

use crate::domain::failure::disposition::Disposition;
use crate::domain::value::text::RemoteMessage;

/// What was being done when a problem arose; the same type of problem means different things at different steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeStep {
    /// Reading the directory, RFC 8555 section 7.1.1.
    Directory,
    /// Fetching a nonce, section 7.2.
    Nonce,
    /// Registering or finding the account, section 7.3.
    Account,
    /// Changing the contact of the account, section 7.3.2.
    Contact,
    /// Asking when to renew, RFC 9773 section 4.
    RenewalInfo,
    /// Changing the key of the account, section 7.3.5.
    KeyChange,
    /// Deactivating the account, section 7.3.6.
    Deactivation,
    /// Making the order, section 7.4.
    NewOrder,
    /// Looking at an order that was made before.
    Order,
    /// Looking at an authorization, section 7.5.
    Authorization,
    /// Answering a challenge, section 7.5.1.
    Challenge,
    /// The CA's own work on an order or a challenge, which failed.
    Validation,
    /// Sending the CSR, section 7.4.
    Finalize,
    /// Downloading the chain, section 7.4.2.
    Certificate,
    /// Revoking a certificate, section 7.6.
    Revocation,
}

impl AcmeStep {
    /// Whether a fresh order would begin this step anew.
    pub(super) const fn is_within_order(self) -> bool {
        !matches!(
            self,
            Self::Directory
                | Self::Nonce
                | Self::Account
                | Self::Contact
                | Self::KeyChange
                | Self::Deactivation
                | Self::RenewalInfo
                | Self::Revocation
                | Self::NewOrder
        )
    }
}

impl fmt::Display for AcmeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "show its directory",
            Self::Nonce => "give a nonce",
            Self::Account => "register the account",
            Self::Contact => "take the new contact",
            Self::RenewalInfo => "say when to renew",
            Self::KeyChange => "take the new account key",
            Self::Deactivation => "deactivate the account",
            Self::NewOrder => "take the order",
            Self::Order => "show the order",
            Self::Authorization => "show an authorization",
            Self::Challenge => "take the answer to a challenge",
            Self::Validation => "validate the order",
            Self::Finalize => "finalize the order",
            Self::Certificate => "hand out the certificate",
            Self::Revocation => "revoke the certificate",
        })
    }
}

/// The types of problem documents: RFC 8555 section 6.7, RFC 9773 section 7.4 and the profiles draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The account does not exist.
    AccountDoesNotExist,
    /// The terms of service are not agreed to; older than the RFC, Pebble still sends it.
    AgreementRequired,
    /// Another order replaces that certificate already, RFC 9773.
    AlreadyReplaced,
    /// The certificate is revoked already.
    AlreadyRevoked,
    /// The CSR is unacceptable.
    BadCsr,
    /// The nonce was unacceptable, even after many tries.
    BadNonce,
    /// The public key is not supported.
    BadPublicKey,
    /// The reason for a revocation is not allowed.
    BadRevocationReason,
    /// The signature algorithm is not supported.
    BadSignatureAlgorithm,
    /// CAA records forbid the CA to issue.
    Caa,
    /// Several problems, told by the subproblems.
    Compound,
    /// The CA could not connect to what it validates.
    Connection,
    /// The CA's DNS query failed.
    Dns,
    /// The CA wants an external account binding.
    ExternalAccountRequired,
    /// The answer to the challenge was not the expected one.
    IncorrectResponse,
    /// The contact is invalid.
    InvalidContact,
    /// The profile is not offered.
    InvalidProfile,
    /// The request was malformed.
    Malformed,
    /// The order is not ready to be finalized.
    OrderNotReady,
    /// A rate limit was hit.
    RateLimited,
    /// The CA will not issue for a name.
    RejectedIdentifier,
    /// The CA has an internal error.
    ServerInternal,
    /// The CA found a TLS error while validating.
    Tls,
    /// The account lacks the authorization.
    Unauthorized,
    /// The scheme of the contact is not supported.
    UnsupportedContact,
    /// The type of a name is not supported.
    UnsupportedIdentifier,
    /// The account's owner must visit a page.
    UserActionRequired,
    /// Anything else.
    Unknown,
}

impl ProblemKind {
    /// Every kind, with the last part of its URN.
    pub const ALL: [(Self, &'static str); 28] = [
        (Self::AccountDoesNotExist, "accountDoesNotExist"),
        (Self::AgreementRequired, "agreementRequired"),
        (Self::AlreadyReplaced, "alreadyReplaced"),
        (Self::AlreadyRevoked, "alreadyRevoked"),
        (Self::BadCsr, "badCSR"),
        (Self::BadNonce, "badNonce"),
        (Self::BadPublicKey, "badPublicKey"),
        (Self::BadRevocationReason, "badRevocationReason"),
        (Self::BadSignatureAlgorithm, "badSignatureAlgorithm"),
        (Self::Caa, "caa"),
        (Self::Compound, "compound"),
        (Self::Connection, "connection"),
        (Self::Dns, "dns"),
        (Self::ExternalAccountRequired, "externalAccountRequired"),
        (Self::IncorrectResponse, "incorrectResponse"),
        (Self::InvalidContact, "invalidContact"),
        (Self::InvalidProfile, "invalidProfile"),
        (Self::Malformed, "malformed"),
        (Self::OrderNotReady, "orderNotReady"),
        (Self::RateLimited, "rateLimited"),
        (Self::RejectedIdentifier, "rejectedIdentifier"),
        (Self::ServerInternal, "serverInternal"),
        (Self::Tls, "tls"),
        (Self::Unauthorized, "unauthorized"),
        (Self::UnsupportedContact, "unsupportedContact"),
        (Self::UnsupportedIdentifier, "unsupportedIdentifier"),
        (Self::UserActionRequired, "userActionRequired"),
        (Self::Unknown, "unknown"),
    ];

    /// The kind of a problem's `type`.
    pub fn from_urn(urn: &str) -> Self {
        let name = URN_PREFIXES.iter().find_map(|prefix| urn.strip_prefix(prefix));
        Self::ALL.iter().find(|(_, known)| name == Some(*known)).map_or(Self::Unknown, |(kind, _)| *kind)
    }

    /// The last part of its URN.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| *name)
    }

    /// What it means for the next step, from its type alone. The HTTP status and `Retry-After` may say more, and
    /// `compound` means what its gravest subproblem means.
    pub const fn disposition(self, step: AcmeStep) -> Disposition {
        match self {
            Self::BadNonce | Self::RateLimited if !matches!(step, AcmeStep::Validation) => Disposition::RETRY,
            // Another account is registered at once; orders of the lost one are lost with it.
            Self::AccountDoesNotExist if !step.is_within_order() => Disposition::RETRY,
            Self::ServerInternal if !matches!(step, AcmeStep::Validation) => PROVIDER_DOWN,
            // Boulder refuses names at newOrder; step-ca says so of a TXT record that it has not seen yet.
            Self::RejectedIdentifier if matches!(step, AcmeStep::Validation) => Disposition::Restart,
            Self::AgreementRequired
            | Self::AlreadyRevoked
            | Self::BadCsr
            | Self::BadPublicKey
            | Self::BadRevocationReason
            | Self::BadSignatureAlgorithm
            | Self::Caa
            | Self::ExternalAccountRequired
            | Self::InvalidContact
            | Self::InvalidProfile
            | Self::RejectedIdentifier
            | Self::UnsupportedContact
            | Self::UnsupportedIdentifier
            | Self::UserActionRequired => Disposition::Operator,
            Self::Malformed | Self::Unauthorized | Self::Unknown if !step.is_within_order() => {
                Disposition::Operator
            }
            Self::AlreadyReplaced
            | Self::Compound
            | Self::Connection
            | Self::Dns
            | Self::IncorrectResponse
            | Self::OrderNotReady
            | Self::Tls
            | Self::Malformed
            | Self::Unauthorized
            | Self::Unknown
            // What failed within an order took the order with it.
            | Self::AccountDoesNotExist
            | Self::BadNonce
            | Self::RateLimited
            | Self::ServerInternal => Disposition::Restart,
        }
    }

    /// What a person can do about it, where there is something to do.
    pub(super) const fn advice(self, step: AcmeStep) -> Option<&'static str> {
        Some(match self {
            Self::AccountDoesNotExist => {
                "nothing, unless CAA records pin the account: another one is registered in its place, whose URL they need"
            }
            Self::AgreementRequired => "read the CA's terms of service and accept them",
            Self::BadCsr | Self::BadPublicKey => "choose a key algorithm that the CA takes",
            Self::BadRevocationReason => "give a reason that the CA takes",
            Self::BadSignatureAlgorithm => "the CA does not take ES256 account keys; use another CA",
            Self::Caa => "let the CA issue in the CAA records of the name, or remove them",
            Self::Connection | Self::Dns | Self::IncorrectResponse | Self::Tls => {
                "look at the TXT records that all name servers of the zone give for _acme-challenge"
            }
            Self::ExternalAccountRequired => "give the provider the external account binding that the CA hands out",
            Self::InvalidContact | Self::UnsupportedContact => "give the provider an e-mail address that the CA takes",
            Self::InvalidProfile => "choose a profile that the CA's directory lists",
            Self::RejectedIdentifier | Self::UnsupportedIdentifier => {
                "remove the name from the auto-certificate, or use another CA"
            }
            Self::UserActionRequired => "do what the CA asks for",
            Self::Malformed | Self::Unauthorized if matches!(step, AcmeStep::Account) => {
                "check the e-mail address, and key id and key of the external account binding (often good only once)"
            }
            Self::Unauthorized if matches!(step, AcmeStep::Revocation) => {
                "only the account that ordered the certificate, or whoever holds its private key, can have it revoked"
            }
            Self::Unauthorized if matches!(step, AcmeStep::NewOrder) => {
                "the account may be deactivated, or not allowed to order this; ask the CA"
            }
            _ => return None,
        })
    }
}

/// A problem document, RFC 7807, as a CA sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The type, as far as it is known.
    pub kind: ProblemKind,
    /// The `type` as it was sent, which tells an unknown kind.
    pub urn: RemoteMessage,
    /// What happened, in the CA's words.
    pub detail: RemoteMessage,
    /// A page for the account's owner, with `userActionRequired`.
    pub instance: Option<RemoteMessage>,
    /// The problems of single names, RFC 8555 section 6.7.1; the first `MAX_SUBPROBLEMS` of them.
    pub subproblems: Vec<Subproblem>,
}

/// The problem of a single name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The name that it is about.
    pub name: Option<RemoteMessage>,
    /// The type.
    pub kind: ProblemKind,
    /// What happened, in the CA's words.
    pub detail: RemoteMessage,
}

impl Problem {
    /// Reads an answer's body; `None` where it is no problem document.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let words = String::from_utf8_lossy(body);
        let document: Value = serde_json::from_str(words.trim_start_matches('\u{feff}')).ok()?;
        let urn = text_member(&document, "type").unwrap_or_default();
        let detail = text_member(&document, "detail").or_else(|| text_member(&document, "title"));
        if urn.is_empty() && detail.is_none() {
            return None;
        }
        let subproblems = document.get("subproblems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            kind: ProblemKind::from_urn(urn),
            urn: RemoteMessage::new(urn),
            detail: RemoteMessage::from_paragraph(detail.unwrap_or_default()),
            instance: text_member(&document, "instance").map(RemoteMessage::from_paragraph),
            subproblems: subproblems.iter().take(MAX_SUBPROBLEMS).map(Subproblem::from_json).collect(),
        })
    }

    /// What it means for the next step.
    pub fn disposition(&self, step: AcmeStep) -> Disposition {
        if self.kind != ProblemKind::Compound {
            return self.kind.disposition(step);
        }
        let of_the_names = self.subproblems.iter().map(|sub| sub.kind.disposition(step));
        of_the_names.max_by_key(|disposition| severity(*disposition)).unwrap_or(self.kind.disposition(step))
    }

    /// What a person can do: the advice of the problem, else that of its names.
    pub(super) fn advice(&self, step: AcmeStep) -> Option<&'static str> {
        let kinds = std::iter::once(self.kind).chain(self.subproblems.iter().map(|sub| sub.kind));
        kinds.into_iter().find_map(|kind| kind.advice(step))
    }
}

/// The CA's words, those on single names after them.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.kind == ProblemKind::Unknown { self.urn.as_str() } else { self.kind.name() };
        match (self.detail.as_str(), name) {
            (detail, "") => f.write_str(detail)?,
            ("", name) => f.write_str(name)?,
            (detail, name) => write!(f, "{detail} ({name})")?,
        }
        for sub in self.subproblems.iter().take(MAX_SUBPROBLEMS_SHOWN) {
            let name = sub.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            write!(f, "; {name}{} ({})", sub.detail, sub.kind.name())?;
        }
        if let more @ 1.. = self.subproblems.len().saturating_sub(MAX_SUBPROBLEMS_SHOWN) {
            write!(f, "; and {more} more")?;
        }
        if let Some(page) = &self.instance {
            write!(f, "; see {page}")?;
        }
        Ok(())
    }
}

impl From<&instant_acme::Problem> for Problem {
    fn from(problem: &instant_acme::Problem) -> Self {
        let kind_of = |urn: &Option<String>| urn.as_deref().map_or(ProblemKind::Unknown, ProblemKind::from_urn);
        Self {
            kind: kind_of(&problem.r#type),
            urn: RemoteMessage::new(problem.r#type.as_deref().unwrap_or_default()),
            detail: RemoteMessage::from_paragraph(problem.detail.as_deref().unwrap_or_default()),
            instance: None,
            subproblems: problem
                .subproblems
                .iter()
                .take(MAX_SUBPROBLEMS)
                .map(|sub| Subproblem {
                    name: sub.identifier.as_ref().map(|name| RemoteMessage::new(&name.authorized(false).to_string())),
                    kind: kind_of(&sub.r#type),
                    detail: RemoteMessage::new(sub.detail.as_deref().unwrap_or_default()),
                })
                .collect(),
        }
    }
}

impl Subproblem {
    fn from_json(document: &Value) -> Self {
        Self {
            name: document
                .get("identifier")
                .and_then(|identifier| text_member(identifier, "value"))
                .map(RemoteMessage::new),
            kind: text_member(document, "type").map_or(ProblemKind::Unknown, ProblemKind::from_urn),
            detail: RemoteMessage::new(text_member(document, "detail").unwrap_or_default()),
        }
    }
}

fn text_member<'a>(document: &'a Value, key: &str) -> Option<&'a str> {
    document.get(key).and_then(Value::as_str)
}

/// Which of several dispositions counts: one name that needs a person holds up the whole order.
const fn severity(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Retry { .. } => 0,
        Disposition::Restart => 1,
        Disposition::ProviderDown { .. } => 2,
        Disposition::Operator => 3,
    }
}

pub(super) const PROVIDER_DOWN: Disposition = Disposition::ProviderDown { not_before: None };

/// More than a certificate has names: what a CA says beyond is not kept.
const MAX_SUBPROBLEMS: usize = 100;

/// So that the message stays one that people read.
const MAX_SUBPROBLEMS_SHOWN: usize = 5;

/// The RFC's, and that of the drafts before it.
const URN_PREFIXES: [&str; 2] = ["urn:ietf:params:acme:error:", "urn:acme:error:"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_read_by_its_urn() {
        for (index, (kind, name)) in ProblemKind::ALL.iter().enumerate() {
            assert_eq!(ProblemKind::from_urn(&format!("urn:ietf:params:acme:error:{name}")), *kind);
            assert_eq!(kind.name(), *name);
            assert!(ProblemKind::ALL[..index].iter().all(|(other, _)| other != kind));
        }
        assert_eq!(ProblemKind::from_urn("about:blank"), ProblemKind::Unknown);
    }

    /// The type, what it means as an answer to newOrder, as an answer within an order, and as the
    /// reason why a challenge or an order failed.
    #[test]
    fn every_kind_has_its_meaning() {
        const TABLE: [(&str, &str, &str, &str); 28] = [
            ("accountDoesNotExist", "retry", "restart", "restart"),
            ("agreementRequired", "operator", "operator", "operator"),
            ("alreadyReplaced", "restart", "restart", "restart"),
            ("alreadyRevoked", "operator", "operator", "operator"),
            ("badCSR", "operator", "operator", "operator"),
            ("badNonce", "retry", "retry", "restart"),
            ("badPublicKey", "operator", "operator", "operator"),
            ("badRevocationReason", "operator", "operator", "operator"),
            ("badSignatureAlgorithm", "operator", "operator", "operator"),
            ("caa", "operator", "operator", "operator"),
            ("compound", "restart", "restart", "restart"),
            ("connection", "restart", "restart", "restart"),
            ("dns", "restart", "restart", "restart"),
            ("externalAccountRequired", "operator", "operator", "operator"),
            ("incorrectResponse", "restart", "restart", "restart"),
            ("invalidContact", "operator", "operator", "operator"),
            ("invalidProfile", "operator", "operator", "operator"),
            ("malformed", "operator", "restart", "restart"),
            ("orderNotReady", "restart", "restart", "restart"),
            ("rateLimited", "retry", "retry", "restart"),
            ("rejectedIdentifier", "operator", "operator", "restart"),
            ("serverInternal", "provider-down", "provider-down", "restart"),
            ("tls", "restart", "restart", "restart"),
            ("unauthorized", "operator", "restart", "restart"),
            ("unsupportedContact", "operator", "operator", "operator"),
            ("unsupportedIdentifier", "operator", "operator", "operator"),
            ("userActionRequired", "operator", "operator", "operator"),
            ("unknown", "operator", "restart", "restart"),
        ];
        for ((kind, _), (name, new_order, within, validation)) in ProblemKind::ALL.iter().zip(TABLE) {
            assert_eq!(kind.name(), name);
            let meanings = [AcmeStep::NewOrder, AcmeStep::Finalize, AcmeStep::Validation]
                .map(|step| kind.disposition(step).as_str());
            assert_eq!(meanings, [new_order, within, validation], "{name}");
        }
    }

    #[test]
    fn the_gravest_name_decides_a_compound_problem() {
        let problem = Problem::parse(
            br#"{"type": "urn:ietf:params:acme:error:compound", "detail": "several", "subproblems": [
                {"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden", "identifier": {"type": "dns", "value": "a.example"}},
                {"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN", "identifier": {"type": "dns", "value": "b.example"}}]}"#,
        )
        .unwrap();
        assert_eq!(problem.disposition(AcmeStep::Validation), Disposition::Operator);
        assert_eq!(problem.to_string(), "several (compound); a.example: forbidden (caa); b.example: NXDOMAIN (dns)");
        assert!(problem.advice(AcmeStep::Validation).unwrap().contains("CAA"));
    }

    #[test]
    fn what_is_no_problem_document_is_told_apart() {
        for body in ["<html>503</html>", "", "{}", "[]", r#""text""#, r#"{"status": 503}"#] {
            assert_eq!(Problem::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_problem_document_of_any_size_becomes_a_short_line() {
        let hostile = "\u{1b}]0;x\u{7}\r\n\u{202e}\u{200b}\u{e0041}".repeat(20_000);
        let sub =
            serde_json::json!({"type": hostile, "detail": hostile, "identifier": {"type": "dns", "value": hostile}});
        let document = serde_json::json!({
            "type": hostile, "detail": hostile, "instance": hostile, "subproblems": vec![&sub; 200],
        });
        let problem = Problem::parse(document.to_string().as_bytes()).unwrap();
        let words = problem.to_string();
        assert!(words.chars().all(crate::domain::value::text::is_printable), "{words:?}");
        assert!(words.chars().count() < 10_000 && problem.subproblems.len() <= MAX_SUBPROBLEMS);
        assert!(format!("{problem:?}").len() < 200_000, "what was sent is kept");
        let unpause = format!("paused; visit https://ca.example/unpause?jwt={}", "x".repeat(900));
        let paused =
            serde_json::json!({"type": "urn:ietf:params:acme:error:rateLimited", "detail": unpause}).to_string();
        assert!(Problem::parse(paused.as_bytes()).unwrap().to_string().contains(&unpause));
    }
}
