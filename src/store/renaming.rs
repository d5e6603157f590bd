//! The one change that the API makes to what is stored: another name, with who gave it and when.

use sqlx::any::AnyRow;

use crate::domain::resource::{Actor, ResourceName};
use crate::store::{Store, StoreError};

/// How a table's rows are renamed and read.
pub(super) struct Renaming<T> {
    /// Sets name, moment and actor (`$2` to `$5`) of the row `$1`.
    pub(super) rename: &'static str,
    /// Selects the row `$1`.
    pub(super) get: String,
    /// Reads what is selected.
    pub(super) read: fn(&AnyRow) -> Result<T, StoreError>,
}

impl Store {
    /// Renames a row and reads it as it is by then; nothing where there is none.
    pub(super) async fn rename<T>(
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
            return Ok(None);
        }
        let row = self.query(how.get).bind(id).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        (how.read)(&row).map(Some)
    }
}
