//! What rehearsals found.

use serde::{Deserialize, Serialize};

use crate::domain::renewal::check_result::CheckResult;
use crate::domain::renewal::preflight::Preflight;
use crate::domain::value::moment::Moment;
use crate::store::StoreError;
use crate::store::database::row::RowReader;

/// What a rehearsal found, as a document.
pub(in crate::store) fn preflight_to_json(rehearsal: &Preflight) -> String {
    let (certificate, at) = (rehearsal.certificate.to_string(), rehearsal.at.micros());
    serde_json::json!(PreflightDocument { certificate, at, findings: rehearsal.results.clone() }).to_string()
}

impl RowReader<'_> {
    /// Reads what a rehearsal found. It is no more than advice: what another version wrote and this one cannot read counts
    /// as none, and the next rehearsal replaces it.
    pub(in crate::store) fn preflight(&self, column: &'static str) -> Result<Option<Preflight>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let read = self.read_preflight(column, &text);
        Ok(read.inspect_err(|error| tracing::debug!(%error, "what a rehearsal found is passed over")).ok())
    }

    fn read_preflight(&self, column: &'static str, text: &str) -> Result<Preflight, StoreError> {
        let document: PreflightDocument = serde_json::from_str(text).map_err(|error| self.corrupt(column, error))?;
        let certificate = document.certificate.parse().map_err(|error| self.corrupt(column, error))?;
        Ok(Preflight { certificate, at: Moment::from_micros(document.at), results: document.findings })
    }
}

#[derive(Deserialize, Serialize)]
struct PreflightDocument {
    certificate: String,
    at: i64,
    findings: Vec<CheckResult>,
}
