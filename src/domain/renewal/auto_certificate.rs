//! An auto-certificate: the wish for a certificate that is kept fresh, and how it stands.

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::name::{DnsName, RequestedName, names_to_order};
use crate::domain::value::profile::Profile;
use crate::domain::value::resource::{Audit, ResourceName};

/// The most subject alternative names that one auto-certificate may have.
pub const MAX_SUBJECT_ALTERNATIVE_NAMES: usize = 10;

/// More subject alternative names than one auto-certificate may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} names; at most {MAX_SUBJECT_ALTERNATIVE_NAMES} are taken")]
pub struct TooManyNames(usize);

/// Looks whether one auto-certificate may have so many subject alternative names.
///
/// # Errors
/// Where they are more than [`MAX_SUBJECT_ALTERNATIVE_NAMES`].
pub const fn check_name_count(names: usize) -> Result<(), TooManyNames> {
    if names > MAX_SUBJECT_ALTERNATIVE_NAMES { Err(TooManyNames(names)) } else { Ok(()) }
}

/// An auto-certificate as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAutoCertificate {
    /// Its name for people.
    pub name: ResourceName,
    /// Who shall issue.
    pub provider: ProviderId,
    /// The main name.
    pub common_name: RequestedName,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Further names, in the order in which they were sent; at most [`MAX_SUBJECT_ALTERNATIVE_NAMES`].
    pub subject_alternative_names: Vec<RequestedName>,
    /// The profile to order, where it has one of its own; it wins over the provider's.
    pub profile: Option<Profile>,
}

/// A stored auto-certificate.
#[derive(Clone, Debug)]
pub struct AutoCertificate {
    /// Its identity.
    pub id: AutoCertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Who issues.
    pub provider: ProviderId,
    /// The main name.
    pub common_name: RequestedName,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Further names, in the order in which they were sent.
    pub subject_alternative_names: Vec<RequestedName>,
    /// The profile to order, where it has one of its own; it wins over the provider's.
    pub profile: Option<Profile>,
    /// Who made and changed it.
    pub audit: Audit,
    /// How it stands.
    pub standing: AutoCertificateFacts,
}

impl AutoCertificate {
    /// Every name that a certificate must serve.
    pub fn names(&self) -> impl Iterator<Item = &DnsName> {
        std::iter::once(&self.common_name).chain(&self.subject_alternative_names).map(RequestedName::name)
    }

    /// What an order asks for.
    pub fn names_to_order(&self) -> Vec<DnsName> {
        names_to_order(self.names())
    }
}
