//! Work on an account that a person asks for, under the provider's lease, beside a daemon or without one.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::domain::failure::disposition::Failure;
use crate::domain::provider::Provider;
use crate::domain::value::id::ProviderId;
use crate::issuance::AttemptError;
use crate::issuance::account::{AccountRegistrar, RECHECK_INTERVAL};
use crate::store::{LEASE_DURATION, ProviderAccount, ProviderLease};

/// What is worked on. No registration or change of key that was begun before is left open.
pub(super) struct AccountRequest<'a> {
    pub(super) lease: &'a ProviderLease,
    pub(super) provider: &'a Provider,
    pub(super) account: ProviderAccount,
}

impl AccountRegistrar {
    /// Registers the account of a provider where it has none, also where a person had the one before deactivated, and
    /// returns its URL. What was noted of an account before is taken as read, and a deactivation that got no clear answer
    /// is carried to its end first.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached.
    pub async fn register_on_request(&self, id: ProviderId) -> Result<String, AttemptError> {
        self.finish_deactivation(id).await?;
        let lease = self.claim_provider(id).await?;
        self.store.store_account_note(&lease, None).await?;
        self.register(&lease).await?;
        let registered = self.store.account(id).await?.and_then(|account| account.registered);
        Ok(registered.ok_or_else(provider_deleted)?.url)
    }

    /// Does work under the lease of a provider, and gives it back.
    pub(super) async fn run_on_request<T>(
        &self,
        id: ProviderId,
        work: impl AsyncFnOnce(AccountRequest<'_>) -> Result<T, AttemptError>,
    ) -> Result<T, AttemptError> {
        let lease = self.claim_provider(id).await?;
        let done = timeout(LEASE_DURATION * 3 / 4, self.prepare_and_run(&lease, work)).await.unwrap_or_else(|_| {
            Err(Failure::retry("the CA took too long over the account; ask for the same again").into())
        });
        match done {
            // Nothing could be written down; the lease ends by itself.
            Err(stop @ (AttemptError::Store(_) | AttemptError::LeaseLost)) => Err(stop),
            done => {
                self.store.release_provider(&lease).await?;
                done
            }
        }
    }

    async fn prepare_and_run<T>(
        &self,
        lease: &ProviderLease,
        work: impl AsyncFnOnce(AccountRequest<'_>) -> Result<T, AttemptError>,
    ) -> Result<T, AttemptError> {
        let provider = self.store.provider(lease.id).await?.ok_or_else(provider_deleted)?;
        self.resolve_key_change(lease, &provider).await?;
        let mut account = self.store.account(lease.id).await?.ok_or_else(provider_deleted)?;
        if account.registered.is_none() && self.recover_registration(lease, &provider, &account).await? {
            account = self.store.account(lease.id).await?.ok_or_else(provider_deleted)?;
        }
        let used = account.registered.as_ref().map(|registered| registered.url.clone());
        match (work(AccountRequest { lease, provider: &provider, account }).await, used) {
            (Err(AttemptError::UnknownAccount(failure)), Some(lost))
                if self.forget_lost_account(lease, &lost).await? =>
            {
                self.register_new(lease, &provider).await?;
                Err(Failure::operator(format!("{failure}. That is done; `autocertd account show` tells the URL"))
                    .into())
            }
            (done, _) => done,
        }
    }

    /// The lease of a provider, as soon as whoever has it gives it back.
    async fn claim_provider(&self, id: ProviderId) -> Result<ProviderLease, AttemptError> {
        self.store.free_dead_leases().await?;
        let claimed = async {
            loop {
                match self.store.claim_provider(id).await {
                    Ok(None) => sleep(RECHECK_INTERVAL).await,
                    claimed => break claimed,
                }
            }
        };
        match timeout(CLAIM_TIMEOUT, claimed).await {
            Ok(claimed) => claimed?.ok_or_else(provider_deleted).map_err(Into::into),
            Err(_) => Err(Failure::retry("the account is being worked on elsewhere; try again in a minute").into()),
        }
    }
}

impl AccountRequest<'_> {
    /// Where the account is asked for that the provider does not have.
    pub(super) fn no_account_failure(&self) -> Failure {
        let name = &self.provider.name;
        Failure::operator(format!(
            "the provider {name} has no ACME account yet; `autocertd account register` registers one"
        ))
    }
}

fn provider_deleted() -> Failure {
    Failure::operator("the provider was deleted meanwhile")
}

/// A lease that is not renewed has run out by then.
const CLAIM_TIMEOUT: Duration = LEASE_DURATION.saturating_add(Duration::from_secs(10));
