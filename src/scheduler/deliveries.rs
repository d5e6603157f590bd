//! Deliveries, beside the issuance: they have room of their own, so that a hanging hook holds up no renewal.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::deliver::dispatch::Dispatch;
use crate::domain::moment::Moment;
use crate::runtime::wake::Wake;
use crate::store::{Store, StoreError};

/// Has deliveries carried out within bounds.
#[derive(Clone)]
pub(super) struct Deliveries {
    permits: Arc<Semaphore>,
    /// The version of the roster with which the rows are in line.
    in_line_with: Arc<AtomicI64>,
    wake: Wake,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Deliveries {
    pub(super) fn new(wake: Wake, tasks: TaskTracker, stopping: CancellationToken) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { permits, in_line_with: Arc::new(AtomicI64::new(NEVER)), wake, tasks, stopping }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.permits.available_permits() == AT_ONCE
    }

    /// Makes the next scan bring all rows in line and look at them all.
    pub(super) fn look_at_all(&self) {
        self.in_line_with.store(NEVER, Ordering::SeqCst);
    }

    /// Claims what is due and has it carried out; gives the earliest look at all others.
    pub(super) async fn scan(&self, store: &Store, dispatch: &Arc<Dispatch>) -> Result<Option<Moment>, StoreError> {
        self.bring_in_line(store, dispatch).await?;
        let mut permits: Vec<_> = std::iter::from_fn(|| Arc::clone(&self.permits).try_acquire_owned().ok()).collect();
        for job in dispatch.claim_due(permits.len()).await? {
            let (deliveries, dispatch, permit) = (self.clone(), Arc::clone(dispatch), permits.pop());
            let row = job.row();
            let span = tracing::info_span!("delivery", target = %row.target, auto_certificate = %row.auto_certificate, name = %row.name);
            self.tasks.spawn(
                async move {
                    dispatch.work(&job, &deliveries.stopping).await;
                    drop(permit);
                    deliveries.wake.nudge();
                }
                .instrument(span),
            );
        }
        drop(permits);
        // Without room there is nothing to look for: whoever ends wakes the loop.
        if self.permits.available_permits() > 0 { dispatch.earliest_look().await } else { Ok(None) }
    }

    async fn bring_in_line(&self, store: &Store, dispatch: &Dispatch) -> Result<(), StoreError> {
        let version = store.roster_version().await?;
        let before = self.in_line_with.load(Ordering::SeqCst);
        if before != version {
            dispatch.sync().await?;
            if before == NEVER {
                dispatch.look_at_all().await?;
            }
            // A reload in between starts over.
            let _ = self.in_line_with.compare_exchange(before, version, Ordering::SeqCst, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// How many deliveries are carried out at once.
const AT_ONCE: usize = 16;
/// No version of a roster.
const NEVER: i64 = -1;
