//! API tokens. Their text is `autocertd_<id>_<secret>`, of which only the SHA-256 of the secret is kept: with 256 random
//! bits there is nothing to guess, so no slow hash is needed.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use crate::domain::value::id::TokenId;
use crate::domain::value::resource::ResourceName;
use crate::domain::value::token::{ApiToken, TokenScope};
use crate::store::database::row::RowReader;
use crate::store::{KeyError, Store, StoreError};

impl Store {
    /// Makes a token. Its text is shown this once and never again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_token(
        &self,
        name: &ResourceName,
        scope: TokenScope,
    ) -> Result<(ApiToken, SecretString), StoreError> {
        let token = ApiToken { id: self.0.randomness.uuid().into(), name: name.clone(), scope, created: self.now() };
        let mut bytes = Zeroizing::new([0; SECRET_LENGTH]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Cipher)?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        self.query("INSERT INTO tokens (id, name, scope, secret_hash, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(token.id.to_string())
            .bind(token.name.to_string())
            .bind(token.scope.as_str())
            .bind(hash_secret(&secret))
            .bind(token.created.micros())
            .execute(&self.0.pool)
            .await?;
        let text = format!("{PREFIX}{}_{}", token.id.uuid().simple(), secret.as_str());
        Ok((token, SecretString::from(text)))
    }

    /// Every token, in the order of their making.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.read_undamaged(&self.query(LIST).fetch_all(&self.0.pool).await?, read)
    }

    /// The tokens of this name, in the order of their making.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tokens_named(&self, name: &ResourceName) -> Result<Vec<ApiToken>, StoreError> {
        self.read_undamaged(&self.query(LIST_NAMED).bind(name.to_string()).fetch_all(&self.0.pool).await?, read)
    }

    /// Revokes a token at once; `false` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoke_token(&self, id: TokenId) -> Result<bool, StoreError> {
        let deleted = self.query("DELETE FROM tokens WHERE id = $1").bind(id.to_string()).execute(&self.0.pool).await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// The token of this text, where the text is right.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authenticate(&self, text: &str) -> Result<Option<ApiToken>, StoreError> {
        let Some((id, secret)) = split_token(text) else { return Ok(None) };
        let row = self
            .query("SELECT id, name, scope, created_at, secret_hash FROM tokens WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.0.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let stored = RowReader::new(&row, TABLE).bytes("secret_hash")?;
        match verify_slices_are_equal(&stored, &hash_secret(secret)) {
            Ok(()) => read(&row).map(Some),
            Err(_) => Ok(None),
        }
    }
}

fn split_token(text: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    id.parse().ok().map(|id| (id, secret))
}

fn hash_secret(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

fn read(row: &AnyRow) -> Result<ApiToken, StoreError> {
    let record = RowReader::new(row, TABLE);
    Ok(ApiToken {
        id: record.parsed("id")?,
        name: record.name("name")?,
        scope: record.require_known("scope", TokenScope::from_name(&record.text("scope")?))?,
        created: record.moment("created_at")?,
    })
}

const TABLE: &str = "tokens";
const PREFIX: &str = "autocertd_";
const SECRET_LENGTH: usize = 32;
pub(super) const LIST: &str = "SELECT id, name, scope, created_at FROM tokens ORDER BY created_at, id";
pub(super) const LIST_NAMED: &str =
    "SELECT id, name, scope, created_at FROM tokens WHERE name = $1 ORDER BY created_at, id";
