//! What the own name server answers: the journal of the adapter `delegated` and its standing records, by name.

use crate::domain::value::adapter_name::AdapterName;
use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

impl Store {
    /// The texts of the delegated records at `name`, each once, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delegated_texts(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let rows = self
            .query(TEXTS)
            .bind(AdapterName::delegated().to_string())
            .bind(name.to_owned())
            .fetch_all(&self.0.pool)
            .await?;
        let mut texts = Vec::new();
        for row in &rows {
            let text = RowReader::new(row, "challenge_records").text("content")?;
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Ok(texts)
    }

    /// Whether there are delegated records at names below `name`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn has_delegated_below(&self, name: &str) -> Result<bool, StoreError> {
        let found = self
            .query(BELOW)
            .bind(AdapterName::delegated().to_string())
            .bind(format!("%.{}", escape_like(name)))
            .fetch_optional(&self.0.pool)
            .await?;
        Ok(found.is_some())
    }
}

/// As a part of a LIKE pattern that matches nothing but itself. An underscore is in most of these names.
fn escape_like(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern
}

const TEXTS: &str = "\
    SELECT id, content, created_at FROM challenge_records WHERE adapter = $1 AND name = $2 \
    UNION ALL SELECT id, content, created_at FROM standing_records WHERE adapter = $1 AND place = $2 \
    ORDER BY created_at, id";
/// It goes through the records of one adapter: those of the attempts that are open, and what stands.
const BELOW: &str = "\
    SELECT id FROM challenge_records WHERE adapter = $1 AND name LIKE $2 ESCAPE '!' \
    UNION ALL SELECT id FROM standing_records WHERE adapter = $1 AND place LIKE $2 ESCAPE '!' LIMIT 1";
