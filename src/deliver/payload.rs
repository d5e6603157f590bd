//! What is delivered: a certificate with its chain and key, and for which auto-certificate.

use secrecy::SecretString;

use crate::domain::certificate::leaf::Leaf;
use crate::domain::declared::DeclaredKey;
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::domain::value::name::DnsName;
use crate::domain::value::resource::ResourceName;
use crate::store::DeliveryRow;

/// The auto-certificate that a delivery is about.
#[derive(Clone, Debug)]
pub struct DeliveryRecipient {
    /// Its identity.
    pub id: AutoCertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Its key, where the settings declare it.
    pub key: Option<DeclaredKey>,
    /// The name of its folder: fit for a file, and its own within one delivery.
    pub label: String,
    /// Every name that its certificate must serve, the common name first.
    pub names: Vec<DnsName>,
}

impl From<&DeliveryRow> for DeliveryRecipient {
    fn from(row: &DeliveryRow) -> Self {
        Self {
            id: row.auto_certificate,
            name: row.name.clone(),
            key: row.key.clone(),
            label: row.label.clone(),
            names: row.names.clone(),
        }
    }
}

/// A certificate on its way.
#[derive(Clone, Debug)]
pub struct DeliveryPayload {
    /// For which auto-certificate.
    pub recipient: DeliveryRecipient,
    /// The certificate's identity.
    pub certificate: CertificateId,
    /// The certificate, PEM.
    pub leaf_pem: String,
    /// Its chain, PEM, without the certificate itself; empty where there is none.
    pub chain_pem: String,
    /// Its private key, PEM.
    pub private_key: SecretString,
    /// What the certificate says.
    pub leaf: Leaf,
}

impl DeliveryPayload {
    /// The certificate followed by its chain, each block on lines of its own.
    pub fn full_chain_pem(&self) -> String {
        let mut text = with_final_newline(&self.leaf_pem);
        text.push_str(&with_final_newline(&self.chain_pem));
        text
    }
}

/// The text, ended by a line break.
pub(super) fn with_final_newline(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}
