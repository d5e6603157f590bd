//! The Secret: as it should be, and as it was found.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::KubernetesError;
use crate::deliver::DeliveryPayload;
use crate::domain::value::text::RemoteMessage;

/// The Secret as it should be.
pub(super) struct DesiredSecret {
    pub(super) name: String,
    namespace: String,
    annotations: BTreeMap<&'static str, String>,
    /// In Base64, as Kubernetes writes it.
    data: BTreeMap<&'static str, String>,
}

/// The Secret as it was found; it holds a private key and is never printed.
#[derive(Deserialize)]
pub(super) struct ExistingSecret {
    metadata: Metadata,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    immutable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    resource_version: Option<String>,
}

impl DesiredSecret {
    pub(super) fn from_payload(parcel: &DeliveryPayload, name: String, namespace: String) -> Self {
        let annotations = [
            ("autocertd/auto-certificate", parcel.recipient.id.to_string()),
            (LABEL_ANNOTATION, parcel.recipient.label.clone()),
            ("autocertd/serial-number", parcel.leaf.serial_number.clone()),
            ("autocertd/not-after", parcel.leaf.not_after.to_string()),
        ];
        let data = [
            ("tls.crt", BASE64_STANDARD.encode(parcel.full_chain_pem())),
            ("tls.key", BASE64_STANDARD.encode(parcel.private_key.expose_secret())),
        ];
        Self { name, namespace, annotations: annotations.into(), data: data.into() }
    }

    /// The document for the API; with a version it is only good for the Secret of that version.
    pub(super) fn manifest(&self, version: Option<&str>) -> Value {
        let mut manifest = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": { MANAGED_BY: OWNER },
                "annotations": self.annotations,
            },
            "type": SECRET_TYPE,
            "data": self.data,
        });
        if let Some(version) = version {
            manifest["metadata"]["resourceVersion"] = version.into();
        }
        manifest
    }
}

impl fmt::Display for DesiredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ExistingSecret {
    /// Whether it is ours, and for this very certificate. The label counts and not the id: an auto-certificate that is
    /// made anew, as after the loss of a pod with its store, finds its Secret again.
    pub(super) fn check_ours(&self, wanted: &DesiredSecret) -> Result<(), KubernetesError> {
        if self.metadata.labels.get(MANAGED_BY).is_none_or(|owner| owner != OWNER) {
            return Err(KubernetesError::Foreign(wanted.to_string()));
        }
        match self.metadata.annotations.get(LABEL_ANNOTATION) {
            Some(label) if wanted.annotations.get(LABEL_ANNOTATION) != Some(label) => {
                Err(KubernetesError::HoldsOtherLabel { secret: wanted.to_string(), label: label.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is as it should be; what others added does no harm.
    pub(super) fn contains(&self, wanted: &DesiredSecret) -> bool {
        let held = |all: &BTreeMap<String, String>, part: &BTreeMap<&str, String>| {
            part.iter().all(|(key, value)| all.get(*key) == Some(value))
        };
        self.kind == SECRET_TYPE
            && held(&self.data, &wanted.data)
            && held(&self.metadata.annotations, &wanted.annotations)
    }

    /// Whether Kubernetes lets it be changed at all.
    pub(super) fn check_changeable(&self, wanted: &DesiredSecret) -> Result<(), KubernetesError> {
        if self.kind != SECRET_TYPE {
            return Err(KubernetesError::OtherType { secret: wanted.to_string(), kind: self.kind.clone() });
        }
        if self.immutable { Err(KubernetesError::Immutable(wanted.to_string())) } else { Ok(()) }
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

/// The words of a `Status`. Those about a body that cannot be read may quote it, and with it a private key.
pub(super) fn status_message(body: &[u8]) -> RemoteMessage {
    match serde_json::from_slice(body) {
        Ok(Status { reason: Some(reason), .. }) if reason == "BadRequest" => RemoteMessage::new(&reason),
        Ok(Status { message: Some(message), .. }) => RemoteMessage::new(&message),
        _ => RemoteMessage::default(),
    }
}

#[derive(Deserialize)]
struct Status {
    reason: Option<String>,
    message: Option<String>,
}

const SECRET_TYPE: &str = "kubernetes.io/tls";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const OWNER: &str = "autocertd";
/// The annotation with the label for which the Secret was made.
const LABEL_ANNOTATION: &str = "autocertd/label";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_may_quote_a_key_are_not_passed_on() {
        let status = |reason: &str, message: &str| json!({ "reason": reason, "message": message }).to_string();
        assert_eq!(status_message(status("Forbidden", "cannot patch").as_bytes()).to_string(), "cannot patch");
        assert_eq!(
            status_message(status("BadRequest", "...|LS0tLS1CRUdJTiB|...").as_bytes()).to_string(),
            "BadRequest"
        );
        assert_eq!(status_message(b"<html>").to_string(), "");
    }
}
