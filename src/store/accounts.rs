//! The ACME accounts of providers. Every write asks for the provider's lease.

use secrecy::SecretString;

use crate::domain::back_off::Trouble;
use crate::domain::id::ProviderId;
use crate::domain::moment::Moment;
use crate::domain::provider::ExternalAccountBinding;
use crate::store::{ProviderLease, Store, StoreError};

/// The account of a provider.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account at the CA, once it is registered.
    pub registered: Option<RegisteredAccount>,
    /// The credentials of a registration that was begun and may or may not have reached the CA.
    pub pending: Option<SecretString>,
    /// The external account to bind it to, where the CA wants one.
    pub external_account: Option<ExternalAccountBinding>,
}

/// An account that the CA knows.
#[derive(Clone, Debug)]
pub struct RegisteredAccount {
    /// Its URL.
    pub url: String,
    /// Its credentials.
    pub credentials: SecretString,
}

impl Store {
    /// The account of a provider; nothing where there is no such provider.
    ///
    /// # Errors
    /// Where the database fails or a secret cannot be opened.
    pub async fn account(&self, id: ProviderId) -> Result<Option<Account>, StoreError> {
        todo!("{id}")
    }

    /// Claims at most `limit` of the providers whose account is to be registered by `now`, the longest due first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_due_providers(&self, now: Moment, limit: u32) -> Result<Vec<ProviderLease>, StoreError> {
        todo!("{now} {limit}")
    }

    /// Claims this provider, due or not; nothing where someone else has it or there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_provider(&self, id: ProviderId) -> Result<Option<ProviderLease>, StoreError> {
        todo!("{id}")
    }

    /// Keeps credentials before anything else happens to them.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_pending_account(
        &self,
        lease: &ProviderLease,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        todo!("{lease:?} {credentials:?}")
    }

    /// Keeps a registered account, which also clears pending credentials and trouble.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_account(
        &self,
        lease: &ProviderLease,
        url: &str,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        todo!("{lease:?} {url} {credentials:?}")
    }

    /// Notes what keeps the account from being registered, and when to try again.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_provider_trouble(&self, lease: &ProviderLease, trouble: &Trouble) -> Result<(), StoreError> {
        todo!("{lease:?} {trouble:?}")
    }

    /// The earliest moment at which an account that nobody works on is to be registered.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_provider_look(&self) -> Result<Option<Moment>, StoreError> {
        todo!()
    }
}
