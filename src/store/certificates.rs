//! Certificates, uploaded and issued.

use secrecy::SecretString;

use crate::domain::certificate::{Certificate, NewCertificate};
use crate::domain::id::{AutoCertificateId, CertificateId};
use crate::domain::moment::Moment;
use crate::domain::resource::{Actor, ResourceName};
use crate::store::{Listing, Page, Store, StoreError};

impl Store {
    /// Stores a certificate that a person gave.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn upload_certificate(&self, new: &NewCertificate, by: &Actor) -> Result<Certificate, StoreError> {
        todo!("{new:?} {by:?}")
    }

    /// The certificate of this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate(&self, id: CertificateId) -> Result<Option<Certificate>, StoreError> {
        todo!("{id}")
    }

    /// The private key of a certificate, PEM.
    ///
    /// # Errors
    /// Where the database fails or the key cannot be opened.
    pub async fn certificate_private_key(&self, id: CertificateId) -> Result<Option<SecretString>, StoreError> {
        todo!("{id}")
    }

    /// A page of certificates: of those with this common name, and of those issued for this auto-certificate, where
    /// they are given.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificates(
        &self,
        page: Page,
        common_name: Option<&str>,
        auto_certificate: Option<AutoCertificateId>,
    ) -> Result<Listing<Certificate>, StoreError> {
        todo!("{page:?} {common_name:?} {auto_certificate:?}")
    }

    /// Gives a certificate another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn rename_certificate(
        &self,
        id: CertificateId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<Certificate>, StoreError> {
        todo!("{id} {name} {by:?}")
    }

    /// Deletes a certificate with its private key; where it was the last of its auto-certificate, that one is looked at
    /// at once. `false` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_certificate(&self, id: CertificateId) -> Result<bool, StoreError> {
        todo!("{id}")
    }

    /// Removes the issued certificates that expired 30 days before `now`, and says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_expired(&self, now: Moment) -> Result<u64, StoreError> {
        todo!("{now}")
    }
}
