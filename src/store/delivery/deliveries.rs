//! Deliveries: one row for each auto-certificate at each target of each instance, claimed by lease as other work is.

use crate::store::database::Transaction;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::any::AnyRow;

use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::{DeliverableCertificate, DeliveryFacts};
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::value::id::{AutoCertificateId, CertificateId, DeliveryId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::{DnsName, RequestedName};
use crate::domain::value::resource::ResourceName;
use crate::store::auto_certificate::auto_certificates::newest;
use crate::store::auto_certificate::claims::MAX_WINDOW_WAIT;
use crate::store::database::lease::{check_fence, free};
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{LeaseState, Store, StoreError};

/// The right to work on a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryLease {
    /// What is worked on.
    pub id: DeliveryId,
    /// The fence: it grows with each claim.
    pub epoch: i64,
    /// How often it had been woken when it was claimed.
    pub wakes: i64,
}

/// A delivery as it stands.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// Its identity.
    pub id: DeliveryId,
    /// Where it goes: the key of a declared delivery.
    pub target: DeclaredKey,
    /// Whose it is; empty for what is delivered once per fleet.
    pub instance: String,
    /// The name of its folder, its own within the target.
    pub label: String,
    /// For which auto-certificate.
    pub auto_certificate: AutoCertificateId,
    /// The auto-certificate's name.
    pub name: ResourceName,
    /// The auto-certificate's key, where the settings declare it.
    pub key: Option<DeclaredKey>,
    /// The names to be served, the common name first.
    pub names: Vec<DnsName>,
    /// How it stands; `settings_changed` is told by whoever knows the settings.
    pub standing: DeliveryFacts,
    /// The settings with which it was delivered last.
    pub settings: String,
    /// What the last delivery left to be remembered.
    pub receipt: Option<Value>,
    /// How often it was worked on.
    pub runs: u64,
    /// Whether someone works on it right now.
    pub running: bool,
    /// When it is looked at next.
    pub next_check: Moment,
}

/// Where a page of deliveries ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryCursor {
    id: AutoCertificateId,
    target: String,
    instance: String,
}

/// A delivery that was claimed for work.
#[derive(Clone, Debug)]
pub struct DeliveryClaim {
    /// How it stands.
    pub row: DeliveryRow,
    /// The right to work on it.
    pub lease: DeliveryLease,
}

/// What was delivered.
#[derive(Clone, Debug)]
pub struct DeliveredCertificate {
    /// The certificate.
    pub certificate: DeliverableCertificate,
    /// The settings with which it was delivered.
    pub settings: String,
    /// What is to be remembered until the next delivery.
    pub receipt: Option<Value>,
}

