//! The identity of the store: made once, and the same for all replicas for as long as there is the database.

use uuid::Uuid;

use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

impl Store {
    /// Which store this is. One of an earlier version gets its identity here.
    ///
    /// # Errors
    /// Where the database fails, or the identity is damaged.
    pub async fn identity(&self) -> Result<Uuid, StoreError> {
        if let Some(identity) = self.stored_identity().await? {
            return Ok(identity);
        }
        let fresh = self.0.randomness.uuid();
        self.query("INSERT INTO store_identity (id, identity) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
            .bind(IDENTITY)
            .bind(fresh.to_string())
            .execute(&self.0.pool)
            .await?;
        // Of replicas that start together the first one decides.
        Ok(self.stored_identity().await?.unwrap_or(fresh))
    }

    async fn stored_identity(&self) -> Result<Option<Uuid>, StoreError> {
        let select = self.query("SELECT id, identity FROM store_identity WHERE id = $1").bind(IDENTITY);
        let row = select.fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, "store_identity").parsed("identity")).transpose()
    }
}

/// There is one row.
const IDENTITY: &str = "store";
