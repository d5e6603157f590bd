//! What people ask of renewals: that one be made, and how it goes.

use std::collections::HashMap;

use sqlx::any::AnyRow;

use crate::domain::certificate::leaf::Leaf;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::Deferral;
use crate::domain::renewal::attempt::StageKind;
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::domain::value::moment::Moment;
use crate::domain::value::resource::ResourceName;
use crate::store::auto_certificate::auto_certificates::{
    TABLE, newest, open_stage, read_deferral, read_stage, running,
};
use crate::store::database::row::RowReader;
use crate::store::delivery::deliveries::REQUEST_DELIVERIES;
use crate::store::documents;
use crate::store::{Store, StoreError};

/// What became of the wish for a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalRequestOutcome {
    /// It is due now.
    Requested,
    /// An attempt is being worked on right now: follow that one.
    Running,
    /// There is no such auto-certificate.
    Missing,
}

/// How an auto-certificate's renewal goes.
#[derive(Clone, Debug)]
pub struct AutoCertificateProgress {
    /// Which one.
    pub id: AutoCertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Its common name, as it was sent.
    pub common_name: String,
    /// How far the open attempt is, where there is one.
    pub stage: Option<StageKind>,
    /// Whether someone works on it right now.
    pub running: bool,
    /// Whether a renewal was asked for and not begun yet.
    pub renewal_requested: bool,
    /// How many runs have finished; it grows at the end of each.
    pub runs: u64,
    /// What keeps an order back for its provider's sake, by now.
    pub deferral: Option<Deferral>,
    /// What went wrong since the last success.
    pub failure_streak: Option<FailureStreak>,
    /// Its newest certificate.
    pub newest: Option<NewestCertificateSummary>,
    /// Whether it was deleted meanwhile.
    pub deleted: bool,
}

/// What people want to know of the newest certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestCertificateSummary {
    /// Its identity.
    pub id: CertificateId,
    /// Its serial number, as [`crate::domain::certificate::leaf::Leaf`] writes it.
    pub serial_number: String,
    /// Who issued it, as RFC 4514 text.
    pub issuer: String,
    /// The end of its validity.
    pub not_after: Moment,
}

impl Store {
    /// Asks for a new certificate, due or not, and held back or not. While an attempt is being worked on, that one is the
    /// answer; while other work goes on, the wish is heard at its end.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn request_renewal(&self, id: AutoCertificateId) -> Result<RenewalRequestOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        // Waits for a beginning of an attempt that is not committed yet, so that the look below sees it.
        let locked = self.query(LOCK).bind(id.to_string()).execute(&mut *transaction).await?;
        if locked.rows_affected() == 0 {
            return Ok(RenewalRequestOutcome::Missing);
        }
        let requested =
            self.query(REQUEST).bind(id.to_string()).bind(self.now().micros()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(if requested.rows_affected() == 1 {
            RenewalRequestOutcome::Requested
        } else {
            RenewalRequestOutcome::Running
        })
    }

    /// How the renewals of these go, in the same order; those that left no trace are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn progress(&self, ids: &[AutoCertificateId]) -> Result<Vec<AutoCertificateProgress>, StoreError> {
        let rows = self.query(GET).bind(documents::ids_to_json(ids)).fetch_all(&self.0.pool).await?;
        let now = self.now();
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let progress = read(row, now)?;
            found.insert(progress.id, progress);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// Does [`Store::request_renewal`] for all of these in one transaction, and makes their deliveries due, pauses or not.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn request_renewals(&self, ids: &[AutoCertificateId]) -> Result<(), StoreError> {
        let (ids, now) = (documents::ids_to_json(ids), self.now().micros());
        let mut transaction = self.begin().await?;
        for lock in [LOCK_ALL, LOCK_DELIVERIES] {
            self.query(lock).bind(ids.clone()).fetch_all(&mut *transaction).await?;
        }
        for request in [REQUEST_ALL, REQUEST_DELIVERIES] {
            self.query(request).bind(ids.clone()).bind(now).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}

fn read(row: &AnyRow, now: Moment) -> Result<AutoCertificateProgress, StoreError> {
    let record = RowReader::new(row, TABLE);
    Ok(AutoCertificateProgress {
        id: record.parsed("id")?,
        name: record.name("name")?,
        common_name: record.text("common_name")?,
        stage: read_stage(&record)?,
        running: record.flag("running")?,
        renewal_requested: record.flag("renewal_requested")?,
        runs: record.count("runs")?,
        deferral: read_deferral(&record)?.filter(|hold| hold.until > now),
        failure_streak: record.failure_streak("trouble")?,
        newest: read_newest(&record)?,
        deleted: record.optional_moment("deleted_at")?.is_some(),
    })
}

fn read_newest(record: &RowReader<'_>) -> Result<Option<NewestCertificateSummary>, StoreError> {
    let Some(id) = record.optional_parsed("newest_id")? else { return Ok(None) };
    let leaf = Leaf::from_pem(&record.text("newest_certificate")?)
        .map_err(|error| record.corrupt("newest_certificate", error))?;
    Ok(Some(NewestCertificateSummary {
        id,
        serial_number: leaf.serial_number,
        issuer: leaf.issuer,
        not_after: leaf.not_after,
    }))
}

const LOCK: &str = "UPDATE auto_certificates SET wakes = wakes WHERE id = $1 AND deleted_at IS NULL";
/// Not where an attempt is being worked on.
macro_rules! request {
    ($which:literal) => {
        concat!(
            "UPDATE auto_certificates SET renewal_requested = 1, next_look = $2, wakes = wakes + 1, held_until = NULL, \
             held_by = NULL WHERE ",
            $which,
            " AND (lease_until IS NULL OR lease_until <= @now OR NOT EXISTS \
             (SELECT 1 FROM attempts o WHERE o.auto_certificate_id = auto_certificates.id AND o.ended_at IS NULL))"
        )
    };
}
const REQUEST: &str = request!("id = $1");
pub(in crate::store) const REQUEST_ALL: &str = request!(
    "id IN (SELECT id FROM auto_certificates WHERE deleted_at IS NULL AND id IN (SELECT value FROM @listed1)@in_order)"
);
/// Rows are locked in the order of their ids, so that two requests never wait for one another.
pub(in crate::store) const LOCK_ALL: &str = "\
    SELECT id FROM auto_certificates WHERE deleted_at IS NULL AND id IN (SELECT value FROM @listed1)@in_order";
pub(in crate::store) const LOCK_DELIVERIES: &str = "\
    SELECT id FROM deliveries WHERE auto_certificate_id IN (SELECT value FROM @listed1)@in_order";
pub(in crate::store) const GET: &str = concat!(
    "SELECT a.id, a.name, a.common_name, a.renewal_requested, a.runs, a.trouble, a.held_until, a.held_by, a.held_kind, a.deleted_at, ",
    running!(),
    ", ",
    open_stage!(),
    ", ",
    newest!("id"),
    " AS newest_id, ",
    newest!("certificate"),
    " AS newest_certificate FROM @listed1 listed CROSS JOIN auto_certificates a WHERE a.id = listed.value"
);
