//! One attempt at a time: an auto-certificate becomes a stored certificate, stage by stage. Every intent is stored before
//! the remote effect that follows it, so that a crash at any moment costs nothing but time. What comes next is decided
//! elsewhere (`domain::plan`); here it is done.

mod account;
mod challenge;
mod confirmed_clock;
mod course;
#[cfg(test)]
mod dispositions;
mod key;
mod limits;
mod provider;
mod renewal_info;
mod revocation;
mod standing;
mod tenure;

pub use account::Registrar;
pub use challenge::{CleanupOutcome, SweepMode, Cleanup};
pub use provider::FallbackCandidates;
pub use tenure::HeldLease;

use crate::acme::{AcmeClient, AcmeError, ProblemKind};
use crate::dns::DnsError;
use crate::dns::caa::CaaLookup;
use crate::dns::propagation::Propagation;
use crate::dns::routes::Routes;
use crate::domain::attempt::{Attempt, Planned, Stage, StageKind};
use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::back_off::FailureStreak;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::failover;
use crate::domain::hold::Deferral;
use crate::domain::id::AutoCertificateId;
use crate::domain::moment::Moment;
use crate::domain::plan::RenewalReason;
use crate::domain::standing::DnsPersist;
use crate::issuance::course::AttemptRunner;
use crate::issuance::provider::ChosenProvider;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::{KeyError, Store, StoreError};

/// Why work on an auto-certificate ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// A step failed; what to do about it is known.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The order did not come further: it cannot be read, or the CA does not finish it.
    #[error("{failure}")]
    StuckOrder {
        /// What happened.
        failure: Failure,
        /// Whether the CA's answer could not be read.
        unreadable: bool,
    },
    /// A step failed because the CA no longer knows the account.
    #[error(transparent)]
    UnknownAccount(Failure),
    /// The order would break a limit of the CA.
    #[error("kept back: {0}")]
    Held(Deferral),
    /// The program stops; the work goes on after the next start.
    #[error("parked: the program stops")]
    Parked,
    /// The auto-certificate was deleted meanwhile.
    #[error("abandoned: the auto-certificate was deleted")]
    Abandoned,
    /// Somebody else holds the lease now.
    #[error("the lease was lost")]
    Lost,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for AttemptError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LostLease => Self::Lost,
            StoreError::CompromisedKey => Failure::restart(
                "the key of the certificate was reported as compromised meanwhile; a new order with another one follows",
            )
            .into(),
            error => Self::Store(error),
        }
    }
}

impl From<AcmeError> for AttemptError {
    fn from(error: AcmeError) -> Self {
        match error {
            AcmeError::Cancelled => Self::Parked,
            error if error.kind() == Some(ProblemKind::AccountDoesNotExist) => Self::UnknownAccount(error.into()),
            error if error.is_unreadable_order() => Self::StuckOrder { failure: error.into(), unreadable: true },
            error if error.is_slow_order() => Self::StuckOrder { failure: error.into(), unreadable: false },
            error => Self::Failed(error.into()),
        }
    }
}

impl From<DnsError> for AttemptError {
    fn from(error: DnsError) -> Self {
        Self::Failed(error.into())
    }
}

/// Everything that an attempt needs.
pub struct Issuance {
    /// Where attempts and certificates are kept.
    pub store: Store,
    /// Speaks to CAs.
    pub acme: AcmeClient,
    /// Hands out the accounts of providers.
    pub registrar: Registrar,
    /// Who publishes and removes challenge records.
    pub dns: Routes,
    /// Whether names are proven by standing records.
    pub persist: DnsPersist,
    /// Waits until records are seen.
    pub propagation: Propagation,
    /// Looks up whether a fallback provider may issue.
    pub caa: CaaLookup,
    /// Tells the time.
    pub clock: SharedClock,
    /// Spreads the next tries.
    pub randomness: Randomness,
}

impl Issuance {
    /// Starts a new attempt and carries it as far as it goes.
    ///
    /// # Errors
    /// Where the work must stop. A failed step is no error: it is recorded, and the plan takes it from there.
    pub async fn start(&self, tenure: &HeldLease, subject: &AutoCertificate, reason: RenewalReason) -> Result<(), AttemptError> {
        let chosen = self.choose_provider(tenure, subject).await?;
        self.begin(tenure, subject, reason.to_string(), chosen).await?;
        Ok(())
    }

