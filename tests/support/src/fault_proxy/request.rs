//! What is known of a request: where it goes, of which kind it is, and what an ACME client says in it.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Its place among all requests of the proxy, from 0.
    pub index: usize,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// `directory`, `new-nonce`, `new-account`, `account`, `new-order`, `order`, `authz`, `challenge`, `finalize`,
    /// `certificate`, `revoke`, `key-change`, `renewal-info`; `dns-zones`, `dns-list-records`, `dns-get-record`,
    /// `dns-create-record`, `dns-put-record`, `dns-delete-record`; `other`.
    pub kind: &'static str,
    /// The payload of an ACME request (RFC 8555 section 6.2); `None` for POST-as-GET and for anything else.
    pub payload: Option<Value>,
    /// The body.
    pub body: Bytes,
}

impl RequestInfo {
    pub(super) fn new(method: Method, path: String, body: Bytes) -> Self {
        Self { index: 0, kind: kind(&method, &path), payload: payload(&body), method, path, body }
    }

    /// The names that a new-order request asks for.
    pub fn ordered_names(&self) -> Vec<String> {
        let identifiers = self.payload.as_ref().and_then(|payload| payload["identifiers"].as_array());
        let values = identifiers.into_iter().flatten().filter_map(|identifier| identifier["value"].as_str());
        values.map(ToOwned::to_owned).collect()
    }
}

/// Pebble's own paths, and those of Cloud DNS.
fn kind(method: &Method, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or(path);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["dir"] => "directory",
        ["nonce-plz"] => "new-nonce",
        ["sign-me-up"] => "new-account",
        ["my-account", ..] => "account",
        ["order-plz"] => "new-order",
        ["my-order", ..] => "order",
        ["finalize-order", ..] => "finalize",
        ["authZ", ..] => "authz",
        ["chalZ", ..] => "challenge",
        ["certZ", ..] => "certificate",
        ["revoke-cert"] => "revoke",
        ["rollover-account-key"] => "key-change",
        ["draft-ietf-acme-ari-03", "renewalInfo", _] => "renewal-info",
        ["zones"] | ["zones", _] => "dns-zones",
        ["zones", _, "records"] if method == Method::POST => "dns-create-record",
        ["records"] | ["zones", _, "records"] => "dns-list-records",
        ["zones", _, "records", _] => match *method {
            Method::PUT => "dns-put-record",
            Method::DELETE => "dns-delete-record",
            _ => "dns-get-record",
        },
        _ => "other",
    }
}

fn payload(body: &[u8]) -> Option<Value> {
    let jws: Value = serde_json::from_slice(body).ok()?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(jws.get("payload")?.as_str()?).ok()?).ok()
}
