//! Standing records of dns-persist-01 that are, or may be, in the DNS.

use sqlx::any::AnyRow;

use crate::domain::renewal::dns_persist::PersistRecord;
use crate::domain::value::id::ChallengeRecordId;
use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

/// Where an adapter makes a standing record.
#[derive(Clone, Copy, Debug)]
pub struct PersistRecordLocation<'a> {
    /// The adapter.
    pub adapter: &'a str,
    /// The zone that it goes to.
    pub zone_id: &'a str,
    /// The name there, behind all aliases.
    pub name: &'a str,
}

/// A standing record with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPersistRecord {
    /// Its identity here.
    pub id: ChallengeRecordId,
    /// Whether it was seen in the DNS since it was noted.
    pub seen: bool,
}

impl Store {
    /// What is known of a standing record; nothing where it was never needed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn standing(&self, record: &PersistRecord) -> Result<Option<StoredPersistRecord>, StoreError> {
        let row = self.query(GET).bind(record.name.clone()).bind(record.content.clone());
        row.fetch_optional(&self.0.pool).await?.as_ref().map(read).transpose()
    }

    /// Notes a standing record before it is made, at another place than before where that has changed. There is no place
    /// where a person makes it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn journal_persist_record(
        &self,
        record: &PersistRecord,
        place: Option<PersistRecordLocation<'_>>,
    ) -> Result<(), StoreError> {
        self.query(INSERT)
            .bind(self.0.randomness.uuid().to_string())
            .bind(record.name.clone())
            .bind(record.content.clone())
            .bind(place.map(|place| place.adapter.to_owned()))
            .bind(place.map(|place| place.zone_id.to_owned()))
            .bind(place.map(|place| place.name.to_owned()))
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Notes the identity that the adapter gave to a standing record.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn store_persist_record_id(&self, record: &PersistRecord, record_id: &str) -> Result<(), StoreError> {
        self.query("UPDATE standing_records SET record_id = $3 WHERE name = $1 AND content = $2")
            .bind(record.name.clone())
            .bind(record.content.clone())
            .bind(record_id.to_owned())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Notes that a standing record was seen, so that renewals need not look.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn mark_persist_record_seen(&self, record: &PersistRecord) -> Result<(), StoreError> {
        self.query("UPDATE standing_records SET seen_at = $3 WHERE name = $1 AND content = $2")
            .bind(record.name.clone())
            .bind(record.content.clone())
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Has the standing records at `name` looked for anew before they are relied on again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recheck_persist_records(&self, name: &str) -> Result<(), StoreError> {
        self.query("UPDATE standing_records SET seen_at = NULL WHERE id IN (SELECT id FROM standing_records WHERE name = $1@in_order)")
            .bind(name.to_owned())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<StoredPersistRecord, StoreError> {
    let record = RowReader::new(row, "standing_records");
    Ok(StoredPersistRecord { id: record.parsed("id")?, seen: record.optional_moment("seen_at")?.is_some() })
}

const GET: &str = "\
    SELECT id, seen_at FROM standing_records WHERE name = $1 AND content = $2";
const INSERT: &str = "\
    INSERT INTO standing_records (id, name, content, adapter, zone_id, place, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name, content) \
    DO UPDATE SET adapter = excluded.adapter, zone_id = excluded.zone_id, place = excluded.place";
