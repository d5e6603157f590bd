//! The course of one attempt: from the stage where it is to its end, one step per stage.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use secrecy::ExposeSecret;

use crate::acme::{AcmeAccount, AcmeError, NewOrder, Order, OrderState};
use crate::domain::certificate::NewCertificate;
use crate::domain::certificate::chain::CertificateChain;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::clock_evidence::ClockVerdict;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::renewal::attempt::{
    Answered, Attempt, Finalizing, Issued, Ordered, Planned, Presented, Ready, Stage, StageKind,
};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::dns_persist::DnsPersist;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;
use crate::domain::value::server_url::OrderUrl;
use crate::issuance::key::PendingKey;
use crate::issuance::{AttemptError, HeldLease, Issuance};
use crate::store::{RecoveryEvidence, StoreError};

/// An attempt under way. What it keeps here besides the stage only saves requests: after a crash it is made anew.
pub(super) struct AttemptRunner<'a> {
    pub(super) issuance: &'a Issuance,
    pub(super) lease: &'a HeldLease,
    pub(super) auto_certificate: &'a AutoCertificate,
    pub(super) attempt: &'a Attempt,
    /// Whether the order names what it replaces.
    pub(super) replaces: bool,
    account: Option<AcmeAccount>,
    order: Option<Order>,
    pending_key: Option<PendingKey>,
}

impl<'a> AttemptRunner<'a> {
    pub(super) const fn new(
        issuance: &'a Issuance,
        lease: &'a HeldLease,
        auto_certificate: &'a AutoCertificate,
        attempt: &'a Attempt,
    ) -> Self {
        let replaces = attempt.replaces.is_some();
        Self { issuance, lease, auto_certificate, attempt, replaces, account: None, order: None, pending_key: None }
    }

    /// Walks from `stage` to the end; `reached` tells where it was when it stopped.
    pub(super) async fn run(&mut self, mut stage: Stage, reached: &mut StageKind) -> Result<(), AttemptError> {
        while !matches!(stage, Stage::Stored(_)) {
            self.lease.ensure_held().await?;
            let step = stage.kind();
            stage = self.run_stage(stage).await?;
            *reached = stage.kind();
            if !matches!(stage, Stage::Stored(_)) {
                self.store_stage(&stage).await?;
            }
            if step.needs_working_ca() {
                self.record_recovery(step).await;
            }
            tracing::info!(attempt = %self.attempt.id, stage = %reached, next = reached.describe(), "stage reached");
        }
        Ok(())
    }

    /// A provider that does what it is asked is not down. That this cannot be written down is no trouble of the attempt.
    async fn record_recovery(&self, step: StageKind) {
        let provider = self.attempt.provider;
        let proof = if step == StageKind::Planned { RecoveryEvidence::Order } else { RecoveryEvidence::Issue };
        match self.issuance.store.record_recovery(provider, proof).await {
            Ok(true) => tracing::info!(%provider, "the provider answers as it should"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%provider, %error, "that the provider answers could not be noted"),
        }
    }

    /// A database that is busy for a moment must not cost an order whose URL is not stored yet.
    async fn store_stage(&self, stage: &Stage) -> Result<(), StoreError> {
        let patience = ConstantBuilder::default().with_delay(Duration::from_secs(1)).with_max_times(10);
        let write = || self.issuance.store.store_stage(self.lease.lease(), self.attempt.id, stage);
        write.retry(patience).when(|error| matches!(error, StoreError::Unavailable { .. })).await
    }

    /// The account with which it was worked, where it came that far.
    pub(super) fn into_account(self) -> Option<AcmeAccount> {
        self.account
    }

    async fn run_stage(&mut self, stage: Stage) -> Result<Stage, AttemptError> {
        match stage {
            Stage::Planned(planned) => self.create_order(planned).await,
            Stage::Ordered(ordered) => self.present_records(ordered).await,
            Stage::Presented(presented) => self.answer_challenges(presented).await,
            Stage::Answered(answered) => self.await_ready(answered).await,
            Stage::Ready(ready) => self.create_signing_request(ready).await,
            Stage::Finalizing(finalizing) => self.finalize(finalizing).await,
            Stage::Issued(issued) => self.store_certificate(issued).await,
            Stage::Stored(_) => Ok(stage),
        }
    }

