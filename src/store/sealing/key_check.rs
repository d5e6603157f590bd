//! The check of the key ring: a known value, sealed in the database, that only the right keys can open.

use secrecy::SecretString;

use crate::store::database::row::RowReader;
use crate::store::sealing::seal::{SealedLocation, split_envelope};
use crate::store::{KeyError, Store, StoreError};

impl Store {
    /// Refuses a key ring that is not the store's. A store that is new takes the one that it is given.
    pub(in crate::store) async fn check_keys(&self) -> Result<(), StoreError> {
        let sealed = match self.key_check_value().await? {
            Some(sealed) => sealed,
            None => self.store_key_check().await?,
        };
        match self.0.keys.open(KEY_CHECK, &sealed) {
            Err(KeyError::Unreadable { .. }) if split_envelope(&sealed).is_some() => {
                let id = split_envelope(&sealed).map(|(id, _)| id.to_owned()).unwrap_or_default();
                Err(KeyError::WrongKey { path: self.0.keys.path().to_owned(), id }.into())
            }
            opened => Ok(opened.map(|_| ())?),
        }
    }

    /// The id of the key under which the check value is sealed: a rotation seals it anew as its last deed.
    pub(in crate::store) async fn check_value_key_id(&self) -> Result<Option<String>, StoreError> {
        let sealed = self.key_check_value().await?;
        Ok(sealed.as_deref().and_then(split_envelope).map(|(id, _)| id.to_owned()))
    }

    /// Of replicas that start together with different keys only the first stores its value.
    async fn store_key_check(&self) -> Result<Vec<u8>, StoreError> {
        let fresh = self.0.keys.seal(KEY_CHECK, &SecretString::from(CHECK_VALUE))?;
        self.query("INSERT INTO facts (id, value) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
            .bind(KEY_CHECK.row)
            .bind(fresh.clone())
            .execute(&self.0.pool)
            .await?;
        Ok(self.key_check_value().await?.unwrap_or(fresh))
    }

    async fn key_check_value(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let select = self.query("SELECT id, value FROM facts WHERE id = $1").bind(KEY_CHECK.row);
        let row = select.fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, KEY_CHECK.table).bytes(KEY_CHECK.column)).transpose()
    }
}

/// Where the check value is.
pub(in crate::store) const KEY_CHECK: SealedLocation<'static> =
    SealedLocation { table: "facts", column: "value", row: "key-check" };
const CHECK_VALUE: &str = "autocertd";
