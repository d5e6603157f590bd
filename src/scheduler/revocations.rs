//! Revocations that the CA has not heard of yet, beside the issuance: few at once, so that a CA that is down is probed and
//! not stormed.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::certificate::revocation::Revocation;
use crate::domain::value::moment::Moment;
use crate::issuance::Issuance;
use crate::scheduler::Scheduler;
use crate::scheduler::lane::Lane;
use crate::store::{RevocationClaim, StoreError};

/// Begins with what is due, unless that is under way; gives the earliest look at all others.
pub(super) async fn scan(lane: Lane, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
    let earliest = issuance.store.earliest_revocation_check().await?;
    if earliest.is_none_or(|at| at > issuance.clock.now()) {
        return Ok(earliest);
    }
    let stopping = lane.stopping().clone();
    lane.run_exclusively(tracing::info_span!("revocation"), async move {
        stopping.run_until_cancelled(run_due(&issuance)).await.unwrap_or(Ok(()))
    });
    // Whoever works on it wakes the loop.
    Ok(None)
}

impl Scheduler {
    /// Carries out one revocation, and gives how it stands by then.
    ///
    /// # Errors
    /// Where the store fails. Then it is tried again by whoever scans next.
    pub async fn revoke(&self, claim: &RevocationClaim) -> Result<Revocation, StoreError> {
        self.current_work().issuance.revoke(claim).await
    }

    /// Carries out the revocations that are due.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn run_due_revocations(&self) -> Result<(), StoreError> {
        run_due(&self.current_work().issuance).await
    }
}

/// Claims a few after the other until none is due. What fails is due later.
async fn run_due(issuance: &Issuance) -> Result<(), StoreError> {
    loop {
        let claims = issuance.store.claim_due_revocations(issuance.clock.now(), BATCH_SIZE).await?;
        if claims.is_empty() {
            return Ok(());
        }
        for worked in join_all(claims.iter().map(|claim| issuance.revoke(claim))).await {
            match worked {
                // Somebody asked for it anew meanwhile, and carries it out.
                Ok(_) | Err(StoreError::LostLease) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

const BATCH_SIZE: u32 = 4;
