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
    /// Reads what a rehearsal found. It is no more than advice: what another version wrote and this one cannot read counts
    /// as none, and the next rehearsal replaces it.
    pub(in crate::store) fn rehearsal(&self, column: &'static str) -> Result<Option<Rehearsal>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let read = self.read_rehearsal(column, &text);
        Ok(read.inspect_err(|error| tracing::debug!(%error, "what a rehearsal found is passed over")).ok())
    }

    fn read_rehearsal(&self, column: &'static str, text: &str) -> Result<Rehearsal, StoreError> {
        let document: RehearsalDocument = serde_json::from_str(text).map_err(|error| self.corrupt(column, error))?;
        let certificate = document.certificate.parse().map_err(|error| self.corrupt(column, error))?;
        Ok(Rehearsal { certificate, at: Moment::from_micros(document.at), findings: document.findings })
    }
}

#[derive(Deserialize, Serialize)]
struct RehearsalDocument {
    certificate: String,
    at: i64,
    findings: Vec<Finding>,
}
