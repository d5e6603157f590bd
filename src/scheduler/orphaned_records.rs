//! Challenge records that belong to no attempt, beside the issuance, and the sweep by hand. Replicas may remove the same
//! one at once, which does no harm.

use std::sync::Arc;

use time::Duration;

use crate::domain::value::moment::Moment;
use crate::issuance::{Cleanup, Issuance, SweepMode};
use crate::scheduler::Scheduler;
use crate::scheduler::lane::Lane;
use crate::store::StoreError;

/// Begins with what is due, unless that is under way; gives the earliest look at all others.
pub(super) async fn scan(lane: Lane, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
    let earliest = issuance.store.earliest_orphan_check().await?;
    let (now, running) = (issuance.clock.now(), issuance.clock.uptime());
    if earliest.is_none_or(|at| at > now) {
        return Ok(earliest);
    }
    if let Some(until) = lane.rests_until().filter(|until| *until > running) {
        return Ok(Some(now + (until - running)));
    }
    let stopping = lane.stopping().clone();
    let resting = lane.clone();
    lane.run_exclusively(tracing::info_span!("strays"), async move {
        if !stopping.run_until_cancelled(issuance.remove_orphaned_records()).await.unwrap_or(Ok(true))? {
            tracing::debug!("no CA confirms the clock; records of checks that may be over are kept until one does");
            resting.rest_until(running + PAUSE_WITHOUT_CLOCK);
        }
        Ok(())
    });
    // Whoever works on it wakes the loop.
    Ok(None)
}

impl Scheduler {
    /// Sweeps by hand, and says what became of each record that the journal names.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sweep(&self, sweep: &SweepMode) -> Result<Vec<Cleanup>, StoreError> {
        self.current_work().issuance.sweep(sweep, &self.stopping).await
    }

    /// Removes what checks have left behind, and waits for that.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn remove_orphaned_records(&self) -> Result<(), StoreError> {
        self.current_work().issuance.remove_orphaned_records().await?;
        Ok(())
    }

    /// Whether the settings have this DNS adapter.
    pub fn has_adapter(&self, name: &str) -> bool {
        self.current_work().issuance.dns.named(name).is_ok()
    }
}

/// CAs are not asked for the time more often.
const PAUSE_WITHOUT_CLOCK: Duration = Duration::minutes(10);
