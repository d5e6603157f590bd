//! The clock: whether it was set, what a clock that was ahead has left behind, and what is kept of it across starts.

use crate::domain::clock_evidence::ClockVerdict;
use crate::scheduler::Scheduler;
use crate::store::StoreError;

impl Scheduler {
    /// Looks at the clock. Where it was ahead, what it wrote is mended, unless something says that it is behind now: then
    /// only what seems to be planned too far ahead is looked at again.
    ///
    /// # Errors
    /// Where the store fails. Then it is done again at the next look.
    pub async fn check_clock(&self) -> Result<(), StoreError> {
        let work = self.current_work();
        let (store, clock, instance) = (&work.issuance.store, &work.issuance.clock, work.dispatcher.instance());
        let is_fresh = clock.evidence().is_unchecked();
        if is_fresh && let Some(record) = store.clock_record(instance).await? {
            clock.evidence().restore(record);
        }
        let (now, running) = (clock.now(), clock.uptime());
        let (look, verdict) = {
            let mut evidence = clock.evidence();
            (evidence.check(now, running), evidence.verdict(now, running))
        };
        if look.was_set {
            store.renew_own_leases().await?;
        }
        let elsewhere = store.acknowledge_clock_ahead(instance, now).await?;
        let ahead = look.was_ahead.max(elsewhere);
        let mended = store.repair_next_checks(now, look.was_set && look.was_ahead.is_some()).await?;
        if mended > 0 {
            tracing::warn!(mended, "the clock was ahead and has been set back; what it put off is looked at again");
        }
        let is_behind = verdict == ClockVerdict::Wrong || ahead.is_some() && store.has_issued_after(now).await?;
        if let Some(ahead) = ahead.filter(|_| !is_behind) {
            store.repair_next_checks(now, true).await?;
            let mended = store.repair_after_clock_ahead(now, ahead).await?;
            tracing::warn!(%ahead, mended, "the clock was ahead; what it wrote was mended");
            clock.evidence().accept_current_time();
        } else if look.was_set && look.was_ahead.is_some() {
            tracing::error!(%now, "the clock was set back and is behind by now; what was written before it was is kept");
        }
        if look.should_store || ahead.is_some() {
            let record = clock.evidence().record().clone();
            store.store_clock_record(instance, &record).await?;
        }
        if look.was_set && verdict == ClockVerdict::Wrong {
            tracing::error!(%now, "the clock does not agree with those of the CAs; set it, nothing expired is deleted until then");
        }
        Ok(())
    }
}
