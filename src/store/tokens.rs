//! API tokens, of which only a hash is kept.

use secrecy::SecretString;

use crate::domain::id::TokenId;
use crate::domain::resource::ResourceName;
use crate::domain::token::{Scope, Token};
use crate::store::{Store, StoreError};

impl Store {
    /// Makes a token. Its text is shown this once and never again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_token(&self, name: &ResourceName, scope: Scope) -> Result<(Token, SecretString), StoreError> {
        todo!("{name} {scope:?}")
    }

    /// Every token, in the order of their making.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        todo!()
    }

    /// The tokens of this name, in the order of their making.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tokens_named(&self, name: &ResourceName) -> Result<Vec<Token>, StoreError> {
        todo!("{name}")
    }

    /// Revokes a token at once; `false` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoke_token(&self, id: TokenId) -> Result<bool, StoreError> {
        todo!("{id}")
    }

    /// The token of this text, where the text is right.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authenticate(&self, text: &str) -> Result<Option<Token>, StoreError> {
        todo!("{}", text.len())
    }
}