    /// The zones are looked up first: a name that no adapter serves must not cost an order. Neither must one that the CA
    /// would refuse for its limits, nor be sent.
    async fn create_order(&mut self, planned: Planned) -> Result<Stage, AttemptError> {
        if self.issuance.dns_persist == DnsPersist::Off {
            let names: Vec<String> = self.attempt.names.iter().map(DnsName::challenge_name).collect();
            self.locate_records(&names).await?;
        }
        self.load_account().await?;
        let order = self.send_order().await?;
        let url = order.url();
        self.order = Some(order);
        Ok(planned.ordered(url))
    }

    /// An order that the CA does not take as a replacement is made again at once, once, as one that replaces nothing: an
    /// order for it may be left behind by a crash, and the CA may not know the certificate.
    async fn send_order(&mut self) -> Result<Order, AttemptError> {
        self.charge_order().await?;
        self.lease.ensure_held().await?;
        let attempt = self.attempt;
        let wanted =
            NewOrder { names: &attempt.names, profile: attempt.profile.as_ref(), replaces: attempt.replaces.as_ref() };
        let refusal = match self.load_account().await?.new_order(wanted).await {
            Err(error) if wanted.replaces.is_some() && error.may_concern_replacement() => error,
            made => {
                let mut order = made?;
                self.replaces &= order.is_replacement();
                return Ok(order);
            }
        };
        tracing::warn!(
            attempt = %attempt.id, replaces = wanted.replaces.map(tracing::field::display),
            "the order is made again without `replaces`, so that it counts against the limits of the CA: {refusal}"
        );
        self.issuance.store.clear_replaces(self.lease.lease(), attempt.id).await?;
        self.replaces = false;
        self.charge_order().await?;
        self.lease.ensure_held().await?;
        Ok(self.load_account().await?.new_order(NewOrder { replaces: None, ..wanted }).await?)
    }

    async fn present_records(&mut self, ordered: Ordered) -> Result<Stage, AttemptError> {
        let ended = self.lease.cancellation().clone();
        let order = self.load_order(&ordered.order).await?;
        if order.state() != OrderState::Pending {
            // An invalid one ends here, in the CA's own words.
            let settled = order.await_ready(&ended).await;
            self.charge_failed_validations(settled).await?;
            return Ok(ordered.ready());
        }
        self.start_key();
        let challenges = self.load_pending_challenges(&ordered.order).await?;
        self.publish(&challenges).await?;
        Ok(ordered.presented())
    }

    async fn answer_challenges(&mut self, presented: Presented) -> Result<Stage, AttemptError> {
        let authorizations = self.load_order(&presented.order).await?.load_authorizations().await?;
        for authorization in authorizations.iter().filter(|authorization| authorization.awaits_answer()) {
            self.lease.ensure_held().await?;
            let kind = self.challenge_kind_for(authorization);
            let answered = self.load_order(&presented.order).await?.answer(authorization, kind).await;
            self.charge_failed_validations(answered).await?;
        }
        Ok(presented.answered())
    }

    async fn await_ready(&mut self, answered: Answered) -> Result<Stage, AttemptError> {
        let ended = self.lease.cancellation().clone();
        let ready = self.load_order(&answered.order).await?.await_ready(&ended).await;
        if matches!(ready, Err(AcmeError::OrderFailed(_))) {
            self.recheck_persist_records().await?;
        }
        self.charge_failed_validations(ready).await.map_err(|stop| self.lease_error_of(stop))?;
        Ok(answered.ready())
    }

    /// The key and the request are stored with the stage that comes of this, before the CA sees anything of them.
    async fn create_signing_request(&mut self, ready: Ready) -> Result<Stage, AttemptError> {
        self.start_key();
        let key = self.pending_key.take().ok_or_else(|| Failure::retry("the key is gone; it is made anew"))?;
        Ok(ready.finalizing(key.wait().await?))
    }

