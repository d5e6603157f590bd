//! The one change that the API makes to what is stored: another name, with who gave it and when.

use crate::store::database::Transaction;
use sqlx::any::AnyRow;

use crate::domain::value::resource::{Actor, ResourceName};
use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

/// How a table's rows are renamed and read.
pub(in crate::store) struct Renaming<T> {
    /// Sets name, moment and actor (`$2` to `$5`) of the row `$1`.
    pub(in crate::store) rename: &'static str,
    /// The table, where the settings can declare its rows.
    pub(in crate::store) declarable: Option<&'static str>,
    /// Selects the row `$1`.
    pub(in crate::store) get: String,
    /// What else changes with a name, in the same transaction.
    pub(in crate::store) follow_up: Option<&'static str>,
    /// Reads what is selected.
    pub(in crate::store) read: fn(&AnyRow) -> Result<T, StoreError>,
}

impl Store {
    /// Renames a row and reads it as it is by then; nothing where there is none. What the settings declare is refused.
    pub(in crate::store) async fn rename<T>(
        &self,
        how: Renaming<T>,
        id: String,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<T>, StoreError> {
        let mut transaction = self.begin().await?;
        let renamed = self
            .query(how.rename)
            .bind(id.clone())
            .bind(name.to_string())
            .bind(self.now().micros())
            .bind(by.name.clone())
            .bind(by.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if renamed.rows_affected() == 0 {
            if let Some(table) = how.declarable {
                self.refuse_declared(&mut transaction, table, id).await?;
            }
            return Ok(None);
        }
        if let Some(follow) = how.follow_up {
            self.query(follow).execute(&mut *transaction).await?;
        }
        let row = self.query(how.get).bind(id).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        (how.read)(&row).map(Some)
    }

    /// Goes on only where the settings do not declare this row of `table`.
    pub(in crate::store) async fn refuse_declared(
        &self,
        transaction: &mut Transaction,
        table: &'static str,
        id: String,
    ) -> Result<(), StoreError> {
        let declared = format!("SELECT id, declared_key FROM {table} WHERE id = $1 AND declared_by IS NOT NULL");
        let row = self.query(declared).bind(id).fetch_optional(&mut **transaction).await?;
        let key = row.map(|row| RowReader::new(&row, table).parsed("declared_key")).transpose()?;
        key.map_or(Ok(()), |key| Err(StoreError::Declared(key)))
    }
}
