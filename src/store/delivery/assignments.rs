//! Which auto-certificate is delivered where: the rows of deliveries follow what the settings declare.

use std::collections::{HashMap, HashSet};

use sqlx::any::AnyRow;

use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::label;
use crate::domain::value::id::{AutoCertificateId, DeliveryId};
use crate::domain::value::name::{DnsName, RequestedName};
use crate::domain::value::resource::ResourceName;
use crate::store::database::Transaction;
use crate::store::database::dialect::Dialect;
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{Store, StoreError};

/// A target whose rows are to be brought in line.
pub struct AssignmentTarget<'a> {
    /// The key of the declared delivery.
    pub key: &'a DeclaredKey,
    /// Whose rows; empty for what is delivered once per fleet.
    pub instance: &'a str,
    /// Where labels become names of folders or Secrets: targets of one place share them. `None` where labels name nothing.
    pub place: Option<&'a str>,
    /// Whether an auto-certificate is delivered there.
    pub accepts: &'a (dyn Fn(&AssignmentCandidate) -> bool + Send + Sync),
}

/// What a delivery goes by when it says which auto-certificates it is for.
#[derive(Clone, Debug)]
pub struct AssignmentCandidate {
    /// The auto-certificate.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: ResourceName,
    /// Its key, where the settings declare it.
    pub key: Option<DeclaredKey>,
    /// Its common name.
    pub common_name: RequestedName,
    /// All its names, the common name first.
    pub names: Vec<DnsName>,
}

/// All auto-certificates that are not deleted.
struct Candidates {
    /// In the order of their making.
    readable: Vec<AssignmentCandidate>,
    /// Nobody knows whether these are still wanted: what they have stays.
    damaged: HashSet<AutoCertificateId>,
}

/// A target with what it has and what it wants.
struct Assignment<'a> {
    target: &'a AssignmentTarget<'a>,
    present: Vec<AssignedRow>,
    /// In the order of their making.
    wanted: Vec<&'a AssignmentCandidate>,
}

/// What becomes of the rows of targets that are not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// They are removed: the settings are whole.
    Remove,
    /// They stay: a file of the settings is missing, which may declare them.
    Keep,
}

/// A row that is there.
struct AssignedRow {
    id: DeliveryId,
    auto_certificate: AutoCertificateId,
    label: String,
}