    /// Goes on with the open attempt from where it is. Where a person asked for a renewal, an order that comes no further
    /// is given up, and a new one follows at once.
    ///
    /// # Errors
    /// As [`Issuance::start`].
    pub async fn resume(&self, tenure: &HeldLease, subject: &AutoCertificate) -> Result<(), AttemptError> {
        if subject.standing.renewal_requested {
            self.store.clear_renewal_request(tenure.lease()).await?;
        }
        let attempt = match self.store.open_attempt(subject.id).await {
            Err(StoreError::Key(error @ KeyError::Unreadable { .. })) => {
                return self.give_up_lost_key(tenure, subject, &error).await;
            }
            read => read?,
        };
        let Some(attempt) = attempt else { return Ok(()) };
        if self.store.provider(attempt.provider).await?.is_none() {
            let failure = Failure::restart("the provider of the open order was deleted; a new order follows");
            self.record(tenure, subject, &attempt, attempt.stage.kind(), failure).await?;
            return Ok(());
        }
        if let Some(chosen) = self.change_over(tenure, subject, &attempt).await? {
            self.begin(tenure, subject, attempt.reason, chosen).await?;
            return Ok(());
        }
        tracing::info!(attempt = %attempt.id, stage = %attempt.stage.kind(), "attempt resumed");
        let requested = subject.standing.renewal_requested;
        let begun = attempt.stage.kind() > StageKind::Planned;
        let outcome = self.carry_on(tenure, subject, attempt, requested).await?;
        if requested && begun && outcome == Outcome::OrderGivenUp {
            return self.start(tenure, subject, RenewalReason::Requested).await;
        }
        Ok(())
    }

    /// What the CA issues for a key that nobody can open is of no use: a new order with another key follows.
    async fn give_up_lost_key(&self, tenure: &HeldLease, subject: &AutoCertificate, error: &KeyError) -> Result<(), AttemptError> {
        let (standing, now) = (&subject.standing, self.clock.now());
        let failure = Failure::restart(format!(
            "the key of the open order is lost: {error}; a new order with another key follows"
        ));
        let jitter = self.randomness.fraction();
        let trouble = FailureStreak::after(standing.trouble.as_ref(), failure, now, standing.relied_on_until(), jitter);
        tracing::warn!(next_try = %trouble.next_try, "attempt given up: {}", trouble.last);
        Ok(self.store.end_unreadable_attempt(tenure.lease(), &trouble).await?)
    }

    async fn begin(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        reason: String,
        chosen: ChosenProvider,
    ) -> Result<Outcome, AttemptError> {
        let attempt = Attempt {
            id: self.randomness.uuid().into(),
            auto_certificate: subject.id,
            provider: chosen.provider,
            names: subject.names_to_order(),
            key_algorithm: subject.key_algorithm,
            replaces: self.replaced(subject, chosen.provider).await?,
            profile: chosen.profile,
            reason,
            started: self.clock.now(),
            stage: Stage::Planned(Planned),
        };
        self.store.begin_attempt(tenure.lease(), &attempt).await?;
        tracing::info!(attempt = %attempt.id, provider = %attempt.provider, reason = attempt.reason, "attempt begun");
        self.carry_on(tenure, subject, attempt, false).await
    }

    /// `requested` tells that a person asked for a renewal while the attempt was open.
    async fn carry_on(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        attempt: Attempt,
        requested: bool,
    ) -> Result<Outcome, AttemptError> {
        let mut course = AttemptRunner::new(self, tenure, subject, &attempt);
        let mut reached = attempt.stage.kind();
        let walked = course.walk(attempt.stage.clone(), &mut reached).await;
        let used = course.into_account();
        match walked {
            Err(AttemptError::Failed(failure)) => {
                let failure = self.registrar.weighed(attempt.provider, used.as_ref(), failure).await?;
                self.record(tenure, subject, &attempt, reached, failure).await
            }
            Err(AttemptError::StuckOrder { failure, unreadable }) => {
                let failure = self.registrar.weighed(attempt.provider, used.as_ref(), failure).await?;
                let looks = self.store.note_look(tenure.lease(), attempt.id, unreadable).await?;
                let failure = failure_of_stuck_order(failure, requested, looks);
                self.record(tenure, subject, &attempt, reached, failure).await
            }
            // Written down first: with a new account it is due again at once.
            Err(AttemptError::UnknownAccount(failure)) => {
                self.record(tenure, subject, &attempt, reached, failure).await?;
                if let Some(lost) = used {
                    self.registrar.replace_lost(tenure, attempt.provider, lost.url()).await?;
                }
                Ok(Outcome::Kept)
            }
            Err(other) => Err(other),
            Ok(()) => Ok(Outcome::Kept),
        }
    }

