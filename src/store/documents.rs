//! Values that are kept as JSON text, because no query looks into them: names, failures and troubles here, the rest in
//! files of their own. What a query asks for has a column beside the document, which a trigger fills.

pub(super) mod account_note;
pub(super) mod breaker;
pub(super) mod preflight;
pub(super) mod renewal_info;
pub(super) mod revocation;

use serde::{Deserialize, Serialize};

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::store::StoreError;
use crate::store::database::row::RowReader;

/// Texts as a document.
pub(super) fn texts_to_json(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<serde_json::Value>().to_string()
}

/// Ids as a document, for a statement that asks for all of them at once (`@listed1` in [`Dialect::sql`]).
///
/// [`Dialect::sql`]: crate::store::database::dialect::Dialect::sql
pub(super) fn ids_to_json<T: ToString>(ids: &[T]) -> String {
    texts_to_json(ids.iter().map(ToString::to_string))
}

/// A failure as a document.
pub(super) fn failure_to_json(failure: &Failure) -> String {
    serde_json::json!(FailureDocument::from(failure)).to_string()
}

/// A trouble as a document.
pub(super) fn failure_streak_to_json(trouble: &FailureStreak) -> String {
    serde_json::json!(FailureStreakDocument::from(trouble)).to_string()
}

impl RowReader<'_> {
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
    pub(super) fn failure_streak(&self, column: &'static str) -> Result<Option<FailureStreak>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: FailureStreakDocument =
            serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        self.require_known(column, document.into_failure_streak()).map(Some)
    }
}

#[derive(Deserialize, Serialize)]
struct FailureStreakDocument {
    failures: u32,
    last: FailureDocument,
    at: i64,
    next_try: i64,
}

#[derive(Deserialize, Serialize)]
struct FailureDocument {
    disposition: String,
    not_before: Option<i64>,
    /// Bounded and printable also where a former release stored it as it came.
    message: RemoteMessage,
}

impl FailureStreakDocument {
    /// Nothing where its disposition is none that is known.
    fn into_failure_streak(self) -> Option<FailureStreak> {
        // Older versions believed whatever the other side asked for.
        Some(
            FailureStreak {
                failures: self.failures,
                last: self.last.into_failure()?,
                at: Moment::from_micros(self.at),
                next_try: Moment::from_micros(self.next_try),
            }
            .with_capped_pause(),
        )
    }
}

impl FailureDocument {
    /// Nothing where its disposition is none that is known.
    fn into_failure(self) -> Option<Failure> {
        let not_before = self.not_before.map(Moment::from_micros);
        let disposition = Disposition::from_parts(&self.disposition, not_before)?;
        Some(Failure { disposition, message: self.message })
    }
}

impl From<&FailureStreak> for FailureStreakDocument {
    fn from(trouble: &FailureStreak) -> Self {
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
