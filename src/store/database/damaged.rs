//! Damaged rows: values that autocertd never wrote. One of them must not hold up the others, and is told of once a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::any::AnyRow;
use time::Duration;

use crate::domain::value::moment::Moment;
use crate::store::{Store, StoreError};

/// Which damaged rows were logged, and when.
#[derive(Default)]
pub(in crate::store) struct DamagedRows(Mutex<HashMap<String, Moment>>);

impl StoreError {
    /// Whether only the row that was read is to blame: other rows can be worked on.
    pub const fn is_damaged_row(&self) -> bool {
        matches!(self, Self::CorruptRow { .. } | Self::Key(_))
    }
}

impl Store {
    /// What these rows say. Damaged ones are logged and left out.
    pub(in crate::store) fn read_undamaged<T>(
        &self,
        rows: &[AnyRow],
        read: impl Fn(&AnyRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            readable.extend(self.ok_unless_damaged(read(row))?);
        }
        Ok(readable)
    }

    /// Those that could be read. Damaged rows are logged and left out.
    pub(in crate::store) fn skip_damaged<T>(&self, read: Vec<Result<T, StoreError>>) -> Result<Vec<T>, StoreError> {
        read.into_iter().filter_map(|read| self.ok_unless_damaged(read).transpose()).collect()
    }

    /// What was read; nothing where the row is damaged, which is logged.
    ///
    /// # Errors
    /// Every other error.
    pub fn ok_unless_damaged<T>(&self, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.is_damaged_row() => {
                self.log_damaged(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Logs a damaged row, unless that was done less than a day ago: the scheduler meets it at every scan.
    fn log_damaged(&self, error: &StoreError) {
        if self.0.damaged_rows.should_log(error.to_string(), self.now()) {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, source, "a damaged row is passed over");
        }
    }
}

impl DamagedRows {
    fn should_log(&self, words: String, now: Moment) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&words).is_some_and(|at| *at <= now && now - *at < LOG_INTERVAL) {
            return false;
        }
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        told.insert(words, now);
        true
    }
}

const LOG_INTERVAL: Duration = Duration::DAY;
const MAX_REMEMBERED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_told_of_once_a_day_and_few_are_remembered() {
        let (rows, start) = (DamagedRows::default(), Moment::from_micros(1_800_000_000_000_000));
        assert!(rows.should_log("one".to_owned(), start));
        assert!(!rows.should_log("one".to_owned(), start + Duration::hours(23)));
        assert!(rows.should_log("other".to_owned(), start));
        assert!(rows.should_log("one".to_owned(), start + Duration::DAY));
        assert!(rows.should_log("one".to_owned(), start), "a clock that was set back");
        for number in 0..3 * MAX_REMEMBERED {
            assert!(rows.should_log(number.to_string(), start));
        }
        assert!(rows.0.lock().unwrap().len() <= MAX_REMEMBERED);
    }
}
