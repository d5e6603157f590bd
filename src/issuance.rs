//! One attempt at a time: an auto-certificate becomes a stored certificate, stage by stage. Every intent is stored before
//! the remote effect that follows it, so that a crash at any moment costs nothing but time. What comes next is decided
//! elsewhere (`domain::plan`); here it is done.

mod account;
mod attempt_runner;
mod confirmed_clock;
#[cfg(test)]
mod dispositions;
mod dns01;
mod dns_persist01;
mod held_lease;
mod key;
mod provider;
mod rate_limits;
mod renewal_info;
mod revocation;

pub use account::AccountRegistrar;
pub use dns01::{Cleanup, CleanupOutcome, SweepMode};
pub use held_lease::HeldLease;
pub use provider::FallbackCandidates;

use crate::acme::{AcmeClient, AcmeError, ProblemKind};
use crate::dns::DnsError;
use crate::dns::caa::CaaLookup;
use crate::dns::propagation::Propagation;
use crate::dns::routes::DnsRoutes;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::Deferral;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::failover;
use crate::domain::renewal::attempt::{Attempt, Planned, Stage, StageKind};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::dns_persist::DnsPersist;
use crate::domain::renewal::plan::RenewalReason;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::issuance::attempt_runner::AttemptRunner;
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
    Deferred(Deferral),
    /// The program stops; the work goes on after the next start.
    #[error("parked: the program stops")]
    Interrupted,
    /// The auto-certificate was deleted meanwhile.
    #[error("abandoned: the auto-certificate was deleted")]
    Deleted,
    /// Somebody else holds the lease now.
    #[error("the lease was lost")]
    LeaseLost,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for AttemptError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LostLease => Self::LeaseLost,
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
            AcmeError::Cancelled => Self::Interrupted,
            error if error.kind() == Some(ProblemKind::AccountDoesNotExist) => Self::UnknownAccount(error.into()),
            error if error.is_unreadable_order() => Self::StuckOrder { failure: error.into(), unreadable: true },
            error if error.is_poll_timeout() => Self::StuckOrder { failure: error.into(), unreadable: false },
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
    pub accounts: AccountRegistrar,
    /// Who publishes and removes challenge records.
    pub dns: DnsRoutes,
    /// Whether names are proven by standing records.
    pub dns_persist: DnsPersist,
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
    pub async fn start(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        reason: RenewalReason,
    ) -> Result<(), AttemptError> {
        let chosen = self.choose_provider(tenure, subject).await?;
        self.begin_attempt(tenure, subject, reason.to_string(), chosen).await?;
        Ok(())
    }

    /// Goes on with the open attempt from where it is. Where a person asked for a renewal, an order that comes no further
    /// is given up, and a new one follows at once.
    ///
    /// # Errors
    /// As [`Issuance::start`].
    pub async fn resume_attempt(&self, tenure: &HeldLease, subject: &AutoCertificate) -> Result<(), AttemptError> {
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
            self.record_failure(tenure, subject, &attempt, attempt.stage.kind(), failure).await?;
            return Ok(());
        }
        if let Some(chosen) = self.change_provider(tenure, subject, &attempt).await? {
            self.begin_attempt(tenure, subject, attempt.reason, chosen).await?;
            return Ok(());
        }
        tracing::info!(attempt = %attempt.id, stage = %attempt.stage.kind(), "attempt resumed");
        let requested = subject.standing.renewal_requested;
        let begun = attempt.stage.kind() > StageKind::Planned;
        let outcome = self.run_attempt(tenure, subject, attempt, requested).await?;
        if requested && begun && outcome == AttemptOutcome::OrderGivenUp {
            return self.start(tenure, subject, RenewalReason::Requested).await;
        }
        Ok(())
    }

    /// What the CA issues for a key that nobody can open is of no use: a new order with another key follows.
    async fn give_up_lost_key(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        error: &KeyError,
    ) -> Result<(), AttemptError> {
        let (standing, now) = (&subject.standing, self.clock.now());
        let failure = Failure::restart(format!(
            "the key of the open order is lost: {error}; a new order with another key follows"
        ));
        let jitter = self.randomness.fraction();
        let trouble =
            FailureStreak::after(standing.failure_streak.as_ref(), failure, now, standing.valid_until(), jitter);
        tracing::warn!(next_try = %trouble.next_try, "attempt given up: {}", trouble.last);
        Ok(self.store.end_unreadable_attempt(tenure.lease(), &trouble).await?)
    }

    async fn begin_attempt(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        reason: String,
        chosen: ChosenProvider,
    ) -> Result<AttemptOutcome, AttemptError> {
        let attempt = Attempt {
            id: self.randomness.uuid().into(),
            auto_certificate: subject.id,
            provider: chosen.provider,
            names: subject.names_to_order(),
            key_algorithm: subject.key_algorithm,
            replaces: self.certificate_to_replace(subject, chosen.provider).await?,
            profile: chosen.profile,
            reason,
            started: self.clock.now(),
            stage: Stage::Planned(Planned),
        };
        self.store.begin_attempt(tenure.lease(), &attempt).await?;
        tracing::info!(attempt = %attempt.id, provider = %attempt.provider, reason = attempt.reason, "attempt begun");
        self.run_attempt(tenure, subject, attempt, false).await
    }

    /// `requested` tells that a person asked for a renewal while the attempt was open.
    async fn run_attempt(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        attempt: Attempt,
        requested: bool,
    ) -> Result<AttemptOutcome, AttemptError> {
        let mut course = AttemptRunner::new(self, tenure, subject, &attempt);
        let mut reached = attempt.stage.kind();
        let walked = course.run(attempt.stage.clone(), &mut reached).await;
        let used = course.into_account();
        match walked {
            Err(AttemptError::Failed(failure)) => {
                let failure = self.accounts.reassess_failure(attempt.provider, used.as_ref(), failure).await?;
                self.record_failure(tenure, subject, &attempt, reached, failure).await
            }
            Err(AttemptError::StuckOrder { failure, unreadable }) => {
                let failure = self.accounts.reassess_failure(attempt.provider, used.as_ref(), failure).await?;
                let looks = self.store.count_unreadable_order(tenure.lease(), attempt.id, unreadable).await?;
                let failure = stuck_order_failure(failure, requested, looks);
                self.record_failure(tenure, subject, &attempt, reached, failure).await
            }
            // Written down first: with a new account it is due again at once.
            Err(AttemptError::UnknownAccount(failure)) => {
                self.record_failure(tenure, subject, &attempt, reached, failure).await?;
                if let Some(lost) = used {
                    self.accounts.replace_lost_account(tenure, attempt.provider, lost.url()).await?;
                }
                Ok(AttemptOutcome::OrderKept)
            }
            Err(other) => Err(other),
            Ok(()) => Ok(AttemptOutcome::OrderKept),
        }
    }

    /// Writes a failure down, with the moment of the next try.
    async fn record_failure(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        attempt: &Attempt,
        reached: StageKind,
        failure: Failure,
    ) -> Result<AttemptOutcome, AttemptError> {
        let standing = &subject.standing;
        let expiry = standing.valid_until();
        let failure = old_order_failure(failure, attempt, reached, expiry, self.clock.now());
        let over = matches!(failure.disposition, Disposition::Restart | Disposition::Operator);
        let jitter = self.randomness.fraction();
        let mut trouble =
            FailureStreak::after(standing.failure_streak.as_ref(), failure, self.clock.now(), expiry, jitter);
        if attempt.provider == subject.provider && self.has_fallback(subject).await? {
            trouble.next_try = failover::next_try_with_fallbacks(&trouble, standing.newest.as_ref(), self.clock.now());
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
            self.store.record_failure_streak(tenure.lease(), &trouble).await?;
        }
        self.record_provider_failure(subject.id, attempt, &trouble.failure_for_breaker(expiry)).await?;
        let given_up = trouble.last.disposition == Disposition::Restart;
        Ok(if given_up { AttemptOutcome::OrderGivenUp } else { AttemptOutcome::OrderKept })
    }

    /// What affects the provider as a whole is told to its breaker.
    async fn record_provider_failure(
        &self,
        subject: AutoCertificateId,
        attempt: &Attempt,
        failure: &Failure,
    ) -> Result<(), AttemptError> {
        if !matches!(failure.disposition, Disposition::ProviderDown { .. }) {
            return Ok(());
        }
        let jitter = self.randomness.fraction();
        let breaker = self.store.record_provider_failure(attempt.provider, Some(subject), failure, jitter).await?;
        if let Some(probe_at) = breaker.and_then(|breaker| breaker.open_until()) {
            tracing::warn!(provider = %attempt.provider, %probe_at, "the provider is down; it is probed until it answers");
        }
        Ok(())
    }
}

