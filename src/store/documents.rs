//! Values that are kept as JSON text, because no query looks into them: names, failures, troubles
//! and notes on accounts.

use serde::{Deserialize, Serialize};

use crate::domain::back_off::Trouble;
use crate::domain::breaker::Breaker;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::moment::Moment;
use crate::domain::provider::AccountNote;
use crate::domain::renewal_info::{RenewalInfo, Suggestion, Window};
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

/// A breaker as a document.
pub(super) fn of_breaker(breaker: &Breaker) -> String {
    let document = BreakerDocument {
        since: breaker.since.micros(),
        failures: breaker.failures,
        first: breaker.first.map(|id| id.to_string()),
        shared: breaker.shared,
        probe_at: breaker.probe_at.map(Moment::micros),
        last: FailureDocument::from(&breaker.last),
    };
    serde_json::json!(document).to_string()
}

/// What a CA says about a renewal, as a document.
pub(super) fn of_renewal_info(info: &RenewalInfo) -> String {
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

/// A note on an account as a document.
pub(super) fn of_account_note(note: &AccountNote) -> String {
    let (fate, account, at) = match note {
        AccountNote::Lost { account, at } => (Fate::Lost, account, at),
        AccountNote::Deactivated { account, at } => (Fate::Deactivated, account, at),
    };
    serde_json::json!(NoteDocument { fate, account: account.clone(), at: at.micros() }).to_string()
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
        Ok(Some(Trouble {
            failures: document.failures,
            last: self.failure(column, document.last)?,
            at: Moment::from_micros(document.at),
            next_try: Moment::from_micros(document.next_try),
        }))
    }

    /// Reads a note on an account.
    pub(super) fn account_note(&self, column: &'static str) -> Result<Option<AccountNote>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: NoteDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let (account, at) = (document.account, Moment::from_micros(document.at));
        Ok(Some(match document.fate {
            Fate::Lost => AccountNote::Lost { account, at },
            Fate::Deactivated => AccountNote::Deactivated { account, at },
        }))
    }
}

#[derive(Deserialize, Serialize)]
struct NoteDocument {
    fate: Fate,
    account: String,
    at: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    Lost,
    Deactivated,
}

impl Record<'_> {
    /// Reads a breaker.
    pub(super) fn breaker(&self, column: &'static str) -> Result<Option<Breaker>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: BreakerDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let first = document.first.map(|id| id.parse()).transpose().map_err(|error| self.corrupt(column, error))?;
        Ok(Some(Breaker {
            since: Moment::from_micros(document.since),
            failures: document.failures,
            first,
            shared: document.shared,
            probe_at: document.probe_at.map(Moment::from_micros),
            last: self.failure(column, document.last)?,
        }))
    }

    fn failure(&self, column: &'static str, document: FailureDocument) -> Result<Failure, StoreError> {
        let not_before = document.not_before.map(Moment::from_micros);
        let disposition = self.known(column, Disposition::from_parts(&document.disposition, not_before))?;
        Ok(Failure { disposition, message: document.message })
    }

    /// Reads what a CA says about a renewal.
    pub(super) fn renewal_info(&self, column: &'static str) -> Result<Option<RenewalInfo>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: RenewalInfoDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let suggestion = |known: SuggestionDocument| {
            let window = Window::new(Moment::from_micros(known.start), Moment::from_micros(known.end));
            let (window, moment) = (self.known(column, window)?, Moment::from_micros(known.moment));
            Ok::<_, StoreError>(Suggestion { window, moment, explanation_url: known.explanation_url })
        };
        Ok(Some(RenewalInfo {
            suggestion: document.suggestion.map(suggestion).transpose()?,
            ask_at: Moment::from_micros(document.ask_at),
            failures: document.failures,
            problem: document.problem,
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
