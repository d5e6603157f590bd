//! Bodies of the Certificate Manager API, read leniently.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::deliver::DeliveryPayload;

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<UploadedCertificate>,
    /// The limit that the server applied, which may be lower than the one asked for.
    pub(super) limit: Option<usize>,
}

/// A certificate there.
#[derive(Deserialize)]
pub(super) struct UploadedCertificate {
    pub(super) id: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) properties: Properties,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) state: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Properties {
    #[serde(default)]
    certificate: String,
}

impl UploadedCertificate {
    /// Whether this is exactly that certificate, however its PEM is wrapped.
    pub(super) fn matches_pem(&self, pem: &str) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
        der(&self.properties.certificate).is_some_and(|found| der(pem) == Some(found))
    }

    pub(super) fn is_available(&self) -> bool {
        self.metadata.state.as_deref().is_none_or(|state| state == "AVAILABLE")
    }
}

/// The body of an upload. A chain must be given: a certificate without one is its own.
pub(super) fn upload_body(parcel: &DeliveryPayload, name: &str) -> Value {
    let chain = if parcel.chain_pem.trim().is_empty() { &parcel.leaf_pem } else { &parcel.chain_pem };
    json!({ "properties": {
        "name": name,
        "certificate": parcel.leaf_pem,
        "certificateChain": chain,
        "privateKey": parcel.private_key.expose_secret(),
    }})
}