/// What became of an attempt that was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptOutcome {
    /// It is done, goes on later, or waits for a person.
    OrderKept,
    /// Its order was given up for a new one.
    OrderGivenUp,
}

/// An order that comes no further is given up where a person asks for a renewal, and after some unreadable looks in a row.
fn stuck_order_failure(failure: Failure, requested: bool, unreadable_looks: u32) -> Failure {
    if requested {
        return Failure::restart(format!("{failure}; a renewal was requested, so a new order follows"));
    }
    if unreadable_looks >= MAX_UNREADABLE_ANSWERS {
        return Failure::restart(format!(
            "{failure}; that was so {unreadable_looks} times in a row, so the order is given up and a new one follows"
        ));
    }
    failure
}

/// No order is looked at for ever, whatever holds it up.
fn old_order_failure(
    failure: Failure,
    attempt: &Attempt,
    reached: StageKind,
    expiry: Option<Moment>,
    now: Moment,
) -> Failure {
    let waits = matches!(failure.disposition, Disposition::Retry { .. } | Disposition::ProviderDown { .. });
    // Before it there is no order yet, after it the certificate is here.
    let has_order = reached > StageKind::Planned && reached < StageKind::Issued;
    if !waits || !has_order || now < attempt.order_deadline(expiry) {
        return failure;
    }
    Failure::restart(format!(
        "{failure}; the order was begun at {} and is given up, so a new one follows",
        attempt.started
    ))
}

/// A single one may be a hiccup of the CA.
const MAX_UNREADABLE_ANSWERS: u32 = 3;
