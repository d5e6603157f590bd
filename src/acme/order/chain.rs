//! The form of a downloaded chain, RFC 8555 section 9.1. Whether it fits key and names is checked where those are known.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::acme::error::AcmeError;

/// Makes sure that a chain is made of certificates alone. RFC 8555 section 9.1 has clients refuse anything else, lest a
/// CA slips a private key into a web server's files.
pub(super) fn only_certificates(pem: &str) -> Result<(), AcmeError> {
    let labels = pem.lines().filter(|line| line.contains("-----BEGIN"));
    let mut blocks = 0;
    for label in labels {
        if label.trim_end() != "-----BEGIN CERTIFICATE-----" {
            return Err(AcmeError::UnacceptableChain("it has a PEM block that is no certificate"));
        }
        blocks += 1;
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(AcmeError::UnacceptableChain("it has no certificate")),
        Ok(certificates) if certificates.len() == blocks => Ok(()),
        _ => Err(AcmeError::UnacceptableChain("it is not whole")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_alone_are_taken() {
        assert!(only_certificates(CERTIFICATE).is_ok());
        assert!(only_certificates(&CERTIFICATE.repeat(3).replace('\n', "\r\n")).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let cut = &CERTIFICATE[..40];
        for pem in [
            String::new(),
            "{}".to_owned(),
            format!("{CERTIFICATE}{key}"),
            format!("{CERTIFICATE}{cut}"),
            format!("{CERTIFICATE} {key}"),
        ] {
            assert!(only_certificates(&pem).is_err(), "{pem}");
        }
    }
}
