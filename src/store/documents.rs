//! Values that are kept as JSON text, because no query looks into them: names, failures, troubles and what a
//! breaker knows.

use serde::{Deserialize, Serialize};

use crate::domain::back_off::Trouble;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::moment::Moment;
use crate::store::StoreError;
use crate::store::row::Record;

/// Texts as a document.
pub(super) fn of_texts(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<serde_json::Value>().to_string()
}

/// A failure as a document.
pub(super) fn of_failure(failure: &Failure) -> String {
    serde_json::json!(FailureDocument::from(failure)).to_string()
}

/// A trouble as a document.
pub(super) fn of_trouble(trouble: &Trouble) -> String {
    let document = TroubleDocument {
        failures: trouble.failures,
        last: FailureDocument::from(&trouble.last),
        at: trouble.at.micros(),
        next_try: trouble.next_try.micros(),
    };
    serde_json::json!(document).to_string()
}

impl Record<'_> {
    /// Reads texts, each of which reads as a `T`.
    pub(super) fn texts<T>(&self, column: &'static str) -> Result<Vec<T>, StoreError>
    where
        T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let texts: Vec<String> =
            serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, error))?;
        texts.iter().map(|text| text.parse().map_err(|error| self.corrupt(column, error))).collect()
    }

    /// Reads a trouble.
    pub(super) fn trouble(&self, column: &'static str) -> Result<Option<Trouble>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: TroubleDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let not_before = document.last.not_before.map(Moment::from_micros);
        let disposition = self.known(column, Disposition::from_parts(&document.last.disposition, not_before))?;
        Ok(Some(Trouble {
            failures: document.failures,
            last: Failure { disposition, message: document.last.message },
            at: Moment::from_micros(document.at),
            next_try: Moment::from_micros(document.next_try),
        }))
    }
}

impl Record<'_> {
    /// Reads since when a breaker is open.
    pub(super) fn down_since(&self, column: &'static str) -> Result<Option<Moment>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: BreakerDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        Ok(document.down_since.map(Moment::from_micros))
    }
}

/// Of a breaker, what the choice of a provider needs.
#[derive(Deserialize)]
struct BreakerDocument {
    down_since: Option<i64>,
}

#[derive(Deserialize, Serialize)]
struct TroubleDocument {
    failures: u32,
    last: FailureDocument,
    at: i64,
    next_try: i64,
}

#[derive(Deserialize, Serialize)]
struct FailureDocument {
    disposition: String,
    not_before: Option<i64>,
    message: String,
}

impl From<&Failure> for FailureDocument {
    fn from(failure: &Failure) -> Self {
        Self {
            disposition: failure.disposition.as_str().to_owned(),
            not_before: failure.disposition.not_before().map(Moment::micros),
            message: failure.message.clone(),
        }
    }
}
