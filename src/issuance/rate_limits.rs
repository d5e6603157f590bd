//! Orders against the limits of their CA: what would be refused is not sent, and what was sent, issued or failed counts.

use crate::acme::AcmeError;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::provider::rate_limit_ledger::{OrderFacts, RateLimitExemption, RateLimitLedger};
use crate::domain::value::id::ProviderId;
use crate::domain::value::name::DnsName;
use crate::issuance::attempt_runner::AttemptRunner;
use crate::issuance::{AttemptError, Issuance};
use crate::store::{LedgerAccount, OrderCharge, StoreError};

impl Issuance {
    /// What counts by now against the limits of a provider's CA; nothing where there is no such provider.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn load_ledger(&self, provider: ProviderId) -> Result<RateLimitLedger, StoreError> {
        Ok(match self.ledger_account(provider).await? {
            Some(books) => self.store.ledger(&books, self.clock.now()).await?,
            None => RateLimitLedger::default(),
        })
    }

    async fn ledger_account(&self, provider: ProviderId) -> Result<Option<LedgerAccount>, StoreError> {
        let provider = self.store.provider(provider).await?;
        Ok(provider.map(|provider| LedgerAccount {
            limits: self.acme.limits_for(&provider.server),
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
    pub(super) async fn charge_order(&self) -> Result<(), AttemptError> {
        let Some(booking) = self.order_charge().await? else { return Err(AttemptError::Deleted) };
        let taken = self.issuance.store.charge_order(self.lease.lease(), &booking).await?;
        taken.map_err(|full| AttemptError::Deferred(Deferral { until: full.until, cause: DeferralCause::from(&full) }))
    }

    /// The order with the books that it counts in; nothing where its provider is gone.
    pub(super) async fn order_charge(&self) -> Result<Option<OrderCharge>, StoreError> {
        let Some(books) = self.issuance.ledger_account(self.attempt.provider).await? else { return Ok(None) };
        let order = OrderFacts::new(&self.attempt.names, self.exemption(&books).await?);
        Ok(Some(OrderCharge { account: books, order }))
    }

    /// What of the limits the order is spared.
    async fn exemption(&self, books: &LedgerAccount) -> Result<RateLimitExemption, StoreError> {
        let newest = self.issuance.store.newest_issued(self.auto_certificate.id).await?;
        let same_ca = newest.and_then(|newest| newest.server).is_some_and(|server| server == books.server);
        Ok(match self.auto_certificate.standing.rate_limit_exemption(same_ca, self.issuance.clock.now()) {
            // All is spared to none but an order that names the certificate which it replaces.
            RateLimitExemption::InRenewalWindow if !self.replaces => RateLimitExemption::SameNames,
            allowance => allowance,
        })
    }

    /// What the CA gave; validations that it says have failed are counted, each by its name.
    ///
    /// # Errors
    /// Its error, or why the work must stop.
    pub(super) async fn charge_failed_validations<T>(&self, result: Result<T, AcmeError>) -> Result<T, AttemptError> {
        if let Err(AcmeError::OrderFailed(problems)) = &result {
            let names: Vec<DnsName> =
                problems.iter().filter_map(|problem| problem.name.as_ref()?.as_str().parse().ok()).collect();
            if let Some(books) = self.issuance.ledger_account(self.attempt.provider).await? {
                self.issuance.store.charge_failed_validations(self.lease.lease(), &books, &names).await?;
            }
        }
        Ok(result?)
    }
}
