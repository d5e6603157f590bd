//! What rehearsals found.

use serde::{Deserialize, Serialize};

use crate::domain::finding::Finding;
use crate::domain::moment::Moment;
use crate::domain::rehearsal::Rehearsal;
use crate::store::StoreError;
use crate::store::row::Record;

/// What a rehearsal found, as a document.
pub(in crate::store) fn of_rehearsal(rehearsal: &Rehearsal) -> String {
    let (certificate, at) = (rehearsal.certificate.to_string(), rehearsal.at.micros());
    serde_json::json!(RehearsalDocument { certificate, at, findings: rehearsal.findings.clone() }).to_string()
}

impl Record<'_> {
    /// Reads what a rehearsal found.
    pub(in crate::store) fn rehearsal(&self, column: &'static str) -> Result<Option<Rehearsal>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: RehearsalDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let certificate = document.certificate.parse().map_err(|error| self.corrupt(column, error))?;
        Ok(Some(Rehearsal { certificate, at: Moment::from_micros(document.at), findings: document.findings }))
    }
}

#[derive(Deserialize, Serialize)]
struct RehearsalDocument {
    certificate: String,
    at: i64,
    findings: Vec<Finding>,
}
