//! Auto-certificates and how they stand.

use crate::domain::auto_certificate::{AutoCertificate, NewAutoCertificate};
use crate::domain::id::AutoCertificateId;
use crate::domain::resource::{Actor, ResourceName};
use crate::store::{Listing, Page, Store, StoreError};

/// What became of the making of an auto-certificate.
#[derive(Clone, Debug)]
pub enum Creation {
    /// It is stored.
    Created(Box<AutoCertificate>),
    /// There is no such provider.
    UnknownProvider,
    /// As many as allowed are there already.
    LimitReached,
}

impl Store {
    /// Stores an auto-certificate, due at once, unless `limit` of them are there already.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_auto_certificate(
        &self,
        new: &NewAutoCertificate,
        by: &Actor,
        limit: u32,
    ) -> Result<Creation, StoreError> {
        todo!("{new:?} {by:?} {limit}")
    }

    /// The auto-certificate of this id, unless it is deleted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificate(&self, id: AutoCertificateId) -> Result<Option<AutoCertificate>, StoreError> {
        todo!("{id}")
    }

    /// A page of auto-certificates, of those with this common name where one is given.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates(
        &self,
        page: Page,
        common_name: Option<&str>,
    ) -> Result<Listing<AutoCertificate>, StoreError> {
        todo!("{page:?} {common_name:?}")
    }

    /// Gives an auto-certificate another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn rename_auto_certificate(
        &self,
        id: AutoCertificateId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<AutoCertificate>, StoreError> {
        todo!("{id} {name} {by:?}")
    }

    /// Deletes an auto-certificate: it is gone for everyone but the work that cleans up behind it. Its certificates
    /// stay. `false` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_auto_certificate(&self, id: AutoCertificateId) -> Result<bool, StoreError> {
        todo!("{id}")
    }

    /// The auto-certificates that a person may mean: by id, by name or by common name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn matching_auto_certificates(&self, text: &str) -> Result<Vec<AutoCertificateId>, StoreError> {
        todo!("{text}")
    }
}
