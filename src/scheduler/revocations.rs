//! Revocations that the CA has not heard of yet, beside the issuance: few at once, so that a CA that is down is probed and
//! not stormed.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::domain::moment::Moment;
use crate::domain::revocation::Revocation;
use crate::issuance::Issuance;
use crate::runtime::wake::Wake;
use crate::scheduler::Scheduler;
use crate::store::{RevocationClaim, StoreError};

/// Has revocations carried out.
#[derive(Clone)]
pub(super) struct Revocations {
    under_way: TaskTracker,
    wake: Wake,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Revocations {
    pub(super) fn new(wake: Wake, tasks: TaskTracker, stopping: CancellationToken) -> Self {
        Self { under_way: TaskTracker::new(), wake, tasks, stopping }
    }

    /// Begins with what is due, unless that is under way; gives the earliest look at all others.
    pub(super) async fn scan(&self, issuance: &Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        let earliest = issuance.store.earliest_revocation_look().await?;
        if earliest.is_none_or(|at| at > issuance.clock.now()) {
            return Ok(earliest);
        }
        if self.under_way.is_empty() {
            let (revocations, issuance) = (self.clone(), Arc::clone(issuance));
            let work = async move {
                let worked_off = revocations.stopping.run_until_cancelled(work_off(&issuance)).await;
                if let Some(Err(error)) = worked_off {
                    tracing::error!(%error, "a revocation could not be written down; it is tried again");
                }
                revocations.wake.nudge();
            };
            self.tasks.spawn(self.under_way.track_future(work.instrument(tracing::info_span!("revocation"))));
        }
        // Whoever works on it wakes the loop.
        Ok(None)
    }
}

impl Scheduler {
    /// Carries out one revocation, and gives how it stands by then.
    ///
    /// # Errors
    /// Where the store fails. Then it is tried again by whoever scans next.
    pub async fn revoke(&self, claim: &RevocationClaim) -> Result<Revocation, StoreError> {
        self.current().issuance.revoke(claim).await
    }

    /// Carries out the revocations that are due.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn settle_revocations(&self) -> Result<(), StoreError> {
        work_off(&self.current().issuance).await
    }
}

/// Claims a few after the other until none is due. What fails is due later.
async fn work_off(issuance: &Issuance) -> Result<(), StoreError> {
    loop {
        let claims = issuance.store.claim_due_revocations(issuance.clock.now(), AT_ONCE).await?;
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

const AT_ONCE: u32 = 4;
