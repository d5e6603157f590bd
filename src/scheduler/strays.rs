//! Challenge records that belong to no attempt, beside the issuance, and the sweep by hand. Replicas may remove the same
//! one at once, which does no harm.

use std::sync::Arc;

use crate::domain::moment::Moment;
use crate::issuance::{Issuance, Sweep, Swept};
use crate::scheduler::Scheduler;
use crate::scheduler::lane::Lane;
use crate::store::StoreError;

/// Begins with what is due, unless that is under way; gives the earliest look at all others.
pub(super) async fn scan(lane: Lane, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
    let earliest = issuance.store.earliest_stray_look().await?;
    if earliest.is_none_or(|at| at > issuance.clock.now()) {
        return Ok(earliest);
    }
    let stopping = lane.stopping().clone();
    lane.work_off(tracing::info_span!("strays"), async move {
        stopping.run_until_cancelled(issuance.remove_strays()).await.unwrap_or(Ok(()))
    });
    // Whoever works on it wakes the loop.
    Ok(None)
}

impl Scheduler {
    /// Sweeps by hand, and says what became of each record that the journal names.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sweep(&self, sweep: &Sweep) -> Result<Vec<Swept>, StoreError> {
        self.current().issuance.sweep(sweep, &self.stopping).await
    }

    /// Removes what checks have left behind, and waits for that.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn remove_strays(&self) -> Result<(), StoreError> {
        self.current().issuance.remove_strays().await
    }

    /// Whether the settings have this DNS adapter.
    pub fn has_adapter(&self, name: &str) -> bool {
        self.current().issuance.dns.named(name).is_ok()
    }
}
