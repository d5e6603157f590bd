//! Notes on accounts.

use serde::{Deserialize, Serialize};

use crate::domain::provider::AccountNote;
use crate::domain::value::moment::Moment;
use crate::store::StoreError;
use crate::store::database::row::RowReader;

/// A note on an account as a document.
pub(in crate::store) fn account_note_to_json(note: &AccountNote) -> String {
    let (fate, account, at) = match note {
        AccountNote::Lost { account, at } => (AccountNoteKind::Lost, account, at),
        AccountNote::Deactivated { account, at } => (AccountNoteKind::Deactivated, account, at),
    };
    serde_json::json!(NoteDocument { fate, account: account.clone(), at: at.micros() }).to_string()
}

impl RowReader<'_> {
    /// Reads a note on an account.
    pub(in crate::store) fn account_note(&self, column: &'static str) -> Result<Option<AccountNote>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        let document: NoteDocument = serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))?;
        let (account, at) = (document.account, Moment::from_micros(document.at));
        Ok(Some(match document.fate {
            AccountNoteKind::Lost => AccountNote::Lost { account, at },
            AccountNoteKind::Deactivated => AccountNote::Deactivated { account, at },
        }))
    }
}

#[derive(Deserialize, Serialize)]
struct NoteDocument {
    fate: AccountNoteKind,
    account: String,
    at: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum AccountNoteKind {
    Lost,
    Deactivated,
}