    /// Writes a failure down, with the moment of the next try.
    async fn record(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        attempt: &Attempt,
        reached: StageKind,
        failure: Failure,
    ) -> Result<Outcome, AttemptError> {
        let standing = &subject.standing;
        let expiry = standing.relied_on_until();
        let failure = failure_of_old_order(failure, attempt, reached, expiry, self.clock.now());
        let over = matches!(failure.disposition, Disposition::Restart | Disposition::Operator);
        let jitter = self.randomness.fraction();
        let mut trouble = FailureStreak::after(standing.trouble.as_ref(), failure, self.clock.now(), expiry, jitter);
        if attempt.provider == subject.provider && self.has_fallback(subject).await? {
            trouble.next_try = failover::next_try(&trouble, standing.newest.as_ref(), self.clock.now());
        }
        tracing::warn!(
            attempt = %attempt.id, stage = %reached, failures = trouble.failures, next_try = %trouble.next_try,
            "attempt failed: {}", trouble.last
        );
        // An attempt that stays open keeps its records: slow name servers go on spreading them. Those of an ended one are
        // left over, which is what the plan sees next.
        if over {
            self.store.end_attempt(tenure.lease(), attempt.id, &trouble).await?;
        } else {
            self.store.record_trouble(tenure.lease(), &trouble).await?;
        }
        self.note_provider_failure(subject.id, attempt, &trouble.for_breaker(expiry)).await?;
        let given_up = trouble.last.disposition == Disposition::Restart;
        Ok(if given_up { Outcome::OrderGivenUp } else { Outcome::Kept })
    }

    /// What affects the provider as a whole is told to its breaker.
    async fn note_provider_failure(
        &self,
        subject: AutoCertificateId,
        attempt: &Attempt,
        failure: &Failure,
    ) -> Result<(), AttemptError> {
        if !matches!(failure.disposition, Disposition::ProviderDown { .. }) {
            return Ok(());
        }
        let jitter = self.randomness.fraction();
        let breaker = self.store.provider_failed(attempt.provider, Some(subject), failure, jitter).await?;
        if let Some(probe_at) = breaker.and_then(|breaker| breaker.open_until()) {
            tracing::warn!(provider = %attempt.provider, %probe_at, "the provider is down; it is probed until it answers");
        }
        Ok(())
    }
}

/// What became of an attempt that was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is done, goes on later, or waits for a person.
    Kept,
    /// Its order was given up for a new one.
    OrderGivenUp,
}

/// An order that comes no further is given up where a person asks for a renewal, and after some unreadable looks in a row.
fn failure_of_stuck_order(failure: Failure, requested: bool, unreadable_looks: u32) -> Failure {
    if requested {
        return Failure::restart(format!("{failure}; a renewal was requested, so a new order follows"));
    }
    if unreadable_looks >= UNREADABLE_LOOKS {
        return Failure::restart(format!(
            "{failure}; that was so {unreadable_looks} times in a row, so the order is given up and a new one follows"
        ));
    }
    failure
}

/// No order is looked at for ever, whatever holds it up.
fn failure_of_old_order(
    failure: Failure,
    attempt: &Attempt,
    reached: StageKind,
    expiry: Option<Moment>,
    now: Moment,
) -> Failure {
    let waits = matches!(failure.disposition, Disposition::Retry { .. } | Disposition::ProviderDown { .. });
    // Before it there is no order yet, after it the certificate is here.
    let has_order = reached > StageKind::Planned && reached < StageKind::Issued;
    if !waits || !has_order || now < attempt.order_given_up_at(expiry) {
        return failure;
    }
    Failure::restart(format!(
        "{failure}; the order was begun at {} and is given up, so a new one follows",
        attempt.started
    ))
}

/// A single one may be a hiccup of the CA.
const UNREADABLE_LOOKS: u32 = 3;
