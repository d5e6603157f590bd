//! What is kept: one concrete store over sqlx's `AnyPool`, which serves SQLite and PostgreSQL with one set of queries.
//! Private keys and credentials are sealed on their way in and opened on their way out. It decides nothing: plans and
//! back-offs come from `domain`, and what it is told it keeps.

mod accounts;
mod attempts;
mod auto_certificates;
mod certificates;
mod error;
mod journal;
mod key_ring;
mod lease;
mod progress;
mod providers;
mod rotation;
mod tokens;
mod work;

pub use crate::config::store::{StoreSettings, StoreUrl};
pub use accounts::{Account, RegisteredAccount};
pub use auto_certificates::Creation;
pub use error::StoreError;
pub use journal::{ChallengeRecord, IntendedRecord};
pub use key_ring::{KeyError, KeyRing};
pub use lease::{LEASE, Lease, ProviderLease, Tenure};
pub use progress::{NewestSummary, Progress, RenewalRequest};
pub use providers::Deletion;
pub use rotation::Resealed;
pub use work::{Claim, RunOutcome};

use std::sync::Arc;

use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// The store. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner;

/// A part of a listing: so many items behind so many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many to pass over.
    pub offset: u32,
    /// How many to give at most.
    pub limit: u32,
}

/// A page of items in the stable order of their making.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// Whether others follow.
    pub more: bool,
}

impl Store {
    /// Opens the store, brings its tables up to date and checks that the key ring is the one it was sealed with.
    ///
    /// # Errors
    /// Where the database cannot be reached or brought up to date, or the keys are not its own.
    pub async fn open(
        settings: &StoreSettings,
        keys: KeyRing,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, StoreError> {
        todo!("{settings:?} {keys:?} {} {}", clock.now(), randomness.uuid())
    }

    /// Closes the connections, after which every call fails.
    pub async fn close(&self) {
        todo!()
    }
}
