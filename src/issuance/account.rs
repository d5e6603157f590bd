//! The ACME account of a provider: registered once, under the provider's lease, its key stored before the CA hears of it
//! (RFC 8555 section 7.3).

mod adoption;
mod deactivation;
mod key_change;
mod lost_account;
mod request;

use std::time::Duration;

use tokio::time::timeout;

use crate::acme::{AccountCredentials, AcmeAccount, AcmeClient, AcmeError, Registration};
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::{AccountNote, Provider};
use crate::domain::value::id::ProviderId;
use crate::issuance::{AttemptError, HeldLease};
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::{LEASE_DURATION, ProviderAccount, ProviderLease, RegisteredAccount, Store};

/// Registers accounts, and hands out those that are registered.
pub struct AccountRegistrar {
    store: Store,
    acme: AcmeClient,
    clock: SharedClock,
    randomness: Randomness,
}

impl AccountRegistrar {
    /// Puts the parts together.
    pub const fn new(store: Store, acme: AcmeClient, clock: SharedClock, randomness: Randomness) -> Self {
        Self { store, acme, clock, randomness }
    }

    /// The way to all CAs.
    pub(super) const fn acme(&self) -> &AcmeClient {
        &self.acme
    }

    /// The account of a provider, registered first where it is not yet. A CA that refused lately is not asked again
    /// before its time, unless a person `asked`.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached, or the work must stop.
    pub(super) async fn ensure_account(
        &self,
        tenure: &HeldLease,
        provider: ProviderId,
        asked: bool,
    ) -> Result<AcmeAccount, AttemptError> {
        loop {
            tenure.ensure_held().await?;
            let account = self.store.account(provider).await?.ok_or(AttemptError::Deleted)?;
            refuse_deactivated(&account)?;
            match account.registered {
                Some(registered) if account.key_change.is_none() => {
                    let credentials = AccountCredentials::from_stored(registered.credentials)?;
                    return Ok(self.acme.account(&credentials).await?);
                }
                // Which key it has is found out first.
                Some(_) => {}
                None if asked => {}
                None => self.check_back_off(provider).await?,
            }
            match self.store.claim_provider(provider).await? {
                Some(lease) => match self.register(&lease).await {
                    // The provider was changed in the meantime: what it is by now counts.
                    Err(AttemptError::LeaseLost) => {}
                    registered => registered?,
                },
                None => tenure.run_while_held(pause_before_recheck()).await?,
            }
        }
    }

    /// The account of a provider as it is: where there is none, none is registered for this.
    ///
    /// # Errors
    /// Where there is none, or the CA cannot be reached.
    pub(super) async fn load_registered(&self, provider: ProviderId) -> Result<AcmeAccount, AttemptError> {
        let deleted = || {
            Failure::operator(
                "the provider was deleted with its account; only whoever holds the private key can revoke",
            )
        };
        let mut account = self.store.account(provider).await?.ok_or_else(deleted)?;
        if account.registered.is_some() && account.key_change.is_some() {
            // Which key it has is found out first.
            let lease = self.store.claim_provider(provider).await?;
            let lease = lease.ok_or_else(|| Failure::retry("the provider's account is being worked on"))?;
            self.register(&lease).await?;
            account = self.store.account(provider).await?.ok_or_else(deleted)?;
        }
        let registered =
            account.registered.ok_or_else(|| Failure::retry("the provider's account is not registered yet"))?;
        let credentials = AccountCredentials::from_stored(registered.credentials)?;
        Ok(self.acme.account(&credentials).await?)
    }

    /// Registers the account under `lease`, or tells the CA its changed contact, and gives the lease back. A failure is
    /// kept with the provider, where the API shows it.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached.
    pub async fn register(&self, lease: &ProviderLease) -> Result<(), AttemptError> {
        let Some(provider) = self.store.provider(lease.id).await? else {
            return Ok(());
        };
        let within_the_lease = timeout(LEASE_DURATION * 3 / 4, self.register_or_update(lease, &provider)).await;
        let result = within_the_lease.unwrap_or_else(|_| {
            Err(Failure::retry(format!("{} took too long over the account; it is tried again", provider.server)).into())
        });
        match &result {
            Ok(()) => {}
            Err(AttemptError::Failed(failure) | AttemptError::UnknownAccount(failure)) => {
                self.record_failure(lease, &provider, failure).await?;
            }
            // Nothing could be written down, so the lease ends by itself: given back it would be due again at once.
            Err(_) => return result,
        }
        self.store.release_provider(lease).await?;
        result
    }

    async fn record_failure(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
        failure: &Failure,
    ) -> Result<(), AttemptError> {
        let jitter = self.randomness.fraction();
        let trouble =
            FailureStreak::after(provider.failure_streak.as_ref(), failure.clone(), self.clock.now(), None, jitter);
        tracing::warn!(provider = %provider.id, next_try = %trouble.next_try, "the account is not as it should be: {failure}");
        Ok(self.store.record_account_failure_streak(lease, &trouble).await?)
    }

