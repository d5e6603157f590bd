//! Revocations.

use serde::{Deserialize, Serialize};

use crate::domain::certificate::revocation::{Revocation, UnknownRevocationReason};
use crate::domain::value::moment::Moment;
use crate::store::StoreError;
use crate::store::database::row::RowReader;
use crate::store::documents::FailureStreakDocument;

/// A revocation as a document.
pub(in crate::store) fn revocation_to_json(revocation: &Revocation) -> String {
    let document = RevocationDocument {
        reason: revocation.reason.as_str().to_owned(),
        requested_at: revocation.requested_at.micros(),
        done_at: revocation.done_at.map(Moment::micros),
        trouble: revocation.failure_streak.as_ref().map(FailureStreakDocument::from),
    };
    serde_json::json!(document).to_string()
}

impl RowReader<'_> {
    /// Reads a revocation.
    pub(in crate::store) fn revocation(&self, column: &'static str) -> Result<Option<Revocation>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: RevocationDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let reason = document.reason.parse().map_err(|error: UnknownRevocationReason| self.corrupt(column, error))?;
        let trouble =
            document.trouble.map(|trouble| self.require_known(column, trouble.into_failure_streak())).transpose()?;
        let (requested, done) = (Moment::from_micros(document.requested_at), document.done_at.map(Moment::from_micros));
        Ok(Some(Revocation { reason, requested_at: requested, done_at: done, failure_streak: trouble }))
    }
}

#[derive(Deserialize, Serialize)]
struct RevocationDocument {
    reason: String,
    requested_at: i64,
    done_at: Option<i64>,
    trouble: Option<FailureStreakDocument>,
}
