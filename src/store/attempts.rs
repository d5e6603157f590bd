//! Attempts, stage by stage. Every write asks for the lease.

use crate::domain::attempt::{Attempt, Stage};
use crate::domain::certificate::NewCertificate;
use crate::domain::disposition::Failure;
use crate::domain::id::{AttemptId, AutoCertificateId, CertificateId};
use crate::domain::moment::Moment;
use crate::store::{Lease, Store, StoreError};

impl Store {
    /// Stores an attempt at its beginning, which also fulfils the wish for a renewal.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where another attempt is open or the database fails.
    pub async fn begin_attempt(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        todo!("{lease:?} {attempt:?}")
    }

    /// The attempt that is not over, where there is one.
    ///
    /// # Errors
    /// Where the database fails or the key cannot be opened.
    pub async fn open_attempt(&self, id: AutoCertificateId) -> Result<Option<Attempt>, StoreError> {
        todo!("{id}")
    }

    /// Stores the next stage of an open attempt.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], or where the database fails.
    pub async fn advance(&self, lease: &Lease, attempt: AttemptId, stage: &Stage) -> Result<(), StoreError> {
        todo!("{lease:?} {attempt} {stage:?}")
    }

    /// Ends an open attempt that failed beyond use; its records are to be removed and its key is forgotten.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], or where the database fails.
    pub async fn end_attempt(&self, lease: &Lease, attempt: AttemptId, failure: &Failure) -> Result<(), StoreError> {
        todo!("{lease:?} {attempt} {failure}")
    }

    /// Stores what was issued and ends the attempt, all in one. Asked again for the same attempt it gives the same
    /// certificate.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], or where the database fails.
    pub async fn store_issued(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        new: &NewCertificate,
        now: Moment,
    ) -> Result<CertificateId, StoreError> {
        todo!("{lease:?} {attempt:?} {new:?} {now}")
    }
}
