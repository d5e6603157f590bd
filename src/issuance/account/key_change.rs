//! The change of an account's key: the new one is stored first, and is the account's only once the CA knows it.

use std::time::Duration;

use tokio::time::sleep;

use crate::acme::{AccountCredentials, PreparedKeyChange};
use crate::domain::provider::Provider;
use crate::domain::value::id::ProviderId;
use crate::issuance::AttemptError;
use crate::issuance::account::{AccountRegistrar, refuse_deactivated};
use crate::store::ProviderLease;

impl AccountRegistrar {
    /// Gives the account of a provider a new key (RFC 8555 section 7.3.5); returns its URL, which stays as it is. A crash
    /// at any moment leaves an account that can be used.
    ///
    /// # Errors
    /// Where there is no account, or the CA refuses, does not change keys or cannot be reached.
    pub async fn roll_over(&self, id: ProviderId) -> Result<String, AttemptError> {
        self.run_on_request(id, async |request| {
            refuse_deactivated(&request.account)?;
            let no_account = request.no_account_failure();
            let registered = request.account.registered.ok_or(no_account)?;
            let credentials = AccountCredentials::from_stored(registered.credentials)?;
            let server = &request.provider.server;
            let prepared = self.acme.prepare_key_change(server, &registered.url, credentials.key()?).await?;
            self.change_key(request.lease, request.provider, &prepared).await?;
            Ok(registered.url)
        })
        .await
    }

    /// Stores the new key, and has the CA take it.
    pub(super) async fn change_key(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
        prepared: &PreparedKeyChange,
    ) -> Result<(), AttemptError> {
        self.store.store_key_change(lease, prepared.credentials()).await?;
        match self.acme.send_key_change(prepared).await {
            Ok(credentials) => self.store_changed_key(lease, &credentials).await,
            Err(error) if error.had_no_effect() => {
                self.store.forget_key_change(lease).await?;
                Err(error.into())
            }
            Err(error) => {
                tracing::warn!(provider = %lease.id, %error, "it is not clear whether the CA took the new key; it is asked");
                if self.resolve_key_change(lease, provider).await? { Ok(()) } else { Err(error.into()) }
            }
        }
    }

    /// Finds out what became of a change that was begun, and says whether the account has the new key. Without a clear
    /// answer neither key is thrown away.
    pub(super) async fn resolve_key_change(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
    ) -> Result<bool, AttemptError> {
        let begun = self.store.account(lease.id).await?.and_then(|account| account.key_change);
        let Some(begun) = begun else { return Ok(false) };
        let mut found = self.acme.recover_key_change(&provider.server, &begun).await?;
        if found.is_none() {
            // What the CA received it may still be working on.
            sleep(RECHECK_DELAY).await;
            found = self.acme.recover_key_change(&provider.server, &begun).await?;
        }
        if let Some(credentials) = found {
            self.store_changed_key(lease, &credentials).await?;
            return Ok(true);
        }
        self.store.forget_key_change(lease).await?;
        tracing::info!(provider = %lease.id, "the change of the account's key did not reach the CA; the account keeps its key");
        Ok(false)
    }

    async fn store_changed_key(
        &self,
        lease: &ProviderLease,
        credentials: &AccountCredentials,
    ) -> Result<(), AttemptError> {
        let url = credentials.account_url();
        let registered = self.store.account(lease.id).await?.and_then(|account| account.registered);
        if registered.is_some_and(|registered| registered.url == url) {
            self.store.replace_key(lease, credentials.as_json()).await?;
        } else {
            self.store.adopt_account(lease, url, credentials.as_json()).await?;
        }
        tracing::info!(provider = %lease.id, account = url, "the account has a new key");
        Ok(())
    }
}

const RECHECK_DELAY: Duration = Duration::from_secs(5);
