//! Holds: orders that are kept back for their provider's sake, and when that ends.

use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::store::auto_certificate::claims::MAX_PLANNED_AHEAD;
use crate::store::database::lease::check_fence;
use crate::store::{AutoCertificateLease, Store, StoreError};

impl Store {
    /// Gives the lease back with a hold until which nothing is ordered, at most a day ahead, as a run that has finished.
    /// Where it was woken since the claim it is looked at again at once, without the hold.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn defer(&self, lease: &AutoCertificateLease, hold: &Deferral) -> Result<(), StoreError> {
        let until = hold.until.min(self.now() + MAX_PLANNED_AHEAD);
        let released = self
            .query(DEFER)
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .bind(lease.wakes)
            .bind(until.micros())
            .bind(hold.cause.description().to_owned())
            .bind(self.now().micros())
            .bind(hold.cause.kind())
            .execute(&self.0.pool)
            .await?;
        check_fence(released.rows_affected())
    }

    /// Ends the holds by limits of CAs, which may be others by now, and says how many; what they held back is due.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn end_limit_deferrals(&self) -> Result<u64, StoreError> {
        let ended = self
            .query(END_LIMIT_DEFERRALS)
            .bind(DeferralCause::PROVIDER_DOWN)
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(ended.rows_affected())
    }
}

const DEFER: &str = "\
    UPDATE auto_certificates SET lease_owner = NULL, lease_until = NULL, runs = runs + 1, \
    next_look = CASE WHEN wakes = $4 THEN $5 ELSE $7 END, \
    held_until = CASE WHEN wakes = $4 THEN $5 ELSE held_until END, \
    held_by = CASE WHEN wakes = $4 THEN $6 ELSE held_by END, \
    held_kind = CASE WHEN wakes = $4 THEN $8 ELSE held_kind END \
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
const END_LIMIT_DEFERRALS: &str = "\
    UPDATE auto_certificates SET held_until = NULL, held_by = NULL, next_look = $2, wakes = wakes + 1 \
    WHERE id IN (SELECT id FROM auto_certificates \
    WHERE held_kind IS NOT NULL AND held_kind <> $1 AND deleted_at IS NULL@in_order)";
