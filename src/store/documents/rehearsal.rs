//! What rehearsals found.

use serde::{Deserialize, Serialize};

use crate::domain::finding::CheckResult;
use crate::domain::moment::Moment;
use crate::domain::rehearsal::Preflight;
use crate::store::StoreError;
use crate::store::row::Record;

/// What a rehearsal found, as a document.
pub(in crate::store) fn of_rehearsal(rehearsal: &Preflight) -> String {
    let (certificate, at) = (rehearsal.certificate.to_string(), rehearsal.at.micros());
    serde_json::json!(PreflightDocument { certificate, at, findings: rehearsal.findings.clone() }).to_string()
}

impl Record<'_> {
    /// Reads what a rehearsal found. It is no more than advice: what another version wrote and this one cannot read counts
    /// as none, and the next rehearsal replaces it.
    pub(in crate::store) fn rehearsal(&self, column: &'static str) -> Result<Option<Preflight>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let read = self.read_rehearsal(column, &text);
        Ok(read.inspect_err(|error| tracing::debug!(%error, "what a rehearsal found is passed over")).ok())
    }

    fn read_rehearsal(&self, column: &'static str, text: &str) -> Result<Preflight, StoreError> {
        let document: PreflightDocument = serde_json::from_str(text).map_err(|error| self.corrupt(column, error))?;
        let certificate = document.certificate.parse().map_err(|error| self.corrupt(column, error))?;
        Ok(Preflight { certificate, at: Moment::from_micros(document.at), findings: document.findings })
    }
}

#[derive(Deserialize, Serialize)]
struct PreflightDocument {
    certificate: String,
    at: i64,
    findings: Vec<CheckResult>,
}
