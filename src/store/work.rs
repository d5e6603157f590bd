//! Work on auto-certificates: what is due, who claims it, and how it is given back.

use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::back_off::Trouble;
use crate::domain::id::AutoCertificateId;
use crate::domain::moment::Moment;
use crate::store::{Lease, Store, StoreError};

/// An auto-certificate that was claimed for work.
#[derive(Clone, Debug)]
pub struct Claim {
    /// How it stands; `running` says that this very claim is at work.
    pub auto_certificate: AutoCertificate,
    /// The right to work on it.
    pub lease: Lease,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It came to its end, well or not; those who follow see it counted.
    Finished,
    /// It was broken off (the program stops) or found nothing to do, and does not count.
    Interrupted,
}

impl Store {
    /// What is due at `now` and not being worked on, the most urgent first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due(&self, now: Moment) -> Result<Vec<AutoCertificateId>, StoreError> {
        todo!("{now}")
    }

    /// Claims at most `limit` of what is due at `now`, the most urgent first: no certificate, then the least time left.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_due(&self, now: Moment, limit: u32) -> Result<Vec<Claim>, StoreError> {
        todo!("{now} {limit}")
    }

    /// Claims this one, due or not; nothing where it is being worked on or left no trace.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim(&self, id: AutoCertificateId) -> Result<Option<Claim>, StoreError> {
        todo!("{id}")
    }

    /// Gives the lease back and says when to look again: at once where it was woken since the claim.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn release(&self, lease: &Lease, next_look: Moment, run: RunOutcome) -> Result<(), StoreError> {
        todo!("{lease:?} {next_look} {run:?}")
    }

    /// The earliest moment at which something that nobody works on is to be looked at.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_look(&self) -> Result<Option<Moment>, StoreError> {
        todo!()
    }

    /// Notes what went wrong.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_trouble(&self, lease: &Lease, trouble: &Trouble) -> Result<(), StoreError> {
        todo!("{lease:?} {trouble:?}")
    }

    /// Takes the wish for a renewal as heard, where an open attempt that fulfils it is resumed.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn clear_renewal_request(&self, lease: &Lease) -> Result<(), StoreError> {
        todo!("{lease:?}")
    }

    /// Removes the last trace of a deleted auto-certificate. Its certificates stay until they expire.
    ///
    /// # Errors
    /// [`StoreError::RecordsLeft`] where its journal is not empty or it is not deleted, [`StoreError::LostLease`], or
    /// where the database fails.
    pub async fn purge(&self, lease: &Lease) -> Result<(), StoreError> {
        todo!("{lease:?}")
    }
}
