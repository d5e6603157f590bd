//! Orders against the limits of their CA: what would be refused is not sent, and what was sent, issued or failed counts.

use crate::acme::AcmeError;
use crate::domain::hold::{Deferral, DeferralCause};
use crate::domain::id::ProviderId;
use crate::domain::ledger::{RateLimitExemption, RateLimitLedger, OrderFacts};
use crate::domain::name::DnsName;
use crate::issuance::course::AttemptRunner;
use crate::issuance::{Issuance, AttemptError};
use crate::store::{OrderCharge, LedgerAccount, StoreError};

impl Issuance {
    /// What counts by now against the limits of a provider's CA; nothing where there is no such provider.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn ledger(&self, provider: ProviderId) -> Result<RateLimitLedger, StoreError> {
        Ok(match self.books(provider).await? {
            Some(books) => self.store.ledger(&books, self.clock.now()).await?,
            None => RateLimitLedger::default(),
        })
    }

    async fn books(&self, provider: ProviderId) -> Result<Option<LedgerAccount>, StoreError> {
        let provider = self.store.provider(provider).await?;
        Ok(provider.map(|provider| LedgerAccount {
            limits: self.acme.limits_of(&provider.server),
            account: provider.account_url,
            server: provider.server,
        }))
    }
}

impl AttemptRunner<'_> {
    /// Counts the order that is about to be sent.
    ///
    /// # Errors
    /// [`Stop::Held`] where the CA would refuse it, or why the work must stop.
    pub(super) async fn take_order(&self) -> Result<(), AttemptError> {
        let Some(booking) = self.booking().await? else { return Err(AttemptError::Abandoned) };
        let taken = self.issuance.store.take_order(self.tenure.lease(), &booking).await?;
        taken.map_err(|full| AttemptError::Held(Deferral { until: full.until, cause: DeferralCause::from(&full) }))
    }

    /// The order with the books that it counts in; nothing where its provider is gone.
    pub(super) async fn booking(&self) -> Result<Option<OrderCharge>, StoreError> {
        let Some(books) = self.issuance.books(self.attempt.provider).await? else { return Ok(None) };
        let order = OrderFacts::new(&self.attempt.names, self.allowance(&books).await?);
        Ok(Some(OrderCharge { books, order }))
    }

    /// What of the limits the order is spared.
    async fn allowance(&self, books: &LedgerAccount) -> Result<RateLimitExemption, StoreError> {
        let newest = self.issuance.store.newest_issued(self.subject.id).await?;
        let same_ca = newest.and_then(|newest| newest.server).is_some_and(|server| server == books.server);
        Ok(match RateLimitExemption::of(&self.subject.standing, same_ca, self.issuance.clock.now()) {
            // All is spared to none but an order that names the certificate which it replaces.
            RateLimitExemption::InWindow if !self.replaces => RateLimitExemption::Repetition,
            allowance => allowance,
        })
    }

    /// What the CA gave; validations that it says have failed are counted, each by its name.
    ///
    /// # Errors
    /// Its error, or why the work must stop.
    pub(super) async fn counted<T>(&self, result: Result<T, AcmeError>) -> Result<T, AttemptError> {
        if let Err(AcmeError::OrderFailed(problems)) = &result {
            let names: Vec<DnsName> =
                problems.iter().filter_map(|problem| problem.name.as_ref()?.as_str().parse().ok()).collect();
            if let Some(books) = self.issuance.books(self.attempt.provider).await? {
                self.issuance.store.count_failures(self.tenure.lease(), &books, &names).await?;
            }
        }
        Ok(result?)
    }
}
