//! Which auto-certificate is delivered where: the rows of deliveries follow what the settings declare.

use std::collections::{HashMap, HashSet};

use sqlx::any::AnyRow;

use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::label;
use crate::domain::id::{AutoCertificateId, DeliveryId};
use crate::domain::name::RequestedName;
use crate::domain::resource::ResourceName;
use crate::store::database::Transaction;
use crate::store::dialect::Dialect;
use crate::store::documents;
use crate::store::row::Record;
use crate::store::{Store, StoreError};

/// A target whose rows are to be brought in line.
pub struct RosterTarget<'a> {
    /// The key of the declared delivery.
    pub key: &'a DeclaredKey,
    /// Whose rows; empty for what is delivered once per fleet.
    pub instance: &'a str,
    /// Whether an auto-certificate is delivered there.
    pub wants: &'a (dyn Fn(&RosterEntry) -> bool + Send + Sync),
}

/// What a delivery goes by when it says which auto-certificates it is for.
#[derive(Clone, Debug)]
pub struct RosterEntry {
    /// The auto-certificate.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: ResourceName,
    /// Its key, where the settings declare it.
    pub key: Option<DeclaredKey>,
    /// Its common name.
    pub common_name: RequestedName,
}

/// A row that is there.
struct Present {
    id: DeliveryId,
    auto_certificate: AutoCertificateId,
    label: String,
}

