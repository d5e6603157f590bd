//! The queues at providers: who is due there, the most urgent first, and who is kept back.

use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::plan::plan_renewal;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::auto_certificates::{self, COLUMNS, TABLE, newest};
use crate::store::auto_certificate::claims::MAX_PLANNED_AHEAD;
use crate::store::database::lease::free;
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{Store, StoreError};
use sqlx::any::AnyRow;
use time::Duration;

/// An auto-certificate in the queue of its provider.
#[derive(Clone, Debug)]
pub struct DueAutoCertificate {
    /// How it stands.
    pub auto_certificate: AutoCertificate,
    /// How often it had been woken by then.
    wakes: i64,
}

impl Store {
    /// The providers at which something is due that nobody works on.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers_with_due_work(&self, now: Moment) -> Result<Vec<ProviderId>, StoreError> {
        let rows = self.query(PROVIDERS_WITH_DUE_WORK).bind(now.micros()).fetch_all(&self.0.pool).await?;
        self.read_undamaged(&rows, |row| RowReader::new(row, TABLE).parsed("id"))
    }

    /// The beginning of the queue at a provider: what is due there and nobody works on, the most urgent first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn queue_at(
        &self,
        provider: ProviderId,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<DueAutoCertificate>, StoreError> {
        let rows = self
            .query(queue_sql())
            .bind(provider.to_string())
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        let queue = self.read_undamaged(&rows, read_due)?;
        if queue.len() < rows.len() {
            self.postpone_damaged(provider, &rows, now).await?;
        }
        Ok(queue)
    }

    /// Those of these that nobody works on, due or not, in the order of [`Store::queue_at`] as of `now`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn queue_for_ids(
        &self,
        ids: &[AutoCertificateId],
        now: Moment,
    ) -> Result<Vec<DueAutoCertificate>, StoreError> {
        let rows = self
            .query(queue_for_ids_sql())
            .bind(documents::ids_to_json(ids))
            .bind(now.micros())
            .fetch_all(&self.0.pool)
            .await?;
        self.read_undamaged(&rows, read_due)
    }

    /// Keeps these back, unless they were woken or taken up since they were looked at.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn defer_due(&self, held: &[(DueAutoCertificate, Deferral)], now: Moment) -> Result<(), StoreError> {
        if held.is_empty() {
            return Ok(());
        }
        // Rows are locked in the order of their ids everywhere, so that no two transactions wait for each other.
        let mut in_order: Vec<&(DueAutoCertificate, Deferral)> = held.iter().collect();
        in_order.sort_by_key(|(due, _)| due.auto_certificate.id.to_string());
        self.retry_deadlocks(|| Box::pin(self.defer_due_in_order(&in_order, now))).await
    }

    /// The earliest moment behind `now` at which something that nobody works on is to be looked at.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_check(&self, now: Moment) -> Result<Option<Moment>, StoreError> {
        let row = self.query(EARLIEST).bind(now.micros()).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).moment("next_look")).transpose()
    }
}

impl Store {
    async fn defer_due_in_order(
        &self,
        held: &[&(DueAutoCertificate, Deferral)],
        now: Moment,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for (due, hold) in held {
            let mut standing = due.auto_certificate.standing.clone();
            standing.deferral = Some(hold.clone());
            let next_look = plan_renewal(&standing, now).next_check.min(now + MAX_PLANNED_AHEAD);
            self.query(DEFER)
                .bind(due.auto_certificate.id.to_string())
                .bind(due.wakes)
                .bind(hold.until.micros())
                .bind(hold.cause.description().to_owned())
                .bind(next_look.micros())
                .bind(hold.cause.kind())
                .bind(DeferralCause::PROVIDER_DOWN)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

impl Store {
    /// Damaged rows would stay due, and many of them would fill the whole beginning of the queue.
    async fn postpone_damaged(&self, provider: ProviderId, rows: &[AnyRow], now: Moment) -> Result<(), StoreError> {
        for row in rows.iter().filter(|row| read_due(row).is_err()) {
            let Some(id) = self.ok_unless_damaged(RowReader::new(row, TABLE).text("id"))? else { continue };
            self.query(POSTPONE)
                .bind(id)
                .bind(provider.to_string())
                .bind((now + DAMAGED_RECHECK_INTERVAL).micros())
                .execute(&self.0.pool)
                .await?;
        }
        Ok(())
    }
}

fn read_due(row: &AnyRow) -> Result<DueAutoCertificate, StoreError> {
    Ok(DueAutoCertificate {
        auto_certificate: auto_certificates::read(row)?,
        wakes: RowReader::new(row, TABLE).number("wakes")?,
    })
}

/// The most urgent first: what is revoked, then the least time left; one without a certificate counts as if it had a day
/// left, so that many new ones do not let an old one lapse. The page is chosen before other columns are
/// read.
pub(in crate::store) fn queue_sql() -> String {
    format!(
        "SELECT {COLUMNS}, a.wakes FROM (SELECT a.id AS page_id, {URGENCY} AS urgency FROM auto_certificates a \
         WHERE a.provider_id = $1 AND a.next_look <= $2 AND {FREE} ORDER BY urgency, a.next_look, a.id LIMIT $3) page \
         JOIN auto_certificates a ON a.id = page.page_id ORDER BY page.urgency, a.next_look, a.id"
    )
}

/// The database orders them, so that no comparison can read the clock: it is bound once.
pub(in crate::store) fn queue_for_ids_sql() -> String {
    format!(
        "SELECT {COLUMNS}, a.wakes FROM @listed1 listed CROSS JOIN auto_certificates a \
         WHERE a.id = listed.value AND {FREE} ORDER BY {URGENCY}, a.next_look, a.id"
    )
}

const URGENCY: &str = concat!(
    "CASE WHEN ",
    newest!("revocation"),
    " IS NOT NULL THEN 0 ELSE COALESCE(",
    newest!("not_after"),
    ", $2 + 86400000000) END"
);
const POSTPONE: &str =
    concat!("UPDATE auto_certificates SET next_look = $3 WHERE id = $1 AND provider_id = $2 AND ", free!());
/// A person may mend it.
const DAMAGED_RECHECK_INTERVAL: Duration = Duration::HOUR;
const FREE: &str = free!();
pub(in crate::store) const PROVIDERS_WITH_DUE_WORK: &str =
    concat!("SELECT DISTINCT provider_id AS id FROM auto_certificates WHERE next_look <= $1 AND ", free!());
const DEFER: &str = concat!(
    "UPDATE auto_certificates SET held_until = $3, held_by = $4, next_look = $5, held_kind = $6 WHERE id = $1 AND wakes = $2 AND ",
    free!(),
    // A provider that has answered meanwhile would end no hold that comes behind it.
    " AND ($6 <> $7 OR EXISTS (SELECT 1 FROM providers p \
     WHERE p.id = auto_certificates.provider_id AND p.breaker IS NOT NULL))"
);
pub(in crate::store) const EARLIEST: &str = concat!(
    "SELECT id, next_look FROM auto_certificates WHERE next_look > $1 AND ",
    free!(),
    " ORDER BY next_look LIMIT 1"
);
