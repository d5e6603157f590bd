//! What an X.509 certificate says (RFC 5280), as far as the API and the checks of issuance ask.

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::domain::certificate::fingerprint::KeyFingerprint;
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The subject's common name; empty where there is none.
    pub common_name: String,
    /// The issuer, as RFC 4514 text.
    pub issuer: String,
    /// The DNS names and IP addresses among the subject alternative names, in their order.
    pub subject_alternative_names: Vec<String>,
    /// The serial number: upper-case hex byte pairs joined by colons.
    pub serial_number: String,
    /// The start of its validity.
    pub not_before: Moment,
    /// The end of its validity.
    pub not_after: Moment,
    /// The subject public key info, DER.
    public_key: Vec<u8>,
}

impl Leaf {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// Where there is none, or it is malformed.
    pub fn from_pem(pem: &str) -> Result<Self, LeafError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| LeafError::NoCertificate)?;
        Self::from_der(&der)
    }

    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn from_der(der: &[u8]) -> Result<Self, LeafError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError::Malformed)?;
        Self::from_certificate(&certificate)
    }

    /// Checks that `private_key` (PEM) belongs to this certificate.
    ///
    /// # Errors
    /// Where the key cannot be read, or is another one.
    pub fn check_key(&self, private_key: &str) -> Result<(), LeafError> {
        let key = read_key(private_key)?;
        if key.subject_public_key_info() == self.public_key { Ok(()) } else { Err(LeafError::KeyMismatch) }
    }

    /// The fingerprint of its key.
    pub fn key_fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::from_public_key(&self.public_key)
    }

    /// Checks that this certificate serves every name now.
    ///
    /// # Errors
    /// Where a name is not covered, or the certificate is not valid at `now`.
    pub fn check_covers<'a>(&self, names: impl IntoIterator<Item = &'a DnsName>, now: Moment) -> Result<(), LeafError> {
        let covered: Vec<DnsName> =
            self.subject_alternative_names.iter().filter_map(|name| name.parse().ok()).collect();
        for name in names {
            if !covered.iter().any(|have| have.covers(name)) {
                return Err(LeafError::NameMissing(name.clone()));
            }
        }
        if self.not_before <= now && now < self.not_after {
            return Ok(());
        }
        Err(LeafError::OutsideValidity { not_before: self.not_before, not_after: self.not_after, now })
    }

    fn from_certificate(certificate: &X509Certificate<'_>) -> Result<Self, LeafError> {
        let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let alternative = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
        Ok(Self {
            common_name: common_name.unwrap_or_default().to_owned(),
            issuer: certificate.issuer().to_string(),
            subject_alternative_names: alternative
                .map(|extension| extension.value.general_names.iter().filter_map(general_name_text).collect())
                .unwrap_or_default(),
            serial_number: colon_hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.to_datetime().into(),
            not_after: certificate.validity().not_after.to_datetime().into(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

fn general_name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn colon_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Reads a private key from PEM.
///
/// # Errors
/// Where it is encrypted, or no key of a kind that certificates have here.
pub fn read_key(private_key: &str) -> Result<KeyPair, LeafError> {
    if is_encrypted_key(private_key) {
        return Err(LeafError::EncryptedKey);
    }
    let der = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| LeafError::UnreadableKey)?;
    KeyPair::try_from(&der).map_err(|_| LeafError::UnreadableKey)
}

/// Whether a PEM text holds a private key that only a passphrase opens: in PKCS#8 (RFC 5958 section 3), or as OpenSSL wrote
/// PKCS#1 and SEC1, with the headers of RFC 1421 section 4.6.
pub fn is_encrypted_key(text: &str) -> bool {
    let header = |line: &str| {
        let value = line.trim().strip_prefix("Proc-Type:")?;
        value.split_once(',').map(|(_, kind)| kind.trim() == "ENCRYPTED")
    };
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || (text.contains("PRIVATE KEY-----") && text.lines().any(|line| header(line) == Some(true)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str], common_name: Option<&str>) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc, 0x01]));
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 4, 1));
        (params.self_signed(&key).unwrap().pem(), key)
    }

    fn during_validity() -> Moment {
        Moment::from(date_time_ymd(2026, 2, 1))
    }

    #[test]
    fn a_certificate_is_read_whole() {
        let (pem, _) = certificate(&["www.example.com", "192.0.2.7"], Some("www.example.com"));
        let leaf = Leaf::from_pem(&pem).unwrap();
        assert_eq!(leaf.common_name, "www.example.com");
        assert_eq!(leaf.subject_alternative_names, ["www.example.com", "192.0.2.7"]);
        assert_eq!(leaf.serial_number, "0A:BC:01");
        assert_eq!(
            (leaf.not_before.to_string(), leaf.not_after.to_string()),
            ("2026-01-01T00:00:00Z".into(), "2026-04-01T00:00:00Z".into())
        );
    }

    #[test]
    fn a_self_signed_one_without_any_name_is_read_too() {
        let (pem, key) = certificate(&[], None);
        let leaf = Leaf::from_pem(&pem).unwrap();
        assert_eq!((leaf.common_name.as_str(), leaf.subject_alternative_names.len()), ("", 0));
        assert_eq!(leaf.check_key(&key.serialize_pem()), Ok(()));
    }

    #[test]
    fn another_key_and_no_key_are_told_apart() {
        let (pem, _) = certificate(&["a.example"], None);
        let leaf = Leaf::from_pem(&pem).unwrap();
        assert_eq!(leaf.check_key(&KeyPair::generate().unwrap().serialize_pem()), Err(LeafError::KeyMismatch));
        assert_eq!(leaf.check_key("no key"), Err(LeafError::UnreadableKey));
        for encrypted in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-256-CBC,00\r\n\r\nMAA=\r\n-----END RSA PRIVATE KEY-----",
        ] {
            assert_eq!(leaf.check_key(encrypted), Err(LeafError::EncryptedKey));
        }
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let (pem, key) = certificate(&["b.example"], None);
        let as_openssl_writes_it = format!("{parameters}{}", key.serialize_pem());
        assert_eq!(Leaf::from_pem(&pem).unwrap().check_key(&as_openssl_writes_it), Ok(()));
        assert_eq!(Leaf::from_pem("nothing"), Err(LeafError::NoCertificate));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(Leaf::from_pem(garbage), Err(LeafError::Malformed));
    }

    #[test]
    fn coverage_counts_wildcards_and_time() {
        let (pem, _) = certificate(&["*.example.com"], None);
        let leaf = Leaf::from_pem(&pem).unwrap();
        let (www, apex): (DnsName, DnsName) = ("www.example.com".parse().unwrap(), "example.com".parse().unwrap());
        assert_eq!(leaf.check_covers([&www], during_validity()), Ok(()));
        assert_eq!(leaf.check_covers([&www, &apex], during_validity()), Err(LeafError::NameMissing(apex)));
        assert!(matches!(leaf.check_covers([&www], leaf.not_after), Err(LeafError::OutsideValidity { .. })));
    }
}
