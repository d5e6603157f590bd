//! Why a certificate or a key cannot be used.

use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;

/// Why a certificate or a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// No PEM block of type CERTIFICATE was found.
    #[error("no PEM block of type CERTIFICATE was found")]
    NoCertificate,
    /// The PEM block holds no X.509 certificate.
    #[error("the PEM block holds no valid X.509 certificate")]
    Malformed,
    /// The key cannot be read.
    #[error(
        "the private key cannot be read; give an unencrypted PKCS#8, PKCS#1 or SEC1 PEM of an RSA (2048 bits or more), ECDSA or Ed25519 key"
    )]
    UnreadableKey,
    /// The key can be read with a passphrase only.
    #[error(
        "the private key is encrypted with a passphrase, and autocertd never asks for one; decrypt it with `openssl pkey \
         -in KEY -out NEWKEY` and give the new file"
    )]
    EncryptedKey,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A name of the request is missing.
    #[error("the certificate does not cover {0}")]
    NameMissing(DnsName),
    /// The certificate is not valid yet, or no longer.
    #[error("the certificate is valid from {not_before} to {not_after} and not now, at {now}; check the clock")]
    OutsideValidity {
        /// The start of its validity.
        not_before: Moment,
        /// The end of its validity.
        not_after: Moment,
        /// The moment of the check.
        now: Moment,
    },
}
