//! Deliveries, beside the issuance: they have room of their own, so that a hanging hook holds up no renewal.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::deliver::dispatch::Dispatch;
use crate::domain::moment::Moment;
use crate::runtime::wake::Wake;
use crate::store::StoreError;

/// Has deliveries carried out.
#[derive(Clone)]
pub(super) struct Deliveries {
    under_way: TaskTracker,
    wake: Wake,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Deliveries {
    pub(super) fn new(wake: Wake, tasks: TaskTracker, stopping: CancellationToken) -> Self {
        Self { under_way: TaskTracker::new(), wake, tasks, stopping }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Claims what is due and has it carried out; gives the earliest look at all others.
    pub(super) async fn scan(&self, dispatch: &Arc<Dispatch>) -> Result<Option<Moment>, StoreError> {
        dispatch.keep_in_line().await?;
        for job in dispatch.claim_due().await? {
            let (deliveries, dispatch) = (self.clone(), Arc::clone(dispatch));
            let row = job.row();
            let span = tracing::info_span!("delivery", target = %row.target, auto_certificate = %row.auto_certificate, name = %row.name);
            let work = async move {
                dispatch.work(&job, &deliveries.stopping).await;
                drop(job);
                deliveries.wake.nudge();
            };
            self.tasks.spawn(self.under_way.track_future(work.instrument(span)));
        }
        dispatch.earliest_look().await
    }
}