impl Store {
    /// Claims at most `limit` of what is due at `now` for this target and instance, the least time left first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_due_deliveries(
        &self,
        target: &DeclaredKey,
        instance: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<DeliveryClaim>, StoreError> {
        let mut transaction = self.begin().await?;
        let rows = self
            .query(CLAIM_DUE)
            .bind(self.0.instance.clone())
            .bind(target.to_string())
            .bind(instance.to_owned())
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            // The lease of a damaged row lapses, and it is looked at again then.
            claims.extend(self.ok_unless_damaged(self.read_delivery_claim(&mut transaction, row).await)?);
        }
        Ok(transaction.commit().await.map(|()| claims)?)
    }

    /// Renews the lease of a delivery.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_delivery_lease(&self, lease: &DeliveryLease) -> Result<LeaseState, StoreError> {
        let renewed = self
            .query("UPDATE deliveries SET lease_until = @now + @lease WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3")
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .execute(&self.0.pool)
            .await?;
        Ok(if renewed.rows_affected() == 1 { LeaseState::Held } else { LeaseState::Lost })
    }

    /// Writes down what was delivered, which ends all trouble.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_delivered(
        &self,
        lease: &DeliveryLease,
        delivered: &DeliveredCertificate,
    ) -> Result<(), StoreError> {
        let written = self
            .query(RECORD_DELIVERED)
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .bind(delivered.certificate.id.to_string())
            .bind(delivered.certificate.created.micros())
            .bind(delivered.certificate.not_after.micros())
            .bind(self.now().micros())
            .bind(delivered.settings.clone())
            .bind(delivered.receipt.as_ref().map(Value::to_string))
            .execute(&self.0.pool)
            .await?;
        check_fence(written.rows_affected())
    }

    /// Writes down what went wrong, or that nothing does any more.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_delivery_failure_streak(
        &self,
        lease: &DeliveryLease,
        trouble: Option<&FailureStreak>,
    ) -> Result<(), StoreError> {
        let written = self
            .query("UPDATE deliveries SET trouble = $4 WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3")
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .bind(trouble.map(documents::failure_streak_to_json))
            .execute(&self.0.pool)
            .await?;
        check_fence(written.rows_affected())
    }

    /// Gives the lease back and says when to look again, at most a deploy window ahead: at once where it was woken since the claim.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn release_delivery(&self, lease: &DeliveryLease, next_look: Moment) -> Result<(), StoreError> {
        let released = self
            .query(RELEASE)
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .bind(lease.wakes)
            .bind(next_look.min(self.now() + MAX_WINDOW_WAIT).micros())
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        check_fence(released.rows_affected())
    }

    /// The earliest moment at which a delivery of this target and instance that nobody works on is to be looked at.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_delivery_check(
        &self,
        target: &DeclaredKey,
        instance: &str,
    ) -> Result<Option<Moment>, StoreError> {
        let row = self
            .query(EARLIEST)
            .bind(target.to_string())
            .bind(instance.to_owned())
            .fetch_optional(&self.0.pool)
            .await?;
        row.map(|row| RowReader::new(&row, TABLE).moment("next_look")).transpose()
    }

    /// Makes every delivery of this target and instance due, and forgets their pauses: after a start nobody knows what
    /// became of them meanwhile, nor what a person has mended.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn wake_target_deliveries(&self, target: &DeclaredKey, instance: &str) -> Result<(), StoreError> {
        self.query(WAKE_TARGET)
            .bind(target.to_string())
            .bind(instance.to_owned())
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Makes the deliveries of an auto-certificate due, and forgets their pauses: a person asked.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn request_deliveries(&self, id: AutoCertificateId) -> Result<(), StoreError> {
        self.query(REQUEST_DELIVERIES)
            .bind(documents::ids_to_json(&[id]))
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// The deliveries of these auto-certificates, those of this instance and those of the fleet, by auto-certificate and
    /// target.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn deliveries(&self, ids: &[AutoCertificateId], instance: &str) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = self
            .query(by_auto_certificates_sql())
            .bind(documents::ids_to_json(ids))
            .bind(instance.to_owned())
            .fetch_all(&self.0.pool)
            .await?;
        self.read_undamaged(&rows, read)
    }

    /// At most `limit` deliveries of this instance and of the fleet, those after `cursor` in the order of their
    /// auto-certificates' ids; and the place of the last of them, where more may follow.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn deliveries_after(
        &self,
        cursor: Option<&DeliveryCursor>,
        instance: &str,
        limit: u32,
    ) -> Result<(Vec<DeliveryRow>, Option<DeliveryCursor>), StoreError> {
        let (id, target, of) = cursor
            .map(|after| (after.id.to_string(), after.target.clone(), after.instance.clone()))
            .unwrap_or_default();
        let rows = self
            .query(by_instance_sql())
            .bind(instance.to_owned())
            .bind(id)
            .bind(target)
            .bind(of)
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        let last = rows.last().filter(|_| rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((self.read_undamaged(&rows, read)?, last.map(read_cursor).transpose()?))
    }
}

fn read_cursor(row: &AnyRow) -> Result<DeliveryCursor, StoreError> {
    let record = RowReader::new(row, TABLE);
    let (target, instance) = (record.text("target")?, record.text("instance")?);
    Ok(DeliveryCursor { id: record.parsed("auto_certificate_id")?, target, instance })
}

impl Store {
    /// Makes the deliveries of an auto-certificate due, as part of the transaction that gives it a certificate.
    pub(in crate::store) async fn wake_deliveries(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
    ) -> Result<(), StoreError> {
        self.query(WAKE).bind(id.to_string()).bind(self.now().micros()).execute(&mut **transaction).await?;
        Ok(())
    }

    async fn read_delivery_claim(
        &self,
        transaction: &mut Transaction,
        claimed: &AnyRow,
    ) -> Result<DeliveryClaim, StoreError> {
        let record = RowReader::new(claimed, TABLE);
        let lease = DeliveryLease {
            id: record.parsed("id")?,
            epoch: record.number("lease_epoch")?,
            wakes: record.number("wakes")?,
        };
        let row = self.query(get_sql()).bind(lease.id.to_string()).fetch_one(&mut **transaction).await?;
        Ok(DeliveryClaim { row: read(&row)?, lease })
    }
}

fn read(row: &AnyRow) -> Result<DeliveryRow, StoreError> {
    let record = RowReader::new(row, TABLE);
    let common_name: RequestedName = record.parsed("common_name")?;
    let further = record.texts::<RequestedName>("subject_alternative_names")?;
    let receipt = record.optional_text("receipt")?.map(|text| serde_json::from_str(&text)).transpose();
    Ok(DeliveryRow {
        id: record.parsed("id")?,
        target: record.parsed("target")?,
        instance: record.text("instance")?,
        label: record.text("label")?,
        auto_certificate: record.parsed("auto_certificate_id")?,
        name: record.name("name")?,
        key: record.optional_parsed("declared_key")?,
        names: std::iter::once(&common_name).chain(&further).map(|name| name.name().clone()).collect(),
        standing: DeliveryFacts {
            newest: read_deliverable(&record, "newest_id", "newest_created_at", "newest_not_after")?,
            delivered: read_deliverable(&record, "certificate_id", "certificate_created_at", "certificate_not_after")?,
            delivered_revoked: record.flag("delivered_revoked")?,
            settings_changed: false,
            failure_streak: record.failure_streak("trouble")?,
            deleted: record.optional_moment("deleted_at")?.is_some(),
        },
        settings: record.text("settings")?,
        receipt: receipt.map_err(|error| record.corrupt("receipt", error))?,
        runs: record.count("runs")?,
        running: record.flag("running")?,
        next_check: record.moment("next_look")?,
    })
}