    async fn check_back_off(&self, provider: ProviderId) -> Result<(), AttemptError> {
        let provider = self.store.provider(provider).await?;
        match provider.and_then(|provider| provider.failure_streak) {
            // What seems to lie ahead was written by a clock that was.
            Some(trouble) if trouble.next_try > self.clock.now() && trouble.at <= self.clock.now() => {
                let message = format!("the provider's ACME account is not registered: {}", trouble.last).into();
                let disposition = match trouble.last.disposition {
                    Disposition::Operator => Disposition::Operator,
                    _ => Disposition::Retry { not_before: Some(trouble.next_try) },
                };
                Err(Failure { disposition, message }.into())
            }
            _ => Ok(()),
        }
    }

    async fn register_or_update(&self, lease: &ProviderLease, provider: &Provider) -> Result<(), AttemptError> {
        self.resolve_key_change(lease, provider).await?;
        let Some(account) = self.store.account(provider.id).await? else {
            return Ok(());
        };
        refuse_deactivated(&account)?;
        let Some(registered) = account.registered else {
            return self.register_new(lease, provider).await;
        };
        if !account.contact_changed {
            return Ok(());
        }
        let url = registered.url.clone();
        match self.update_contact(lease, provider, registered).await {
            Err(AttemptError::UnknownAccount(_)) if self.forget_lost_account(lease, &url).await? => {
                self.register_new(lease, provider).await
            }
            told => told,
        }
    }

    async fn register_new(&self, lease: &ProviderLease, provider: &Provider) -> Result<(), AttemptError> {
        let Some(account) = self.store.account(provider.id).await? else {
            return Ok(());
        };
        if self.recover_registration(lease, provider, &account).await? {
            return Ok(());
        }
        let lost = account.note.as_ref();
        let registration = Registration {
            server: provider.server.clone(),
            email: provider.email.clone(),
            external_account: account.external_account.clone(),
        };
        for _ in 0..MAX_NONCE_TRIES {
            let prepared = self.acme.prepare_registration(&registration).await?;
            self.store.store_pending_account(lease, prepared.credentials()).await?;
            match self.acme.send_registration(prepared).await {
                Ok(credentials) => return self.store_account(lease, &credentials, lost).await,
                Err(AcmeError::BadNonce) => {}
                // A server in trouble may have registered it all the same: its key finds it the next time.
                Err(refusal @ (AcmeError::Refused { .. } | AcmeError::TermsNotAccepted { .. }))
                    if refusal.had_no_effect() =>
                {
                    self.store.forget_pending_account(lease).await?;
                    return Err(refusal.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::retry(format!("{} refused every nonce; it is tried again", provider.server)).into())
    }

    /// After a crash between the request and its answer the CA may know the account already: the stored key finds it.
    async fn recover_registration(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
        account: &ProviderAccount,
    ) -> Result<bool, AttemptError> {
        let Some(pending) = &account.pending else { return Ok(false) };
        let Some(credentials) = self.acme.recover_registration(&provider.server, pending).await? else {
            return Ok(false);
        };
        tracing::info!(provider = %provider.id, "the account of an interrupted registration was found");
        self.store_account(lease, &credentials, account.note.as_ref()).await?;
        Ok(true)
    }

    async fn update_contact(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
        registered: RegisteredAccount,
    ) -> Result<(), AttemptError> {
        let credentials = AccountCredentials::from_stored(registered.credentials)?;
        self.acme.account(&credentials).await?.update_contact(&provider.email).await?;
        self.store.record_contact_updated(lease).await?;
        tracing::info!(provider = %lease.id, account = registered.url, "the CA knows the new contact");
        Ok(())
    }

    async fn store_account(
        &self,
        lease: &ProviderLease,
        credentials: &AccountCredentials,
        note: Option<&AccountNote>,
    ) -> Result<(), AttemptError> {
        let url = credentials.account_url();
        self.store.store_account(lease, url, credentials.as_json()).await?;
        tracing::info!(provider = %lease.id, account = url, "account registered");
        if let Some(AccountNote::Lost { account: lost, .. }) = note {
            tracing::error!(
                provider = %lease.id, lost, account = url,
                "another ACME account takes the place of one that the CA no longer knew; CAA records that pin the lost \
                 one (accounturi, RFC 8657) forbid every order until they name the new one"
            );
        }
        Ok(())
    }
}

/// What a person had deactivated is used by nobody, and no other account is registered silently.
fn refuse_deactivated(account: &ProviderAccount) -> Result<(), Failure> {
    match &account.note {
        Some(AccountNote::Deactivated { account, at }) => Err(Failure::operator(format!(
            "the provider's ACME account {account} was deactivated at {at}, as was asked for; `autocertd account \
             register` registers another one, or give the auto-certificate another provider"
        ))),
        Some(AccountNote::Lost { .. }) | None => Ok(()),
    }
}

/// Somebody else is registering the account; a moment later it is there, or free to be registered.
async fn pause_before_recheck() -> Result<(), Failure> {
    tokio::time::sleep(RECHECK_INTERVAL).await;
    Ok(())
}

const RECHECK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_NONCE_TRIES: usize = 20;
