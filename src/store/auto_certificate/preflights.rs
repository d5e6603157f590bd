//! Rehearsals of renewals: for which auto-certificates one may be due, and what it found. They go beside the work on an
//! auto-certificate and ask for no lease: what they write, nothing else writes.

use time::Duration;

use crate::domain::renewal::preflight::Preflight;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::auto_certificates::TABLE;
use crate::store::database::row::RowReader;
use crate::store::documents::preflight::preflight_to_json;
use crate::store::{Store, StoreError};

impl Store {
    /// At most `limit` auto-certificates for which by `now` is to be looked whether a rehearsal is due. Nobody else is told
    /// of them before a quarter of an hour has passed, or they are put off.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_preflights(&self, now: Moment, limit: u32) -> Result<Vec<AutoCertificateId>, StoreError> {
        let (beyond, until) = (now + MAX_POSTPONEMENT, now + PREFLIGHT_TIMEOUT);
        let claimed = self
            .query(CLAIM)
            .bind(now.micros())
            .bind(beyond.micros())
            .bind(until.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        self.read_undamaged(&claimed, |row| RowReader::new(row, TABLE).parsed("id"))
    }

    /// Has it looked at again at `next` whether a rehearsal is due.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn postpone_preflight(&self, id: AutoCertificateId, next: Moment) -> Result<(), StoreError> {
        self.query(POSTPONE).bind(id.to_string()).bind(next.micros()).execute(&self.0.pool).await?;
        Ok(())
    }

    /// Keeps what a rehearsal found, and when is looked again whether one is due.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn store_preflight(
        &self,
        id: AutoCertificateId,
        rehearsal: &Preflight,
        next: Moment,
    ) -> Result<(), StoreError> {
        let query = self.query(STORE).bind(id.to_string()).bind(preflight_to_json(rehearsal)).bind(next.micros());
        query.execute(&self.0.pool).await?;
        Ok(())
    }

    /// Has all that was rehearsed looked at again soon: what was found may have been mended.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recheck_preflights(&self) -> Result<(), StoreError> {
        self.query(RECHECK).bind(self.now().micros()).execute(&self.0.pool).await?;
        Ok(())
    }

    /// The earliest moment at which is to be looked whether a rehearsal is due: now, where a clock that was ahead has put
    /// it off.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_preflight_check(&self) -> Result<Option<Moment>, StoreError> {
        let Some(row) = self.query(EARLIEST).fetch_optional(&self.0.pool).await? else { return Ok(None) };
        let (at, now) = (RowReader::new(&row, TABLE).moment("rehearse_at")?, self.now());
        Ok(Some(if at > now + MAX_POSTPONEMENT { now } else { at }))
    }
}

/// What is put off longer was put off by a clock that was ahead, and counts as due.
const MAX_POSTPONEMENT: Duration = Duration::days(2);
/// A rehearsal that takes longer was broken off.
const PREFLIGHT_TIMEOUT: Duration = Duration::minutes(15);

/// The predicate is repeated: another session may have claimed a row since it was read.
pub(in crate::store) const CLAIM: &str = "\
    UPDATE auto_certificates SET rehearse_at = $3 WHERE id IN \
    (SELECT id FROM auto_certificates WHERE id IN \
    (SELECT id FROM auto_certificates WHERE deleted_at IS NULL AND (rehearse_at <= $1 OR rehearse_at > $2) \
    ORDER BY rehearse_at, id LIMIT $4)@in_order) AND (rehearse_at <= $1 OR rehearse_at > $2) RETURNING id";
const POSTPONE: &str = "UPDATE auto_certificates SET rehearse_at = $2 WHERE id = $1";
const STORE: &str = "UPDATE auto_certificates SET rehearsal = $2, rehearse_at = $3 WHERE id = $1";
const RECHECK: &str = "\
    UPDATE auto_certificates SET rehearse_at = $1 WHERE id IN \
    (SELECT id FROM auto_certificates WHERE rehearsal IS NOT NULL AND rehearse_at > $1@in_order)";
pub(in crate::store) const EARLIEST: &str =
    "SELECT id, rehearse_at FROM auto_certificates WHERE deleted_at IS NULL ORDER BY rehearse_at LIMIT 1";
