//! A lineage: one certificate of another tool, with its key, its names and whoever issued it. What a tool's files say is
//! a [`Finding`]; what becomes of it is judged here, by the same rules for all tools.

use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::domain::certificate::NewCertificate;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::renewal::auto_certificate::MAX_SUBJECT_ALTERNATIVE_NAMES;
use crate::domain::value::email::Email;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::{InvalidDnsName, RequestedName};
use crate::domain::value::resource::ResourceName;
use crate::domain::value::server_url::ServerUrl;
use crate::import::account::TreeAccount;
use crate::import::fault::{Fault, LONGEST_CHAIN};
use crate::import::servers::LineageServer;
use crate::import::{ImportOverrides, pem};

/// One certificate of a tree, and what it comes to.
#[derive(Debug)]
pub struct Lineage {
    /// The tool's name for it.
    pub name: String,
    /// What it comes to here, or why it cannot be taken.
    pub wish: Result<Box<PlannedImport>, Fault>,
}

/// What a lineage comes to here: an auto-certificate, its provider, and the certificate that it begins with.
#[derive(Debug)]
pub struct PlannedImport {
    /// The auto-certificate's name.
    pub name: ResourceName,
    /// The first name.
    pub common_name: RequestedName,
    /// The other names.
    pub subject_alternative_names: Vec<RequestedName>,
    /// The kind of key, or the one that comes nearest to it.
    pub key_algorithm: KeyAlgorithm,
    /// Who issued, and shall issue.
    pub server: ServerUrl,
    /// The contact, where the tree or the caller says one.
    pub email: Option<Email>,
    /// The account at the server.
    pub account: TreeAccount,
    /// The present certificate.
    pub certificate: NewCertificate,
    /// What the person who imports should know.
    pub notes: Vec<ImportNote>,
}

/// What the person who imports should know of a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportNote {
    /// The tool proved its names in another way than autocertd will.
    OtherChallenge(String),
    /// The next key will be of another kind.
    OtherKeyKind {
        /// The kind of the present key.
        present: String,
        /// The kind of the next.
        next: KeyAlgorithm,
    },
    /// Only the wish is taken.
    Expired(Moment),
    /// The tool's address of the CA no longer answers.
    RetiredServer {
        /// What the tool used.
        written: String,
        /// What is used from now on.
        present: String,
    },
}

/// What the files of a tool say of one certificate.
pub(super) struct FoundCertificate {
    /// The certificate, and the certificates behind it where they are in the same file.
    pub(super) certificate: String,
    /// The certificates behind it where they are in a file of their own.
    pub(super) chain: Option<String>,
    /// The private key.
    pub(super) private_key: SecretString,
    /// The first name, where the tool says which that is.
    pub(super) first_name: Option<String>,
    /// The ACME server.
    pub(super) server: LineageServer,
    /// The contact, where the tree knows it.
    pub(super) email: Option<String>,
    /// The account at the server.
    pub(super) account: TreeAccount,
    /// How the names were proven, where that was not DNS-01.
    pub(super) other_challenge: Option<String>,
}

impl PlannedImport {
    /// Whether the certificate is of no use any more.
    pub fn is_expired(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, ImportNote::Expired(_)))
    }
}

impl Lineage {
    pub(super) fn from_found(
        name: String,
        finding: Result<FoundCertificate, Fault>,
        overrides: &ImportOverrides,
        now: Moment,
    ) -> Self {
        let wish = finding.and_then(|finding| plan_import(&name, finding, overrides, now)).map(Box::new);
        Self { name, wish }
    }
}

fn plan_import(
    name: &str,
    finding: FoundCertificate,
    overrides: &ImportOverrides,
    now: Moment,
) -> Result<PlannedImport, Fault> {
    let name: ResourceName = name.parse()?;
    let mut certificates = pem::certificates(&finding.certificate);
    if certificates.is_empty() {
        return Err(LeafError::NoCertificate.into());
    }
    let certificate = certificates.remove(0);
    let behind =
        if certificates.is_empty() { pem::certificates(&finding.chain.unwrap_or_default()) } else { certificates };
    let chain = behind.concat();
    let length = certificate.len() + chain.len();
    if length > LONGEST_CHAIN {
        return Err(Fault::TooLong(length));
    }
    let leaf = Leaf::from_pem(&certificate)?;
    leaf.check_key(finding.private_key.expose_secret())?;
    let kind = key_kind(&certificate)?;
    let key_algorithm = kind.nearest_algorithm();
    let (common_name, subject_alternative_names) = order_names(&leaf, finding.first_name.as_deref())?;
    let email = match (&overrides.email, finding.email) {
        (Some(email), _) => Some(email.clone()),
        (None, Some(text)) => Some(text.parse().map_err(Fault::Email)?),
        (None, None) => None,
    };
    let expired = (leaf.not_after <= now).then_some(ImportNote::Expired(leaf.not_after));
    let other_kind = (kind.exact_algorithm() != Some(key_algorithm))
        .then(|| ImportNote::OtherKeyKind { present: kind.to_string(), next: key_algorithm });
    let server = finding.server.url;
    let retired = finding.server.retired;
    let retired = retired.map(|written| ImportNote::RetiredServer { written, present: server.as_str().to_owned() });
    let notes = [expired, other_kind, finding.other_challenge.map(ImportNote::OtherChallenge), retired];
    Ok(PlannedImport {
        common_name,
        subject_alternative_names,
        key_algorithm,
        server,
        email,
        account: finding.account,
        certificate: NewCertificate {
            name: name.with_issue_time(leaf.not_before),
            certificate,
            chain,
            private_key: finding.private_key,
            leaf,
        },
        name,
        notes: notes.into_iter().flatten().collect(),
    })
}