fn read_deliverable(
    record: &RowReader<'_>,
    id: &'static str,
    created: &'static str,
    not_after: &'static str,
) -> Result<Option<DeliverableCertificate>, StoreError> {
    let Some(id) = record.optional_parsed::<CertificateId>(id)? else { return Ok(None) };
    Ok(Some(DeliverableCertificate { id, created: record.moment(created)?, not_after: record.moment(not_after)? }))
}

fn get_sql() -> String {
    format!("{SELECT} WHERE d.id = $1")
}

pub(in crate::store) fn by_auto_certificates_sql() -> String {
    format!(
        "{SELECT} WHERE d.auto_certificate_id IN (SELECT value FROM @listed1) AND d.instance IN ($2, '') \
         ORDER BY d.auto_certificate_id, d.target, d.instance"
    )
}

pub(in crate::store) fn by_instance_sql() -> String {
    format!(
        "{SELECT} WHERE d.instance IN ($1, '') AND a.deleted_at IS NULL \
         AND (d.auto_certificate_id, d.target, d.instance) > ($2, $3, $4) \
         ORDER BY d.auto_certificate_id, d.target, d.instance LIMIT $5"
    )
}

const TABLE: &str = "deliveries";
const SELECT: &str = concat!(
    "SELECT d.id, d.auto_certificate_id, d.target, d.instance, d.label, d.settings, d.certificate_id, \
     d.certificate_created_at, d.certificate_not_after, d.receipt, d.trouble, d.runs, d.next_look, \
     CASE WHEN d.lease_until > @now THEN 1 ELSE 0 END AS running, \
     CASE WHEN EXISTS (SELECT 1 FROM certificates r WHERE r.id = d.certificate_id AND r.revocation IS NOT NULL) \
     THEN 1 ELSE 0 END AS delivered_revoked, \
     a.name, a.declared_key, a.common_name, a.subject_alternative_names, a.deleted_at, ",
    newest!("id"),
    " AS newest_id, ",
    newest!("created_at"),
    " AS newest_created_at, ",
    newest!("not_after"),
    " AS newest_not_after FROM deliveries d JOIN auto_certificates a ON a.id = d.auto_certificate_id"
);
/// What is in trouble is carried out whole, as under other settings: a look would find the files of a try whose hook failed.
pub(in crate::store) const REQUEST_DELIVERIES: &str = "\
    UPDATE deliveries SET next_look = $2, wakes = wakes + 1, trouble = NULL, \
    settings = CASE WHEN trouble IS NULL THEN settings ELSE '' END \
    WHERE id IN \
    (SELECT id FROM deliveries WHERE auto_certificate_id IN (SELECT value FROM @listed1)@in_order)";
/// The lease is asked for twice: between the look and the write another session may have claimed the row.
pub(in crate::store) const CLAIM_DUE: &str = concat!(
    "WITH due AS MATERIALIZED (SELECT id FROM deliveries WHERE target = $2 AND instance = $3 AND next_look <= $4 AND ",
    free!(),
    " ORDER BY COALESCE(certificate_not_after, 0), next_look LIMIT $5) ",
    "UPDATE deliveries SET lease_owner = $1, lease_epoch = lease_epoch + 1, lease_until = @now + @lease ",
    "WHERE id IN (SELECT id FROM deliveries WHERE id IN (SELECT id FROM due)@in_order) AND ",
    free!(),
    " RETURNING id, lease_epoch, wakes"
);
const RECORD_DELIVERED: &str = "\
    UPDATE deliveries SET certificate_id = $4, certificate_created_at = $5, certificate_not_after = $6, \
    delivered_at = $7, settings = $8, receipt = $9, trouble = NULL \
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
pub(in crate::store) const WAKE: &str = "\
    UPDATE deliveries SET next_look = $2, wakes = wakes + 1 \
    WHERE id IN (SELECT id FROM deliveries WHERE auto_certificate_id = $1@in_order)";
const WAKE_TARGET: &str = "\
    UPDATE deliveries SET next_look = $3, wakes = wakes + 1, trouble = NULL, \
    settings = CASE WHEN trouble IS NULL THEN settings ELSE '' END \
    WHERE id IN (SELECT id FROM deliveries WHERE target = $1 AND instance = $2@in_order)";
const RELEASE: &str = "\
    UPDATE deliveries SET lease_owner = NULL, lease_until = NULL, runs = runs + 1, \
    next_look = CASE WHEN wakes = $4 THEN $5 ELSE $6 END \
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
pub(in crate::store) const EARLIEST: &str = concat!(
    "SELECT id, next_look FROM deliveries WHERE target = $1 AND instance = $2 AND ",
    free!(),
    " ORDER BY next_look LIMIT 1"
);
