//! Which auto-certificates are not in service: the question of `autocertd healthcheck --issued`.

use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::moment::Moment;
use crate::store::auto_certificates::{self, COLUMNS, TABLE};
use crate::store::row::Record;
use crate::store::{Store, StoreError};

/// The auto-certificates that are not in service.
#[derive(Clone, Debug)]
pub struct Unserved {
    /// How many auto-certificates there are in all.
    pub total: u64,
    /// Those that lack something, the oldest first.
    pub lacking: Vec<AutoCertificate>,
}

impl Store {
    /// The auto-certificates that have no certificate which is valid at `now`, or of which a delivery of this instance or
    /// of the fleet has not delivered any that is. What nobody of the fleet has looked at for an hour is served by nobody,
    /// and does not count.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn unserved(&self, instance: &str, now: Moment) -> Result<Unserved, StoreError> {
        let counted = self.query(TOTAL).fetch_one(&self.0.pool).await?;
        let rows = self.query(list()).bind(now.micros()).bind(instance.to_owned()).fetch_all(&self.0.pool).await?;
        let lacking = rows.iter().map(auto_certificates::read).collect::<Result<_, _>>()?;
        Ok(Unserved { total: Record::new(&counted, TABLE).count("present")?, lacking })
    }
}

pub(super) fn list() -> String {
    format!(
        "SELECT {COLUMNS} FROM auto_certificates a WHERE a.deleted_at IS NULL AND ({LACKS}) ORDER BY a.created_at, a.id"
    )
}

/// What an auto-certificate may lack: each line a reason, joined by OR.
const LACKS: &str = "\
    NOT EXISTS (SELECT 1 FROM certificates c WHERE c.auto_certificate_id = a.id AND c.not_before <= $1 AND c.not_after > $1) \
    OR EXISTS (SELECT 1 FROM deliveries d WHERE d.auto_certificate_id = a.id AND d.instance IN ($2, '') \
    AND (d.certificate_not_after IS NULL OR d.certificate_not_after <= $1) \
    AND (d.instance <> '' OR d.next_look > @now - 3600000000))";
const TOTAL: &str = "SELECT COUNT(*) AS present FROM auto_certificates WHERE deleted_at IS NULL";
