//! The journal of challenge records: what was, or may have been, written into the DNS and is to be removed again.

use sqlx::any::AnyRow;
use time::Duration;

use crate::domain::value::id::{AttemptId, AutoCertificateId, ChallengeRecordId};
use crate::domain::value::moment::Moment;
use crate::store::database::row::RowReader;
use crate::store::{AutoCertificateLease, Store, StoreError};

/// A TXT record that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct IntendedRecord<'a> {
    /// Which attempt needs it.
    pub attempt: AttemptId,
    /// The DNS adapter that makes it.
    pub adapter: &'a str,
    /// The zone that it goes to.
    pub zone_id: &'a str,
    /// Its full name.
    pub name: &'a str,
    /// Its text.
    pub content: &'a str,
}

/// A TXT record that shows whether records can be made at all, and is removed again at once.
#[derive(Clone, Copy, Debug)]
pub struct IntendedCanary<'a> {
    /// The DNS adapter that makes it.
    pub adapter: &'a str,
    /// The zone that it goes to.
    pub zone_id: &'a str,
    /// Its full name.
    pub name: &'a str,
    /// Its text.
    pub content: &'a str,
}

/// A TXT record that was, or may have been, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalledRecord {
    /// Its identity here.
    pub id: ChallengeRecordId,
    /// Which auto-certificate it was for; a canary is for none.
    pub auto_certificate: Option<AutoCertificateId>,
    /// Which attempt needed it; a canary belongs to none.
    pub attempt: Option<AttemptId>,
    /// The DNS adapter that made it.
    pub adapter: String,
    /// The zone that it went to.
    pub zone_id: String,
    /// Its identity there, once that is known.
    pub record_id: Option<String>,
    /// Its full name.
    pub name: String,
    /// Its text.
    pub content: String,
    /// How often its removal failed.
    pub failed_removals: u32,
    /// When to try to remove it, once nobody needs it.
    pub next_try: Moment,
    /// Whether an open attempt needs it.
    pub is_needed: bool,
}

/// What becomes of a removal that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalStart {
    /// It may begin.
    Started,
    /// An open attempt needs an equal record: that one's entry is left, and this one is gone.
    NeededElsewhere,
}

impl Store {
    /// Notes records before they are made, all or none; the identities come in their order.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn journal_records(
        &self,
        lease: &AutoCertificateLease,
        records: &[IntendedRecord<'_>],
    ) -> Result<Vec<ChallengeRecordId>, StoreError> {
        let mut ids = Vec::with_capacity(records.len());
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        for record in records {
            let id = ChallengeRecordId::from(self.0.randomness.uuid());
            let now = self.now().micros();
            self.query(INSERT)
                .bind(id.to_string())
                .bind(Some(lease.id.to_string()))
                .bind(Some(record.attempt.to_string()))
                .bind(record.adapter.to_owned())
                .bind(record.zone_id.to_owned())
                .bind(record.name.to_owned())
                .bind(record.content.to_owned())
                .bind(now)
                .bind(now)
                .execute(&mut *transaction)
                .await?;
            ids.push(id);
        }
        transaction.commit().await?;
        Ok(ids)
    }

