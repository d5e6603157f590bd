//! The credentials whose end is known, as the program's parts share them. Settings that are read anew replace them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::value::credential::Credential;

/// A list that all clones see.
#[derive(Clone, Debug, Default)]
pub struct KnownCredentials(Arc<RwLock<Vec<Credential>>>);

impl KnownCredentials {
    /// Those that are known by now.
    pub fn list(&self) -> Vec<Credential> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These take the place of all others.
    pub fn replace(&self, credentials: Vec<Credential>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }
}