/// The first name and the others: what the tool calls the first, else the subject's common name, else the first one of
/// the certificate.
fn order_names(leaf: &Leaf, first: Option<&str>) -> Result<(RequestedName, Vec<RequestedName>), Fault> {
    let parsed: Result<Vec<RequestedName>, InvalidDnsName> =
        leaf.subject_alternative_names.iter().map(|name| name.parse()).collect();
    let mut names = parsed.map_err(Fault::Name)?;
    let wanted = first.into_iter().chain([leaf.common_name.as_str()]).filter_map(|text| text.parse().ok());
    let place =
        wanted.into_iter().find_map(|wanted: RequestedName| names.iter().position(|name| name.name() == wanted.name()));
    if names.is_empty() {
        return Err(Fault::NoName);
    }
    let common_name = names.remove(place.unwrap_or(0));
    if names.len() > MAX_SUBJECT_ALTERNATIVE_NAMES {
        return Err(Fault::TooManyNames(names.len() + 1));
    }
    Ok((common_name, names))
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    /// RSA with so many bits.
    Rsa(usize),
    /// ECDSA on a curve of so many bits.
    Ecdsa(usize),
    Other,
}

impl KeyKind {
    fn exact_algorithm(self) -> Option<KeyAlgorithm> {
        match self {
            Self::Rsa(2048) => Some(KeyAlgorithm::Rsa2048),
            Self::Rsa(3072) => Some(KeyAlgorithm::Rsa3072),
            Self::Rsa(4096) => Some(KeyAlgorithm::Rsa4096),
            Self::Ecdsa(256) => Some(KeyAlgorithm::Secp256r1),
            Self::Ecdsa(384) => Some(KeyAlgorithm::Secp384r1),
            Self::Rsa(_) | Self::Ecdsa(_) | Self::Other => None,
        }
    }

    /// The kind that is no weaker, or the strongest there is.
    fn nearest_algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Rsa(..=2048) => KeyAlgorithm::Rsa2048,
            Self::Rsa(..=3072) => KeyAlgorithm::Rsa3072,
            Self::Rsa(_) => KeyAlgorithm::Rsa4096,
            Self::Ecdsa(..=256) | Self::Other => KeyAlgorithm::Secp256r1,
            Self::Ecdsa(_) => KeyAlgorithm::Secp384r1,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA with {bits} bits"),
            Self::Ecdsa(256) => f.write_str("ECDSA on P-256"),
            Self::Ecdsa(384) => f.write_str("ECDSA on P-384"),
            Self::Ecdsa(_) => f.write_str("ECDSA on another curve"),
            Self::Other => f.write_str("neither RSA nor ECDSA"),
        }
    }
}

/// Also makes sure that somebody else signed the certificate.
fn key_kind(certificate: &str) -> Result<KeyKind, Fault> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| LeafError::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| LeafError::Malformed)?;
    if certificate.issuer() == certificate.subject() && certificate.verify_signature(None).is_ok() {
        return Err(Fault::SelfSigned);
    }
    Ok(match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => KeyKind::Rsa(key.key_size()),
        Ok(PublicKey::EC(point)) => KeyKind::Ecdsa(point.key_size()),
        _ => KeyKind::Other,
    })
}

impl fmt::Display for ImportNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherChallenge(challenge) => {
                write!(f, "its names were proven by {challenge}; from now on they are proven by DNS-01")
            }
            Self::OtherKeyKind { present, next } => write!(f, "its key is {present}; the next one is {next}"),
            Self::Expired(moment) => {
                write!(f, "it expired at {moment}; only the wish is taken, and a new one is ordered at once")
            }
            Self::RetiredServer { written, present } => {
                write!(f, "{written} is an ACMEv1 address that no longer answers; {present} is used instead")
            }
        }
    }
}
