//! The key and the signing request of an attempt (PKCS#10, RFC 2986): made on a blocking thread, since an RSA key of
//! 4096 bits takes most of a second.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};
use secrecy::SecretString;
use tokio::task::JoinHandle;
use zeroize::Zeroize;

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::failure::disposition::Failure;
use crate::domain::renewal::attempt::SigningRequest;
use crate::domain::value::name::DnsName;

/// A key that is being made while something else is waited for.
pub(super) struct PendingKey(JoinHandle<Result<SigningRequest, rcgen::Error>>);

impl PendingKey {
    /// Begins to make a fresh key and a signing request for `names`.
    pub(super) fn start(algorithm: KeyAlgorithm, names: Vec<DnsName>) -> Self {
        Self(tokio::task::spawn_blocking(move || make_signing_request(algorithm, &names)))
    }

    /// Waits for the key.
    pub(super) async fn wait(self) -> Result<SigningRequest, Failure> {
        let made = self.0.await.map_err(|error| Failure::retry(format!("making the key was cut off: {error}")))?;
        made.map_err(|error| Failure::retry(format!("making the key failed: {error}")))
    }
}

/// The subject stays empty: the names live in the subject alternative names alone, as CAs want it today.
fn make_signing_request(algorithm: KeyAlgorithm, names: &[DnsName]) -> Result<SigningRequest, rcgen::Error> {
    let key = generate_key(algorithm)?;
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?.der().to_vec();
    let mut pem = key.serialize_pem();
    let private_key = SecretString::from(pem.as_str());
    pem.zeroize();
    Ok(SigningRequest { private_key, csr })
}

fn generate_key(algorithm: KeyAlgorithm) -> Result<KeyPair, rcgen::Error> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match algorithm {
        KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
        KeyAlgorithm::Secp256r1 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::Secp384r1 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn a_signing_request_names_its_names_and_no_subject_and_is_signed_by_its_key() {
        let names: Vec<DnsName> = ["*.example.com", "bücher.example"].map(|name| name.parse().unwrap()).to_vec();
        for algorithm in [KeyAlgorithm::Secp256r1, KeyAlgorithm::Secp384r1, KeyAlgorithm::Rsa2048] {
            let made = make_signing_request(algorithm, &names).unwrap();
            let (_, csr) = X509CertificationRequest::from_der(&made.csr).unwrap();
            csr.verify_signature().unwrap();
            assert_eq!(csr.certification_request_info.subject.as_raw().len(), 2, "an empty sequence");
            let text = format!("{:?}", csr.requested_extensions().unwrap().collect::<Vec<_>>());
            assert!(text.contains("*.example.com") && text.contains("xn--bcher-kva.example"), "{text}");
            assert!(made.private_key.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"));
            assert!(!format!("{made:?}").contains("PRIVATE KEY"));
        }
    }
}
