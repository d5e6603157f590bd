//! The journal of challenge records: what was, or may have been, written into the DNS and is to be removed again.

use sqlx::any::AnyRow;

use crate::domain::id::{AttemptId, AutoCertificateId, ChallengeRecordId};
use crate::domain::moment::Moment;
use crate::store::row::Record;
use crate::store::{Lease, Store, StoreError};

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
pub struct ChallengeRecord {
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
    pub removal_tries: u32,
}

impl Store {
    /// Notes a record before it is made.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn intend_record(
        &self,
        lease: &Lease,
        record: &IntendedRecord<'_>,
    ) -> Result<ChallengeRecordId, StoreError> {
        let id = ChallengeRecordId::from(self.0.randomness.uuid());
        let mut transaction = self.begin().await?;
        self.hold(&mut transaction, lease).await?;
        self.query(INSERT)
            .bind(id.to_string())
            .bind(Some(lease.id.to_string()))
            .bind(Some(record.attempt.to_string()))
            .bind(record.adapter.to_owned())
            .bind(record.zone_id.to_owned())
            .bind(record.name.to_owned())
            .bind(record.content.to_owned())
            .bind(self.now().micros())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Notes a canary before it is made.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn intend_canary(&self, record: &IntendedCanary<'_>) -> Result<ChallengeRecordId, StoreError> {
        let id = ChallengeRecordId::from(self.0.randomness.uuid());
        self.query(INSERT)
            .bind(id.to_string())
            .bind(None::<String>)
            .bind(None::<String>)
            .bind(record.adapter.to_owned())
            .bind(record.zone_id.to_owned())
            .bind(record.name.to_owned())
            .bind(record.content.to_owned())
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
    pub async fn record_presented(&self, id: ChallengeRecordId, record_id: &str) -> Result<(), StoreError> {
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
    /// Where the database fails.
    pub async fn challenge_records(&self, id: AutoCertificateId) -> Result<Vec<ChallengeRecord>, StoreError> {
        self.query(LIST).bind(id.to_string()).fetch_all(&self.0.pool).await?.iter().map(read).collect()
    }

    /// Forgets a record that is gone from the DNS.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_removed(&self, id: ChallengeRecordId) -> Result<(), StoreError> {
        self.query("DELETE FROM challenge_records WHERE id = $1").bind(id.to_string()).execute(&self.0.pool).await?;
        Ok(())
    }

    /// Notes that a removal failed and when to try again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn removal_failed(&self, id: ChallengeRecordId, next_try: Moment) -> Result<(), StoreError> {
        self.query("UPDATE challenge_records SET removal_tries = removal_tries + 1, next_try = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(next_try.micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<ChallengeRecord, StoreError> {
    let record = Record::new(row, "challenge_records");
    Ok(ChallengeRecord {
        id: record.parsed("id")?,
        auto_certificate: record.optional_parsed("auto_certificate_id")?,
        attempt: record.optional_parsed("attempt_id")?,
        adapter: record.text("adapter")?,
        zone_id: record.text("zone_id")?,
        record_id: record.optional_text("record_id")?,
        name: record.text("name")?,
        content: record.text("content")?,
        removal_tries: record.count("removal_tries")?,
    })
}

const INSERT: &str = "\
    INSERT INTO challenge_records (id, auto_certificate_id, attempt_id, adapter, zone_id, name, content, \
    removal_tries, next_try, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $8)";
pub(super) const LIST: &str = "\
    SELECT id, auto_certificate_id, attempt_id, adapter, zone_id, record_id, name, content, removal_tries FROM challenge_records \
    WHERE auto_certificate_id = $1 ORDER BY created_at, id";
