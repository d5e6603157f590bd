//! The rotation of the master key: a new key joins the file and becomes active, everything is sealed anew under it in
//! small batches, and the check value last, so that a rotation that was interrupted is known and finished first.

use std::sync::Arc;

use sqlx::Row;

use crate::store::database::row::RowReader;
use crate::store::sealing::key_check::KEY_CHECK;
use crate::store::sealing::seal::{SealedLocation, envelope_prefix};
use crate::store::{Store, StoreError};

/// How far a rotation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotationProgress {
    /// So many values are sealed anew.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

impl Store {
    /// Adds a new master key and seals everything anew under it, or goes on with a rotation that was interrupted. The
    /// key before it stays in the file until the next rotation, since a running daemon may still seal under it.
    ///
    /// Other hosts that share the database need the new key file before they meet a value under the new key.
    ///
    /// # Errors
    /// Where the key file cannot be replaced, a value cannot be opened or the database fails; what is sealed anew stays
    /// so, and the next call goes on.
    pub async fn rotate_master_key(
        &self,
        mut progress: impl FnMut(RotationProgress),
    ) -> Result<RotationProgress, StoreError> {
        let _lock = self.0.keys.lock_for_rotation()?;
        self.0.keys.reload()?;
        if self.check_value_key_id().await? == Some(self.0.keys.active().id.clone()) {
            self.0.keys.add_active()?;
        }
        let mut resealed = RotationProgress::default();
        for column in SEALED {
            resealed.total += self.count_older(column).await?;
        }
        for column in SEALED {
            let mut last = String::new();
            while let Some(batch) = self.reseal_batch(column, &last).await? {
                resealed.done += batch.resealed;
                last = batch.last;
                progress(resealed);
            }
        }
        self.retire_unused().await?;
        Ok(resealed)
    }

    async fn count_older(&self, column: SealedColumn) -> Result<u64, StoreError> {
        let active = envelope_prefix(&self.0.keys.active());
        let row = self
            .query(column.sql("SELECT COUNT(*) AS older FROM @table WHERE substr(@column, 1, $1) <> $2"))
            .bind(prefix_length(&active))
            .bind(active)
            .fetch_one(&self.0.pool)
            .await?;
        RowReader::new(&row, column.table).count("older")
    }

    /// Seals the next rows behind `last` anew; nothing where none are left.
    async fn reseal_batch(&self, column: SealedColumn, last: &str) -> Result<Option<ResealedBatch>, StoreError> {
        let active = envelope_prefix(&self.0.keys.active());
        let mut transaction = self.begin().await?;
        let rows = self
            .query(column.sql(NEXT_ROWS))
            .bind(prefix_length(&active))
            .bind(active)
            .bind(last.to_owned())
            .bind(BATCH_SIZE)
            .fetch_all(&mut *transaction)
            .await?;
        let mut batch = None;
        for row in &rows {
            let id: String = row.try_get("id")?;
            let sealed = RowReader::new(row, column.table).bytes("sealed")?;
            let place = SealedLocation { table: column.table, column: column.column, row: &id };
            let secret = self.0.keys.open(place, &sealed)?;
            // What was written meanwhile is newer than what was read.
            let written = self
                .query(column.sql("UPDATE @table SET @column = $3 WHERE id = $1 AND @column = $2"))
                .bind(id.clone())
                .bind(sealed)
                .bind(self.0.keys.seal(place, &secret)?)
                .execute(&mut *transaction)
                .await?;
            let batch = batch.get_or_insert(ResealedBatch { resealed: 0, last: String::new() });
            batch.resealed += written.rows_affected();
            batch.last = id;
        }
        transaction.commit().await?;
        Ok(batch)
    }

    /// Takes the keys out of the file that are older than the one before the active, unless something needs them still.
    async fn retire_unused(&self) -> Result<(), StoreError> {
        let keys = self.0.keys.keys();
        let mut kept = Vec::with_capacity(keys.len());
        for (age, key) in keys.iter().enumerate() {
            if age < MAX_KEYS || self.is_used(&envelope_prefix(key)).await? {
                kept.push(Arc::clone(key));
            }
        }
        if kept.len() < keys.len() {
            self.0.keys.replace(&kept)?;
        }
        Ok(())
    }

    async fn is_used(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        for column in SEALED {
            let row = self
                .query(column.sql("SELECT id FROM @table WHERE substr(@column, 1, $1) = $2 LIMIT 1"))
                .bind(prefix_length(prefix))
                .bind(prefix.to_vec())
                .fetch_optional(&self.0.pool)
                .await?;
            if row.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct ResealedBatch {
    resealed: u64,
    last: String,
}

/// A column of sealed values.
#[derive(Clone, Copy)]
pub(in crate::store) struct SealedColumn {
    pub(in crate::store) table: &'static str,
    pub(in crate::store) column: &'static str,
}

impl SealedColumn {
    /// A rotation is rare and may read whole tables; table and column are names of ours, from [`SEALED`].
    fn sql(self, text: &str) -> String {
        text.replace("@table", self.table).replace("@column", self.column)
    }
}

fn prefix_length(prefix: &[u8]) -> i32 {
    i32::try_from(prefix.len()).unwrap_or(i32::MAX)
}

/// Every column of sealed values, the check value last.
pub(in crate::store) const SEALED: [SealedColumn; 7] = [
    SealedColumn { table: "providers", column: "eab_key_secret" },
    SealedColumn { table: "providers", column: "account_credentials" },
    SealedColumn { table: "providers", column: "pending_credentials" },
    SealedColumn { table: "providers", column: "rollover_credentials" },
    SealedColumn { table: "attempts", column: "private_key" },
    SealedColumn { table: "certificates", column: "private_key" },
    SealedColumn { table: KEY_CHECK.table, column: KEY_CHECK.column },
];
const NEXT_ROWS: &str = "\
    SELECT id, @column AS sealed FROM @table WHERE substr(@column, 1, $1) <> $2 AND id > $3 ORDER BY id LIMIT $4";
const BATCH_SIZE: i64 = 50;
/// The active key and the one before it.
const MAX_KEYS: usize = 2;
