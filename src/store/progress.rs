//! What people ask of renewals: that one be made, and how it goes.

use crate::domain::attempt::StageKind;
use crate::domain::back_off::Trouble;
use crate::domain::id::{AutoCertificateId, CertificateId};
use crate::domain::moment::Moment;
use crate::domain::resource::ResourceName;
use crate::store::{Store, StoreError};

/// What became of the wish for a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalRequest {
    /// It is due now.
    Requested,
    /// An attempt is being worked on right now: follow that one.
    Running,
    /// There is no such auto-certificate.
    Missing,
}

/// How an auto-certificate's renewal goes.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which one.
    pub id: AutoCertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Its common name, as it was sent.
    pub common_name: String,
    /// How far the open attempt is, where there is one.
    pub stage: Option<StageKind>,
    /// Whether someone works on it right now.
    pub running: bool,
    /// Whether a renewal was asked for and not begun yet.
    pub renewal_requested: bool,
    /// How many runs have finished; it grows at the end of each.
    pub runs: u64,
    /// What went wrong since the last success.
    pub trouble: Option<Trouble>,
    /// Its newest certificate.
    pub newest: Option<NewestSummary>,
    /// Whether it was deleted meanwhile.
    pub deleted: bool,
}

/// What people want to know of the newest certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestSummary {
    /// Its identity.
    pub id: CertificateId,
    /// Its serial number, as [`crate::domain::leaf::Leaf`] writes it.
    pub serial_number: String,
    /// Who issued it, as RFC 4514 text.
    pub issuer: String,
    /// The end of its validity.
    pub not_after: Moment,
}

impl Store {
    /// Asks for a new certificate, due or not.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn request_renewal(&self, id: AutoCertificateId) -> Result<RenewalRequest, StoreError> {
        todo!("{id}")
    }

    /// How the renewals of these go, in the same order; those that left no trace are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn progress(&self, ids: &[AutoCertificateId]) -> Result<Vec<Progress>, StoreError> {
        todo!("{ids:?}")
    }
}
