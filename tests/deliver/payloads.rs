//! Certificates on their way.

use autocertd::deliver::{DeliveryPayload, DeliveryRecipient};
use autocertd::domain::certificate::leaf::Leaf;
use autocertd::domain::value::moment::Moment;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use secrecy::SecretString;
use time::Duration;
use uuid::Uuid;

/// 2026-11-22T12:00:00Z
pub(crate) const START: Moment = Moment::from_micros(1_795_348_800_000_000);

/// A certificate of its own for the auto-certificate of this label, without a common name, as CAs issue them by now.
pub(crate) fn payload(label: &str) -> DeliveryPayload {
    payload_with_common_name(label, None)
}

/// A certificate of its own with a common name.
pub(crate) fn payload_with_common_name(label: &str, common_name: Option<&str>) -> DeliveryPayload {
    let mut params = CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.not_before = START.to_date_time();
    params.not_after = (START + Duration::days(90)).to_date_time();
    let key = KeyPair::generate().unwrap();
    let leaf_pem = params.self_signed(&key).unwrap().pem();
    DeliveryPayload {
        recipient: DeliveryRecipient {
            id: Uuid::from_u128(1).into(),
            name: "web".parse().unwrap(),
            key: None,
            label: label.to_owned(),
            names: vec!["www.example.com".parse().unwrap()],
        },
        certificate: Uuid::from_u128(2).into(),
        chain_pem: leaf_pem.clone(),
        leaf: Leaf::from_pem(&leaf_pem).unwrap(),
        leaf_pem,
        private_key: SecretString::from(key.serialize_pem()),
    }
}
