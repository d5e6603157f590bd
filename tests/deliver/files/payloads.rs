//! What is published in tests.

use std::path::Path;

use autocertd::config::delivery::{FileMode, FilesEntry};
use autocertd::deliver::{DeliveryPayload, DeliveryRecipient};
use autocertd::domain::certificate::leaf::Leaf;
use autocertd::runtime::randomness::Randomness;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

/// The settings that a directory alone makes.
pub(crate) fn entry(directory: &Path) -> FilesEntry {
    FilesEntry {
        directory: directory.to_owned(),
        owner: None,
        group: None,
        mode: FileMode(0o644),
        key_mode: None,
        combined: false,
        pkcs12_password_file: None,
        placeholder: false,
    }
}

/// A fresh certificate for `www.example.com` in a chain of two.
pub(crate) fn payload() -> DeliveryPayload {
    let (leaf_pem, private_key) = certificate_pair("www.example.com");
    payload_from(leaf_pem, private_key)
}

pub(crate) fn payload_from(leaf_pem: String, private_key: String) -> DeliveryPayload {
    let id = Randomness::from_system().unwrap().uuid();
    DeliveryPayload {
        recipient: DeliveryRecipient {
            id: id.into(),
            name: "www".parse().unwrap(),
            key: None,
            label: LABEL.to_owned(),
            names: ["www.example.com", "*.bücher.example"].map(|name| name.parse().unwrap()).to_vec(),
        },
        certificate: id.into(),
        leaf: Leaf::from_pem(&leaf_pem).unwrap(),
        leaf_pem,
        chain_pem: certificate_pair("an issuer").0,
        private_key: private_key.into(),
    }
}

fn certificate_pair(common_name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(crate) const LABEL: &str = "www";
