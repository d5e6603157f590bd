//! Deliveries, beside the issuance: they have room of their own, so that a hanging hook holds up no renewal.

use std::sync::Arc;

use crate::deliver::dispatcher::Dispatcher;
use crate::domain::value::moment::Moment;
use crate::scheduler::lane::Lane;
use crate::store::StoreError;

/// Claims what is due and has it carried out; gives the earliest look at all others.
pub(super) async fn scan(lane: Lane, dispatch: Arc<Dispatcher>) -> Result<Option<Moment>, StoreError> {
    dispatch.sync_if_changed().await?;
    for job in dispatch.claim_due().await? {
        let (dispatch, stopping) = (Arc::clone(&dispatch), lane.stopping().clone());
        let row = job.row();
        let span = tracing::info_span!("delivery", target = %row.target, auto_certificate = %row.auto_certificate, name = %row.name);
        lane.spawn(span, async move { dispatch.run_job(&job, &stopping).await });
    }
    dispatch.earliest_check().await
}
