//! Standing records of dns-persist-01 that are, or may be, in the DNS.

use sqlx::any::AnyRow;

use crate::domain::id::ChallengeRecordId;
use crate::domain::standing::StandingRecord;
use crate::store::row::Record;
use crate::store::{Store, StoreError};

/// A standing record with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its identity here.
    pub id: ChallengeRecordId,
    /// The adapter that makes it; absent where a person does.
    pub adapter: Option<String>,
    /// The zone that it goes to.
    pub zone_id: Option<String>,
    /// Its identity there, once that is known.
    pub record_id: Option<String>,
    /// Whether it was seen in the DNS since it was noted.
    pub seen: bool,
}

impl Store {
    /// What is known of a standing record; nothing where it was never needed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn standing(&self, record: &StandingRecord) -> Result<Option<Standing>, StoreError> {
        let row = self.query(GET).bind(record.name.clone()).bind(record.content.clone());
        row.fetch_optional(&self.0.pool).await?.as_ref().map(read).transpose()
    }

    /// Notes a standing record before it is made; one that is noted already stays as it is. `place` is its adapter and
    /// zone, where no person makes it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn intend_standing(
        &self,
        record: &StandingRecord,
        place: Option<(&str, &str)>,
    ) -> Result<(), StoreError> {
        let (adapter, zone) = place.unzip();
        self.query(INSERT)
            .bind(self.0.randomness.uuid().to_string())
            .bind(record.name.clone())
            .bind(record.content.clone())
            .bind(adapter.map(str::to_owned))
            .bind(zone.map(str::to_owned))
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Notes the identity that the adapter gave to a standing record.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn standing_presented(&self, record: &StandingRecord, record_id: &str) -> Result<(), StoreError> {
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
    pub async fn standing_seen(&self, record: &StandingRecord) -> Result<(), StoreError> {
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
    pub async fn doubt_standing(&self, name: &str) -> Result<(), StoreError> {
        self.query("UPDATE standing_records SET seen_at = NULL WHERE name = $1")
            .bind(name.to_owned())
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<Standing, StoreError> {
    let record = Record::new(row, "standing_records");
    Ok(Standing {
        id: record.parsed("id")?,
        adapter: record.optional_text("adapter")?,
        zone_id: record.optional_text("zone_id")?,
        record_id: record.optional_text("record_id")?,
        seen: record.optional_moment("seen_at")?.is_some(),
    })
}

const GET: &str = "\
    SELECT id, adapter, zone_id, record_id, seen_at FROM standing_records WHERE name = $1 AND content = $2";
const INSERT: &str = "\
    INSERT INTO standing_records (id, name, content, adapter, zone_id, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (name, content) DO NOTHING";
