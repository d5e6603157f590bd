//! A certificate of the API: uploaded by a person, or issued for an auto-certificate.

pub mod chain;
pub mod fingerprint;
pub mod key_algorithm;
pub mod leaf;
pub mod leaf_error;
pub mod revocation;
pub mod serial_number;

use secrecy::SecretString;
use time::Duration;

use crate::domain::certificate::leaf::Leaf;
use crate::domain::certificate::revocation::Revocation;
use crate::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::resource::{Audit, ResourceName};

/// A certificate together with its private key, read and found to match.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// Its name for people.
    pub name: ResourceName,
    /// The certificate, PEM, as it was given.
    pub certificate: String,
    /// Its chain, PEM, as it was given.
    pub chain: String,
    /// Its private key, PEM, as it was given.
    pub private_key: SecretString,
    /// What the certificate says.
    pub leaf: Leaf,
}

/// A stored certificate. Its private key stays sealed in the store.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its identity.
    pub id: CertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Where it comes from.
    pub origin: CertificateOrigin,
    /// The common name by which it is found: the auto-certificate's for an issued one, else the subject's.
    pub common_name: String,
    /// The certificate, PEM, as it was given.
    pub certificate: String,
    /// Its chain, PEM, as it was given.
    pub chain: String,
    /// What the certificate says.
    pub leaf: Leaf,
    /// That it is revoked, or is to be.
    pub revocation: Option<Revocation>,
    /// Who made and changed it.
    pub audit: Audit,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateOrigin {
    /// A person uploaded it.
    Uploaded,
    /// It was issued for an auto-certificate.
    Issued {
        /// The auto-certificate, which may be deleted by now.
        auto_certificate: AutoCertificateId,
        /// The newest certificate of the same auto-certificate: itself, or the one that superseded it.
        newest: CertificateId,
    },
}

/// The facts of the newest certificate that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestCertificate {
    /// Its identity.
    pub id: CertificateId,
    /// The start of its validity.
    pub not_before: Moment,
    /// The end of its validity.
    pub not_after: Moment,
    /// Whether it is revoked, or a person asked for that, whether the CA has heard of it or not.
    pub revoked: bool,
    /// Who issued it; nothing where that is not known.
    pub issuer: Option<ProviderId>,
}

impl NewestCertificate {
    /// How long it is valid in all.
    pub fn lifetime(&self) -> Duration {
        self.not_after - self.not_before
    }
}

#[cfg(test)]
impl NewestCertificate {
    /// One that lives for `lifetime` and has `left` of it at `now`.
    pub(in crate::domain) fn with_left(lifetime: time::Duration, left: time::Duration, now: Moment) -> Self {
        Self {
            id: uuid::Uuid::nil().into(),
            not_before: now + left - lifetime,
            not_after: now + left,
            revoked: false,
            issuer: None,
        }
    }
}
