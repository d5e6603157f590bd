//! Leases: who may work on a row, and the fence that keeps those who lost theirs from writing.

use std::time::Duration;

use crate::domain::id::{AutoCertificateId, ProviderId};
use crate::store::{Store, StoreError};

/// How long a lease lasts from its last renewal; its holder renews it at a third of that.
pub const LEASE: Duration = Duration::from_secs(60);

/// The right to work on an auto-certificate. Every write under it raises no epoch but asks for the one it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
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
pub enum Tenure {
    /// It holds, and was renewed.
    Held,
    /// It holds, but what it is for was deleted: only clean up.
    Deleted,
    /// Someone else has it, or nobody.
    Lost,
}

impl Store {
    /// Renews the lease for another [`LEASE`].
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<Tenure, StoreError> {
        todo!("{lease:?}")
    }

    /// Renews the lease of a provider for another [`LEASE`]; [`Tenure::Lost`] also where the provider was deleted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_provider_lease(&self, lease: &ProviderLease) -> Result<Tenure, StoreError> {
        todo!("{lease:?}")
    }

    /// Gives the lease of a provider back.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn release_provider(&self, lease: &ProviderLease) -> Result<(), StoreError> {
        todo!("{lease:?}")
    }

    /// Frees the leases of processes that are dead, and says how many. Only SQLite can tell; on PostgreSQL they run out.
    ///
    /// # Errors
    /// Where the database or the folder of instances fails.
    pub async fn free_dead_leases(&self) -> Result<u64, StoreError> {
        todo!()
    }
}
