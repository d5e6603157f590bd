//! Accounts of other ACME clients, carried in by their key. One with a key on P-256 is used as it is; any other one gets
//! such a key on the way, and keeps its URL.

use secrecy::ExposeSecret;

use crate::acme::{AccountCredentials, AccountKey};
use crate::domain::failure::disposition::Failure;
use crate::domain::provider::{AdoptionOutcome, ImportedAccount};
use crate::domain::value::id::ProviderId;
use crate::issuance::AttemptError;
use crate::issuance::account::AccountRegistrar;

impl AccountRegistrar {
    /// Makes an account of another ACME client the provider's own.
    ///
    /// # Errors
    /// Where the key is of no use, the CA knows no account with it, the provider has another account, or the CA refuses
    /// or cannot be reached.
    pub async fn adopt(&self, id: ProviderId, carried: &ImportedAccount) -> Result<AdoptionOutcome, AttemptError> {
        let key = AccountKey::parse(carried.key.expose_secret())
            .map_err(|error| Failure::operator(format!("the file holds no key that an account could have: {error}")))?;
        self.run_on_request(id, async |request| {
            let server = &request.provider.server;
            let Some(url) = self.acme.find_account(server, &key, carried.url.as_deref()).await? else {
                return Err(Failure::operator(format!("{server} knows no account with this key")).into());
            };
            let present = request.account.registered.filter(|present| present.url != url);
            if let Some(present) = present.filter(|_| !carried.replaces) {
                return Err(Failure::operator(format!(
                    "the provider {} has the ACME account {} already; --replace puts {url} in its place, and leaves \
                     the other one at the CA",
                    request.provider.name, present.url
                ))
                .into());
            }
            let Some(pkcs8) = key.p256_pkcs8() else {
                let prepared = self.acme.prepare_key_change(server, &url, key).await?;
                match self.change_key(request.lease, request.provider, &prepared).await {
                    // That is said of this account, and costs the provider none that it has.
                    Err(AttemptError::UnknownAccount(_)) => {
                        let words =
                            format!("{server} no longer knows the account {url}; the provider keeps what it has");
                        return Err(Failure::operator(words).into());
                    }
                    changed => changed?,
                }
                return Ok(AdoptionOutcome { url, has_new_key: true });
            };
            let credentials = AccountCredentials::from_registered(&url, server, &pkcs8)?;
            self.store.adopt_account(request.lease, &url, credentials.as_json()).await?;
            tracing::info!(provider = %id, account = url, "account carried in");
            Ok(AdoptionOutcome { url, has_new_key: false })
        })
        .await
    }
}
