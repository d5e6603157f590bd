//! The rotation of the master key.

use crate::store::{Store, StoreError};

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// So many values are sealed anew.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

impl Store {
    /// Adds a new master key and seals everything anew under it, or goes on with a rotation that was interrupted.
    ///
    /// # Errors
    /// Where the key file cannot be replaced, a value cannot be opened or the database fails; what is sealed anew stays so.
    pub async fn rotate_master_key(&self, mut progress: impl FnMut(Resealed)) -> Result<Resealed, StoreError> {
        progress(Resealed { done: 0, total: 0 });
        todo!()
    }
}
