//! Work on auto-certificates: what is due, who claims it, and how it is given back.

use crate::store::database::Transaction;
use sqlx::any::AnyRow;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Disposition;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::auto_certificates::{self, TABLE, newest};
use crate::store::database::lease::{check_fence, free};
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{AutoCertificateLease, Store, StoreError};

/// An auto-certificate that was claimed for work.
#[derive(Clone, Debug)]
pub struct ClaimedAutoCertificate {
    /// How it stands; `running` says that this very claim is at work.
    pub auto_certificate: AutoCertificate,
    /// The right to work on it.
    pub lease: AutoCertificateLease,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It came to its end, well or not; those who follow see it counted.
    Finished,
    /// It was broken off (the program stops) or found nothing to do, and does not count.
    Interrupted,
}

impl Store {
    /// At most [`MAX_DUE`] of what is due at `now` and not being worked on, the most urgent first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due_auto_certificates(&self, now: Moment) -> Result<Vec<AutoCertificateId>, StoreError> {
        let rows = self.query(DUE).bind(now.micros()).bind(MAX_DUE).fetch_all(&self.0.pool).await?;
        self.read_undamaged(&rows, |row| RowReader::new(row, TABLE).parsed("id"))
    }

    /// The auto-certificates with an attempt that is being worked on right now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates_at_work(&self) -> Result<Vec<AutoCertificateId>, StoreError> {
        let rows = self.query(AT_WORK).bind(MAX_DUE).fetch_all(&self.0.pool).await?;
        self.read_undamaged(&rows, |row| RowReader::new(row, TABLE).parsed("id"))
    }

    /// Claims this one, due or not; nothing where it is being worked on or left no trace.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim(&self, id: AutoCertificateId) -> Result<Option<ClaimedAutoCertificate>, StoreError> {
        let mut transaction = self.begin().await?;
        let row = self
            .query(CLAIM)
            .bind(self.0.instance.clone())
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let claim = self.read_claim(&mut transaction, &row).await?;
        transaction.commit().await?;
        Ok(Some(claim))
    }

    /// How the claimed auto-certificate stands by now.
    ///
    /// # Errors
    /// [`StoreError::LostLease`] where it is gone, or where the database fails.
    pub async fn claimed_auto_certificate(&self, lease: &AutoCertificateLease) -> Result<AutoCertificate, StoreError> {
        let row =
            self.query(auto_certificates::get_sql()).bind(lease.id.to_string()).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(auto_certificates::read).transpose()?.ok_or(StoreError::LostLease)
    }

    /// Gives the lease back and says when to look again, at most a day ahead: at once where it was
    /// woken since the claim.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn release_auto_certificate(
        &self,
        lease: &AutoCertificateLease,
        next_look: Moment,
        run: RunOutcome,
    ) -> Result<(), StoreError> {
        let released = self
            .query(RELEASE)
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .bind(i64::from(run == RunOutcome::Finished))
            .bind(lease.wakes)
            .bind(next_look.min(self.now() + MAX_PLANNED_AHEAD).micros())
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        check_fence(released.rows_affected())
    }

    /// Looks again at what is planned so far ahead that only a clock which was ahead can have planned it, or where the clock
    /// was `set_back` just now, at everything; says how many rows that were.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn repair_next_checks(&self, now: Moment, set_back: bool) -> Result<u64, StoreError> {
        let mut mended = 0;
        for (look_ahead, find, mend) in REPAIRS {
            let beyond = if set_back { now } else { now + look_ahead + time::Duration::HOUR };
            let found = self.query(find).bind(beyond.micros()).fetch_optional(&self.0.pool).await?;
            if found.is_some() {
                let written = self.query(mend).bind(beyond.micros()).bind(now.micros()).execute(&self.0.pool).await?;
                mended += written.rows_affected();
            }
        }
        Ok(mended)
    }

    /// Forgets the troubles that wait for a person, who may just have acted, and makes their rows due; says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recheck_operator_failures(&self) -> Result<u64, StoreError> {
        let mut waiting = self.recheck_revocations().await?;
        for (table, troubled, forget) in FAILURE_STREAKS {
            for row in self.query(troubled).fetch_all(&self.0.pool).await? {
                let record = RowReader::new(&row, table);
                let trouble = self.ok_unless_damaged(record.failure_streak("trouble"))?.flatten();
                if trouble.is_some_and(|trouble| trouble.last.disposition == Disposition::Operator) {
                    let id = record.text("id")?;
                    let forgotten = self.query(forget).bind(id).bind(self.now().micros()).execute(&self.0.pool).await?;
                    waiting += forgotten.rows_affected();
                }
            }
        }
        Ok(waiting)
    }

    /// Notes what went wrong.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_failure_streak(
        &self,
        lease: &AutoCertificateLease,
        trouble: &FailureStreak,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.write_failure_streak(&mut transaction, lease, trouble).await?;
        Ok(transaction.commit().await?)
    }

    /// Takes the wish for a renewal as heard, where an open attempt that fulfils it is resumed.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn clear_renewal_request(&self, lease: &AutoCertificateLease) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.clear_renewal_request_in(&mut transaction, lease).await?;
        Ok(transaction.commit().await?)
    }

    /// Removes the last trace of a deleted auto-certificate. Its certificates stay until they expire.
    ///
    /// # Errors
    /// [`StoreError::RecordsRemaining`] where its journal is not empty or it is not deleted, [`StoreError::LostLease`], or
    /// where the database fails.
    pub async fn purge_auto_certificate(&self, lease: &AutoCertificateLease) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let left = self.query(STILL_NEEDED).bind(lease.id.to_string()).fetch_optional(&mut *transaction).await?;
        if left.is_some() {
            return Err(StoreError::RecordsRemaining);
        }
        for statement in PURGE {
            self.query(statement).bind(lease.id.to_string()).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}