    /// Notes a canary before it is made. Where whoever made it does not remove it, it becomes a stray.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn journal_canary(&self, record: &IntendedCanary<'_>) -> Result<ChallengeRecordId, StoreError> {
        let id = ChallengeRecordId::from(self.0.randomness.uuid());
        self.query(INSERT)
            .bind(id.to_string())
            .bind(None::<String>)
            .bind(None::<String>)
            .bind(record.adapter.to_owned())
            .bind(record.zone_id.to_owned())
            .bind(record.name.to_owned())
            .bind(record.content.to_owned())
            .bind((self.now() + CANARY_LIFETIME).micros())
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(id)
    }

    /// Notes the identity that the adapter gave to a record. It asks for no lease: what is true of the DNS is kept,
    /// whoever finds it out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn store_record_id(&self, id: ChallengeRecordId, record_id: &str) -> Result<(), StoreError> {
        self.query("UPDATE challenge_records SET record_id = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(record_id.to_owned())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// The records of an auto-certificate that are not known to be gone, oldest first.
    ///
    /// # Errors
    /// Where the database fails or one of them is damaged: without that one the others would look like all.
    pub async fn challenge_records(&self, id: AutoCertificateId) -> Result<Vec<JournalledRecord>, StoreError> {
        self.query(list_sql()).bind(id.to_string()).fetch_all(&self.0.pool).await?.iter().map(read).collect()
    }

    /// The whole journal, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn journal(&self) -> Result<Vec<JournalledRecord>, StoreError> {
        self.read_undamaged(&self.query(journal_sql()).fetch_all(&self.0.pool).await?, read)
    }

    /// The records of no attempt that are to be removed at `now`: canaries that outlived whoever made them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn orphaned_records(&self, now: Moment) -> Result<Vec<JournalledRecord>, StoreError> {
        let rows = self.query(orphaned_records_sql()).bind(now.micros()).fetch_all(&self.0.pool).await?;
        let strays = self.read_undamaged(&rows, read)?;
        if strays.len() < rows.len() {
            // Else what is damaged would be due for ever.
            for row in rows.iter().filter(|row| read(row).is_err()) {
                let Some(id) = self.ok_unless_damaged(RowReader::new(row, TABLE).text("id"))? else { continue };
                let put_off = self.query("UPDATE challenge_records SET next_try = $2 WHERE id = $1").bind(id);
                put_off.bind((now + Duration::HOUR).micros()).execute(&self.0.pool).await?;
            }
        }
        Ok(strays)
    }

    /// When the next stray is to be removed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_orphan_check(&self) -> Result<Option<Moment>, StoreError> {
        let row = self.query(EARLIEST_ORPHAN).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).moment("next_try")).transpose()
    }

    /// Begins the removal of a record, or where an open attempt of whatever auto-certificate needs an equal one, forgets
    /// only this entry. For a minute, or until its end is noted, attempts that come to need an equal record
    /// [wait](Store::is_removal_running) for the removal.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn begin_removal(
        &self,
        id: ChallengeRecordId,
        patience: std::time::Duration,
    ) -> Result<RemovalStart, StoreError> {
        // Each side writes before it looks at what the other wrote: at least one of the two sees the other.
        self.query("UPDATE challenge_records SET removing_until = @now + $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX / 2))
            .execute(&self.0.pool)
            .await?;
        let forgotten = self.query(FORGET_IF_NEEDED).bind(id.to_string()).execute(&self.0.pool).await?;
        Ok(if forgotten.rows_affected() == 1 { RemovalStart::NeededElsewhere } else { RemovalStart::Started })
    }

    /// Whether a removal may be under way that would take away what this attempt has in the journal. To be asked after
    /// its intents are stored and before its records are made.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn is_removal_running(&self, attempt: AttemptId) -> Result<bool, StoreError> {
        let found = self.query(RUNNING_REMOVAL).bind(attempt.to_string()).fetch_optional(&self.0.pool).await?;
        Ok(found.is_some())
    }

    /// Forgets a record that is gone from the DNS.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_record_entry(&self, id: ChallengeRecordId) -> Result<(), StoreError> {
        self.query("DELETE FROM challenge_records WHERE id = $1").bind(id.to_string()).execute(&self.0.pool).await?;
        Ok(())
    }

    /// Notes that a removal failed and when to try again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_removal_failure(&self, id: ChallengeRecordId, next_try: Moment) -> Result<(), StoreError> {
        self.query(
            "UPDATE challenge_records SET removal_tries = removal_tries + 1, next_try = $2, removing_until = NULL \
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(next_try.micros())
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// Puts off the removal of all records of an adapter that are due at `now`, and says how many that were.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn postpone_removals(&self, adapter: &str, now: Moment, next_try: Moment) -> Result<u64, StoreError> {
        let put_off = self
            .query(POSTPONE)
            .bind(adapter.to_owned())
            .bind(now.micros())
            .bind(next_try.micros())
            .execute(&self.0.pool)
            .await?;
        Ok(put_off.rows_affected())
    }

    /// Makes the removals that failed due, and their auto-certificates with them: the settings may have changed. Says how
    /// many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn retry_removals(&self) -> Result<u64, StoreError> {
        let now = self.now().micros();
        let mut transaction = self.begin().await?;
        self.query(RECHECK_OWNERS).bind(now).execute(&mut *transaction).await?;
        let due = self.query(RETRY_REMOVALS).bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(due.rows_affected())
    }
}

