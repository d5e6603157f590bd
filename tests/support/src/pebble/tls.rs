//! Certificates for servers on loopback, below a root made on the spot.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// The HTTPS identity of a local server.
#[derive(Debug)]
pub struct ServerTls {
    /// The root that clients must trust.
    pub root_pem: String,
    /// The server's certificate.
    pub certificate_pem: String,
    /// The server's key.
    pub key_pem: String,
    /// The server's certificate in DER.
    pub certificate_der: Vec<u8>,
    /// The server's key in PKCS#8.
    pub key_der: Vec<u8>,
}

impl ServerTls {
    /// An identity for `localhost`, `ip` and `::1`.
    ///
    /// # Errors
    /// Where keys cannot be made.
    pub fn generate(ip: IpAddr) -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::new(Vec::new())?;
        root.distinguished_name.push(DnType::CommonName, "autocertd test root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let root_pem = root.self_signed(&root_key)?.pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate()?;
        let names = ["localhost".to_owned(), ip.to_string(), "::1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok(Self {
            root_pem,
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        })
    }

    /// What a server of this identity accepts connections with.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from(self.certificate_der.clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .context("the server's own certificate")?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