impl Store {
    /// Takes the wish for a renewal as heard; the caller holds the lease.
    pub(in crate::store) async fn clear_renewal_request_in(
        &self,
        transaction: &mut Transaction,
        lease: &AutoCertificateLease,
    ) -> Result<(), StoreError> {
        self.query("UPDATE auto_certificates SET renewal_requested = 0 WHERE id = $1")
            .bind(lease.id.to_string())
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    /// Writes a trouble down; the caller holds the lease. What was tried is held back no longer.
    pub(in crate::store) async fn write_failure_streak(
        &self,
        transaction: &mut Transaction,
        lease: &AutoCertificateLease,
        trouble: &FailureStreak,
    ) -> Result<(), StoreError> {
        self.query("UPDATE auto_certificates SET trouble = $2, held_until = NULL, held_by = NULL WHERE id = $1")
            .bind(lease.id.to_string())
            .bind(documents::failure_streak_to_json(trouble))
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    async fn read_claim(
        &self,
        transaction: &mut Transaction,
        claimed: &AnyRow,
    ) -> Result<ClaimedAutoCertificate, StoreError> {
        let record = RowReader::new(claimed, TABLE);
        let lease = AutoCertificateLease {
            id: record.parsed("id")?,
            epoch: record.number("lease_epoch")?,
            wakes: record.number("wakes")?,
        };
        let row =
            self.query(auto_certificates::get_sql()).bind(lease.id.to_string()).fetch_one(&mut **transaction).await?;
        Ok(ClaimedAutoCertificate { auto_certificate: auto_certificates::read(&row)?, lease })
    }
}

/// Everything is looked at once a day at least, so that a clock that was wrong for a while cannot put a renewal off.
pub(in crate::store) const MAX_PLANNED_AHEAD: time::Duration = time::Duration::DAY;

/// A deploy window opens at least once a week, give or take the hour of summer time.
pub(in crate::store) const MAX_WINDOW_WAIT: time::Duration = time::Duration::days(8);

/// How far ahead rows may be planned; is there one beyond that, and what makes them due.
pub(in crate::store) const REPAIRS: [(time::Duration, &str, &str); 5] = [
    (
        MAX_PLANNED_AHEAD,
        "SELECT id FROM auto_certificates WHERE next_look > $1 LIMIT 1",
        "UPDATE auto_certificates SET next_look = $2, held_until = NULL, held_by = NULL, wakes = wakes + 1 \
         WHERE id IN (SELECT id FROM auto_certificates WHERE next_look > $1@in_order)",
    ),
    (
        MAX_PLANNED_AHEAD,
        "SELECT id FROM providers WHERE next_look > $1 AND trouble IS NOT NULL LIMIT 1",
        "UPDATE providers SET next_look = $2, trouble = NULL WHERE id IN (SELECT id FROM providers WHERE next_look > $1@in_order)",
    ),
    (
        MAX_WINDOW_WAIT,
        "SELECT id FROM deliveries WHERE next_look > $1 LIMIT 1",
        "UPDATE deliveries SET next_look = $2, wakes = wakes + 1 WHERE id IN (SELECT id FROM deliveries WHERE next_look > $1@in_order)",
    ),
    (
        MAX_PLANNED_AHEAD,
        "SELECT id FROM certificates WHERE revocation_look > $1 LIMIT 1",
        "UPDATE certificates SET revocation_look = $2 WHERE id IN (SELECT id FROM certificates WHERE revocation_look > $1@in_order)",
    ),
    (
        MAX_PLANNED_AHEAD,
        "SELECT id FROM challenge_records WHERE next_try > $1 LIMIT 1",
        "UPDATE challenge_records SET next_try = $2 WHERE id IN (SELECT id FROM challenge_records WHERE next_try > $1@in_order)",
    ),
];

/// Rows in trouble, and what makes one of them due without it.
const FAILURE_STREAKS: [(&str, &str, &str); 3] = [
    (
        TABLE,
        "SELECT id, trouble FROM auto_certificates WHERE trouble IS NOT NULL AND deleted_at IS NULL",
        "UPDATE auto_certificates SET trouble = NULL, next_look = $2, wakes = wakes + 1 WHERE id = $1",
    ),
    (
        "providers",
        "SELECT id, trouble FROM providers WHERE trouble IS NOT NULL",
        "UPDATE providers SET trouble = NULL, next_look = $2 WHERE id = $1",
    ),
    (
        "deliveries",
        "SELECT id, trouble FROM deliveries WHERE trouble IS NOT NULL",
        "UPDATE deliveries SET trouble = NULL, settings = '', next_look = $2, wakes = wakes + 1 WHERE id = $1",
    ),
];

/// The most urgent first: without a certificate, then the least time left.
macro_rules! urgency {
    () => {
        concat!("COALESCE(", newest!("not_after"), ", 0), a.next_look, a.id")
    };
}

pub(in crate::store) const DUE: &str = concat!(
    "SELECT a.id FROM auto_certificates a WHERE a.next_look <= $1 AND ",
    free!(),
    " ORDER BY ",
    urgency!(),
    " LIMIT $2"
);
pub(in crate::store) const AT_WORK: &str = "\
    SELECT a.id FROM auto_certificates a WHERE a.lease_owner > '' AND a.lease_until > @now AND EXISTS \
    (SELECT 1 FROM attempts o WHERE o.auto_certificate_id = a.id AND o.ended_at IS NULL) ORDER BY a.lease_owner, a.id LIMIT $1";
/// As many are listed at once; whoever works them off asks again.
pub const MAX_DUE: i64 = 10_000;
const CLAIM: &str = concat!(
    "UPDATE auto_certificates SET lease_owner = $1, lease_epoch = lease_epoch + 1, lease_until = @now + @lease ",
    "WHERE id = $2 AND ",
    free!(),
    " RETURNING id, lease_epoch, wakes"
);
const RELEASE: &str = "\
    UPDATE auto_certificates SET lease_owner = NULL, lease_until = NULL, runs = runs + $4, \
    next_look = CASE WHEN wakes = $5 THEN $6 ELSE $7 END \
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
/// What keeps the last trace: a record of the journal, or that it is not deleted at all.
const STILL_NEEDED: &str = "\
    SELECT id FROM auto_certificates WHERE id = $1 AND (deleted_at IS NULL OR EXISTS \
    (SELECT 1 FROM challenge_records r WHERE r.auto_certificate_id = auto_certificates.id))";
const PURGE: [&str; 3] = [
    "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE auto_certificate_id = $1@in_order)",
    "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE auto_certificate_id = $1@in_order)",
    "DELETE FROM auto_certificates WHERE id = $1",
];
