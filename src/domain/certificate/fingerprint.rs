//! The fingerprints by which a certificate or a key is known again, wherever it is met.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::domain::certificate::leaf_error::LeafError;

/// The SHA-256 of a certificate in DER. Displayed as `openssl x509 -fingerprint -sha256` does: upper-case hex byte pairs
/// joined by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

/// The SHA-256 of a public key as certificates and signing requests hold it (`SubjectPublicKeyInfo`, RFC 5280 section 4.1).
/// Displayed as a [`Fingerprint`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(Fingerprint);

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has {SHA256_OUTPUT_LEN} bytes in hex, with or without colons between them")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// That of a certificate in DER.
    pub fn from_der(der: &[u8]) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }

    /// That of the first certificate of a PEM text.
    ///
    /// # Errors
    /// Where there is none.
    pub fn from_pem(pem: &str) -> Result<Self, LeafError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| LeafError::NoCertificate)?;
        Ok(Self::from_der(&der))
    }
}

impl KeyFingerprint {
    /// That of a subject public key info in DER.
    pub fn from_public_key(der: &[u8]) -> Self {
        Self(Fingerprint::from_der(der))
    }

    /// That of the key for which a signing request (PKCS#10) in DER asks; nothing where it is malformed.
    pub fn from_csr(der: &[u8]) -> Option<Self> {
        let (_, request) = X509CertificationRequest::from_der(der).ok()?;
        Some(Self::from_public_key(request.certification_request_info.subject_pki.raw))
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let pairs: Vec<&str> = if text.contains(':') {
            text.split(':').collect()
        } else {
            text.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect()
        };
        let byte =
            |pair: &&str| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2 && !pair.starts_with('+'));
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(InvalidFingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::leaf::Leaf;

    #[test]
    fn it_is_read_with_and_without_colons_and_shown_as_openssl_shows_it() {
        let fingerprint = Fingerprint::from_der(b"abc");
        let text = fingerprint.to_string();
        assert!(text.starts_with("BA:78:16:BF:") && text.len() == 95, "{text}");
        for text in [text.clone(), text.replace(':', ""), text.to_lowercase()] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        for text in ["", "BA:78", &text[1..], &format!("{text}:00"), &text.replace("BA", "+A"), &"ä".repeat(32)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(InvalidFingerprint), "{text}");
        }
    }

    #[test]
    fn pem_and_der_have_the_same() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(Fingerprint::from_pem(&certificate.pem()), Ok(Fingerprint::from_der(certificate.der())));
        assert_eq!(Fingerprint::from_pem(&key.serialize_pem()), Err(LeafError::NoCertificate));
    }

    #[test]
    fn a_key_is_the_same_in_its_certificate_and_in_a_request() {
        let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let of_request = |key| KeyFingerprint::from_csr(params.serialize_request(key).unwrap().der());
        let leaf = Leaf::from_pem(&params.self_signed(&key).unwrap().pem()).unwrap();
        assert_eq!(of_request(&key), Some(leaf.key_fingerprint()));
        assert_ne!(of_request(&other), Some(leaf.key_fingerprint()));
        assert_eq!(KeyFingerprint::from_csr(b"no request"), None);
        assert_eq!(leaf.key_fingerprint().to_string().len(), 95);
    }
}
