//! The breakers of providers: what failed at each since it last did what it was asked.

use sqlx::any::AnyRow;

use crate::domain::failure::deferral::DeferralCause;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::breaker::Breaker;
use crate::domain::provider::rate_limit_ledger::LimitKind;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::server_url::ServerUrl;
use crate::store::database::Transaction;
use crate::store::database::row::RowReader;
use crate::store::documents::breaker::breaker_to_json;
use crate::store::provider::providers::TABLE;
use crate::store::{Store, StoreError};

/// What stands between a queue and its provider.
#[derive(Clone, Debug, Default)]
pub struct ProviderLoad {
    /// What failed at it lately.
    pub breaker: Option<Breaker>,
    /// How many auto-certificates are being worked on there, by the whole fleet.
    pub running: usize,
    /// How many are kept back there by the limit of the account's orders.
    pub deferred_by_limit: usize,
}

/// What tells that a provider is not down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryEvidence {
    /// It took an order.
    Order,
    /// It finished what was ordered before, as it may do while it takes no orders.
    Issue,
    /// It gave a nonce, which says nothing of orders: what failed keeps its own pause.
    Nonce,
}

impl Store {
    /// What stands between a queue and this provider; nothing where it is deleted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn provider_load(&self, provider: ProviderId) -> Result<ProviderLoad, StoreError> {
        let row = self.query(BREAKER).bind(provider.to_string()).fetch_optional(&self.0.pool).await?;
        let breaker = row.map(|row| RowReader::new(&row, TABLE).breaker("breaker")).transpose()?.flatten();
        let row = self.query(RUNNING).bind(provider.to_string()).fetch_one(&self.0.pool).await?;
        let running = RowReader::new(&row, "auto_certificates").count("running")?;
        let limit = LimitKind::Orders.as_str();
        let row =
            self.query(COUNT_DEFERRED_BY_LIMIT).bind(provider.to_string()).bind(limit).fetch_one(&self.0.pool).await?;
        Ok(ProviderLoad {
            breaker,
            running,
            deferred_by_limit: RowReader::new(&row, "auto_certificates").count("line")?,
        })
    }

    /// Notes a failure that work on `subject` met, where it affects the provider as a whole; gives the breaker after it.
    /// `jitter` is a number in `0.0 .. 1.0`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_provider_failure(
        &self,
        provider: ProviderId,
        subject: Option<AutoCertificateId>,
        failure: &Failure,
        jitter: f64,
    ) -> Result<Option<Breaker>, StoreError> {
        let mut transaction = self.begin().await?;
        let previous = self.lock_breaker(&mut transaction, provider).await?;
        let breaker = Breaker::after(previous.clone(), subject, failure, self.now(), jitter);
        if breaker != previous {
            self.query(SET)
                .bind(provider.to_string())
                .bind(breaker.as_ref().map(breaker_to_json))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        Ok(breaker)
    }

    /// Notes that the provider did what it was asked: whatever waits because it was down is due now. What it finishes of
    /// earlier orders proves nothing before the next probe. Says whether it was down.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_recovery(&self, provider: ProviderId, proof: RecoveryEvidence) -> Result<bool, StoreError> {
        // Mostly there is nothing to close, and nothing to lock for it.
        if self.query(BREAKER_IS_SET).bind(provider.to_string()).fetch_optional(&self.0.pool).await?.is_none() {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        // One that opened or closed since the look above is judged as it is by now.
        let Some(breaker) = self.lock_breaker(&mut transaction, provider).await? else { return Ok(false) };
        if proof == RecoveryEvidence::Issue && breaker.open_until().is_some_and(|probe_at| probe_at > self.now()) {
            return Ok(false);
        }
        let closed = self.query(CLOSE).bind(provider.to_string()).execute(&mut *transaction).await?;
        // Where it only stumbled, each failure is its certificate's own.
        let of_all: &[(&'static str, &'static str)] = match (breaker.open_until(), proof) {
            (None, _) => &[],
            (Some(_), RecoveryEvidence::Nonce) => &[(END_DEFERRALS, DeferralCause::PROVIDER_DOWN)],
            (Some(_), RecoveryEvidence::Order | RecoveryEvidence::Issue) => {
                &[(END_DEFERRALS, DeferralCause::PROVIDER_DOWN), (CLEAR_FAILURE_STREAKS, PROVIDER_DOWN.as_str())]
            }
        };
        for (statement, cause) in of_all {
            self.query(*statement)
                .bind(provider.to_string())
                .bind(*cause)
                .bind(self.now().micros())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(closed.rows_affected() == 1 && !of_all.is_empty())
    }

    /// Whether somebody is kept back because this provider is down, and comes back to probe it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn has_deferred_work(&self, provider: ProviderId) -> Result<bool, StoreError> {
        let row = self.query(DEFERRED_BY_CAUSE).bind(provider.to_string()).bind(DeferralCause::PROVIDER_DOWN);
        Ok(row.fetch_optional(&self.0.pool).await?.is_some())
    }

    /// The providers that are down, with their directories.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers_down(&self) -> Result<Vec<(ProviderId, ServerUrl, Breaker)>, StoreError> {
        let rows = self.query(DOWN).fetch_all(&self.0.pool).await?;
        let read = |row: &AnyRow| {
            let record = RowReader::new(row, TABLE);
            let server =
                ServerUrl::from_stored(&record.text("server")?).map_err(|error| record.corrupt("server", error))?;
            let breaker = record.breaker("breaker")?.filter(|breaker| breaker.open_until().is_some());
            Ok(breaker.map(|breaker| (server, breaker)).zip(Some(record.parsed("id")?)))
        };
        let down = self.read_undamaged(&rows, read)?.into_iter().flatten();
        Ok(down.map(|((server, breaker), id)| (id, server, breaker)).collect())
    }

    /// Claims the next probe at a provider that is down, so that nobody else sends one before `until`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_probe(
        &self,
        provider: ProviderId,
        breaker: &Breaker,
        until: Moment,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // What the columns mean is compared, not how a release spells it.
        if self.lock_breaker(&mut transaction, provider).await?.as_ref() != Some(breaker) {
            return Ok(false);
        }
        let claimed = Breaker { probe_at: Some(until), ..breaker.clone() };
        self.query(SET).bind(provider.to_string()).bind(breaker_to_json(&claimed)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Two failures at a time count as two.
    async fn lock_breaker(
        &self,
        transaction: &mut Transaction,
        provider: ProviderId,
    ) -> Result<Option<Breaker>, StoreError> {
        let lock = "UPDATE providers SET breaker = breaker WHERE id = $1 RETURNING id, breaker";
        let row = self.query(lock).bind(provider.to_string()).fetch_optional(&mut **transaction).await?;
        Ok(row.map(|row| RowReader::new(&row, TABLE).breaker("breaker")).transpose()?.flatten())
    }
}

