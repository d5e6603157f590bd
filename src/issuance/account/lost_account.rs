//! Accounts that the CA no longer knows. Its word `accountDoesNotExist`, and nothing else, has another one registered at
//! once, loudly: CAA records may pin the lost one (RFC 8657).

use secrecy::ExposeSecret;
use time::Duration;

use crate::acme::AcmeAccount;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::AccountNote;
use crate::domain::value::id::ProviderId;
use crate::issuance::account::{AccountRegistrar, pause_before_recheck};
use crate::issuance::{AttemptError, HeldLease};
use crate::store::ProviderLease;

impl AccountRegistrar {
    /// Registers another account in place of the `lost` one, unless somebody has done so already. A registration that
    /// fails is kept with the provider and tried again.
    ///
    /// # Errors
    /// Where the work must stop.
    pub(in crate::issuance) async fn replace_lost_account(
        &self,
        tenure: &HeldLease,
        provider: ProviderId,
        lost: &str,
    ) -> Result<(), AttemptError> {
        let lease = loop {
            tenure.ensure_held().await?;
            match self.store.claim_provider(provider).await? {
                Some(lease) => break lease,
                None => tenure.run_while_held(pause_before_recheck()).await?,
            }
        };
        if !self.forget_lost_account(&lease, lost).await? {
            return Ok(self.store.release_provider(&lease).await?);
        }
        match self.register(&lease).await {
            Err(AttemptError::Failed(_) | AttemptError::UnknownAccount(_) | AttemptError::LeaseLost) => Ok(()),
            registered => registered,
        }
    }

    /// Forgets the account where it is still the `lost` one, and says whether another one is to be registered. A CA that
    /// forgets accounts over and over is not flooded with new ones.
    pub(super) async fn forget_lost_account(&self, lease: &ProviderLease, lost: &str) -> Result<bool, AttemptError> {
        let Some(account) = self.store.account(lease.id).await? else { return Ok(false) };
        if account.registered.is_none_or(|registered| registered.url != lost) {
            return Ok(false);
        }
        let now = self.clock.now();
        match account.note {
            Some(AccountNote::Deactivated { .. }) => return Ok(false),
            Some(AccountNote::Lost { at, .. }) if at <= now && now - at < MIN_TIME_BETWEEN_LOSSES => {
                tracing::error!(
                    provider = %lease.id, account = lost,
                    "the CA does not know the ACME account that was registered only since {at}; no other one is \
                     registered for now"
                );
                return Ok(false);
            }
            Some(AccountNote::Lost { .. }) | None => {}
        }
        tracing::error!(provider = %lease.id, account = lost, "the CA no longer knows the ACME account; another one is registered");
        let note = AccountNote::Lost { account: lost.to_owned(), at: now };
        self.store.forget_account(lease, &note, Some(now)).await?;
        Ok(true)
    }

    /// What a failure means by now. A request that was signed for an account or with a key that was replaced meanwhile
    /// was refused for that, which says nothing of the order.
    pub(in crate::issuance) async fn reassess_failure(
        &self,
        provider: ProviderId,
        used: Option<&AcmeAccount>,
        failure: Failure,
    ) -> Result<Failure, AttemptError> {
        let Some(used) = used.filter(|_| matches!(failure.disposition, Disposition::Operator | Disposition::Restart))
        else {
            return Ok(failure);
        };
        let present = self.store.account(provider).await?.and_then(|account| account.registered);
        let same = present
            .is_none_or(|present| present.credentials.expose_secret() == used.credentials().as_json().expose_secret());
        Ok(if same {
            failure
        } else {
            Failure::retry(format!("the provider's ACME account or its key was replaced meanwhile: {failure}"))
        })
    }
}

/// Far longer than a registration takes to spread at the CA.
const MIN_TIME_BETWEEN_LOSSES: Duration = Duration::hours(1);
