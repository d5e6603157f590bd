//! Breakers of providers.

use serde::{Deserialize, Serialize};

use crate::domain::provider::breaker::Breaker;
use crate::domain::value::moment::Moment;
use crate::store::StoreError;
use crate::store::database::row::RowReader;
use crate::store::documents::FailureDocument;

/// A breaker as a document.
pub(in crate::store) fn breaker_to_json(breaker: &Breaker) -> String {
    let document = BreakerDocument {
        since: breaker.since.micros(),
        failures: breaker.failures,
        first: breaker.first.map(|id| id.to_string()),
        shared: breaker.affects_several,
        probe_at: breaker.probe_at.map(Moment::micros),
        last: FailureDocument::from(&breaker.last),
    };
    serde_json::json!(document).to_string()
}

impl RowReader<'_> {
    /// Reads a breaker.
    pub(in crate::store) fn breaker(&self, column: &'static str) -> Result<Option<Breaker>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: BreakerDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let first = document.first.map(|id| id.parse()).transpose().map_err(|error| self.corrupt(column, error))?;
        Ok(Some(Breaker {
            since: Moment::from_micros(document.since),
            failures: document.failures,
            first,
            affects_several: document.shared,
            probe_at: document.probe_at.map(Moment::from_micros),
            last: self.require_known(column, document.last.into_failure())?,
        }))
    }
}

#[derive(Deserialize, Serialize)]
struct BreakerDocument {
    since: i64,
    failures: u32,
    first: Option<String>,
    shared: bool,
    probe_at: Option<i64>,
    last: FailureDocument,
}
