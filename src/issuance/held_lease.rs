//! The right to work on one auto-certificate: a lease that is renewed while the work lasts, and looked at again before
//! every remote effect.

use std::convert::Infallible;
use std::future::Future;
use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::issuance::AttemptError;
use crate::store::{AutoCertificateLease, ClaimedAutoCertificate, LEASE_DURATION, LeaseState, Store, StoreError};

/// A held lease.
pub struct HeldLease {
    store: Store,
    lease: AutoCertificateLease,
    cancellation: CancellationToken,
    end_state: OnceLock<LeaseState>,
    /// Whether it was deleted before: then there is only clean-up to do, which a deletion must not stop.
    was_deleted: bool,
}

impl HeldLease {
    /// A tenure over a claim that ends early when `stopping` is cancelled.
    pub fn new(store: Store, claim: &ClaimedAutoCertificate, stopping: &CancellationToken) -> Self {
        let was_deleted = claim.auto_certificate.standing.deleted;
        Self {
            store,
            lease: claim.lease,
            cancellation: stopping.child_token(),
            end_state: OnceLock::new(),
            was_deleted,
        }
    }

    /// The lease, which fences every write.
    pub const fn lease(&self) -> &AutoCertificateLease {
        &self.lease
    }

    /// Cancelled once the work must stop.
    pub const fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Renews the lease at a third of its life for as long as this future lives.
    pub async fn keep_renewed(&self) -> Infallible {
        loop {
            tokio::time::sleep(LEASE_DURATION / 3).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the lease could not be renewed");
            }
        }
    }

    /// Makes sure that the lease is still held; to be called before every remote effect.
    ///
    /// # Errors
    /// Where the work must stop, and why.
    pub async fn ensure_held(&self) -> Result<(), AttemptError> {
        if !self.cancellation.is_cancelled() {
            self.renew().await?;
        }
        if self.cancellation.is_cancelled() { Err(self.stop_reason()) } else { Ok(()) }
    }

    /// Waits for `wait`, or until the work must stop.
    ///
    /// # Errors
    /// What `wait` ends with, or why the work must stop.
    pub async fn run_while_held<T, E: Into<AttemptError>>(
        &self,
        wait: impl Future<Output = Result<T, E>>,
    ) -> Result<T, AttemptError> {
        tokio::select! {
            result = wait => result.map_err(Into::into),
            () = self.cancellation.cancelled() => Err(self.stop_reason()),
        }
    }

    /// Why the work must stop.
    pub fn stop_reason(&self) -> AttemptError {
        match self.end_state.get() {
            Some(LeaseState::Deleted) => AttemptError::Deleted,
            Some(LeaseState::Lost) => AttemptError::LeaseLost,
            Some(LeaseState::Held) | None => AttemptError::Interrupted,
        }
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let hold = self.store.renew_lease(&self.lease).await?;
        let may_go_on = hold == LeaseState::Held || (self.was_deleted && hold == LeaseState::Deleted);
        if !may_go_on {
            self.end_state.get_or_init(|| hold);
            self.cancellation.cancel();
        }
        Ok(())
    }
}