    /// An order that the CA has finished already is downloaded and not finalized again.
    async fn finalize(&mut self, finalizing: Finalizing) -> Result<Stage, AttemptError> {
        let ended = self.lease.cancellation().clone();
        let order = self.load_order(&finalizing.order).await?;
        match order.state() {
            OrderState::Ready => order.finalize(&finalizing.request.csr).await?,
            OrderState::Pending => return Err(unproven_order()),
            // An invalid one ends below, in the CA's own words.
            OrderState::Processing | OrderState::Valid | OrderState::Invalid => {}
        }
        let chain = order.await_certificate(&ended).await;
        let chain = chain.map_err(|error| self.lease_error_of(error.into()))?;
        Ok(finalizing.issued(chain))
    }

    /// Nothing is stored as issued that does not fit its key, its names and the present moment.
    async fn store_certificate(&mut self, issued: Issued) -> Result<Stage, AttemptError> {
        let now = self.issuance.clock.now();
        // The former release stored it as the CA gave it.
        let chain = CertificateChain::parse(&issued.chain).map_err(AcmeError::UnacceptableChain)?;
        let certificate = chain.leaf_pem();
        let leaf = check_certificate(&certificate, &issued, self.attempt, now)
            .map_err(|error| leaf_failure(error, self.clock_verdict()))?;
        let certificate = NewCertificate {
            name: self.auto_certificate.name.with_issue_time(now),
            certificate,
            chain: chain.issuers_pem(),
            private_key: issued.request.private_key.clone(),
            leaf,
        };
        let (store, booking) = (&self.issuance.store, self.order_charge().await?);
        let id = store.store_issued(self.lease.lease(), self.attempt, &certificate, booking.as_ref(), now).await?;
        tracing::info!(
            certificate = %id, serial = certificate.leaf.serial_number, not_after = %certificate.leaf.not_after,
            "certificate stored"
        );
        Ok(issued.stored(id))
    }

    fn clock_verdict(&self) -> ClockVerdict {
        let clock = &self.issuance.clock;
        let (now, running) = (clock.now(), clock.uptime());
        clock.evidence().verdict(now, running)
    }

    pub(super) async fn load_account(&mut self) -> Result<&AcmeAccount, AttemptError> {
        let account = if let Some(account) = self.account.take() {
            account
        } else {
            let asked = self.auto_certificate.standing.renewal_requested;
            self.issuance.accounts.ensure_account(self.lease, self.attempt.provider, asked).await?
        };
        Ok(self.account.insert(account))
    }

    /// The order, fetched where it is not at hand.
    pub(super) async fn load_order(&mut self, url: &OrderUrl) -> Result<&mut Order, AttemptError> {
        let order = match self.order.take() {
            Some(order) => order,
            None => self.load_account().await?.load_order(url).await?,
        };
        Ok(self.order.insert(order))
    }

    fn start_key(&mut self) {
        let (algorithm, names) = (self.attempt.key_algorithm, &self.attempt.names);
        self.pending_key.get_or_insert_with(|| PendingKey::start(algorithm, names.clone()));
    }

    /// A wait that was cancelled ended for the tenure's reason.
    fn lease_error_of(&self, stop: AttemptError) -> AttemptError {
        if matches!(stop, AttemptError::Interrupted) { self.lease.stop_reason() } else { stop }
    }
}

fn check_certificate(leaf_pem: &str, issued: &Issued, attempt: &Attempt, now: Moment) -> Result<Leaf, LeafError> {
    let leaf = Leaf::from_pem(leaf_pem)?;
    leaf.check_key(issued.request.private_key.expose_secret())?;
    leaf.check_covers(&attempt.names, now)?;
    Ok(leaf)
}

/// A certificate that is not valid yet is kept until it is: the clock is behind, and another order would not help.
fn leaf_failure(error: LeafError, clock: ClockVerdict) -> Failure {
    match error {
        LeafError::OutsideValidity { not_before, now, .. } if now < not_before => Failure {
            disposition: Disposition::Retry { not_before: Some(not_before) },
            message: format!("the issued certificate waits to be stored: {error}").into(),
        },
        // Just issued, it cannot have expired. Another order would end the same way, and count.
        LeafError::OutsideValidity { .. } if clock == ClockVerdict::Wrong => {
            Failure::retry(format!("the issued certificate waits until the clock is right: {error}"))
        }
        error => {
            Failure::restart(format!("the CA issued a certificate that cannot be used: {error}; a new order follows"))
        }
    }
}

fn unproven_order() -> AttemptError {
    Failure::restart("the CA wants proof again for an order that was proven; a new order follows").into()
}