pub(in crate::store) const DEFERRED_BY_CAUSE: &str =
    "SELECT id FROM auto_certificates WHERE provider_id = $1 AND held_kind = $2 LIMIT 1";
const DOWN: &str = "SELECT id, server, breaker FROM providers WHERE breaker IS NOT NULL";
const BREAKER: &str = "SELECT id, breaker FROM providers WHERE id = $1";
/// Those whose open attempt is with another provider count at both: a fallback is no way past the bounds of either.
pub(in crate::store) const RUNNING: &str = "\
    SELECT COUNT(*) AS running FROM auto_certificates a WHERE a.lease_owner IS NOT NULL AND a.lease_until > @now \
    AND (a.provider_id = $1 OR EXISTS (SELECT 1 FROM attempts o \
    WHERE o.auto_certificate_id = a.id AND o.ended_at IS NULL AND o.provider_id = $1))";
pub(in crate::store) const COUNT_DEFERRED_BY_LIMIT: &str = "\
    SELECT COUNT(*) AS line FROM auto_certificates WHERE provider_id = $1 AND held_kind = $2";
const BREAKER_IS_SET: &str = "SELECT id FROM providers WHERE id = $1 AND breaker IS NOT NULL";
const CLOSE: &str = "UPDATE providers SET breaker = NULL WHERE id = $1 AND breaker IS NOT NULL";
pub(in crate::store) const END_DEFERRALS: &str = "\
    UPDATE auto_certificates SET held_until = NULL, held_by = NULL, next_look = $3, wakes = wakes + 1 \
    WHERE id IN (SELECT id FROM auto_certificates WHERE provider_id = $1 AND held_kind = $2@in_order)";
/// Their own pauses were for the provider's sake, those that it asked for, too: it takes orders again.
pub(in crate::store) const CLEAR_FAILURE_STREAKS: &str = "\
    UPDATE auto_certificates SET trouble = NULL, next_look = $3, wakes = wakes + 1 \
    WHERE id IN (SELECT id FROM auto_certificates \
    WHERE provider_id = $1 AND deleted_at IS NULL AND trouble_disposition = $2@in_order)";
const PROVIDER_DOWN: Disposition = Disposition::ProviderDown { not_before: None };
const SET: &str = "UPDATE providers SET breaker = $2 WHERE id = $1";
