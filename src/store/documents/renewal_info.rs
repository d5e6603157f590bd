//! What CAs say about renewals.

use serde::{Deserialize, Serialize};

use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::store::StoreError;
use crate::store::database::row::RowReader;

/// What a CA says about a renewal, as a document.
pub(in crate::store) fn renewal_info_to_json(info: &RenewalInfo) -> String {
    let suggestion = info.suggestion.as_ref().map(|suggestion| SuggestionDocument {
        start: suggestion.window.start().micros(),
        end: suggestion.window.end().micros(),
        moment: suggestion.moment.micros(),
        explanation_url: suggestion.explanation_url.clone(),
    });
    let document = RenewalInfoDocument {
        suggestion,
        ask_at: info.ask_at.micros(),
        failures: info.failures,
        problem: info.problem.clone(),
    };
    serde_json::json!(document).to_string()
}

impl RowReader<'_> {
    /// Reads what a CA says about a renewal.
    pub(in crate::store) fn renewal_info(&self, column: &'static str) -> Result<Option<RenewalInfo>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: RenewalInfoDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let suggestion = |known: SuggestionDocument| {
            let window = RenewalWindow::new(Moment::from_micros(known.start), Moment::from_micros(known.end));
            let (window, moment) = (self.require_known(column, window)?, Moment::from_micros(known.moment));
            Ok::<_, StoreError>(RenewalSuggestion {
                window,
                moment,
                explanation_url: known.explanation_url.map(|url| RemoteMessage::from_paragraph(&url).to_string()),
            })
        };
        Ok(Some(RenewalInfo {
            suggestion: document.suggestion.map(suggestion).transpose()?,
            ask_at: Moment::from_micros(document.ask_at),
            failures: document.failures,
            problem: document.problem.map(|words| RemoteMessage::from_statements(&words).to_string()),
        }))
    }
}

#[derive(Deserialize, Serialize)]
struct RenewalInfoDocument {
    suggestion: Option<SuggestionDocument>,
    ask_at: i64,
    failures: u32,
    problem: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct SuggestionDocument {
    start: i64,
    end: i64,
    moment: i64,
    explanation_url: Option<String>,
}
