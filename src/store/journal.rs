//! The journal of challenge records: what was, or may have been, written into the DNS and is to be removed again.

use crate::domain::id::{AttemptId, AutoCertificateId, ChallengeRecordId};
use crate::domain::moment::Moment;
use crate::store::{Lease, Store, StoreError};

/// A TXT record that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct IntendedRecord<'a> {
    /// Which attempt needs it.
    pub attempt: AttemptId,
    /// The DNS adapter that makes it.
    pub adapter: &'a str,
    /// The zone that it goes to.
    pub zone_id: &'a str,
    /// Its full name.
    pub name: &'a str,
    /// Its text.
    pub content: &'a str,
}

/// A TXT record that was, or may have been, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeRecord {
    /// Its identity here.
    pub id: ChallengeRecordId,
    /// Which attempt needed it.
    pub attempt: AttemptId,
    /// The DNS adapter that made it.
    pub adapter: String,
    /// The zone that it went to.
    pub zone_id: String,
    /// Its identity there, once that is known.
    pub record_id: Option<String>,
    /// Its full name.
    pub name: String,
    /// Its text.
    pub content: String,
    /// How often its removal failed.
    pub removal_tries: u32,
}

impl Store {
    /// Notes a record before it is made.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn intend_record(
        &self,
        lease: &Lease,
        record: &IntendedRecord<'_>,
    ) -> Result<ChallengeRecordId, StoreError> {
        todo!("{lease:?} {record:?}")
    }

    /// Notes the identity that the adapter gave to a record. It asks for no lease: what is true of the DNS is kept,
    /// whoever finds it out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_presented(&self, id: ChallengeRecordId, record_id: &str) -> Result<(), StoreError> {
        todo!("{id} {record_id}")
    }

    /// The records of an auto-certificate that are not known to be gone, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn challenge_records(&self, id: AutoCertificateId) -> Result<Vec<ChallengeRecord>, StoreError> {
        todo!("{id}")
    }

    /// Forgets a record that is gone from the DNS.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_removed(&self, id: ChallengeRecordId) -> Result<(), StoreError> {
        todo!("{id}")
    }

    /// Notes that a removal failed and when to try again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn removal_failed(&self, id: ChallengeRecordId, next_try: Moment) -> Result<(), StoreError> {
        todo!("{id} {next_try}")
    }
}
