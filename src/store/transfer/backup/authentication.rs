//! The proof that a backup is as a holder of the master keys wrote it: HMAC-SHA-256 (RFC 2104) over the document, under
//! a key that HKDF (RFC 5869) derives from a master key for this alone. What is sealed proves itself; names, servers and
//! the hashes of tokens do not.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::store::sealing::key_ring::{KeyError, KeyRing};
use crate::store::transfer::backup::{BackupDocument, BackupError};

/// The tag of a document, and the id of the master key behind it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::store) struct Authentication {
    key: String,
    tag: String,
}

impl Authentication {
    /// Under the active key.
    pub(in crate::store) fn sign(document: &BackupDocument, keys: &KeyRing) -> Result<Self, KeyError> {
        let master = keys.active();
        let tag = hmac::sign(&master.derive_hmac_key(PURPOSE)?, &signed_bytes(document)?);
        Ok(Self { key: master.id.clone(), tag: STANDARD.encode(tag) })
    }

    /// Compares in constant time.
    pub(in crate::store) fn check(&self, document: &BackupDocument, keys: &KeyRing) -> Result<(), BackupError> {
        let master = keys.key(&self.key).map_err(BackupError::Sealed)?;
        let authenticator = master.derive_hmac_key(PURPOSE).map_err(BackupError::Sealed)?;
        let tag = STANDARD.decode(&self.tag).map_err(|_| BackupError::Altered)?;
        let text = signed_bytes(document).map_err(BackupError::Sealed)?;
        hmac::verify(&authenticator, &text, &tag).map_err(|_| BackupError::Altered)
    }
}

/// What was understood is proven, however it was written down.
fn signed_bytes(document: &BackupDocument) -> Result<Vec<u8>, KeyError> {
    // There are only numbers and texts in it.
    serde_json::to_vec(document).map_err(|_| KeyError::Cipher)
}

const PURPOSE: &[u8] = b"autocertd export 1: authentication";
