//! The ACME account of a provider: registered once, under the provider's lease, its key stored before the CA hears of it
//! (RFC 8555 section 7.3).

use std::time::Duration;

use tokio::time::timeout;

use crate::acme::{AccountCredentials, AcmeAccount, AcmeClient, AcmeError, Registration};
use crate::domain::back_off::Trouble;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::id::ProviderId;
use crate::domain::provider::Provider;
use crate::issuance::{Stop, Tenure};
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::{LEASE, ProviderLease, RegisteredAccount, Store};

/// Registers accounts, and hands out those that are registered.
pub struct Registrar {
    store: Store,
    acme: AcmeClient,
    clock: SharedClock,
    randomness: Randomness,
}

impl Registrar {
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
    pub(super) async fn account(
        &self,
        tenure: &Tenure,
        provider: ProviderId,
        asked: bool,
    ) -> Result<AcmeAccount, Stop> {
        loop {
            tenure.hold().await?;
            let account = self.store.account(provider).await?.ok_or(Stop::Abandoned)?;
            if let Some(registered) = account.registered {
                let credentials = AccountCredentials::from_stored(registered.credentials)?;
                return Ok(self.acme.account(&credentials).await?);
            }
            if !asked {
                self.wait_out_trouble(provider).await?;
            }
            match self.store.claim_provider(provider).await? {
                Some(lease) => match self.register(&lease).await {
                    // The provider was changed in the meantime: what it is by now counts.
                    Err(Stop::Lost) => {}
                    registered => registered?,
                },
                None => tenure.during(nap()).await?,
            }
        }
    }

    /// Registers the account under `lease`, or tells the CA its changed contact, and gives the lease back. A failure is
    /// kept with the provider, where the API shows it.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached.
    pub async fn register(&self, lease: &ProviderLease) -> Result<(), Stop> {
        let Some(provider) = self.store.provider(lease.id).await? else {
            return Ok(());
        };
        let within_the_lease = timeout(LEASE * 3 / 4, self.obtain(lease, &provider)).await;
        let result = within_the_lease.unwrap_or_else(|_| {
            Err(Failure::retry(format!("{} took too long over the account; it is tried again", provider.server)).into())
        });
        match &result {
            Ok(()) => {}
            Err(Stop::Failed(failure)) => self.record(lease, &provider, failure).await?,
            // Nothing could be written down, so the lease ends by itself: given back it would be due again at once.
            Err(_) => return result,
        }
        self.store.release_provider(lease).await?;
        result
    }

    async fn record(&self, lease: &ProviderLease, provider: &Provider, failure: &Failure) -> Result<(), Stop> {
        let jitter = self.randomness.fraction();
        let trouble = Trouble::after(provider.trouble.as_ref(), failure.clone(), self.clock.now(), None, jitter);
        tracing::warn!(provider = %provider.id, next_try = %trouble.next_try, "the account is not as it should be: {failure}");
        Ok(self.store.record_provider_trouble(lease, &trouble).await?)
    }

    async fn wait_out_trouble(&self, provider: ProviderId) -> Result<(), Stop> {
        let provider = self.store.provider(provider).await?;
        match provider.and_then(|provider| provider.trouble) {
            Some(trouble) if trouble.next_try > self.clock.now() => {
                let message = format!("the provider's ACME account is not registered: {}", trouble.last);
                let disposition = match trouble.last.disposition {
                    Disposition::Operator => Disposition::Operator,
                    _ => Disposition::Retry { not_before: Some(trouble.next_try) },
                };
                Err(Failure { disposition, message }.into())
            }
            _ => Ok(()),
        }
    }

    /// After a crash between the request and its answer the CA may know the account already: the stored key finds it.
    async fn obtain(&self, lease: &ProviderLease, provider: &Provider) -> Result<(), Stop> {
        let Some(account) = self.store.account(provider.id).await? else {
            return Ok(());
        };
        if let Some(registered) = account.registered {
            if account.contact_changed {
                self.tell_contact(lease, provider, registered).await?;
            }
            return Ok(());
        }
        if let Some(pending) = &account.pending
            && let Some(credentials) = self.acme.recover_registration(&provider.server, pending).await?
        {
            tracing::info!(provider = %provider.id, "the account of an interrupted registration was found");
            return self.keep(lease, &credentials).await;
        }
        let registration = Registration {
            server: provider.server.clone(),
            email: provider.email.clone(),
            external_account: account.external_account,
        };
        for _ in 0..TRIES_FOR_A_GOOD_NONCE {
            let prepared = self.acme.prepare_registration(&registration).await?;
            self.store.store_pending_account(lease, prepared.credentials()).await?;
            match self.acme.send_registration(prepared).await {
                Ok(credentials) => return self.keep(lease, &credentials).await,
                Err(AcmeError::BadNonce) => {}
                Err(refusal @ (AcmeError::Refused { .. } | AcmeError::TermsNotAccepted { .. })) => {
                    self.store.forget_pending_account(lease).await?;
                    return Err(refusal.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::retry(format!("{} refused every nonce; it is tried again", provider.server)).into())
    }

    async fn tell_contact(
        &self,
        lease: &ProviderLease,
        provider: &Provider,
        registered: RegisteredAccount,
    ) -> Result<(), Stop> {
        let credentials = AccountCredentials::from_stored(registered.credentials)?;
        self.acme.account(&credentials).await?.tell_contact(&provider.email).await?;
        self.store.contact_told(lease).await?;
        tracing::info!(provider = %lease.id, account = registered.url, "the CA knows the new contact");
        Ok(())
    }

    async fn keep(&self, lease: &ProviderLease, credentials: &AccountCredentials) -> Result<(), Stop> {
        self.store.store_account(lease, credentials.account_url(), credentials.sealable()).await?;
        tracing::info!(provider = %lease.id, account = credentials.account_url(), "account registered");
        Ok(())
    }
}

/// Somebody else is registering the account; a moment later it is there, or free to be registered.
async fn nap() -> Result<(), Failure> {
    tokio::time::sleep(BETWEEN_LOOKS).await;
    Ok(())
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
const TRIES_FOR_A_GOOD_NONCE: usize = 20;
