//! Reading rows. What cannot be read is reported with its table, column and row.

use std::error::Error;
use std::str::FromStr;

use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row, Type};
use uuid::Uuid;

use crate::domain::value::moment::Moment;
use crate::domain::value::resource::{Actor, Audit, ResourceName};
use crate::store::StoreError;

/// A row of a table. Every SELECT names the row's `id` among its columns.
pub(in crate::store) struct RowReader<'r> {
    row: &'r AnyRow,
    table: &'static str,
}

impl<'r> RowReader<'r> {
    pub(in crate::store) const fn new(row: &'r AnyRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(in crate::store) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    /// A count, which is never negative.
    pub(in crate::store) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.require_known(column, T::try_from(self.number(column)?).ok())
    }

    pub(in crate::store) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        self.number(column).map(|number| number != 0)
    }

    pub(in crate::store) fn moment(&self, column: &'static str) -> Result<Moment, StoreError> {
        self.number(column).map(Moment::from_micros)
    }

    pub(in crate::store) fn optional_moment(&self, column: &'static str) -> Result<Option<Moment>, StoreError> {
        self.get::<Option<i64>>(column).map(|micros| micros.map(Moment::from_micros))
    }

    pub(in crate::store) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn optional_bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column)
    }

    /// A text that reads as a `T`.
    pub(in crate::store) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: FromStr<Err: Error + Send + Sync + 'static>,
    {
        self.text(column)?.parse().map_err(|error| self.corrupt(column, error))
    }

    /// A name for people.
    pub(in crate::store) fn name(&self, column: &'static str) -> Result<ResourceName, StoreError> {
        self.text(column).map(|text| ResourceName::from_stored(&text))
    }

    /// As [`Self::parsed`], or nothing.
    pub(in crate::store) fn optional_parsed<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: FromStr<Err: Error + Send + Sync + 'static>,
    {
        self.optional_text(column)?.map(|text| text.parse().map_err(|error| self.corrupt(column, error))).transpose()
    }

    /// What was made of the value, where the value has a meaning.
    pub(in crate::store) fn require_known<T>(&self, column: &'static str, value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| StoreError::CorruptRow { table: self.table, column, row: self.id(), source: None })
    }

    pub(in crate::store) fn corrupt(
        &self,
        column: &'static str,
        error: impl Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::CorruptRow { table: self.table, column, row: self.id(), source: Some(Box::new(error)) }
    }

    pub(in crate::store) fn audit(&self) -> Result<Audit, StoreError> {
        Ok(Audit {
            created: self.moment("created_at")?,
            created_by: Actor { name: self.name("created_by")?.to_string(), id: self.parsed::<Uuid>("created_by_id")? },
            modified: self.moment("modified_at")?,
            modified_by: Actor {
                name: self.name("modified_by")?.to_string(),
                id: self.parsed::<Uuid>("modified_by_id")?,
            },
        })
    }

    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Any> + Type<Any>,
    {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    fn id(&self) -> String {
        self.row.try_get("id").unwrap_or_else(|_| "unknown".to_owned())
    }
}
