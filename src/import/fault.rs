//! Why a certificate of another tool cannot be imported.

use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::renewal::auto_certificate::MAX_SUBJECT_ALTERNATIVE_NAMES;
use crate::domain::value::email::InvalidEmail;
use crate::domain::value::name::InvalidDnsName;
use crate::domain::value::resource::InvalidResourceName;
use crate::domain::value::server_url::InvalidServerUrl;

/// Why a lineage cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file, below the folder that is imported.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// Certificate or chain are longer than the API takes them.
    #[error("the certificate and its chain have {0} bytes, more than the {LONGEST_CHAIN} allowed")]
    TooLong(usize),
    /// Nobody but its maker issued it.
    #[error("the certificate is self-signed; no ACME server issued it")]
    SelfSigned,
    /// A name cannot be proven by DNS-01.
    #[error("{0}")]
    Name(InvalidDnsName),
    /// It has no names.
    #[error("the certificate is for no DNS name")]
    NoName,
    /// It has too many names.
    #[error("it has {0} names; an auto-certificate has at most {MAX_SUBJECT_ALTERNATIVE_NAMES} beside its first")]
    TooManyNames(usize),
    /// The tool's name cannot be a resource's.
    #[error(transparent)]
    ResourceName(#[from] InvalidResourceName),
    /// The tree does not say who issued it.
    #[error("the files do not say which ACME server issued it; give its directory by --server")]
    NoServer,
    /// The address of the server cannot be used.
    #[error("the ACME server: {0}")]
    Server(InvalidServerUrl),
    /// The contact cannot be used.
    #[error("the account's contact: {0}; give one by --email")]
    Email(InvalidEmail),
    /// Several accounts could be meant.
    #[error("there are several accounts at the ACME server ({0}); give one by --email")]
    SeveralAccounts(String),
}

/// In bytes; what the API takes of certificate and chain together.
pub(super) const LONGEST_CHAIN: usize = 96 * 1024;