impl Store {
    /// A number that changes whenever auto-certificates come, go or get another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates_version(&self) -> Result<i64, StoreError> {
        let row =
            self.query("SELECT id, taken FROM locks WHERE id = 'auto-certificates'").fetch_one(&self.0.pool).await?;
        RowReader::new(&row, "locks").number("taken")
    }

    /// Gives each target a row for each auto-certificate that it wants, and takes away what it wants no longer, as well as
    /// what this instance has at `others`. Rows of instances that have not been there for a month go too.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sync_deliveries(
        &self,
        instance: &str,
        targets: &[AssignmentTarget<'_>],
        others: Undeclared,
    ) -> Result<(), StoreError> {
        // Rows of several statements cannot all be locked in one order.
        self.retry_deadlocks(|| Box::pin(self.sync_deliveries_once(instance, targets, others))).await
    }

    async fn sync_deliveries_once(
        &self,
        instance: &str,
        targets: &[AssignmentTarget<'_>],
        others: Undeclared,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        if others == Undeclared::Remove {
            self.remove_undeclared(&mut transaction, instance, targets).await?;
        }
        if let Some(until) = self.0.clock.deletable_until() {
            let long_ago = (until - MAX_INSTANCE_ABSENCE).micros();
            self.query(FORGET).bind(instance.to_owned()).bind(long_ago).execute(&mut *transaction).await?;
        }
        let candidates = self.load_candidates(&mut transaction).await?;
        let mut assignments = Vec::with_capacity(targets.len());
        for target in targets {
            assignments.push(self.assignment(&mut transaction, target, &candidates).await?);
        }
        let mut labels = Labels::default();
        // All declared ones first, whichever target they are of.
        for assignment in &assignments {
            labels.reserve_declared(assignment);
        }
        for assignment in &assignments {
            labels.reserve_present(assignment);
        }
        for assignment in &assignments {
            self.make_rows(&mut transaction, assignment, &mut labels).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// A target of the fleet that is not declared here may be declared elsewhere, unless the database is a file.
    async fn remove_undeclared(
        &self,
        transaction: &mut Transaction,
        instance: &str,
        targets: &[AssignmentTarget<'_>],
    ) -> Result<(), StoreError> {
        let fleet = if self.0.dialect == Dialect::Sqlite { "" } else { instance };
        for own in [instance, fleet] {
            let rows = self.query(TARGETS).bind(own.to_owned()).fetch_all(&mut **transaction).await?;
            let mut undeclared = Vec::new();
            for row in &rows {
                let target = RowReader::new(row, "deliveries").text("target")?;
                if !targets.iter().any(|declared| declared.key.as_str() == target && declared.instance == own) {
                    undeclared.push(target);
                }
            }
            if !undeclared.is_empty() {
                let undeclared = documents::texts_to_json(undeclared.into_iter());
                self.query(REMOVE_TARGETS).bind(undeclared).bind(own.to_owned()).execute(&mut **transaction).await?;
            }
        }
        Ok(())
    }

    /// What a target wants and has; what it wants no longer is removed.
    async fn assignment<'a>(
        &self,
        transaction: &mut Transaction,
        target: &'a AssignmentTarget<'a>,
        candidates: &'a Candidates,
    ) -> Result<Assignment<'a>, StoreError> {
        let Candidates { readable, damaged } = candidates;
        let wanted: Vec<&AssignmentCandidate> = readable.iter().filter(|entry| (target.accepts)(entry)).collect();
        let ids: HashSet<AutoCertificateId> = wanted.iter().map(|entry| entry.id).collect();
        let (present, unwanted): (Vec<_>, Vec<_>) = self
            .load_assigned(transaction, target)
            .await?
            .into_iter()
            .partition(|row| ids.contains(&row.auto_certificate) || damaged.contains(&row.auto_certificate));
        for row in &unwanted {
            self.remove_delivery(transaction, row).await?;
        }
        warn_of_unwanted(target, &unwanted, readable);
        Ok(Assignment { target, present, wanted })
    }

    async fn make_rows(
        &self,
        transaction: &mut Transaction,
        assignment: &Assignment<'_>,
        labels: &mut Labels,
    ) -> Result<(), StoreError> {
        let Assignment { target, present, wanted } = assignment;
        let place = place_of(target);
        let mut served = HashSet::new();
        for row in present {
            if labels.is_free(&place, &row.label, row.auto_certificate) {
                served.insert(row.auto_certificate);
            } else {
                self.remove_delivery(transaction, row).await?;
            }
        }
        for entry in wanted.iter().filter(|entry| !served.contains(&entry.id)) {
            let label = labels.take(&place, entry);
            self.insert_delivery(transaction, target, entry.id, &label).await?;
        }
        Ok(())
    }

    async fn remove_delivery(&self, transaction: &mut Transaction, row: &AssignedRow) -> Result<(), StoreError> {
        let remove = "DELETE FROM deliveries WHERE id = $1";
        self.query(remove).bind(row.id.to_string()).execute(&mut **transaction).await?;
        Ok(())
    }

    async fn load_candidates(&self, transaction: &mut Transaction) -> Result<Candidates, StoreError> {
        let rows = self.query(CANDIDATES).fetch_all(&mut **transaction).await?;
        let read = |row: &AnyRow| {
            let record = RowReader::new(row, "auto_certificates");
            let common_name: RequestedName = record.parsed("common_name")?;
            let further = record.texts::<RequestedName>("subject_alternative_names")?;
            Ok(AssignmentCandidate {
                id: record.parsed("id")?,
                name: record.name("name")?,
                key: record.optional_parsed("declared_key")?,
                names: std::iter::once(&common_name).chain(&further).map(|name| name.name().clone()).collect(),
                common_name,
            })
        };
        let readable = self.read_undamaged(&rows, read)?;
        let read_ids: HashSet<AutoCertificateId> = readable.iter().map(|candidate| candidate.id).collect();
        let ids = rows.iter().filter_map(|row| RowReader::new(row, "auto_certificates").parsed("id").ok());
        let damaged = ids.filter(|id| !read_ids.contains(id)).collect();
        Ok(Candidates { readable, damaged })
    }

    async fn load_assigned(
        &self,
        transaction: &mut Transaction,
        target: &AssignmentTarget<'_>,
    ) -> Result<Vec<AssignedRow>, StoreError> {
        let rows = self
            .query(ASSIGNED)
            .bind(target.key.to_string())
            .bind(target.instance.to_owned())
            .fetch_all(&mut **transaction)
            .await?;
        let read = |row: &AnyRow| {
            let record = RowReader::new(row, "deliveries");
            let (id, auto_certificate) = (record.parsed("id")?, record.parsed("auto_certificate_id")?);
            Ok(AssignedRow { id, auto_certificate, label: record.text("label")? })
        };
        self.read_undamaged(&rows, read)
    }

    async fn insert_delivery(
        &self,
        transaction: &mut Transaction,
        target: &AssignmentTarget<'_>,
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

/// Which label belongs to which auto-certificate, for each place.
#[derive(Default)]
struct Labels(HashMap<(String, String), AutoCertificateId>);

impl Labels {
    /// In a place of files or Secrets the key of a declared auto-certificate is its own: one that the API made with that
    /// common name does not come before it.
    fn reserve_declared(&mut self, Assignment { target, present, wanted }: &Assignment<'_>) {
        let place = place_of(target);
        let labelled: HashMap<AutoCertificateId, &str> =
            present.iter().map(|row| (row.auto_certificate, row.label.as_str())).collect();
        let declared = wanted.iter().filter_map(|entry| Some((entry.id, entry.key.as_ref()?)));
        for (id, key) in declared.filter(|_| target.place.is_some()) {
            let label = labelled.get(&id).copied().unwrap_or(key.as_str());
            self.0.entry((place.clone(), label.to_owned())).or_insert(id);
        }
    }

    fn reserve_present(&mut self, Assignment { target, present, .. }: &Assignment<'_>) {
        let place = place_of(target);
        for row in present {
            self.0.entry((place.clone(), row.label.clone())).or_insert(row.auto_certificate);
        }
    }

    fn is_free(&self, place: &str, label: &str, id: AutoCertificateId) -> bool {
        self.0.get(&(place.to_owned(), label.to_owned())).is_none_or(|owner| *owner == id)
    }

    /// A label for a new row: the usual one, else one with the identity in it.
    fn take(&mut self, place: &str, entry: &AssignmentCandidate) -> String {
        let usual = label(entry.key.as_ref(), entry.common_name.name());
        let with_id = format!("{usual}-{}", entry.id);
        // Somebody may have a common name that looks like this.
        let numbered = (2..).map(|number: u64| format!("{with_id}-{number}"));
        let mut candidates = [usual, with_id.clone()].into_iter().chain(numbered);
        let free = candidates.find(|label| self.is_free(place, label, entry.id)).unwrap_or(with_id);
        self.0.insert((place.to_owned(), free.clone()), entry.id);
        free
    }
}

/// Targets without a place are by themselves.
fn place_of(target: &AssignmentTarget<'_>) -> String {
    target.place.map_or_else(|| format!("target {}", target.key), |place| format!("place {place}"))
}

fn warn_of_unwanted(target: &AssignmentTarget<'_>, unwanted: &[AssignedRow], candidates: &[AssignmentCandidate]) {
    let ids: HashSet<AutoCertificateId> = unwanted.iter().map(|row| row.auto_certificate).collect();
    let left: Vec<&AssignmentCandidate> = candidates.iter().filter(|entry| ids.contains(&entry.id)).collect();
    for entry in left.iter().take(MOST_WARNINGS) {
        tracing::warn!(
            delivery = %target.key, auto_certificate = %entry.id, name = %entry.name,
            "the delivery's match no longer takes this auto-certificate: what was delivered stays, and is not replaced any more"
        );
    }
    if let Some(more @ 1..) = left.len().checked_sub(MOST_WARNINGS) {
        tracing::warn!(delivery = %target.key, more, "the delivery's match no longer takes further auto-certificates");
    }
}

const MOST_WARNINGS: usize = 20;
const CANDIDATES: &str = "\
    SELECT id, name, declared_key, common_name, subject_alternative_names FROM auto_certificates WHERE deleted_at IS NULL ORDER BY created_at, id";
pub(in crate::store) const REMOVE_TARGETS: &str = "\
    DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
    WHERE target IN (SELECT value FROM @listed1) AND instance = $2@in_order)";
const TARGETS: &str = "SELECT DISTINCT target FROM deliveries WHERE instance = $1";
pub(in crate::store) const ASSIGNED: &str =
    "SELECT id, auto_certificate_id, label FROM deliveries WHERE target = $1 AND instance = $2 ORDER BY id";
/// Someone else of the fleet may have been faster.
const INSERT: &str = "\
    INSERT INTO deliveries (id, auto_certificate_id, target, instance, label, settings, runs, wakes, next_look, \
    lease_epoch) VALUES ($1, $2, $3, $4, $5, '', 0, 0, $6, 0) ON CONFLICT DO NOTHING";
/// An instance that serves none of its rows for so long is taken as gone.
const MAX_INSTANCE_ABSENCE: time::Duration = time::Duration::days(30);
/// Whoever serves a row looks at it once a day. Never one's own: after a long absence they are taken up as they are.
pub(in crate::store) const FORGET: &str = "\
    DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
    WHERE next_look < $2 AND lease_owner IS NULL AND instance <> '' AND instance <> $1@in_order)";
