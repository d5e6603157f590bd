//! The right to work on one auto-certificate: a lease that is renewed while the work lasts, and looked at again before
//! every remote effect.

use std::convert::Infallible;
use std::future::Future;
use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::issuance::AttemptError;
use crate::store::{ClaimedAutoCertificate, LeaseState, LEASE, Lease, Store, StoreError};

/// A held lease.
pub struct HeldLease {
    store: Store,
    lease: Lease,
    ended: CancellationToken,
    verdict: OnceLock<LeaseState>,
    /// Whether it was deleted before: then there is only clean-up to do, which a deletion must not stop.
    deleted: bool,
}

impl HeldLease {
    /// A tenure over a claim that ends early when `stopping` is cancelled.
    pub fn new(store: Store, claim: &ClaimedAutoCertificate, stopping: &CancellationToken) -> Self {
        let deleted = claim.auto_certificate.standing.deleted;
        Self { store, lease: claim.lease, ended: stopping.child_token(), verdict: OnceLock::new(), deleted }
    }

    /// The lease, which fences every write.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Cancelled once the work must stop.
    pub const fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Renews the lease at a third of its life for as long as this future lives.
    pub async fn keep(&self) -> Infallible {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the lease could not be renewed");
            }
        }
    }

    /// Makes sure that the lease is still held; to be called before every remote effect.
    ///
    /// # Errors
    /// Where the work must stop, and why.
    pub async fn hold(&self) -> Result<(), AttemptError> {
        if !self.ended.is_cancelled() {
            self.look().await?;
        }
        if self.ended.is_cancelled() { Err(self.stop()) } else { Ok(()) }
    }

    /// Waits for `wait`, or until the work must stop.
    ///
    /// # Errors
    /// What `wait` ends with, or why the work must stop.
    pub async fn during<T, E: Into<AttemptError>>(&self, wait: impl Future<Output = Result<T, E>>) -> Result<T, AttemptError> {
        tokio::select! {
            result = wait => result.map_err(Into::into),
            () = self.ended.cancelled() => Err(self.stop()),
        }
    }

    /// Why the work must stop.
    pub fn stop(&self) -> AttemptError {
        match self.verdict.get() {
            Some(LeaseState::Deleted) => AttemptError::Abandoned,
            Some(LeaseState::Lost) => AttemptError::Lost,
            Some(LeaseState::Held) | None => AttemptError::Parked,
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let hold = self.store.renew_lease(&self.lease).await?;
        let may_go_on = hold == LeaseState::Held || (self.deleted && hold == LeaseState::Deleted);
        if !may_go_on {
            self.verdict.get_or_init(|| hold);
            self.ended.cancel();
        }
        Ok(())
    }
}
