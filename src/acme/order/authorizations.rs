//! The authorizations of an order: read, answered, and what their problems mean for the order (RFC 8555 section 7.5).

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier};

use crate::acme::error::{AcmeError, NameProblem};
use crate::acme::nonce::past_bad_nonces;
use crate::acme::order::{DnsPersist01, Order, OrderState, dns_persist01};
use crate::acme::problem::{AcmeStep, Problem, ProblemKind};
use crate::domain::value::text::RemoteMessage;

/// The authorization for one name of an order, RFC 8555 section 7.1.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The name without `*.`.
    pub name: String,
    /// Whether it is for the wildcard below the name.
    pub wildcard: bool,
    /// Its state.
    pub state: AuthorizationState,
    /// The DNS-01 challenge.
    pub dns01: Option<Dns01>,
    /// The dns-persist-01 challenge. A pending authorization has one of the two at least.
    pub dns_persist01: Option<DnsPersist01>,
    url: String,
    /// Its state in the CA's words.
    status: AuthorizationStatus,
    /// Whether one of the two was answered already.
    is_answered: bool,
    problem: Option<Problem>,
}

/// The challenges that can be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A TXT record of this one order, RFC 8555 section 8.4.
    Dns01,
    /// A standing TXT record, draft-ietf-acme-dns-persist.
    DnsPersist01,
}

/// The state of an authorization, RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationState {
    /// To be validated.
    Pending,
    /// Validated, perhaps for an earlier order.
    Valid,
    /// Failed, expired, revoked or deactivated.
    Unusable,
}

/// A DNS-01 challenge, RFC 8555 section 8.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns01 {
    /// What the TXT record at `_acme-challenge.<name>` holds.
    pub txt_value: String,
}

impl Order {
    /// The authorizations as they are now.
    ///
    /// # Errors
    /// Where one is pending without a DNS-01 challenge, one is final without being valid while the order is pending, or
    /// the CA refuses or cannot be reached.
    pub async fn load_authorizations(&mut self) -> Result<Vec<Authorization>, AcmeError> {
        let authorizations = self.reload_authorizations().await?;
        match authorization_error(&authorizations).filter(|_| self.state == OrderState::Pending) {
            Some(error) => Err(error),
            None => Ok(authorizations),
        }
    }

    async fn reload_authorizations(&mut self) -> Result<Vec<Authorization>, AcmeError> {
        if self.authorizations_read {
            self.refresh().await?;
        }
        past_bad_nonces!(self.fetch_authorizations().await)
    }

    /// Tells the CA that the TXT record for this challenge of a pending authorization is there. Where that was done
    /// already, or the authorization is settled, nothing happens.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached, or has found at once that the record is not there.
    pub async fn answer(&mut self, authorization: &Authorization, kind: ChallengeKind) -> Result<(), AcmeError> {
        if !authorization.awaits_answer() {
            return Ok(());
        }
        match self.send_answer(authorization, kind).await {
            // CAs refuse the second answer to a challenge; the first one may have been sent before a crash.
            Err(error) if error.kind() == Some(ProblemKind::Malformed) => {
                let now = self.load_authorizations().await?;
                let still_awaited = now.iter().any(|other| other.url == authorization.url && other.awaits_answer());
                if still_awaited { Err(error) } else { Ok(()) }
            }
            outcome => outcome,
        }
    }

    async fn fetch_authorizations(&mut self) -> Result<Vec<Authorization>, AcmeError> {
        self.authorizations_read = true;
        let mut read = Vec::new();
        let mut authorizations = self.inner.authorizations();
        while let Some(next) = authorizations.next().await {
            let handle = next.map_err(|error| AcmeError::from_instant_acme(AcmeStep::Authorization, error))?;
            read.push(Authorization::from_handle(handle, &self.connection.body())?);
        }
        Ok(read)
    }

    async fn send_answer(&mut self, authorization: &Authorization, kind: ChallengeKind) -> Result<(), AcmeError> {
        self.authorizations_read = true;
        let mut authorizations = self.inner.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut handle = next.map_err(|error| AcmeError::from_instant_acme(AcmeStep::Authorization, error))?;
            if handle.url() != authorization.url {
                continue;
            }
            let Some(mut challenge) = handle.challenge(kind.to_instant_acme()) else { return Ok(()) };
            let answered = past_bad_nonces!(
                challenge.set_ready().await.map_err(|error| AcmeError::from_instant_acme(AcmeStep::Challenge, error))
            );
            return match answered {
                // The CA has taken the answer; the authorization itself tells what becomes of it.
                Err(AcmeError::Unreadable { step: AcmeStep::Challenge, .. }) => Ok(()),
                answered => answered.map_err(|error| add_name(error, authorization)),
            };
        }
        Ok(())
    }

    /// What the CA says about the order and its names. That names cannot be asked for changes nothing about the order.
    pub(super) async fn collect_problems(&mut self) -> Vec<NameProblem> {
        let mut problems = collect_name_problems(&self.reload_authorizations().await.unwrap_or_default());
        // Some CAs repeat the problem of a name as that of the order.
        if let Some(problem) = self.inner.state().error.as_ref().map(Problem::from)
            && problems.iter().all(|named| named.problem != problem)
        {
            problems.push(NameProblem { name: None, problem });
        }
        problems
    }
}

