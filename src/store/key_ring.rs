//! The master keys and their file.

use std::path::Path;

use crate::config::store::StoreUrl;

/// The keys that seal what must stay secret; the first is active.
#[derive(Clone, Debug)]
pub struct KeyRing;

/// What is wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {}

impl KeyRing {
    /// Reads the key file.
    ///
    /// # Errors
    /// Where it is missing, readable by others or malformed.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        todo!("{}", path.display())
    }

    /// Makes a key file with one fresh key. It never overwrites one.
    ///
    /// # Errors
    /// Where the file exists or cannot be written.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        todo!("{}", path.display())
    }

    /// Reads the key file of a store, or makes one where the store is a SQLite file that does not exist yet.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::generate`].
    pub fn of_store(path: &Path, url: &StoreUrl) -> Result<Self, KeyError> {
        todo!("{} {url}", path.display())
    }
}
