//! API tokens: who may speak to the API, and what for.

use crate::domain::value::id::TokenId;
use crate::domain::value::moment::Moment;
use crate::domain::value::resource::{Actor, ResourceName};

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScope {
    /// Everything.
    Full,
    /// Only look.
    ReadOnly,
}

impl TokenScope {
    /// The name in the store and in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
        }
    }

    /// Reads the name in the store.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Full, Self::ReadOnly].into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A token without its secret, of which only a hash is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its identity, which is also part of its text.
    pub id: TokenId,
    /// Its name, which becomes `createdBy`.
    pub name: ResourceName,
    /// What it may do.
    pub scope: TokenScope,
    /// When it was made.
    pub created: Moment,
}

impl ApiToken {
    /// The holder, as audits name it.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.to_string(), id: self.id.uuid() }
    }
}