/// Why the order of these authorizations can never succeed, where one of them is final without being valid.
fn authorization_error(authorizations: &[Authorization]) -> Option<AcmeError> {
    let unusable = authorizations.iter().find(|one| one.state == AuthorizationState::Unusable)?;
    Some(match unusable.status {
        AuthorizationStatus::Invalid => AcmeError::OrderFailed(collect_name_problems(authorizations)),
        status => AcmeError::AuthorizationLost {
            name: RemoteMessage::new(&unusable.full_name()),
            status: status_name(status),
        },
    })
}

/// What the CA says about names: those that have failed, or where none has, those that it has words about (RFC 8555
/// section 8.2: an error beside a challenge that goes on is no failure).
fn collect_name_problems(authorizations: &[Authorization]) -> Vec<NameProblem> {
    let of = |one: &Authorization| {
        let name = Some(RemoteMessage::new(&one.full_name()));
        one.problem.clone().map(|problem| NameProblem { name, problem })
    };
    let failed = authorizations.iter().filter(|one| one.state == AuthorizationState::Unusable);
    let failed: Vec<NameProblem> = failed.filter_map(of).collect();
    if failed.is_empty() { authorizations.iter().filter_map(of).collect() } else { failed }
}

const fn status_name(status: AuthorizationStatus) -> &'static str {
    match status {
        AuthorizationStatus::Pending => "pending",
        AuthorizationStatus::Valid => "valid",
        AuthorizationStatus::Invalid => "invalid",
        AuthorizationStatus::Revoked => "revoked",
        AuthorizationStatus::Expired => "expired",
        AuthorizationStatus::Deactivated => "deactivated",
    }
}

impl Authorization {
    /// `body` is the authorization as the CA sent it.
    fn from_handle(handle: instant_acme::AuthorizationHandle<'_>, body: &[u8]) -> Result<Self, AcmeError> {
        // Bound anew, so that its lifetime can shrink to what `challenge` borrows it for.
        let mut handle = handle;
        let url = handle.url().to_owned();
        let (name, wildcard) = match handle.identifier() {
            identifier if let Identifier::Dns(name) = identifier.identifier => (name.clone(), identifier.wildcard),
            identifier => (identifier.to_string(), false),
        };
        let status = handle.status;
        let state = status.into();
        let offered: Vec<String> =
            handle.challenges.iter().map(|challenge| challenge_type_name(&challenge.r#type)).collect();
        let offered = RemoteMessage::new(&offered.join(", "));
        let problem = handle.challenges.iter().find_map(|challenge| challenge.error.as_ref()).map(Problem::from);
        let ours = [ChallengeKind::Dns01, ChallengeKind::DnsPersist01].map(ChallengeKind::to_instant_acme);
        let mut known = handle.challenges.iter().filter(|challenge| ours.contains(&challenge.r#type));
        let answered = known.any(|challenge| challenge.status != ChallengeStatus::Pending);
        let standing = ChallengeKind::DnsPersist01.to_instant_acme();
        let persist = handle.challenges.iter().find(|challenge| challenge.r#type == standing);
        let persist = persist.and_then(|challenge| dns_persist01::parse_challenge(body, &challenge.url));
        let dns01 = handle.challenge(ChallengeType::Dns01);
        let dns01 = dns01.map(|challenge| Dns01 { txt_value: challenge.key_authorization().dns_value() });
        if state == AuthorizationState::Pending && dns01.is_none() && persist.is_none() {
            return Err(AcmeError::ChallengeNotOffered { name: RemoteMessage::new(&name), offered });
        }
        Ok(Self { name, wildcard, state, dns01, dns_persist01: persist, url, status, is_answered: answered, problem })
    }

    /// Whether a challenge of it is still to be answered.
    pub fn awaits_answer(&self) -> bool {
        self.state == AuthorizationState::Pending && !self.is_answered
    }

    fn full_name(&self) -> String {
        if self.wildcard { format!("*.{}", self.name) } else { self.name.clone() }
    }
}

impl ChallengeKind {
    fn to_instant_acme(self) -> ChallengeType {
        match self {
            Self::Dns01 => ChallengeType::Dns01,
            Self::DnsPersist01 => ChallengeType::Unknown(dns_persist01::CHALLENGE_TYPE.to_owned()),
        }
    }
}

impl From<AuthorizationStatus> for AuthorizationState {
    fn from(status: AuthorizationStatus) -> Self {
        match status {
            AuthorizationStatus::Pending => Self::Pending,
            AuthorizationStatus::Valid => Self::Valid,
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => Self::Unusable,
        }
    }
}

/// Says which name a problem is about that came back inside the challenge.
fn add_name(error: AcmeError, authorization: &Authorization) -> AcmeError {
    let AcmeError::OrderFailed(problems) = error else { return error };
    let name = Some(RemoteMessage::new(&authorization.full_name()));
    AcmeError::OrderFailed(
        problems.into_iter().map(|known| NameProblem { name: name.clone(), problem: known.problem }).collect(),
    )
}

fn challenge_type_name(challenge: &ChallengeType) -> String {
    match challenge {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::DeviceAttest01 => "device-attest-01".to_owned(),
        ChallengeType::Unknown(name) => name.clone(),
        other => format!("{other:?}"),
    }
}
