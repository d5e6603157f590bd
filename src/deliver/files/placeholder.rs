//! A self-signed pair that stands in until the first certificate is there, so that a server can start. Its issuer and its
//! subject say so, and it is never taken for a certificate that was issued.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use uuid::Uuid;

use crate::deliver::files::error::FilesError;
use crate::deliver::payload::{DeliveryPayload, DeliveryRecipient};
use crate::domain::certificate::leaf::Leaf;

/// A fresh pair for the names of an auto-certificate.
pub(super) fn make_placeholder(addressee: &DeliveryRecipient) -> Result<DeliveryPayload, FilesError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(addressee.names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // However wrong the clock is on a machine that has just been set up, it is within.
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2099, 12, 31));
    let leaf_pem = params.self_signed(&key)?.pem();
    Ok(DeliveryPayload {
        recipient: addressee.clone(),
        certificate: Uuid::nil().into(),
        leaf: Leaf::from_pem(&leaf_pem)?,
        leaf_pem,
        chain_pem: String::new(),
        private_key: key.serialize_pem().into(),
    })
}

const COMMON_NAME: &str = "autocertd placeholder";
