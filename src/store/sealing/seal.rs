//! Sealed values: AES-256-GCM under a master key, in an envelope of a version byte, the length of the key's id, the id,
//! the nonce and the ciphertext. The place of the value is authenticated with it, so that none can be moved elsewhere.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::store::sealing::key_ring::{KeyError, KeyRing, MasterKey};

/// The place of a sealed value.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct SealedLocation<'a> {
    pub(in crate::store) table: &'static str,
    pub(in crate::store) column: &'static str,
    pub(in crate::store) row: &'a str,
}

impl KeyRing {
    /// Seals a secret for its place under the active key.
    pub(in crate::store) fn seal(&self, place: SealedLocation<'_>, secret: &SecretString) -> Result<Vec<u8>, KeyError> {
        let key = self.active();
        let plain = secret.expose_secret().as_bytes();
        // Room for the tag from the start: a buffer that grows leaves a copy of the secret behind.
        let mut text = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(plain);
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(place.to_string()), &mut text)
            .map_err(|_| KeyError::Cipher)?;
        Ok([envelope_prefix(&key).as_slice(), nonce.as_ref(), &text].concat())
    }

    /// Opens a sealed value at its place.
    pub(in crate::store) fn open(&self, place: SealedLocation<'_>, sealed: &[u8]) -> Result<SecretString, KeyError> {
        let unreadable = || KeyError::Unreadable { place: place.to_string() };
        let (id, rest) = split_envelope(sealed).ok_or_else(unreadable)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable())?;
        let mut text = Zeroizing::new(text.to_vec());
        let key = self.key(id)?;
        let plain =
            key.cipher.open_in_place(nonce, Aad::from(place.to_string()), &mut text).map_err(|_| unreadable())?;
        std::str::from_utf8(plain).map(SecretString::from).map_err(|_| unreadable())
    }
}

/// How everything begins that is sealed under this key.
pub(in crate::store) fn envelope_prefix(key: &MasterKey) -> Vec<u8> {
    let length = u8::try_from(key.id.len()).unwrap_or(u8::MAX);
    [&[ENVELOPE_VERSION, length], key.id.as_bytes()].concat()
}

/// The id of the key that a value is sealed under, and what follows it.
pub(in crate::store) fn split_envelope(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let [ENVELOPE_VERSION, length, rest @ ..] = sealed else { return None };
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    std::str::from_utf8(id).ok().map(|id| (id, rest))
}

impl std::fmt::Display for SealedLocation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.table, self.column, self.row)
    }
}

const ENVELOPE_VERSION: u8 = 1;