impl Store {
    /// A number that changes whenever auto-certificates come, go or get another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn roster_version(&self) -> Result<i64, StoreError> {
        let row =
            self.query("SELECT id, taken FROM locks WHERE id = 'auto-certificates'").fetch_one(&self.0.pool).await?;
        Record::new(&row, "locks").number("taken")
    }

    /// Gives each target a row for each auto-certificate that it wants, and takes away what it wants no longer, as well as
    /// what this instance has at other targets. Rows of instances that have not been there for a month go too.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sync_deliveries(&self, instance: &str, targets: &[RosterTarget<'_>]) -> Result<(), StoreError> {
        // Rows of several statements cannot all be locked in one order.
        self.retrying(|| Box::pin(self.sync_deliveries_once(instance, targets))).await
    }

    async fn sync_deliveries_once(&self, instance: &str, targets: &[RosterTarget<'_>]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.remove_undeclared(&mut transaction, instance, targets).await?;
        if let Some(until) = self.0.clock.deletable_until() {
            let long_ago = (until - LONGEST_ABSENCE).micros();
            self.query(FORGET).bind(instance.to_owned()).bind(long_ago).execute(&mut *transaction).await?;
        }
        let roster = self.roster(&mut transaction).await?;
        for target in targets {
            self.sync_target(&mut transaction, target, &roster).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// A target of the fleet that is not declared here may be declared elsewhere, unless the database is a file.
    async fn remove_undeclared(
        &self,
        transaction: &mut Transaction,
        instance: &str,
        targets: &[RosterTarget<'_>],
    ) -> Result<(), StoreError> {
        let fleet = if self.0.dialect == Dialect::Sqlite { "" } else { instance };
        for own in [instance, fleet] {
            let rows = self.query(TARGETS).bind(own.to_owned()).fetch_all(&mut **transaction).await?;
            let mut undeclared = Vec::new();
            for row in &rows {
                let target = Record::new(row, "deliveries").text("target")?;
                if !targets.iter().any(|declared| declared.key.as_str() == target && declared.instance == own) {
                    undeclared.push(target);
                }
            }
            if !undeclared.is_empty() {
                let undeclared = documents::of_texts(undeclared.into_iter());
                self.query(REMOVE_TARGETS).bind(undeclared).bind(own.to_owned()).execute(&mut **transaction).await?;
            }
        }
        Ok(())
    }

    async fn sync_target(
        &self,
        transaction: &mut Transaction,
        target: &RosterTarget<'_>,
        roster: &[RosterEntry],
    ) -> Result<(), StoreError> {
        let present = self.rows_at(transaction, target).await?;
        let wanted: HashMap<AutoCertificateId, &RosterEntry> =
            roster.iter().filter(|entry| (target.wants)(entry)).map(|entry| (entry.id, entry)).collect();
        let mut labels = HashSet::new();
        for row in &present {
            if wanted.contains_key(&row.auto_certificate) {
                labels.insert(row.label.clone());
            } else {
                self.query("DELETE FROM deliveries WHERE id = $1")
                    .bind(row.id.to_string())
                    .execute(&mut **transaction)
                    .await?;
            }
        }
        let served: HashSet<AutoCertificateId> = present.iter().map(|row| row.auto_certificate).collect();
        for entry in roster.iter().filter(|entry| wanted.contains_key(&entry.id) && !served.contains(&entry.id)) {
            let usual = label(entry.key.as_ref(), entry.common_name.name());
            let label = if labels.contains(&usual) { format!("{usual}-{}", entry.id) } else { usual };
            self.insert_delivery(transaction, target, entry.id, &label).await?;
            labels.insert(label);
        }
        Ok(())
    }

    /// All that is not deleted, in the order of its making.
    async fn roster(&self, transaction: &mut Transaction) -> Result<Vec<RosterEntry>, StoreError> {
        let rows = self.query(ROSTER).fetch_all(&mut **transaction).await?;
        let read = |row: &AnyRow| {
            let record = Record::new(row, "auto_certificates");
            Ok(RosterEntry {
                id: record.parsed("id")?,
                name: record.name("name")?,
                key: record.optional_parsed("declared_key")?,
                common_name: record.parsed("common_name")?,
            })
        };
        self.readable(&rows, read)
    }

    async fn rows_at(
        &self,
        transaction: &mut Transaction,
        target: &RosterTarget<'_>,
    ) -> Result<Vec<Present>, StoreError> {
        let rows = self
            .query(PRESENT)
            .bind(target.key.to_string())
            .bind(target.instance.to_owned())
            .fetch_all(&mut **transaction)
            .await?;
        let read = |row: &AnyRow| {
            let record = Record::new(row, "deliveries");
            let (id, auto_certificate) = (record.parsed("id")?, record.parsed("auto_certificate_id")?);
            Ok(Present { id, auto_certificate, label: record.text("label")? })
        };
        self.readable(&rows, read)
    }

    async fn insert_delivery(
        &self,
        transaction: &mut Transaction,
        target: &RosterTarget<'_>,
        auto_certificate: AutoCertificateId,
        label: &str,
    ) -> Result<(), StoreError> {
        self.query(INSERT)
            .bind(self.0.randomness.uuid().to_string())
            .bind(auto_certificate.to_string())
            .bind(target.key.to_string())
            .bind(target.instance.to_owned())
            .bind(label.to_owned())
            .bind(self.now().micros())
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }
}

const ROSTER: &str = "\
    SELECT id, name, declared_key, common_name FROM auto_certificates WHERE deleted_at IS NULL ORDER BY created_at, id";
pub(super) const REMOVE_TARGETS: &str = "\
    DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
    WHERE target IN (SELECT value FROM @listed1) AND instance = $2@in_order)";
const TARGETS: &str = "SELECT DISTINCT target FROM deliveries WHERE instance = $1";
pub(super) const PRESENT: &str =
    "SELECT id, auto_certificate_id, label FROM deliveries WHERE target = $1 AND instance = $2 ORDER BY id";
/// Someone else of the fleet may have been faster.
const INSERT: &str = "\
    INSERT INTO deliveries (id, auto_certificate_id, target, instance, label, settings, runs, wakes, next_look, \
    lease_epoch) VALUES ($1, $2, $3, $4, $5, '', 0, 0, $6, 0) ON CONFLICT DO NOTHING";
/// An instance that serves none of its rows for so long is taken as gone.
const LONGEST_ABSENCE: time::Duration = time::Duration::days(30);
/// Whoever serves a row looks at it once a day. Never one's own: after a long absence they are taken up as they are.
pub(super) const FORGET: &str = "\
    DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
    WHERE next_look < $2 AND lease_owner IS NULL AND instance <> '' AND instance <> $1@in_order)";
