//! Challenge records that belong to no attempt, beside the issuance, and the sweep by hand. Replicas may remove the same
//! one at once, which does no harm.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::domain::moment::Moment;
use crate::issuance::{Issuance, Sweep, Swept};
use crate::runtime::wake::Wake;
use crate::scheduler::{PAUSE_AFTER_ERROR, Scheduler};
use crate::store::StoreError;

/// Has strays removed.
#[derive(Clone)]
pub(super) struct Strays {
    under_way: TaskTracker,
    wake: Wake,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Strays {
    pub(super) fn new(wake: Wake, tasks: TaskTracker, stopping: CancellationToken) -> Self {
        Self { under_way: TaskTracker::new(), wake, tasks, stopping }
    }

    /// Begins with what is due, unless that is under way; gives the earliest look at all others.
    pub(super) async fn scan(&self, issuance: &Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        let earliest = issuance.store.earliest_stray_look().await?;
        if earliest.is_none_or(|at| at > issuance.clock.now()) {
            return Ok(earliest);
        }
        if self.under_way.is_empty() {
            let (strays, issuance) = (self.clone(), Arc::clone(issuance));
            let work = async move {
                let removed = strays.stopping.run_until_cancelled(issuance.remove_strays()).await;
                if let Some(Err(error)) = removed {
                    tracing::error!(%error, "a removal could not be written down; it is tried again");
                    strays.stopping.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_ERROR)).await;
                }
                strays.wake.nudge();
            };
            self.tasks.spawn(self.under_way.track_future(work.instrument(tracing::info_span!("strays"))));
        }
        // Whoever works on it wakes the loop.
        Ok(None)
    }
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
