//! Which auto-certificates are not in service: the questions of `autocertd healthcheck --issued` and of `--renew-now`.

use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::auto_certificates::{self, COLUMNS, TABLE};
use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

/// The auto-certificates that are not in service.
#[derive(Clone, Debug)]
pub struct NotInService {
    /// How many auto-certificates there are in all.
    pub total: u64,
    /// How many of them lack something.
    pub affected_total: u64,
    /// Those that lack something, the oldest first, as many as were asked for.
    pub affected: Vec<AutoCertificate>,
}

impl Store {
    /// The auto-certificates that have no certificate which is valid at `now`, or of which a delivery of this instance or
    /// of the fleet has not delivered any that is. What nobody of the fleet has looked at for an hour is served by nobody,
    /// and does not count.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn not_in_service(&self, instance: &str, now: Moment, limit: u32) -> Result<NotInService, StoreError> {
        let counted = self.query(TOTAL).fetch_one(&self.0.pool).await?;
        let (now, instance) = (now.micros(), instance.to_owned());
        let rows = self
            .query(list_sql())
            .bind(now)
            .bind(instance.clone())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        let lacking: Vec<AutoCertificate> = rows.iter().map(auto_certificates::read).collect::<Result<_, _>>()?;
        let lacking_total = if rows.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            lacking.len() as u64
        } else {
            let counted = self.query(count_sql()).bind(now).bind(instance).fetch_one(&self.0.pool).await?;
            RowReader::new(&counted, TABLE).count("present")?
        };
        Ok(NotInService {
            total: RowReader::new(&counted, TABLE).count("present")?,
            affected_total: lacking_total,
            affected: lacking,
        })
    }

    /// At most `limit` auto-certificates after `cursor`, by id, that may be overdue at `now`: without a certificate that is
    /// valid and not revoked, or failed, or held back. [`OverdueReason::from_facts`] decides.
    ///
    /// [`OverdueReason::from_facts`]: crate::domain::report::overdue::OverdueReason::from_facts
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn overdue_candidates(
        &self,
        cursor: Option<AutoCertificateId>,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<AutoCertificate>, StoreError> {
        let rows = self
            .query(candidates_sql())
            .bind(now.micros())
            .bind(cursor.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        rows.iter().map(auto_certificates::read).collect()
    }
}

pub(in crate::store) fn list_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM auto_certificates a WHERE a.deleted_at IS NULL AND ({LACKS}) \
         ORDER BY a.created_at, a.id LIMIT $3"
    )
}

pub(in crate::store) fn count_sql() -> String {
    format!("SELECT COUNT(*) AS present FROM auto_certificates a WHERE a.deleted_at IS NULL AND ({LACKS})")
}

/// The page is chosen before other columns are read.
pub(in crate::store) fn candidates_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM (SELECT a.id AS page_id FROM auto_certificates a WHERE a.deleted_at IS NULL AND a.id > $2 \
         AND (a.trouble IS NOT NULL OR a.held_until > $1 OR NOT EXISTS (SELECT 1 FROM certificates c \
         WHERE c.auto_certificate_id = a.id AND c.not_after > $1 AND c.revocation IS NULL)) \
         ORDER BY a.id LIMIT $3) page JOIN auto_certificates a ON a.id = page.page_id ORDER BY a.id"
    )
}

/// What an auto-certificate may lack: each line a reason, joined by OR.
const LACKS: &str = "\
    NOT EXISTS (SELECT 1 FROM certificates c WHERE c.auto_certificate_id = a.id AND c.not_before <= $1 AND c.not_after > $1) \
    OR EXISTS (SELECT 1 FROM deliveries d WHERE d.auto_certificate_id = a.id AND d.instance IN ($2, '') \
    AND (d.certificate_not_after IS NULL OR d.certificate_not_after <= $1) \
    AND (d.instance <> '' OR d.next_look > @now - 3600000000))";
const TOTAL: &str = "SELECT COUNT(*) AS present FROM auto_certificates WHERE deleted_at IS NULL";
