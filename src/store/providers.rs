//! Providers.

use crate::domain::id::{AutoCertificateId, ProviderId};
use crate::domain::provider::{NewProvider, Provider};
use crate::domain::resource::{Actor, ResourceName};
use crate::store::{Listing, Page, Store, StoreError};

/// What became of the deletion of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Deleted,
    /// There was none.
    Missing,
    /// These auto-certificates still use it.
    InUse(Vec<(AutoCertificateId, ResourceName)>),
}

impl Store {
    /// Stores a provider; its account is to be registered at once.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_provider(&self, new: &NewProvider, by: &Actor) -> Result<Provider, StoreError> {
        todo!("{new:?} {by:?}")
    }

    /// The provider of this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn provider(&self, id: ProviderId) -> Result<Option<Provider>, StoreError> {
        todo!("{id}")
    }

    /// A page of providers.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers(&self, page: Page) -> Result<Listing<Provider>, StoreError> {
        todo!("{page:?}")
    }

    /// Gives a provider another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn rename_provider(
        &self,
        id: ProviderId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<Provider>, StoreError> {
        todo!("{id} {name} {by:?}")
    }

    /// Deletes a provider with its account, unless an auto-certificate that is not deleted uses it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_provider(&self, id: ProviderId) -> Result<Deletion, StoreError> {
        todo!("{id}")
    }
}
