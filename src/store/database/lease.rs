//! Leases: who may work on a row, and the fence that keeps those who lost theirs from writing. On PostgreSQL they run
//! by the database's time; on SQLite the leases of a dead process are freed at once.

use std::time::Duration;

use sqlx::Row;

use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::store::database::Transaction;
use crate::store::{Store, StoreError};

/// How long a lease lasts from its last renewal; its holder renews it at a third of that.
pub const LEASE_DURATION: Duration = Duration::from_mins(1);

/// The right to work on an auto-certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoCertificateLease {
    /// What is worked on.
    pub id: AutoCertificateId,
    /// The fence: it grows with each claim.
    pub epoch: i64,
    /// How often it had been woken when it was claimed.
    pub wakes: i64,
}

/// The right to work on a provider's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderLease {
    /// Whose account is worked on.
    pub id: ProviderId,
    /// The fence: it grows with each claim.
    pub epoch: i64,
}

/// Whether a lease still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It holds, and was renewed.
    Held,
    /// It holds, and was renewed, but what it is for was deleted: only clean up.
    Deleted,
    /// Someone else has it, or nobody.
    Lost,
}

impl Store {
    /// Renews the lease for another [`LEASE_DURATION`].
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_lease(&self, lease: &AutoCertificateLease) -> Result<LeaseState, StoreError> {
        let mut transaction = self.begin().await?;
        let tenure = self.renew_within(&mut transaction, lease).await?;
        transaction.commit().await?;
        Ok(tenure)
    }

    /// Renews the lease of a provider for another [`LEASE_DURATION`]; [`LeaseState::Lost`] also where the provider was deleted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_provider_lease(&self, lease: &ProviderLease) -> Result<LeaseState, StoreError> {
        let renewed = self
            .query("UPDATE providers SET lease_until = @now + @lease WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3")
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .execute(&self.0.pool)
            .await?;
        Ok(if renewed.rows_affected() == 1 { LeaseState::Held } else { LeaseState::Lost })
    }

    /// Gives the lease of a provider back.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn release_provider(&self, lease: &ProviderLease) -> Result<(), StoreError> {
        let released = self
            .query(
                "UPDATE providers SET lease_owner = NULL, lease_until = NULL \
                 WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3",
            )
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .execute(&self.0.pool)
            .await?;
        check_fence(released.rows_affected())
    }

    /// Frees the leases of processes that are dead, and says how many. Only SQLite can tell; on PostgreSQL they run out.
    ///
    /// # Errors
    /// Where the database or the folder of instances fails.
    pub async fn free_dead_leases(&self) -> Result<u64, StoreError> {
        let Some(presence) = &self.0.instance_lock else { return Ok(0) };
        let rows = self.query(LEASE_OWNERS).fetch_all(&self.0.pool).await?;
        let mut instances = presence.other_instances().await?;
        for row in rows {
            instances.push(row.try_get("lease_owner")?);
        }
        instances.sort();
        instances.dedup();
        let mut freed = 0;
        for instance in instances {
            if let Some(dead) = presence.find_dead(&instance).await? {
                for statement in FREE_LEASES {
                    let leases = self.query(statement).bind(instance.clone()).execute(&self.0.pool).await?;
                    freed += leases.rows_affected();
                }
                dead.remove_file().await;
            }
        }
        Ok(freed)
    }

    /// Goes on only with a lease that holds. It is renewed on the way, and its row stays locked until the end of the
    /// transaction, so that nobody can claim it between the look and the write.
    pub(in crate::store) async fn ensure_held(
        &self,
        transaction: &mut Transaction,
        lease: &AutoCertificateLease,
    ) -> Result<(), StoreError> {
        match self.renew_within(transaction, lease).await? {
            LeaseState::Held | LeaseState::Deleted => Ok(()),
            LeaseState::Lost => Err(StoreError::LostLease),
        }
    }

    async fn renew_within(
        &self,
        transaction: &mut Transaction,
        lease: &AutoCertificateLease,
    ) -> Result<LeaseState, StoreError> {
        let row = self
            .query(
                "UPDATE auto_certificates SET lease_until = @now + @lease \
                 WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 RETURNING deleted_at",
            )
            .bind(lease.id.to_string())
            .bind(self.0.instance.clone())
            .bind(lease.epoch)
            .fetch_optional(&mut **transaction)
            .await?;
        Ok(match row.map(|row| row.try_get::<Option<i64>, _>("deleted_at")).transpose()? {
            None => LeaseState::Lost,
            Some(None) => LeaseState::Held,
            Some(Some(_)) => LeaseState::Deleted,
        })
    }
}

/// A fenced write that changed no row was made without the lease.
pub(in crate::store) const fn check_fence(rows: u64) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::LostLease) } else { Ok(()) }
}

/// That nobody holds a row.
macro_rules! free {
    () => {
        "(lease_until IS NULL OR lease_until <= @now)"
    };
}
pub(in crate::store) use free;

pub(in crate::store) const LEASE_OWNERS: &str = "\
    SELECT lease_owner FROM auto_certificates WHERE lease_owner IS NOT NULL \
    UNION SELECT lease_owner FROM providers WHERE lease_owner IS NOT NULL \
    UNION SELECT lease_owner FROM deliveries WHERE lease_owner IS NOT NULL";
const FREE_LEASES: [&str; 3] = [
    "UPDATE auto_certificates SET lease_owner = NULL, lease_until = NULL \
     WHERE id IN (SELECT id FROM auto_certificates WHERE lease_owner = $1@in_order)",
    "UPDATE providers SET lease_owner = NULL, lease_until = NULL \
     WHERE id IN (SELECT id FROM providers WHERE lease_owner = $1@in_order)",
    "UPDATE deliveries SET lease_owner = NULL, lease_until = NULL \
     WHERE id IN (SELECT id FROM deliveries WHERE lease_owner = $1@in_order)",
];