fn read(row: &AnyRow) -> Result<JournalledRecord, StoreError> {
    let record = RowReader::new(row, TABLE);
    Ok(JournalledRecord {
        id: record.parsed("id")?,
        auto_certificate: record.optional_parsed("auto_certificate_id")?,
        attempt: record.optional_parsed("attempt_id")?,
        adapter: record.text("adapter")?,
        zone_id: record.text("zone_id")?,
        record_id: record.optional_text("record_id")?,
        name: record.text("name")?,
        content: record.text("content")?,
        failed_removals: record.count("removal_tries")?,
        next_try: record.moment("next_try")?,
        is_needed: record.flag("needed")?,
    })
}

pub(in crate::store) fn list_sql() -> String {
    format!("{SELECT} WHERE r.auto_certificate_id = $1 ORDER BY r.created_at, r.id")
}

pub(in crate::store) fn journal_sql() -> String {
    format!("{SELECT} ORDER BY r.created_at, r.id")
}

pub(in crate::store) fn orphaned_records_sql() -> String {
    format!("{SELECT} WHERE r.auto_certificate_id IS NULL AND r.next_try <= $1 ORDER BY r.created_at, r.id")
}

/// That an attempt `t` of an auto-certificate `a` still needs its records.
macro_rules! needs {
    () => {
        "t.ended_at IS NULL AND a.deleted_at IS NULL"
    };
}

const TABLE: &str = "challenge_records";
const INSERT: &str = "\
    INSERT INTO challenge_records (id, auto_certificate_id, attempt_id, adapter, zone_id, name, content, \
    removal_tries, next_try, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)";
const SELECT: &str = concat!(
    "SELECT r.id, r.auto_certificate_id, r.attempt_id, r.adapter, r.zone_id, r.record_id, r.name, r.content, \
     r.removal_tries, r.next_try, CASE WHEN t.id IS NOT NULL AND ",
    needs!(),
    " THEN 1 ELSE 0 END AS needed FROM challenge_records r LEFT JOIN attempts t ON t.id = r.attempt_id \
     LEFT JOIN auto_certificates a ON a.id = r.auto_certificate_id"
);
pub(in crate::store) const EARLIEST_ORPHAN: &str = "\
    SELECT id, next_try FROM challenge_records WHERE auto_certificate_id IS NULL ORDER BY next_try LIMIT 1";
/// That two entries are of one record.
macro_rules! same_record {
    ($one:literal, $other:literal) => {
        concat!(
            $one, ".adapter = ", $other, ".adapter AND ", $one, ".zone_id = ", $other, ".zone_id AND ",
            $one, ".name = ", $other, ".name AND ", $one, ".content = ", $other, ".content AND ",
            $one, ".id <> ", $other, ".id"
        )
    };
}
pub(in crate::store) const FORGET_IF_NEEDED: &str = concat!(
    "DELETE FROM challenge_records WHERE id = $1 AND EXISTS (SELECT 1 FROM challenge_records o \
     JOIN attempts t ON t.id = o.attempt_id JOIN auto_certificates a ON a.id = o.auto_certificate_id WHERE ",
    same_record!("o", "challenge_records"),
    " AND ",
    needs!(),
    ")"
);
pub(in crate::store) const RUNNING_REMOVAL: &str = concat!(
    "SELECT o.id FROM challenge_records r JOIN challenge_records o ON ",
    same_record!("o", "r"),
    " WHERE r.attempt_id = $1 AND o.removing_until > @now LIMIT 1"
);
pub(in crate::store) const POSTPONE: &str = "\
    UPDATE challenge_records SET removal_tries = removal_tries + 1, next_try = $3 WHERE id IN \
    (SELECT r.id FROM challenge_records r WHERE r.adapter = $1 AND r.next_try <= $2 \
    AND NOT EXISTS (SELECT 1 FROM attempts t WHERE t.id = r.attempt_id AND t.ended_at IS NULL)@in_order)";
const RECHECK_OWNERS: &str = "\
    UPDATE auto_certificates SET next_look = $1, wakes = wakes + 1 WHERE id IN (SELECT id FROM auto_certificates \
    WHERE id IN (SELECT auto_certificate_id FROM challenge_records WHERE next_try > $1 AND removal_tries > 0)@in_order)";
const RETRY_REMOVALS: &str = "\
    UPDATE challenge_records SET next_try = $1 WHERE id IN \
    (SELECT id FROM challenge_records WHERE next_try > $1 AND removal_tries > 0@in_order)";
/// So long whoever made a canary has to remove it.
const CANARY_LIFETIME: Duration = Duration::minutes(10);
