//! Values that are kept as JSON text, because no query looks into them: names, failures, troubles and revocations.

use serde::{Deserialize, Serialize};

use crate::domain::back_off::Trouble;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::moment::Moment;
use crate::domain::revocation::{Revocation, UnknownRevocationReason};
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
    serde_json::json!(TroubleDocument::from(trouble)).to_string()
}

/// A revocation as a document.
pub(super) fn of_revocation(revocation: &Revocation) -> String {
    let document = RevocationDocument {
        reason: revocation.reason.as_str().to_owned(),
        requested_at: revocation.requested.micros(),
        done_at: revocation.done.map(Moment::micros),
        trouble: revocation.trouble.as_ref().map(TroubleDocument::from),
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
        self.known(column, document.into_trouble()).map(Some)
    }

    /// Reads a revocation.
    pub(super) fn revocation(&self, column: &'static str) -> Result<Option<Revocation>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: RevocationDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let reason = document.reason.parse().map_err(|error: UnknownRevocationReason| self.corrupt(column, error))?;
        let trouble = document.trouble.map(|trouble| self.known(column, trouble.into_trouble())).transpose()?;
        let (requested, done) = (Moment::from_micros(document.requested_at), document.done_at.map(Moment::from_micros));
        Ok(Some(Revocation { reason, requested, done, trouble }))
    }
}

#[derive(Deserialize, Serialize)]
struct RevocationDocument {
    reason: String,
    requested_at: i64,
    done_at: Option<i64>,
    trouble: Option<TroubleDocument>,
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

impl TroubleDocument {
    /// Nothing where its disposition is none that is known.
    fn into_trouble(self) -> Option<Trouble> {
        let not_before = self.last.not_before.map(Moment::from_micros);
        let disposition = Disposition::from_parts(&self.last.disposition, not_before)?;
        Some(Trouble {
            failures: self.failures,
            last: Failure { disposition, message: self.last.message },
            at: Moment::from_micros(self.at),
            next_try: Moment::from_micros(self.next_try),
        })
    }
}

impl From<&Trouble> for TroubleDocument {
    fn from(trouble: &Trouble) -> Self {
        Self {
            failures: trouble.failures,
            last: FailureDocument::from(&trouble.last),
            at: trouble.at.micros(),
            next_try: trouble.next_try.micros(),
        }
    }
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
